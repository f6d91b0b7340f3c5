"""The table of a whole run: the rows of its images' tables, one after the other."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cellunet.errors import OutputError
from cellunet.imaging.results.join_tables import is_ours, join
from cellunet.tasks.prediction.extras import extra_paths

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cellunet.config import PredictConfig
    from cellunet.tasks.predictions import ImageResult

STEM = "table"


def table_path(out: Path, config: PredictConfig) -> Path | None:
    """Return where the table of a run is to appear, None if none is saved.

    Raises
    ------
    OutputError
        If something else is there, unless it may be replaced.
    """
    if "table" not in config.save:
        return None
    path = out / f"{STEM}.{config.table_format}"
    if path.exists() and not config.overwrite and not is_ours(path):
        raise OutputError(
            f"{path} exists and is no table of cellunet.",
            hint="Choose another --out, or replace it with --overwrite.",
        )
    return path


def write_table(
    path: Path | None, images: Sequence[ImageResult], config: PredictConfig
) -> str | None:
    """Join the tables of the images that are finished, those of earlier calls too.

    Parameters
    ----------
    path
        From `table_path`.
    images
        What became of the inputs.
    config
        What was saved.

    Returns
    -------
    str or None
        The joined table; None if there is nothing to join.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    finished = [i for i in images if i.status in ("done", "skipped") and i.output]
    if path is None or not finished:
        return None
    outputs = [Path(image.output) for image in finished if image.output]
    join([extra_paths(output, config)["table"] for output in outputs], path)
    return str(path)
