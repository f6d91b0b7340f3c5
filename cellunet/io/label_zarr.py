"""Write label images as OME-Zarr: a store of their own, or labels within an image's.

One process writes all of a store: two that write chunks of one shard would lose some
without a word. Rows gather until they fill a row of chunks. When all are there, every
level is made of the one before, every other pixel of every other row, so that no label
is ever averaged; its pixels lie where the first of each two lay, as its metadata say.

All is written into a hidden folder beside, the metadata last, and renamed. Labels
within an image are listed there after that.
"""

from __future__ import annotations

import colorsys
import contextlib
import json
import math
import os
import shutil
import sys
import threading
import warnings
from itertools import pairwise, product
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from cellunet.errors import OutputError
from cellunet.io.files import (
    clear_leftovers,
    locked,
    partial_path,
    write_atomically,
    writing,
)
from cellunet.io.zarr_store import (
    METADATA,
    NAMESPACE,
    read_attributes,
    read_provenance,
    store_of,
    zarr_format,
    zarr_module,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    import numpy.typing as npt

    from cellunet.io.label_tiff import ImageSpec

LOCK = ".cellunet.lock"
"""In the store of an image, while labels are written into it."""

CHUNK_PX = 512

WIDE_PX = 8192
"""Where a level is wider than this, chunks are twice as wide and half as high: fewer
rows wait until they fill one."""

ONE_CHUNK_PX = 1024
"""Up to this height and width a level is one chunk: each costs milliseconds."""

SHARD_PX = 4096
"""Width of a shard: that of four tiles that are decoded. It is no higher than a chunk,
so that no more than its rows wait."""

COPIES_BYTES = 28 * 2**20
"""Copies of pixels while a shard is written or a coarser level made, at most, measured;
of a small plane four times its pixels."""

MOST_COLORS = 10_000
"""Labels up to which each gets a color of its own in the metadata."""

_GOLDEN = (math.sqrt(5) - 1) / 2

_listing = threading.Lock()
"""Held while a store's own metadata are written: fields of a plate share them."""

LISTING = ".cellunet-listing.lock"
"""The same for other processes: in the store, as that of a plate."""

LATE = ".cellunet-late"
"""In a store of which consolidated metadata do not know yet what was listed in it."""

_late: list[set[Path]] = []
"""Of each run that consolidates at its end, the stores that it will."""

LISTING_S = 600.0
"""So long others may take for the metadata of a large plate."""


def chunk_shape(shape: tuple[int, int]) -> tuple[int, int]:
    """Return height and width of the chunks of a level."""
    high = wide = ONE_CHUNK_PX if max(shape) <= ONE_CHUNK_PX else CHUNK_PX
    if shape[1] > WIDE_PX:
        high, wide = high // 2, 2 * wide
    return min(shape[0], high), min(shape[1], wide)


def held_bytes(shape: tuple[int, int]) -> int:
    """Return the bytes that `ZarrSink` holds of a plane at most."""
    height, width = shape
    copies = min(COPIES_BYTES, 4 * 4 * height * width)
    return 4 * chunk_shape(shape)[0] * width + copies


class ZarrSink:
    """The `cellunet.io.source.Sink` of OME-Zarr.

    Parameters
    ----------
    path
        Where the group is to appear: ``NAME.zarr``, or ``IMAGE.zarr/labels/NAME``.
    spec
        What the labels are, with the grid of their image; they are written as uint32.

    Raises
    ------
    OutputError
        If it cannot be written there, or if something else is there.
    ValueError
        Without a grid.
    """

    def __init__(self, path: Path, spec: ImageSpec) -> None:
        zarr = zarr_module()
        if spec.grid is None:
            raise ValueError("labels of no OME-Zarr are written as OME-Zarr")
        self.path, self._spec, self._grid = path, spec, spec.grid
        self._provenance = spec.provenance
        json.dumps(spec.provenance, allow_nan=False)
        self._format = spec.grid.zarr_format
        self._most = self._plane = self._y = self._filled = 0
        refuse_foreign(path)
        with self._writing():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._partial = partial_path(path)
            self._partial.mkdir()
            self._open = True
            self._store = zarr.storage.LocalStore(self._partial)
            try:
                self._levels = self._made_levels()
                high, width = self._levels[0].chunks[-2], spec.shape[1]
                self._rows = np.empty((high, width), np.uint32)
            except BaseException:
                self.abort()
                raise

    def _writing(self) -> Any:  # noqa: ANN401
        return writing(self.path / METADATA[self._format])

    def _axes(self) -> tuple[str, tuple[dict[str, Any], ...], list[int]]:
        """Return letters and descriptions of the axes of labels, and their lengths."""
        spec, grid = self._spec, self._grid
        lengths = dict(zip(spec.plane_axes, spec.plane_shape, strict=True))
        # An axis that was projected is no more.
        kept = [
            k
            for k, (a, n) in enumerate(zip(grid.axes, grid.lengths, strict=True))
            if a in "YX" or a in spec.plane_axes or n == 1
        ]
        letters = "".join(grid.axes[k] for k in kept)
        known = tuple(grid.described[k] for k in kept)
        return letters, known, [lengths.get(a, 1) for a in letters[:-2]]

    def _made_levels(self) -> list[Any]:
        _, axes, leading = self._axes()
        height, width = self._spec.shape
        count = self._grid.levels or 1
        if not self._grid.levels:
            while max(height, width) >> count - 1 > ONE_CHUNK_PX:
                count += 1
        self._leading = tuple(leading)
        shapes = ([-(-n // 2**k) for n in (height, width)] for k in range(count))
        return [
            self._array(str(number), (*leading, *shape), axes)
            for number, shape in enumerate(shapes)
        ]

    def _array(
        self, name: str, shape: tuple[int, ...], axes: tuple[dict[str, Any], ...]
    ) -> Any:  # noqa: ANN401
        width = shape[-1]
        high, side = chunk_shape((shape[-2], width))
        chunks = (*(1 for _ in shape[:-2]), high, side)
        options: dict[str, Any] = {}
        if self._format == 2:
            options["chunk_key_encoding"] = {"name": "v2", "separator": "/"}
        else:
            options["dimension_names"] = [str(axis["name"]) for axis in axes]
            if width > side:
                wide = min(SHARD_PX, -(-width // side) * side)
                options["shards"] = (*chunks[:-1], wide)
        return zarr_module().create_array(
            self._store,
            name=name,
            zarr_format=self._format,
            shape=shape,
            chunks=chunks,
            dtype="uint32",
            fill_value=0,
            compressors=_zstd(self._format),
            **options,
        )

    def write(self, plane: int, y0: int, rows: npt.NDArray[Any]) -> None:
        """Append full-width rows; see `cellunet.io.source.Sink`.

        Raises
        ------
        OutputError
            If there is no room.
        ValueError
            If rows come out of order, or of another width: a bug.
        """
        height, width = self._spec.shape
        fits = rows.ndim == 2 and rows.shape[1] == width and y0 + len(rows) <= height
        if (plane, y0) != (self._plane, self._y) or not fits or not len(rows):
            raise ValueError(
                f"rows {rows.shape} at {(plane, y0)}, expected at "
                f"{(self._plane, self._y)} of {self._spec.shape}"
            )
        self._most = max(self._most, int(rows.max()))
        end = y0 + len(rows)
        with self._writing():
            while len(rows):
                taken = rows[: len(self._rows) - self._filled]
                filled = self._filled + len(taken)
                self._rows[self._filled : filled] = taken
                self._filled, rows = filled, rows[len(taken) :]
                if filled == len(self._rows) or end - len(rows) == height:
                    y1 = end - len(rows)
                    self._put(self._levels[0], plane, y1 - filled, self._rows[:filled])
                    self._filled = 0
        self._y = end % height
        self._plane += not self._y

    def _place(self, plane: int) -> tuple[int, ...]:
        """Return where a plane stands along the axes before Y and X."""
        place = np.unravel_index(plane, self._leading) if self._leading else ()
        return tuple(map(int, place))

    def _put(self, level: Any, plane: int, y0: int, rows: npt.NDArray[Any]) -> None:  # noqa: ANN401
        """Write full-width rows, one shard after the other: each costs copies of it."""
        for x0 in range(0, rows.shape[1], SHARD_PX):
            part = slice(y0, y0 + len(rows)), slice(x0, x0 + SHARD_PX)
            level[(*self._place(plane), *part)] = rows[:, part[1]]

    def _make_coarser(self) -> None:
        """Make every level but the first of the one before, shard after shard."""
        for plane, (fine, coarse) in product(
            range(self._plane), pairwise(self._levels)
        ):
            height, width = coarse.shape[-2:]
            high = coarse.chunks[-2]
            rows = np.empty((high, width), np.uint32)
            down, across = -(-fine.chunks[-2] // 2), SHARD_PX // 2
            for y0 in range(0, height, high):
                y1 = min(y0 + high, height)
                for y, x in product(range(y0, y1, down), range(0, width, across)):
                    twice = slice(2 * y, 2 * (y + down)), slice(2 * x, 2 * (x + across))
                    part = fine[(*self._place(plane), *twice)][::2, ::2]
                    top = y - y0
                    rows[top : top + len(part), x : x + across] = part
                self._put(coarse, plane, y0, rows[: height - y0])

    def commit(self, noted: Mapping[str, Any] | None = None) -> None:
        """Make the labels appear; see `cellunet.io.source.Sink`.

        Raises
        ------
        OutputError
            If there is no room or no permission; then nothing stays behind.
        ValueError
            If rows are missing: a bug.
        """
        try:
            if self._plane != math.prod(self._spec.plane_shape):
                raise ValueError(f"{self._plane} planes of {self._spec.plane_shape}")
            with self._writing():
                self._rows = np.empty((0, 0), np.uint32)
                self._make_coarser()
                write_group(self._partial, self._format, self._attributes(noted or {}))
                sys.audit("cellunet.commit", str(self.path))
                self._publish()
            list_labels(self.path)
        finally:
            self.abort()

    def _publish(self) -> None:
        """Rename the folder, and remove earlier labels that it replaces."""
        refuse_foreign(self.path)
        if self._spec.same_labels and (self.path / "tables").is_dir():
            shutil.copytree(self.path / "tables", self._partial / "tables")
        old = partial_path(self.path) if self.path.exists() else None
        if old is not None:
            self.path.rename(old)
        try:
            self._partial.rename(self.path)
        except BaseException:
            if old is not None:
                old.rename(self.path)
            raise
        self._open = False
        if old is not None:
            shutil.rmtree(old, ignore_errors=True)

    def _attributes(self, noted: Mapping[str, Any]) -> dict[str, Any]:
        """Return the metadata of the group."""
        letters, axes, _ = self._axes()
        scale, place = self._transform(letters)
        datasets = []
        for number in range(len(self._levels)):
            factors = [1] * (len(letters) - 2) + [2**number] * 2
            own = [s * f for s, f in zip(scale, factors, strict=True)]
            steps: list[dict[str, Any]] = [{"type": "scale", "scale": own}]
            if any(place):
                steps.append({"type": "translation", "translation": list(place)})
            datasets.append({"path": str(number), "coordinateTransformations": steps})
        version = {2: "0.4", 3: "0.5"}[self._format]
        multiscale: dict[str, Any] = {
            "name": self.path.stem,
            "axes": list(axes),
            "datasets": datasets,
            "type": "nearest",
        }
        label: dict[str, Any] = {"source": {"image": self._source()}}
        if 0 < self._most <= MOST_COLORS:
            values = range(1, self._most + 1)
            label["colors"] = [{"label-value": n, "rgba": color(n)} for n in values]
        if self._format == 2:
            multiscale, label = ({"version": version, **m} for m in (multiscale, label))
        ome = {"multiscales": [multiscale], "image-label": label}
        own_key = {NAMESPACE: (self._provenance or {}) | dict(noted)}
        if self._format == 2:
            return ome | own_key
        return {"ome": {"version": version, **ome}} | own_key

    def _transform(self, letters: str) -> tuple[list[float], list[float]]:
        """Return scale and translation of full size, along the axes of the labels."""
        grid = self._grid
        kept = [grid.axes.index(a) for a in letters]
        return [grid.scale[k] for k in kept], [grid.translation[k] for k in kept]

    def _source(self) -> str:
        """Return where the image is, as seen from the labels."""
        image = self._grid.image
        if is_within(self.path):
            return "../../"
        if "://" in image:
            return image
        try:
            path = os.path.relpath(image, self.path)
        except ValueError:
            # Of another drive.
            path = image
        return path.replace(os.sep, "/")

    def abort(self) -> None:
        """Leave nothing behind; does nothing after `commit`."""
        if self._open:
            self._open = False
            shutil.rmtree(self._partial, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.abort()


def _zstd(number: int) -> Any:  # noqa: ANN401 - of a library
    # Imported with zarr, which brings both.
    if number == 2:
        from numcodecs import Zstd

        return Zstd(level=5)
    from zarr.codecs import ZstdCodec

    return ZstdCodec(level=5)


def color(number: int) -> list[int]:
    """Return red, green, blue and opacity of a label: neighbors differ in hue.

    Examples
    --------
    >>> color(1)
    [63, 119, 255, 255]
    """
    hue = number * _GOLDEN % 1.0
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.75, 1.0)
    return [*(int(255 * c) for c in (red, green, blue)), 255]


def is_within(path: Path) -> bool:
    """Return whether labels lie within the store of their image."""
    return path.parent.name == "labels" and store_of(path) != path


def refuse_foreign(path: Path) -> None:
    """Refuse to replace a folder whose labels cellunet did not write.

    Raises
    ------
    OutputError
        If there is one.
    """
    # Of os.path, because Path.exists may raise where a folder may not be entered.
    if not os.path.lexists(path) or read_provenance(path) is not None:
        return
    if is_within(path):
        raise OutputError(
            f"{store_of(path)} has labels {path.name!r} already, which are no labels "
            "of cellunet.",
            hint="Choose another name with --into-source NAME.",
        )
    raise OutputError(
        f"{path} exists and is no label image of cellunet.",
        hint="Rename it, or choose another --out.",
    )


@contextlib.contextmanager
def alone_in(path: Path) -> Iterator[None]:
    """Have to oneself the store that labels are written into, and see that it can be.

    Labels that an earlier run finished and had no time to list are listed, and what
    it left half done is removed.

    Raises
    ------
    BusyError
        If another process writes there.
    OutputError
        If the store cannot be written.
    """
    store = path.parent.parent
    with contextlib.ExitStack() as stack:
        with writing(store / LOCK, "--into-source"):
            stack.enter_context(
                locked(
                    store / LOCK,
                    f"Labels are being written into {store}",
                    "Wait until that is done; one run at a time writes into a store.",
                )
            )
            clear_leftovers({store, path.parent})
            if read_provenance(path) is not None:
                list_labels(path)
            if _late and (store_of(path) / LATE).exists():
                _late[-1].add(store_of(path))
        yield


def list_labels(path: Path) -> None:
    """Have the store of an image list labels that were written into it.

    Parameters
    ----------
    path
        The group of the labels. Nothing is done if it is a store of its own, or listed.

    Raises
    ------
    OutputError
        If the store cannot be written.
    """
    if is_within(path):
        list_in(path.parent, "labels", path.name)


def list_in(group: Path, key: str, name: str) -> None:
    """Name a group in the attributes of the one that it lies in, made if need be.

    Parameters
    ----------
    group
        ``labels`` or ``tables``.
    key
        The list among its attributes.
    name
        What to add to it.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    with _listing_in(group):
        _list_in(group, key, name)


@contextlib.contextmanager
def _listing_in(group: Path) -> Iterator[None]:
    """Have what lists labels and tables in a store to oneself."""
    store = store_of(group)
    lock = store / LISTING
    with (
        _listing,
        writing(lock, "--into-source"),
        locked(lock, f"Labels are being listed in {store}", "Run again.", LISTING_S),
    ):
        yield


def _list_in(group: Path, key: str, name: str) -> None:
    number = zarr_format(group.parent) or 3
    listed = read_attributes(group)
    holder = listed.setdefault("ome", {}) if number == 3 and key == "labels" else listed
    names = holder.setdefault(key, [])
    if name in names and zarr_format(group) is not None:
        return
    names += [name] * (name not in names)
    if holder is not listed:
        holder.setdefault("version", "0.5")
    write_group(group, number, listed)
    _consolidate_in_time(store_of(group))


def unlist_in(group: Path, key: str, name: str) -> None:
    """Name a group no more in the attributes of the one that it lay in.

    Raises
    ------
    OutputError
        If they cannot be written.
    """
    with _listing_in(group):
        listed = read_attributes(group)
        names = listed.get(key, [])
        if name in names:
            listed[key] = [other for other in names if other != name]
            write_group(group, zarr_format(group) or 3, listed)
            _consolidate_in_time(store_of(group))


def write_group(folder: Path, number: int, attributes: dict[str, Any]) -> None:
    """Write the metadata of a group, of which the attributes appear whole.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    if number == 2:
        texts = {".zgroup": {"zarr_format": 2}, ".zattrs": attributes}
    else:
        whole = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
        texts = {"zarr.json": whole}
    for name, document in texts.items():
        with write_atomically(folder / name, "--into-source") as temporary:
            temporary.write_text(json.dumps(document, indent=2), "utf-8")


def consolidate(store: Path) -> None:
    """Write consolidated metadata anew where there are some: they hide new labels."""
    number = _consolidated(store)
    if number is None:
        return
    zarr = zarr_module()
    with writing(store / "zarr.json"), warnings.catch_warnings():
        # What is no part of the hierarchy, as rows of a table, is passed over.
        warnings.simplefilter("ignore")
        zarr.consolidate_metadata(zarr.storage.LocalStore(store), zarr_format=number)


def _consolidated(store: Path) -> int | None:
    """Return the format of a store with consolidated metadata; None of all others."""
    if (store / ".zmetadata").is_file():
        return 2
    whole = store / "zarr.json"
    with writing(whole):
        there = whole.is_file() and b'"consolidated_metadata": {' in whole.read_bytes()
    return 3 if there else None


@contextlib.contextmanager
def consolidated_at_end() -> Iterator[None]:
    """Have consolidated metadata written anew at the end of a run, once a store.

    It takes as long as the store is large, so not after each field of a plate.

    Raises
    ------
    OutputError
        If they cannot be written.
    """
    stores: set[Path] = set()
    _late.append(stores)
    try:
        yield
    finally:
        _late[:] = [other for other in _late if other is not stores]
        for store in sorted(stores):
            with _listing_in(store):
                consolidate(store)
                (store / LATE).unlink(missing_ok=True)


def _consolidate_in_time(store: Path) -> None:
    """Consolidate the metadata of a store, if it has such, or note that it is due."""
    if not _late:
        consolidate(store)
    elif _consolidated(store) is not None:
        (store / LATE).touch()
        _late[-1].add(store)
