"""Read JPEG, as pictures that people draw annotations on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cellunet.errors import ImageReadError
from cellunet.io.decoding import JPEG, decode_jpeg
from cellunet.io.png import PictureSource, open_picture
from cellunet.io.source import Origin, check_kind, reading

if TYPE_CHECKING:
    from pathlib import Path

    from cellunet.io.source import Choice

ALTERED = (
    "JPEG has altered the intensities: fine structure and measurements are "
    "inaccurate; if there is an original, save it as TIFF"
)
"""What is told of every JPEG."""

_SAMPLES = {"L": 1, "RGB": 3}

_ORIENTATION = 0x0112
"""Exif tag; 1: as stored."""


def open_jpeg(path: Path, choice: Choice) -> PictureSource:
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
        if mode not in _SAMPLES or turned:
            what = "is turned by its Exif tag" if turned else f"holds {mode} colors"
            raise ImageReadError(
                f"{path} {what}; cellunet reads gray and RGB as they are stored.",
                hint="Save it again with an image viewer; better, export the original "
                "as TIFF.",
            )
        return open_picture(
            path,
            choice,
            JPEG,
            decode_jpeg,
            ((height, width), _SAMPLES[mode], np.dtype(np.uint8)),
            Origin(notes=(ALTERED,)),
        )
