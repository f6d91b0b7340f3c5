"""Recognize annotations of formats that are not read, and name the way out."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cellunet.errors import AnnotationError, InputError, some
from cellunet.io.paths import (
    DRAWN_FOLDERS,
    IMAGE_FOLDERS,
    TRAINING_SETS,
    VALIDATION_SETS,
    subfolders,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HEAD_BYTES = 1 << 16

MOST_FILES = 200
"""Most files of a folder that are looked into."""


@dataclass(frozen=True)
class ForeignFormat:
    """A format of annotations that is not read."""

    name: str
    suffixes: tuple[str, ...]
    begins: str
    """Regular expression that is found in the first bytes of such files."""
    instead: str
    """What to export or save instead."""


FORMATS = (
    ForeignFormat(
        "a table of VGG Image Annotator",
        (".csv",),
        r'^#?"?filename"?,"?file_size',
        "In VGG Image Annotator: Annotation, Export Annotations (as json).",
    ),
    ForeignFormat(
        "a project of VGG Image Annotator 3",
        (".json",),
        r'^\s*{\s*"project"\s*:\s*{\s*"pid"',
        "In VGG Image Annotator: export annotations as COCO.",
    ),
    ForeignFormat(
        "XML of CVAT",
        (".xml",),
        r"<annotations>\s*<version>",
        "In CVAT: Export dataset, COCO 1.0, or Segmentation mask 1.1.",
    ),
    ForeignFormat(
        "boxes of Pascal VOC",
        (".xml",),
        r"<annotation[ >]",
        "Boxes alone do not outline objects: export polygons or masks, as COCO.",
    ),
    ForeignFormat(
        "annotations of YOLO",
        (".txt",),
        r"^\d+( (0|1|0?\.\d+|1\.0+)(e-\d+)?){4,}\s",
        "Export them as COCO, with polygons or masks.",
    ),
    ForeignFormat(
        "a multi-file array of NumPy",
        (".npz",),
        r"^PK",
        "Save the labels as TIFF: tifffile.imwrite('NAME.tif', labels).",
    ),
)
"""The first that fits counts."""


def foreign_format(path: Path) -> ForeignFormat | None:
    """Return the format of a file that is not read; None if it is none of these."""
    suffix = path.suffix.lower()
    if not any(suffix in known.suffixes for known in FORMATS):
        return None
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES).decode("utf-8-sig", "replace")
    except OSError:
        return None  # For its reader to say.
    return next(
        (f for f in FORMATS if suffix in f.suffixes and re.search(f.begins, head)), None
    )


def refuse_foreign_file(path: Path) -> None:
    """Refuse a file of such a format.

    Raises
    ------
    AnnotationError
        If it is of one: names it, and what to export instead.
    """
    if known := foreign_format(path):
        raise AnnotationError(
            f"{path} is {known.name}, which is not read.", hint=known.instead
        )


def refuse_foreign(folder: Path) -> None:
    """Refuse a folder in which annotations of such formats lie.

    Raises
    ------
    InputError
        If there are some: names them, and what to export instead.
    """
    found: dict[ForeignFormat, list[str]] = {}
    for path in _files(folder):
        if known := foreign_format(path):
            found.setdefault(known, []).append(path.relative_to(folder).as_posix())
    if found:
        told = "; ".join(f"{f.name} ({some(names)})" for f, names in found.items())
        raise InputError(
            f"{folder} holds annotations that are not read: {told}.",
            hint=" ".join(f.instead for f in found),
        )


def _files(folder: Path) -> Iterator[Path]:
    for place in places(folder):
        files = (p for p in sorted(place.iterdir()) if p.is_file())
        yield from [p for p in files if not p.name.startswith(".")][:MOST_FILES]


def places(folder: Path) -> list[Path]:
    """Return where images and annotations of a folder may lie, itself first."""
    names = (*IMAGE_FOLDERS, *DRAWN_FOLDERS, *TRAINING_SETS, *VALIDATION_SETS)
    return [folder, *subfolders(folder, names)]
