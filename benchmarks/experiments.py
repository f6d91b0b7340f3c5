"""Run the queue of training experiments, and keep every result.

    python benchmarks/experiments.py DATA [--only NAME ...] [--threads N] [--minutes M]

DATA holds the folders `bbbc039`, `dsb2018-fluorescence` and `u2os-screen`. The queue is
`benchmarks/experiments.toml`: one question each, and what it changes of the settings
that the queue begins with. It may begin with a model (`start`), with a finer level on
top of that (`finer`) or another `foreground_limit`, or be no training but the mean of
models (`mean`). A result is one JSON line in `benchmarks/experiments.jsonl`; what has
one is not run again. At the end of `--minutes` the training is saved within one step,
and the next call goes on with it. `docs/internals/experiments.md` says what followed.

Scores are those of the validation images, with decode constants cross-fitted over their
halves (`cross_fitted`), and with the constants that travel with the model
(`as_shipped`).
"""

import argparse
import json
import time
import tomllib
from pathlib import Path
from typing import Any

import finer_start
import limited_start
import mean_model
from operations import operations_per_pixel

from cellunet import store
from cellunet.config import TrainConfig
from cellunet.core.checkpoint import read_state
from cellunet.core.dataset import steps_per_epoch
from cellunet.presets import PRESETS, for_target
from cellunet.tasks.evaluate import evaluate_model
from cellunet.tasks.train import finish
from cellunet.tasks.train.request import Hooks, TrainRequest
from cellunet.tasks.train.train import train

QUEUE = Path(__file__).with_name("experiments.toml")
RESULTS = Path(__file__).with_name("experiments.jsonl")
HELD = {
    "bbbc039": "validation",
    "dsb2018-fluorescence": "all",
    "u2os-screen": "all",
}
"""Side of each data set that a finished model is scored on; images that it was trained
on are left out by their fingerprints."""


def merged(settings: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Return nested settings with nested changes."""
    out = dict(settings)
    for key, value in changes.items():
        inner = isinstance(value, dict)
        out[key] = merged(settings[key], value) if inner else value
    return out


def configured(experiment: dict[str, Any], base: dict[str, Any]) -> TrainConfig:
    """Return the settings of an experiment; other presets are whole."""
    preset = experiment.get("preset", "default")
    config = for_target(PRESETS[preset], experiment.get("target", "three-class"))
    settings = config.to_dict()
    if preset == "default":
        settings = merged(settings, base)
    return TrainConfig.from_dict(merged(settings, experiment.get("config", {})))


def finished() -> set[str]:
    """Return the names of the experiments that have a result."""
    if not RESULTS.is_file():
        return set()
    return {json.loads(line)["name"] for line in RESULTS.read_text().splitlines()}


def run(
    experiment: dict[str, Any],
    config: TrainConfig,
    data: Path,
    threads: int,
    stop_at: float,
) -> dict[str, Any] | None:
    """Train and score one experiment; None if time ran out before its end."""
    name = experiment["name"]
    begin = time.monotonic()
    # Seconds of earlier slices, which the state does not know.
    clock = store.model_folder(name) / "seconds.txt"

    def tell(row: Any) -> None:  # noqa: ANN401
        spent = time.monotonic() - begin
        print(
            f"{time.strftime('%H:%M:%S')} {name} epoch {row['epoch']:.0f} of "
            f"{config.epochs}, {spent:.0f} s: loss {row['train_loss']:.4f}, validation "
            f"{row['validation_loss']:.4f}",
            flush=True,
        )

    folders = [data / folder for folder in experiment["data"]]
    made = (store.model_folder(name) / store.WEIGHTS_FILE).is_file()
    if "mean" in experiment and not made:
        mean_model.write(name, experiment["mean"], folders)
        clock.write_text(str(time.monotonic() - begin))
    elif not made:
        state = store.model_folder(name) / store.STATE_FILE
        resume = state.is_file()
        if resume:
            # What was asked for when it began is what goes on.
            config = store.read_config(read_state(state)["config"])
        before = float(clock.read_text()) if resume and clock.is_file() else 0.0
        start = experiment.get("start", "scratch")
        if "finer" in experiment:
            start = finer_start.write(start, experiment["finer"], config.seed)
        if "foreground_limit" in experiment:
            start = limited_start.write(start, experiment["foreground_limit"])
        if experiment.get("keep") == "trained":
            # What gains on images of other sources need not gain on these.
            finish._or_start = lambda run, start, trained, found, track: trained
        trained = train(
            TrainRequest(
                data=tuple(folders),
                name=name,
                config=config,
                start=start,
                threads=threads,
                resume=resume,
            ),
            Hooks(on_epoch=tell, should_stop=lambda: time.monotonic() > stop_at),
        )
        clock.write_text(str(before + time.monotonic() - begin))
        if not trained.finished:
            return None
    card = store.find_model(name).card
    per_epoch = steps_per_epoch(card.config, len(card.training))
    return {
        "name": name,
        "question": experiment["question"],
        "data": experiment["data"],
        "start": experiment.get("mean") or experiment.get("start", "scratch"),
        "changes": experiment.get("config", {}),
        "target": card.config.encoding.target,
        "seed": card.config.seed,
        "steps": card.config.epochs * per_epoch,
        "threads": threads,
        "minutes": round(float(clock.read_text()) / 60, 1),
        "flop_per_px": operations_per_pixel(card.config.network),
        "cross_fitted": card.scores,
        "as_shipped": {f: scored(name, data / f) for f in experiment["data"]},
        "decode": card.config.decode.to_dict(),
    }


def scored(name: str, folder: Path) -> dict[str, Any]:
    """Return the figures of a model on the images that it was not trained on."""
    found = evaluate_model(folder, model=name, side=HELD[folder.name])  # type: ignore[arg-type]
    forms = found.groups["chosen"].to_dict()["forms"]
    figures = {k: v for k, v in forms["all"].items() if k not in ("images", "rule")}
    figures["mean_ap_small_ignored"] = forms["small_ignored"]["mean_ap"]
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--only", nargs="*", help="names of experiments")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=24 * 60)
    args = parser.parse_args()
    stop_at = time.monotonic() + 60 * args.minutes
    queue = tomllib.loads(QUEUE.read_text())
    for experiment in queue["experiment"]:
        if experiment["name"] in finished():
            continue
        if args.only and experiment["name"] not in args.only:
            continue
        config = configured(experiment, queue["base"])
        result = run(experiment, config, args.data, args.threads, stop_at)
        if result is None:
            print(f"stopped in {experiment['name']}; the same call goes on with it")
            return
        with RESULTS.open("a") as out:
            out.write(json.dumps(result) + "\n")
        print(json.dumps(result["cross_fitted"]), flush=True)


if __name__ == "__main__":
    main()
