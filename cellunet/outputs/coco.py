"""Objects as COCO JSON: one file per image, and one of a whole run.

Masks are run-length encodings, compressed as the COCO tools compress them: they hold
the very pixels, holes and several pieces too, which polygons of that format do not. An
image is one plane; planes of a stack share ``file_name`` and tell ``t`` and ``z`` from
0. ``score`` is the confidence, and is left out where labels have none; ``label`` is the
object's number in the label image.

Images and annotations are numbered from 1 in the order in which they come, so the same
batch has the same numbers. Each stands on a line of its own: files of images join to
that of a run line by line, with nothing kept but how many images each has.
"""

from __future__ import annotations

import json
import math
import re
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from cellunet.errors import OutputError
from cellunet.io.files import StreamedText, open_text, write_atomically
from cellunet.outputs.shapes import CLASS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from cellunet.imaging.measure import ObjectBatch
    from cellunet.imaging.outlines import Outline

HEAD = (
    '{"info":{"description":"Objects found by cellunet"},"licenses":[],"categories":'
    f'[{{"id":1,"name":"{CLASS["name"]}","supercategory":""}}],"images":['
)
BETWEEN = '],"annotations":['
END = "]}"

IMAGE = re.compile(r'\{"id":(\d+),')
ANNOTATION = re.compile(r'\{"id":(\d+),"image_id":(\d+),')


class CocoJson(StreamedText):
    """The COCO file of one image being written.

    Parameters
    ----------
    path
        Where it is to appear.
    image
        Path of the image below the common folder.
    shape
        Height and width.
    places
        Numbers along ``t`` and ``z`` of each plane, as far as it has them.
    """

    def __init__(
        self,
        path: Path,
        image: str,
        shape: tuple[int, int],
        places: Sequence[dict[str, int]],
    ) -> None:
        self._shape, self._count = shape, 0
        height, width = shape
        images = (
            {"id": n, "file_name": image, "width": width, "height": height} | place
            for n, place in enumerate(places, 1)
        )
        lines = "".join(_separated(map(_text, images)))
        super().__init__(path, f"{HEAD}\n{lines}{BETWEEN}\n", "ascii")

    def add(self, batch: ObjectBatch) -> None:
        """Append the objects of a batch."""
        self.write(self._lines(batch))

    def _lines(self, batch: ObjectBatch) -> Iterator[str]:
        names = ("area_px", "left_px", "top_px", "right_px", "bottom_px", "confidence")
        columns = [batch.table[name].tolist() for name in names]
        rows = zip(batch.ids.tolist(), batch.outlines, *columns, strict=True)
        for label, outline, area, left, top, right, bottom, sure in rows:
            between = ",\n" if self._count else ""
            self._count += 1
            known = {} if math.isnan(sure) else {"score": float(f"{sure:.9g}")}
            annotation = {
                "id": self._count,
                "image_id": batch.plane + 1,
                "category_id": 1,
                "segmentation": mask(outline, self._shape),
                "area": area,
                "bbox": [left, top, right - left, bottom - top],
                "iscrowd": 0,
                **known,
                "label": label,
            }
            yield between + _text(annotation)

    def commit(self) -> None:
        """Make the complete file appear."""
        self.write(["\n" * bool(self._count), f"{END}\n"])
        super().commit()


def mask(outline: Outline, shape: tuple[int, int]) -> dict[str, Any]:
    """Return the pixels of an object in an image of this shape, run-length encoded.

    Examples
    --------
    >>> import numpy as np
    >>> square = np.array([(1.0, 0.0), (3, 0), (3, 2), (1, 2)])
    >>> mask([[square]], (2, 4))
    {'size': [2, 4], 'counts': '242'}
    """
    from cellunet.annotations.coco import encode_counts, runs_of
    from cellunet.annotations.shapes import fill_window

    filled = fill_window([ring for polygon in outline for ring in polygon], shape)
    return {"size": list(shape), "counts": encode_counts(runs_of(filled, shape))}


def is_coco_of_ours(path: Path) -> bool:
    """Return whether a file begins as a file of this module does."""
    try:
        with path.open("rb") as file:
            return file.read(len(HEAD)) == HEAD.encode("ascii")
    except OSError:
        return False


def join_coco(parts: Sequence[Path], path: Path) -> None:
    """Write one file of several, their images and annotations numbered on.

    Parameters
    ----------
    parts
        Files that this module wrote, at least one.
    path
        Where the joined file is to appear.

    Raises
    ------
    OutputError
        If one cannot be read, or the joined one not be written.
    """
    counts = (sum(1 for _ in _images(part)) for part in parts)
    before = [0, *accumulate(counts)]
    with write_atomically(path) as temporary, open_text(temporary, "ascii") as file:
        file.write(f"{HEAD}\n")
        file.writelines(_separated(_numbered(parts, before, IMAGE)))
        file.write(f"{BETWEEN}\n")
        file.writelines(_separated(_numbered(parts, before, ANNOTATION)))
        file.write(f"{END}\n")


def _numbered(
    parts: Sequence[Path], before: Sequence[int], kind: re.Pattern[str]
) -> Iterator[str]:
    """Yield the images or the annotations of all parts, numbered through."""
    count = 0
    for part, images in zip(parts, before, strict=False):
        lines = _images(part) if kind is IMAGE else _annotations(part)
        for line in lines:
            found = kind.match(line)
            if found is None:
                raise _unreadable(part, f"line {line[:40]!r}")
            count += 1
            own = f'"image_id":{int(found[2]) + images},' if kind is ANNOTATION else ""
            yield f'{{"id":{count},{own}{line[found.end() :]}'


def _images(part: Path) -> Iterator[str]:
    return _lines(part, HEAD, BETWEEN)


def _annotations(part: Path) -> Iterator[str]:
    return _lines(part, BETWEEN, END)


def _lines(part: Path, first: str, last: str) -> Iterator[str]:
    """Yield the lines between two others, without the comma at their ends."""
    within = False
    try:
        with part.open(encoding="ascii") as file:
            for line in map(str.rstrip, file):
                if within and line == last:
                    return
                if within:
                    yield line.removesuffix(",")
                within = within or line == first
    except (OSError, ValueError) as error:
        raise _unreadable(part, str(error)) from error
    raise _unreadable(part, f"no line {(last if within else first)[:40]!r}")


def _separated(lines: Iterable[str]) -> Iterator[str]:
    """Yield lines of a JSON list, with commas between them."""
    end = ""
    for line in lines:
        yield end + line
        end = ",\n"
    if end:
        yield "\n"


def _text(value: dict[str, Any]) -> str:
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def _unreadable(path: Path, why: str) -> OutputError:
    return OutputError(
        f"{path} cannot be joined to the COCO file of the run ({why}).",
        hint="Delete it and run the same command again.",
    )
