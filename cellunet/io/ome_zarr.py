"""Read OME-Zarr 0.4 (Zarr 2) and 0.5 (Zarr 3) by region, from folders and servers.

Axes may come in any order; they are numbered here as T, C, Z, Y, X. A chunk that is not
there is one of the fill value, as the format has it. A store may hold several images:
the series that Bio-Formats' converter writes, and the fields of a plate.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from cellunet.bugs import bug, is_bug
from cellunet.errors import CellunetError, ImageReadError, some
from cellunet.io.axes import Stack, at_level, choose_image, choose_level
from cellunet.io.metadata import unit_s, unit_um
from cellunet.io.source import (
    READ_FAILURES,
    Damage,
    Origin,
    StoredGrid,
    array_bytes,
    brief,
    check_piece,
    memory_note,
)
from cellunet.io.stacks import RowWindow, StackSource
from cellunet.io.zarr_store import (
    METADATA,
    address,
    open_group,
    reading_zarr,
    refuse_without_ranges,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy.typing as npt

    from cellunet.io.source import PlaneChoice, Region
    from cellunet.io.stacks import Span

VERSIONS = ("0.4", "0.5")

ORDER = "TCZYX"
"""Axes in the order in which planes are numbered here."""

_TYPES = {"time": "T", "channel": "C"}

ROWS_BYTES = 32 * 2**20
"""Rows of a plane are kept between windows unless they are more than so many bytes."""

FAR_ROWS_BYTES = 128 * 2**20
"""The same of a store that is read through a network, where reading again is dear."""

STEP_BYTES = 64 * 2**20
"""Rows of full width are kept, as many as are read at once, up to so many bytes."""

LEAST_ROWS = 64
"""Rows to keep at least, of stores with lower chunks."""

AT_ONCE = 10
"""Chunks that zarr decodes at once."""


@dataclass(frozen=True)
class Level:
    """One resolution of an image."""

    path: str
    """Of its array within the group of the image."""
    scale: tuple[float, ...]
    """Length of a pixel along each axis, in the axis' unit."""
    translation: tuple[float, ...]
    """Place of the first pixel's center."""


@dataclass(frozen=True)
class Multiscale:
    """What the metadata of an image say."""

    version: str
    axes: str
    """Letters in the order of the store, as `Stack` knows them."""
    described: tuple[dict[str, Any], ...]
    """The axes as they are written there."""
    levels: tuple[Level, ...]
    channel_names: tuple[str, ...]

    @property
    def named(self) -> str:
        """Names of the axes, for messages."""
        return ", ".join(str(axis.get("name")) for axis in self.described)


def parse(path: Path, attributes: dict[str, Any]) -> Multiscale:
    """Read the attributes of an image's group.

    Raises
    ------
    ImageReadError
        If they are of another version, or not as the format has them.
    """
    found = ome_of(attributes)
    first = _first(path, found.get("multiscales"), "multiscales")
    default = "0.5" if "ome" in attributes else "0.4"
    version = str(found.get("version") or first.get("version") or default)
    if not version.startswith(VERSIONS):
        raise _refused(
            path,
            f"are of version {version}; cellunet reads {' and '.join(VERSIONS)}",
            "Write it again with a newer program, ome-zarr or bioformats2raw.",
        )
    axes = tuple(a for a in first.get("axes", ()) if isinstance(a, dict))
    letters = "".join(map(_letter, axes))
    known = letters.replace("?", "")
    if len(set(known)) < len(known) or not set("YX") <= set(known):
        named = ", ".join(str(a.get("name")) for a in axes) or "none"
        raise _refused(path, f"name axes that are not understood ({named})")
    _first(path, first.get("datasets"), "datasets")
    whole = _transform(path, first, len(axes))
    levels = []
    for dataset in first["datasets"]:
        own = _transform(path, dataset, len(axes))
        scale = tuple(a * b for a, b in zip(own[0], whole[0], strict=True))
        offsets = zip(own[1], whole[0], whole[1], strict=True)
        place = tuple(t * s + w for t, s, w in offsets)
        levels.append(Level(str(dataset.get("path", "")), scale, place))
    return Multiscale(version, letters, axes, tuple(levels), _channel_names(found))


def _channel_names(found: dict[str, Any]) -> tuple[str, ...]:
    omero = found.get("omero")
    channels = omero.get("channels") if isinstance(omero, dict) else None
    return tuple(
        str(c.get("label") or "") for c in channels or () if isinstance(c, dict)
    )


def metadata_sha256(path: Path) -> str:
    """Return what changes with axes, sizes and names of channels of a group.

    How a viewer shows it does not count.

    Raises
    ------
    ImageReadError
        If the attributes cannot be read.
    """
    with reading_zarr(path):
        found = ome_of(dict(open_group(path).attrs))
    told = [found.get("multiscales"), _channel_names(found)]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def ome_of(attributes: dict[str, Any]) -> dict[str, Any]:
    """Return the attributes of OME-Zarr: in 0.5 below one key, in 0.4 on their own."""
    own = attributes.get("ome")
    return own if isinstance(own, dict) else attributes


def _first(path: Path, value: Any, name: str) -> dict[str, Any]:  # noqa: ANN401
    if not isinstance(value, list) or not value or not isinstance(value[0], dict):
        raise _refused(path, f"have no {name}")
    return dict(value[0])


def _refused(path: Path, what: str, hint: str = "") -> ImageReadError:
    return ImageReadError(
        f"{address(path) or path} cannot be read: its OME-Zarr metadata {what}.",
        hint=hint or "Write it again as OME-Zarr 0.4 or 0.5.",
    )


def _letter(axis: dict[str, Any]) -> str:
    """Return T, C, Z, Y or X, a question mark for all else."""
    name = str(axis.get("name", "")).upper()
    letter = _TYPES.get(str(axis.get("type")), name)
    return letter if len(letter) == 1 and letter in ORDER else "?"


def _transform(
    path: Path, entry: dict[str, Any], count: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return scale and translation of a level, or of all levels."""
    scale, place = (1.0,) * count, (0.0,) * count
    for one in entry.get("coordinateTransformations") or ():
        kind = one.get("type") if isinstance(one, dict) else None
        if kind not in ("scale", "translation", "identity"):
            raise _refused(path, f"have a transformation {kind!r}")
        if kind == "identity":
            continue
        values = one.get(kind)
        if not isinstance(values, list) or len(values) != count:
            raise _refused(path, f"have a {kind} that does not fit its {count} axes")
        numbers = tuple(float(v) for v in values)
        scale, place = (numbers, place) if kind == "scale" else (scale, numbers)
    return scale, place


def image_paths(path: Path, attributes: dict[str, Any], root: Any) -> list[str]:  # noqa: ANN401
    """Return the groups of the images of a store, ``""`` for its own.

    Raises
    ------
    ImageReadError
        If it holds none.
    """
    found = ome_of(attributes)
    if "multiscales" in found:
        return [""]
    if isinstance(found.get("plate"), dict):
        return _fields(root, found["plate"])
    if "well" in found:
        return [str(i["path"]) for i in found["well"]["images"]]
    if found.get("bioformats2raw.layout") or "bioformats2raw.layout" in attributes:
        try:
            series = ome_of(dict(root["OME"].attrs)).get("series")
        except KeyError:
            series = None
        if isinstance(series, list):
            return [str(s) for s in series]
        return [str(k) for k in range(_count(lambda k: str(k) in root))]
    raise _refused(
        path,
        "hold no image (no multiscales)",
        "Name the group of an image within it.",
    )


def _count(there: Callable[[int], bool]) -> int:
    number = 0
    while there(number):
        number += 1
    return number


def _fields(root: Any, plate: dict[str, Any]) -> list[str]:  # noqa: ANN401
    """Return the fields of all wells of a plate that are there."""
    fields = []
    for well in plate.get("wells", ()):
        name = str(well["path"])
        try:
            images = ome_of(dict(root[name].attrs))["well"]["images"]
        except KeyError:
            # Some programs list wells that were never taken.
            continue
        fields += [f"{name}/{image['path']}" for image in images]
    return fields


@dataclass
class OpenZarr:
    """One image of a store."""

    array: Any
    """Zarr's array of the level that is read."""
    axes: str
    """Its axes in the order of the store."""
    stack: Stack
    """Its axes in `ORDER`."""
    sizes: dict[str, float]
    """Length of a pixel along an axis, in micrometers or seconds, if it is known."""
    origin: Origin

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of what is read: in the byte order of this machine."""
        stored = np.dtype(self.array.dtype)
        return np.dtype(np.uint8) if stored == np.bool_ else stored.newbyteorder("=")


def open_level(path: Path, choice: PlaneChoice) -> OpenZarr:
    """Open an image of a store.

    Raises
    ------
    ImageReadError
        If its metadata are not understood, or an array is not there.
    """
    group, name, names = chosen_group(path, choice.image)
    found = parse(path, dict(group.attrs))
    arrays = [_array(path, group, level, found) for level in found.levels]
    order = [found.axes.index(a) for a in ORDER if a in found.axes]
    rows, columns = order[-2:]
    shapes = [(int(a.shape[rows]), int(a.shape[columns])) for a in arrays]
    at = choose_level(path, choice.level, shapes)
    array, level = arrays[at], found.levels[at]
    if array.dtype.kind not in "biuf":
        raise _refused(path, f"lead to values of type {array.dtype}, no intensities")
    check_piece(path, array_bytes(array.chunks, array.dtype), choice.limit_bytes)
    if array.shards is not None:
        refuse_without_ranges(path, _metadata_file(name, group))
    sizes = _sizes(found, level)
    origin = Origin(
        pixel_size_from="OME-Zarr scale" if {"Y", "X"} <= sizes.keys() else "",
        image=name,
        position=name,
        notes=_notes(names, name),
        full_px=at_level(shapes[0], shapes[at], (1.0, 1.0)),
        grid=_grid(path, found, at, array, group),
    )
    stack = Stack(
        path,
        axes="".join(found.axes[k] for k in order),
        shape=tuple(int(array.shape[k]) for k in order),
        channel_names=found.channel_names,
    )
    return OpenZarr(array, found.axes, stack, sizes, origin)


def _metadata_file(name: str, group: Any) -> str:  # noqa: ANN401
    file = METADATA[group.metadata.zarr_format]
    return f"{name}/{file}" if name else file


def chosen_group(path: Path, wanted: str | None) -> tuple[Any, str, list[str]]:
    """Return the group of the image to read, its name, and those it was chosen from."""
    if wanted and "/" in wanted:
        # Of a plate: neither it nor its other wells need be looked into.
        # Zarr's error if there is an array is a ValueError.
        with contextlib.suppress(ImageReadError, ValueError):
            group = open_group(path, wanted)
            return group, str(group.path), []
    root = open_group(path)
    names = image_paths(path, dict(root.attrs), root)
    if not names:
        raise _refused(path, "name no image that is there")
    images = [(name, None) for name in names]
    name = names[choose_image(address(path) or path, wanted, images)]
    return root[name] if name else root, name, names if wanted is None else []


def _notes(names: list[str], name: str) -> tuple[str, ...]:
    if len(names) < 2:
        return ()
    others = some([n for n in names if n != name], 4)
    return (f"the store holds other images too ({others}): --image",)


def _array(path: Path, group: Any, level: Level, found: Multiscale) -> Any:  # noqa: ANN401
    try:
        array = group[level.path]
    except KeyError:
        array = None
    if array is None or not hasattr(array, "chunks"):
        raise _refused(path, f"name an array {level.path!r} that is not there")
    lengths = zip(found.axes, array.shape, strict=False)
    if any(a == "?" and n != 1 for a, n in lengths):
        raise _refused(path, f"name an axis that is not understood ({found.named})")
    if len(array.shape) != len(found.axes) or 0 in array.shape:
        raise _refused(
            path,
            f"name {len(found.axes)} axes, but its array {level.path!r} is of shape "
            f"{array.shape}",
        )
    return array


def _sizes(found: Multiscale, level: Level) -> dict[str, float]:
    """Return the size of a pixel along each axis whose unit is known."""
    sizes = {}
    for letter, axis, scale in zip(
        found.axes, found.described, level.scale, strict=True
    ):
        unit = str(axis.get("unit") or "")
        factor = unit_s(unit) if letter == "T" else unit_um(unit)
        if factor is not None and math.isfinite(scale) and scale > 0:
            # Decimal as the file has it: 1000 nm are 1 um.
            sizes[letter] = float(f"{scale * factor:.12g}")
    return sizes


def _grid(path: Path, found: Multiscale, at: int, array: Any, group: Any) -> StoredGrid:  # noqa: ANN401
    """Return on what grid labels of this image lie: its own but for channels.

    Axes that are not understood, which are of length 1, are left out, too.
    """
    kept = [k for k, a in enumerate(found.axes) if a not in "C?"]
    kept.sort(key=lambda k: ORDER.index(found.axes[k]))
    level = found.levels[at]
    return StoredGrid(
        image=str(path) if not address(path) else address(path),
        zarr_format=int(group.metadata.zarr_format),
        axes="".join(found.axes[k] for k in kept),
        lengths=tuple(int(array.shape[k]) for k in kept),
        described=tuple(found.described[k] for k in kept),
        scale=tuple(level.scale[k] for k in kept),
        translation=tuple(level.translation[k] for k in kept),
        levels=len(found.levels) - at if len(found.levels) > 1 else None,
    )


class ZarrSource(StackSource):
    """One image of an OME-Zarr as a `cellunet.io.source.Source`.

    Made by `open_zarr`.
    """

    def __init__(self, path: Path, choice: PlaneChoice) -> None:
        super().__init__(path, choice)
        opened = open_level(path, choice)
        self._take(opened.stack, opened.dtype)
        sizes = opened.sizes
        self.pixel_size_um = (
            (sizes["Y"], sizes["X"]) if {"Y", "X"} <= sizes.keys() else None
        )
        self.z_step_um, self.time_step_s = sizes.get("Z"), sizes.get("T")
        self.origin = replace(opened.origin, projected=self._layout.projected[0])
        self._opened: OpenZarr | None = opened
        chunk = dict(zip(opened.axes, opened.array.chunks, strict=True))
        self._chunk = int(chunk["Y"]), int(chunk["X"])
        shards = opened.array.shards or opened.array.chunks
        self._shard = int(shards[opened.axes.index("X")])
        self._piece = array_bytes(opened.array.chunks, opened.array.dtype)
        self._window: RowWindow | None = None
        self._alone = True
        self.memory_note = memory_note(path, self._piece, self.held_bytes(1024))

    def read(self, region: Region) -> npt.NDArray[Any]:
        """Return a region; see `cellunet.io.source.Source`."""
        region.check(self.shape, self._layout.planes)
        rows, columns = (region.y0, region.y1), (region.x0, region.x1)
        with reading_zarr(self.path):
            whole = self._keeps_one_step and columns == (0, self.shape[1])
            if not self._keeps_rows and not whole:
                self._window = None
                return self._pixels(region.plane, rows, columns)
            if self._window is None:
                self._window = RowWindow(
                    self.shape,
                    self._step,
                    self._pixels,
                    wide=self._wide,
                    # Rows of full width are read from top to bottom.
                    most=None if self._keeps_rows else 1,
                )
            return self._window.read(region.plane, rows, columns)

    def held_bytes(self, rows: int) -> int:
        """Return what reading holds; see `cellunet.io.source.Source`."""
        # A chunk is held encoded too, which can be as long.
        sides = zip(self.shape, self._chunk, strict=True)
        chunks = math.prod(-(-n // c) for n, c in sides)
        held = 2 * self._piece * min(chunks, AT_ONCE)
        step = self._step
        kept = step * self._keeps_one_step
        if self._keeps_rows:
            kept = (-(-rows // step) + 1) * step
        return held + min(kept, self.shape[0]) * self._row_bytes

    @property
    def _step(self) -> int:
        """Rows to read at once, so that no chunk is decoded twice."""
        high = self._chunk[0]
        return high * max(LEAST_ROWS // high, 1)

    @property
    def _row_bytes(self) -> int:
        return self.shape[1] * self.channels * self.dtype.itemsize

    @property
    def _keeps_rows(self) -> bool:
        """Whether rows are kept: they are few, or within one chunk."""
        if self._chunk[1] >= self.shape[1]:
            return True
        limit = FAR_ROWS_BYTES if address(self.path) else ROWS_BYTES
        return self._alone and 2 * self._step * self._row_bytes <= limit

    @property
    def _keeps_one_step(self) -> bool:
        """Whether rows of full width are read step by step."""
        return self._alone and self._step * self._row_bytes <= STEP_BYTES

    @property
    def _wide(self) -> int | None:
        """Columns to read at once: few, but whole shards; None: all."""
        if address(self.path):
            # Every call asks the server anew.
            return None
        return -(-self._chunk[1] * AT_ONCE // self._shard) * self._shard

    def _stored(self, plane: int, rows: Span, columns: Span) -> npt.NDArray[Any]:
        """Return a rectangle of a stored plane; of a damaged one what there is."""
        try:
            return self._part(plane, rows, columns)
        except MemoryError:
            raise
        except READ_FAILURES as error:
            if is_bug(error):
                raise bug(error, self.path) from error
            if address(self.path):
                raise
        pixels = np.zeros((rows[1] - rows[0], columns[1] - columns[0]), self.dtype)
        for y0, y1 in _parts(rows, self._chunk[0]):
            for x0, x1 in _parts(columns, self._chunk[1]):
                try:
                    part = self._part(plane, (y0, y1), (x0, x1))
                except MemoryError:
                    raise
                except READ_FAILURES as error:
                    lost = Damage(plane, y0, y1, x0, x1, "chunk", brief(error))
                    self._log.note(lost, error)
                    continue
                top, left = y0 - rows[0], x0 - columns[0]
                pixels[top : top + y1 - y0, left : left + x1 - x0] = part
        return pixels

    def _part(self, plane: int, rows: Span, columns: Span) -> npt.NDArray[Any]:
        opened = self._file()
        leading = self._stack.shape[:-2]
        places = np.unravel_index(plane, leading) if leading else ()
        where: dict[str, Any] = {"Y": slice(*rows), "X": slice(*columns), "?": 0}
        where |= zip(self._stack.axes[:-2], map(int, places), strict=True)
        pixels = np.asarray(opened.array[tuple(where[a] for a in opened.axes)])
        if opened.axes.index("Y") > opened.axes.index("X"):
            pixels = pixels.T
        return pixels.astype(self.dtype, copy=False)

    def _file(self) -> OpenZarr:
        """Return the image, after pickling opened anew."""
        if self._opened is None:
            opened = open_level(self.path, self._choice)
            if (opened.stack, opened.dtype) != (self._stack, self.dtype):
                raise self._has_changed()
            self._opened = opened
        return self._opened

    def close(self) -> None:
        """Forget what was read; `read` opens the store again."""
        self._window = None

    def __getstate__(self) -> dict[str, Any]:
        # Where it is sent, some blocks of a row are read, and the others elsewhere.
        return {**self.__dict__, "_opened": None, "_window": None, "_alone": False}


def _parts(span: Span, length: int) -> list[Span]:
    """Return the parts of a span that lie in one chunk each."""
    edges = range(span[0] // length * length, span[1], length)
    return [(max(e, span[0]), min(e + length, span[1])) for e in edges]


def open_zarr(path: Path, choice: PlaneChoice) -> ZarrSource:
    """Read the metadata of an OME-Zarr and check what they claim.

    Raises
    ------
    ImageReadError
        If it is no OME-Zarr, is damaged, or if a channel must be chosen.
    """
    with reading_zarr(path):
        return ZarrSource(path, choice)


def image_path(path: Path, wanted: str | None) -> str:
    """Return the group of an image within its store, ``""`` if that is the store's.

    Raises
    ------
    ImageReadError
        If there is no such image.
    """
    with reading_zarr(path):
        return chosen_group(path, wanted)[1]


def is_plate(path: Path) -> bool:
    """Return whether a store holds the wells of a plate; False if it cannot be read."""
    try:
        with reading_zarr(path):
            return "plate" in ome_of(dict(open_group(path).attrs))
    except CellunetError:
        # It is told when the image is opened.
        return False


def names_of_zarr(path: Path) -> list[str]:
    """Return the groups of the images of a store, as `open_zarr` numbers them.

    Raises
    ------
    ImageReadError
        If the store cannot be read.
    """
    with reading_zarr(path):
        root = open_group(path)
        return image_paths(path, dict(root.attrs), root)
