"""Estimate time and disk of a batch: segment a few of its images into nothing."""

from __future__ import annotations

import contextlib
import itertools
import math
import shutil
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cellunet.tasks.predict import outputs
from cellunet.tasks.scheduling import in_order

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cellunet.command_config import PredictConfig
    from cellunet.tasks.predict.image import ImageJob
    from cellunet.tasks.predict.inputs import ImageResult, ImageTarget

    Planned = Sequence[tuple[ImageTarget, ImageResult]]
    """Images to segment, and what a dry run says of them."""

MOST_PX = 2**25
"""Larger images are not measured: one would take as long as a person waits."""

ENOUGH_SECONDS = 5.0
"""No further image is begun after so long."""

FEWEST = 2
"""Images that are timed, after a first one on which all is warm."""


@dataclass(frozen=True, kw_only=True)
class BatchEstimate:
    """What a batch would take, by the pixels of the images that were measured."""

    measured: int
    """Images that were segmented for it."""
    images: int
    """Images to segment."""
    seconds: float
    """Time of all of them on this machine as it is now."""
    bytes: dict[str, int]
    """By kind of result, ``labels`` first; joined files and the page included."""
    free_bytes: int
    """Free on the disk of the results."""

    @property
    def total_bytes(self) -> int:
        """Bytes of all results."""
        return sum(self.bytes.values())

    @property
    def warnings(self) -> tuple[str, ...]:
        """What to look at, in sentences: whether there is room on the disk."""
        missing = self.total_bytes - self.free_bytes
        if missing <= 0:
            return ()
        return (
            f"The results would take about {math.ceil(missing / 1e6):,} MB more than "
            "the disk of --out has free. Choose another --out, or save less.",
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return dict(vars(self))


def estimate(
    job: ImageJob, planned: Planned, out: Path
) -> tuple[BatchEstimate | None, tuple[str, ...]]:
    """Estimate a batch by its first images.

    Labels and files are written into a temporary folder, which is gone at the end.

    Parameters
    ----------
    job
        That of the dry run.
    planned
        All images to segment.
    out
        Folder of the results, which need not be there.

    Returns
    -------
    BatchEstimate
        None if no image could be measured: they fail, or have more than `MOST_PX`
        pixels.
    tuple of str
        Why images failed that were to be measured.

    Raises
    ------
    PredictionStopped
        If the caller asks to stop.
    """
    few = [(t, r) for t, r in planned if 0 < _pixels(r) <= MOST_PX]
    with tempfile.TemporaryDirectory(prefix="cellunet-") as folder:
        measuring = _Measuring(job, Path(folder))
        measuring.run(few)
        if not measuring.timed_px:
            return None, tuple(measuring.failures)
        whole = sum(_pixels(result) for _, result in planned)
        share = whole / measuring.seen_px
        found = BatchEstimate(
            measured=measuring.count,
            images=len(planned),
            seconds=measuring.seconds * whole / measuring.timed_px,
            bytes={k: round(n * share) for k, n in measuring.bytes.items()},
            free_bytes=shutil.disk_usage(_existing(out)).free,
        )
        return found, tuple(measuring.failures)


class _Measuring:
    """Segments images into a folder, and counts what that takes."""

    def __init__(self, job: ImageJob, folder: Path) -> None:
        self._folder = folder
        self._config = job.config
        self._job = job.for_measuring(outputs.reporter_for(folder, job.config))
        self.count = self.seen_px = self.timed_px = 0
        self.seconds = 0.0
        self.bytes: dict[str, int] = {}
        self.failures: list[str] = []

    def run(self, few: Planned) -> None:
        """Segment one image, then some more side by side, which are timed."""
        begin = time.perf_counter()
        numbered = iter(enumerate(few))
        self._add(map(self._image, itertools.islice(numbered, 1)))
        first = self.seconds = time.perf_counter() - begin
        self.timed_px = self.seen_px
        more = max(FEWEST, self._job.at_once)
        begun = itertools.takewhile(
            lambda _: time.perf_counter() - begin < ENOUGH_SECONDS,
            itertools.islice(numbered, more),
        )
        at_once = self._job.at_once
        with contextlib.closing(in_order(self._image, begun, at_once)) as done:
            self._add(done)
        if self.seen_px > self.timed_px:
            self.seconds = time.perf_counter() - begin - first
            self.timed_px = self.seen_px - self.timed_px

    def _image(
        self, item: tuple[int, tuple[ImageTarget, ImageResult]]
    ) -> dict[str, int]:
        """Return the pixels of an image and the bytes of its files; {} if it fails."""
        number, (target, planned) = item
        output = self._folder / str(number) / target.output.name
        own = replace(target, output=output, into=None)
        result = self._job.image(own)
        if result.status != "done":
            self.failures.append(result.message)
            return {}
        return {"": _pixels(planned), **_bytes_of(output, self._folder, self._config)}

    def _add(self, found: Iterable[dict[str, int]]) -> None:
        for of_image in found:
            self.seen_px += of_image.pop("", 0)
            self.count += bool(of_image)
            for kind, size in of_image.items():
                self.bytes[kind] = self.bytes.get(kind, 0) + size


def _bytes_of(output: Path, folder: Path, config: PredictConfig) -> dict[str, int]:
    """Return what the files of an image take, those joined from them, too."""
    own = output.parent
    paths = outputs.optional_output_paths(output, config)
    found = {"labels": _size(own)}
    for kind, path in paths.items():
        size = _size(path)
        if kind == "outlines":
            # One for each plane.
            size += sum(map(_size, own.glob(f"{path.stem}_*{path.suffix}")))
        found["labels"] -= size
        joined = outputs.OUTPUT_KINDS[kind].join is not None
        found[kind] = size * (2 if joined else 1)
    if "report" in config.save:
        # A record of each image, and the same again in the page.
        found["report"] = 2 * _size(folder / outputs.RECORDS / own.name)
    return found


def _size(path: Path) -> int:
    """Return the bytes of a file, or of all files in a folder."""
    if path.is_file():
        return path.stat().st_size
    return sum(one.stat().st_size for one in path.rglob("*") if one.is_file())


def _pixels(result: ImageResult) -> int:
    return math.prod(result.shape or (0,))


def _existing(folder: Path) -> Path:
    """Return a folder, or the nearest one above that is there."""
    whole = folder.absolute()
    return next(path for path in (whole, *whole.parents) if path.exists())
