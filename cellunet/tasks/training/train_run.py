"""Everything of one training that is under way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cellunet.config import SCRATCH
from cellunet.core.trainer import Trainer

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from cellunet.config import TrainConfig
    from cellunet.core.trainer import TrainState
    from cellunet.core.unet import UNet
    from cellunet.tasks.train_request import Hooks
    from cellunet.tasks.training.start_model import Start
    from cellunet.tasks.training.train_data import TrainingData
    from cellunet.tasks.training.train_stages import Stage


@dataclass(kw_only=True)
class Run:
    """What a run is made of, and where it is."""

    name: str
    folder: Path
    device: torch.device
    threads: int
    config: TrainConfig
    data: TrainingData
    start: Start | None
    stages: list[Stage]
    about: dict[str, Any]
    """What the run is known by when it is resumed; ``stage`` is the one it is in."""
    state: TrainState
    """Of that stage."""
    networks: list[UNet]
    """Of the stages before."""
    histories: list[list[dict[str, float]]]
    """Of the stages before."""
    hooks: Hooks

    @property
    def number(self) -> int:
        """Number of the stage that the run is in, from 0."""
        return int(self.about["stage"])

    @property
    def start_name(self) -> str:
        """The model that it began with, or ``scratch``."""
        return self.start.name if self.start else SCRATCH

    def trainer(self) -> Trainer:
        """Return what takes the steps of the stage that the run is in."""
        stage = self.stages[self.number]
        return Trainer(stage.training, stage.validation, self.config, self.device)
