"""Open a TIFF: find its one image, check what it claims, describe its axes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import tifffile

from cellunet.errors import ImageReadError
from cellunet.imaging.cut import Cut
from cellunet.imaging.damage import DamageLog
from cellunet.imaging.levels import at_level, choose_level
from cellunet.imaging.reading import check_kind
from cellunet.imaging.stack import Stack
from cellunet.imaging.tiff.checks import (
    axes_and_shape,
    check_codec,
    check_pixels,
    check_series,
)
from cellunet.imaging.tiff.directories import scan_directories
from cellunet.imaging.tiff.ome import (
    imagej_channel_names,
    imagej_steps,
    refuse_entities,
    summarise_ome,
    tag_pixel_size,
)
from cellunet.imaging.tiff.piece_decoder import JPEG_COMPRESSIONS
from cellunet.imaging.tiff.segments import SeriesReader

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from cellunet.imaging.source import Choice
    from cellunet.imaging.tiff.ome import OmeSummary

_GRAY, _RGB, _PALETTE, _YCBCR = (0, 1, 4), 2, 3, 6
"""Photometric interpretations (TIFF 6.0, section 8): WhiteIsZero, BlackIsZero and the
transparency mask hold one value a pixel, red-green-blue, palette, YCbCr."""
_ALPHA = (1, 2)
"""Extra samples that are opacity, associated or not (TIFF 6.0, section 18)."""


@dataclass
class OpenTiff:
    """The one image of a TIFF file."""

    tiff: tifffile.TiffFile
    """The file; may be closed, and opens again at the first read."""
    reader: SeriesReader
    """Reads its stored planes."""
    stack: Stack
    """Its axes."""
    palette: npt.NDArray[np.uint8] | None
    """Red, green and blue by value, shape (values, 3)."""
    pixel_size_um: tuple[float, float] | None
    """Height and width of a pixel."""
    steps: tuple[float | None, float | None]
    """Micrometres along Z and seconds along T from one plane to the next."""
    log: DamageLog
    """Told of what cannot be read."""
    cut_from: Cut | None = None
    """The field that it was cut from, if it says so."""

    def pixels(
        self, plane: int, rows: tuple[int, int], columns: tuple[int, int]
    ) -> npt.NDArray[Any]:
        """Return the rectangle of a stored plane, shape (height, width, samples)."""
        if self.tiff.filehandle.closed:
            self.tiff.filehandle.open()
        values = self.reader.read(plane, rows, columns)
        if self.palette is None:
            return values
        coloured: npt.NDArray[np.uint8] = self.palette[values[..., 0]]
        return coloured

    def close(self) -> None:
        """Close the file and forget what was decoded."""
        self.reader.clear()
        self.tiff.close()


def open_series(path: Path, choice: Choice) -> OpenTiff:
    """Open the image of a TIFF file; afterwards the file is closed until it is read.

    Raises
    ------
    ImageReadError
        If the file is not a TIFF of one image, claims what it cannot hold, or has no
        such level; tifffile's own errors pass.
    """
    size = check_kind(path, "TIFF")
    scan_directories(path, size)
    log = DamageLog(path, keep_going=choice.keep_going)
    # A set of several files is recognised and refused here, never assembled.
    with tifffile.TiffFile(path, _multifile=False) as tiff:
        refuse_entities(path, tiff.pages.first.description)
        xml = tiff.ome_metadata if tiff.is_ome else None
        ome = summarise_ome(path, xml, size) if xml else None
        full = _only_series(path, tiff, ome)
        shapes = [_plane_shape(level) for level in full.levels]
        number = choose_level(path, choice.level, shapes)
        series = full.levels[number]
        check_pixels(path, series.keyframe)
        check_codec(path, series.keyframe)
        reader = SeriesReader(path, series, log)
        check_series(path, series, reader, size, keep_going=choice.keep_going)
        cut = Cut.from_text(tiff.pages.first.description, path)
        stack, palette = _describe(path, series, ome, cut)
        from_tags = tag_pixel_size(full.keyframe, tiff.imagej_metadata)
    pixel_size = (ome.pixel_size_um if ome else None) or from_tags
    if number and pixel_size is not None:
        pixel_size = at_level(shapes[0], shapes[number], pixel_size)
    steps = ome.steps if ome else imagej_steps(tiff.imagej_metadata or {})
    return OpenTiff(tiff, reader, stack, palette, pixel_size, steps, log, cut)


def _plane_shape(series: tifffile.TiffPageSeries) -> tuple[int, int]:
    """Return height and width of the planes of a series."""
    return int(series.keyframe.imagelength), int(series.keyframe.imagewidth)


def _only_series(
    path: Path, tiff: tifffile.TiffFile, ome: OmeSummary | None
) -> tifffile.TiffPageSeries:
    """Return the file's image, smaller copies and thumbnails left aside."""
    # Since tifffile 2026.5.2 a series is asked for with its axes of length 1.
    every = tiff.series(squeeze=False) if callable(tiff.series) else tiff.series
    images = [s for s in every if not s.keyframe.is_reduced] or every
    if len(images) != 1:
        listed = "; ".join(f"{s.axes} {_lengths(s.shape)}" for s in images[:4])
        raise ImageReadError(
            f"{path} holds {len(images)} images ({listed}); cellunet reads one a file.",
            hint="Save each image as a file of its own.",
        )
    series = images[0]
    claimed, kinds = _claim(tiff, ome)
    if series.is_multifile or (claimed > 1 and series.kind not in kinds):
        raise ImageReadError(
            f"{path} has metadata of {claimed} planes that do not fit the "
            f"{len(tiff.pages)} pages in it; it is truncated, part of a set of files, "
            "or was changed by another program.",
            hint="Save it again as a single OME-TIFF or plain TIFF.",
        )
    return series


def _claim(tiff: tifffile.TiffFile, ome: OmeSummary | None) -> tuple[int, list[str]]:
    """Return the planes that metadata claim, and the kinds of series that honour it.

    Where tifffile cannot match metadata and pages it falls back to the bare pages,
    and what was a channel would silently become one more field of view.
    """
    if ome is not None:
        return ome.planes, ["ome", "mmstack"]
    if tiff.imagej_metadata is not None:
        keys = ("frames", "slices", "channels")
        planes = math.prod(int(tiff.imagej_metadata.get(k, 1)) for k in keys)
        return planes, ["imagej", "mmstack"]
    return (2, ["shaped"]) if tiff.is_shaped else (1, [])


def _describe(
    path: Path,
    series: tifffile.TiffPageSeries,
    ome: OmeSummary | None,
    cut: Cut | None,
) -> tuple[Stack, npt.NDArray[np.uint8] | None]:
    """Return what the axes and samples of a series mean, and its palette."""
    page, imagej = series.keyframe, series.keyframe.parent.imagej_metadata
    axes, shape = axes_and_shape(series)
    if axes.endswith("XC"):
        # Interleaved samples under another letter.
        axes = axes[:-1] + "S"
    photometric = int(page.photometric)
    if page.dtype.kind not in "buif":
        raise ImageReadError(f"{path} holds {page.dtype} values, not intensities.")
    palette = None
    if photometric == _PALETTE and imagej is None:
        palette = (page.colormap >> 8).astype(np.uint8).T
        axes, shape = axes.removesuffix("S"), shape[: len(axes.removesuffix("S"))]
        axes, shape = axes + "S", (*shape, 3)
    elif photometric == _YCBCR and page.compression not in JPEG_COMPRESSIONS:
        photometric = -1
    if photometric not in (*_GRAY, _RGB, _PALETTE, _YCBCR):
        name = getattr(page.photometric, "name", page.photometric)
        raise ImageReadError(
            f"{path} is stored in the colour space {name}; cellunet reads gray, RGB "
            "and palette images.",
            hint="Export it as RGB or gray TIFF.",
        )
    names = imagej_channel_names(imagej) if imagej else ()
    if cut is not None:
        names = cut.channel_names
        axes = _axes_of_crop(path, cut, axes, shape)
    stack = Stack(
        path,
        axes,
        tuple(int(n) for n in shape),
        colour=palette is not None
        or (photometric in (_RGB, _YCBCR) and page.samplesperpixel >= 3),
        alpha=page.samplesperpixel > 1
        and page.extrasamples[-1:] in [(a,) for a in _ALPHA],
        channel_names=ome.channel_names if ome else names,
    )
    return stack, palette


def _axes_of_crop(path: Path, cut: Cut, axes: str, shape: tuple[int, ...]) -> str:
    """Return the axes of a crop: its pages are the channels that its record names."""
    if not cut.further:
        return axes
    count = len(cut.channel_names)
    if not axes.startswith(("IYX", "QYX")) or shape[0] != count:
        raise ImageReadError(
            f"{path} was cut by cellunet from {count} channels "
            f"({', '.join(cut.channel_names)}), but does not hold a page of each.",
            hint="Cut it again, or save it anew as plain TIFF.",
        )
    return "C" + axes[1:]


def _lengths(shape: tuple[int, ...]) -> str:
    return " x ".join(str(n) for n in shape)
