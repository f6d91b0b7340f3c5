"""Find images and their annotations in folders, by layout and name.

A detector only looks: it returns everything it takes for an image and for an
annotation, by name, matched or not. `cellunet.annotations.pairs` decides what to make
of them.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import chain, takewhile
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import unquote

from cellunet.annotations.coco import is_coco, note_on_lost, read_coco
from cellunet.annotations.imagej import overlay
from cellunet.annotations.pixels import DECODERS, read_pixels, recognize
from cellunet.errors import AnnotationError, InputError, some
from cellunet.io.microscopes import MAKERS, scene_paths
from cellunet.io.paths import (
    ARRAY_SUFFIX,
    CELLPOSE,
    DRAWN_FOLDERS,
    IMAGE_FOLDERS,
    ONLY_SET,
    PICTURES,
    TRAINING_SETS,
    VALIDATION_SETS,
    annotation_files,
    annotation_stem,
    bare_stem,
    image_files,
    is_companion,
    is_folder,
    is_image_file,
    shared_stem,
    starts_as_annotation,
    stem,
    subfolders,
    without_results,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from pathlib import Path

ANNOTATED_FOLDER = "annotated"
"""Folder of images that are 0 where nothing is annotated."""

_UPLOADED = re.compile(r"^[0-9a-f]{8}-(?=.)")
"""What Label Studio puts before the name of a file."""

_ROBOFLOW = re.compile(r"(?<=.)_(?:tiff?|png|jpe?g|bmp)\.rf\.[0-9a-z]+$", re.IGNORECASE)
"""What Roboflow puts behind it."""

SCRIBBLES_FOLDER = "scribbles"
"""Folder of images of scribbles: `cellunet.annotations.pixels`."""


def by_name(
    images: Iterable[Path], drawn: Iterable[Path], scribbles: Collection[str] = ()
) -> tuple[dict[str, tuple[Path, ...]], tuple[str, ...]]:
    """Return images by name, and what to tell of those left out.

    A microscope's file of several scenes stands for the scenes that are annotated
    under their own names, as `cellunet predict` calls them; where none is, for itself.
    """
    marks = {f(p.name) for p in drawn for f in (annotation_stem, bare_stem)}
    marks |= set(scribbles)
    named, notes = [], []
    for image in images:
        name = stem(image.name)
        # Only where the file can hold scenes: all marks are looked at.
        asked = image.suffix.lower() in MAKERS and any(
            mark.startswith(f"{name}_") for mark in marks
        )
        scenes = scene_paths(image) if asked else []
        own = [(unicodedata.normalize("NFC", p.name), p) for p in scenes]
        taken = [(scene, path) for scene, path in own if scene in marks]
        named += taken or [(name, image)]
        if taken and len(taken) < len(scenes):
            others = some([scene for scene, _ in own if scene not in marks])
            notes.append(f"Left out of {image}, without an annotation: {others}.")
    return grouped(named), tuple(notes)


def by_image(
    files: Iterable[Path], images: set[str], anything: tuple[str, ...]
) -> dict[str, tuple[Path, ...]]:
    """Return annotation files by the name of their image.

    Files that end as in `anything` may be of any content and count only where they
    have an image; one that Cellpose pickled counts only where nothing else was drawn.
    """
    shared: dict[str, list[str]] = {}
    for name in images:
        shared.setdefault(shared_stem(name), []).append(name)
    only = {key: names[0] for key, names in shared.items() if len(names) == 1}
    found = grouped((_partner(p, images, only), p) for p in files)
    kept = {}
    for name, paths in found.items():
        known = tuple(
            p for p in paths if name in images or p.suffix.lower() not in anything
        )
        others = tuple(p for p in known if not p.name.lower().endswith(CELLPOSE))
        if known:
            kept[name] = others or known
    return kept


def annotated_parts(folder: Path) -> dict[str, Path]:
    """Return, by the names of their images, files that show what is annotated.

    They lie in ``annotated`` under the name of the image, or next to the image as
    ``NAME_annotated``.
    """
    return _beside(folder, ANNOTATED_FOLDER)


def scribbled_parts(folder: Path) -> dict[str, Path]:
    """Return images of scribbles by the names of their images, kept alike."""
    return _beside(folder, SCRIBBLES_FOLDER)


def is_scribbles(path: Path) -> bool:
    """Return whether a path is an image whose name or folder says: scribbles.

    The folder may hold one of a set of images: ``scribbles/train``.
    """
    if not is_image_file(path):
        return False
    folder = path.parent
    if folder.name.lower() in {*TRAINING_SETS, *VALIDATION_SETS}:
        folder = folder.parent
    named = stem(path.name).lower().endswith(f"_{SCRIBBLES_FOLDER}")
    return named or folder.name.lower() == SCRIBBLES_FOLDER


def is_overlaid(path: Path) -> bool:
    """Return whether an image holds an overlay, and is not a label image itself."""
    if not overlay(path):
        return False
    try:
        pixels = read_pixels(path)
        DECODERS[recognize(pixels)](pixels, path)
    except AnnotationError:
        return True
    return False


def _overlaid(
    images: Iterable[Path], others: Collection[str]
) -> dict[str, tuple[Path, ...]]:
    """Return images that annotate themselves, by name, where nothing else does."""
    return grouped(
        (name, path)
        for path in images
        if (name := stem(path.name)) not in others and is_overlaid(path)
    )


def _told(inside: Collection[str]) -> tuple[str, ...]:
    """Say how many images annotate themselves."""
    count = f"{len(inside):,}"
    return (f"Annotated by the overlay inside the image: {count}.",) if inside else ()


def _beside(folder: Path, kind: str) -> dict[str, Path]:
    """Return images in a folder `kind`, and those next to images called NAME_kind."""
    adjacent = _called(image_files(folder), kind)
    inside = (p for at in subfolders(folder, (kind,)) for p in image_files(at))
    return adjacent | {stem(p.name): p for p in inside}


def _called(files: Iterable[Path], kind: str) -> dict[str, Path]:
    """Return the images called NAME_kind, in any case, by that name."""
    names = ((stem(path.name), path) for path in files)
    end = f"_{kind}"
    return {n[: -len(end)]: p for n, p in names if n.lower().endswith(end)}


def parts_below(folder: Path, kind: str) -> dict[str, Path]:
    """Return images called NAME_kind in a folder of labels and below it, by their path.

    Where it is called ``labels``, ``masks``, ``annotations``, ``rois`` or ``SEG``,
    those next to it and those in a folder `kind` next to it, too, under the path there.
    """
    found: dict[str, Path] = {}
    if folder.resolve().name.lower() in (*DRAWN_FOLDERS, "seg"):
        above = folder.resolve().parent
        found |= _called(image_files(above), kind)
        for place in subfolders(above, (kind,)):
            below = (p for p in sorted(place.rglob("*")) if is_image_file(p))
            found |= {_path_below(place, p.with_name(stem(p.name))): p for p in below}
    every = (p for p in sorted(folder.rglob("*")) if is_image_file(p))
    for path in every:
        found |= {
            _path_below(folder, path.with_name(name)): path
            for name in _called([path], kind)
        }
    return found


def _path_below(folder: Path, path: Path) -> str:
    return path.relative_to(folder).as_posix()


def grouped(named: Iterable[tuple[str, Path]]) -> dict[str, tuple[Path, ...]]:
    """Return all paths of each name, in their order."""
    groups: dict[str, tuple[Path, ...]] = {}
    for name, path in named:
        groups[name] = (*groups.get(name, ()), path)
    return groups


def _merged(
    named: Iterable[tuple[str, tuple[Path, ...]]],
) -> dict[str, tuple[Path, ...]]:
    """Return all paths of each name: names that parts share are for the caller."""
    return grouped((name, path) for name, paths in named for path in paths)


def _partner(annotation: Path, images: set[str], shared: Mapping[str, str]) -> str:
    """Return the name an annotation belongs to: its own stem, or without suffix.

    Else the one image that has the same name but for the marks of both.
    """
    whole = annotation_stem(annotation.name)
    bare = bare_stem(annotation.name)
    if len(images) == 1 and whole.lower() in ONLY_SET:
        return next(iter(images))
    if whole in images or bare in images:
        return whole if whole in images else bare
    return shared.get(shared_stem(annotation.name), whole)


_Value = TypeVar("_Value")

SIDES = ("training", "validation")

ANYTHING = (".json", ARRAY_SUFFIX)
"""Files that count as annotations only where they have an image."""

UNDERSTOOD = (
    "Understood: DATA/images with DATA/labels, masks, annotations, rois or "
    "SegmentationObject (and metadata/training.txt and validation.txt, as in "
    "BBBC039); images next to "
    "NAME_masks, NAME_labels, NAME_label or NAME_seg, or next to NAME.zip, .roi, "
    ".geojson, .json, .csv (napari) or .npy; a COCO file with its images; a folder "
    "NAME with images and masks per image (DSB2018) or per sample; 01 with 01_GT/SEG "
    "(Cell Tracking Challenge)."
)


@dataclass(frozen=True)
class FolderLayout:
    """What a detector found below a folder.

    Parameters
    ----------
    name
        The layout's name in `LAYOUTS`.
    images, annotations
        Name to the paths that claim it; more than one is for the caller to refuse.
        The annotation of a per-object layout is the folder of its objects.
    lists
        ``training`` and ``validation``, each if there is such a list: its names, in
        order.
    notes
        What was found and left out, in sentences.
    annotated
        Name to the image that shows which part is annotated, where there is one.
    scribbles
        Name to an image of scribbles, where there is one; it is the annotation of
        images without another.
    members
        Name to what an image is called in a file that annotates several.
    """

    name: str
    images: Mapping[str, tuple[Path, ...]]
    annotations: Mapping[str, tuple[Path, ...]]
    lists: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    annotated: Mapping[str, Path] = field(default_factory=dict)
    scribbles: Mapping[str, Path] = field(default_factory=dict)
    members: Mapping[str, str] = field(default_factory=dict)


Detector = Callable[["Path"], FolderLayout | None]
"""From a folder to what is there; None if it is not arranged like this."""


def detect(folder: Path) -> FolderLayout | None:
    """Return what the first fitting row of `LAYOUTS` finds in an existing folder.

    Raises
    ------
    InputError
        If a folder may not be listed, or what is in it contradicts itself.
    """
    try:
        found = (detector(folder) for detector in LAYOUTS.values())
        return next((layout for layout in found if layout is not None), None)
    except OSError as error:
        raise InputError(
            f"{folder} cannot be listed: {error}.", hint="Change its permissions."
        ) from error


def detect_folders(folder: Path) -> FolderLayout | None:
    """Recognize ``images`` next to a folder of annotations, with lists if there are."""
    at = [p for p in subfolders(folder, IMAGE_FOLDERS) if image_files(p)]
    images = [path for place in at for path in image_files(place)]
    files = {p.name: annotation_files(p) for p in subfolders(folder, DRAWN_FOLDERS)}
    scribbles = scribbled_parts(folder)
    paths, notes = by_name(images, chain(*files.values()), scribbles)
    drawn = {n: by_image(found, set(paths), ANYTHING) for n, found in files.items()}
    drawn = {n: found for n, found in drawn.items() if found}
    known = next(iter(drawn.values()), {})
    inside = _overlaid(images, {*known, *scribbles})
    if not images or not (drawn or scribbles or inside):
        return None
    if not drawn and (listed := detect_coco(folder)) is not None:
        # It knows what scribbles and overlays are to a COCO file.
        return listed
    for kind, places in (("images", [p.name for p in at]), ("annotations", [*drawn])):
        if len(places) > 1:
            raise InputError(
                f"{folder} holds {kind} in both {' and '.join(places)}.",
                hint="Keep one of these folders, images next to annotations.",
            )
    lists = _lists(folder / "metadata")
    found = FolderLayout(
        "bbbc039" if lists else "folders",
        paths,
        _or_scribbles(known | inside, scribbles),
        lists,
        (*_ignored(at[0]), *_told(inside), *notes),
        annotated_parts(folder),
        scribbles,
    )
    return _only_listed(found) if "training" in lists else found


def detect_split_folders(folder: Path) -> FolderLayout | None:
    """Recognize ``images/train`` next to ``labels/train``, and the same of ``val``."""
    sides = {}
    for images in subfolders(folder, IMAGE_FOLDERS):
        for side in subfolders(images, (*TRAINING_SETS, *VALIDATION_SETS)):
            places = [p / side.name for p in subfolders(folder, DRAWN_FOLDERS)]
            files = [p for place in places for p in annotation_files(place)]
            annotated, scribbles = (
                {
                    stem(p.name): p
                    for place in subfolders(folder, (kind,))
                    for p in image_files(place / side.name)
                }
                for kind in (ANNOTATED_FOLDER, SCRIBBLES_FOLDER)
            )
            if not image_files(side) or not (files or scribbles):
                continue
            paths, notes = by_name(image_files(side), files, scribbles)
            drawn = by_image(files, set(paths), ANYTHING)
            sides[side.name] = FolderLayout(
                "folders",
                paths,
                _or_scribbles(drawn, scribbles),
                notes=notes,
                annotated=annotated,
                scribbles=scribbles,
            )
    if not sides:
        return None
    lists: dict[str, tuple[str, ...]] = {}
    for name, found in sides.items():
        key = SIDES[name.lower() in VALIDATION_SETS]
        lists[key] = (*lists.get(key, ()), *(f"{name}_{n}" for n in found.images))
    return _joined("folders", sides, lists)


def detect_sets(folder: Path) -> FolderLayout | None:
    """Refuse a folder of sets, ``train`` and ``test``, each arranged by itself.

    Raises
    ------
    InputError
        With the command that takes them: which one is to be validated on is not known.
    """
    training, others = (
        [p for p in _named_like(folder, names) if detect(p) is not None]
        for names in (TRAINING_SETS, VALIDATION_SETS)
    )
    exact = subfolders(folder, (*TRAINING_SETS, *VALIDATION_SETS))
    # One called test_3 alone is a sample.
    if not (training and others) and not {*training, *others} & set(exact):
        return None
    sets = [*training, *others]
    named = " and ".join(p.name for p in sets)
    hint = f"Name one of them: {sets[0]}."
    if training and others:
        hint += f" To train: cellunet train {training[0]} --val {others[0]}."
    raise InputError(
        f"{folder} holds {'a set' if len(sets) == 1 else 'sets'} of images and "
        f"annotations in {named}.",
        hint=hint,
    )


def _named_like(folder: Path, names: Collection[str]) -> list[Path]:
    """Return folders that have one of these words in their name, as stage1_train."""
    below = sorted(p for p in folder.iterdir() if is_folder(p))
    return [p for p in below if set(re.split(r"[\W_]", p.name.lower())) & {*names}]


def detect_objects(folder: Path) -> FolderLayout | None:
    """Recognize a folder per image, with one file per object (DSB2018), or per sample.

    Where annotations of a sample are named like its images, each is a label image.
    """
    parts = {}
    for member in sorted(p for p in folder.iterdir() if is_folder(p)):
        if member.name.startswith("."):
            continue
        *looks, found = (
            _with_parts(look, *_parts_of(member, look.images))
            for detector in (detect_folders, _detect_one, _detect_masks)
            if (look := detector(member)) is not None
        )
        whole = (look for look in looks if {*look.images} == {*look.annotations})
        found = next(whole, found)
        if found.images or found.annotations:
            parts[_name(member)] = found
    if not parts:
        return None
    samples = any(part.name != "dsb2018" for part in parts.values())
    joined = _joined("samples" if samples else "dsb2018", parts)
    joined = _with_parts(joined, annotated_parts(folder), scribbled_parts(folder))
    return joined if samples or (joined.images and joined.annotations) else None


def _parts_of(
    folder: Path, images: Mapping[str, tuple[Path, ...]]
) -> tuple[dict[str, Path], dict[str, Path]]:
    """Return `annotated_parts` and `scribbled_parts` by the names of images.

    Those of a single image may also be called ``annotated`` and ``scribbles``.
    """
    own = {stem(p.name): name for name, paths in images.items() for p in paths}

    def found(kind: str) -> dict[str, Path]:
        alone = [p for p in image_files(folder) if stem(p.name).lower() == kind]
        beside = _beside(folder, kind).items() if images else ()
        return {name: p for name in images if len(images) == 1 for p in alone} | {
            own.get(name, name): path for name, path in beside
        }

    return found(ANNOTATED_FOLDER), found(SCRIBBLES_FOLDER)


def _with_parts(
    found: FolderLayout, annotated: Mapping[str, Path], scribbles: Mapping[str, Path]
) -> FolderLayout:
    """Return a layout with more that says what is annotated."""
    return replace(
        found,
        annotations=_or_scribbles(found.annotations, scribbles),
        annotated={**found.annotated, **annotated},
        scribbles={**found.scribbles, **scribbles},
    )


def _detect_one(folder: Path) -> FolderLayout | None:
    """Recognize an image and its labels that are called ``image`` and ``mask``."""
    named = [(annotation_stem(p.name).lower(), p) for p in annotation_files(folder)]
    image, drawn = (
        [path for name, path in named if name in names]
        for names in (IMAGE_FOLDERS, DRAWN_FOLDERS)
    )
    if len(image) != 1 or len(drawn) > 1:
        return None
    return FolderLayout(
        "flat", {"": (image[0],)}, grouped(("", path) for path in drawn)
    )


def _detect_masks(folder: Path) -> FolderLayout:
    """Return the image and the folder of one file per object, where they are there."""
    at = subfolders(folder, IMAGE_FOLDERS)
    images = [("", path) for place in at for path in image_files(place)]
    masks = [("", p) for p in subfolders(folder, ("masks",)) if image_files(p)]
    return FolderLayout("dsb2018", grouped(images), grouped(masks))


def detect_tracking(folder: Path) -> FolderLayout | None:
    """Recognize ``01/t000.tif`` and ``01_GT/SEG/man_seg000.tif`` of tracked cells.

    As in the Cell Tracking Challenge: of a sequence, some images are annotated; where
    people have annotated it (``01_GT``), what programs agree on (``01_ST``) is not
    looked at.
    """
    sequences, notes = {}, []
    members = sorted(p for p in folder.iterdir() if p.name.isdecimal())
    if not members:
        return None
    above = annotated_parts(folder), scribbled_parts(folder)
    for member in members:
        truths = (folder / f"{member.name}_{kind}" / "SEG" for kind in ("GT", "ST"))
        files = next((f for f in map(image_files, truths) if f), [])
        images = grouped(
            (stem(p.name), p) for p in image_files(member) if not is_companion(p.name)
        )
        if not files or not images:
            continue
        shared = {shared_stem(name): name for name in images}
        annotated, scribbles = (
            {
                shared.get(shared_stem(name), name): path
                for at in (files[0].parent.parent, member)
                for name, path in _beside(at, kind).items()
            }
            for kind in (ANNOTATED_FOLDER, SCRIBBLES_FOLDER)
        )
        drawn = by_image(files, set(images), ())
        known = {*drawn, *annotated, *scribbles}
        known |= {n.removeprefix(f"{member.name}_") for n in chain(*above)}
        found = {n: paths for n, paths in images.items() if n in known}
        one = FolderLayout("tracking", found, drawn)
        sequences[member.name] = _with_parts(one, annotated, scribbles)
        if len(found) < len(images):
            notes.append(
                f"Left out, as {files[0].parent} does not annotate them: "
                f"{len(images) - len(found)} of {len(images)} images of {member}."
            )
    if not sequences:
        return None
    joined = _with_parts(_joined("tracking", sequences), *above)
    return replace(joined, notes=(*joined.notes, *notes))


def detect_coco(folder: Path) -> FolderLayout | None:
    """Recognize COCO files, in the folder or in ``annotations``, with their images."""
    below = sorted(p for p in (folder / "images").rglob("*") if is_image_file(p))
    images = [*image_files(folder), *below]
    names = {stem(p.name) for p in images}
    files = [*folder.glob("*.json"), *(folder / "annotations").glob("*.json")]
    files = [p for p in sorted(files) if annotation_stem(p.name) not in names]
    files = [p for p in files if not p.name.startswith(".") and is_coco(p)]
    if not images or not files:
        return None
    listed = [(member_name(m), m, p) for p in files for m in read_coco(p).images]
    images = [p for p in images if not is_companion(p.name)]
    paths = {m: i.path for p in files for m, i in read_coco(p).images.items()}
    match = match_members(paths, images)
    taken = {member_name(member) for member in match.values()}
    named = grouped((_image_name(p, match, taken), p) for p in images)
    outlined = grouped((name, path) for name, _, path in listed)
    scribbles = scribbled_parts(folder)
    alone = {name: path for name, path in scribbles.items() if name in named}
    others = [p for p in images if p not in match]
    inside = _overlaid(others, {*outlined, *alone})
    return FolderLayout(
        "coco",
        named,
        _or_scribbles(outlined | inside, alone),
        notes=(*_told(inside), *(note for p in files if (note := note_on_lost(p)))),
        annotated=annotated_parts(folder),
        scribbles=scribbles,
        members={name: member for name, member, _ in listed},
    )


def member_name(member: str) -> str:
    """Return what an image of a COCO file is called: folders become a part of it."""
    return _listed_stem(member.replace("/", "_"))


def _listed_stem(name: str) -> str:
    """Return a name without suffix; it may have been annotated as a picture."""
    pictured = name.lower().endswith(PICTURES)
    return stem(name.rpartition(".")[0] if pictured else name)


def _image_name(path: Path, match: Mapping[Path, str], taken: Collection[str]) -> str:
    if path in match:
        return member_name(match[path])
    name = stem(path.name)
    # Of the same name as an annotated image elsewhere.
    return f"{_name(path.parent)}_{name}" if name in taken else name


def match_members(
    members: Mapping[str, str], images: Collection[Path]
) -> dict[Path, str]:
    """Return which image of a COCO file each file is.

    Names must be the same, suffixes and the identifier before a name of Label Studio
    aside; of several, those belong together whose folders agree from the end on
    farthest.

    Parameters
    ----------
    members
        Images of COCO files, to their paths there.
    images
        Files.

    Raises
    ------
    InputError
        If several agree as far.
    """
    known: dict[str, list[str]] = {}
    for member in members:
        for key in _tail_keys(member.rsplit("/", 1)[-1]):
            known.setdefault(key, []).append(member)
    found: dict[str, list[Path]] = {}
    for path in images:
        keys = (key for key in _tail_keys(path.name) if key in known)
        theirs = known.get(next(keys, ""), [])
        best = _farthest({m: _common_tail(path, members[m]) for m in theirs})
        if len(best) > 1:
            raise _ambiguous(str(path), best)
        for member in best:
            found.setdefault(member, []).append(path)
    match: dict[Path, str] = {}
    for member, paths in found.items():
        own = members[member]
        best_paths = _farthest({str(p): _common_tail(p, own) for p in paths})
        if len(best_paths) > 1:
            raise _ambiguous(member, best_paths)
        match |= {p: member for p in paths if str(p) in best_paths}
    return match


def _tail_keys(name: str) -> list[str]:
    """Return under what a file's name is looked up, the surest first."""
    whole = _listed_stem(name).casefold()
    plain = unquote(whole)
    shorter = (plain, _UPLOADED.sub("", plain), _ROBOFLOW.sub("", plain))
    return list(dict.fromkeys((whole, *shorter)))


def _common_tail(path: Path, other: str) -> int:
    """Return how many folders of both agree, from the end on."""
    ours, theirs = path.parts[-2::-1], other.split("/")[-2::-1]
    same = (a.casefold() == b.casefold() for a, b in zip(ours, theirs, strict=False))
    return sum(1 for _ in takewhile(bool, same))


def _farthest(tails: Mapping[str, int]) -> list[str]:
    most = max(tails.values(), default=0)
    return [name for name, tail in tails.items() if tail == most]


def _ambiguous(name: str, others: list[str]) -> InputError:
    return InputError(
        f"{name} might belong to {len(others)}: {', '.join(sorted(others)[:3])}.",
        hint="Keep images in the folders that the COCO file names, or rename one.",
    )


def detect_flat(folder: Path) -> FolderLayout | None:
    """Recognize images and annotations in one folder, distinguished by name."""
    files = without_results(
        list(dict.fromkeys([*annotation_files(folder), *image_files(folder)]))
    )
    pixels = [p for p in files if is_image_file(p)]
    images = [p for p in pixels if bare_stem(p.name) == stem(p.name)]
    started = {p for p in images if starts_as_annotation(p.name)}
    known = {shared_stem(p.name) for p in images if p not in started}
    images = [p for p in images if p not in started or shared_stem(p.name) not in known]
    scribbles = scribbled_parts(folder)
    own = set(images)
    others = [p for p in files if p not in own]
    paths, notes = by_name(images, others, scribbles)
    found = by_image(others, set(paths), (*ANYTHING, ".zip"))
    inside = _overlaid(images, {*found, *scribbles})
    if not images or not (found or scribbles or inside):
        return None
    used = set(chain(*found.values()))
    return FolderLayout(
        "flat",
        paths,
        _or_scribbles(found | inside, scribbles),
        notes=(*_ignored(folder, used), *_told(inside), *notes),
        annotated=annotated_parts(folder),
        scribbles=scribbles,
    )


LAYOUTS: dict[str, Detector] = {
    "folders": detect_folders,
    "split folders": detect_split_folders,
    "sets": detect_sets,
    "tracking": detect_tracking,
    "dsb2018": detect_objects,
    "coco": detect_coco,
    "flat": detect_flat,
}


def _name(folder: Path) -> str:
    return unicodedata.normalize("NFC", folder.name)


def _joined(
    name: str,
    parts: Mapping[str, FolderLayout],
    lists: Mapping[str, tuple[str, ...]] | None = None,
) -> FolderLayout:
    """Return several layouts as one: images are called after their part.

    By its name alone where it holds a single image and is no list of a side.
    """

    def named(found: Mapping[str, _Value], part: str) -> Iterable[tuple[str, _Value]]:
        # Nothing that is called otherwise than a single image takes its name.
        alone = {*parts[part].images} if lists is None else None
        return (
            (part if alone is not None and alone <= {n} else f"{part}_{n}", value)
            for n, value in found.items()
        )

    every = parts.items()
    return FolderLayout(
        name,
        _merged(pair for part, one in every for pair in named(one.images, part)),
        _merged(pair for part, one in every for pair in named(one.annotations, part)),
        lists or {},
        tuple(note for one in parts.values() for note in one.notes),
        dict(pair for part, one in every for pair in named(one.annotated, part)),
        dict(pair for part, one in every for pair in named(one.scribbles, part)),
    )


def _lists(folder: Path) -> dict[str, tuple[str, ...]]:
    """Return the names in ``training.txt`` and ``validation.txt``, once each."""
    lists = {}
    for side in SIDES:
        path = folder / f"{side}.txt"
        if not path.is_file():
            continue
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(
                f"{path} cannot be read as a list of image names: {error}.",
                hint="It should be UTF-8 text with one name a line.",
            ) from error
        names = (stem(line.strip()) for line in lines if line.strip())
        lists[side] = tuple(dict.fromkeys(names))
    return lists


def _only_listed(found: FolderLayout) -> FolderLayout:
    """Drop what stands in no list: a published set holds its test images as well."""
    listed = {name for names in found.lists.values() for name in names}
    left_out = sorted(set(found.images) - listed)
    notes = found.notes
    if left_out:
        notes = (
            *notes,
            "Left out, because neither training.txt nor validation.txt names them: "
            f"{len(left_out)} of {len(found.images)} images ({some(left_out)}).",
        )
    return FolderLayout(
        found.name,
        {n: p for n, p in found.images.items() if n in listed},
        {n: p for n, p in found.annotations.items() if n in listed},
        found.lists,
        notes,
        {n: p for n, p in found.annotated.items() if n not in left_out},
        found.scribbles,
    )


def _or_scribbles(
    drawn: Mapping[str, tuple[Path, ...]], scribbles: Mapping[str, Path]
) -> dict[str, tuple[Path, ...]]:
    """Return annotations, scribbles where there is no other."""
    return {name: (path,) for name, path in scribbles.items()} | dict(drawn)


def _ignored(folder: Path, used: Collection[Path] = ()) -> tuple[str, ...]:
    """Say how many visible files that are not used lie among the images."""
    others = [
        p.suffix.lower() or p.name
        for p in folder.iterdir()
        if p.is_file()
        and not p.name.startswith(".")
        and not is_image_file(p)
        and p not in used
    ]
    if not others:
        return ()
    kinds = ", ".join(sorted(set(others))[:5])
    return (f"Left out: other files in {folder}: {len(others)} ({kinds}).",)
