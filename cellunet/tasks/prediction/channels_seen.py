"""Whether the channels of an image are those that a model looks at."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from cellunet.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cellunet.imaging.files import Source
    from cellunet.store import ModelCard

APART = (
    "Channels in files of their own are not read together: save them as one OME-TIFF "
    "or ImageJ hyperstack."
)


def refuse_misfit(
    source: Source,
    model: str,
    card: ModelCard,
    asked: str | None,
    *,
    more: bool = False,
) -> None:
    """Refuse an image of which other channels were opened than a model looks at.

    Parameters
    ----------
    source
        The image.
    model, card
        Name and card of the model.
    asked
        What the channels were asked for by.
    more
        Whether further channels may follow those that the model looks at.

    Raises
    ------
    ConfigError
        If there are more or fewer of them, or if they are named in another order than
        in training.
    """
    wanted, found = card.config.image_channels, source.channel_names
    if len(found) < wanted:
        raise _too_few(source, model, card)
    if len(found) > wanted and not more:
        raise ConfigError(
            f"{source.path}: {len(found)} channels are named ({', '.join(found)}), but "
            f"model {model!r} looks at {'one' if wanted == 1 else wanted}.",
            hint=f"Try: {option(found[:wanted])}. A model that looks at all of them is "
            "trained with the same --channel (docs/few-labels.md).",
        )
    refuse_other_order(found, card.channels, model, asked)


def refuse_other_order(
    found: tuple[str, ...], known: tuple[str, ...], model: str, asked: str | None
) -> None:
    """Refuse channels that a model knows by name, but not in its order and first.

    Whoever asks for them by number knows better than the names in the file.

    Raises
    ------
    ConfigError
        If so.
    """
    ours, theirs = ([n.casefold() for n in names] for names in (found, known))
    parts = (asked or "0").split(",")
    by_name = not any(part.strip().isdecimal() for part in parts)
    if by_name and ours[: len(theirs)] != theirs and set(theirs) <= set(ours):
        further = (name for name in found if name.casefold() not in theirs)
        raise ConfigError(
            f"Model {model!r} looks at {', '.join(known)} in this order, not at "
            f"{', '.join(found)}.",
            hint=f"Try: {option((*known, *further))}. By numbers any order is taken.",
        )


def option(names: Iterable[str]) -> str:
    """Return the option that names these channels, as a shell takes it."""
    return f"--channel {shlex.quote(','.join(names))}"


def _too_few(source: Source, model: str, card: ModelCard) -> ConfigError:
    wanted, every = card.config.image_channels, source.file_channels
    called = f" ({', '.join(card.channels)})" if card.channels else ""
    looks = f"model {model!r} looks at {wanted} channels at once{called}"
    if len(every) < wanted:
        count = "one channel" if len(every) == 1 else f"{len(every)} channels"
        return ConfigError(f"{source.path} has {count}, but {looks}.", hint=APART)
    known = {name.casefold() for name in every}
    there = card.channels and all(n.casefold() in known for n in card.channels)
    names = card.channels if there else tuple(map(str, range(wanted)))
    found = ", ".join(source.channel_names)
    return ConfigError(
        f"{source.path}: {found} alone is asked for, but {looks}.",
        hint=f"Name them in this order, of {', '.join(every)}: for example "
        f"{option(names)}.",
    )
