"""Measure the ranges in which a network's features are rounded to eight bits.

They are numbers on the card of the model; the graph is built from them and the weights.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from cellunet import store
from cellunet.engine import onnx
from cellunet.engine.runtimes import open_session
from cellunet.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import numpy.typing as npt

    from cellunet.config import UNetConfig
    from cellunet.store import Model

SAMPLE = 8192
"""Values that are looked at of each feature map."""

LEVELS = 255
"""Steps of uint8."""

SHRINK = np.linspace(0.2, 1.0, 33)
"""Parts of the whole range that are tried."""


class Rounding(NamedTuple):
    """How features become uint8: value = (stored - zero) * scale."""

    scale: np.float32
    zero: np.uint8

    @classmethod
    def of(cls, low: float, high: float) -> Rounding:
        """Return the rounding whose ends are `low` and `high`, 0 being among its steps.

        Zeros that convolutions pad with are exact therefore.

        Examples
        --------
        >>> rounding = Rounding.of(-1.0, 4.1)
        >>> f"{rounding.scale:.2f}", int(rounding.zero)
        ('0.02', 50)
        """
        low, high = min(low, 0.0), max(high, 0.0)
        scale = np.float32((high - low) / LEVELS)
        if not scale >= np.finfo(np.float32).tiny:
            return cls(np.float32(1.0), np.uint8(0))
        return cls(scale, np.uint8(np.clip(np.rint(-low / scale), 0, LEVELS)))

    def __call__(self, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return values as they come back from uint8."""
        zero = np.float32(self.zero)
        steps = np.clip(np.rint(values / self.scale) + zero, 0, LEVELS)
        rounded: npt.NDArray[np.float32] = (steps - zero) * self.scale
        return rounded


def measure_ranges(
    weights: Mapping[str, npt.NDArray[np.float32]],
    config: UNetConfig,
    windows: Iterable[npt.NDArray[np.float32]],
    threads: int = 0,
) -> dict[str, list[float]]:
    """Return the ranges of a network's features, `ModelCard.int8_ranges`.

    The same weights and windows give the same ranges.

    Parameters
    ----------
    weights, config
        As for `cellunet.engine.onnx.build`.
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
    samples = _sampled(weights, config, windows, threads)
    found = {}
    for name, values in _joined(samples, config).items():
        rounding = best_rounding(values)
        found[name] = [float(rounding.scale), int(rounding.zero)]
    return found


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
    weights: Mapping[str, npt.NDArray[np.float32]],
    config: UNetConfig,
    windows: Iterable[npt.NDArray[np.float32]],
    threads: int,
) -> dict[str, list[npt.NDArray[np.float32]]]:
    """Return values of each feature map, an array per window."""
    names = [*(n for n in onnx.places(config) if n != onnx.INPUT), *onnx.shared(config)]
    image_value, probabilities = onnx.ends(config)
    outputs = [probabilities, *(onnx.value(name) for name in names)]
    whole = onnx.graph(
        onnx.nodes(config), onnx.folded(weights, config), [image_value], outputs
    )
    session = open_session(onnx.model(whole, onnx.OPSET), threads)
    found: dict[str, list[npt.NDArray[np.float32]]] = {
        n: [] for n in (onnx.INPUT, *names)
    }
    rng = np.random.default_rng(0)
    for window in windows:
        image = np.ascontiguousarray(window[np.newaxis])
        features = session.run(names, {onnx.INPUT: image})
        for name, values in zip(found, (image, *features), strict=True):
            chosen = rng.integers(0, values.size, SAMPLE)
            found[name].append(values.reshape(-1)[chosen])
    if not found[onnx.INPUT]:
        raise ConfigError(
            "There is no image to calibrate on.", hint="Give a dozen typical images."
        )
    return found


def _joined(
    samples: Mapping[str, list[npt.NDArray[np.float32]]], config: UNetConfig
) -> dict[str, npt.NDArray[np.float32]]:
    """Return the values of each place; features that share a rounding together."""
    found = {name: list(samples[name]) for name in onnx.places(config)}
    for name, place in onnx.shared(config).items():
        found[place] += samples[name]
    return {name: np.concatenate(values) for name, values in found.items()}


def ranges_of(model: Model) -> dict[str, list[float]]:
    """Return the ranges of a model's features.

    Raises
    ------
    CheckpointError
        If it was not calibrated, or its card holds ranges of another network; the
        hint is the command that measures them.
    """
    ranges = model.card.int8_ranges
    command = f"cellunet models calibrate {_asked(model)} IMAGES"
    if not ranges:
        raise CheckpointError(
            f"Model {model.name!r} has no ranges for eight bits.",
            hint=f"Measure them on a dozen typical images: {command}",
        )
    if ranges.keys() != set(onnx.places(model.card.config.network)):
        raise CheckpointError(
            f"The ranges for eight bits of {model.weights} are of another network.",
            hint=f"Measure them anew: {command} --overwrite",
        )
    return ranges


def _asked(model: Model) -> str:
    """Return how a command names a model."""
    by_name = model.weights.parent == store.home() / "models" / model.name
    return model.name if model.shipped or by_name else shlex.quote(str(model.weights))
