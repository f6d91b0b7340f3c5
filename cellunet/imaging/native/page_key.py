"""What says that two processes speak of the same page of a TIFF."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tifffile

_NAMES = (
    *("imagewidth", "imagelength", "rowsperstrip", "tilewidth", "tilelength"),
    *("tiledepth", "compression", "predictor", "fillorder", "photometric"),
    *("planarconfig", "bitspersample", "sampleformat", "samplesperpixel"),
)


def page_key(page: tifffile.TiffPage) -> str:
    """Return everything that decides how the pieces of a page are decoded."""
    values = (getattr(page, name) for name in _NAMES)
    return repr([tuple(v) if isinstance(v, tuple) else int(v or 0) for v in values])
