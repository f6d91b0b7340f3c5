"""The images in a TIFF: which there are, and which one is read.

By default that is the largest, so that a converter's smaller copies and a scanner's
thumbnail, macro and label are left aside; any of them is read by number or name.
"""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING

import tifffile

from cellunet.errors import ImageReadError
from cellunet.imaging.tiff.directories import BIO_FORMATS
from cellunet.imaging.tiff.ome import imagej_planes

if TYPE_CHECKING:
    from pathlib import Path

    from cellunet.imaging.tiff.ome import OmeImage, OmeSummary

_MOST_LISTED = 6
Images = list[tuple["tifffile.TiffPageSeries", "OmeImage | None"]]
"""Each image of a file, with what OME-XML says of it."""


def find_images(path: Path, tiff: tifffile.TiffFile, ome: OmeSummary | None) -> Images:
    """Return the images of a file, embedded thumbnails without a name left aside.

    Raises
    ------
    ImageReadError
        If the metadata claim what the file does not hold.
    """
    if ome is not None and (ome.files > 1 or not ome.own_metadata):
        return _images_of_set(path, tiff, ome)
    # Since tifffile 2026.5.2 a series is asked for with its axes of length 1.
    every = tiff.series(squeeze=False) if callable(tiff.series) else tiff.series
    images = [s for s in every if not s.keyframe.is_reduced or s.kind == "qpi"] or every
    claimed, kinds = _claim(tiff, ome)
    for series in images:
        if series.is_multifile:
            raise ImageReadError(
                f"{path} is one of several files of an NDTiff data set, whose planes "
                "are spread over them.",
                hint="Export the data set as OME-TIFF.",
            )
        if claimed > 1 and series.kind not in kinds:
            raise ImageReadError(
                f"{path} has metadata of {claimed} planes that do not fit the "
                f"{len(tiff.pages)} pages in it; it is truncated, part of a set of "
                "files, or was changed by another program.",
                hint="Save it again as a single OME-TIFF or plain TIFF.",
            )
    if ome is None:
        return [(series, None) for series in images]
    if len(images) == len(ome.images):
        return list(zip(images, ome.images, strict=True))
    named = {image.name: image for image in reversed(ome.images)}
    return [(series, named.get(series.name, ome.images[0])) for series in images]


def _claim(tiff: tifffile.TiffFile, ome: OmeSummary | None) -> tuple[int, list[str]]:
    """Return the planes that metadata claim, and the kinds of series that honour it.

    Where tifffile cannot match metadata and pages it falls back to the bare pages,
    and what was a channel would silently become one more field of view.
    """
    if ome is not None:
        return max(image.planes for image in ome.images), ["ome", "mmstack"]
    if tiff.imagej_metadata is not None and not is_split(tiff):
        return imagej_planes(tiff.imagej_metadata), ["imagej", "mmstack"]
    return (2, ["shaped"]) if tiff.is_shaped else (1, ["ndtiff"])


def is_split(tiff: tifffile.TiffFile) -> bool:
    """Say whether Bio-Formats' converter wrote this as one part of an image.

    Split by channel, Z or T, every part has the description of the whole.
    """
    software = str(tiff.pages.first.tags.valueof(305) or "")
    imagej = tiff.imagej_metadata
    return (
        imagej is not None
        and software.startswith(BIO_FORMATS.decode())
        and len(tiff.pages) < imagej_planes(imagej)
        and imagej_planes(imagej) % len(tiff.pages) == 0
    )


def _images_of_set(path: Path, tiff: tifffile.TiffFile, ome: OmeSummary) -> Images:
    """Return the images of which one file of an OME-TIFF set holds whole planes."""
    found: Images = []
    for image in ome.images:
        pages = _pages_here(path, image, len(tiff.pages))
        if not pages:
            continue
        kept = [sorted({place[k] for place in pages}) for k in range(3)]
        places = list(product(*kept))
        if set(places) != set(pages):
            raise ImageReadError(
                f"{path} is one of {ome.files} files of an OME-TIFF set, and holds "
                f"{len(pages)} of the {image.planes} planes of image {image.name!r}, "
                "but neither whole channels, nor whole Z or T.",
                hint="Save the set as one OME-TIFF.",
            )
        found.append(
            (
                _series(path, tiff, image, [pages[p] for p in places], kept),
                _part_of(image, kept),
            )
        )
    if not found:
        raise ImageReadError(
            f"{path} is one of {ome.files} files of an OME-TIFF set, whose metadata "
            "name no plane in this file.",
            hint="Put back its old name, or save the set as one OME-TIFF.",
        )
    return found


def _pages_here(path: Path, image: OmeImage, count: int) -> dict[tuple[int, ...], int]:
    """Return the pages of this file by their place along `OmeImage.axes`."""
    pages: dict[tuple[int, ...], int] = {}
    for first_page, first, planes in image.blocks:
        for k in range(planes or count - first_page):
            page, left, place = first_page + k, first + k, []
            for length in reversed(image.lengths):
                left, index = divmod(left, max(length, 1))
                place.append(index)
            if page >= count or left:
                raise ImageReadError(
                    f"{path} has metadata that name page {page} of {count} and plane "
                    f"{first + k} of {image.planes}; it is truncated, or was changed "
                    "by another program.",
                    hint="Export it again.",
                )
            pages[tuple(reversed(place))] = page
    return pages


def _series(
    path: Path,
    tiff: tifffile.TiffFile,
    image: OmeImage,
    numbers: list[int],
    kept: list[list[int]],
) -> tifffile.TiffPageSeries:
    pages = [tiff.pages[number] for number in numbers]
    first = pages[0]
    if any((p.shape, p.dtype) != (first.shape, first.dtype) for p in pages):
        raise ImageReadError(
            f"{path} holds pages of several sizes or types for one image.",
            hint="Export it again.",
        )
    return tifffile.TiffPageSeries(
        pages,
        (*map(len, kept), *first.shape),
        first.dtype,
        image.axes + first.axes,
        name=image.name,
        kind="ome",
    )


def _part_of(image: OmeImage, kept: list[list[int]]) -> OmeImage:
    """Return what OME-XML says of an image for the channels that are here."""
    names = image.channel_names
    here = kept[image.axes.index("C")]
    if len(names) == image.lengths[image.axes.index("C")]:
        names = tuple(names[k] for k in here)
    return replace(image, channel_names=names, lengths=tuple(map(len, kept)))


def choose_image(path: Path, wanted: str | None, images: Images) -> int:
    """Return the number of the image to read: the largest, or the one that is named.

    Raises
    ------
    ImageReadError
        If there is no such image, or several have that name.
    """
    if wanted is None:
        areas = [math.prod(plane_shape(series)) for series, _ in images]
        return areas.index(max(areas))
    names = [image_name(one) for one in images]
    found = [k for k, name in enumerate(names) if name.casefold() == wanted.casefold()]
    if wanted.isdecimal() and int(wanted) < len(images):
        found = [int(wanted)]
    if len(found) != 1:
        what = "several images" if found else "no image"
        raise ImageReadError(
            f"{path} has {what} {wanted!r}; it holds {listed(images)}.",
            hint="Choose one by its number, with --image.",
        )
    return found[0]


def image_name(one: tuple[tifffile.TiffPageSeries, OmeImage | None]) -> str:
    """Return the name of an image; empty if it has none."""
    series, ome = one
    return str((ome.name if ome else "") or series.name or "")


def plane_shape(series: tifffile.TiffPageSeries) -> tuple[int, int]:
    """Return height and width of the planes of a series."""
    return int(series.keyframe.imagelength), int(series.keyframe.imagewidth)


def listed(images: Images, without: int | None = None) -> str:
    """Return numbers, names and sizes of images, but for one of them."""
    texts = []
    for number, one in enumerate(images):
        height, width = plane_shape(one[0])
        name = f" {image_name(one)}" if image_name(one) else ""
        if number != without:
            texts.append(f"{number}{name} ({width} x {height} px)")
    rest = len(texts) - _MOST_LISTED
    return ", ".join(texts[:_MOST_LISTED]) + (f" and {rest} more" if rest > 0 else "")
