"""Open a TIFF: choose an image, check what it claims, describe its axes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import tifffile

from cellunet.errors import ImageReadError
from cellunet.imaging.channels import COLOURS
from cellunet.imaging.cut import Cut
from cellunet.imaging.damage import DamageLog
from cellunet.imaging.levels import at_level, choose_level
from cellunet.imaging.reading import check_kind
from cellunet.imaging.source import Origin
from cellunet.imaging.stack import Stack
from cellunet.imaging.tiff.checks import (
    axes_and_shape,
    check_codec,
    check_pixels,
    check_series,
)
from cellunet.imaging.tiff.directories import scan_directories
from cellunet.imaging.tiff.images import (
    choose_image,
    find_images,
    image_name,
    is_split,
    listed,
    plane_shape,
)
from cellunet.imaging.tiff.makers import TiffImage, describe
from cellunet.imaging.tiff.ome import imagej_steps, refuse_entities, summarise_ome
from cellunet.imaging.tiff.palette import is_ramp
from cellunet.imaging.tiff.piece_decoder import JPEG_COMPRESSIONS
from cellunet.imaging.tiff.segments import SeriesReader

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from cellunet.imaging.source import Choice
    from cellunet.imaging.tiff.images import Images
    from cellunet.imaging.tiff.makers import Metadata
    from cellunet.imaging.tiff.ome import OmeSummary

_GRAY, _RGB, _PALETTE, _YCBCR = (0, 1, 4), 2, 3, 6
"""Photometric interpretations (TIFF 6.0, section 8): WhiteIsZero, BlackIsZero and the
transparency mask hold one value a pixel, red-green-blue, palette, YCbCr."""
_AS_COLOR = (
    "its 3 planes are taken for red, green and blue, as is asked for; a stack that "
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
    origin: Origin
    """What else the file tells of the image."""
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
    """Open an image of a TIFF file; afterwards the file is closed until it is read.

    Raises
    ------
    ImageReadError
        If the file is not a TIFF, claims what it cannot hold, or has no such image or
        level; tifffile's own errors pass.
    """
    size = check_kind(path, "TIFF")
    scan_directories(path, size)
    log = DamageLog(path, keep_going=choice.keep_going)
    # A set of several files is recognised, never assembled.
    with tifffile.TiffFile(path, _multifile=False) as tiff:
        refuse_entities(path, tiff.pages.first.description)
        xml = tiff.ome_metadata if tiff.is_ome else None
        ome = summarise_ome(path, xml, size) if xml else None
        images = find_images(path, tiff, ome)
        chosen = choose_image(path, choice.image, images)
        full, own = images[chosen]
        shapes = [plane_shape(level) for level in full.levels]
        number = choose_level(path, choice.level, shapes)
        series = full.levels[number]
        check_pixels(path, series.keyframe)
        check_codec(path, series.keyframe)
        reader = SeriesReader(path, series, log)
        check_series(path, series, reader, size, keep_going=choice.keep_going)
        cut = Cut.from_text(tiff.pages.first.description, path)
        image = TiffImage(path, tiff, full, own, split=is_split(tiff))
        metadata = describe(image)
        steps = own.steps if own else imagej_steps(tiff.imagej_metadata or {})
        planes = may_be_planes(image)
        as_color = planes and _asks_for_color(series.keyframe, choice)
        stack, palette = _describe(
            image, series, metadata.channel_names, cut, planes=planes and not as_color
        )
    size_um, origin = _origin(metadata, images, chosen, ome, image)
    if as_color:
        origin = replace(origin, notes=(*origin.notes, _AS_COLOR))
    if choice.image is None and len(images) > 1:
        origin = replace(origin, notes=(_others(images, chosen), *origin.notes))
    if number and size_um is not None:
        size_um = at_level(shapes[0], shapes[number], size_um)
    return OpenTiff(tiff, reader, stack, palette, size_um, steps, origin, log, cut)


def image_names(path: Path) -> list[str]:
    """Return the names of the images of a TIFF file, as `Choice.image` numbers them.

    Raises
    ------
    ImageReadError
        As `open_series`.
    """
    size = check_kind(path, "TIFF")
    scan_directories(path, size)
    with tifffile.TiffFile(path, _multifile=False) as tiff:
        refuse_entities(path, tiff.pages.first.description)
        xml = tiff.ome_metadata if tiff.is_ome else None
        ome = summarise_ome(path, xml, size) if xml else None
        return [image_name(one) for one in find_images(path, tiff, ome)]


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
    if image.split:
        notes.append("one part of an image that was split into files, read by itself")
    origin = Origin(
        pixel_size_from=metadata.pixel_size_from if size is not None else "",
        image=str(chosen) if len(images) > 1 else "",
        image_name=image_name(images[chosen]),
        position=metadata.position,
        acquired=metadata.acquired,
        notes=tuple(notes),
    )
    return size, origin


def _others(images: Images, chosen: int) -> str:
    """Return what to tell of the images that are not read."""
    name = f"image {chosen} {image_name(images[chosen])}".rstrip()
    return (
        f"{name} of {len(images)} images in the file is read; the others: "
        f"{listed(images, chosen)}. Choose with --image N, NAME or all"
    )


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
    cut: Cut | None,
    *,
    planes: bool,
) -> tuple[Stack, npt.NDArray[np.uint8] | None]:
    """Return what the axes and samples of a series mean, and its palette."""
    path, page = image.path, series.keyframe
    axes, shape = axes_and_shape(series)
    if axes.endswith("XC"):
        # Interleaved samples under another letter.
        axes = axes[:-1] + "S"
    if page.dtype.kind not in "buif":
        raise ImageReadError(f"{path} holds {page.dtype} values, not intensities.")
    palette = None
    if makes_colors(image):
        palette = (page.colormap >> 8).astype(np.uint8).T
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
        colour=palette is not None or (rgb and not planes and "S" in axes),
        indexed=palette is not None,
        alpha=page.samplesperpixel > 1
        and page.extrasamples[-1:] in [(a,) for a in _ALPHA],
        channel_names=channel_names,
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


def may_be_planes(image: TiffImage) -> bool:
    """Say whether what is stored as planar color are planes of a stack.

    tifffile stores an array of 3 or 4 planes as planar color unless it is told not to;
    its description tells the shape of the array. Color of 8 bits may be color.
    """
    page = image.page
    return (
        image.series.kind == "shaped"
        and int(page.planarconfig or 1) == _SEPARATE
        and image.series.axes.endswith("SYX")
        and page.dtype != np.uint8
    )


def _asks_for_color(page: tifffile.TiffPage, choice: Choice) -> bool:
    """Say whether the user takes three planes for red, green and blue."""
    named = (choice.channel or "").casefold() in COLOURS
    return page.samplesperpixel == len(COLOURS) and (choice.gray or named)


def _check_colors(path: Path, page: tifffile.TiffPage) -> None:
    photometric = int(page.photometric)
    if photometric == _YCBCR and page.compression not in JPEG_COMPRESSIONS:
        photometric = -1
    if photometric not in (*_GRAY, _RGB, _PALETTE, _YCBCR):
        name = getattr(page.photometric, "name", page.photometric)
        raise ImageReadError(
            f"{path} is stored in the colour space {name}; cellunet reads gray, RGB "
            "and palette images.",
            hint="Export it as RGB or gray TIFF.",
        )


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
