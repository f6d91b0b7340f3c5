"""How much of each thing fits into a bound on memory.

The network's window is fixed, since results depend on it in their last bits; what is
left is shared out between the tiles of decoding, the bands of rows that are handed on,
and what waits in the scratch before it goes to the disk. None of these changes a label.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from cellunet.config import PredictConfig
from cellunet.errors import ConfigError
from cellunet.imaging.blocks import network_plan
from cellunet.io import label_tiff as sink
from cellunet.io.scratch import MEMORY_BYTES

if TYPE_CHECKING:
    from cellunet.config import UNetConfig

MEGABYTE = 1_000_000

PROGRAM_BYTES = 150 * MEGABYTE
"""The interpreter, its libraries and the weights of a small network."""

WAITING_BYTES = sink.MEMORY_BYTES
"""What a writer keeps of compressed strips or tiles."""

TENSORS = 9
"""Feature maps of the finest level that ONNX Runtime holds at once, measured: 8.3 with
16 and with 32 channels at 1024 x 1024, 9 at 512 x 512."""

FURTHER_MAPS = 9
"""Planes of a window's size that each channel after the first takes, besides the two
that the network is given: its pixels, scaled, as input apart and together, and of the
next window. Measured: 10.7 in all of four channels at 832 x 992."""

TILE_BYTES = 48
"""Of decoding, per pixel of a tile."""

BAND_BYTES = 16
"""Of labels, evidence and pixels, per pixel of a band."""

FURTHER_BAND_BYTES = 8
"""The same of each channel after the first: its pixels, of 64 bits at most."""

WAITING_TILE_BYTES = 8
"""Of a decoded tile, per pixel, until it is its turn; `run.executor` lets as many wait
as are in work."""

LEAST_TILE_PX = 128


@dataclass(frozen=True, kw_only=True)
class Memory:
    """What may be held at once."""

    tile_px: int = PredictConfig.tile_px
    """Longest side of a decoding tile."""
    workers: int = 1
    """Tiles in work at once."""
    band_pixels: int = 4 * 2**20
    """Pixels of a band of full-width rows."""
    scratch_bytes: int = MEMORY_BYTES
    """Of arrays that wait in memory."""


def window_bytes(shape: tuple[int, int], network: UNetConfig, channels: int = 1) -> int:
    """Return what the network needs for its windows of a plane of this shape.

    Parameters
    ----------
    shape
        Height and width of the plane.
    network
        Its shape.
    channels
        Channels of the image that it looks at.

    Examples
    --------
    >>> from cellunet.config import UNetConfig
    >>> window_bytes((1024, 1024), UNetConfig()) // MEGABYTE
    322
    """
    height, width = network_plan(shape, network).block_shape
    finest = TENSORS * network.channels[0] / network.stem_stride**2
    own = finest + network.in_channels + network.classes
    return int(4 * height * width * (own + FURTHER_MAPS * (channels - 1)))


def memory_for(
    limit_mb: int | None,
    shape: tuple[int, int],
    window: int,
    held: int,
    workers: int = 1,
    channels: int = 1,
) -> Memory:
    """Return what may be held at once for a plane.

    Parameters
    ----------
    limit_mb
        Bound on the memory of the process in megabytes; None: the defaults.
    shape
        Height and width of the plane.
    window
        Bytes of the network's windows, from `window_bytes`.
    held
        Bytes that reading holds, from `Source.held_bytes`.
    workers
        Tiles that are to be in work at once. They share what one would take.
    channels
        Channels of the image that are read. Bands are so much lower that those of
        several fit as well.

    Raises
    ------
    ConfigError
        If not even the least fits.
    """
    band = BAND_BYTES + FURTHER_BAND_BYTES * (channels - 1)
    most = Memory.band_pixels * BAND_BYTES
    if limit_mb is None:
        memory = Memory(band_pixels=most // band)
        return _shared(memory, Memory.tile_px**2 * TILE_BYTES, workers)
    # A row of tiles is made of 256 rows of labels, of 4 bytes at most; a strip is less.
    rows = 256 * 4 * shape[1]
    fixed = PROGRAM_BYTES + WAITING_BYTES + held + window + rows
    least = 3 * TILE_BYTES * LEAST_TILE_PX**2 + 16 * band * shape[1]
    left = limit_mb * MEGABYTE - fixed
    if left < least:
        raise ConfigError(
            f"{limit_mb} MB are too little for an image of {shape[0]} x {shape[1]} "
            "pixels with this model.",
            hint=f"--max-memory {-(-(fixed + least) // MEGABYTE)} or more.",
        )
    share = left // 3
    memory = Memory(
        band_pixels=min(share, most) // band,
        scratch_bytes=min(share, Memory.scratch_bytes),
    )
    return _shared(memory, min(share, Memory.tile_px**2 * TILE_BYTES), workers)


def _shared(memory: Memory, tiles: int, workers: int) -> Memory:
    """Return it with so many bytes shared out between the tiles in work at once."""
    of_one = TILE_BYTES + (WAITING_TILE_BYTES if workers > 1 else 0)
    workers = max(min(workers, tiles // (of_one * LEAST_TILE_PX**2)), 1)
    tile = int((tiles / of_one / workers) ** 0.5) // 64 * 64
    return replace(memory, tile_px=max(tile, LEAST_TILE_PX), workers=workers)
