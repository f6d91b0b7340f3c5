"""Parts of a training step and of preparation, for `parts.py`."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from tables import HERE, cpu_milliseconds

from cellunet.config import TrainConfig, UNetConfig
from cellunet.core.dataset import Batch, CropSampler, Sample, prepare
from cellunet.core.trainer import Distributed, Trainer, TrainState, new_state
from cellunet.imaging.targets import border_map, encode
from cellunet.io.images import open_image
from cellunet.io.source import Region
from cellunet.metrics.matching import score_image
from cellunet.tasks.predict.session import load_model

IMAGES = HERE.parent / "examples" / "images"
FIELDS = ("u2os_N12_s7.tif", "u2os_B24_s9.tif")
NETWORKS = {
    "default": UNetConfig(),
    "full resolution": UNetConfig(channels=(16, 32, 64, 128), stem_stride=1),
}
STEPS = 12
"""Batches that crops are timed on: each draws others."""
STEP_TIMES = 5
MANY = 10_000
"""Objects of the image that stands for the most crowded ones."""


def sample(path: Path) -> Sample:
    with open_image(path) as source:
        height, width = source.shape
        pixels = source.read(Region(0, 0, height, 0, width))[0]
    labels = load_model().segment(pixels).labels
    return Sample(
        name=path.stem,
        image=pixels[np.newaxis],
        labels=labels.astype(np.int32),
        annotated=np.ones(labels.shape, bool),
    )


def training() -> dict[str, Any]:
    """Return the parts of a step with the default preset, crops of examples."""
    config, device = TrainConfig(), torch.device("cpu")
    prepared = [prepare(sample(IMAGES / name), config) for name in FIELDS]
    sampler = CropSampler(prepared, config, Distributed())
    trainer = Trainer(prepared, prepared, config, device)
    state = new_state(config, device)
    batch = sampler.batch(0, 0)
    crops = cpu_milliseconds(lambda: [sampler.batch(0, i) for i in range(STEPS)], 5)
    step = cpu_milliseconds(lambda: trainer.step(state, batch), STEP_TIMES)
    parts = {"crops, made ahead": crops / STEPS, **of_step(trainer, state, batch)}
    return {"parts": parts, "whole": step + crops / STEPS}


def networks() -> dict[str, float]:
    """Return a whole step, on ready crops, by network and precision."""
    prepared = [prepare(sample(IMAGES / name), TrainConfig()) for name in FIELDS]
    batch = CropSampler(prepared, TrainConfig(), Distributed()).batch(0, 0)
    found = {}
    for name, network in NETWORKS.items():
        for precision in ("bfloat16", "float32"):
            config = TrainConfig(network=network, precision=precision)
            trainer = Trainer(prepared, prepared, config, torch.device("cpu"))
            state = new_state(config, trainer.device)
            found[f"{name} network, {precision}"] = cpu_milliseconds(
                lambda t=trainer, s=state: t.step(s, batch),  # type: ignore[misc]
                STEP_TIMES,
            )
    return found


def of_step(trainer: Trainer, state: TrainState, batch: Batch) -> dict[str, float]:
    image = batch.image.to(memory_format=torch.channels_last)

    def forward() -> torch.Tensor:
        with trainer._mixed_precision():
            logits: torch.Tensor = state.network(image)
        return logits

    logits = forward().detach()
    gradient = torch.randn_like(logits)

    def loss() -> None:
        given = logits.clone().requires_grad_()
        value = trainer.loss(given, batch.class_map, batch.weight_map)
        value.backward()  # type: ignore[no-untyped-call]

    calls = {
        "network, forward and backward": lambda: forward().backward(gradient),
        "loss": loss,
        "optimiser": state.optimizer.step,
        "average of the weights": lambda: trainer._update_average(state),
        "tally": lambda: state.tally.add(1.0, 1, logits, batch),
    }
    return {name: cpu_milliseconds(c, STEP_TIMES) for name, c in calls.items()}


def preparation() -> dict[str, float]:
    """Return what is done once per training image, or with its labels."""
    config = TrainConfig()
    labels = sample(IMAGES / FIELDS[0]).labels
    crowd = crowded(MANY)
    calls = {
        "encode labels": lambda: encode(labels, config.encoding),
        "border weights": lambda: border_map(labels, config.weights),
        "score labels": lambda: score_image(labels, labels, name="field"),
    }
    found = {name: cpu_milliseconds(call) for name, call in calls.items()}
    side = crowd.shape[0]
    name = f"{MANY:,} objects, {side} x {side} pixels"
    found |= {
        f"encode labels, {name}": cpu_milliseconds(
            lambda: encode(crowd, config.encoding), 3
        ),
        f"border weights, {name}": cpu_milliseconds(
            lambda: border_map(crowd, config.weights), 3
        ),
    }
    return found


def crowded(count: int) -> np.ndarray:
    """Return discs of 5 pixels, so many, two pixels apart and some of them touching."""
    rows = round(count**0.5)
    labels = np.zeros((rows * 7, rows * 7), np.int32)
    y, x = np.mgrid[:5, :5] - 2
    disc = y**2 + x**2 <= 5
    shift = np.random.default_rng(0).integers(0, 3, (count, 2))
    for number in range(count):
        row, column = divmod(number, rows)
        top, left = row * 7 + shift[number, 0], column * 7 + shift[number, 1]
        labels[top : top + 5, left : left + 5][disc] = number + 1
    return labels
