"""The table of image formats: readers and writers by suffix.

`open_image` gives a `Source` that is read by `Region`; `create_labels` gives a `Sink`
that takes labels row by row.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cellunet.errors import ConfigError, ImageReadError, choose
from cellunet.io.label_tiff import ImageSpec, TiffSink
from cellunet.io.label_zarr import ZarrSink
from cellunet.io.microscopes import MAKERS, open_scene, scene_names, split_scene
from cellunet.io.ome_zarr import names_of_zarr, open_zarr
from cellunet.io.png_jpeg import open_jpeg, open_png
from cellunet.io.source import (
    HEAD_BYTES,
    Pages,
    PlaneChoice,
    Sink,
    Source,
    ZMode,
    advice_on,
    kind_by_content,
    reading,
)
from cellunet.io.tiff import image_names, open_tiff
from cellunet.io.zarr_store import SUFFIX as ZARR
from cellunet.io.zarr_store import is_zarr

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

JPEGS = (".jpg", ".jpeg")
"""Suffixes of pictures that have lost intensities."""

TIFFS = (".tif", ".tiff", ".btf", ".lsm", ".stk", ".qptiff")
"""Suffixes of TIFF and of formats that are built on it."""

READERS: dict[str, Callable[[Path, PlaneChoice], Source]] = {
    **dict.fromkeys(TIFFS, open_tiff),
    ".png": open_png,
    ZARR: open_zarr,
    **dict.fromkeys(JPEGS, open_jpeg),
    **dict.fromkeys(MAKERS, open_scene),
}
"""Suffix, in lower case, to what opens such a file, its metadata read and checked."""

FOLDERS = {ZARR}
"""Suffixes in `READERS` of formats whose image is a folder."""

WRITERS: dict[str, Callable[[Path, ImageSpec], Sink]] = {
    ".tif": TiffSink,
    ".tiff": TiffSink,
    ".btf": TiffSink,
    ZARR: ZarrSink,
}
"""Suffix, in lower case, to writer of label images."""


def suffix_of(path: Path) -> str:
    """Return the suffix of a file in lower case; of a group in a Zarr, the Zarr's."""
    suffix = path.suffix.lower()
    return ZARR if suffix not in READERS and is_zarr(path) else suffix


def open_image(  # noqa: PLR0913
    path: Path,
    *,
    channel: str | None = None,
    gray: bool = False,
    z: ZMode = "keep",
    level: int = 0,
    keep_going: bool = False,
    limit_bytes: int | None = None,
    known: tuple[str, ...] = (),
    image: str | None = None,
    pages: Pages | None = None,
) -> Source:
    """Open an image as a stack of planes of one channel, or of several.

    Parameters
    ----------
    path
        A file whose suffix is in `READERS`, or one scene of it (`scene_paths`).
    channel
        The channel to read: its number from 0, or its name; ``red``, ``green`` or
        ``blue`` in a color image. Needed where there are several. With commas between,
        several channels are read, in the order in which they are named.
    gray
        Read a color image as its luminance (ITU-R BT.601, float32).
    z
        ``keep``: Z planes one by one. ``max``: the maximum over Z.
    level
        Which smaller version of the image to read; 0 is full size.
    keep_going
        Let zeros stand where a part of the image cannot be read, and name it in
        `Source.damaged`.
    limit_bytes
        Refuse a file of which more bytes must be decoded in one piece.
    known
        Where no channel is named: the names of those to read if the file has them all.
    image
        Which image of a file of several, by number from 0 or by name; None: the
        largest, the first of equals.
    pages
        What pages are whose axis has no name; None: T, or Z if T is taken.

    Returns
    -------
    Source
        Its file is closed until the first `read`; close it, best by ``with``. Axes T
        and Z are kept; see `cellunet.io.axes` for the others.

    Raises
    ------
    ImageReadError
        If the file cannot be read or understood, or if a channel must be chosen.
    ConfigError
        If both `channel` and `gray` are given.
    """
    if gray and channel is not None:
        raise ConfigError(
            f"Both gray and channel {channel!r} are asked for.",
            hint="Try one of: --gray, --channel.",
        )
    path, scene = split_scene(Path(path))
    image = scene or image
    reader = READERS.get(suffix_of(path))
    if reader is None:
        raise _unknown(path)
    choice = PlaneChoice(
        channel, gray, z, level, keep_going, limit_bytes, known, image, pages
    )
    return reader(path, choice)


def names_of_images(path: Path) -> list[str]:
    """Return the names of the images in a file, as `open_image` numbers them.

    Raises
    ------
    ImageReadError
        If the file cannot be read.
    """
    suffix = suffix_of(path)
    if suffix == ZARR:
        return names_of_zarr(path)
    reader = READERS.get(suffix)
    with reading(path):
        if reader is open_scene:
            return scene_names(path)
        return image_names(path) if reader is open_tiff else [""]


def _unknown(path: Path) -> ImageReadError:
    with reading(path), path.open("rb") as file:
        kind = kind_by_content(file.read(HEAD_BYTES))
    known = ", ".join(READERS)
    content = f" (its content: {kind})" if kind else ""
    return ImageReadError(
        f"{path} has the suffix {path.suffix!r}{content}; cellunet reads {known}.",
        hint=advice_on(kind),
    )


def create_labels(path: Path, spec: ImageSpec) -> Sink:
    """Start writing a label image, which appears at `path` when it is committed.

    Parameters
    ----------
    path
        Where it is to appear; the suffix is in `WRITERS`. Missing folders are made.
    spec
        What it is, uint16 or uint32; `read_provenance` gives its provenance back.

    Returns
    -------
    Sink
        Takes the rows of all planes in order. The same rows and arguments give the
        same bytes.

    Raises
    ------
    ConfigError
        If the suffix is not known.
    OutputError
        If the folder cannot be made or written to.
    """
    return choose(WRITERS, suffix_of(path), "suffix of a label image")(path, spec)


def write_plane(
    path: Path,
    plane: npt.NDArray[Any],
    name: str,
    pixel_size_um: tuple[float, float] | None,
    provenance: dict[str, Any] | None = None,
) -> None:
    """Write an image of one plane: labels, classes, weights, a mask.

    Parameters
    ----------
    path
        Where it is to appear.
    plane
        YX, of any type that OME knows.
    name, pixel_size_um, provenance
        As of `ImageSpec`.
    """
    height, width = plane.shape
    spec = ImageSpec(
        name=name,
        shape=(height, width),
        dtype=plane.dtype,
        pixel_size_um=pixel_size_um,
        provenance=provenance,
    )
    with TiffSink(path, spec) as sink:
        sink.write(0, 0, plane)
        sink.commit()


def write_labels(
    path: Path,
    labels: npt.NDArray[np.integer],
    pixel_size_um: tuple[float, float] | None,
    provenance: dict[str, Any],
) -> None:
    """Write the label image of one plane, uint16 unless there are too many objects.

    Parameters
    ----------
    labels
        YX, 0 background.
    path, pixel_size_um, provenance
        As for `write_plane`.
    """
    dtype = np.uint16 if labels.max() <= np.iinfo(np.uint16).max else np.uint32
    write_plane(path, labels.astype(dtype), "labels", pixel_size_um, provenance)
