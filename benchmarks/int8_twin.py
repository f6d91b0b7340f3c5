"""Give a model the int8 twin that its training would have left, from its own images.

    python benchmarks/int8_twin.py MODEL DATA...

MODEL is a folder, for the shipped model `cellunet/models/nuclei`; DATA are the folders
that it was trained on. Its training images are recognised in them by the fingerprints
of their pixels, and each must be there. Without them: `cellunet models calibrate`.
"""

import argparse
from pathlib import Path

from add_statistics import samples_of

from cellunet import store
from cellunet.tasks.quantize import calibrate_on_samples


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("data", type=Path, nargs="+")
    options = parser.parse_args()
    model = store.find_model(options.model)
    calibrate_on_samples(model, samples_of(model.card.training, options.data))
    print(f"{model.int8}: {model.int8.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
