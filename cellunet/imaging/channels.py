"""Which channel of an image is read, and what to say if none was chosen.

- Several channels (``C``) need a choice, by number or name.
- Red, green and blue (``S``) need a choice or ``gray``; alpha is dropped. Samples that
  are neither colours nor alpha are channels like others.
- Where there is only one channel, number 0 and its name are accepted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from cellunet.errors import ImageReadError
    from cellunet.imaging.source import Choice
    from cellunet.imaging.stack import Stack

COLOURS = ("red", "green", "blue")
LUMINANCE = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in luminance: Recommendation ITU-R BT.601-7, 2.5.1."""
Parts = tuple[tuple[int, int], ...]
"""Per channel to combine: stored planes to skip, and number of the sample."""


def choose_parts(
    stack: Stack,
    channel_axis: tuple[str, int, int] | None,
    choice: Choice,
    equal_colours: Callable[[], bool],
) -> tuple[Parts, str]:
    """Return the parts to read, three for luminance and else one, and a name.

    Parameters
    ----------
    stack
        What the file holds.
    channel_axis
        Letter, length and stride in stored planes (0: interleaved) of the axis of
        channels or colours, if there are several.
    choice
        What the user wants.
    equal_colours
        Called before a colour image is refused: whether its colours are all the same.

    Raises
    ------
    ImageReadError
        If a channel must be chosen, or the one chosen does not exist.
    """
    if channel_axis is None:
        return _only(stack, choice)
    axis, length, stride = channel_axis
    count = stack.intensities(axis, length)
    colour = axis == "S" and stack.colour
    names = all_names(stack, channel_axis)
    parts = [(k * stride, 0) if stride else (0, k) for k in range(count)]
    if colour and choice.gray:
        return tuple(parts), "luminance"
    if choice.channel is None:
        if colour:
            raise _colour(stack, equal_colours())
        raise _undecided(stack, names)
    number = _find(choice.channel, names)
    if number is None:
        known = ", ".join(f"{k} ({n})" for k, n in enumerate(names))
        raise stack.refuse(
            f"and no channel {choice.channel!r}.", f"Its channels: {known}."
        )
    return (parts[number],), names[number]


def all_names(
    stack: Stack, channel_axis: tuple[str, int, int] | None
) -> tuple[str, ...]:
    """Return the names of all channels of intensity, as `choose_parts` numbers them."""
    if channel_axis is None:
        return _named(stack.channel_names, 1)
    axis, length, _ = channel_axis
    if axis == "S" and stack.colour:
        return COLOURS
    return _named(stack.channel_names, stack.intensities(axis, length))


def _named(names: tuple[str, ...], count: int) -> tuple[str, ...]:
    """Return `count` names: the file's own, else the number as text."""
    if len(names) != count:
        names = ("",) * count
    return tuple(n or str(k) for k, n in enumerate(names))


def _only(stack: Stack, choice: Choice) -> tuple[Parts, str]:
    """Return the one channel there is, if `choice` agrees."""
    name = _named(stack.channel_names, 1)[0]
    wanted = choice.channel
    if wanted is not None and wanted.casefold() not in ("0", name.casefold()):
        raise stack.refuse(
            f"and one channel ({name}), not a channel {wanted!r}.",
            "Leave out --channel. Pages without an axis name are read as a stack; if "
            "they are channels, save the file as OME-TIFF or ImageJ hyperstack.",
        )
    return ((0, 0),), name


def _colour(stack: Stack, equal: bool) -> ImageReadError:
    if equal:
        return stack.refuse(
            "and is in colour, but its colours are equal: a gray image saved as RGB.",
            "Try: --gray.",
        )
    return stack.refuse(
        f"and no channel was chosen; it is in colour ({', '.join(COLOURS)}).",
        "Try: --gray for its luminance, or --channel 0.",
    )


def _undecided(stack: Stack, names: tuple[str, ...]) -> ImageReadError:
    counted = f"{len(names)} channels"
    if any(n != str(k) for k, n in enumerate(names)):
        counted += f" ({', '.join(names)})"
    return stack.refuse(
        f"and no channel was chosen; it has {counted}.", "Try: --channel 0."
    )


def _find(wanted: str, names: tuple[str, ...]) -> int | None:
    """Return the number of a channel given by number, name or name in another case."""
    if wanted.isdecimal() and int(wanted) < len(names):
        return int(wanted)
    if wanted in names:
        return names.index(wanted)
    matches = [k for k, n in enumerate(names) if n.casefold() == wanted.casefold()]
    return matches[0] if len(matches) == 1 else None


def combine(parts: list[npt.NDArray[Any]], gray: bool) -> npt.NDArray[Any]:
    """Return one channel, or the luminance of three.

    Parameters
    ----------
    parts
        Arrays YX: one, or red, green and blue.
    gray
        Combine three by Recommendation ITU-R BT.601 into float32.
    """
    if not gray:
        return parts[0]
    total = np.zeros(parts[0].shape, np.float32)
    for part, weight in zip(parts, LUMINANCE, strict=True):
        total += np.float32(weight) * part.astype(np.float32)
    return total
