"""Which channels of an image are read, and what to say if none was chosen.

- Several channels (``C``) need a choice, by number or name; of more than one, with
  commas between. A name that holds a comma itself goes first.
- Where none is chosen, those that are looked for are taken if every one of them is
  there by its name. Numbers are no names: they say nothing of what a channel shows.
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
) -> tuple[Parts, tuple[str, ...]]:
    """Return the parts to read, and the names of the channels that they make.

    That is one part a channel, or three for luminance.

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
        return tuple(parts), ("luminance",)
    if choice.channel is not None:
        numbers = _chosen(stack, choice.channel, names)
    elif choice.known:
        numbers = _looked_for(stack, choice.known, names)
    elif colour:
        raise _colour(stack, equal_colours())
    else:
        raise _undecided(stack, names)
    return tuple(parts[k] for k in numbers), tuple(names[k] for k in numbers)


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


def _only(stack: Stack, choice: Choice) -> tuple[Parts, tuple[str, ...]]:
    """Return the one channel there is, if `choice` agrees."""
    name = _named(stack.channel_names, 1)[0]
    wanted = choice.channel
    if wanted is not None and wanted.casefold() not in ("0", name.casefold()):
        if "," in wanted:
            raise stack.refuse(
                f"and one channel ({name}), not {wanted!r}.",
                "Channels in files of their own are not read together: save them as "
                "one OME-TIFF or ImageJ hyperstack.",
            )
        raise stack.refuse(
            f"and one channel ({name}), not a channel {wanted!r}.",
            "Leave out --channel. Pages without an axis name are read as a stack; if "
            "they are channels, save the file as OME-TIFF or ImageJ hyperstack.",
        )
    return ((0, 0),), (name,)


def _colour(stack: Stack, equal: bool) -> ImageReadError:
    if equal:
        return stack.refuse(
            "and is in colour, but its colours are equal: a gray image saved as RGB.",
            "Try: --gray.",
        )
    if stack.indexed:
        return stack.refuse(
            "and is in indexed color: its values number the colors of a palette, they "
            "are no intensities.",
            "Export the original again in gray; or try --gray for the luminance of "
            "its colors.",
        )
    hint = "Try: --gray for its luminance, or --channel 0."
    if stack.axes.endswith("SYX"):
        hint += (
            " If these are planes of a stack, which tifffile stores as color unless it "
            "is told not to, save them with photometric='minisblack'."
        )
    return stack.refuse(
        f"and no channel was chosen; it is in colour ({', '.join(COLOURS)}).",
        hint,
    )


def _undecided(
    stack: Stack, names: tuple[str, ...], hint: str = "Try: --channel 0."
) -> ImageReadError:
    counted = f"{len(names)} channels"
    if any(n != str(k) for k, n in enumerate(names)):
        counted += f" ({', '.join(names)})"
    return stack.refuse(f"and no channel was chosen; it has {counted}.", hint)


def _looked_for(
    stack: Stack, known: tuple[str, ...], names: tuple[str, ...]
) -> list[int]:
    """Return the numbers of the channels that are called as those looked for."""
    found = [k for name in known for k in _called(name, names)]
    if len(found) == len(known) and not any(map(str.isdecimal, known)):
        return found
    numbers = ",".join(map(str, range(len(known))))
    raise _undecided(
        stack,
        names,
        f"The model looks at {len(known)}, in training {','.join(known)}: name those "
        f"of this image in that order, for example --channel {numbers}.",
    )


def _chosen(stack: Stack, wanted: str, names: tuple[str, ...]) -> list[int]:
    """Return the numbers of one channel, or of several with commas between."""
    whole = _find(wanted, names)
    if whole is not None:
        return [whole]
    if wanted == ",".join(names):
        # A crop keeps channels under what they were asked for by: "2,0" is all of it.
        return list(range(len(names)))
    numbers = []
    for part in wanted.split(","):
        number = _find(part.strip(), names)
        if number is None:
            listed = ", ".join(f"{k} ({n})" for k, n in enumerate(names))
            raise stack.refuse(
                f"and no channel {part.strip()!r}.", f"Its channels: {listed}."
            )
        if number in numbers:
            raise stack.refuse(
                f"and channel {number} ({names[number]}) is asked for twice.",
                "Name each channel once.",
            )
        numbers.append(number)
    return numbers


def _find(wanted: str, names: tuple[str, ...]) -> int | None:
    """Return the number of a channel given by number, name or name in another case."""
    if wanted.isdecimal() and int(wanted) < len(names):
        return int(wanted)
    if wanted in names:
        return names.index(wanted)
    matches = _called(wanted, names)
    return matches[0] if len(matches) == 1 else None


def _called(wanted: str, names: tuple[str, ...]) -> list[int]:
    """Return the numbers of the channels of a name, in whatever case."""
    return [k for k, n in enumerate(names) if n.casefold() == wanted.casefold()]


def combine(parts: list[npt.NDArray[Any]], gray: bool) -> npt.NDArray[Any]:
    """Return channels as they are, or the luminance of three.

    Parameters
    ----------
    parts
        Arrays YX of one type: one a channel, or red, green and blue.
    gray
        Combine three by Recommendation ITU-R BT.601 into float32.

    Returns
    -------
    ndarray
        YX of one channel, else CYX.
    """
    if not gray:
        return parts[0] if len(parts) == 1 else np.stack(parts)
    total = np.zeros(parts[0].shape, np.float32)
    for part, weight in zip(parts, LUMINANCE, strict=True):
        total += np.float32(weight) * part.astype(np.float32)
    return total
