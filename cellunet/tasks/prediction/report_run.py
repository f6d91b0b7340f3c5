"""What a report says of a run: settings, versions and the model's card, in words."""

from __future__ import annotations

import platform
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import numpy as np

from cellunet import __version__
from cellunet.report.summary import RunSummary
from cellunet.tasks.prediction.report import common_folder

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from cellunet.store import Model, ModelCard
    from cellunet.tasks.prediction.segment import Recipe
    from cellunet.tasks.predictions import ImageResult

PACKAGES = ("scipy", "scikit-image", "tifffile", "imagecodecs")


def run_summary(  # noqa: PLR0913
    model: Model,
    recipe: Recipe,
    settings: Mapping[str, Any],
    results: Sequence[ImageResult],
    out: Path,
    seconds: float,
    *,
    stopped: bool,
) -> RunSummary:
    """Return what a report says of a run.

    Parameters
    ----------
    model, recipe, settings
        What was applied, and how.
    results
        What became of each image.
    out
        Folder of the label images.
    seconds
        Time of the run.
    stopped
        Whether it was stopped before its end.
    """
    return RunSummary(
        created=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        folder=common_folder(results) or "several folders",
        results=str(out),
        seconds=seconds,
        stopped=stopped,
        settings=_settings(settings, seconds, model.card.channels),
        versions=_versions(recipe),
        model=_model(model),
    )


def _settings(
    settings: Mapping[str, Any], seconds: float, channels: tuple[str, ...]
) -> dict[str, Any]:
    decode = settings["decode"]
    return {
        "Magnification": settings["scale"]
        or f"to {settings['pixel_size_um']:g} µm per pixel",
        "Level of pyramids": settings.get("level", 0),
        "Zeros where a file is damaged": settings.get("keep_going", False),
        "Channel": settings["channel"] or ",".join(channels) or None,
        "Luminance of RGB": settings["gray"],
        "Z planes": settings["z"],
        "Seed threshold": decode["seed_threshold"],
        "Smallest object": f"{decode['min_area_px']} px",
        "Largest filled hole": f"{decode['max_hole_px']} px",
        "Growth from seeds": f"{decode['growth_px']} px",
        "Odds of the classes": [f"{odds:.3g}" for odds in decode["class_odds"]],
        "Averaged over mirror images": settings["flips"],
        "Edge objects dropped": settings["exclude_border"],
        "Also saved": settings["save"],
        "Time of this run": f"{seconds:.1f} s",
    }


def _versions(recipe: Recipe) -> dict[str, Any]:
    found = {
        "cellunet": __version__,
        "Engine": recipe.engine.name,
        "Python": platform.python_version(),
        "numpy": np.__version__,
    }
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "unknown"
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
