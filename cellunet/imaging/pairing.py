"""Pairs of image and annotation in a folder, and their split for training.

Files are matched by stem. Whatever does not match is named in one message, before
anything is read or trained.
"""

from __future__ import annotations

import hashlib
import itertools
import random
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cellunet.errors import ConfigError, InputError
from cellunet.imaging.file_names import (
    DRAWN_FOLDERS,
    IMAGE_FOLDERS,
    annotation_files,
    image_files,
    is_annotation_file,
    is_annotation_mark,
    subfolders,
)
from cellunet.imaging.layouts import SIDES, UNDERSTOOD, Layout, detect

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping
    from pathlib import Path

    import numpy.typing as npt

MAX_NAMED = 10
MOST_LOOKED_AT, MOST_LEVELS = 200, 2
"""Most folders of one folder, and levels of them, that are looked into for pairs."""
PICTURES = {".jpg", ".jpeg", ".bmp", ".gif", ".jp2", ".webp"}
"""Files in which people keep pictures, and which are not read."""
PIXELS = (
    "Images and label images are read as TIFF or PNG; export the others so from where "
    "they were made, as JPEG changes values."
)


@dataclass(frozen=True)
class Pair:
    """One image and its annotation.

    Parameters
    ----------
    image
        The image file.
    annotation
        The annotation file, or the folder of its objects.
    name
        What both are called: the image's stem.
    annotated
        The image that tells which part is annotated, where there is one.
    member
        What the image is called in an annotation file of several.
    scribbles
        An image of scribbles beside another annotation, where there is one.
    """

    image: Path
    annotation: Path
    name: str
    annotated: Path | None = None
    member: str = ""
    scribbles: Path | None = None


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


def find_pairs(folder: Path) -> Pairs:
    """Find the pairs of image and annotation in a folder.

    Parameters
    ----------
    folder
        A folder in one of the arrangements of `cellunet.imaging.layouts.LAYOUTS`.
        Where it lists its training images (``metadata/training.txt``), images in no
        list are left out.

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
            "these files." + (f" {PIXELS}" if set(others) & PICTURES else ""),
        )
    pairs = tuple(
        Pair(
            found.images[name][0],
            found.annotations[name][0],
            name,
            found.annotated.get(name),
            found.members.get(name, ""),
            _beside(found, name),
        )
        for name in sorted(found.images)
    )
    sides = {side: tuple(sorted(names)) for side, names in found.lists.items()}
    if not pairs:
        raise InputError(f"The lists in {folder / 'metadata'} name no image.")
    return Pairs(
        pairs, found.name, sides.get("training"), sides.get("validation"), found.notes
    )


def split(
    pairs: Pairs,
    *,
    validation_fraction: float,
    seed: int,
    stratum: Callable[[Pair], tuple[int, ...]] = lambda pair: (),
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
        held = set(pairs.validation)
        kept = set(by_name if pairs.train is None else pairs.train) - held
    else:
        pool = sorted(by_name if pairs.train is None else pairs.train)
        kinds = {name: stratum(by_name[name]) for name in pool}
        held = _draw(kinds, validation_fraction, seed)
        kept = set(pool) - held
    if not kept or not held:
        raise InputError(
            f"The split has {len(kept)} training and {len(held)} validation images; "
            "each needs at least one.",
            hint="Annotate at least two images, name a folder (--val DIR), or have a "
            "single image cut: --folds 2 without --val-fraction.",
        )
    return (
        tuple(by_name[name] for name in sorted(kept)),
        tuple(by_name[name] for name in sorted(held)),
    )


def listed(pairs: Pairs) -> tuple[Pair, ...]:
    """Return the pairs of the folder's list of training images, all without one."""
    if pairs.train is None:
        return pairs.pairs
    return tuple(pair for pair in pairs.pairs if pair.name in set(pairs.train))


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


def image_print(image: npt.NDArray[Any]) -> str:
    """Return the fingerprint of an image, CYX: of several channels with ``+`` between.

    So what a model of fewer channels was made from is still recognised (`is_known`).
    """
    return "+".join(fingerprint(image[k : k + 1]) for k in range(len(image)))


def is_known(print_: str, known: Collection[str]) -> bool:
    """Return whether an image is one of those known, or shows all channels of one.

    Parameters
    ----------
    print_
        Its `image_print`.
    known
        Those of the others.

    Examples
    --------
    >>> is_known("dapi+gfp", ["dapi"]), is_known("dapi+gfp", ["gfp+rfp"])
    (True, False)
    """
    own = set(print_.split("+"))
    if len(own) == 1:
        return print_ in known
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
    seen = {print_: name for name, print_ in train.items()}
    shared = [
        f"{seen[print_]} (training) = {name} (validation)"
        for name, print_ in validation.items()
        if print_ in seen
    ]
    if shared:
        raise InputError(
            f"The same image is in training and validation: {_some(shared)}.",
            hint="Validation on a training image measures memory; remove one of them.",
        )


def _beside(found: Layout, name: str) -> Path | None:
    """Return scribbles that come beside an annotation; None if they are it."""
    path = found.scribbles.get(name)
    return None if found.annotations[name] == (path,) else path


def _draw(names: Mapping[str, tuple[int, ...]], fraction: float, seed: int) -> set[str]:
    """Return the names drawn; `names` has the stratum of each."""
    if not 0 < fraction < 1:
        raise ConfigError(
            f"The validation fraction is {fraction}; it must lie between 0 and 1.",
            hint="Try: --val-fraction 0.2.",
        )
    count = min(max(1, round(fraction * len(names))), len(names) - 1)
    # Python promises that random() repeats across versions; numpy promises it of no
    # generator's permutation.
    rng = random.Random(seed)
    keys = {name: (names[name], rng.random()) for name in names}
    order = sorted(names, key=lambda name: keys[name])
    # At even distances in the order of the strata, so that each gives its share.
    return {order[(2 * i + 1) * len(order) // (2 * count)] for i in range(count)}


def _problems(found: Layout) -> list[str]:
    """Return everything that keeps `found` from being pairs, each with its names."""
    images, drawn = set(found.images), set(found.annotations)
    training, validation = (set(found.lists.get(s, ())) for s in SIDES)
    kinds = {
        "no annotation for the image": images - drawn,
        "no image for the annotation": drawn - images,
        "listed but not there": (training | validation) - images - drawn,
        "in both lists": training & validation,
        "several images called": {n for n, p in found.images.items() if len(p) > 1},
        "several annotations for": {
            n for n, p in found.annotations.items() if len(p) > 1
        },
    }
    return [f"{what} {_some(sorted(names))}" for what, names in kinds.items() if names]


def _some(names: Iterable[str]) -> str:
    listed = list(names)
    shown = ", ".join(listed[:MAX_NAMED])
    rest = len(listed) - MAX_NAMED
    return f"{shown} and {rest} more" if rest > 0 else shown


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
    beside = _annotated_beside(folder)
    if beside is not None:
        return InputError(
            f"{folder} holds images only; their annotations are in {beside} beside it.",
            hint=f"Name the folder above both: {folder.parent}.",
        )
    refuse_nested(folder)
    images = [p for at in subfolders(folder, IMAGE_FOLDERS) for p in image_files(at)]
    drawn = [
        p for at in subfolders(folder, DRAWN_FOLDERS) for p in annotation_files(at)
    ]
    for path in annotation_files(folder):
        (drawn if is_annotation_mark(path.name) else images).append(path)
    others = _others(folder)
    if images and not drawn:
        return InputError(
            f"{folder} holds images, but no annotation (images recognised: "
            f"{len(images)}{_left_out(others)}).",
            hint=(f"{PIXELS} " if set(others) & PICTURES else "")
            + "To have labels to correct: cellunet train --suggest "
            f"{folder} --out DIR. {UNDERSTOOD}",
        )
    return InputError(
        f"{folder} holds no pair of image and annotation (images recognised: "
        f"{len(images)}, annotations: {len(drawn)}{_left_out(others)}).",
        hint=(f"{PIXELS} " if set(others) & PICTURES else "") + UNDERSTOOD,
    )


def _annotated_beside(folder: Path) -> str | None:
    """Return the folder beside that annotates the images of `folder`, if there is."""
    at = folder.absolute()
    if at.name.isdecimal() and (at.parent / f"{at.name}_GT" / "SEG").is_dir():
        return f"{at.name}_GT/SEG"
    if at.name.lower() not in IMAGE_FOLDERS:
        return None
    beside = subfolders(at.parent, DRAWN_FOLDERS)
    return next((p.name for p in beside if annotation_files(p)), None)


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
    some = " ".join(map(str, nested[:MAX_NAMED]))
    hint = f"Name one of them, or to train on several: cellunet train {some}."
    raise InputError(
        f"{folder} holds no pair of image and annotation itself; folders in it do: "
        f"{_some(p.relative_to(folder).as_posix() for p in nested)}.",
        hint=hint if len(nested) > 1 else f"Name that folder: {some}.",
    )


def _nested(folder: Path, levels: int) -> list[Path]:
    """Return the folders in `folder` that hold pairs, down to some levels."""
    found: list[Path] = []
    members = (p for p in sorted(folder.iterdir()) if p.is_dir())
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
    places = [folder, *subfolders(folder, (*IMAGE_FOLDERS, *DRAWN_FOLDERS))]
    files = [p for place in places for p in place.iterdir()]
    return Counter(
        p.suffix.lower() or p.name
        for p in files
        if p.is_file() and not p.name.startswith(".") and not is_annotation_file(p)
    )
