"""How many channels a training looks at, and a start that looks at as many."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from cellunet.core.unet import widened
from cellunet.errors import ConfigError
from cellunet.tasks.prediction.channels_seen import option, refuse_other_order

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cellunet.config import TrainConfig
    from cellunet.core.dataset import Sample
    from cellunet.tasks.training.start_model import Start


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


def names_of(samples: Sequence[Sample]) -> tuple[str, ...]:
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
    """Return what to say where files call the same channels differently, or nothing."""
    named = _named(samples)
    if count_of(samples) == 1 or len(named) < 2:
        return ""
    told = "; ".join(f"{', '.join(n)} in {k}" for n, k in named.most_common())
    return (
        f"The channels that are looked at are not called alike in all images ({told}). "
        "If one of them shows something else than in the others, name channels by name."
    )


def _named(samples: Sequence[Sample]) -> Counter[tuple[str, ...]]:
    """Return by what names how many images call their channels; numbers are none."""
    names = (s.channels for s in samples)
    return Counter(n for n in names if n and not any(map(str.isdecimal, n)))


def as_wide(start: Start, samples: Sequence[Sample], asked: str | None) -> Start:
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
    refuse_other_order(names_of(samples), start.card.channels, start.name, asked)
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
    names = names_of(samples)
    if names and config.preset == "classic":
        raise ConfigError(
            f"The preset classic looks at one channel, not at {len(names)} "
            f"({', '.join(names)}).",
            hint=f"Leave out --preset, or name one: {option(names[:1])}.",
        )
