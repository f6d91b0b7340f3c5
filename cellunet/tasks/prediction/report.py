"""``--save report``: a record per image while they are made, the page at the end."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cellunet.imaging.atomic import write_atomically
from cellunet.report.page import write_report
from cellunet.report.records import from_json, to_json
from cellunet.report.summary import (
    CONFIDENCE_STEP,
    DIAMETER_STEP_PX,
    Histogram,
    ImageSummary,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from cellunet.imaging.files import Source
    from cellunet.report.summary import RunSummary
    from cellunet.tasks.prediction.observe import Observed
    from cellunet.tasks.predictions import ImageResult

PAGE = "report.html"
RECORDS = "report-data"
"""Folder of one record per image, beside the page. An image that a rerun finds finished
is shown from its record; without it the image is segmented again."""
LOST = "Its record in report-data is gone. Run the same command again."


class Reporter:
    """The page of one folder of results, and the records that it is made of.

    Parameters
    ----------
    out
        The folder.
    wanted
        Whether there is to be a page at all; otherwise nothing is written or missed.
    """

    def __init__(self, out: Path, *, wanted: bool) -> None:
        self._out, self.wanted = out, wanted

    @property
    def page(self) -> Path:
        """Where the page is."""
        return self._out / PAGE

    def has(self, output: Path, provenance: Mapping[str, Any]) -> bool:
        """Return whether the record of just these labels is there, if one is wanted."""
        if not self.wanted:
            return True
        try:
            return self._read(output, "")[1] == _digest(provenance)
        except (OSError, ValueError):
            return False

    def keep(
        self,
        output: Path,
        provenance: Mapping[str, Any],
        image: ImageSummary,
    ) -> None:
        """Write the record of an image, if one is wanted.

        Raises
        ------
        OutputError
            If there is no room or no permission.
        """
        if self.wanted:
            with write_atomically(self._record(output)) as path:
                content = to_json(image, _digest(provenance))
                path.write_text(content, encoding="ascii")

    def write(self, run: RunSummary, results: Sequence[ImageResult]) -> str:
        """Write the page and return its path.

        Raises
        ------
        OutputError
            If there is no room or no permission.
        """
        write_report(self.page, run, self._images(run, results))
        return str(self.page)

    def _images(
        self, run: RunSummary, results: Sequence[ImageResult]
    ) -> Iterator[ImageSummary]:
        for result in results:
            name = name_below(result.input, run.folder)
            if result.status == "failed" or result.output is None:
                yield ImageSummary(
                    name=name,
                    status="failed",
                    error=result.message,
                    seconds=result.seconds,
                )
                continue
            output = Path(result.output)
            try:
                image, _ = self._read(output, name)
            except (OSError, ValueError):
                yield ImageSummary(name=name, status="failed", error=LOST)
                continue
            skipped = result.status == "skipped"
            yield replace(
                image,
                status="skipped" if skipped else "done",
                link=self._large_picture(output),
            )

    def _read(self, output: Path, name: str) -> tuple[ImageSummary, str]:
        return from_json(self._record(output).read_bytes(), name)

    def _record(self, output: Path) -> Path:
        below = output.relative_to(self._out)
        return self._out / RECORDS / below.with_name(below.name + ".json")

    def _large_picture(self, output: Path) -> str:
        """Return where the picture of ``--save outlines`` is, if there is one."""
        path = output.with_name(f"{output.stem}_outlines.png")
        return path.relative_to(self._out).as_posix() if path.is_file() else ""


def summary_of(
    observed: Observed, source: Source, seconds: float, warnings: tuple[str, ...]
) -> ImageSummary:
    """Return what a report shows of an image just segmented."""
    planes = int(np.prod(source.plane_shape, dtype=int))
    diameters = 2 * np.sqrt(observed.areas / np.pi)
    return ImageSummary(
        name=source.path.name,
        status="done",
        thumbnail=observed.thumbnail,
        thumbnail_size=observed.thumbnail_size,
        plane=f"plane {observed.plane + 1} of {planes}" if planes > 1 else "",
        objects=len(observed.areas),
        diameters=Histogram.of(diameters.tolist(), DIAMETER_STEP_PX),
        confidences=Histogram.of(
            observed.confidences.tolist(), CONFIDENCE_STEP, top=1.0
        ),
        shape=(*source.plane_shape, *source.shape),
        pixel_size_um=source.pixel_size_um,
        pixel_size_from=source.origin.pixel_size_from,
        notes=source.origin.notes,
        seconds=seconds,
        warnings=warnings,
    )


def common_folder(results: Sequence[ImageResult]) -> str:
    """Return the folder below which all inputs lie; '' if there is none."""
    try:
        return os.path.commonpath({str(Path(r.input).parent) for r in results})
    except ValueError:
        # No inputs, relative beside absolute ones, or two drives.
        return ""


def name_below(path: str, folder: str) -> str:
    """Return a path without the folder that it begins with."""
    whole = Path(path)
    return str(whole.relative_to(folder) if whole.is_relative_to(folder) else whole)


def _digest(provenance: Mapping[str, Any]) -> str:
    content = json.dumps(provenance, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(content.encode("ascii")).hexdigest()
