"""Annotations to instance labels, class maps, weight maps and previews."""

import sys
from pathlib import Path

from cellunet.config import EncodingConfig, WeightConfig
from cellunet.tasks.make_labels import make_labels

HERE = Path(__file__).parent


def main(out: Path) -> None:
    made = make_labels(
        HERE / "annotated", out, encoding=EncodingConfig(), weights=WeightConfig()
    )
    for image in made.images:
        print(f"{image.name}: {image.objects} objects")
    print(f"labels, classes, weights and previews in {out}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "labels"))
