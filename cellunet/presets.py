"""Presets of a training, and what a target or single settings change of one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cellunet.config import (
    TARGET,
    AugmentConfig,
    NormalizationConfig,
    Target,
    TrainConfig,
    UNetConfig,
)
from cellunet.errors import choose

if TYPE_CHECKING:
    from collections.abc import Mapping


PRESETS = {
    # Measured best within 30 minutes on two CPU cores.
    "default": TrainConfig(),
    # For up to `FEW_IMAGES` images that start from a model; short enough for three
    # folds in five minutes on two CPU cores. Measured: docs/internals/experiments.md.
    "few": TrainConfig(
        preset="few",
        epochs=2,
        steps_per_epoch=75,
        learning_rate=3e-3,
        warmup_steps=20,
        average_decay=0.99,
    ),
    # As in the original study. Stated by it: a U-Net, 3 classes, weighted
    # cross-entropy, random crops of 256 x 256, learning rate 0.01, batch 5, 160
    # training and 40 validation images (32 and 8 iterations an epoch). Taken from its
    # author's published code: 64 to 1024 channels (31,036,611 parameters), normal
    # initialization, images standardized to zero mean and unit variance, Adam with
    # AMSGrad, 50 epochs, early stop after 10.
    "classic": TrainConfig(
        preset="classic",
        normalization=NormalizationConfig(kind="standard"),
        network=UNetConfig(
            in_channels=1, channels=(64, 128, 256, 512, 1024), stem_stride=1
        ),
        augment=AugmentConfig(
            flips=False,
            warp_probability=0.0,
            gain_sigma=0.0,
            offset_sigma=0.0,
            intensity_probability=0.0,
            dim_probability=0.0,
        ),
        sampling="images",
        crop_px=256,
        batch=5,
        epochs=50,
        steps_per_epoch=0,
        optimizer="adam-amsgrad",
        learning_rate=0.01,
        weight_decay=0.0,
        schedule="constant",
        warmup_steps=0,
        average_decay=0.0,
        patience_epochs=10,
        keep="best",
        precision="float32",
    ),
}
"""What is trained with unless settings say otherwise."""


def for_target(config: TrainConfig, target: Target) -> TrainConfig:
    """Return `config` with everything that depends on the target set for `target`."""
    weights = (1.0, 1.0, 3.0) if target == "three-class" else (1.0, 3.0)
    encoding = config.encoding.replace(target=target)
    return config.replace(
        encoding=encoding,
        network=config.network.replace(classes=len(encoding.classes)),
        weights=config.weights.replace(class_weights=weights),
        decode=config.decode.replace(class_odds=weights),
    )


def configure(
    settings: Mapping[str, Any],
    preset: str = TrainConfig.preset,
    target: Target = TARGET,
) -> TrainConfig:
    """Return a preset's configuration with settings changed.

    Parameters
    ----------
    settings
        By name, as in `Config.changed`; a preset and a target among them come before
        the others.
    preset
        A name in `PRESETS`, if there is none among `settings`.
    target
        What the network learns, if that is not among them.

    Raises
    ------
    ConfigError
        If the preset is unknown or settings contradict each other.
    """
    preset = settings.get("preset", preset)
    target = settings.get("encoding.target", target)
    config = for_target(choose(PRESETS, preset, "preset"), target)
    config = config.changed(settings)
    # The decoder's correction starts at what the loss was weighted with.
    odds = config.weights.class_weights
    return config.replace(decode=config.decode.replace(class_odds=odds))
