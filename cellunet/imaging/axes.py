"""Which planes of a stack are read: axes, channels and colours, worked out once.

Pure arithmetic on names and lengths; no file is touched here.

A file's pixels are *stored planes* of rows, columns and interleaved samples, numbered
in C order over the leading axes. A `Layout` says which stored planes and samples make
up one plane of a `cellunet.imaging.source.Source`.

- ``T`` and ``Z`` are kept, plane by plane; ``z="max"`` takes the maximum over Z.
- Of ``C`` (channels) and ``S`` (samples), one or more are chosen:
  `cellunet.imaging.channels`.
- Pages whose axis has no name (``I``, ``Q``) are a stack. They are read as T, or as Z
  if T is taken. With ``z="max"``, if no axis is called Z, a single such axis is Z.
- Anything else is refused.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cellunet.imaging.channels import all_names, choose_parts

if TYPE_CHECKING:
    from collections.abc import Callable

    from cellunet.imaging.channels import Parts
    from cellunet.imaging.source import Choice
    from cellunet.imaging.stack import Stack

UNNAMED = "IQ"


@dataclass(frozen=True)
class Layout:
    """How to put one plane together from stored planes."""

    shape: tuple[int, int]
    """Height and width."""
    plane_axes: str
    """Axes of the stack that is read: letters of T and Z."""
    plane_shape: tuple[int, ...]
    """Their lengths."""
    strides: tuple[int, ...]
    """Stored planes from one index to the next along each of `plane_axes`."""
    projected: tuple[int, int]
    """Number of stored planes to take the maximum of, and their stride."""
    parts: Parts
    """What to combine: see `cellunet.imaging.channels.Parts`."""
    gray: bool
    """Combine three `parts` into luminance; else each is a channel."""
    channel_names: tuple[str, ...]
    """Names of the channels of the result."""
    file_channels: tuple[str, ...]
    """Names of all channels of the file."""

    @property
    def channels(self) -> int:
        """Number of channels of the result."""
        return len(self.channel_names)

    @property
    def channel_name(self) -> str:
        """Name of the first channel."""
        return self.channel_names[0]

    @property
    def planes(self) -> int:
        """Number of planes."""
        return math.prod(self.plane_shape)

    def stored(self, plane: int) -> list[int]:
        """Return the stored planes, sample parts aside, that make up `plane`."""
        first = 0
        for length, stride in zip(
            reversed(self.plane_shape), reversed(self.strides), strict=True
        ):
            plane, index = divmod(plane, length)
            first += index * stride
        count, stride = self.projected
        return [first + k * stride for k in range(count)]


def lay_out(
    stack: Stack, choice: Choice, equal_colours: Callable[[], bool] = lambda: False
) -> Layout:
    """Work out what is read from `stack`.

    Parameters
    ----------
    stack
        What the file holds.
    choice
        What the user wants of it.
    equal_colours
        Called before a colour image is refused: whether red, green and blue are the
        same everywhere, as in a gray image that was saved as colour.

    Raises
    ------
    ImageReadError
        If axes are unknown, or a channel is missing, unknown or not needed.
    """
    leading, samples = stack.leading()
    channel_axes = [(a, n, s) for a, n, s in leading if a in "CS"]
    if samples > 1:
        channel_axes.append(("S", samples, 0))
    channel_axes = [x for x in channel_axes if stack.intensities(*x[:2]) > 1]
    if len(channel_axes) > 1:
        raise stack.refuse(
            "with both channels and colours.",
            "Split the channels into files of one channel each.",
        )
    axes, projected = _stack_axes(
        stack, [x for x in leading if x[0] not in "CS"], choice
    )
    channel_axis = channel_axes[0] if channel_axes else None
    parts, names = choose_parts(stack, channel_axis, choice, equal_colours)
    rows = stack.axes.find("YX")
    return Layout(
        shape=(stack.shape[rows], stack.shape[rows + 1]),
        plane_axes="".join(a for a, _, _ in axes),
        plane_shape=tuple(n for _, n, _ in axes),
        strides=tuple(s for _, _, s in axes),
        projected=projected,
        parts=parts,
        gray=len(parts) > len(names),
        channel_names=names,
        file_channels=all_names(stack, channel_axis),
    )


def _stack_axes(
    stack: Stack, axes: list[tuple[str, int, int]], choice: Choice
) -> tuple[list[tuple[str, int, int]], tuple[int, int]]:
    """Return the axes that are kept, under the names T and Z, and the projection."""
    letters = [a for a, _, _ in axes]
    unnamed = sum(a in UNNAMED for a in letters)
    known = all(a in "TZ" + UNNAMED for a in letters)
    if not known or len(axes) > 2 or letters in (["T", "T"], ["Z", "Z"]):
        found = ", ".join(f"{a}: {n}" for a, n, _ in axes)
        raise stack.refuse(
            f"and is not understood ({found}); cellunet knows at most one T and one Z "
            "before Y and X, and channels (C) or colours (S).",
            "Split the file, or save it with these axes.",
        )
    prefer = "ZT" if choice.z == "max" and unnamed == 1 else "TZ"
    for place, letter in enumerate(letters):
        if letter in UNNAMED:
            letters[place] = next(a for a in prefer if a not in letters)
    named = [(a, n, s) for a, (_, n, s) in zip(letters, axes, strict=True)]
    depth = [(n, s) for a, n, s in named if a == "Z"]
    if choice.z == "keep" or not depth:
        return named, (1, 0)
    return [x for x in named if x[0] != "Z"], depth[0]
