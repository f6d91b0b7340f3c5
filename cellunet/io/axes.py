"""Axes, channels and pyramid levels of an image: which planes are read.

- Several channels (``C``) need a choice, by number or name; of more than one, with
  commas between. A name that holds a comma itself goes first.
- Where none is chosen, those that are looked for are taken if every one of them is
  there by its name, just once. Numbers are no names: they say nothing of what a channel
  shows.
- Red, green and blue (``S``) need a choice or ``gray``; alpha is dropped. Samples that
  are neither colors nor alpha are channels like others.
- Where there is only one channel, number 0 and its name are accepted.

Pure arithmetic on names and lengths; no file is touched here.

A file's pixels are *stored planes* of rows, columns and interleaved samples, numbered
in C order over the leading axes. A `PlaneLayout` says which stored planes and samples
make up one plane of a `cellunet.io.source.Source`.

- ``T`` and ``Z`` are kept, plane by plane; ``z="max"`` takes the maximum over Z.
- Of ``C`` (channels) and ``S`` (samples), one or more are chosen, as said above.
- Pages whose axis has no name (``I``, ``Q``) are a stack, unless `PlaneChoice.pages`
  says that they are channels; of two such axes the last is channels then. Others are
  read as T, or as Z if T is taken, or the other way round if `PlaneChoice.pages` says
  so. With ``z="max"``, if no axis is called Z, a single such axis is Z.
- Axes of length 1 before or behind rows and columns are dropped.
- Anything else is refused.
"""

from __future__ import annotations

import math
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cellunet.errors import ImageReadError, some

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from cellunet.io.metadata import PixelSize
    from cellunet.io.source import PlaneChoice, Source

    Colors = Callable[[], Sequence[npt.NDArray[np.generic]]]


@dataclass(frozen=True)
class Stack:
    """What a file holds, in the file's own words."""

    path: Path
    """The file, for messages."""
    axes: str
    """One letter an axis, in storage order, as tifffile names them."""
    shape: tuple[int, ...]
    """Lengths of `axes`."""
    color: bool = False
    """The samples are red, green, blue and possibly alpha."""
    indexed: bool = False
    """The values number the colors of a palette."""
    alpha: bool = False
    """The last sample is opacity."""
    channel_names: tuple[str, ...] = ()
    """Names of the channels as far as the file gives them."""
    names_first: bool = False
    """A number is a name before it is the number of a channel, as in crops: what they
    keep channels under may be the numbers in the image."""

    def refuse(self, what: str, hint: str) -> ImageReadError:
        """Return an error that starts with the path and the axes of length above 1."""
        axes = "".join(a for a, n in self._named() if n > 1 or a in "YX")
        return ImageReadError(
            f"{self.path} has {len(axes)} axes ({axes}) {what}", hint=hint
        )

    def _named(self) -> list[tuple[str, int]]:
        return list(zip(self.axes, self.shape, strict=True))

    def leading(self) -> tuple[list[tuple[str, int, int]], int]:
        """Return (axis, length, stride) of the leading axes, and interleaved samples.

        Axes of length 1 are left out. A stride counts stored planes.
        """
        rows = self.axes.find("YX")
        behind = list(zip(self.axes[rows + 2 :], self.shape[rows + 2 :], strict=True))
        if rows < 0 or [a for a, n in behind if n > 1] not in ([], ["S"]):
            raise self.refuse(
                "in an order that cellunet does not know.",
                "Save it with Y and X as the last two axes.",
            )
        named = self._named()
        samples = math.prod(n for _, n in behind)
        leading, stride = [], 1
        for axis, length in reversed(named[:rows]):
            if length != 1:
                leading.append((axis, length, stride))
            stride *= length
        return leading[::-1], samples

    def intensities(self, axis: str, length: int) -> int:
        """Return how many channels of intensity an axis C or S of `length` holds."""
        if axis == "S" and self.color:
            return 3
        return length - 1 if axis == "S" and self.alpha else length


COLORS = ("red", "green", "blue")

LUMINANCE = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in luminance: Recommendation ITU-R BT.601-7, 2.5.1."""

GRAY = ("luminance",)
"""Name of the one channel that colors make."""

Parts = tuple[tuple[int, int], ...]
"""Per channel to combine: stored planes to skip, and number of the sample."""


def choose_parts(
    stack: Stack,
    channel_axis: tuple[str, int, int] | None,
    choice: PlaneChoice,
    colors: Colors,
) -> tuple[Parts, tuple[str, ...]]:
    """Return the parts to read, and the names of the channels that they make.

    That is one part a channel, or three for luminance.

    Parameters
    ----------
    stack
        What the file holds.
    channel_axis
        Letter, length and stride in stored planes (0: interleaved) of the axis of
        channels or colors, if there are several.
    choice
        What the user wants.
    colors
        Called where a color image is read and nothing is chosen: what is seen of them.
        If they are equal, and not empty, it is a gray image.

    Raises
    ------
    ImageReadError
        If a channel must be chosen, or the one chosen does not exist.
    """
    if channel_axis is None:
        return _only(stack, choice)
    axis, length, stride = channel_axis
    count = stack.intensities(axis, length)
    color = axis == "S" and stack.color
    names = all_names(stack, channel_axis)
    parts = [(k * stride, 0) if stride else (0, k) for k in range(count)]
    seen = colors() if color and not choice.gray and choice.channel is None else ()
    if (color and choice.gray) or _are_equal(seen):
        return tuple(parts), GRAY
    if choice.channel is not None:
        numbers = _chosen(stack, choice.channel, names)
    elif choice.known:
        numbers = _looked_for(stack, choice.known, names)
    elif color:
        raise _color(stack, seen)
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
    if axis == "S" and stack.color:
        return COLORS
    return _named(stack.channel_names, stack.intensities(axis, length))


def _named(names: tuple[str, ...], count: int) -> tuple[str, ...]:
    """Return `count` names: the file's own, else the number as text."""
    if len(names) != count:
        names = ("",) * count
    return tuple(n or str(k) for k, n in enumerate(names))


def _only(stack: Stack, choice: PlaneChoice) -> tuple[Parts, tuple[str, ...]]:
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
            "Leave out --channel; where color images lie beside it, --gray reads both. "
            "Pages without an axis name are read as a stack; if they are channels, "
            "try: --pages channels.",
        )
    return ((0, 0),), (name,)


def _are_equal(colors: Sequence[npt.NDArray[np.generic]]) -> bool:
    """Return whether colors have signal, and all the same: a gray image."""
    same = all(np.array_equal(values, colors[0]) for values in colors)
    return same and bool(_with_signal(colors))


def _with_signal(colors: Sequence[npt.NDArray[np.generic]]) -> list[str]:
    return [
        name
        for name, values in zip(COLORS, colors, strict=False)
        if values.size and values.min() < values.max()
    ]


def _color(stack: Stack, colors: Sequence[npt.NDArray[np.generic]]) -> ImageReadError:
    """Return the refusal of a color image, with what to choose."""
    used = _with_signal(colors)
    if stack.indexed:
        return stack.refuse(
            "and is in indexed color: its values number the colors of a palette, they "
            "are no intensities.",
            "Export the original again in gray; or try --gray for the luminance of "
            "its colors.",
        )
    hint = (
        "Try: --gray for its luminance, or the color that has signal: --channel NAME."
    )
    if len(used) == 1:
        hint = (
            f"Only {used[0]} has signal. Try: --channel {used[0]}, or --gray where "
            "gray images lie beside it."
        )
    elif used:
        hint = f"Try: --gray for its luminance, or one color: --channel {used[0]}."
    if stack.axes.endswith("SYX"):
        hint += (
            " If these are planes of a stack, which tifffile stores as color unless it "
            "is told not to: --pages channels, time or z."
        )
    return stack.refuse(
        f"and no channel was chosen; it is in color ({', '.join(COLORS)}).",
        hint,
    )


def _undecided(stack: Stack, names: tuple[str, ...], hint: str = "") -> ImageReadError:
    counted = f"{len(names)} channels"
    if any(n != str(k) for k, n in enumerate(names)):
        counted += f" ({', '.join(names)})"
    hint = hint or f"Try: {_example(stack, names, 1)}."
    return stack.refuse(f"and no channel was chosen; it has {counted}.", hint)


def _example(stack: Stack, names: tuple[str, ...], count: int) -> str:
    """Return the option that asks for the first channels, by name if that is sure."""
    first = names[:count]
    by_name = all(
        "," not in n and _find(stack, n, names) == k for k, n in enumerate(first)
    )
    asked = ",".join(first if by_name else map(str, range(len(first))))
    return f"--channel {shlex.quote(asked)}"


def _looked_for(
    stack: Stack, known: tuple[str, ...], names: tuple[str, ...]
) -> list[int]:
    """Return the numbers of the channels that are called as those looked for."""
    found = [_called(name, names) for name in known]
    if all(len(of) == 1 for of in found) and not any(map(str.isdecimal, known)):
        return [number for of in found for number in of]
    looks = f"The model looks at {len(known)}, in training {','.join(known)}"
    hint = (
        f"{looks}: name those of this image in that order, for example "
        f"{_example(stack, names, len(known))}."
    )
    few = f"{looks}, which are more than this image has."
    raise _undecided(stack, names, few if len(known) > len(names) else hint)


def _chosen(stack: Stack, wanted: str, names: tuple[str, ...]) -> list[int]:
    """Return the numbers of one channel, or of several with commas between."""
    whole = _find(stack, wanted, names)
    if whole is not None:
        return [whole]
    if wanted == ",".join(names):
        # A crop keeps channels under what they were asked for by: "2,0" is all of it.
        return list(range(len(names)))
    numbers = []
    for part in wanted.split(","):
        number = _find(stack, part.strip(), names)
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


def _find(stack: Stack, wanted: str, names: tuple[str, ...]) -> int | None:
    """Return the number of a channel given by number, name or name in another case."""
    if stack.names_first and wanted in names:
        return names.index(wanted)
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


AS_GRAY = "a gray image that was saved as color, read as gray"
"""Note on an image."""

UNNAMED = "IQ"

PAGES = {"channels": "C", "time": "T", "z": "Z"}
"""What pages without a name may be, and the letter of that axis."""


@dataclass(frozen=True)
class PlaneLayout:
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
    """What to combine: see `cellunet.io.axes.Parts`."""
    gray: bool
    """Combine three `parts` into luminance; else each is a channel."""
    channel_names: tuple[str, ...]
    """Names of the channels of the result."""
    file_channels: tuple[str, ...]
    """Names of all channels of the file."""
    pages: str = ""
    """How many pages without a name there are, and as what they are read."""
    notes: tuple[str, ...] = ()
    """What to tell of that."""

    @property
    def channels(self) -> int:
        """Number of channels of the result."""
        return len(self.channel_names)

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


def lay_out(stack: Stack, choice: PlaneChoice, colors: Colors = tuple) -> PlaneLayout:
    """Work out what is read from `stack`.

    Parameters
    ----------
    stack
        What the file holds.
    choice
        What the user wants of it.
    colors
        As for `choose_parts`: what is seen of red, green and blue.

    Raises
    ------
    ImageReadError
        If axes are unknown, or a channel is missing, unknown or not needed.
    """
    found, samples = stack.leading()
    leading = named_axes(stack, found, choice)
    channel_axes = [(a, n, s) for a, n, s in leading if a in "CS"]
    if samples > 1:
        channel_axes.append(("S", samples, 0))
    channel_axes = [x for x in channel_axes if stack.intensities(*x[:2]) > 1]
    if len(channel_axes) > 1:
        raise stack.refuse(
            "with both channels and colors.",
            "Split the channels into files of one channel each.",
        )
    axes, projected = _stack_axes(
        stack, [x for x in leading if x[0] not in "CS"], choice
    )
    channel_axis = channel_axes[0] if channel_axes else None
    parts, names = choose_parts(stack, channel_axis, choice, colors)
    rows = stack.axes.find("YX")
    gray = len(parts) > len(names)
    # A channel may be called as gray is, and still be one of several.
    is_gray = gray and not choice.gray
    return PlaneLayout(
        shape=(stack.shape[rows], stack.shape[rows + 1]),
        plane_axes="".join(a for a, _, _ in axes),
        plane_shape=tuple(n for _, n, _ in axes),
        strides=tuple(s for _, _, s in axes),
        projected=projected,
        parts=parts,
        gray=gray,
        channel_names=names,
        file_channels=GRAY if is_gray else all_names(stack, channel_axis),
        pages=_pages(found, leading),
        notes=(AS_GRAY,) * is_gray,
    )


Axis = tuple[str, int, int]
"""Letter, length, and stored planes from one index to the next."""


def named_axes(stack: Stack, axes: list[Axis], choice: PlaneChoice) -> list[Axis]:
    """Return leading axes with a letter for each that has no name."""
    letters = [a for a, _, _ in axes]
    unnamed = [k for k, a in enumerate(letters) if a in UNNAMED]
    wanted = "" if choice.pages is None else PAGES[choice.pages]
    named = [a for a in letters if a in "TZ"]
    if named and not unnamed and wanted and wanted not in letters:
        raise stack.refuse(
            f"and says itself what its pages are ({', '.join(named)}).",
            "Leave out --pages, which is for pages that have no name.",
        )
    if wanted == "C" and unnamed and "C" not in letters:
        letters[unnamed.pop()] = "C"
    to_z = choice.z == "max" and len(unnamed) == 1 and wanted != "T"
    for place in unnamed:
        order = "ZT" if wanted == "Z" or to_z else "TZ"
        letters[place] = next((a for a in order if a not in letters), letters[place])
    return [(a, n, s) for a, (_, n, s) in zip(letters, axes, strict=True)]


def _pages(found: list[Axis], named: list[Axis]) -> str:
    """Return how many pages have no name, and as what they are read.

    Examples
    --------
    >>> _pages([("I", 3, 1)], [("T", 3, 1)])
    '3 pages, read as T'
    """
    given = [
        (n, a) for (old, n, _), (a, _, _) in zip(found, named, strict=True) if old != a
    ]
    count = " x ".join(str(n) for n, _ in given)
    return f"{count} pages, read as {' and '.join(a for _, a in given)}" * bool(given)


def _stack_axes(
    stack: Stack, axes: list[tuple[str, int, int]], choice: PlaneChoice
) -> tuple[list[tuple[str, int, int]], tuple[int, int]]:
    """Return the axes T and Z that are kept, and the projection."""
    letters = [a for a, _, _ in axes]
    known = all(a in "TZ" for a in letters)
    if not known or len(axes) > 2 or letters in (["T", "T"], ["Z", "Z"]):
        found = ", ".join(f"{a}: {n}" for a, n, _ in axes)
        raise stack.refuse(
            f"and is not understood ({found}); cellunet knows at most one T and one Z "
            "before Y and X, and channels (C) or colors (S).",
            "Split the file, or save it with these axes.",
        )
    depth = [(n, s) for a, n, s in axes if a == "Z"]
    if choice.z == "keep" or not depth:
        return axes, (1, 0)
    return [x for x in axes if x[0] != "Z"], depth[0]


Shape = tuple[int, int]

NamedShape = tuple[str, Shape | None]

_MOST_LISTED = 6


def choose_image(
    path: Path | str, wanted: str | None, images: Sequence[NamedShape]
) -> int:
    """Return the number of the image to read: the largest, or the one that is named.

    Parameters
    ----------
    path
        The file, for the message.
    wanted
        Number or name; None: the largest, the first of equals.
    images
        Name, height and width of each; None where they count as equal.

    Raises
    ------
    ImageReadError
        If there is no such image, or several have that name.
    """
    if wanted is None:
        areas = [math.prod(shape or ()) for _, shape in images]
        return areas.index(max(areas))
    folded = wanted.casefold()
    found = [k for k, (name, _) in enumerate(images) if name.casefold() == folded]
    if wanted.isdecimal() and int(wanted) < len(images):
        found = [int(wanted)]
    if len(found) != 1:
        what = "several images" if found else "no image"
        raise ImageReadError(
            f"{path} has {what} {wanted!r}; it holds {_listed(images)}.",
            hint="Choose one by its number, with --image.",
        )
    return found[0]


def note_on_others(images: Sequence[NamedShape], chosen: int) -> str:
    """Return what to tell of the images that are not read."""
    name = f"image {chosen} {images[chosen][0]}".rstrip()
    return (
        f"{name} of {len(images)} images in the file is read; the others: "
        f"{_listed(images, chosen)}. Choose with --image N, NAME or all"
    )


def _listed(images: Sequence[NamedShape], without: int | None = None) -> str:
    """Return numbers, names and sizes of images, but for one of them."""
    texts = [
        f"{number} {name}".rstrip()
        + (f" ({shape[1]} x {shape[0]} px)" if shape else "")
        for number, (name, shape) in enumerate(images)
        if number != without
    ]
    return some(texts, _MOST_LISTED)


def choose_level(path: Path, level: int, shapes: list[Shape]) -> int:
    """Return `level` if the file has it.

    Parameters
    ----------
    path
        The file, for the message.
    level
        Number of the level; 0 is the image at full size.
    shapes
        Height and width of the image at each level.

    Raises
    ------
    ImageReadError
        If there is no such level.
    """
    if not 0 <= level < len(shapes):
        known = ", ".join(f"{k} ({h} x {w})" for k, (h, w) in enumerate(shapes))
        count = f"{len(shapes)} levels" if len(shapes) > 1 else "1 level"
        raise ImageReadError(
            f"{path} has no level {level}; it has {count}: {known}.",
            hint="Choose one of them with --level, or rescale with --scale.",
        )
    return level


def at_level(full: Shape, level: Shape, pixel_size: PixelSize) -> PixelSize:
    """Return the size of a pixel of a smaller version.

    Writers that halve an image drop or double an odd last row, so a whole number that
    fits both lengths up to one pixel goes before their ratio.

    Parameters
    ----------
    full, level
        Height and width of the image and of its smaller version.
    pixel_size
        Height and width of a pixel of the image.

    Examples
    --------
    >>> at_level((1001, 800), (500, 400), (0.5, 0.5))
    (1.0, 1.0)
    """
    height, width = (_factor(n, m) for n, m in zip(full, level, strict=True))
    return pixel_size[0] * height, pixel_size[1] * width


def level_note(number: int, full_px: tuple[float, float]) -> str:
    """Return in which pixels the results of a level count."""
    height, width = full_px
    return (
        f"level {number}: a pixel of labels and COCO files is {height:.4g} x "
        f"{width:.4g} pixels of full resolution, which tables, GeoJSON and ROIs count"
    )


def _factor(full: int, level: int) -> float:
    factor = max(round(full / level), 1)
    fits = abs(full - factor * level) < factor
    return float(factor) if fits else full / level


def axes_by_name(source: Source) -> str:
    """Return the letters of a source's planes; none if the file does not name them."""
    return "" if source.origin.pages else source.plane_axes


def matching_planes(
    axes: str, shape: Sequence[int], other_axes: str, other_shape: Sequence[int]
) -> list[int] | None:
    """Return the number in another stack of each plane of a stack; None: they differ.

    Along T and Z planes match by letter where both stacks name both, else in their
    order.

    Parameters
    ----------
    axes, shape
        Letters and lengths of the axes along which planes lie.
    other_axes, other_shape
        Those of the other stack.

    Examples
    --------
    >>> matching_planes("TZ", (2, 3), "ZT", (3, 2))
    [0, 2, 4, 1, 3, 5]
    """
    count = math.prod(shape)
    if math.prod(other_shape) != count:
        return None
    if not {"T", "Z"} <= set(axes) & set(other_axes):
        return list(range(count))
    lengths = dict(zip(axes, shape, strict=True))
    if lengths != dict(zip(other_axes, other_shape, strict=True)):
        return None
    numbers = np.arange(count).reshape(other_shape)
    ordered = numbers.transpose([other_axes.index(axis) for axis in axes])
    found: list[int] = ordered.ravel().tolist()
    return found
