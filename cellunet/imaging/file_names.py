"""Which files are images and which annotations, by their names alone."""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

IMAGE_SUFFIXES = (".tiff", ".tif", ".btf", ".png")
DRAWN_SUFFIXES = (".geojson.gz", ".geojson", ".json", ".roi", ".zip")
"""Of shapes rather than pixels."""
IMAGE_FOLDERS = ("images", "image", "imgs", "img")
"""Folders of images beside one of `DRAWN_FOLDERS`, in any case."""
DRAWN_FOLDERS = (
    "labels",
    "label",
    "masks",
    "mask",
    "annotations",
    "annotation",
    "rois",
    "ground_truth",
    "gt",
)
"""Folders of annotations beside those of images, in any case."""
_ANNOTATION_END = re.compile(
    r"(?<=.)(?:_cp_masks|(?: - |[ _.-])(?:masks?|labels?|seg|segmentation|gt|rois"
    r"|roiset|annotations?)(?: ?\[\d+\])?)$",
    re.IGNORECASE,
)
"""Ends of the names of annotations; napari proposes ``a - Labels [1]``."""
_IMAGE_END = re.compile(r"(?<=.)[ _.-](?:imgs?|images?|raw)$", re.IGNORECASE)
_START = re.compile(
    r"^(?:t(?=\d+$)|(?:man_seg|man_track|masks?|labels?|seg|gt|imgs?|images?)"
    r"(?:[ _-]|(?=\d+$)))(?=.)",
    re.IGNORECASE,
)
"""Starts of the names of images and of annotations: ``t000`` and ``man_seg000`` (Cell
Tracking Challenge), ``img_01`` and ``mask_01``."""
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
RESULTS = re.compile(
    r"(?<=.)_(?:outlines_cp_masks|flows_cp_masks|cp_outlines|cp_flows|flows|classes"
    r"|probabilities|outlines(?:_\d+)?)$",
    re.IGNORECASE,
)
"""Ends of what cellunet and Cellpose write beside label images, never images."""
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
    bare = _without(unicodedata.normalize("NFC", name), IMAGE_SUFFIXES)
    return _without(bare, (".ome",))


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
    >>> bare_stem("a.ome_cp_masks.png"), bare_stem("a - Labels.tif")
    ('a', 'a')
    """
    whole = annotation_stem(name)
    bare = _ANNOTATION_END.sub("", whole)
    return whole if bare == whole else stem(bare)


def shared_stem(name: str) -> str:
    """Return what is left of a name without the marks of images and of annotations.

    Examples
    --------
    >>> shared_stem("001_img.png"), shared_stem("001_masks.png")
    ('001', '001')
    >>> shared_stem("t003.tif"), shared_stem("man_seg003.tif")
    ('003', '003')
    """
    return _IMAGE_END.sub("", _START.sub("", bare_stem(name), count=1))


def starts_as_annotation(name: str) -> bool:
    """Return whether a name starts with the mark of an annotation, as ``mask_01``."""
    start = _START.match(annotation_stem(name))
    return start is not None and not start[0].lower().startswith(("t", "im"))


def is_annotation_mark(name: str) -> bool:
    """Return whether a name alone says that a file is no image but an annotation."""
    drawn = (*DRAWN_SUFFIXES, CELLPOSE)
    return name.lower().endswith(drawn) or bare_stem(name) != stem(name)


def is_companion(name: str) -> bool:
    """Return whether a file beside images is neither an image nor its labels."""
    return stem(name).lower().endswith(COMPANIONS)


def without_results(files: list[Path]) -> list[Path]:
    """Return files without the pictures and maps that lie beside label images.

    They count as such where the image or the label image that they belong to is among
    the files of their folder: an image may be called ``a_classes`` as well.
    """
    names = {(p.parent, bare_stem(p.name)) for p in files}

    def is_result(path: Path) -> bool:
        whole = stem(path.name)
        owner = RESULTS.sub("", whole)
        return owner != whole and (path.parent, bare_stem(owner)) in names

    return [p for p in files if not is_companion(p.name) and not is_result(p)]


def _without(name: str, suffixes: tuple[str, ...]) -> str:
    lower = name.lower()
    if lower.endswith(suffixes):
        for suffix in suffixes:
            if lower.endswith(suffix) and len(name) > len(suffix):
                return name[: -len(suffix)]
    return name


def subfolders(folder: Path, names: tuple[str, ...]) -> list[Path]:
    """Return the folders in `folder` of these names in any case, in their order."""
    if not folder.is_dir():
        return []
    found = [p for p in folder.iterdir() if p.name.lower() in names and p.is_dir()]
    return sorted(found, key=lambda p: (names.index(p.name.lower()), p.name))


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
