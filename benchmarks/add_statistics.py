"""Complete a model that was trained before cards held statistics of its images.

    python benchmarks/add_statistics.py MODEL DATA... --out FOLDER

DATA are the folders that the model was trained on; its training images are recognised
in them by the fingerprints of their pixels, and each must be there. FOLDER gets the
same weights with the completed card; the model itself stays as it is.
"""

import argparse
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from cellunet import store
from cellunet.annotations.pairs import find_pairs, fingerprint
from cellunet.command_config import PredictConfig
from cellunet.core.checkpoint import export_weights, load_network
from cellunet.core.dataset import Sample
from cellunet.tasks.predict.settings import settings_for
from cellunet.tasks.train.data import ChannelChoice, read_sample
from cellunet.tasks.train.finish import training_statistics


def samples_of(prints: Mapping[str, str], folders: list[Path]) -> list[Sample]:
    """Return the images of a card (name to fingerprint) from the folders, or exit."""
    wanted = dict.fromkeys(prints.values())
    found = {}
    for folder in folders:
        for pair in find_pairs(folder).pairs:
            sample = read_sample(pair, ChannelChoice())
            print_ = fingerprint(sample.image)
            if print_ in wanted:
                found[print_] = sample
    missing = [n for n, p in prints.items() if p not in found]
    if missing:
        sys.exit(f"{len(missing)} images are missing; the first: {missing[0]}")
    return [found[print_] for print_ in wanted]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("data", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    model = store.find_model(options.model)
    samples = samples_of(model.card.training, options.data)
    recipe = settings_for(model, PredictConfig(), "onnxruntime", "cpu", 0)
    statistics = training_statistics(samples, recipe)
    options.out.mkdir(parents=True, exist_ok=True)
    export_weights(
        options.out / store.WEIGHTS_FILE,
        load_network(model.weights),
        replace(model.card, training_statistics=statistics),
    )
    print(f"{len(samples)} images")
    for name, values in statistics.items():
        print(f"{name:12s}", *(f"{v:9.3f}" for v in values))


if __name__ == "__main__":
    main()
