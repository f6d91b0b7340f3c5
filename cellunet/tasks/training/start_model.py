"""The model that a training starts from, and what is adapted to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cellunet import store
from cellunet.config import SCRATCH, Config, TrainConfig, for_target
from cellunet.core.checkpoint import load_network
from cellunet.errors import ConfigError
from cellunet.imaging.pairing import is_known
from cellunet.tasks.training.train_data import has_objects, object_diameters_px

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from cellunet.core.dataset import Sample
    from cellunet.core.unet import UNet
    from cellunet.store import ModelCard

LEAST_SCALE, LARGEST_SCALE = 0.05, 20.0


@dataclass(frozen=True, kw_only=True)
class Start:
    """A model to start from."""

    name: str
    card: ModelCard
    network: UNet
    sha256: str
    """Of the weights."""


def read_start(name: str) -> Start | None:
    """Return a model with its weights; None for ``scratch``.

    Raises
    ------
    CellunetError
        If there is no such model, or it cannot be read.
    """
    if name == SCRATCH:
        return None
    model = store.find_model(name)
    return Start(
        name=name,
        card=model.card,
        network=load_network(model.weights),
        sha256=store.file_sha256(model.weights),
    )


def with_start(
    config: TrainConfig, start: Start, given: Collection[str] = ()
) -> TrainConfig:
    """Return settings in which what was left open is the model's.

    Network, normalisation, encoding, weights of the loss and decode constants are left
    open where they are those of `TrainConfig` and not among `given`
    (`cellunet.tasks.train_request.TrainRequest`).

    Raises
    ------
    ConfigError
        If the model has another target, or another network or normalisation than
        asked for, or its network does not take crops of the size asked for.
    """
    theirs = start.card.config
    asked = config.encoding.target
    if asked != theirs.encoding.target:
        raise ConfigError(
            f"Model {start.name!r} has the target {theirs.encoding.target}, not the "
            f"{asked} asked for.",
            hint=f"Try: --target {theirs.encoding.target}, or --from scratch.",
        )
    usual = for_target(TrainConfig(), asked)
    for what in ("network", "normalization"):
        ours, other = getattr(config, what), getattr(theirs, what)
        # How many channels there are follows from the images.
        alike = {"in_channels": ours.in_channels} if what == "network" else {}
        if ours not in (getattr(usual, what), other.replace(**alike)):
            raise ConfigError(
                f"Model {start.name!r} has another {what} ({other}) than the preset "
                f"{config.preset} ({ours}).",
                hint="Leave out --preset, or start --from scratch.",
            )
    stride = theirs.network.stride_px
    if "crop_px" in given and config.crop_px % stride:
        nearest = max(round(config.crop_px / stride), 1) * stride
        raise ConfigError(
            f"Crops of {config.crop_px} px do not fit the network of model "
            f"{start.name!r}, which needs a multiple of {stride} px.",
            hint=f"The nearest that fits: --crop {nearest}.",
        )
    return filled(config, theirs, given)


def filled(
    config: TrainConfig, theirs: TrainConfig, given: Collection[str] = ()
) -> TrainConfig:
    """Return settings in which what was left open is that of other settings.

    Parameters
    ----------
    config
        What was asked for; what is as in `TrainConfig` was left open.
    theirs
        Of a model, or of a run that began with one; of the same target.
    given
        What was asked for even where it is as in `TrainConfig`.
    """
    stride = theirs.network.stride_px
    groups: dict[str, Config] = {
        what: _filled_group(what, config, theirs, given)
        for what in ("encoding", "weights", "decode")
    }
    return config.replace(
        network=theirs.network,
        normalization=theirs.normalization,
        scale=theirs.scale,
        # The next smaller size that the network can take.
        crop_px=max(config.crop_px // stride, 1) * stride,
        **groups,
    )


def _filled_group(
    what: str, config: TrainConfig, theirs: TrainConfig, given: Collection[str]
) -> Config:
    """Return a group of settings, each one theirs if it was left open."""
    usual = getattr(for_target(TrainConfig(), config.encoding.target), what)
    ours: Config = getattr(config, what)
    other = getattr(theirs, what)
    left_open = {
        name: getattr(other, name)
        for name, value in vars(ours).items()
        if value == getattr(usual, name) and f"{what}.{name}" not in given
    }
    return ours.replace(**left_open)


def adapted(
    config: TrainConfig, start: Start, samples: Sequence[Sample]
) -> tuple[TrainConfig, list[str]]:
    """Adapt scale and contrast of the training images to what a model knows.

    Objects whose median diameter is not within the 5th to the 95th percentile of the
    model's objects are brought to the model's median; objects darker than what is
    around them are seen in the negative.

    Returns
    -------
    config, notes
        The settings, and what was adapted, in sentences.

    Raises
    ------
    ConfigError
        If the objects are too far from the model's in size.
    """
    notes = []
    smallest, usual, largest = start.card.diameter_px
    median = object_diameters_px(samples)[1] if has_objects(samples) else None
    if median and usual > 0 and not smallest <= median * config.scale <= largest:
        scale = round(usual / median, 2 if usual > median else 3)
        if not LEAST_SCALE <= scale <= LARGEST_SCALE:
            raise ConfigError(
                f"The annotated objects are {median:.0f} px across, too far from the "
                f"{usual:.0f} px of model {start.name!r}.",
                hint="Resample the images, or start --from scratch.",
            )
        config = config.replace(scale=scale)
        notes.append(
            f"The objects are {median:.0f} px across, those of {start.name} "
            f"{smallest:.0f} to {largest:.0f}: the new model sees images magnified by "
            f"{scale:g}."
        )
    dark = _dark(samples)
    if dark is not None and dark != config.normalization.invert:
        config = config.replace(normalization=config.normalization.replace(invert=dark))
        ours, theirs = ("darker", "brighter") if dark else ("brighter", "darker")
        notes.append(
            f"The objects are {ours} than their background, those of {start.name} "
            f"{theirs}: the new model sees the negative."
        )
    return config, notes


def _dark(samples: Sequence[Sample]) -> bool | None:
    """Return whether in most images objects are darker than their background.

    None where no image has both.
    """
    known = [dark for s in samples if (dark := has_dark_objects(s)) is not None]
    return 2 * sum(known) > len(known) if known else None


def has_dark_objects(sample: Sample) -> bool | None:
    """Return whether objects are darker than what is annotated beside them.

    None where one of the two is missing.
    """
    inside = sample.annotated & (sample.labels > 0)
    outside = sample.annotated & (sample.labels == 0)
    if not inside.any() or not outside.any():
        return None
    plane = np.nan_to_num(sample.image[0].astype(np.float64))
    # Of Python's own kind: what is asked of NumPy's cannot be saved as JSON.
    return bool(np.median(plane[inside]) < np.median(plane[outside]))


def known_images(start: Start, prints: Mapping[str, str]) -> list[str]:
    """Return the names of images that a model was trained or chosen on.

    Parameters
    ----------
    start
        The model.
    prints
        Name of each image to its fingerprint.
    """
    seen = {*start.card.training.values(), *start.card.validation.values()}
    return [name for name, print_ in prints.items() if is_known(print_, seen)]
