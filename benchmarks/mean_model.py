"""The mean of models that were trained from the same weights, or each other's.

Its decode constants are chosen anew on the validation images, which are those of all of
them; statistics and ranges for eight bits are made as a training makes them.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from add_statistics import samples_of
from refit import chosen_anew

from cellunet import store
from cellunet.command_config import PredictConfig
from cellunet.core.checkpoint import export_weights, load_network, weights_of
from cellunet.core.unet import mean_network
from cellunet.tasks.predict.settings import settings_for
from cellunet.tasks.quantize import ranges_on_samples
from cellunet.tasks.train.finish import mean_scores, training_statistics


def write(name: str, models: list[str], data: list[Path]) -> None:
    """Write the mean of several models to the store.

    Parameters
    ----------
    name
        Of the model that is written.
    models
        Names of models that began with the same weights or with those of another of
        them; one named twice counts twice. The last gives the card: its training images
        are all that any of them saw, and none saw one of its validation images.
    data
        Folders that hold all of their images.
    """
    found = [store.find_model(model) for model in models]
    last = found[-1].card
    seen = set(last.training.values())
    begins = {found[0].card.start.get("sha256"), *(m.sha256 for m in found)}
    if any(
        not seen.issuperset(m.card.training.values())
        or m.card.start.get("sha256") not in begins
        or m.card.start.get("kept") != "no"
        for m in found
    ):
        raise SystemExit(
            f"{', '.join(models)} differ in start, or one kept its start, or saw "
            "images that the last did not: take models from the same start or from "
            "each other, and name one last that was trained on all images."
        )
    # Under its own name once it is whole.
    unfinished = f"{name}-unfinished"
    folder = store.model_folder(unfinished)
    folder.mkdir(parents=True, exist_ok=True)
    weights = folder / store.WEIGHTS_FILE
    network = mean_network([load_network(m.weights) for m in found])
    card = replace(last, name=name, scores={}, int8_ranges={})
    export_weights(weights, network, card)
    recipe = settings_for(
        store.find_model(unfinished), PredictConfig(), "onnxruntime", "cpu", 0
    )
    config = card.config
    held = samples_of(_own(card, card.validation), data)
    chosen = chosen_anew(config, recipe.engine, held)
    card = replace(
        card,
        config=config.replace(decode=chosen.decode),
        scores=mean_scores(chosen.scores),
    )
    export_weights(weights, network, card)
    training = samples_of(_own(card, card.training), data)
    recipe = settings_for(
        store.find_model(unfinished), PredictConfig(), "onnxruntime", "cpu", 0
    )
    card = replace(
        card,
        training_statistics=training_statistics(training, recipe),
        int8_ranges=ranges_on_samples(weights_of(network), card.config, training),
    )
    export_weights(weights, network, card)
    folder.rename(store.model_folder(name))


def _own(card: store.ModelCard, prints: Mapping[str, str]) -> dict[str, str]:
    """Return what the training itself saw; the start's images stand behind its name."""
    of_start = f"{card.start.get('name')}: "
    return {n: p for n, p in prints.items() if not n.startswith(of_start)}
