"""What napari reads of the package: the manifest and the samples."""

from __future__ import annotations

import tomllib
from pathlib import Path

import numpy as np
import pytest
import tifffile

import cellunet
from cellunet.napari import sample

PACKAGE = Path(cellunet.__file__).parent
EXAMPLES = PACKAGE.parent / "examples" / "annotated"


def test_the_sample_is_one_of_the_examples() -> None:
    (pixels, about, kind), (labels, _, second) = sample.labeled_nuclei()
    assert (kind, second, about["name"]) == ("image", "labels", "nuclei")
    image = tifffile.imread(EXAMPLES / "images" / "field1.tif")
    np.testing.assert_array_equal(pixels, image)
    annotated = tifffile.imread(EXAMPLES / "labels" / "field1.tif")
    np.testing.assert_array_equal(labels, annotated)


def test_the_manifest_is_announced_by_an_entry_point() -> None:
    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text())["project"]
    announced = project["entry-points"]["napari.manifest"]
    assert announced == {"cellunet-torch": "cellunet.napari:napari.yaml"}
    assert (PACKAGE / "napari" / "napari.yaml").is_file()


@pytest.mark.filterwarnings("ignore")
def test_every_command_of_the_manifest_can_be_imported(qt) -> None:
    npe2 = pytest.importorskip("npe2")
    manifest = npe2.PluginManifest.from_file(PACKAGE / "napari" / "napari.yaml")
    manifest.validate_imports()
    assert [w.display_name for w in manifest.contributions.widgets] == [
        "Segment nuclei and train"
    ]
    assert len(manifest.contributions.sample_data) == 2
