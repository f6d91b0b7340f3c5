"""Pair images with annotations, and split the pairs for training.

Files are matched by stem. Whatever does not match is named in one message, before
anything is read or trained.
"""

from __future__ import annotations

import hashlib
import itertools
import random
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from cellunet.annotations.coco import is_coco, read_coco
from cellunet.annotations.find import (
    SIDES,
    UNDERSTOOD,
    FolderLayout,
    annotated_parts,
    by_name,
    detect,
    grouped,
    is_overlaid,
    is_scribbles,
    match_members,
    member_name,
    scribbled_parts,
)
from cellunet.annotations.foreign import places, refuse_foreign
from cellunet.annotations.planes import ChosenPlanes
from cellunet.errors import ConfigError, InputError, some
from cellunet.io.images import JPEGS
from cellunet.io.microscopes import (
    MAKERS,
    is_installed,
    scene_paths,
    what_to_install,
)
from cellunet.io.paths import (
    DRAWN_FOLDERS,
    IMAGE_FOLDERS,
    PICTURES,
    TRAINING_SETS,
    VALIDATION_SETS,
    annotation_files,
    bare_stem,
    image_files,
    is_annotation_file,
    is_companion,
    is_drawn_file,
    is_folder,
    is_image_file,
    stem,
    subfolders,
    without_results,
)
from cellunet.io.png_jpeg import ALTERED

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping
    from pathlib import Path

    import numpy.typing as npt

MAX_NAMED = 10

MOST_LOOKED_AT, MOST_LEVELS = 200, 2
"""Most folders of one folder, and levels of them, that are looked into for pairs."""

PIXELS = (
    "Label images are read as TIFF or PNG; export the others so from where they were "
    "made, as JPEG changes values."
)


@dataclass(frozen=True)
class AnnotatedImage:
    """One annotation, and the image it was drawn on if that is known.

    Parameters
    ----------
    image
        The image file; None: there is none.
    annotation
        The annotation file, or the folder of its objects.
    name
        What its results are called: the image's stem, if there is an image.
    annotated
        The image that shows which part is annotated, where there is one.
    member
        What the image is called in an annotation file of several.
    scribbles
        An image of scribbles, where there is one; it may be the annotation itself.
    plane
        Which plane of a stack the annotation is; None: it is of one plane.
    other_plane
        The same plane of the image, whose axes may be in another order.
    """

    image: Path | None
    annotation: Path
    name: str
    annotated: Path | None = None
    member: str = ""
    scribbles: Path | None = None
    plane: int | None = None
    other_plane: int | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """Return all that is read for it."""
        all_ = (self.image, self.annotation, self.annotated, self.scribbles)
        return tuple(path for path in all_ if path is not None)


@dataclass(frozen=True)
class Pair(AnnotatedImage):
    """One image and its annotation; both have the image's stem as their name."""

    image: Path


@dataclass(frozen=True)
class Pairs:
    """All pairs of a folder.

    Parameters
    ----------
    pairs
        Sorted by name; at least one.
    layout
        The arrangement they were found in: ``folders``, ``bbbc039``, ``dsb2018``,
        ``samples``, ``tracking``, ``coco`` or ``flat``.
    train, validation
        Names by the folder's own lists, sorted; None where there is no such list.
    notes
        What was found and left out, in sentences.
    """

    pairs: tuple[Pair, ...]
    layout: str
    train: tuple[str, ...] | None = None
    validation: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    """Those of the notes that say which planes and scenes of files are left out."""


def find_pairs(folder: Path, planes: str | None = None) -> Pairs:
    """Find the pairs of image and annotation in a folder.

    Stacks of labels with the planes of the image are one pair a plane.

    Parameters
    ----------
    folder
        A folder in one of the arrangements of `cellunet.annotations.find.LAYOUTS`.
        Where it lists its training images (``metadata/training.txt``), images in no
        list are left out.
    planes
        Planes of stacks, as `cellunet.annotations.planes.ChosenPlanes` takes them;
        None: those on which an object is annotated.

    Raises
    ------
    InputError
        If there is no such folder, it is arranged in none of these ways, or partners
        are missing, left over or doubled: all of them named in one message.
    """
    found = detect(folder) if folder.is_dir() else None
    if found is None:
        raise _nothing_found(folder)
    problems = _problems(found)
    if problems:
        others = _others(folder)
        raise InputError(
            f"The images and annotations in {folder} do not match: "
            f"{'; '.join(problems)}{_left_out(others)}.",
            hint="Images and annotations are matched by name; add, rename or remove "
            f"these files.{_unknown_scenes(found)} {_of_pictures(folder, others)}",
        )
    pairs = [
        Pair(
            found.images[name][0],
            found.annotations[name][0],
            name,
            found.annotated.get(name),
            found.members.get(name, ""),
            found.scribbles.get(name),
        )
        for name in sorted(found.images)
    ]
    if not pairs:
        raise InputError(f"The lists in {folder / 'metadata'} name no image.")
    whole = {pair.image: pair.name for pair in pairs}
    choice = ChosenPlanes(planes)
    taken = choice.of(pairs, [(p.annotation, p.image) for p in pairs])
    _refuse_same_names(taken, lambda name: name)
    sides = {
        side: tuple(sorted(p.name for p in taken if whole[p.image] in names))
        for side, names in ((s, set(names)) for s, names in found.lists.items())
    }
    scenes = _on_scenes(pairs)
    return Pairs(
        tuple(taken),
        found.name,
        sides.get("training"),
        sides.get("validation"),
        (
            *found.notes,
            *choice.notes,
            *_on_jpegs(pairs),
            *scenes,
        ),
        (*(choice.notes if choice.empty else ()), *scenes),
    )


def _on_scenes(pairs: Iterable[Pair]) -> tuple[str, ...]:
    """Say which scene is read of files of several that are annotated as a whole."""
    several = [(p.image, scenes) for p in pairs if (scenes := scene_paths(p.image))]
    return tuple(
        f"{image} holds {len(scenes)} scenes; of these, only the largest is read (the "
        "first of equals). Name annotations as cellunet predict names its results: "
        f"{some([s.name for s in scenes])}."
        for image, scenes in several
    )


def _on_jpegs(pairs: Iterable[Pair]) -> tuple[str, ...]:
    """Say how many images have lost intensities, if any have."""
    names = [p.image.name for p in pairs if p.image.suffix.lower() in JPEGS]
    return (f"{some(names, MAX_NAMED)}: {ALTERED}.",) * bool(names)


def split(
    pairs: Pairs,
    *,
    validation_fraction: float,
    seed: int,
    stratum: Callable[[Pair], tuple[int, ...]] = lambda pair: (),
    origin: Callable[[Pair], str] = lambda pair: str(pair.image),
) -> tuple[tuple[Pair, ...], tuple[Pair, ...]]:
    """Divide pairs into training and validation, image by image.

    The folder's own lists decide if it has them; a list for one side alone leaves the
    rest to the other (validation) or to the draw (training). Otherwise the sorted
    names are drawn from, evenly over the strata: the same names, strata, fraction and
    seed give the same split on every machine.

    Parameters
    ----------
    pairs
        What `find_pairs` returned.
    validation_fraction
        Share of the images to validate on, above 0 and below 1; rounded to whole
        images, at least one on either side. Not used where lists decide.
    seed
        Seed of the draw.
    stratum
        What kind of image a pair holds, its size say: every kind gives its share. Not
        called where lists decide.
    origin
        What it is a part of: all parts stay on one side. Not called where lists decide.

    Returns
    -------
    train, validation
        Both sorted by name, neither empty.

    Raises
    ------
    ConfigError
        If the fraction is out of range.
    InputError
        If one side would be empty.
    """
    by_name = {pair.name: pair for pair in pairs.pairs}
    if pairs.validation is not None:
        validation = set(pairs.validation)
        training = set(by_name if pairs.train is None else pairs.train) - validation
    else:
        pool = sorted(by_name if pairs.train is None else pairs.train)
        # Parts of one image are too alike to be on both sides, unless it is the only.
        parts: dict[str, list[str]] = {}
        for name in pool:
            parts.setdefault(origin(by_name[name]), []).append(name)
        groups = {names[0]: names for names in parts.values()}
        if len(groups) == 1:
            groups = {name: [name] for name in pool}
        kinds = {name: stratum(by_name[name]) for name in groups}
        drawn = _draw(kinds, validation_fraction, seed)
        validation = {name for first in drawn for name in groups[first]}
        training = set(pool) - validation
        if validation_fraction < 0.5 and len(validation) > len(training):
            # One image, or stack, has most of the parts.
            training, validation = validation, training
    if not training or not validation:
        raise InputError(
            f"The split has {len(training)} training and {len(validation)} validation "
            "images; each needs at least one.",
            hint="Annotate at least two images, name a folder (--val DIR), or have a "
            "single image cut: --folds 2 without --val.",
        )
    return (
        tuple(by_name[name] for name in sorted(training)),
        tuple(by_name[name] for name in sorted(validation)),
    )


def listed(pairs: Pairs) -> tuple[Pair, ...]:
    """Return the pairs of the folder's list of training images, all without one."""
    if pairs.train is None:
        return pairs.pairs
    names = set(pairs.train)
    return tuple(pair for pair in pairs.pairs if pair.name in names)


def fingerprint(array: npt.NDArray[Any]) -> str:
    """Return 16 hex digits that stand for an array's shape, type and values.

    They are the first of the SHA-256 of the three; byte order and memory layout do
    not count.

    Parameters
    ----------
    array
        Any shape, a numeric or boolean type.
    """
    little = array.astype(array.dtype.newbyteorder("<"), order="C", copy=False)
    digest = hashlib.sha256(f"{little.shape} {little.dtype.str} ".encode())
    digest.update(np.ascontiguousarray(little).data)
    return digest.hexdigest()[:16]


def content_hash(image: npt.NDArray[Any]) -> str:
    """Return the fingerprint of an image, CYX: of several channels with ``+`` between.

    So what a model of fewer channels was made from is still recognized (`is_known`).
    """
    return "+".join(fingerprint(image[k : k + 1]) for k in range(len(image)))


def is_known(digest: str, known: Collection[str]) -> bool:
    """Return whether an image is one of those known, or shows all channels of one.

    Parameters
    ----------
    digest
        Its `content_hash`.
    known
        Those of the others.

    Examples
    --------
    >>> is_known("dapi+gfp", ["dapi"]), is_known("dapi+gfp", ["gfp+rfp"])
    (True, False)
    """
    own = set(digest.split("+"))
    if len(own) == 1:
        return digest in known
    return any(own.issuperset(one.split("+")) for one in known)


def refuse_shared(train: Mapping[str, str], validation: Mapping[str, str]) -> None:
    """Refuse a split that has the same image on both sides.

    Parameters
    ----------
    train, validation
        Name of each image to its `fingerprint`.

    Raises
    ------
    InputError
        If a fingerprint is on both sides: names each pair of images.
    """
    seen = {digest: name for name, digest in train.items()}
    shared = [
        f"{seen[digest]} (training) = {name} (validation)"
        for name, digest in validation.items()
        if digest in seen
    ]
    if shared:
        raise InputError(
            f"The same image is in training and validation: {some(shared, MAX_NAMED)}.",
            hint="Validation on a training image measures memory; remove one of them.",
        )


def _draw(names: Mapping[str, tuple[int, ...]], fraction: float, seed: int) -> set[str]:
    """Return the names drawn; `names` has the stratum of each."""
    if not 0 < fraction < 1:
        raise ConfigError(
            f"The validation fraction is {fraction}; it must lie between 0 and 1.",
            hint="Try: --val 0.2.",
        )
    count = min(max(1, round(fraction * len(names))), len(names) - 1)
    # Python promises that random() repeats across versions; numpy promises it of no
    # generator's permutation.
    rng = random.Random(seed)
    keys = {name: (names[name], rng.random()) for name in names}
    order = sorted(names, key=lambda name: keys[name])
    # At even distances in the order of the strata, so that each gives its share.
    return {order[(2 * i + 1) * len(order) // (2 * count)] for i in range(count)}


def _problems(found: FolderLayout) -> list[str]:
    """Return everything that keeps `found` from being pairs, each with its names."""
    images, drawn = set(found.images), set(found.annotations)
    training, validation = (set(found.lists.get(s, ())) for s in SIDES)
    kinds = {
        "no annotation for the image": images - drawn,
        "no image for the annotation": drawn - images,
        "no image for what is annotated of": set(found.annotated) - images - drawn,
        "listed but not there": (training | validation) - images - drawn,
        "in both lists": training & validation,
        "several images called": {n for n, p in found.images.items() if len(p) > 1},
        "several annotations for": {
            n for n, p in found.annotations.items() if len(p) > 1
        },
    }
    return [
        f"{what} {some(sorted(names), MAX_NAMED)}"
        for what, names in kinds.items()
        if names
    ]


def _unknown_scenes(found: FolderLayout) -> str:
    """Return what to install, if that keeps annotations from their scenes."""
    for name in sorted(set(found.images) - set(found.annotations)):
        image = found.images[name][0]
        suffix = image.suffix.lower()
        if suffix in MAKERS and not is_installed(suffix):
            return (
                f" The scenes of {image.name} are not known, as the library that reads "
                f"it is not installed. Try: {what_to_install(suffix)}."
            )
    return ""


def _nothing_found(folder: Path) -> InputError:
    """Return the error that says what `folder` is instead of annotated images."""
    if not folder.exists():
        return InputError(f"There is no folder {folder}.", hint="Check the path.")
    if not folder.is_dir():
        return InputError(
            f"{folder} is a file; a folder of images and annotations is expected.",
            hint=UNDERSTOOD,
        )
    if not any(folder.iterdir()):
        return InputError(f"{folder} is empty.", hint=UNDERSTOOD)
    sibling = _sibling_annotations(folder)
    if sibling is not None:
        return InputError(
            f"{folder} holds images only; their annotations are in "
            f"{sibling} next to it.",
            hint=f"Name the folder above both: {folder.parent}.",
        )
    refuse_nested(folder)
    refuse_foreign(folder)
    images = [p for at in subfolders(folder, IMAGE_FOLDERS) for p in image_files(at)]
    drawn = [
        p for at in subfolders(folder, DRAWN_FOLDERS) for p in annotation_files(at)
    ]
    for path in annotation_files(folder):
        (images if bare_stem(path.name) == stem(path.name) else drawn).append(path)
    others = _others(folder)
    if images and not drawn:
        return InputError(
            f"{folder} holds images, but no annotation (images recognized: "
            f"{len(images)}{_left_out(others)}).",
            hint=f"{_of_pictures(folder, others)}To have labels to correct: "
            f"cellunet suggest {folder} --out DIR. {UNDERSTOOD}",
        )
    return InputError(
        f"{folder} holds no pair of image and annotation (images recognized: "
        f"{len(images)}, annotations: {len(drawn)}{_left_out(others)}).",
        hint=_of_pictures(folder, others) + UNDERSTOOD,
    )


def _of_pictures(folder: Path, others: Counter[str]) -> str:
    """Return what to do about pictures, and about those of a set."""
    if not set(others) & {*PICTURES, *JPEGS}:
        return ""
    sets = subfolders(folder, (*TRAINING_SETS, *VALIDATION_SETS))
    named = ", ".join(str(p) for p in sets if annotation_files(p))
    return f"{PIXELS} " + (f"Then name the set: {named}. " if named else "")


def _sibling_annotations(folder: Path) -> str | None:
    """Return the folder next to `folder` that annotates its images, if there is one."""
    at = folder.absolute()
    if at.name.isdecimal() and (at.parent / f"{at.name}_GT" / "SEG").is_dir():
        return f"{at.name}_GT/SEG"
    if at.name.lower() not in IMAGE_FOLDERS:
        return None
    siblings = subfolders(at.parent, DRAWN_FOLDERS)
    return next((p.name for p in siblings if annotation_files(p)), None)


def refuse_nested(folder: Path) -> None:
    """Name the folders that hold pairs, in one that holds none itself.

    Raises
    ------
    InputError
        If there are such folders.
    """
    nested = _nested(folder, MOST_LEVELS)
    if not nested:
        return
    named = " ".join(map(str, nested[:MAX_NAMED]))
    hint = f"Name one of them, or to train on several: cellunet train {named}."
    raise InputError(
        f"{folder} holds no pair of image and annotation itself; folders in it do: "
        f"{some((p.relative_to(folder).as_posix() for p in nested), MAX_NAMED)}.",
        hint=hint if len(nested) > 1 else f"Name that folder: {named}.",
    )


def _nested(folder: Path, levels: int) -> list[Path]:
    """Return the folders in `folder` that hold pairs, down to some levels."""
    found: list[Path] = []
    members = (p for p in sorted(folder.iterdir()) if is_folder(p))
    for path in itertools.islice(members, MOST_LOOKED_AT if levels else 0):
        if path.name.startswith("."):
            continue
        try:
            holds = detect(path) is not None
        except InputError:
            holds = True
        found += [path] if holds else _nested(path, levels - 1)
    return found


def _left_out(others: Counter[str]) -> str:
    listed = ", ".join(f"{count} {kind}" for kind, count in sorted(others.items()))
    return f"; left out: {listed}" if others else ""


def _others(folder: Path) -> Counter[str]:
    """Return how many files of each other kind lie where pairs are looked for."""
    files = [p for place in places(folder) for p in place.iterdir()]
    return Counter(
        p.suffix.lower() or p.name
        for p in files
        if p.is_file()
        and not p.name.startswith(".")
        and not is_annotation_file(p)
        and (p.parent.name.lower() in DRAWN_FOLDERS or not is_image_file(p))
    )


@dataclass(frozen=True)
class AnnotationSource:
    """All annotations at a path.

    Parameters
    ----------
    drawn
        Sorted by name, one or more, no name twice.
    layout
        A layout of `cellunet.annotations.find.LAYOUTS`, or ``file``, ``files`` or
        ``objects`` for annotations without images.
    notes
        What was found and left out, in sentences.
    validation
        Names of those to validate on by the folder's own list.
    """

    drawn: tuple[AnnotatedImage, ...]
    layout: str
    notes: tuple[str, ...] = ()
    validation: tuple[str, ...] = ()


def find_annotations(
    source: Path, *, kind: str = "auto", planes: str | None = None
) -> AnnotationSource:
    """Find what there is to decode at a path.

    Parameters
    ----------
    source
        A folder of pairs as `cellunet.annotations.pairs.find_pairs` understands it; one
        annotation file, whose images may lie next to it; a folder of annotation files,
        or with such files in ``labels``, ``masks``, ``annotations`` or ``rois``; or
        folders of one file per object: ``NAME/masks`` below it, or with `kind`
        ``objects`` the files in it.
    kind
        A name in `cellunet.annotations.read.ANNOTATIONS`.
    planes
        Planes of stacks, as for `find_pairs`.

    Raises
    ------
    InputError
        If there is nothing to decode, partners in a folder of pairs do not match, or
        two annotations would get one name.
    """
    if source.is_file() or is_image_file(source):
        drawn: Iterable[AnnotatedImage] = _in_files([source])
        layout = "file"
    elif kind == "objects" and image_files(source):
        owner = source.absolute().parent if source.name == "masks" else source
        drawn, layout = (AnnotatedImage(None, source, owner.name),), "objects"
    elif source.is_dir() and detect(source) is None:
        drawn, layout = _without_images(source)
    else:
        pairs = find_pairs(source, planes)
        return AnnotationSource(
            pairs.pairs, pairs.layout, pairs.notes, pairs.validation or ()
        )
    choice = ChosenPlanes(planes)
    listed = list(drawn)
    taken = choice.of(listed, [(one.annotation, one.image) for one in listed])
    ordered = tuple(sorted(taken, key=lambda one: one.name))
    _refuse_same_names(ordered)
    return AnnotationSource(ordered, layout, choice.notes)


def _in_files(sources: list[Path]) -> list[AnnotatedImage]:
    """Return what files of one folder annotate; shapes with the images next to them."""
    shapes = [path for path in sources if is_drawn_file(path)]
    # Listed once for all of them, and not at all for label images.
    above = sources[0].parent, sources[0].parent.parent
    folders = above[0], *(p for at in above for p in subfolders(at, IMAGE_FOLDERS))
    near = (p for at in folders for p in (image_files(at) if shapes else ()))
    beside = [p for p in near if not is_companion(p.name)]
    images, _ = by_name(beside, shapes)
    # Of a file of scenes that are annotated, the whole may be, too.
    images = grouped((stem(p.name), p) for p in beside) | images
    found, drawn = [], {*shapes}
    for source in sources:
        name = bare_stem(source.name)
        if source not in drawn:
            image = source if is_overlaid(source) else None
            said = source if is_scribbles(source) else None
            found.append(AnnotatedImage(image, source, name, scribbles=said))
        elif source.name.lower().endswith(".json") and is_coco(source):
            found += _in_coco(source, folders)
        else:
            image, *_ = images.get(name, (None,))
            found.append(AnnotatedImage(image, source, name))
    return found


def _in_coco(source: Path, folders: tuple[Path, ...]) -> list[AnnotatedImage]:
    """Return what a COCO file annotates, with the images beside and in folders."""
    below = (p for f in folders[1:] for p in sorted(f.rglob("*")) if is_image_file(p))
    images = [
        p for p in (*image_files(source.parent), *below) if not is_companion(p.name)
    ]
    members = {m: image.path for m, image in read_coco(source).images.items()}
    match = match_members(members, list(dict.fromkeys(images)))
    image_of = {member: path for path, member in match.items()}
    return [
        AnnotatedImage(image_of.get(m), source, member_name(m), None, m)
        for m in members
    ]


def _without_images(folder: Path) -> tuple[list[AnnotatedImage], str]:
    """Return the annotations of a folder that is no folder of pairs."""
    refuse_foreign(folder)
    at = folder, *subfolders(folder, DRAWN_FOLDERS)
    files = without_results(next((f for f in map(annotation_files, at) if f), []))
    if files:
        parts = annotated_parts(folder)
        scribbles = scribbled_parts(folder)
        return [
            replace(
                one,
                annotated=parts.get(one.name),
                scribbles=scribbles.get(one.name, one.scribbles),
            )
            for one in _in_files(files)
        ], "files"
    members = (p for p in folder.iterdir() if is_folder(p))
    objects = [
        AnnotatedImage(None, m / "masks", m.name)
        for m in members
        if image_files(m / "masks")
    ]
    if objects:
        return objects, "objects"
    if not any(folder.iterdir()):
        raise InputError(f"{folder} is empty.", hint="Name a folder of annotations.")
    refuse_nested(folder)
    others = _others(folder)
    raise InputError(
        f"{folder} holds no annotation{_left_out(others)}.",
        hint=f"{_of_pictures(folder, others)}Name a folder of annotations, or of "
        "images and annotations.",
    )


def _refuse_same_names(
    drawn: Iterable[AnnotatedImage], key: Callable[[str], str] = str.casefold
) -> None:
    """Refuse names that are equal, as results in one folder by default."""
    by_name: dict[str, list[str]] = {}
    for one in drawn:
        by_name.setdefault(key(one.name), []).append(one.annotation.name)
    same = [" and ".join(files) for files in by_name.values() if len(files) > 1]
    if same:
        raise InputError(
            f"Annotations would get the same name: {'; '.join(same[:10])}.",
            hint="Rename or remove one of each.",
        )
