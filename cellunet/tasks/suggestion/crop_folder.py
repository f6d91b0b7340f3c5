"""A folder of crops that is training data: all of it appears at once, or nothing."""

from __future__ import annotations

import contextlib
import shutil
from collections import Counter
from typing import TYPE_CHECKING

from cellunet.errors import OutputError
from cellunet.imaging.atomic import partial_path, writing
from cellunet.imaging.cut import write_crop
from cellunet.imaging.files import Region
from cellunet.imaging.outputs import stem
from cellunet.imaging.results.write_tables import quoted, safe_path
from cellunet.tasks.suggested import TABLE, Crop
from cellunet.tasks.suggestion.crop_annotations import DRAWN

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from cellunet.imaging.cut import Cut
    from cellunet.imaging.files import Source
    from cellunet.tasks.suggestion.crop_annotations import Drawn

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
    """Yield a folder beside `out` that takes its place once all went well.

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
        told = error.message.replace(str(temporary), str(out))
        raise OutputError(told, hint=error.hint) from error
    finally:
        for left in (temporary, old):
            shutil.rmtree(left, ignore_errors=True)


def write_pair(
    path: Path, source: Source, at: tuple[int, int, int], cut: Cut, drawn: Drawn
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


def write_table(folder: Path, crops: Sequence[Crop]) -> None:
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

    Images of the same stem in several folders are told apart by their path below
    `base`, with ``-`` between folders, and those that still share it by a number.
    """
    stems = {path: stem(path) for path in files}
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
