"""Read COCO JSON, one file that annotates many images.

In a run-length encoding, runs of pixels outside and inside take turns, outside first,
column by column. The compressed form writes the same numbers, from the fourth on as the
difference to the number two before, five bits a character from the lowest on: the
character's code is 48 plus the bits plus 32 if more follow; the highest bit of the last
character is the sign. (Format of the COCO data set, Lin et al. 2014, "Microsoft COCO:
Common Objects in Context"; described by the comments of its ``maskApi.h``.)

Polygons are lists x, y, x, y, ... in pixels from the upper left corner of the image
("box coordinates are measured from the top left image corner and are 0-indexed",
cocodataset.org, Data format); its own ``maskApi.c`` takes a pixel whose center, at .5,
lies inside. Several polygons of one annotation are one object. Run-length encodings
are exact.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path, PurePosixPath, PureWindowsPath
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from cellunet.annotations.json_files import (
    MAX_BYTES,
    kind_of,
    read_json,
    ring,
    rows,
    table,
    whole,
)
from cellunet.annotations.shapes import DrawnShape, FilledPixels, Polygons, role_of
from cellunet.annotations.via import as_coco
from cellunet.errors import AnnotationError, some

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from cellunet.annotations.shapes import Fillable

MOST_CHARACTERS = 12
"""Characters of one number: 60 bits."""

_AGAIN = "Export the file again."


def decode_counts(text: str) -> list[int]:
    """Return the runs that a compressed string stands for.

    Raises
    ------
    AnnotationError
        If a character is none of the encoding's or the string ends within a number.

    Examples
    --------
    >>> decode_counts("04"), decode_counts("122O2")
    ([0, 4], [1, 2, 2, 1, 4])
    """
    counts: list[int] = []
    value = place = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or place == MOST_CHARACTERS:
            raise AnnotationError(
                f"The compressed mask holds {character!r} where no such character can "
                "be.",
                hint=_AGAIN,
            )
        value |= (bits & 31) << (5 * place)
        place += 1
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << (5 * place)
        counts.append(value + counts[-2] if len(counts) > 2 else value)
        value = place = 0
    if place:
        raise AnnotationError("The compressed mask is cut off.", hint=_AGAIN)
    return counts


def encode_counts(counts: Sequence[int]) -> str:
    """Return the compressed string of runs, the inverse of `decode_counts`.

    Examples
    --------
    >>> encode_counts([0, 4]), encode_counts([1, 2, 2, 1, 4])
    ('04', '122O2')
    """
    text = []
    for place, count in enumerate(counts):
        value = count - counts[place - 2] if place > 2 else count
        more = True
        while more:
            bits, value = value & 31, value >> 5
            # The highest bit of the last character is the sign.
            more = value != (-1 if bits & 16 else 0)
            text.append(chr(48 + bits + 32 * more))
    return "".join(text)


@dataclass(frozen=True, eq=False)
class Runs:
    """A mask as runs; `size` is rows and columns of the image it was drawn on."""

    counts: npt.NDArray[np.int64]
    size: tuple[int, int]

    def fill(self, shape: tuple[int, int]) -> FilledPixels:
        """Return the pixels of the mask; memory is that of its columns."""
        if self.size != shape:
            raise AnnotationError(
                f"The mask is {self.size[0]} x {self.size[1]} pixels; its image has "
                f"{shape[0]} x {shape[1]}.",
                hint=_AGAIN,
            )
        ends = self.counts.cumsum()
        start, stop = ends[0::2][: len(ends) // 2], ends[1::2]
        kept = stop > start
        start, stop = start[kept], stop[kept]
        if not len(start):
            return FilledPixels((slice(0, 0), slice(0, 0)), np.zeros((0, 0), bool))
        height = shape[0]
        first, last = int(start[0]) // height, int(stop[-1] - 1) // height
        turns = np.zeros((last - first + 1) * height + 1, np.int8)
        turns[start - first * height] = 1
        turns[stop - first * height] -= 1
        inside = turns[:-1].cumsum(dtype=np.int8).reshape(-1, height).T > 0
        rows = np.flatnonzero(inside.any(axis=1))
        top, bottom = int(rows[0]), int(rows[-1]) + 1
        window = (slice(top, bottom), slice(first, last + 1))
        return FilledPixels(window, inside[top:bottom])


def runs_of(filled: FilledPixels, shape: tuple[int, int]) -> list[int]:
    """Return the runs of the pixels of a mask in an image of this shape.

    Examples
    --------
    >>> runs_of(FilledPixels((slice(1, 3), slice(0, 2)), np.ones((2, 2), bool)), (3, 3))
    [1, 2, 1, 2, 3]
    """
    y, x = filled.window
    height = shape[0]
    # Columns of the window, a pixel outside below each.
    inside = np.pad(filled.inside, ((0, 1), (0, 0))).T
    turns = np.flatnonzero(np.diff(inside.reshape(-1), prepend=False))
    columns, rows = np.divmod(turns, len(filled.inside) + 1)
    # A run to the lowest row goes on in the next column, if that begins at row 0.
    places = ((x.start + columns) * height + y.start + rows).tolist()
    ends: list[int] = []
    for place in places:
        if ends and ends[-1] == place:
            ends.pop()
        else:
            ends.append(place)
    bounds = [0, *ends, height * shape[1]]
    counts = [stop - start for start, stop in pairwise(bounds)]
    return counts if counts[-1] or len(counts) == 1 else counts[:-1]


def runs(counts: Sequence[int] | str, size: tuple[int, int]) -> Runs:
    """Return the mask of plain or compressed counts.

    Parameters
    ----------
    counts
        Pixels outside, inside, outside, ...; or the same as a compressed string.
    size
        Rows and columns.

    Raises
    ------
    AnnotationError
        If a run is negative or they do not add up to the size.
    """
    numbers = decode_counts(counts) if isinstance(counts, str) else list(counts)
    # Before an array is made of them: a sum may be larger than any array holds.
    if any(n < 0 for n in numbers) or sum(numbers) != size[0] * size[1]:
        raise AnnotationError(
            f"The runs of the mask add up to {sum(numbers):,} pixels, not to the "
            f"{size[0]} x {size[1]} of its image, or one is negative.",
            hint=_AGAIN,
        )
    return Runs(np.array(numbers, np.int64), size)


@dataclass(frozen=True, eq=False)
class CocoImage:
    """One image of a file: rows and columns, and its annotations as they stand."""

    size: tuple[int, int] | None
    annotations: tuple[dict[str, Any], ...]
    path: str
    """Its file with the folders that it lay in, ``/`` between them."""


@dataclass(frozen=True, eq=False)
class CocoFile:
    """A whole file: images by their name, and the name of each category by its id.

    A name comes with its folders where several images have it.
    """

    images: Mapping[str, CocoImage]
    categories: Mapping[str, str]
    lost: tuple[str, ...] = ()
    """Annotations of images that are not listed."""
    kind: str = "coco"
    """Or ``via``, where VGG Image Annotator wrote it."""


def is_coco(path: Path) -> bool:
    """Return whether a JSON file is COCO's or annotates several images like that.

    VGG Image Annotator's does. One that is no JSON does not.

    Raises
    ------
    AnnotationError
        If it cannot be read but begins as COCO files do.
    """
    try:
        return kind_of(read_json(path)) in ("coco", "via")
    except AnnotationError:
        with contextlib.suppress(OSError), path.open("rb") as file:
            head = file.read(1 << 16)
            if b'"images"' in head or b'"annotations"' in head:
                raise
        return False


def read_coco(path: Path) -> CocoFile:
    """Read and index a file; what was read last is kept, up to `MAX_BYTES` of text.

    Raises
    ------
    AnnotationError
        If it is no COCO file, images come twice, or annotations belong to no image.
    """
    try:
        stat = path.stat()
    except OSError as error:
        raise AnnotationError(f"{path} cannot be read: {error.strerror}.") from error
    key = (path, stat.st_mtime_ns, stat.st_size)
    with _one_reads:
        found = _kept.pop(key, None) or _read(path)
        _kept[key] = found
        while len(_kept) > 2 and sum(size for *_, size in _kept) > MAX_BYTES:
            del _kept[next(iter(_kept))]
    return found


_kept: dict[tuple[Path, int, int], CocoFile] = {}
"""By path, time of change and size, the last one used last."""

_one_reads = Lock()


def _read(path: Path) -> CocoFile:
    document = read_json(path)
    kind = kind_of(document)
    if kind not in ("coco", "via"):
        raise AnnotationError(f"{path} holds no lists of images and annotations.")
    try:
        whole = as_coco(document) if kind == "via" else document
        return replace(_indexed(whole), kind=kind)
    except AnnotationError as error:
        raise AnnotationError(f"{path}: {error.message}", hint=error.hint) from error


def _indexed(document: dict[str, Any]) -> CocoFile:
    images = [table(i, "An image") for i in document["images"]]
    by_id: dict[str, list[dict[str, Any]]] = {_id(i): [] for i in images}
    if len(by_id) < len(images):
        raise AnnotationError("Two images have the same id.")
    lost = []
    for one in document["annotations"]:
        annotation = table(one, "An annotation")
        try:
            by_id[_key(annotation["image_id"])].append(annotation)
        except KeyError:
            lost.append(f"{annotation.get('id')} (image {annotation.get('image_id')})")
    if lost and not any(by_id.values()):
        raise AnnotationError(
            f"{len(lost)} annotations belong to an image that is not listed: "
            f"{some(lost)}.",
            hint="Export the file again, with its images.",
        )
    named = _named(images)
    categories = document.get("categories") or []
    return CocoFile(
        {
            name: CocoImage(
                _size(image), tuple(by_id[_id(image)]), _path(image).as_posix()
            )
            for name, image in named.items()
        },
        {
            str(c.get("id")): str(c.get("name"))
            for c in (table(c, "A category") for c in rows(categories, "categories"))
        },
        tuple(lost),
    )


def _id(image: dict[str, Any]) -> str:
    found = image.get("id")
    if not isinstance(found, int | float | str):
        raise AnnotationError(f"An image has the id {found}; a number is expected.")
    return _key(found)


def _key(given: object) -> str:
    """Return an id as text: 1 may stand as "1" or 1.0 in one of both places."""
    whole_number = isinstance(given, float) and given.is_integer()
    return str(int(given) if whole_number else given)  # type: ignore[call-overload]


def _named(images: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return images by the names of their files, with folders where these differ."""
    found: dict[str, dict[str, Any]] = {}
    paths = [(_path(image), image) for image in images]
    names = Counter(path.name for path, _ in paths)
    for path, image in paths:
        name = path.name if names[path.name] == 1 else path.as_posix()
        if name in found:
            raise AnnotationError(
                f"Two images have the same file name: {name}.",
                hint="Export it again with the folders of the images.",
            )
        found[name] = image
    return found


def _path(image: dict[str, Any]) -> PurePosixPath:
    """Return the path of an image's file as far as its folders have names.

    It is where the image lay when it was annotated: on a server (``../../media/1``), a
    drive, behind a query (``?d=``). What counts is how it ends.
    """
    name = image.get("file_name")
    name = name.rsplit("?d=", 1)[-1] if isinstance(name, str) else ""
    parts = PureWindowsPath(name).parts
    kept = [
        p for p in parts if p not in ("..", ".") and not p.endswith((":", "\\", "/"))
    ]
    if not kept:
        raise AnnotationError(f"Image {_id(image)} has no file_name.")
    return PurePosixPath(*kept)


def note_on_lost(path: Path) -> str:
    """Return a sentence on annotations of images that are not listed, if any are."""
    lost = read_coco(path).lost
    told = f"annotations whose image {path} does not list: {len(lost):,}"
    return f"Left out, as {told} ({some(list(lost))})." if lost else ""


def refuse_empty(path: Path) -> None:
    """Refuse a file that lists images and not one object on any.

    Raises
    ------
    AnnotationError
        If it does.
    """
    images = read_coco(path).images
    counted = "1 image" if len(images) == 1 else f"{len(images):,} images"
    if images and not any(image.annotations for image in images.values()):
        raise AnnotationError(
            f"{path} lists {counted} and not one object.",
            hint="Label Studio leaves brushed masks out of COCO: export these as PNG. "
            "If there are none: --allow-empty.",
        )


def _size(image: dict[str, Any]) -> tuple[int, int] | None:
    """Return rows and columns; None if the file does not know them."""
    what = f"of image {_id(image)}"
    if not image.get("height") or not image.get("width"):
        return None
    return (
        whole(image.get("height"), f"The height {what}"),
        whole(image.get("width"), f"The width {what}"),
    )


def coco_drawings(file: CocoFile, name: str) -> list[DrawnShape]:
    """Return the drawings on one image, in the order of the file.

    Raises
    ------
    AnnotationError
        If an outline holds what is no number, or a mask is none of the image.
    """
    image = file.images[name]
    found = []
    for one in image.annotations:
        label = f"annotation {one.get('id')}"
        role = role_of(file.categories.get(str(one.get("category_id"))))
        figure, lack = _figure(one.get("segmentation"), label, image.size)
        found.append(DrawnShape(f"{label} ({lack})" if lack else label, figure, role))
    return found


def crowds(file: CocoFile, name: str) -> int:
    """Return how many annotations of an image are marked as crowds."""
    return sum(bool(a.get("iscrowd")) for a in file.images[name].annotations)


def _figure(
    segmentation: object, name: str, size: tuple[int, int] | None
) -> tuple[Fillable, str]:
    """Return what is drawn, and what it lacks where it encloses nothing."""
    if isinstance(segmentation, dict):
        stated = rows(segmentation.get("size"), f"The size of {name}")
        own = tuple(whole(n, f"The size of {name}") for n in stated)
        if len(own) != 2 or own != (size or own):
            raise AnnotationError(
                f"The mask of {name} is {stated}, its image {list(size or ())} (rows, "
                "columns)."
            )
        counts = segmentation.get("counts")
        if not isinstance(counts, str):
            listed = rows(counts, f"The counts of {name}")
            counts = [whole(n, f"A count of {name}") for n in listed]
        try:
            return runs(counts, own), ""
        except AnnotationError as error:
            raise AnnotationError(
                f"{name}: {error.message}", hint=error.hint
            ) from error
    if not segmentation:
        return Polygons(()), "no outline, a box at most"
    polygons = rows(segmentation, f"The segmentation of {name}")
    # VGG Image Annotator leaves out the list of polygons around a single one.
    if not any(isinstance(polygon, list) for polygon in polygons):
        polygons = [polygons]
    flat = [rows(polygon, f"A polygon of {name}") for polygon in polygons]
    whole_pairs = [numbers for numbers in flat if not len(numbers) % 2]
    rings = [
        ring(list(zip(n[0::2], n[1::2], strict=True)), f"A polygon of {name}")
        for n in whole_pairs
    ]
    points = ", ".join(f"{len(n) / 2:g}" for n in flat)
    figure = Polygons(tuple((r,) for r in rings))
    return figure, "" if figure.encloses else f"{points} points"
