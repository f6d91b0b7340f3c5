"""Which files are images and which annotations, by their names alone."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

IMAGE_SUFFIXES = (".ome.tiff", ".ome.tif", ".tiff", ".tif", ".btf", ".png")
DRAWN_SUFFIXES = (".geojson.gz", ".geojson", ".json", ".roi", ".zip")
"""Of shapes rather than pixels."""
ANNOTATION_SUFFIXES = (
    "_cp_masks",
    "_masks",
    "_mask",
    "_labels",
    "_label",
    "_seg",
    "_rois",
    "_roiset",
    "_annotations",
)
CELLPOSE = "_seg.npy"
"""A pickled object, which is refused when it is read."""
COMPANIONS = (
    "_outlines_cp_masks",
    "_flows_cp_masks",
    "_cp_outlines",
    "_annotated",
    "_scribbles",
)
"""Ends of files beside images that are neither image nor labels: pictures that
Cellpose draws, which part of an image is annotated, and scribbles."""
ROI_SET = "roiset"
"""What the ROI Manager of Fiji calls a set unless told otherwise."""


def is_image_file(path: Path) -> bool:
    """Return whether `path` is a visible file that is named like a TIFF or PNG."""
    return _is_named(path, IMAGE_SUFFIXES)


def is_drawn_file(path: Path) -> bool:
    """Return whether `path` is a visible file that is named like drawn shapes."""
    return _is_named(path, DRAWN_SUFFIXES)


def is_annotation_file(path: Path) -> bool:
    """Return whether `path` is a visible file that can be an annotation."""
    return _is_named(path, (*IMAGE_SUFFIXES, *DRAWN_SUFFIXES, CELLPOSE))


def _is_named(path: Path, suffixes: tuple[str, ...]) -> bool:
    if path.name.startswith(".") or not path.name.lower().endswith(suffixes):
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
    return _without(unicodedata.normalize("NFC", name), IMAGE_SUFFIXES)


def annotation_stem(name: str) -> str:
    """Return the name of an annotation file without its suffixes.

    QuPath and Fiji append to the whole name of an image.

    Examples
    --------
    >>> annotation_stem("a.tif.geojson"), annotation_stem("a_RoiSet.zip")
    ('a', 'a_RoiSet')
    """
    bare = _without(unicodedata.normalize("NFC", name), (*DRAWN_SUFFIXES, ".npy"))
    return stem(bare)


def bare_stem(name: str) -> str:
    """Return the `annotation_stem` without the suffix that marks an annotation.

    Examples
    --------
    >>> bare_stem("a_01_masks.png"), bare_stem("a_RoiSet.zip")
    ('a_01', 'a')
    """
    return _without(annotation_stem(name), ANNOTATION_SUFFIXES)


def is_annotation_mark(name: str) -> bool:
    """Return whether a name alone says that a file is no image but an annotation."""
    drawn = (*DRAWN_SUFFIXES, CELLPOSE)
    return name.lower().endswith(drawn) or bare_stem(name) != stem(name)


def is_companion(name: str) -> bool:
    """Return whether a file beside images is neither an image nor its labels."""
    return stem(name).lower().endswith(COMPANIONS)


def _without(name: str, suffixes: tuple[str, ...]) -> str:
    for suffix in suffixes:
        if name.lower().endswith(suffix) and len(name) > len(suffix):
            return name[: -len(suffix)]
    return name


def image_files(folder: Path) -> list[Path]:
    """Return the image files directly in `folder`, sorted; none if it is no folder."""
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if is_image_file(p))


def annotation_files(folder: Path) -> list[Path]:
    """Return what can be annotations directly in `folder`, sorted."""
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if is_annotation_file(p))
