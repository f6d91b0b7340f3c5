"""What the tests of the report share: a run, images, and a page to open."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from cellunet.config import NormalizationConfig
from cellunet.io.source import Statistics
from cellunet.outputs.pictures import Thumbnail
from cellunet.outputs.report import (
    CONFIDENCE_STEP,
    DIAMETER_STEP_PX,
    Histogram,
    ImageSummary,
    RunSummary,
)

if TYPE_CHECKING:
    from collections.abc import Callable

KNOWN = Statistics(low=200, high=3000, mean=400, std=300, noise=10, count=96 * 96)


@pytest.fixture(scope="session")
def picture(nuclei_image) -> tuple[bytes, tuple[int, int]]:
    """A thumbnail as WebP, and its width and height."""
    image, labels = nuclei_image()
    thumbnail = Thumbnail(image.shape, KNOWN, NormalizationConfig())
    thumbnail.add(image, labels)
    return thumbnail.encode()


@pytest.fixture
def windows_lines(monkeypatch) -> None:
    """Text files end lines as on Windows, unless they are opened to do otherwise."""
    original = Path.open

    def opened(path: Path, mode: str = "r", *args: Any, **how: Any) -> Any:
        if "w" in mode and "b" not in mode:
            how.setdefault("newline", "\r\n")
        return original(path, mode, *args, **how)

    monkeypatch.setattr(Path, "open", opened)


@pytest.fixture
def run_summary() -> RunSummary:
    """A run of little to tell."""
    return RunSummary(
        created="2026-01-02 03:04 UTC",
        folder="plates",
        results="masks",
        settings={"Magnification": 1.0, "Channel": None},
        versions={"cellunet": "1.2.3"},
        model={"Name": "nuclei", "Classes": ["background", "interior"]},
    )


@pytest.fixture(scope="session")
def make_image(picture) -> Callable[..., ImageSummary]:
    """``make_image(name, objects=3, ...)``: a finished image with a picture."""

    def make(name: str, objects: int = 3, **changes: Any) -> ImageSummary:
        rng = np.random.default_rng(objects)
        values: dict[str, Any] = {
            "status": "done",
            "thumbnail": picture[0],
            "thumbnail_size": picture[1],
            "objects": objects,
            "diameters": Histogram.of(rng.uniform(8, 30, objects), DIAMETER_STEP_PX),
            "confidences": Histogram.of(
                rng.uniform(0.8, 1, objects), CONFIDENCE_STEP, top=1.0
            ),
            "seconds": 0.5,
        }
        return ImageSummary(name=name, **values | changes)

    return make
