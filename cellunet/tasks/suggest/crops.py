"""Write the suggested crops with labels to correct."""

from __future__ import annotations

import contextlib
import shutil
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from cellunet.errors import OutputError
from cellunet.imaging.measure import Objects
from cellunet.io.files import partial_path, writing
from cellunet.io.images import write_labels
from cellunet.io.label_tiff import write_crop
from cellunet.io.paths import output_stem
from cellunet.io.source import Region
from cellunet.outputs.shapes import GeoJson, Place, RoiSet
from cellunet.outputs.tables import quoted, safe_path
from cellunet.tasks.suggest.request import TABLE, SuggestedCrop

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from cellunet.imaging.measure import ObjectBatch
    from cellunet.io.label_tiff import CropMetadata
    from cellunet.io.source import Source


@dataclass(frozen=True, kw_only=True)
class CropLabels:
    """What a model found in one crop."""

    kind: str
    """Name in `DRAWN`."""
    labels: npt.NDArray[np.uint32]
    """YX, 0 background, objects from 1 without gaps."""
    pixel_size_um: tuple[float, float] | None
    """Height and width of a pixel."""
    provenance: Mapping[str, Any]
    """The provenance that label images hold."""

    def objects(self) -> ObjectBatch:
        """Return the objects with their outlines."""
        areas = np.bincount(self.labels.ravel(), minlength=1)[1:]
        height, width = self.labels.shape
        found = Objects(0, (height, width), areas, pixel_size_um=self.pixel_size_um)
        return found.add(self.labels)


class Write(Protocol):
    """Write what was found in a crop."""

    def __call__(self, path: Path, drawn: CropLabels) -> None:
        """Write it to `path`, whose folder may be missing."""


@dataclass(frozen=True)
class DrawnKind:
    """A way to write annotations."""

    folder: str
    """Below the folder of the crops: one in which annotations are looked for."""
    suffix: str
    """Of the file, behind the crop's name."""
    write: Write


def without_gaps(labels: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint32]:
    """Return labels numbered from 1 in their order.

    Examples
    --------
    >>> without_gaps(np.array([[0, 7], [3, 7]], np.uint32)).tolist()
    [[0, 2], [1, 2]]
    """
    ids = np.unique(labels[labels > 0])
    numbers = np.searchsorted(ids, labels) + 1
    return np.where(labels > 0, numbers, 0).astype(np.uint32)


def write_drawn_labels(path: Path, drawn: CropLabels) -> None:
    """Write a label image."""
    write_labels(path, drawn.labels, drawn.pixel_size_um, dict(drawn.provenance))


def write_rois(path: Path, drawn: CropLabels) -> None:
    """Write a ROI set of Fiji."""
    rois = RoiSet(path)
    try:
        rois.add(Place(), drawn.objects())
        rois.commit()
    finally:
        rois.abort()


def write_geojson(path: Path, drawn: CropLabels) -> None:
    """Write GeoJSON of QuPath."""
    file = GeoJson(path, path.stem)
    try:
        file.add({}, drawn.objects())
        file.commit()
    finally:
        file.abort()


DRAWN = {
    "labels": DrawnKind("labels", ".tif", write_drawn_labels),
    "rois": DrawnKind("rois", ".zip", write_rois),
    "geojson": DrawnKind("annotations", ".geojson", write_geojson),
}
"""Name in `SuggestConfig.annotations` to kind."""

COLUMNS = (
    "file",
    "image",
    "plane",
    "y",
    "x",
    "uncertainty",
    "novelty",
    "share",
    "objects",
    "unsure",
    "why",
)
"""Of the table."""


def refuse_taken(out: Path, *, overwrite: bool) -> None:
    """Refuse a folder that holds anything but crops that may be replaced.

    Raises
    ------
    OutputError
        If `out` is a file, or a folder that is not empty and is not to be replaced or
        was not made by this.
    """
    if out.is_file():
        raise OutputError(
            f"{out} is a file; a folder for the crops is needed.",
            hint="Choose another --out.",
        )
    if not out.is_dir() or not any(out.iterdir()):
        return
    ours = (out / TABLE).is_file()
    if ours and overwrite:
        return
    raise OutputError(
        f"{out} exists and holds "
        + ("crops that were suggested before." if ours else "other files."),
        hint="Choose another --out"
        + (
            ", or replace them with --overwrite; corrected labels in it are lost then."
            if ours
            else "; only a folder of suggested crops can be replaced."
        ),
    )


@contextlib.contextmanager
def new_folder(out: Path, *, overwrite: bool) -> Iterator[Path]:
    """Yield a folder next to `out` that takes its place once all went well.

    Raises
    ------
    OutputError
        In place of OSError, here and inside the block; and as of `refuse_taken`, if
        another process made the folder meanwhile.
    """
    temporary, old = partial_path(out), partial_path(out)
    try:
        # Not `out` itself, of which it would be said that it exists.
        with writing(out / TABLE):
            temporary.mkdir(parents=True)
            yield temporary
            refuse_taken(out, overwrite=overwrite)
            if out.exists():
                out.rename(old)
            temporary.rename(out)
    except OutputError as error:
        # Nobody but this knows the folder by its first name.
        message = error.message.replace(str(temporary), str(out))
        raise OutputError(message, hint=error.hint) from error
    finally:
        for left in (temporary, old):
            shutil.rmtree(left, ignore_errors=True)


def write_pair(
    path: Path,
    source: Source,
    at: tuple[int, int, int],
    cut: CropMetadata,
    drawn: CropLabels,
) -> None:
    """Write one crop and what the model found in it.

    Parameters
    ----------
    path
        The folder of crops, and the name of both files without suffix.
    source
        The image that it is cut from.
    at
        Where: plane, first row, first column.
    cut
        What the crop is to remember of its image.
    drawn
        What the model found there.
    """
    folder, name = path.parent, path.name
    height, width = drawn.labels.shape
    plane, y, x = at
    pixels = source.read(Region(plane, y, y + height, x, x + width))
    pixels = pixels[0] if len(pixels) == 1 else pixels
    write_crop(folder / "images" / f"{name}.tif", pixels, cut, source.pixel_size_um)
    kind = DRAWN[drawn.kind]
    kind.write(folder / kind.folder / f"{name}{kind.suffix}", drawn)


def write_table(folder: Path, crops: Sequence[SuggestedCrop]) -> None:
    """Write the table of crops, in the order of their worth."""
    rows = [",".join(map(quoted, COLUMNS))]
    for crop in crops:
        texts = (f"images/{crop.name}.tif", safe_path(crop.image))
        numbers = (crop.plane, crop.y, crop.x)
        shares = (crop.uncertainty, crop.novelty, crop.share)
        cells = [*map(quoted, texts), *map(str, numbers)]
        cells += [f"{share:.4f}" for share in shares]
        cells += [str(crop.objects), str(crop.unsure), quoted(crop.why)]
        rows.append(",".join(cells))
    with writing(folder / TABLE):
        (folder / TABLE).write_text("\n".join(rows) + "\n", encoding="utf-8")


def names_of(files: Sequence[Path], base: Path) -> dict[Path, str]:
    """Return what the crops of each image begin with: its stem, if no other has it.

    Images of the same stem in several folders are distinguished by their path below
    `base`, with ``-`` between folders, and those that still share it by a number.
    """
    stems = {path: output_stem(path) for path in files}
    names: dict[Path, str] = {}
    times = Counter(name.casefold() for name in stems.values())
    taken: Counter[str] = Counter()
    for path, name in stems.items():
        if times[name.casefold()] > 1:
            folders = path.resolve().parent.relative_to(base.resolve()).parts
            name = "-".join((*folders, name))
        taken[name.casefold()] += 1
        again = taken[name.casefold()]
        names[path] = f"{name}-{again}" if again > 1 else name
    return names
