"""What makes adaptation to few labels work: one thing left out or put in at a time.

    python benchmarks/few_ablation.py DATA [--start nuclei-dsb] [--images 5] [--draws 3]

Each variant trains one network, 150 steps of the preset `few`, on a draw of BBBC039
training images (those of `few_labels.py`), and is scored on every second BBBC039
validation image with decode constants cross-fitted over their halves, so that what is
compared are the weights. One JSON line each in `benchmarks/few_ablation.jsonl`; what
has one is not run again. `--table` prints the means and the paired differences.
"""

import argparse
import copy
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from few_labels import order_of
from torch import nn

from cellunet import store
from cellunet.annotations.pairs import find_pairs
from cellunet.config import PRESETS, AugmentConfig, TrainConfig
from cellunet.core.checkpoint import load_network
from cellunet.core.dataset import Sample, prepare
from cellunet.core.device import TorchEngine, choose_device, use_threads
from cellunet.core.trainer import Trainer, state_from
from cellunet.core.unet import UNet, initialise, mean_network
from cellunet.imaging.decode import decode_plane
from cellunet.imaging.targets import correct
from cellunet.metrics.fit import fit
from cellunet.progress import silent_track
from cellunet.tasks.train.data import ChannelChoice, read_sample
from cellunet.tasks.train.finish import truth_of

RESULTS = Path(__file__).with_name("few_ablation.jsonl")
STEPS = 150
PLAIN = AugmentConfig(
    warp_probability=0.0,
    intensity_probability=0.0,
    gain_sigma=0.0,
    offset_sigma=0.0,
    dim_probability=0.0,
)
UNLABELLED = 20
"""Images without labels that self-training may use."""
SURE = 0.9
"""A pixel of theirs counts if its likeliest class has this probability."""


def freeze_encoder(network: UNet) -> None:
    for part in (network.stem, network.down):
        part.requires_grad_(requires_grad=False)


def freeze_all_but_head(network: UNet) -> None:
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name.startswith("head"))


def keep_statistics(network: UNet) -> None:
    """Normalise batches by the start's running means and variances."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.0
            module.train = lambda mode=True, m=module: nn.Module.train(m, False)  # type: ignore[method-assign, assignment, misc]


def towards_start(network: UNet, start: UNet) -> UNet:
    """Return the mean of what was trained and of what it started from."""
    mean = copy.deepcopy(network)
    with torch.no_grad():
        for name, values in mean.state_dict().items():
            if values.is_floating_point():
                values.lerp_(start.state_dict()[name], 0.5)
    return mean


Change = Callable[[TrainConfig], TrainConfig]
VARIANTS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "mean of three folds, a third of the steps each": {"folds": 3},
    "from scratch": {"scratch": True},
    "flips alone, no other augmentation": {
        "config": lambda c: c.replace(augment=PLAIN)
    },
    "encoder frozen": {"network": freeze_encoder},
    "all but the head frozen": {"network": freeze_all_but_head},
    "batch statistics of the start": {"network": keep_statistics},
    "a third of the learning rate": {"config": lambda c: c.replace(learning_rate=1e-3)},
    "averaged with the start": {"towards_start": True},
    "self-trained on 20 images without labels": {"self": True},
}


def trained(
    network: UNet,
    samples: list[Sample],
    config: TrainConfig,
    change: Any,  # noqa: ANN401
) -> UNet:
    """Return a network trained on samples."""
    device = choose_device("cpu")
    network = copy.deepcopy(network)
    if change is not None:
        change(network)
    state = state_from(network, config, device)
    prepared = [prepare(sample, config) for sample in samples]
    trainer = Trainer(prepared, prepared[:1], config, device)
    for epoch in range(config.epochs):
        for batch in trainer.sampler.batches(epoch, 0):
            trainer.step(state, batch)
            state.step += 1
        state.epoch, state.step = epoch + 1, 0
    return trainer.result(state)


def without_each(samples: list[Sample], folds: int) -> list[list[Sample]]:
    """Return the samples that are left without each fold."""
    if folds == 1:
        return [samples]
    return [
        [sample for i, sample in enumerate(samples) if i % folds != fold]
        for fold in range(folds)
    ]


def labelled(network: UNet, samples: list[Sample], config: TrainConfig) -> list[Sample]:
    """Return samples with the network's own labels, where it is sure."""
    engine = TorchEngine(network, choose_device("cpu"))
    out = []
    for sample in samples:
        truth = truth_of(engine, prepare(sample, config), config)
        found = truth.probabilities.astype(np.float32)
        sure = correct(found, config.decode.class_odds).max(axis=0) > SURE
        labels = decode_plane(found, config.encoding, config.decode)
        out.append(replace(sample, labels=labels.astype(np.int32), annotated=sure))
    return out


def run(data: Path, start: str, images: int, draw: int, name: str) -> dict[str, Any]:
    begin = time.monotonic()
    pairs = find_pairs(data / "bbbc039")
    choice = ChannelChoice()
    training = [p for p in pairs.pairs if p.name in set(pairs.train or ())]
    order = [
        read_sample(p, choice) for p in order_of(draw, training)[: images + UNLABELLED]
    ]
    held = [p for p in pairs.pairs if p.name in set(pairs.validation or ())][::2]
    model = store.find_model(start)
    card = model.card.config
    few = PRESETS["few"]()
    config = card.replace(
        preset="few",
        augment=few.augment,
        learning_rate=few.learning_rate,
        warmup_steps=few.warmup_steps,
        average_decay=few.average_decay,
        epochs=1,
        steps_per_epoch=STEPS,
        sampling=few.sampling,
        seed=draw,
    )
    variant = VARIANTS[name]
    config = variant.get("config", lambda c: c)(config)
    network = first = load_network(model.weights)
    if variant.get("scratch"):
        network = UNet(config.network)
        initialise(network, draw)
    labels = order[:images]
    folds = variant.get("folds", 1)
    config = config.replace(steps_per_epoch=STEPS // folds)
    result = mean_network(
        [
            trained(network, left, config, variant.get("network"))
            for left in without_each(labels, folds)
        ]
    )
    if variant.get("self"):
        guessed = labelled(result, order[images:], config)
        result = trained(network, [*labels, *guessed], config, None)
    if variant.get("towards_start"):
        result = towards_start(result, first)
    engine = TorchEngine(result, choose_device("cpu"))
    truths = [
        truth_of(engine, prepare(read_sample(p, choice), config), config) for p in held
    ]
    begin_at = config.decode.replace(class_odds=config.weights.class_weights)
    scores = fit(truths, config.encoding, begin_at, silent_track).scores
    return {
        "start": start,
        "images": images,
        "draw": draw,
        "variant": name,
        "seconds": round(time.monotonic() - begin),
        "mean_ap": float(np.mean([s.mean_ap for s in scores])),
        "f1_50": float(np.mean([s.f1_at(10) for s in scores])),
        "f1_90": float(np.mean([s.f1_at(18) for s in scores])),
    }


def done() -> list[dict[str, Any]]:
    if not RESULTS.is_file():
        return []
    return [json.loads(line) for line in RESULTS.read_text().splitlines()]


def table() -> None:
    rows = {(r["variant"], r["draw"]): r for r in done()}
    print("| variant | draws | mean AP | F1 at .50 | F1 at .90 | mean AP, paired |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name in VARIANTS:
        mine = {d: r for (v, d), r in rows.items() if v == name}
        if not mine:
            continue
        means = [
            f"{np.mean([r[key] for r in mine.values()]):.3f}"
            for key in ("mean_ap", "f1_50", "f1_90")
        ]
        pairs = [
            r["mean_ap"] - rows["as it is", d]["mean_ap"]
            for d, r in mine.items()
            if ("as it is", d) in rows
        ]
        paired = ", ".join(f"{p:+.3f}" for p in pairs) if name != "as it is" else ""
        print("|", " | ".join([name, f"{len(mine)}", *means, paired]), "|")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("--start", default="nuclei-dsb")
    parser.add_argument("--images", type=int, default=5)
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    use_threads(options.threads)
    for draw in range(options.draws if options.data else 0):
        for name in VARIANTS:
            if any((r["variant"], r["draw"]) == (name, draw) for r in done()):
                continue
            row = run(options.data, options.start, options.images, draw, name)
            with RESULTS.open("a") as out:
                out.write(json.dumps(row) + "\n")
            print(json.dumps(row), flush=True)
    if options.table:
        table()


if __name__ == "__main__":
    main()
