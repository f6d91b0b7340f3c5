"""A model file as engines open it, and what they share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cellunet.engine.onnx_check import FLOAT, check_model
from cellunet.errors import CheckpointError, one_line

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from cellunet.config import UNetConfig
    from cellunet.engine.onnx_check import Form

AGAIN = "Train the model again, or: --engine torch."


@dataclass(frozen=True, kw_only=True)
class OnnxFile:
    """A model that cellunet wrote, read and checked."""

    source: str
    """Its path, or words for it, as the subject of messages."""
    content: bytes
    config: UNetConfig
    """Shape of its network."""
    tensors: dict[str, npt.NDArray[np.generic]]
    """By name, read-only."""
    metadata: dict[str, str]
    """What was stored in it, by key."""
    graph: memoryview
    """The encoded graph."""


def open_onnx(
    model: bytes | Path, form: Form = FLOAT, *, source: str = "", hint: str = AGAIN
) -> OnnxFile:
    """Return a model, after checking that it is one that cellunet writes.

    Parameters
    ----------
    model
        The model, or the file that holds it.
    form
        What it has to look like.
    source
        Where bytes come from, for messages.
    hint
        What to do if it cannot be used.

    Raises
    ------
    CheckpointError
        If the file cannot be read or is not such a model.
    """
    source = str(model) if isinstance(model, Path) else source or "The model"
    try:
        content = model.read_bytes() if isinstance(model, Path) else model
        checked = check_model(content, form)
    except OSError as error:
        raise CheckpointError(
            f"{source} cannot be read: {error.strerror}.", hint=hint
        ) from error
    except CheckpointError as error:
        raise CheckpointError(
            f"{source} is no model that this cellunet writes: {error.message}",
            hint=hint,
        ) from error
    return OnnxFile(
        source=source,
        content=content,
        config=checked.config,
        tensors=checked.tensors,
        metadata=checked.metadata,
        graph=checked.graph,
    )


def check_fits(image: npt.NDArray[np.float32], config: UNetConfig, source: str) -> None:
    """Refuse an image that a network does not take.

    Raises
    ------
    CheckpointError
        Saying what it takes.
    """
    channels, stride = config.in_channels, config.stride_px
    fits = image.ndim == 4 and image.shape[1] == channels
    if not fits or image.shape[2] % stride or image.shape[3] % stride:
        raise CheckpointError(
            f"{source} takes NCYX images of {channels} channels and sides of "
            f"multiples of {stride} px; this one has shape {image.shape}."
        )


def failed(
    image: npt.NDArray[np.float32], source: str, error: Exception
) -> CheckpointError:
    """Return the error of a runtime that could not compute an image."""
    size = " x ".join(map(str, image.shape))
    return CheckpointError(f"{source} failed on an image of {size}: {one_line(error)}")
