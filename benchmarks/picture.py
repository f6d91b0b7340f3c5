"""Draw the README's picture: images, and the nuclei that were found in them.

cellunet predict examples/images --out masks
python benchmarks/picture.py masks docs/pictures/nuclei.png
"""

import sys
from pathlib import Path

import numpy as np

from cellunet.annotations.read import read_labels
from cellunet.io.images import open_image
from cellunet.io.png import write_png
from cellunet.io.source import Region
from cellunet.outputs.pictures import contact_sheet, preview

IMAGES = Path(__file__).parents[1] / "examples" / "images"
NAMES = ("u2os_B24_s9.tif", "u2os_N12_s7.tif")


def main(masks: Path, picture: Path) -> None:
    panels = []
    for name in NAMES:
        with open_image(IMAGES / name) as source:
            height, width = source.shape
            image = source.read(Region(0, 0, height, 0, width))[0]
        panels.append(preview(image, read_labels(masks / name, kind="labels")))
    picture.parent.mkdir(parents=True, exist_ok=True)
    sheet = contact_sheet(panels, columns=1)
    write_png(picture, np.ascontiguousarray(sheet))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
