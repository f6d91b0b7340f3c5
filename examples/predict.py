"""Segment the example images with the model that ships: one label image per input."""

import sys
from pathlib import Path

from cellunet.tasks.predict.batch import predict

HERE = Path(__file__).parent


def main(out: Path) -> None:
    found = predict([str(HERE / "images")], out)
    for image in found.images:
        print(f"{Path(image.input).name}: {image.status}, {image.objects} nuclei")
    print(f"{found.engine}, labels in {out}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "masks"))
