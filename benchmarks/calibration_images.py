"""Print the paths of some of a model's training images, to calibrate it with.

    cellunet models calibrate MODEL $(python calibration_images.py MODEL DATA)

DATA are the folders that the model was trained on. Every 16th training image, in the
order of their names; they are recognised by the fingerprints of their pixels.
"""

import sys
from pathlib import Path

from cellunet import store
from cellunet.imaging.files import Region, open_image
from cellunet.imaging.pairing import find_pairs, fingerprint

EVERY = 16


def main(name: str, folders: list[str]) -> None:
    trained = set(store.find_model(name).card.training.values())
    found = []
    for folder in folders:
        for pair in find_pairs(Path(folder)).pairs:
            with open_image(pair.image) as source:
                height, width = source.shape
                pixels = source.read(Region(0, 0, height, 0, width))
            if fingerprint(pixels) in trained:
                found.append(pair.image)
    print("\n".join(map(str, sorted(found)[::EVERY])))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
