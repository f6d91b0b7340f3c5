"""Read the pretrained model that a training starts from, and adapt the two."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from cellunet import store
from cellunet.annotations.pairs import is_known
from cellunet.command_config import SCRATCH
from cellunet.config import TrainConfig
from cellunet.core.checkpoint import load_network
from cellunet.core.unet import widened
from cellunet.errors import ConfigError
from cellunet.presets import for_target
from cellunet.tasks.predict.inputs import option, refuse_other_order
from cellunet.tasks.train.data import has_objects, object_diameters_px

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from cellunet.core.dataset import Sample
    from cellunet.core.unet import UNet
    from cellunet.settings import Config
    from cellunet.store import ModelCard

LEAST_SCALE, LARGEST_SCALE = 0.05, 20.0


@dataclass(frozen=True, kw_only=True)
class PretrainedModel:
    """A model to start from."""

    name: str
    card: ModelCard
    network: UNet
    sha256: str
    """Of the weights."""


def read_pretrained(name: str) -> PretrainedModel | None:
    """Return a model with its weights; None for ``scratch``.

    Raises
    ------
    CellunetError
        If there is no such model, or it cannot be read.
    """
    if name == SCRATCH:
        return None
    model = store.find_model(name)
    return PretrainedModel(
        name=name,
        card=model.card,
        network=load_network(model.weights),
        sha256=model.sha256,
    )


def with_pretrained(
    config: TrainConfig, start: PretrainedModel, given: Collection[str] = ()
) -> TrainConfig:
    """Return settings in which what was left open is the model's.

    Network, normalization, encoding, weights of the loss and decode constants are left
    open where they are those of `TrainConfig` and not among `given`
    (`cellunet.tasks.train.request.TrainRequest`).

    Raises
    ------
    ConfigError
        If the model has another target, or another network or normalization than
        asked for, or its network does not take crops of the size asked for.
    """
    theirs = start.card.config
    asked = config.encoding.target
    if asked != theirs.encoding.target:
        raise ConfigError(
            f"Model {start.name!r} has the target {theirs.encoding.target}, not the "
            f"{asked} asked for.",
            hint=f"Try: encoding.target = {theirs.encoding.target!r} in the file of "
            "--config, or --from scratch.",
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
                hint="Leave out --preset and what --config says of it, or start --from "
                "scratch.",
            )
    stride = theirs.network.stride_px
    if "crop_px" in given and config.crop_px % stride:
        nearest = max(round(config.crop_px / stride), 1) * stride
        raise ConfigError(
            f"Crops of {config.crop_px} px do not fit the network of model "
            f"{start.name!r}, which needs a multiple of {stride} px.",
            hint=f"The nearest that fits: crop_px = {nearest}.",
        )
    return inherit_from_pretrained(config, theirs, given)


def inherit_from_pretrained(
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
    """Return a group of settings, each one theirs if it was left open.

    The edge is never theirs: training learns where annotations put outlines.
    """
    usual = getattr(for_target(TrainConfig(), config.encoding.target), what)
    ours: Config = getattr(config, what)
    other = getattr(theirs, what)
    left_open = {
        name: getattr(other, name)
        for name, value in vars(ours).items()
        if value == getattr(usual, name)
        and f"{what}.{name}" not in {*given, "decode.edge"}
    }
    return ours.replace(**left_open)


def adapt_pretrained(
    config: TrainConfig, start: PretrainedModel, samples: Sequence[Sample]
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
    """Return whether objects are darker than the background.

    None where one of the two is missing. Pixels without a finite value say nothing.
    """
    plane = sample.image[0].astype(np.float64)
    known = sample.annotated & np.isfinite(plane)
    inside, outside = known & (sample.labels > 0), known & (sample.labels == 0)
    if not inside.any() or not outside.any():
        return None
    # Of Python's own kind: what is asked of NumPy's cannot be saved as JSON.
    return bool(np.median(plane[inside]) < np.median(plane[outside]))


def known_images(start: PretrainedModel, prints: Mapping[str, str]) -> list[str]:
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


def count_of(samples: Sequence[Sample]) -> int:
    """Return how many channels of the images are looked at.

    Raises
    ------
    ConfigError
        If images differ in their number of channels.
    """
    counts = {len(s.image) for s in samples}
    if len(counts) != 1:
        raise ConfigError(
            f"The images have different numbers of channels: {counts}.",
            hint="Name as many of each with --channel.",
        )
    return counts.pop()


def channel_names(samples: Sequence[Sample]) -> tuple[str, ...]:
    """Return what the channels are called, where it is several; empty for one.

    Their numbers, where no file names them, or files name them differently.
    """
    count = count_of(samples)
    if count == 1:
        return ()
    named = list(_named(samples))
    if len(named) == 1:
        return named[0]
    return tuple(map(str, range(count))) if named else samples[0].channels


def names_differ(samples: Sequence[Sample]) -> str:
    """Return a note where files call the same channels differently, or nothing."""
    named = _named(samples)
    if count_of(samples) == 1 or len(named) < 2:
        return ""
    names = "; ".join(f"{', '.join(n)} in {k}" for n, k in named.most_common())
    return (
        f"The channels have different names in the images ({names}). "
        "If one of them shows something else than in the others, name channels by name."
    )


def _named(samples: Sequence[Sample]) -> Counter[tuple[str, ...]]:
    """Return by what names how many images call their channels; numbers are none."""
    names = (s.channels for s in samples)
    return Counter(n for n in names if n and not any(map(str.isdecimal, n)))


def widen_channels(
    start: PretrainedModel, samples: Sequence[Sample], asked: str | None
) -> PretrainedModel:
    """Return a start that looks at as many channels as training images have.

    It computes what it did before: the channels that it does not know, which come
    after those that it does, weigh nothing at first.

    Parameters
    ----------
    start
        The model to start from.
    samples
        Training and validation images.
    asked
        What their channels were asked for by.

    Raises
    ------
    ConfigError
        If the start looks at more channels, or at those named in another order.
    """
    config, count = start.card.config, count_of(samples)
    theirs = config.image_channels
    if count < theirs:
        called = start.card.channels or tuple(map(str, range(theirs)))
        raise ConfigError(
            f"Model {start.name!r} looks at {theirs} channels ({', '.join(called)}), "
            f"but {count} {'is' if count == 1 else 'are'} to be trained on.",
            hint=f"Name as many, for example {option(called)}, or start from another "
            "model: --from nuclei, --from scratch.",
        )
    refuse_other_order(channel_names(samples), start.card.channels, start.name, asked)
    if count == theirs:
        return start
    in_channels = count * config.normalization.channels
    network = widened(start.network, in_channels)
    config = config.replace(network=network.config)
    return replace(start, network=network, card=replace(start.card, config=config))


def refuse_classic(config: TrainConfig, samples: Sequence[Sample]) -> None:
    """Refuse several channels for the preset that repeats a study of one.

    Raises
    ------
    ConfigError
        If so.
    """
    names = channel_names(samples)
    if names and config.preset == "classic":
        raise ConfigError(
            f"The preset classic looks at one channel, not at {len(names)} "
            f"({', '.join(names)}).",
            hint=f"Leave out --preset, or name one: {option(names[:1])}.",
        )
