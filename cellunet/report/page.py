"""Write the report: one HTML file that needs nothing else.

The rows of the table go to a scratch file while images pass by one at a time; what
stands above the table is known only then. In memory are one image, the pictures of at
most `look.MOST_CARDS` + `look.FEWEST_CARDS` images, and sums.
"""

from __future__ import annotations

import shutil
import tempfile
from functools import cache
from importlib import resources
from string import Template
from typing import TYPE_CHECKING

from cellunet.imaging.atomic import PendingFile, writing
from cellunet.report import parts
from cellunet.report.escape import source_hash
from cellunet.report.totals import Totals

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from cellunet.report.summary import ImageSummary, RunSummary

MAX_PICTURES = 20_000
"""Beyond so many images only those that need a look, as many again, have a picture."""
GROUP = 50
"""Rows of one group of the table; a browser that runs the page's script lays out the
first group alone."""
MEMORY_BYTES = 8 * 2**20
"""Rows beyond this wait on the disk."""
HEAD_SCRIPT = 'document.documentElement.className="js"'


def write_report(path: Path, run: RunSummary, images: Iterable[ImageSummary]) -> None:
    """Write the page of a batch; it appears only when it is complete.

    Parameters
    ----------
    path
        Where, ending in ``.html``.
    run
        The run as a whole.
    images
        Asked for one at a time.

    Raises
    ------
    OutputError
        If there is no room or no permission.
    """
    pending = PendingFile(path)
    try:
        with (
            writing(path),
            tempfile.SpooledTemporaryFile(
                MEMORY_BYTES, dir=str(path.parent), prefix=".", suffix=".partial"
            ) as rows,
        ):
            totals = Totals()
            for image in images:
                totals.add(image)
                rows.write(_row(image, totals).encode("utf-8"))
            rows.seek(0)
            before, after = _frame(run, totals)
            with pending.temporary.open("wb") as page:
                page.write(before.encode("utf-8"))
                shutil.copyfileobj(rows, page, 2**20)
                page.write(after.encode("utf-8"))
        pending.commit()
    finally:
        pending.abort()


def _row(image: ImageSummary, totals: Totals) -> str:
    """Return a row, and what comes between groups of rows in front of it."""
    number = totals.images
    room = totals.pictures < MAX_PICTURES
    if number > MAX_PICTURES:
        room = bool(image.warnings) and totals.pictures < 2 * MAX_PICTURES
    shown = bool(image.thumbnail) and room
    totals.pictures += shown
    between = "</tbody><tbody>" if number > 1 and number % GROUP == 1 else ""
    return f"{between}{parts.row(number, image, picture=shown)}\n"


def _frame(run: RunSummary, totals: Totals) -> tuple[str, str]:
    """Return what stands before and after the rows."""
    style, script = _resource("page.css"), _resource("page.js")
    marker = "<!--rows-->"
    page = Template(_resource("page.html")).substitute(
        style=style,
        script=script,
        head_script=HEAD_SCRIPT,
        style_hash=source_hash(style),
        script_hashes=f"{source_hash(HEAD_SCRIPT)} {source_hash(script)}",
        title=parts.title(totals),
        lead=parts.lead(run, totals),
        tiles=parts.tiles(totals),
        look=parts.look_first(totals),
        charts=parts.charts(totals),
        rows=marker,
        facts=parts.facts(run),
    )
    before, _, after = page.partition(marker)
    return before, after


@cache
def _resource(name: str) -> str:
    return (resources.files("cellunet.report") / name).read_text(encoding="utf-8")
