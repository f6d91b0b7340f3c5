"""One mask per nucleus or cell from fluorescence microscopy images.

The names below are the public ones; anything else may change. They are looked up when
first used, so that importing the package imports neither torch nor numpy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cellunet.command_config import PredictConfig
    from cellunet.config import TrainConfig
    from cellunet.errors import CellunetError
    from cellunet.imaging.outlines import outlines
    from cellunet.outputs.pictures import draw_outlines
    from cellunet.tasks.evaluate import evaluate_folders, evaluate_model
    from cellunet.tasks.make_labels import make_labels
    from cellunet.tasks.predict.batch import predict
    from cellunet.tasks.predict.plane import PredictionStopped
    from cellunet.tasks.predict.session import (
        LoadedModel,
        ObjectTable,
        Segmentation,
        load_model,
    )
    from cellunet.tasks.train.arrays import train_arrays
    from cellunet.tasks.train.request import TrainRequest
    from cellunet.tasks.train.train import train

__version__ = "0.2.0"

__all__ = [
    "CellunetError",
    "LoadedModel",
    "ObjectTable",
    "PredictConfig",
    "PredictionStopped",
    "Segmentation",
    "TrainConfig",
    "TrainRequest",
    "draw_outlines",
    "evaluate_folders",
    "evaluate_model",
    "load_model",
    "make_labels",
    "outlines",
    "predict",
    "train",
    "train_arrays",
]

_HOMES = {
    "CellunetError": "cellunet.errors",
    "LoadedModel": "cellunet.tasks.predict.session",
    "ObjectTable": "cellunet.tasks.predict.session",
    "PredictConfig": "cellunet.command_config",
    "PredictionStopped": "cellunet.tasks.predict.plane",
    "Segmentation": "cellunet.tasks.predict.session",
    "TrainConfig": "cellunet.config",
    "TrainRequest": "cellunet.tasks.train.request",
    "draw_outlines": "cellunet.outputs.pictures",
    "evaluate_folders": "cellunet.tasks.evaluate",
    "evaluate_model": "cellunet.tasks.evaluate",
    "load_model": "cellunet.tasks.predict.session",
    "make_labels": "cellunet.tasks.make_labels",
    "outlines": "cellunet.imaging.outlines",
    "predict": "cellunet.tasks.predict.batch",
    "train": "cellunet.tasks.train.train",
    "train_arrays": "cellunet.tasks.train.arrays",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401
    if name not in _HOMES:
        raise AttributeError(f"module 'cellunet' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
