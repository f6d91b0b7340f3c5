"""Where temporary files lie, and whether there is room for them."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from typing import IO, TYPE_CHECKING

from cellunet.errors import OutputError
from cellunet.imaging.atomic import writing

if TYPE_CHECKING:
    from pathlib import Path

logger = logging.getLogger(__name__)

RAW_BYTES_PER_PIXEL = 10
"""What is put aside of each pixel of a plane: marks, evidence, seeds, labels."""
SCRATCH_BYTES_PER_PIXEL = 0.4
"""Of the temporary file; fields of crowded nuclei took 0.33."""
LABEL_BYTES_PER_PIXEL = 0.1
"""Of labels, which lie there twice before they are complete; such fields took 0.05."""
PREFIX = ".cellunet"
"""Begins the name of the temporary file, for as long as it has one."""


def check_folder(folder: Path) -> None:
    """Refuse a folder for temporary files that is none, or permits no writing.

    Raises
    ------
    OutputError
        If it cannot be used.
    """
    if not folder.is_dir():
        raise OutputError(
            f"There is no folder {folder} for temporary files.",
            hint="Make it, or choose another one with --scratch.",
        )
    with writing(folder / PREFIX, "--scratch"), temporary(folder):
        pass


def check_room(
    output: Path, pixels: int, memory_bytes: int, folder: Path | None = None
) -> None:
    """Tell how much room on the disk an image will take, and refuse if there is none.

    Parameters
    ----------
    output
        The result; its folder exists.
    pixels
        Of all planes.
    memory_bytes, folder
        As of `Scratch`.

    Raises
    ------
    OutputError
        If it does not fit.
    """
    if pixels * RAW_BYTES_PER_PIXEL <= memory_bytes:
        return
    wanted = {output.parent: LABEL_BYTES_PER_PIXEL}
    with writing(output):
        there = folder or output.parent
        if os.path.samestat(there.stat(), output.parent.stat()):
            there = output.parent
        same = there.stat().st_dev == output.parent.stat().st_dev
    if same:
        # Of one disk, and told of one folder: what is taken of it altogether.
        wanted = {there: LABEL_BYTES_PER_PIXEL + SCRATCH_BYTES_PER_PIXEL}
    else:
        wanted[there] = SCRATCH_BYTES_PER_PIXEL
    for place, of_pixel in wanted.items():
        option = "--out" if place == output.parent else "--scratch"
        _check_disk(output, place, round(pixels * of_pixel / 1e6), option)


def _check_disk(output: Path, place: Path, needed: int, option: str) -> None:
    """Tell that a result takes so many megabytes of a disk, and refuse if it cannot."""
    with writing(output, option):
        free = round(shutil.disk_usage(place).free / 1e6)
    logger.info(
        "%s: about %d MB of %s (%d MB free) are taken until it is finished.",
        output,
        needed,
        place,
        free,
    )
    if needed > free:
        choice = "--out" if option == "--out" else "--scratch or --out"
        raise OutputError(
            f"{output} cannot be written: it takes about {needed:,} MB in "
            f"{place} until it is finished, and {free:,} MB are free there.",
            hint=f"Free space on that disk, or choose another folder with {choice}.",
        )


def temporary(folder: Path) -> IO[bytes]:
    """Return a new file without a name, which vanishes when it is closed."""
    return tempfile.TemporaryFile(dir=folder, prefix=PREFIX, suffix=".partial")
