"""The int8 twin of a model on disk: opened, or made.

It is a cache in all but time: made from the float32 model and a few images, it names
the model that it was made from and can be made anew at any time. So neither the card
nor the SHA-256 of the weights, by which results name their model, knows of it.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from cellunet import store
from cellunet.engine.calibrate import calibrated
from cellunet.engine.onnx_check import INT8
from cellunet.engine.onnx_file import open_onnx
from cellunet.engine.onnx_int8 import check_belongs
from cellunet.errors import CheckpointError
from cellunet.imaging.atomic import write_atomically

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np
    import numpy.typing as npt

    from cellunet.engine.onnx_file import OnnxFile
    from cellunet.store import Model


def open_int8(model: Model) -> OnnxFile:
    """Return a model's int8 twin.

    Raises
    ------
    CheckpointError
        If it is missing, damaged, of other weights, or no model that cellunet writes;
        the hint is the command that makes it.
    """
    command = f"cellunet models calibrate {_asked(model)} IMAGES"
    if not model.int8.is_file():
        raise CheckpointError(
            f"Model {model.name!r} has no int8 twin ({model.int8} is missing).",
            hint=f"Make it from a dozen typical images: {command}",
        )
    hint = f"Make it anew: {command} --overwrite"
    opened = open_onnx(model.int8, INT8, hint=hint)
    try:
        check_belongs(opened.metadata, opened.graph, model.card.onnx_sha256)
    except CheckpointError as error:
        raise CheckpointError(
            f"{model.int8} cannot be used: {error.message}", hint=hint
        ) from error
    return opened


def _asked(model: Model) -> str:
    """Return how a command names a model."""
    by_name = model.weights.parent == store.home() / "models" / model.name
    return model.name if model.shipped or by_name else shlex.quote(str(model.weights))


def write_int8(
    model: Model, windows: Iterable[npt.NDArray[np.float32]], threads: int = 0
) -> None:
    """Make a model's int8 twin beside it, in place of one that is there.

    Parameters
    ----------
    model
        The model.
    windows
        As for `cellunet.engine.calibrate.calibrated`.
    threads
        Threads to compute with; 0 for as many as this process may use cores.

    Raises
    ------
    CheckpointError
        If its float32 twin cannot be used.
    ConfigError
        If there is no window.
    OutputError
        If it cannot be written.
    """
    opened = open_onnx(store.checked_onnx(model), source=str(model.onnx))
    content = calibrated(opened, windows, threads)
    with write_atomically(model.int8) as path:
        path.write_bytes(content)
