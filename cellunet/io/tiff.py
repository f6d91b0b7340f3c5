"""Read TIFF, OME-TIFF, ImageJ TIFF and BigTIFF by region.

Of several images in a file the largest is read by default, so that a converter's
smaller copies and a scanner's thumbnail, macro and label are left aside; any of them is
read by number or name.

Values are returned as they are stored. A file marked WhiteIsZero is not inverted,
because ImageJ marks images so that are merely shown with an inverting look-up table. A
palette (TIFF 6.0, section 5) turns stored values into red, green and blue, unless it is
a ramp from black to one hue: programs of microscopes store a channel's display color
so, and the value is the intensity.
"""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import tifffile

from cellunet.errors import ImageReadError
from cellunet.io import tiff_checks, tiff_pixels
from cellunet.io.axes import (
    COLORS,
    Stack,
    at_level,
    choose_image,
    choose_level,
    level_note,
    note_on_others,
)
from cellunet.io.crops import CropMetadata
from cellunet.io.metadata import (
    TiffImage,
    describe,
    imagej_planes,
    imagej_steps,
    refuse_entities,
    summarize_ome,
)
from cellunet.io.source import Origin, check_kind, memory_note, reading
from cellunet.io.stacks import RowWindow, StackSource

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cellunet.io.metadata import Metadata, OmeImage, OmeSummary
    from cellunet.io.source import DamageLog, PlaneChoice, Region
    from cellunet.io.stacks import Span

TOLERANCE = 0.02
"""Share of the full range by which entries may lie off a line: 8-bit steps, rounded."""


def is_ramp(colormap: npt.NDArray[Any]) -> bool:
    """Return whether a palette is a ramp of one hue, rising or falling.

    Parameters
    ----------
    colormap
        Red, green and blue of each value, shape (3, values).

    Examples
    --------
    >>> blue = np.zeros((3, 256))
    >>> blue[2] = np.arange(256) * 257
    >>> is_ramp(blue), is_ramp(blue[:, ::-1]), is_ramp(np.sqrt(blue))
    (True, True, False)
    """
    table = np.asarray(colormap, np.float64)
    if table[:, 0].sum() > table[:, -1].sum():
        table = table[:, ::-1]
    hue = table[:, -1]
    if table.shape[1] < 2 or not hue.any():
        return False
    line = hue[:, np.newaxis] * np.linspace(0.0, 1.0, table.shape[1])
    return bool(np.abs(table - line).max() <= TOLERANCE * hue.max())


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
    images = [_ndtiff_here(path, s) if s.is_multifile else s for s in images]
    for series in images:
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


def _ndtiff_here(
    path: Path, series: tifffile.TiffPageSeries
) -> tifffile.TiffPageSeries:
    """Return the planes of an NDTiff data set that one of its files holds.

    Raises
    ------
    ImageReadError
        Unless they are whole axes of the set.
    """
    lengths = series.shape[: len(series.shape) - len(series.keyframe.shape)]
    pages = {
        place: page
        for place, page in zip(np.ndindex(*lengths), series.pages, strict=True)
        if page is not None and page.parent.filename == path.name
    }
    kept = [sorted({place[k] for place in pages}) for k in range(len(lengths))]
    places = list(product(*kept))
    if not pages or set(places) != set(pages):
        raise ImageReadError(
            f"{path} is one of several files of an NDTiff data set, and holds "
            f"{len(pages)} of its {math.prod(lengths)} planes, but neither whole "
            "channels, nor whole Z or T.",
            hint="Save the set as one OME-TIFF, in Micro-Manager or by tifffile: "
            "tifffile.TiffFile(FILE).series[0] of any of its files is the whole set.",
        )
    own = [pages[place] for place in places]
    return tifffile.TiffPageSeries(
        own,
        (*map(len, kept), *series.keyframe.shape),
        series.dtype,
        series.axes,
        name=series.name,
        kind=series.kind,
        multifile=True,
    )


def _claim(tiff: tifffile.TiffFile, ome: OmeSummary | None) -> tuple[int, list[str]]:
    """Return the planes that metadata claim, and the kinds of series that honor it.

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
        and software.startswith(tiff_checks.BIO_FORMATS.decode())
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


def image_name(one: tuple[tifffile.TiffPageSeries, OmeImage | None]) -> str:
    """Return the name of an image; empty if it has none."""
    series, ome = one
    return str((ome.name if ome else "") or series.name or "")


def plane_shape(series: tifffile.TiffPageSeries) -> tuple[int, int]:
    """Return height and width of the planes of a series."""
    return int(series.keyframe.imagelength), int(series.keyframe.imagewidth)


_GRAY, _RGB, _PALETTE, _YCBCR = (0, 1, 4), 2, 3, 6
"""Photometric interpretations (TIFF 6.0, section 8): WhiteIsZero, BlackIsZero and the
transparency mask hold one value a pixel, red-green-blue, palette, YCbCr."""

_AS_COLOR = (
    "its 3 planes are read as red, green and blue, as requested; a stack that "
    "tifffile stored as planar color is read without --gray and --channel"
)

_SEPARATE = 2
"""Planar configuration (TIFF 6.0, section 8): each sample in a plane of its own."""

_ALPHA = (1, 2)
"""Extra samples that are opacity, associated or not (TIFF 6.0, section 18)."""


@dataclass
class OpenTiff:
    """One image of a TIFF file."""

    tiff: tifffile.TiffFile
    """The file; may be closed, and opens again at the first read."""
    reader: tiff_pixels.SeriesReader
    """Reads its stored planes."""
    stack: Stack
    """Its axes."""
    palette: npt.NDArray[np.uint8] | None
    """Red, green and blue by value, shape (values, 3)."""
    pixel_size_um: tuple[float, float] | None
    """Height and width of a pixel."""
    steps: tuple[float | None, float | None]
    """Micrometers along Z and seconds along T from one plane to the next."""
    origin: Origin
    """What else the file tells of the image."""
    cut_from: CropMetadata | None = None
    """The field that it was cut from, if it says so."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of what `pixels` returns."""
        made = self.palette is not None or self.reader.dtype == np.bool_
        return np.dtype(np.uint8) if made else self.reader.dtype

    def pixels(
        self, plane: int, rows: tuple[int, int], columns: tuple[int, int]
    ) -> npt.NDArray[Any]:
        """Return the rectangle of a stored plane, shape (height, width, samples)."""
        if self.tiff.filehandle.closed:
            self.tiff.filehandle.open()
        values = self.reader.read(plane, rows, columns)
        if self.palette is None:
            return values
        colored: npt.NDArray[np.uint8] = self.palette[values[..., 0]]
        return colored

    def close(self) -> None:
        """Close the file and forget what was decoded."""
        self.reader.clear()
        self.tiff.close()


def open_series(path: Path, choice: PlaneChoice, log: DamageLog) -> OpenTiff:
    """Open an image of a TIFF file; afterwards the file is closed until it is read.

    Parameters
    ----------
    path
        The file.
    choice
        What the user wants of it.
    log
        Told of what cannot be read.

    Raises
    ------
    ImageReadError
        If the file is not a TIFF, claims what it cannot hold, or has no such image or
        level; tifffile's own errors pass.
    """
    with _images(path) as (tiff, size, ome, images):
        named = [(image_name(one), plane_shape(one[0])) for one in images]
        chosen = choose_image(path, choice.image, named)
        full, own = images[chosen]
        shapes = [plane_shape(level) for level in full.levels]
        number = choose_level(path, choice.level, shapes)
        series = full.levels[number]
        reader = tiff_pixels.SeriesReader(path, series, log)
        reader.check(size, choice)
        cut = CropMetadata.from_text(tiff.pages.first.description, path)
        image = TiffImage(path, tiff, full, own, split=is_split(tiff))
        metadata = describe(image)
        steps = own.steps if own else imagej_steps(tiff.imagej_metadata or {})
        planes = may_be_planes(image, asked=choice.pages is not None)
        as_color = planes and _asks_for_color(series.keyframe, choice)
        stack, palette = _describe(
            image, series, metadata.channel_names, cut, planes=planes and not as_color
        )
    size_um, origin = _origin(metadata, images, chosen, ome, image)
    if as_color:
        origin = replace(origin, notes=(*origin.notes, _AS_COLOR))
    if choice.image is None and len(images) > 1:
        origin = replace(origin, notes=(note_on_others(named, chosen), *origin.notes))
    if number:
        full_px = at_level(shapes[0], shapes[number], (1.0, 1.0))
        told = (*origin.notes, level_note(number, full_px))
        origin = replace(origin, full_px=full_px, notes=told)
        if size_um is not None:
            size_um = size_um[0] * full_px[0], size_um[1] * full_px[1]
    return OpenTiff(tiff, reader, stack, palette, size_um, steps, origin, cut)


def image_names(path: Path) -> list[str]:
    """Return the names of the images of a TIFF, as `PlaneChoice.image` numbers them.

    Raises
    ------
    ImageReadError
        As `open_series`.
    """
    with _images(path) as (_, _, _, images):
        return [image_name(one) for one in images]


@contextlib.contextmanager
def _images(
    path: Path,
) -> Iterator[tuple[tifffile.TiffFile, int, OmeSummary | None, Images]]:
    """Open a TIFF that was checked; give it, its bytes, its OME-XML and its images."""
    size = check_kind(path, "TIFF")
    tiff_checks.scan_directories(path, size)
    # A set of several files is recognized, never assembled.
    with tifffile.TiffFile(path, _multifile=False) as tiff:
        refuse_entities(path, tiff.pages.first.description)
        xml = tiff.ome_metadata if tiff.is_ome else None
        ome = summarize_ome(path, xml, size) if xml else None
        yield tiff, size, ome, find_images(path, tiff, ome)


def _origin(
    metadata: Metadata,
    images: Images,
    chosen: int,
    ome: OmeSummary | None,
    image: TiffImage,
) -> tuple[tuple[float, float] | None, Origin]:
    """Return the size of a pixel, and what else to tell of an image."""
    size, notes = metadata.pixel_size_um, list(metadata.notes)
    larger = _smaller_copy_of(images, chosen)
    if size is not None and larger is not None:
        size = None
        notes.append(
            f"no pixel size: image {chosen} is a smaller copy of image {larger}, but "
            "has the same pixel size in its metadata"
        )
    if ome is not None and ome.files > 1:
        notes.append(f"one of {ome.files} files of an OME-TIFF set, read by itself")
    if images[chosen][0].is_multifile:
        notes.append("one of several files of an NDTiff data set, read by itself")
    if image.split:
        notes.append("one part of an image that was split into files, read by itself")
    origin = Origin(
        pixel_size_from=metadata.pixel_size_from if size is not None else "",
        image=str(chosen) if len(images) > 1 else "",
        position=metadata.position,
        acquired=metadata.acquired,
        notes=tuple(notes),
    )
    return size, origin


def _smaller_copy_of(images: Images, chosen: int) -> int | None:
    """Return the image of which another is a pyramid level with a wrong pixel size.

    Bio-Formats' converter makes images of levels, and gives each the size of the first.
    """
    own, (height, width) = images[chosen][1], plane_shape(images[chosen][0])
    for number, (series, other) in enumerate(images):
        if own is None or other is None or number == chosen:
            continue
        rows, columns = plane_shape(series)
        factor = round(rows / height)
        if (
            factor > 1
            and abs(rows - factor * height) < factor
            and abs(columns - factor * width) < factor
            and other.pixel_size_um == own.pixel_size_um
        ):
            return number
    return None


def _describe(
    image: TiffImage,
    series: tifffile.TiffPageSeries,
    channel_names: tuple[str, ...],
    cut: CropMetadata | None,
    *,
    planes: bool,
) -> tuple[Stack, npt.NDArray[np.uint8] | None]:
    """Return what the axes and samples of a series mean, and its palette."""
    path, page = image.path, series.keyframe
    axes, shape = tiff_pixels.axes_and_shape(series)
    if axes.endswith("XC"):
        # Interleaved samples under another letter.
        axes = axes[:-1] + "S"
    if page.dtype.kind not in "buif":
        raise ImageReadError(f"{path} holds {page.dtype} values, not intensities.")
    palette = None
    if makes_colors(image):
        # Some programs write 8 bits, where TIFF 6.0 has 16: libtiff's test for it.
        shift = 8 if page.colormap.max() > 255 else 0
        palette = (page.colormap >> shift).astype(np.uint8).T
        axes, shape = axes.removesuffix("S"), shape[: len(axes.removesuffix("S"))]
        axes, shape = axes + "S", (*shape, 3)
    if planes:
        axes = axes.replace("S", "Q")
    _check_colors(path, page)
    if cut is not None:
        channel_names = cut.channel_names
        axes = _axes_of_crop(path, cut, axes, shape)
    rgb = int(page.photometric) in (_RGB, _YCBCR) and page.samplesperpixel >= 3
    stack = Stack(
        path,
        axes,
        tuple(int(n) for n in shape),
        color=palette is not None or (rgb and not planes and "S" in axes),
        indexed=palette is not None,
        alpha=page.samplesperpixel > 1
        and page.extrasamples[-1:] in [(a,) for a in _ALPHA],
        channel_names=channel_names,
        names_first=cut is not None,
    )
    return stack, palette


def makes_colors(image: TiffImage) -> bool:
    """Say whether the palette of an image makes colors, or only displays intensities.

    ImageJ marks pictures in indexed color; all its other palettes are for display, as
    are those in files whose OME-XML tells of one sample a pixel, and ramps of one hue.
    """
    if int(image.page.photometric) != _PALETTE:
        return False
    imagej = image.tiff.imagej_metadata
    if imagej is not None and "8bitcolor" in imagej:
        return True
    if imagej is not None or (image.ome is not None and image.ome.samples == 1):
        return False
    colormap = image.page.colormap
    return colormap is not None and not is_ramp(colormap)


def may_be_planes(image: TiffImage, *, asked: bool = False) -> bool:
    """Say whether what is stored as planar color are planes of a stack.

    tifffile stores an array of 3 or 4 planes as planar color unless it is told not to;
    its description tells the shape of the array. Color of 8 bits may be color, unless
    it is `asked` for that they are planes.
    """
    page = image.page
    return (
        int(page.planarconfig or 1) == _SEPARATE
        and image.series.axes.endswith("SYX")
        and (asked or (image.series.kind == "shaped" and page.dtype != np.uint8))
    )


def _asks_for_color(page: tifffile.TiffPage, choice: PlaneChoice) -> bool:
    """Say whether the user takes three planes for red, green and blue."""
    named = (choice.channel or "").casefold() in COLORS
    return page.samplesperpixel == len(COLORS) and (choice.gray or named)


def _check_colors(path: Path, page: tifffile.TiffPage) -> None:
    photometric = int(page.photometric)
    if photometric == _YCBCR and page.compression not in tiff_pixels.JPEG_COMPRESSIONS:
        photometric = -1
    if photometric not in (*_GRAY, _RGB, _PALETTE, _YCBCR):
        name = getattr(page.photometric, "name", page.photometric)
        raise ImageReadError(
            f"{path} is stored in the color space {name}; cellunet reads gray, RGB "
            "and palette images.",
            hint="Export it as RGB or gray TIFF.",
        )


def _axes_of_crop(
    path: Path, cut: CropMetadata, axes: str, shape: tuple[int, ...]
) -> str:
    """Return the axes of a crop: its pages are the channels that its record names."""
    count = len(cut.channels)
    if count == 1:
        return axes
    if not axes.startswith(("IYX", "QYX")) or shape[0] != count:
        raise ImageReadError(
            f"{path} was cut by cellunet from {count} channels "
            f"({', '.join(cut.channel_names)}), but does not hold a page of each.",
            hint="Cut it again, or save it anew as plain TIFF.",
        )
    return "C" + axes[1:]


LARGEST_WINDOW_PX = 1024
"""Side of the network's windows (`cellunet.imaging.blocks.LARGEST_PX`)."""


class TiffSource(StackSource):
    """One TIFF file as a `cellunet.io.source.Source`.

    Made by `open_tiff`. The file is closed until the first `read`.
    """

    def __init__(self, path: Path, choice: PlaneChoice) -> None:
        super().__init__(path, choice)
        file = open_series(path, choice, self._log)
        self._file: OpenTiff | None = file
        try:
            self._take(file.stack, file.dtype)
        finally:
            file.close()
        layout = self._layout
        self.pixel_size_um = file.pixel_size_um
        self.z_step_um, self.time_step_s = file.steps
        told = (*file.origin.notes, *layout.notes)
        self.origin = replace(
            file.origin,
            pages=layout.pages,
            notes=told,
            projected=layout.projected[0],
        )
        cut = file.cut_from
        # Each of several channels of a crop is a stored plane.
        self.cut_from = cut and cut.only([plane for plane, _ in layout.parts])
        file.reader.planes_read = tiff_pixels.stored_planes(layout)
        held = tiff_pixels.held_bytes(
            file.reader, layout, self.dtype, LARGEST_WINDOW_PX
        )
        self.memory_note = memory_note(path, file.reader.piece_bytes, held)
        self._window: RowWindow | None = None

    def read(self, region: Region) -> npt.NDArray[Any]:
        """Return a region; see `cellunet.io.source.Source`."""
        region.check(self.shape, self._layout.planes)
        rows, columns = (region.y0, region.y1), (region.x0, region.x1)
        with reading(self.path):
            reader = self._opened().reader
            if not tiff_pixels.shares_rows(reader, self._layout):
                return self._pixels(region.plane, rows, columns)
            if self._window is None:
                self._window = RowWindow(
                    self.shape, tiff_pixels.step_rows(reader), self._pixels
                )
            return self._window.read(region.plane, rows, columns)

    def held_bytes(self, rows: int) -> int:
        """Return what reading holds; see `cellunet.io.source.Source`."""
        with reading(self.path):
            reader = self._opened().reader
            return tiff_pixels.held_bytes(reader, self._layout, self.dtype, rows)

    def _stored(self, plane: int, rows: Span, columns: Span) -> npt.NDArray[Any]:
        return self._opened().pixels(plane, rows, columns)

    def _opened(self) -> OpenTiff:
        """Return the file, after pickling opened anew."""
        if self._file is None:
            file = open_series(self.path, self._choice, self._log)
            if (file.stack, file.dtype) != (self._stack, self._stored_dtype):
                raise self._has_changed()
            file.reader.planes_read = tiff_pixels.stored_planes(self._layout)
            self._file = file
        return self._file

    def close(self) -> None:
        """Close the file and forget what was decoded; `read` opens it again."""
        if self._file is not None:
            self._file.close()
        self._window = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_file": None, "_window": None}


def open_tiff(path: Path, choice: PlaneChoice) -> TiffSource:
    """Read the metadata of a TIFF and check what it claims.

    Raises
    ------
    ImageReadError
        If the file is not a TIFF, is damaged, truncated or of a kind that is not
        known, or if a channel must be chosen.
    """
    with reading(path):
        return TiffSource(path, choice)
