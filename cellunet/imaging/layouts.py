"""How people arrange images and annotations in folders: one detector per layout.

A detector only looks: it returns everything it takes for an image and for an
annotation, by name, partnered or not. `cellunet.imaging.pairing` judges.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from cellunet.errors import InputError
from cellunet.imaging.drawn.coco import is_coco, read_coco
from cellunet.imaging.file_names import (
    annotation_files,
    annotation_stem,
    bare_stem,
    image_files,
    is_companion,
    is_image_file,
    stem,
)
from cellunet.imaging.partners import (
    annotated_parts,
    by_image,
    grouped,
    scribbled_parts,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

SIDES = ("training", "validation")
DRAWN_FOLDERS = ("labels", "masks", "annotations", "rois")
"""Folders of annotations beside ``images``."""
UNDERSTOOD = (
    "Understood: DATA/images with DATA/labels, masks, annotations or rois (and "
    "metadata/training.txt and validation.txt, as in BBBC039); images beside "
    "NAME_masks, NAME_labels, NAME_label or NAME_seg, or beside NAME.zip, .roi, "
    ".geojson or .json; a COCO file with its images; a folder NAME with images and "
    "masks per image (DSB2018)."
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
    annotated
        Name to the image that tells which part is annotated, where there is one.
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


class Detector(Protocol):
    """Recognise one layout."""

    def __call__(self, folder: Path) -> Layout | None:
        """Return what is there, or None if `folder` is not arranged like this."""


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
    """Recognise ``images`` beside a folder of annotations, with lists if there are."""
    images = image_files(folder / "images")
    names = {stem(p.name) for p in images}
    drawn = {
        n: by_image(annotation_files(folder / n), names, (".json",))
        for n in DRAWN_FOLDERS
    }
    drawn = {n: files for n, files in drawn.items() if files}
    scribbles = scribbled_parts(folder)
    if not images or not (drawn or scribbles):
        return None
    if len(drawn) > 1:
        raise InputError(
            f"{folder} holds annotations in both {' and '.join(drawn)}.",
            hint="Keep one of these folders beside images.",
        )
    lists = _lists(folder / "metadata")
    found = Layout(
        "bbbc039" if lists else "folders",
        grouped((stem(p.name), p) for p in images),
        _or_scribbles(next(iter(drawn.values()), {}), scribbles),
        lists,
        _ignored(folder / "images"),
        annotated_parts(folder),
        scribbles,
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
    return Layout("dsb2018", grouped(images), grouped(drawn))


def detect_coco(folder: Path) -> Layout | None:
    """Recognise COCO files, in the folder or in ``annotations``, with their images."""
    places = [folder, folder / "images", *sorted((folder / "images").glob("*/"))]
    images = [p for place in places for p in image_files(place)]
    names = {stem(p.name) for p in images}
    files = [*folder.glob("*.json"), *(folder / "annotations").glob("*.json")]
    files = [p for p in sorted(files) if annotation_stem(p.name) not in names]
    files = [p for p in files if not p.name.startswith(".") and is_coco(p)]
    if not images or not files:
        return None
    listed = [(stem(name), name, p) for p in files for name in read_coco(p).images]
    return Layout(
        "coco",
        grouped((stem(p.name), p) for p in images if not is_companion(p.name)),
        grouped((name, path) for name, _, path in listed),
        annotated=annotated_parts(folder),
        scribbles=scribbled_parts(folder),
        members={name: member for name, member, _ in listed},
    )


def detect_flat(folder: Path) -> Layout | None:
    """Recognise images and annotations in one folder, told apart by their names."""
    files = [p for p in annotation_files(folder) if not is_companion(p.name)]
    pixels = [p for p in files if is_image_file(p)]
    images = [p for p in pixels if bare_stem(p.name) == stem(p.name)]
    names = {stem(p.name) for p in images}
    found = by_image([p for p in files if p not in images], names, (".json", ".zip"))
    scribbles = scribbled_parts(folder)
    if not images or not (found or scribbles):
        return None
    used = [path for paths in found.values() for path in paths]
    return Layout(
        "flat",
        grouped((stem(p.name), p) for p in images),
        _or_scribbles(found, scribbles),
        notes=_ignored(folder, used),
        annotated=annotated_parts(folder),
        scribbles=scribbles,
    )


LAYOUTS: dict[str, Detector] = {
    "folders": detect_folders,
    "dsb2018": detect_objects,
    "coco": detect_coco,
    "flat": detect_flat,
}


def _name(folder: Path) -> str:
    return unicodedata.normalize("NFC", folder.name)


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
        found.annotated,
        found.scribbles,
    )


def _or_scribbles(
    drawn: Mapping[str, tuple[Path, ...]], scribbles: Mapping[str, Path]
) -> dict[str, tuple[Path, ...]]:
    """Return annotations, scribbles where there is no other."""
    return {name: (path,) for name, path in scribbles.items()} | dict(drawn)


def _ignored(folder: Path, used: Collection[Path] = ()) -> tuple[str, ...]:
    """Say how many visible files of other kinds lie among the images."""
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
    return (f"Left out, as neither TIFF nor PNG: {len(others)} in {folder} ({kinds}).",)
