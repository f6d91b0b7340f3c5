"""Read PNG and JPEG, which are decoded whole; write PNG.

JPEG is for pictures that people draw annotations on.
"""

from __future__ import annotations

import math
import struct
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import imagecodecs
import numpy as np

from cellunet.errors import ImageReadError
from cellunet.io.axes import Stack, choose_level, combine, lay_out
from cellunet.io.decoding import JPEG, PNG, decode_file, isolated_bytes
from cellunet.io.files import write_atomically
from cellunet.io.source import (
    Origin,
    SinglePlane,
    check_claim,
    check_kind,
    check_piece,
    memory_note,
    reading,
)

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from cellunet.io.axes import PlaneLayout
    from cellunet.io.decoding import Codec
    from cellunet.io.source import PlaneChoice, Region

DEFLATE_RATIO = 1040
"""Most bytes that a byte of deflated PNG data can stand for (zlib: 1032)."""

_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Samples a pixel by color type (PNG specification, 11.2.1); 3 is a palette."""

ALTERED = (
    "JPEG has altered the intensities: fine structure and measurements are "
    "inaccurate; if there is an original, save it as TIFF"
)
"""What is told of every JPEG."""

_MODES = {"L": 1, "RGB": 3}
"""Samples a pixel by what Pillow calls the colors of a JPEG."""

_ORIENTATION = 0x0112
"""Exif tag; 1: as stored."""


class PictureSource(SinglePlane):
    """One PNG or JPEG as a `cellunet.io.source.Source`; it is decoded as a whole.

    What it says of sizes speaks of print and screens and is ignored, so
    `pixel_size_um` is None.
    """

    def __init__(
        self,
        path: Path,
        layout: PlaneLayout,
        dtype: np.dtype[Any],
        codec: Codec,
        origin: Origin,
    ) -> None:
        self.path, self._codec = path, codec
        self.shape = layout.shape
        self.dtype = np.dtype(np.float32) if layout.gray else dtype
        self.channels = layout.channels
        self.channel_names = layout.channel_names
        self.file_channels = layout.file_channels
        self.origin = replace(origin, notes=(*origin.notes, *layout.notes))
        samples = max(k for _, k in layout.parts) + 1
        values = math.prod(self.shape) * samples
        self._decoded_bytes = values * dtype.itemsize
        # The file, its decoded samples, and the channels made of them.
        plane = self.channels * math.prod(self.shape) * self.dtype.itemsize
        size = path.stat().st_size
        self._held = size + self._decoded_bytes + plane
        self._held += isolated_bytes(codec, size, self._decoded_bytes)
        self.memory_note = memory_note(path, self._decoded_bytes, self._held)
        self._layout = layout
        self._plane: npt.NDArray[Any] | None = None

    def read(self, region: Region) -> npt.NDArray[Any]:
        """Return a region; see `cellunet.io.source.Source`."""
        region.check(self.shape, 1)
        if self._plane is None:
            with reading(self.path):
                pixels = _decoded(self.path, self._codec, self._decoded_bytes)
                samples = [k for _, k in self._layout.parts]
                parts = [pixels[..., k] for k in samples]
                self._plane = combine(parts, self._layout.gray)
        part = self._plane[..., region.y0 : region.y1, region.x0 : region.x1]
        return part.reshape(self.channels, *region.shape).copy()

    def held_bytes(self, rows: int) -> int:
        """Return what reading holds; see `cellunet.io.source.Source`."""
        del rows
        return self._held

    def close(self) -> None:
        """Forget the decoded image."""
        self._plane = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_plane": None}


def open_png(path: Path, choice: PlaneChoice) -> PictureSource:
    """Read the header of a PNG.

    Raises
    ------
    ImageReadError
        If the file is not a PNG, is damaged, or a channel must be chosen.
    """
    with reading(path):
        size = check_kind(path, "PNG")
        return _open_picture(path, choice, PNG, _header(path, size), Origin())


def open_jpeg(path: Path, choice: PlaneChoice) -> PictureSource:
    """Read the header of a JPEG of 8 bits.

    Raises
    ------
    ImageReadError
        If the file is not a JPEG, is damaged, turned by its Exif tag or neither gray
        nor RGB, or if a channel must be chosen.
    """
    # Pillow takes a while to load, and no other image needs it.
    from PIL.JpegImagePlugin import JpegImageFile

    with reading(path):
        check_kind(path, "JPEG")
        # `Image.open` would refuse large pictures, whose pixels are not read here.
        with JpegImageFile(path) as image:
            (width, height), mode = image.size, image.mode
            turned = image.getexif().get(_ORIENTATION, 1) != 1
        if mode not in _MODES or turned:
            what = "is turned by its Exif tag" if turned else f"holds {mode} colors"
            raise ImageReadError(
                f"{path} {what}; cellunet reads gray and RGB as they are stored.",
                hint="Save it again with an image viewer; better, export the original "
                "as TIFF.",
            )
        header = (height, width), _MODES[mode], np.dtype(np.uint8)
        return _open_picture(path, choice, JPEG, header, Origin(notes=(ALTERED,)))


def _open_picture(
    path: Path,
    choice: PlaneChoice,
    codec: Codec,
    header: tuple[tuple[int, int], int, np.dtype[Any]],
    origin: Origin,
) -> PictureSource:
    """Open a file of one picture.

    Parameters
    ----------
    path
        The file.
    choice
        What the user wants of it.
    codec
        What decodes it.
    header
        Height and width, samples a pixel, and their type, as its header says.
    origin
        What to tell of it.

    Raises
    ------
    ImageReadError
        If it is too large, or a channel must be chosen.
    """
    shape, samples, dtype = header
    choose_level(path, choice.level, [shape])
    decoded = math.prod(shape) * samples * dtype.itemsize
    check_piece(path, decoded, choice.limit_bytes)
    stack = Stack(
        path,
        axes="YXS",
        shape=(*shape, samples),
        color=samples >= 3,
        alpha=samples in (2, 4),
    )

    def colors() -> list[npt.NDArray[Any]]:
        return list(np.moveaxis(_decoded(path, codec, decoded)[..., :3], -1, 0))

    layout = lay_out(stack, choice, colors)
    return PictureSource(path, layout, dtype, codec, origin)


def _header(path: Path, size: int) -> tuple[tuple[int, int], int, np.dtype[Any]]:
    """Return (height, width), samples and dtype after decoding, all checked."""
    with path.open("rb") as file:
        head = file.read(33)
    if len(head) < 33 or head[12:16] != b"IHDR":
        raise ImageReadError(
            f"{path} is truncated: {size} bytes, and no complete PNG header.",
            hint="Copy or export it again.",
        )
    width, height, bits, color = struct.unpack(">IIBB", head[16:26])
    if not width or not height or color not in _SAMPLES or bits not in (1, 2, 4, 8, 16):
        raise ImageReadError(
            f"{path} has an impossible PNG header: {width} x {height} pixels, {bits} "
            f"bits, color type {color}.",
            hint="Export it again.",
        )
    stored = height * math.ceil(width * bits * _SAMPLES[color] / 8)
    check_claim(path, stored, size, DEFLATE_RATIO)
    samples = 3 if color == 3 else _SAMPLES[color]
    dtype = np.dtype(np.uint16 if bits == 16 else np.uint8)
    return (height, width), samples, dtype


def _decoded(path: Path, codec: Codec, decoded_bytes: int) -> npt.NDArray[Any]:
    """Return all pixels, shape (height, width, samples); palettes become colors."""
    pixels = decode_file(codec, path.read_bytes(), decoded_bytes)
    return pixels[..., np.newaxis] if pixels.ndim == 2 else pixels


def write_png(path: Path, pixels: npt.NDArray[Any]) -> None:
    """Write a PNG that appears only when it is complete.

    Parameters
    ----------
    path
        Where it is to appear.
    pixels
        YX in uint8 or uint16, or YXC with 3 (red, green, blue) or 4 (and alpha)
        channels in uint8.

    Raises
    ------
    OutputError
        If there is no room or no permission.
    """
    encoded = imagecodecs.png_encode(np.ascontiguousarray(pixels))
    with write_atomically(path) as temporary:
        temporary.write_bytes(encoded)
