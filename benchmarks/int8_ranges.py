"""Calibrate a model for eight bits as its training would have, on its own images.

    python benchmarks/int8_ranges.py MODEL DATA...

MODEL is a folder, for the shipped model `cellunet/models/nuclei`; DATA are the folders
that it was trained on. Its training images are recognised in them by the fingerprints
of their pixels, and each must be there. Without them: `cellunet models calibrate`.
"""

import argparse
from pathlib import Path

from add_statistics import samples_of

from cellunet import store
from cellunet.engine.onnx import read_weights
from cellunet.tasks.quantize import ranges_on_samples


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("data", type=Path, nargs="+")
    options = parser.parse_args()
    model = store.find_model(options.model)
    config = model.card.config
    weights = read_weights(model.weights, config.network)
    samples = samples_of(model.card.training, options.data)
    ranges = ranges_on_samples(weights, config, samples)
    metadata = store.read_metadata(model.weights) | {"int8_ranges": ranges}
    store.write(model.weights, weights, metadata)
    print(f"{model.weights}: {ranges}")


if __name__ == "__main__":
    main()
