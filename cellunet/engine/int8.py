"""Calibrate a network for eight bits, and open or make its int8 model.

It is a cache in all but time: made from the float32 model and a few images, it names
the model that it was made from and can be made anew at any time. So neither the card
nor the SHA-256 of the weights, by which results name their model, knows of it.
"""

from __future__ import annotations

import hashlib
import shlex
from typing import TYPE_CHECKING

import numpy as np

from cellunet import store
from cellunet.engine.onnx import (
    IMAGES,
    INPUT,
    OF,
    OPSET,
    Rounding,
    build_int8,
    check_belongs,
    ends,
    graph,
    model,
    nodes,
    places,
    shared,
    value,
)
from cellunet.engine.onnx_files import INT8, open_onnx
from cellunet.engine.runtimes import open_session
from cellunet.errors import CheckpointError, ConfigError
from cellunet.io.files import write_atomically

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import numpy.typing as npt

    from cellunet.config import UNetConfig
    from cellunet.engine.onnx_files import OnnxFile
    from cellunet.store import Model

SAMPLE = 8192
"""Values that are looked at of each feature map."""

SHRINK = np.linspace(0.2, 1.0, 33)
"""Parts of the whole range that are tried."""


def calibrated(
    opened: OnnxFile, windows: Iterable[npt.NDArray[np.float32]], threads: int = 0
) -> bytes:
    """Return the int8 twin of a model.

    The same model and windows give the same bytes.

    Parameters
    ----------
    opened
        The float32 model.
    windows
        The network's input for a few images, CYX float32 each, of sides that are
        multiples of the network's stride.
    threads
        Threads to compute with; 0 for as many as this process may use cores.

    Raises
    ------
    ConfigError
        If there is no window.
    """
    samples = _sampled(opened, windows, threads)
    together = _joined(samples, opened.config)
    roundings = {name: best_rounding(values) for name, values in together.items()}
    metadata = {
        OF: hashlib.sha256(opened.content).hexdigest(),
        IMAGES: str(len(samples[INPUT])),
    }
    return build_int8(opened.tensors, opened.config, roundings, metadata)


def best_rounding(values: npt.NDArray[np.float32]) -> Rounding:
    """Return the rounding that changes values least.

    Both ends are drawn in by the same share, as long as the mean of the squared
    differences falls: cutting off rare large values makes the steps of all others
    smaller.

    Parameters
    ----------
    values
        Examples of what is to be rounded.
    """
    low, high = float(values.min()), float(values.max())
    tried = [Rounding.of(low * share, high * share) for share in SHRINK]
    errors = [float(np.square(one(values) - values).mean()) for one in tried]
    return tried[int(np.argmin(errors))]


def _sampled(
    opened: OnnxFile, windows: Iterable[npt.NDArray[np.float32]], threads: int
) -> dict[str, list[npt.NDArray[np.float32]]]:
    """Return values of each feature map, an array per window."""
    names = [*_observed(opened.config)]
    session = open_session(_observing(opened, names), threads)
    found: dict[str, list[npt.NDArray[np.float32]]] = {n: [] for n in (INPUT, *names)}
    rng = np.random.default_rng(0)
    for window in windows:
        image = np.ascontiguousarray(window[np.newaxis])
        features = session.run(names, {INPUT: image})
        for name, values in zip(found, (image, *features), strict=True):
            chosen = rng.integers(0, values.size, SAMPLE)
            found[name].append(values.reshape(-1)[chosen])
    if not found[INPUT]:
        raise ConfigError(
            "There is no image to calibrate on.", hint="Give a dozen typical images."
        )
    return found


def _observed(config: UNetConfig) -> tuple[str, ...]:
    """Return which features are looked at, the image aside."""
    return (*(n for n in places(config) if n != INPUT), *shared(config))


def _observing(opened: OnnxFile, names: list[str]) -> bytes:
    """Return the float32 model with features as further outputs."""
    image, probabilities = ends(opened.config)
    outputs = [probabilities, *(value(name) for name in names)]
    whole = graph(nodes(opened.config), opened.tensors, [image], outputs)
    return model(whole, OPSET, {})


def _joined(
    samples: Mapping[str, list[npt.NDArray[np.float32]]], config: UNetConfig
) -> dict[str, npt.NDArray[np.float32]]:
    """Return the values of each place; features that share a rounding together."""
    found = {name: list(samples[name]) for name in places(config)}
    for name, place in shared(config).items():
        found[place] += samples[name]
    return {name: np.concatenate(values) for name, values in found.items()}


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
        As for `cellunet.engine.int8.calibrated`.
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
