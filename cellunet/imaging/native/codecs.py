"""Which decoders there are, and which of them run in a process of their own.

A decoder that is native code and is given bytes of others can end the process that it
runs in. `cellunet.imaging.native.isolation` runs such a one where that costs one image.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Codec:
    """How one kind of compressed bytes is decoded."""

    name: str
    """What messages call it."""
    isolated: bool
    """Whether it is decoded in a process of its own."""
    why: str
    """Why it is, or why it need not be."""
    times: int = 3
    """Memory that it takes, in sizes of the decoded pixels: measured with 2048 x 2048
    pixels of 8 bits, 1.0 to 2.1, and 6.6 for JPEG 2000."""


_LIBRARY = "a native library of many thousand lines that parses what others wrote"
_SHORT = "a short native loop; a process of its own costs less than 5 % of predict"

PNG = Codec("PNG", True, _LIBRARY)
"""Files named .png; their filters are sequential along a row, so not for numpy."""

JPEG_2000 = Codec("JPEG 2000", True, _LIBRARY, times=8)
"""Decodes to 32 bits, several times over."""

CODECS: dict[int, Codec] = {
    1: Codec("no", False, "values are copied; bits and differences have known sizes"),
    2: Codec("CCITT RLE", True, _SHORT),
    3: Codec("CCITT T.4", True, _SHORT),
    4: Codec("CCITT T.6", True, _SHORT),
    5: Codec("LZW", True, _SHORT),
    6: Codec("JPEG", True, _LIBRARY),
    7: Codec("JPEG", True, _LIBRARY),
    8: Codec("deflate", True, _LIBRARY),
    22610: Codec("JPEG XR", True, _LIBRARY),
    32773: Codec("PackBits", True, _SHORT),
    32946: Codec("deflate", True, _LIBRARY),
    33003: JPEG_2000,
    33004: JPEG_2000,
    33005: JPEG_2000,
    33007: Codec("JPEG", True, _LIBRARY),
    34712: JPEG_2000,
    34887: Codec("LERC", True, _LIBRARY),
    34892: Codec("JPEG", True, _LIBRARY),
    34925: Codec("LZMA", True, _LIBRARY),
    34926: Codec("Zstandard", True, _LIBRARY),
    34927: Codec("WebP", True, _LIBRARY),
    34933: PNG,
    34934: Codec("JPEG XR", True, _LIBRARY),
    48124: Codec("Jetraw", True, _LIBRARY),
    50000: Codec("Zstandard", True, _LIBRARY),
    50001: Codec("WebP", True, _LIBRARY),
    50002: Codec("JPEG XL", True, _LIBRARY),
    50013: Codec("deflate", True, _LIBRARY),
    52546: Codec("JPEG XL", True, _LIBRARY),
    65000: Codec("EER", True, _SHORT),
    65001: Codec("EER", True, _SHORT),
    65002: Codec("EER", True, _SHORT),
}
"""TIFF compression to its decoder, where a strip or tile is decoded whole. Where it is
decoded by rows (`cellunet.imaging.tiff.decoders`), deflate and LZMA come from the
standard library and stay in the process."""


def codec_of(compression: int) -> Codec:
    """Return the decoder of a TIFF compression; one that is not listed is isolated.

    Examples
    --------
    >>> codec_of(34712).name, codec_of(1).isolated
    ('JPEG 2000', False)
    """
    unknown = Codec(f"compression {compression}", True, "nothing is known of it")
    return CODECS.get(compression, unknown)
