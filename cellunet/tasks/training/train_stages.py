"""The trainings that one model is made of: one, or one for each fold.

With folds every image is scored by a network that has not seen it, and what is kept is
the mean of the networks. Networks that are ready wait in the run's folder, so that a
run that was stopped goes on with the fold that it was in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cellunet import store
from cellunet.core.checkpoint import load_parts, save_parts
from cellunet.core.dataset import prepare
from cellunet.errors import CheckpointError
from cellunet.imaging.atomic import writing
from cellunet.store import read_metadata
from cellunet.tasks.training.folds import Fold, dealt, is_scored, objects_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from cellunet.config import SplitConfig, TrainConfig
    from cellunet.core.dataset import Prepared, Sample
    from cellunet.core.unet import UNet
    from cellunet.progress import Track
    from cellunet.tasks.training.train_data import TrainingData


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One training: what it is trained on, and what it is scored on."""

    training: list[Prepared]
    validation: list[Prepared]
    held: tuple[Sample, ...]
    """What `validation` was prepared from."""


def stages_of(
    data: TrainingData, split: SplitConfig, config: TrainConfig, track: Track
) -> list[Stage]:
    """Return one stage, or one for each fold where no image was kept out.

    Raises
    ------
    CellunetError
        If the images cannot be dealt into folds.
    """
    if data.validation:
        folds = [Fold(training=data.training, held=data.validation)]
    elif not any(is_scored(s) and objects_of(s) for s in data.training):
        # Nothing can be scored, so that no image need be kept out for it.
        folds = [Fold(training=data.training, held=data.training)]
    else:
        folds = dealt(data.training, split.folds, config.seed)
    ready: dict[int, Prepared] = {}

    def prepared(samples: Sequence[Sample]) -> list[Prepared]:
        for sample in track(samples, "Encoding images", len(samples)):
            # Folds share their images.
            if id(sample) not in ready:
                ready[id(sample)] = prepare(sample, config)
        return [ready[id(sample)] for sample in samples]

    return [
        Stage(
            training=prepared(fold.training),
            validation=prepared(fold.held),
            held=fold.held,
        )
        for fold in folds
    ]


def save_stage(
    folder: Path, number: int, network: UNet, history: Sequence[Mapping[str, float]]
) -> None:
    """Keep the network of a finished stage, and its history, until all are done."""
    rows = [{key: repr(value) for key, value in row.items()} for row in history]
    save_parts(_file(folder, number), {"network": network}, {"history": rows})


def load_stage(
    folder: Path, number: int, network: UNet
) -> tuple[UNet, list[dict[str, float]]]:
    """Return the network of a finished stage, read into `network`, and its history.

    Raises
    ------
    CheckpointError
        If it is missing or corrupt.
    """
    file = _file(folder, number)
    about: dict[str, Any] = read_metadata(file)
    load_parts(file, {"network": network})
    try:
        rows = [
            {key: float(value) for key, value in row.items()}
            for row in about["history"]
        ]
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(
            f"{file} holds no history ({error}).", hint="Start anew with --overwrite."
        ) from error
    return network, rows


def forget_stages(folder: Path) -> None:
    """Remove the networks of finished stages."""
    for file in folder.glob(store.STAGE_FILE.format("*")):
        with writing(file):
            file.unlink()


def mean_history(
    histories: Sequence[Sequence[Mapping[str, float]]],
) -> list[dict[str, float]]:
    """Return one row an epoch, the mean over the stages that came as far.

    Examples
    --------
    >>> mean_history([[{"epoch": 1.0, "loss": 2.0}], [{"epoch": 1.0, "loss": 4.0}]])
    [{'epoch': 1.0, 'loss': 3.0}]
    """
    longest = max(histories, key=len)
    rows = []
    for epoch, names in enumerate(longest):
        there = [history[epoch] for history in histories if epoch < len(history)]
        rows.append(
            {name: sum(row[name] for row in there) / len(there) for name in names}
        )
    return rows


def _file(folder: Path, number: int) -> Path:
    return folder / store.STAGE_FILE.format(number)
