"""A fluorescence image of nuclei with its labels, as napari's sample data.

From the 2018 Data Science Bowl (BBBC038v1, Caicedo et al., Nature Methods 16,
1247-1253, 2019), with the community's annotation fixes; CC0 1.0.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tifffile

HERE = Path(__file__).parent


def nuclei() -> list[tuple[Any, dict[str, Any], str]]:
    """Return the image as a layer."""
    return [(tifffile.imread(HERE / "image.tif"), {"name": "nuclei"}, "image")]


def labeled_nuclei() -> list[tuple[Any, dict[str, Any], str]]:
    """Return the image and its labels as layers."""
    labels = tifffile.imread(HERE / "labels.tif")
    return [*nuclei(), (labels, {"name": "nuclei labels"}, "labels")]
