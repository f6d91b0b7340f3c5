"""Segment an array: three lines, no file in between but the image that is read."""

import sys
from pathlib import Path

import numpy as np
import tifffile

HERE = Path(__file__).parent


def main(out: Path) -> None:
    image = tifffile.imread(HERE / "images" / "u2os_B24_s9.tif")

    from cellunet.tasks.predict.session import load_model

    model = load_model()
    labels, table = model.segment(image, pixel_size_um=0.656)

    sure = table["confidence"] > 0.9
    print(f"{labels.max()} nuclei, {sure.sum()} with a confidence above 0.9")
    print(f"median area {np.median(table['area_um2']):.0f} square micrometers")
    out.mkdir(parents=True, exist_ok=True)
    np.savez(out / "u2os_B24_s9.npz", labels=labels, **table)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "session"))
