"""How people arrange images and annotations in folders: one detector per layout.

A detector only looks: it returns everything it takes for an image and for an
annotation, by name, partnered or not. `cellunet.imaging.pairing` judges.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from cellunet.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

IMAGE_SUFFIXES = (".ome.tiff", ".ome.tif", ".tiff", ".tif", ".btf", ".png")
SIDES = ("training", "validation")
ANNOTATION_SUFFIXES = ("_cp_masks", "_masks", "_mask", "_labels", "_label", "_seg")
UNDERSTOOD = (
    "Understood: DATA/images with DATA/labels or DATA/masks (and metadata/training.txt "
    "and validation.txt, as in BBBC039); images beside NAME_masks, NAME_labels, "
    "NAME_label or NAME_seg; a folder NAME with images and masks per image (DSB2018)."
)


@dataclass(frozen=True)
class Layout:
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
    """

    name: str
    images: Mapping[str, tuple[Path, ...]]
    annotations: Mapping[str, tuple[Path, ...]]
    lists: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


class Detector(Protocol):
    """Recognise one layout."""

    def __call__(self, folder: Path) -> Layout | None:
        """Return what is there, or None if `folder` is not arranged like this."""


def is_image_file(path: Path) -> bool:
    """Return whether `path` is a visible file that is named like a TIFF or PNG."""
    if path.name.startswith(".") or not path.name.lower().endswith(IMAGE_SUFFIXES):
        return False
    return path.is_file()


def stem(name: str) -> str:
    """Return a file name without image suffix, accents in composed form.

    macOS hands out decomposed accents, so that ``ü.tif`` and its partner can differ.

    Examples
    --------
    >>> stem("plate 3.w1.OME.TIF")
    'plate 3.w1'
    """
    name = unicodedata.normalize("NFC", name)
    for suffix in IMAGE_SUFFIXES:
        if name.lower().endswith(suffix) and len(name) > len(suffix):
            return name[: -len(suffix)]
    return name


def bare_stem(name: str) -> str:
    """Return the `stem` without the suffix that marks an annotation.

    Examples
    --------
    >>> bare_stem("a_01_masks.png")
    'a_01'
    """
    whole = stem(name)
    for suffix in ANNOTATION_SUFFIXES:
        if whole.lower().endswith(suffix) and len(whole) > len(suffix):
            return whole[: -len(suffix)]
    return whole


def image_files(folder: Path) -> list[Path]:
    """Return the image files directly in `folder`, sorted; none if it is no folder."""
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if is_image_file(p))


def detect(folder: Path) -> Layout | None:
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


def detect_folders(folder: Path) -> Layout | None:
    """Recognise ``images`` beside ``labels`` or ``masks``, with lists if there are."""
    images = image_files(folder / "images")
    drawn = {n: image_files(folder / n) for n in ("labels", "masks")}
    drawn = {n: files for n, files in drawn.items() if files}
    if not images or not drawn:
        return None
    if len(drawn) > 1:
        raise InputError(
            f"{folder} holds annotations in both labels and masks.",
            hint="Keep one of the two folders beside images.",
        )
    lists = _lists(folder / "metadata")
    names = {stem(p.name) for p in images}
    found = Layout(
        "bbbc039" if lists else "folders",
        _grouped((stem(p.name), p) for p in images),
        _grouped((_partner(p, names), p) for p in next(iter(drawn.values()))),
        lists,
        _ignored(folder / "images"),
    )
    return _only_listed(found) if "training" in lists else found


def detect_objects(folder: Path) -> Layout | None:
    """Recognise a folder per image, with one file per object (DSB2018)."""
    members = sorted(p for p in folder.iterdir() if p.is_dir())
    members = [p for p in members if not p.name.startswith(".")]
    images = [(_name(m), p) for m in members for p in image_files(m / "images")]
    drawn = [(_name(m), m / "masks") for m in members if image_files(m / "masks")]
    if not images or not drawn:
        return None
    return Layout("dsb2018", _grouped(images), _grouped(drawn))


def detect_flat(folder: Path) -> Layout | None:
    """Recognise images and annotations in one folder, told apart by a suffix."""
    files = image_files(folder)
    drawn = [p for p in files if bare_stem(p.name) != stem(p.name)]
    images = [p for p in files if bare_stem(p.name) == stem(p.name)]
    if not images or not drawn:
        return None
    return Layout(
        "flat",
        _grouped((stem(p.name), p) for p in images),
        _grouped((bare_stem(p.name), p) for p in drawn),
        notes=_ignored(folder),
    )


LAYOUTS: dict[str, Detector] = {
    "folders": detect_folders,
    "dsb2018": detect_objects,
    "flat": detect_flat,
}


def _name(folder: Path) -> str:
    return unicodedata.normalize("NFC", folder.name)


def _partner(annotation: Path, images: set[str]) -> str:
    """Return the name an annotation belongs to: its own stem, or without suffix."""
    whole = stem(annotation.name)
    bare = bare_stem(annotation.name)
    return bare if whole not in images and bare in images else whole


def _grouped(named: Iterable[tuple[str, Path]]) -> dict[str, tuple[Path, ...]]:
    groups: dict[str, tuple[Path, ...]] = {}
    for name, path in named:
        groups[name] = (*groups.get(name, ()), path)
    return groups


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


def _only_listed(found: Layout) -> Layout:
    """Drop what stands in no list: a published set holds its test images as well."""
    listed = {name for names in found.lists.values() for name in names}
    left_out = sorted(set(found.images) - listed)
    notes = found.notes
    if left_out:
        some = ", ".join(left_out[:3]) + (", ..." if len(left_out) > 3 else "")
        notes = (
            *notes,
            "Left out, as neither training.txt nor validation.txt names them: "
            f"{len(left_out)} of {len(found.images)} images ({some}).",
        )
    return Layout(
        found.name,
        {n: p for n, p in found.images.items() if n in listed},
        {n: p for n, p in found.annotations.items() if n in listed},
        found.lists,
        notes,
    )


def _ignored(folder: Path) -> tuple[str, ...]:
    """Say how many visible files of other kinds lie among the images."""
    others = [
        p.suffix.lower() or p.name
        for p in folder.iterdir()
        if p.is_file() and not p.name.startswith(".") and not is_image_file(p)
    ]
    if not others:
        return ()
    kinds = ", ".join(sorted(set(others))[:5])
    return (f"Left out, as neither TIFF nor PNG: {len(others)} in {folder} ({kinds}).",)
