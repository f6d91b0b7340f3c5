"""The report of a prediction: a record of each image, and the page made of them."""

from __future__ import annotations

import hashlib
import json
import platform
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from cellunet import __version__
from cellunet.bugs import installed
from cellunet.command_config import PredictConfig
from cellunet.config import DecodeConfig
from cellunet.imaging.measure import equivalent_diameters
from cellunet.io.files import write_atomically
from cellunet.outputs import report
from cellunet.tasks.predict.inputs import (
    as_asked,
    common_folder,
    name_below,
    read_made,
)
from cellunet.tasks.predict.outputs import (
    PAGE,
    intensities_of,
    record_path,
    saved,
    saved_kinds,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from cellunet.io.source import Source
    from cellunet.store import Model, ModelCard
    from cellunet.tasks.predict.appearance import ImageQuality
    from cellunet.tasks.predict.inputs import ImageResult
    from cellunet.tasks.predict.settings import InferenceSettings

LOST = "Its record in report-data is gone. Run the same command again."


class Reporter:
    """The page of one folder of results, and the records that it is made of.

    Parameters
    ----------
    out
        The folder.
    config
        What is saved there.
    """

    def __init__(self, out: Path, config: PredictConfig) -> None:
        self._out, self._config = out, config

    def has(self, output: Path, provenance: Mapping[str, Any]) -> bool:
        """Return whether the record of just these labels is there."""
        try:
            return self._read(output, "")[1] == _digest(as_asked(provenance))
        except (OSError, ValueError):
            return False

    def keep(
        self,
        output: Path,
        provenance: Mapping[str, Any],
        image: report.ImageSummary,
    ) -> None:
        """Write the record of an image.

        Raises
        ------
        OutputError
            If there is no room or no permission.
        """
        with write_atomically(self._record(output)) as path:
            content = report.to_json(image, _digest(as_asked(provenance)))
            path.write_text(content, encoding="ascii")

    @staticmethod
    def summary(
        observed: ImageQuality,
        source: Source,
        seconds: float,
        warnings: tuple[str, ...],
        size: str = "",
        objects: int | None = None,
    ) -> report.ImageSummary:
        """Return what a report shows of an image just segmented, seen as `size` says.

        `objects` counts those of several planes once, if they are linked.
        """
        planes = int(np.prod(source.plane_shape, dtype=int))
        diameters = equivalent_diameters(observed.areas)
        return report.ImageSummary(
            name=source.path.name,
            status="done",
            thumbnail=observed.thumbnail,
            thumbnail_size=observed.thumbnail_size,
            plane=f"plane {observed.plane + 1} of {planes}" if planes > 1 else "",
            objects=len(observed.areas) if objects is None else objects,
            diameters=report.Histogram.of(diameters.tolist(), report.DIAMETER_STEP_PX),
            confidences=report.Histogram.of(
                observed.confidences.tolist(), report.CONFIDENCE_STEP, top=1.0
            ),
            pixel_size_um=source.pixel_size_um,
            pixel_size_from=source.origin.pixel_size_from,
            notes=source.origin.notes,
            seconds=seconds,
            warnings=warnings,
            size=size,
        )

    def run(
        self,
        model: Model,
        recipe: InferenceSettings,
        settings: Mapping[str, Any],
        results: Sequence[ImageResult],
        seconds: float,
        *,
        stopped: bool,
    ) -> report.RunSummary:
        """Return what a report says of a run.

        Parameters
        ----------
        model, recipe, settings
            What was applied, and how.
        results
            What became of each image.
        seconds
            Time of the run.
        stopped
            Whether it was stopped before its end.
        """
        return self._summary(
            results,
            stopped=stopped,
            settings=_settings(settings, seconds, model.card.channels)
            | _of_samples(self._config),
            versions=_versions({"Engine": recipe.engine.name}),
            model=_model(model),
        )

    def measured_run(
        self, config: PredictConfig, results: Sequence[ImageResult], seconds: float
    ) -> report.RunSummary:
        """Return what a report says of a run that measured labels of any origin."""
        return self._summary(
            results,
            measured=True,
            settings={
                "Luminance of RGB": config.gray,
                "Z planes": config.z,
                "Linked over Z": config.link_planes,
                "Measured": config.measure,
                "Also saved": list(saved_kinds(config)),
                "Time of this run": f"{seconds:.1f} s",
                **_of_samples(config),
            },
            versions=_versions({}),
        )

    def _summary(
        self,
        results: Sequence[ImageResult],
        **more: Any,  # noqa: ANN401
    ) -> report.RunSummary:
        return report.RunSummary(
            created=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
            folder=common_folder(results) or "several folders",
            results=str(self._out),
            **more,
        )

    def write(
        self,
        run: report.RunSummary,
        results: Sequence[ImageResult],
        labels: Mapping[str | None, str | None] = MappingProxyType({}),
    ) -> str:
        """Write the page and return its path.

        Parameters
        ----------
        run
            What it says of the run.
        results
            What became of each image.
        labels
            Where label images are that are not at the output of their result.

        Raises
        ------
        OutputError
            If there is no room or no permission.
        """
        page = self._out / PAGE
        own = {
            result.output: Path(labels.get(result.output) or result.output)
            for result in results
            if result.output is not None and result.status != "failed"
        }
        shown = _with_intensities(results, own, self._config)
        report.write_report(page, run, lambda: self._images(run, results, own, shown))
        return str(page)

    def _images(
        self,
        run: report.RunSummary,
        results: Sequence[ImageResult],
        labels: Mapping[str, Path],
        intensities: Mapping[str, Mapping[str, tuple[float, int]]],
    ) -> Iterator[report.ImageSummary]:
        for result in results:
            name = name_below(result.input, run.folder)
            if result.image:
                name = f"{name} ({result.image})"
            if result.status == "failed" or result.output is None:
                yield report.ImageSummary(
                    name=name,
                    status="failed",
                    error=result.message,
                    seconds=result.seconds,
                    columns=result.columns,
                )
                continue
            output = Path(result.output)
            try:
                image, _ = self._read(output, name)
            except (OSError, ValueError):
                yield report.ImageSummary(
                    name=name, status="failed", error=LOST, columns=result.columns
                )
                continue
            skipped = result.status == "skipped"
            yield replace(
                image,
                status="skipped" if skipped else "done",
                link=self._large_picture(output, labels[result.output]),
                columns=result.columns,
                intensities=intensities.get(result.output, {}),
            )

    def _read(self, output: Path, name: str) -> tuple[report.ImageSummary, str]:
        return report.from_json(self._record(output).read_bytes(), name)

    def _record(self, output: Path) -> Path:
        return record_path(self._out, output)

    def _large_picture(self, output: Path, labels: Path) -> str:
        """Return where the picture of ``--save outlines`` is, if there is one."""
        path = output.with_name(f"{output.stem}_outlines.png")
        if not path.is_file():
            return ""
        # A file of that name may be of other labels, or anyone's.
        config = self._config
        kinds = {*config.save} | saved(read_made(labels), config.table_format)
        return path.relative_to(self._out).as_posix() if "outlines" in kinds else ""


def _with_intensities(
    results: Sequence[ImageResult], labels: Mapping[str, Path], config: PredictConfig
) -> dict[str, dict[str, tuple[float, int]]]:
    """Return what tables say of the images of plates and samples, by result."""
    placed = {result.output for result in results if result.columns}
    return {
        output: intensities_of(Path(output), own, config)
        for output, own in labels.items()
        if output in placed
    }


def _digest(provenance: Mapping[str, Any]) -> str:
    content = json.dumps(provenance, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(content.encode("ascii")).hexdigest()


PACKAGES = ("scipy", "tifffile", "imagecodecs")


def _settings(
    settings: Mapping[str, Any], seconds: float, channels: tuple[str, ...]
) -> dict[str, Any]:
    channel = settings["channel"] or ",".join(channels) or None
    return {
        "Magnification": _magnification(settings),
        **PredictConfig.rows({**settings, "channel": channel}),
        **DecodeConfig.rows(settings["decode"]),
        "Edge": settings["decode"]["edge"] or "as the network draws it",
        "Also saved": settings["save"],
        "Time of this run": f"{seconds:.1f} s",
    }


def _of_samples(config: PredictConfig) -> dict[str, Any]:
    known = {"Plate pattern": config.plate_pattern, "Samples": config.samples}
    return {name: value for name, value in known.items() if value is not None}


def _magnification(settings: Mapping[str, Any]) -> Any:  # noqa: ANN401
    """Return the one of all images, or what that of each follows from."""
    if settings["scale"]:
        found = "found for all images together: " if "diameter" in settings else ""
        return f"{found}{settings['scale']:g}" if found else settings["scale"]
    if "diameter" in settings:
        return "found for each image, from the size of its objects"
    return f"to {settings['pixel_size_um']:g} µm per pixel"


def _versions(engine: Mapping[str, str]) -> dict[str, Any]:
    found = {
        "cellunet": __version__,
        **engine,
        "Python": platform.python_version(),
        "numpy": np.__version__,
    }
    found |= {name: installed(name) or "unknown" for name in PACKAGES}
    return found | {"System": platform.platform()}


def _model(model: Model) -> dict[str, Any]:
    card = model.card
    low, median, high = card.diameter_px
    return {
        "Name": model.name,
        "Training images": len(card.training),
        "Validation images": len(card.validation),
        "Objects learned": f"{low:.0f} to {high:.0f} px wide, median {median:.0f}",
        "Classes": list(card.config.encoding.classes),
        "Epochs": card.epochs,
        "Validation scores": _scores(card),
        "Unlike-image checks": (
            ", ".join(card.training_statistics).replace("diameter_px", "diameter")
            or "diameter alone: its card holds no statistics of the training images"
        ),
        "Trained with": ", ".join(f"{k} {v}" for k, v in card.versions.items()),
        "SHA-256": model.sha256,
    }


def _scores(card: ModelCard) -> str:
    return ", ".join(f"{name} {value:.3f}" for name, value in card.scores.items())
