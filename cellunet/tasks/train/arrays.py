"""Train on images and labels that are in memory, as a viewer has them."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import tifffile

from cellunet import store
from cellunet.command_config import AnnotationConfig, SplitConfig
from cellunet.errors import AnnotationError
from cellunet.io.files import writing
from cellunet.io.images import write_labels
from cellunet.io.source import ArraySource
from cellunet.presets import configure
from cellunet.tasks.train.request import Hooks, TrainRequest, choose_preset
from cellunet.tasks.train.train import train

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from cellunet.config import TrainConfig
    from cellunet.tasks.train.request import RunInfo, Trained

    Pair = tuple[npt.NDArray[Any], npt.NDArray[Any]]


def train_arrays(
    pairs: Mapping[str, Pair],
    name: str,
    *,
    start: str | None = None,
    minutes: float | None = None,
    config: TrainConfig | None = None,
    hooks: Hooks | None = None,
) -> Trained:
    """Train a model on images and labels that are in memory.

    Parameters
    ----------
    pairs
        Name of an image to its pixels, YX of any real type, and its labels, YX whole
        numbers: 0 background, each object a number of its own. All objects of an image
        are to be labeled.
    name
        Name of the new model.
    start
        The model to start from, or ``scratch``; None: as for `TrainRequest`.
    minutes
        Time budget; None: as many steps as the settings say.
    config
        Settings of the training; None: those that suit so many images.
    hooks
        Callbacks for notes, progress and stopping.

    Returns
    -------
    Trained
        As of `train`. If it was stopped `finished` is False, and nothing is kept: the
        images may be others the next time.

    Raises
    ------
    CellunetError
        If images and labels do not fit, hold no object, or the name is taken.

    Examples
    --------
    ::

        train_arrays({"field 1": (image, labels)}, "my-cells", minutes=3)
    """
    hooks, begun = hooks or Hooks(), []

    def on_start(info: RunInfo) -> None:
        begun.append(info.folder)
        hooks.on_start(info)

    finished = False
    with TemporaryDirectory(prefix="cellunet-") as folder:
        data = Path(folder) / "arrays"
        _write(pairs, data)
        given = dict(vars(config)) if config else {}
        # A configuration may bear a name of its own.
        given.pop("preset", None)
        chosen = choose_preset((data,), given=given, start=start)
        request = TrainRequest(
            data=(data,),
            name=name,
            config=config or configure({}, chosen.preset, chosen.target),
            split=SplitConfig(folds=chosen.folds),
            start=start,
            minutes=minutes,
            annotations=AnnotationConfig(kind="labels"),
        )
        try:
            trained = train(request, replace(hooks, on_start=on_start))
            finished = trained.finished
        finally:
            if not finished and any(place.is_dir() for place in begun):
                store.remove(name)
    return trained


def _write(pairs: Mapping[str, Pair], data: Path) -> None:
    """Write the pairs as a folder of images and labels."""
    if not any(np.any(labels) for _, labels in pairs.values()):
        raise AnnotationError(
            "The labels hold no object.",
            hint="Paint at least one object into them, or segment the image first.",
        )
    for kind in ("images", "labels"):
        (data / kind).mkdir(parents=True)
    for number, (name, (image, labels)) in enumerate(pairs.items(), 1):
        pixels = ArraySource(image).read_all()
        _check_labels(name, pixels.shape, labels)
        file = f"{number:03d}-{re.sub('[^A-Za-z0-9]+', '-', name)[:40].strip('-')}.tif"
        with writing(data):
            tifffile.imwrite(data / "images" / file, pixels)
        write_labels(data / "labels" / file, labels, None, {})


def _check_labels(name: str, shape: tuple[int, ...], labels: npt.NDArray[Any]) -> None:
    if labels.shape != shape:
        raise AnnotationError(
            f"The labels of {name} are of shape {labels.shape}, the image is of shape "
            f"{shape}.",
            hint="Take labels that were drawn on this image.",
        )
    if labels.dtype.kind not in "ui" or labels.min() < 0:
        raise AnnotationError(
            f"The labels of {name} are no whole numbers from 0 on.",
            hint="0 is background, and each object has a number of its own.",
        )
