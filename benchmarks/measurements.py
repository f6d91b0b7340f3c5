"""Measure shapes and real nuclei by cellunet and by other programs.

    python benchmarks/measurements.py [--json FILE]

One table a column: a disc, a square, a line, a single pixel, a U with a hole, and the
median over the nuclei of an example image, as cellunet, scikit-image (its regionprops,
and CellProfiler's formulas on top of it), SimpleITK (where it is installed) and ImageJ
(where Debian's package imagej and a Java compiler are) measure them. All of them get
the same label image and the same intensities.
"""

import argparse
import json
import math
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import tifffile
from skimage.measure import regionprops

from cellunet.annotations.read import read_annotation
from cellunet.imaging.measure import measure_labels

IMAGEJ = Path("/usr/share/java/ij.jar")
EXAMPLE = Path(__file__).parents[1] / "examples" / "annotated"
COLUMNS = {
    "area": "area_px",
    "perimeter": "perimeter_px",
    "circularity": "circularity",
    "solidity": "solidity",
    "major axis": "major_axis_px",
    "minor axis": "minor_axis_px",
    "orientation": "orientation",
    "largest Feret diameter": "feret_max_px",
    "least Feret diameter": "feret_min_px",
    "mean": "intensity_mean",
    "standard deviation": "intensity_std",
    "median": "intensity_median",
}
SHAPES = ("disc", "square", "line", "pixel", "U with hole")
JAVA = """
import ij.ImagePlus;
import ij.io.Opener;
import ij.gui.Roi;
import ij.plugin.filter.ThresholdToSelection;
import ij.process.*;
import ij.measure.Calibration;
import java.awt.Polygon;

public class Measure {
    static double area(Polygon p) {
        double twice = 0;
        for (int i = 0; i < p.npoints; i++) {
            int j = (i + 1) % p.npoints;
            twice += (double) p.xpoints[i] * p.ypoints[j]
                - (double) p.xpoints[j] * p.ypoints[i];
        }
        return Math.abs(twice / 2);
    }
    public static void main(String[] words) {
        ImageProcessor labels = new Opener().openImage(words[0]).getProcessor();
        ImageProcessor image = new Opener().openImage(words[1]).getProcessor();
        int most = (int) labels.getStatistics().max;
        for (int id = 1; id <= most; id++) {
            labels.setThreshold(id, id, ImageProcessor.NO_LUT_UPDATE);
            Roi roi = new ThresholdToSelection().convert(labels);
            image.setRoi(roi);
            ImageStatistics s = ImageStatistics.getStatistics(image,
                ij.measure.Measurements.AREA + ij.measure.Measurements.MEAN
                + ij.measure.Measurements.STD_DEV + ij.measure.Measurements.MEDIAN
                + ij.measure.Measurements.ELLIPSE, new Calibration());
            double length = roi.getLength();
            double[] feret = roi.getFeretValues();
            double round = Math.min(1, 4 * Math.PI * s.pixelCount / (length * length));
            System.out.println("found " + s.area + " " + length + " " + round + " "
                + s.pixelCount / area(roi.getConvexHull()) + " " + s.major + " "
                + s.minor + " " + s.angle + " " + feret[0] + " " + feret[2] + " "
                + s.mean + " " + s.stdDev + " " + s.median);
        }
    }
}
"""


def drawn() -> np.ndarray:
    """Return the labels of `SHAPES`."""
    labels = np.zeros((60, 150), np.uint8)
    y, x = np.mgrid[:60, :150]
    labels[(y - 20) ** 2 + (x - 20) ** 2 <= 100] = 1
    labels[10:20, 40:50], labels[30, 60:80], labels[50, 90] = 2, 3, 4
    labels[10:40, 100:130] = 5
    labels[10:30, 110:120] = 0
    labels[33:36, 103:106] = 0
    return labels


def ours(labels: np.ndarray, image: np.ndarray) -> dict[str, np.ndarray]:
    """Return what cellunet measures."""
    table = measure_labels(labels, [image], detail=True)
    return {name: table[column] for name, column in COLUMNS.items()}


def scikit_image(labels: np.ndarray, image: np.ndarray) -> dict[str, np.ndarray]:
    """Return scikit-image's regionprops, circularity by CellProfiler's formula."""
    found: dict[str, list[float]] = {name: [] for name in COLUMNS}
    for one in regionprops(labels, image):
        inside = image[labels == one.label]
        length = one.perimeter
        values = {
            "area": one.area,
            "perimeter": length,
            "circularity": 4 * math.pi * one.area / length**2 if length else math.inf,
            "solidity": one.solidity if one.area > 20 else math.nan,
            "major axis": one.axis_major_length,
            "minor axis": one.axis_minor_length,
            "orientation": (math.degrees(one.orientation) + 90) % 180,
            "largest Feret diameter": one.feret_diameter_max if one.area > 20 else 0,
            "least Feret diameter": math.nan,
            "mean": one.intensity_mean,
            "standard deviation": inside.std(),
            "median": np.median(inside),
        }
        for name, value in values.items():
            found[name].append(float(value))
    return {name: np.array(values) for name, values in found.items()}


def simpleitk(labels: np.ndarray, image: np.ndarray) -> dict[str, np.ndarray]:
    """Return SimpleITK's shape and intensity statistics."""
    import SimpleITK

    shape = SimpleITK.LabelShapeStatisticsImageFilter()
    shape.ComputeFeretDiameterOn()
    shape.Execute(SimpleITK.GetImageFromArray(labels))
    light = SimpleITK.LabelIntensityStatisticsImageFilter()
    light.Execute(
        SimpleITK.GetImageFromArray(labels), SimpleITK.GetImageFromArray(image)
    )
    found: dict[str, list[float]] = {name: [] for name in COLUMNS}
    for n in shape.GetLabels():
        minor, major = shape.GetEquivalentEllipsoidDiameter(n)
        axis = shape.GetPrincipalAxes(n)[2:]
        values = {
            "area": shape.GetNumberOfPixels(n),
            "perimeter": shape.GetPerimeter(n),
            "circularity": shape.GetRoundness(n),
            "solidity": math.nan,
            "major axis": major,
            "minor axis": minor,
            "orientation": math.degrees(math.atan2(-axis[1], axis[0])) % 180,
            "largest Feret diameter": shape.GetFeretDiameter(n),
            "least Feret diameter": math.nan,
            "mean": light.GetMean(n),
            "standard deviation": light.GetStandardDeviation(n),
            "median": light.GetMedian(n),
        }
        for name, value in values.items():
            found[name].append(float(value))
    return {name: np.array(values) for name, values in found.items()}


def imagej(labels: np.ndarray, image: np.ndarray) -> dict[str, np.ndarray]:
    """Return what ImageJ measures of the selection that its threshold makes."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "Measure.java").write_text(JAVA, encoding="utf-8")
        for stem, pixels in (("labels", labels), ("image", image)):
            tifffile.imwrite(folder / f"{stem}.tif", pixels.astype(np.uint16))
        words = ["java", "-Djava.awt.headless=true", "-cp", str(IMAGEJ)]
        files = [str(folder / f) for f in ("Measure.java", "labels.tif", "image.tif")]
        done = subprocess.run(
            [*words, *files], capture_output=True, text=True, check=True
        )
    rows = [ln.split()[1:] for ln in done.stdout.splitlines() if ln[:5] == "found"]
    columns = np.array(rows, np.float64).T
    return dict(zip(COLUMNS, columns, strict=True))


def programs() -> dict[str, Callable[..., dict[str, np.ndarray]]]:
    """Return the programs that are there."""
    found: dict[str, Callable[..., dict[str, np.ndarray]]] = {
        "cellunet": ours,
        "scikit-image": scikit_image,
    }
    if find_spec("SimpleITK"):
        found["SimpleITK"] = simpleitk
    if IMAGEJ.is_file() and shutil.which("javac"):
        found["ImageJ"] = imagej
    return found


def nuclei() -> tuple[np.ndarray, np.ndarray]:
    """Return labels and intensities of an example, objects at its edge left out."""
    image = next(iter(sorted((EXAMPLE / "images").iterdir())))
    labels = read_annotation(next((EXAMPLE / "labels").glob(f"{image.stem}.*"))).labels
    table = measure_labels(labels)
    whole = table["id"][(table["touches_border"] == 0) & (table["area_px"] > 20)]
    kept = np.where(np.isin(labels, whole), labels, 0)
    dense = np.unique(kept, return_inverse=True)[1].reshape(kept.shape)
    return dense.astype(np.uint16), tifffile.imread(image)


def main() -> None:
    """Print a table a column, Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    labels = drawn()
    image = (np.indices(labels.shape).sum(axis=0) * 37 % 101).astype(np.uint16)
    real = nuclei()
    results: dict[str, dict[str, list[float]]] = {name: {} for name in COLUMNS}
    for program, measure in programs().items():
        shapes, field = measure(labels, image), measure(*real)
        for name in COLUMNS:
            known = field[name][~np.isnan(field[name])]
            middle = float(np.median(known)) if known.size else math.nan
            results[name][program] = [*map(float, shapes[name]), middle]
    for name, found in results.items():
        print(f"\n| {name} | " + " | ".join((*SHAPES, "nuclei")) + " |")
        print("| --- " * (len(SHAPES) + 2) + "|")
        for program, values in found.items():
            cells = ("" if math.isnan(v) else f"{v:.4g}" for v in values)
            print(f"| {program} | " + " | ".join(cells) + " |")
    print(f"\n{real[0].max()} nuclei, their median.")
    if chosen.json:
        chosen.json.write_text(json.dumps(results, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
