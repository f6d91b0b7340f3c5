"""A ROI set, as the ROI Manager of Fiji saves it, to labels to train on.

The set is made here from known labels, so that what comes back can be compared. In
Fiji: draw, press T for each object, then ROI Manager, More, Save.
"""

import shutil
import sys
from pathlib import Path

import numpy as np
import roifile
import tifffile
from contourpy import contour_generator

from cellunet.config import EncodingConfig
from cellunet.tasks.make_labels import make_labels

HERE = Path(__file__).parent
IGNORED = [(0, 0), (40, 0), (40, 40), (0, 40)]
"""A corner, x and y, that the annotator did not finish."""


def draw(labels: np.ndarray) -> list[roifile.ImagejRoi]:
    """Return the outline of each object, and a ROI of the name "ignore"."""
    rois = []
    for number in np.unique(labels[labels > 0]):
        mask = np.pad(labels == number, 1)
        x, y = max(contour_generator(z=mask.astype(float)).lines(0.5), key=len).T
        # The center of the first pixel is at (0.5, 0.5); the padding is 1.
        points = np.stack([x - 0.5, y - 0.5], axis=1)
        rois.append(roifile.ImagejRoi.frompoints(points, name=f"cell-{number}"))
    rois.append(roifile.ImagejRoi.frompoints(np.array(IGNORED), name="ignore"))
    return rois


def main(out: Path) -> None:
    labels = tifffile.imread(HERE / "annotated" / "labels" / "field1.tif")
    data = out / "drawn"
    data.mkdir(parents=True, exist_ok=True)
    shutil.copy(HERE / "annotated" / "images" / "field1.tif", data / "field1.tif")
    roifile.roiwrite(data / "field1_RoiSet.zip", draw(labels), mode="w")

    made = make_labels(data, out / "made", encoding=EncodingConfig(), overwrite=True)
    (image,) = made.images
    back = tifffile.imread(out / "made" / "labels" / "field1.tif")
    same = np.array_equal(back > 0, labels > 0)
    print(f"{image.name}: {image.objects} objects, the same pixels: {same}")
    print(f"{image.annotated_share:.0%} of the image counts; see {out / 'made'}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "from-fiji"))
