"""Contact sheets of a check: what needs a person first, then some of the others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cellunet.errors import CellunetError
from cellunet.imaging.atomic import writing
from cellunet.imaging.checks.check_sheet import COLUMNS, ROWS, sheet, tile
from cellunet.imaging.files import write_png
from cellunet.tasks.checking.drawn_on import read_drawn_on

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy.typing as npt

    from cellunet.imaging.annotation_sources import Drawn
    from cellunet.progress import Track
    from cellunet.tasks.checked_labels import Checked, CheckedImage
    from cellunet.tasks.checking.drawn_on import DrawnOn

PER_SHEET = COLUMNS * ROWS
MAX_SHEETS = 40
"""Nearly a thousand images; the report holds them all."""
MAX_LINES = 3


@dataclass(frozen=True)
class Shown:
    """The sheets, and the images on them in their order."""

    paths: tuple[Path, ...]
    names: tuple[str, ...]


def write_sheets(
    checked: Checked,
    drawn: Mapping[str, Drawn],
    kind: str,
    ignore_value: int | None,
    track: Track,
) -> Shown:
    """Write ``check-1.png``, ... into the output folder, in place of earlier ones.

    Parameters
    ----------
    checked
        What was found.
    drawn
        Name of an image to where its annotation is.
    kind, ignore_value
        As for reading.
    track
        Progress over images.

    Raises
    ------
    OutputError
        If a sheet cannot be written.
    """
    with writing(checked.out):
        for old in checked.out.glob("check-*.png"):
            old.unlink()
    chosen = _chosen(checked)
    paths: list[Path] = []
    names: list[str] = []
    tiles: list[npt.NDArray[np.uint8]] = []
    for image in track(chosen, "Drawing contact sheets", len(chosen)):
        try:
            found = read_drawn_on(
                drawn[image.name], kind=kind, ignore_value=ignore_value
            )
        except CellunetError:
            # It is told as unreadable, or is gone by now.
            continue
        tiles.append(_tile(image, found))
        names.append(image.name)
        if len(tiles) == PER_SHEET:
            paths.append(_write(checked.out, len(paths) + 1, tiles))
            tiles = []
    if tiles:
        paths.append(_write(checked.out, len(paths) + 1, tiles))
    return Shown(tuple(paths), tuple(names))


def _chosen(checked: Checked) -> list[CheckedImage]:
    """Return all that needs a person, and others evenly to fill the last sheet."""
    flagged = [i for i in checked.images if i.needs_person]
    flagged = [i for i in flagged if i.findings[0].kind not in ("unreadable", "bug")]
    others = [i for i in checked.images if not i.needs_person]
    # What only a hint tells of comes before what nothing is known against.
    others = [i for i in others if i.findings] + [i for i in others if not i.findings]
    flagged = flagged[: MAX_SHEETS * PER_SHEET]
    room = -len(flagged) % PER_SHEET or (0 if flagged else PER_SHEET)
    count = min(room, len(others))
    picked = np.linspace(0, len(others) - 1, count).astype(int)
    return [*flagged, *(others[i] for i in picked)]


def _tile(image: CheckedImage, found: DrawnOn) -> npt.NDArray[np.uint8]:
    first = f"{image.name}: {image.objects}"
    told = [f"{f.kind} {len(f.ids) or ''}".strip() for f in image.findings]
    lines = [first, *told[:MAX_LINES]]
    lines += [""] * (MAX_LINES + 1 - len(lines))
    odd = {number for f in image.findings for number in f.ids}
    return tile(
        found.image, found.annotation, lines, odd=odd, flagged=image.needs_person
    )


def _write(out: Path, number: int, tiles: list[npt.NDArray[np.uint8]]) -> Path:
    path = out / f"check-{number}.png"
    write_png(path, sheet(tiles))
    return path
