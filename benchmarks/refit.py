"""Choose the decode constants of a model anew, without training it again.

    python benchmarks/refit.py MODEL DATA... --out FOLDER

For models that were made before a constant was fitted. DATA are the folders that the
model was trained on; its validation images are recognised in them by the fingerprints
of their pixels. FOLDER gets the same weights, and in the card the new
constants and their cross-fitted scores; the model itself stays as it is.
"""

import argparse
from dataclasses import replace
from pathlib import Path

from add_statistics import samples_of

from cellunet import store
from cellunet.command_config import PredictConfig
from cellunet.config import DecodeConfig, TrainConfig
from cellunet.core.checkpoint import export_weights, load_network
from cellunet.core.dataset import Sample, prepare
from cellunet.engine.runtimes import Engine
from cellunet.metrics.fit import DecodeFit, fit
from cellunet.progress import silent_track
from cellunet.tasks.predict.settings import settings_for
from cellunet.tasks.train.finish import mean_scores, truth_of


def chosen_anew(
    config: TrainConfig, engine: Engine, samples: list[Sample]
) -> DecodeFit:
    """Return the constants that a training would choose on images for a network."""
    truths = [truth_of(engine, prepare(s, config), config) for s in samples]
    # Where training begins to choose: at the odds that the weights of the loss gave.
    start = DecodeConfig(
        class_odds=config.weights.class_weights, max_core_px=config.decode.max_core_px
    )
    return fit(truths, config.encoding, start, silent_track)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model")
    parser.add_argument("data", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    model = store.find_model(options.model)
    config = model.card.config
    engine = settings_for(model, PredictConfig(), "onnxruntime", "cpu", 0).engine
    chosen = chosen_anew(
        config, engine, samples_of(model.card.validation, options.data)
    )
    scores = mean_scores(chosen.scores)
    options.out.mkdir(parents=True, exist_ok=True)
    export_weights(
        options.out / store.WEIGHTS_FILE,
        load_network(model.weights),
        replace(model.card, config=config.replace(decode=chosen.decode), scores=scores),
    )
    print("before:", config.decode, model.card.scores)
    print("now:", chosen.decode, scores)


if __name__ == "__main__":
    main()
