"""The network as an ONNX graph for other programs.

Unlike the graph that cellunet itself runs, it takes an image whose intensities were
scaled by two percentiles alone: the curve, the negative and the logarithmic channel
(`cellunet.imaging.normalize`) are operators of the graph, and so is the correction of
the weighted loss (`cellunet.imaging.decode.correct`).
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from cellunet.engine.onnx import (
    INPUT,
    OPSET,
    Network,
    chunk,
    ends,
    folded,
    graph,
    model,
    text,
    value,
)
from cellunet.imaging.normalize import CLIP, LOG_GAIN

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from cellunet.config import TrainConfig

OPSET_VERSION = 12
"""Of `OPSET`."""

STEM, HEAD = "stem.0.weight", "head.bias"


def build_for_others(
    weights: Mapping[str, npt.NDArray[np.float32]],
    config: TrainConfig,
    about: Mapping[str, Any],
) -> bytes:
    """Return a model's network as ONNX, from scaled images to class probabilities.

    Input ``image``, float32 (n, channels of the image, h, w), each channel scaled so
    that 0 is its low and 1 its high percentile (``standard``: of mean 0 and variance
    1); h and w multiples of the network's stride. Output ``probabilities``, float32
    (n, classes, h, w), those that ``predict --save probabilities`` writes.

    Parameters
    ----------
    weights
        The state dict, checked.
    config
        As trained.
    about
        What is written into the file beside the graph, as JSON.

    Raises
    ------
    CheckpointError
        As `cellunet.engine.onnx.build`.
    """
    tensors = folded(weights, config.network) | _constants(config)
    count = config.image_channels
    # Linear channels come first here, those of one image channel together in training.
    order = [i * config.normalization.channels for i in range(count)]
    if config.normalization.channels == 2:
        order += [i + 1 for i in order]
    tensors[STEM] = np.ascontiguousarray(tensors[STEM][:, order])
    odds = np.log(np.asarray(config.decode.class_odds, np.float64))
    tensors[HEAD] = (tensors[HEAD].astype(np.float64) - odds).astype(np.float32)
    _, probabilities = ends(config.network)
    nodes = _Exported(config).write()
    made = graph(nodes, tensors, [value(INPUT, count)], [probabilities])
    # ModelProto: 14 metadata_props; StringStringEntryProto: 1 key, 2 value.
    note = text(1, "cellunet") + text(2, json.dumps(about))
    return model(made, OPSET) + chunk(14, note)


def _constants(config: TrainConfig) -> dict[str, npt.NDArray[np.generic]]:
    """Return the numbers that the operators before the network need."""
    named: dict[str, float] = {}
    if config.normalization.kind == "percentile":
        named = {
            "clip.low": CLIP[0],
            "clip.high": CLIP[1],
            "log.gain": LOG_GAIN,
            "log.scale": 1.0 / math.log1p(LOG_GAIN),
            "zero": 0.0,
            "one": 1.0,
        }
    elif config.normalization.invert:
        named = {"zero": 0.0}
    return {name: np.array(number, np.float32) for name, number in named.items()}


class _Exported(Network):
    """Writes the network behind what makes its input channels."""

    def __init__(self, config: TrainConfig) -> None:
        super().__init__(config.network)
        self._normalization = config.normalization

    def source(self) -> str:
        norm, scaled = self._normalization, INPUT
        percentile = norm.kind == "percentile"
        if norm.invert:
            # 0 is the high percentile of the image itself, and 1 the low one.
            top = "one" if percentile else "zero"
            scaled = self.add("Sub", [top, scaled], "negative")
        if norm.curve == "square-root":
            above = self.add("Max", [scaled, "zero"], "above")
            scaled = self.add("Sqrt", [above], "root")
        if not percentile:
            return scaled
        linear = self.add("Clip", [scaled, "clip.low", "clip.high"], "linear")
        positive = self.add("Max", [linear, "zero"], "positive")
        gained = self.add("Mul", [positive, "log.gain"], "gained")
        log = self.add("Log", [self.add("Add", [gained, "one"], "raised")], "log")
        scaled_log = self.add("Mul", [log, "log.scale"], "logarithmic")
        return self.add("Concat", [linear, scaled_log], "channels", axis=1)
