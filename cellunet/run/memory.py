"""How much of each thing fits into a bound on memory.

The network's window is fixed, since results depend on it in their last bits; what is
left is shared out between the tiles of decoding, the bands of rows that are handed on,
and what waits in the scratch before it goes to the disk. None of these changes a label.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cellunet.config import PredictConfig
from cellunet.errors import ConfigError
from cellunet.imaging import sink
from cellunet.imaging.blocks import network_plan
from cellunet.imaging.scratch import MEMORY_BYTES

if TYPE_CHECKING:
    from cellunet.config import UNetConfig

MEGABYTE = 1_000_000
PROGRAM_BYTES = 150 * MEGABYTE
"""The interpreter, its libraries and the weights of a small network."""
WAITING_BYTES = sink.MEMORY_BYTES
"""What a writer keeps of compressed tiles."""
TENSORS = 9
"""Feature maps of the finest level that ONNX Runtime holds at once, measured: 8.3 with
16 and with 32 channels at 1024 x 1024, 9 at 512 x 512."""
TILE_BYTES = 48
"""Of decoding, per pixel of a tile."""
BAND_BYTES = 16
"""Of labels, evidence and pixels, per pixel of a band."""
LEAST_TILE_PX = 128


@dataclass(frozen=True, kw_only=True)
class Memory:
    """What may be held at once."""

    tile_px: int = PredictConfig.tile_px
    """Longest side of a decoding tile."""
    band_pixels: int = 4 * 2**20
    """Pixels of a band of full-width rows."""
    scratch_bytes: int = MEMORY_BYTES
    """Of arrays that wait in memory."""


def window_bytes(shape: tuple[int, int], network: UNetConfig) -> int:
    """Return what the network needs for its windows of a plane of this shape.

    Examples
    --------
    >>> from cellunet.config import UNetConfig
    >>> window_bytes((1024, 1024), UNetConfig()) // MEGABYTE
    322
    """
    height, width = network_plan(shape, network).block_shape
    finest = TENSORS * network.channels[0] / network.stem_stride**2
    return int(4 * height * width * (finest + network.in_channels + network.classes))


def memory_for(
    limit_mb: int | None, shape: tuple[int, int], window: int, held: int
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

    Raises
    ------
    ConfigError
        If not even the least fits.
    """
    if limit_mb is None:
        return Memory()
    # A row of compressed tiles is made of 256 rows of labels, of 4 bytes at most.
    rows = 256 * 4 * shape[1]
    fixed = PROGRAM_BYTES + WAITING_BYTES + held + window + rows
    least = 3 * TILE_BYTES * LEAST_TILE_PX**2 + 16 * BAND_BYTES * shape[1]
    left = limit_mb * MEGABYTE - fixed
    if left < least:
        raise ConfigError(
            f"{limit_mb} MB are too little for an image of {shape[0]} x {shape[1]} "
            "pixels with this model.",
            hint=f"--max-memory {-(-(fixed + least) // MEGABYTE)} or more.",
        )
    share = left // 3
    tile = int((share / TILE_BYTES) ** 0.5) // 64 * 64
    return Memory(
        tile_px=min(max(tile, LEAST_TILE_PX), Memory.tile_px),
        band_pixels=min(share // BAND_BYTES, Memory.band_pixels),
        scratch_bytes=min(share, Memory.scratch_bytes),
    )
