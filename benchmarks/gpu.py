"""Check a GPU against the CPU, and time both trainings and predictions on it.

    python benchmarks/gpu.py [--device cuda] [--images FOLDER] [--mpx 92.7]

In under ten minutes on one GPU:

- parity: labels of CPU and GPU, and the largest difference of a probability;
- resume: a training that is stopped in the middle and resumed on the GPU, beside one
  that is not: the largest difference of a weight;
- predict: whole processes on a field made of the images (all of one size; the examples
  of this repository by default), Mpx/s, the share of the time in which the network
  computes, peak memory of the GPU;
- training: seconds of a step of `default` and `classic`, and of the crops that it is
  fed with by themselves: if they take longer, the loader starves the GPU.

Writes `benchmarks/results-gpu.json`. Without such a device it says so, and measures
nothing. `--device cpu --mpx 4 --steps 3` rehearses the script itself.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from memory import images_of, save, watched
from tables import HERE, machine
from waiting import examples

from cellunet import store
from cellunet.core.checkpoint import load_network
from cellunet.core.device import available, choose_device
from cellunet.core.trainer import Trainer, new_state
from cellunet.imaging.blocks import network_plan
from cellunet.imaging.normalize import network_input
from cellunet.presets import PRESETS
from cellunet.tasks.predict.session import load_model
from cellunet.tasks.predict.settings import load_engine
from cellunet.tasks.train.request import Hooks, TrainRequest
from cellunet.tasks.train.train import train

if TYPE_CHECKING:
    from collections.abc import Iterator

RESULTS = HERE / "results-gpu.json"
EXAMPLES = HERE.parent / "examples"
ASPECT = 11136 / 8320
"""Width over height of the field of docs/performance.md."""
WARM_STEPS = 3


def parity(device: str, images: list[np.ndarray]) -> dict[str, Any]:
    """Return how far labels and probabilities of a device are from the CPU's."""
    model = store.find_model("nuclei")
    config = model.card.config
    engines = [
        load_engine(model, engine="torch", device=d, threads=0) for d in ("cpu", device)
    ]
    sessions = [
        load_model(engine="torch", device=d, threads=0) for d in ("cpu", device)
    ]
    largest, pixels_changed, objects = 0.0, 0, []
    for image in images:
        block = network_plan(image.shape, config.network).block_shape
        window = network_input(image[np.newaxis], config.normalization)
        short = [(0, b - n) for b, n in zip(block, image.shape, strict=True)]
        window = np.pad(window, ((0, 0), *short), "symmetric")[np.newaxis]
        one, other = (engine(window) for engine in engines)
        largest = max(largest, float(np.abs(one - other).max()))
        labels = [session.segment(image).labels for session in sessions]
        pixels_changed += int(((labels[0] > 0) != (labels[1] > 0)).sum())
        objects.append([int(found.max()) for found in labels])
    return {
        "images": len(images),
        "largest_probability_difference": largest,
        "foreground_pixels_that_differ": pixels_changed,
        "of_pixels": sum(image.size for image in images),
        "objects_cpu_and_device": objects,
    }


@contextlib.contextmanager
def own_models() -> Iterator[None]:
    """Keep the trainings of this script away from the user's models."""
    before = os.environ.get("CELLUNET_HOME")
    with tempfile.TemporaryDirectory() as home:
        os.environ["CELLUNET_HOME"] = home
        try:
            yield
        finally:
            os.environ.pop("CELLUNET_HOME")
            if before is not None:
                os.environ["CELLUNET_HOME"] = before


def trained(name: str, device: str, stops: list[int]) -> Path:
    """Train on the annotated examples, stopped after so many steps, to the end."""
    data = (EXAMPLES / "annotated",)
    config = PRESETS["few"].replace(epochs=2, steps_per_epoch=10)
    for part, stop in enumerate([*stops, 10**9]):
        taken: list[int] = []
        done = train(
            TrainRequest(
                data=data, name=name, config=config, device=device, resume=part > 0
            ),
            Hooks(
                on_step=lambda step, steps, loss, taken=taken: taken.append(step),
                should_stop=lambda taken=taken, stop=stop: len(taken) >= stop,
            ),
        )
    assert done.finished  # noqa: S101
    return done.folder / store.WEIGHTS_FILE


def resume(device: str) -> dict[str, Any]:
    """Return how far a training that was stopped twice is from one that was not."""
    with own_models():
        files = trained("whole", device, []), trained("parts", device, [4, 9])
        one, other = (load_network(file).state_dict() for file in files)
    differences = [float((one[n].float() - other[n].float()).abs().max()) for n in one]
    return {"largest_weight_difference": max(differences)}


def network_share(device: str, image: np.ndarray) -> float:
    """Return the share of the time of segmenting an array that is the network's."""
    session = load_model(engine="torch", device=device)
    session.segment(image)
    recipe, inside = session._recipe, []

    def timed(window: np.ndarray) -> np.ndarray:
        begin = time.perf_counter()
        found = recipe.engine(window)
        inside.append(time.perf_counter() - begin)
        return found

    # As long as it lives: settings of a call make another recipe of the same engine.
    session._recipe = replace(recipe, engine=timed)
    begin = time.perf_counter()
    session.segment(image)
    return sum(inside) / (time.perf_counter() - begin)


def prediction(device: str, images: list[np.ndarray], mpx: float) -> dict[str, Any]:
    """Time a whole `predict` of one large field, with the CPU's beside it."""
    height = round((mpx * 1e6 / ASPECT) ** 0.5)
    found: dict[str, Any] = {"megapixels": mpx}
    with tempfile.TemporaryDirectory() as temporary:
        field = Path(temporary, "field.tif")
        save(field, images, (height, round(height * ASPECT)))
        for where in dict.fromkeys((device, "cpu")):
            out = str(Path(temporary, where))
            command = [sys.executable, "-m", "cellunet", "predict", str(field)]
            command += ["--out", out, "--device", where, "--diameter", "model"]
            seconds, peak, _ = watched(command)
            found[where] = {
                "seconds": round(seconds, 2),
                "megapixels_per_second": round(mpx / seconds, 2),
                "peak_mb": round(peak / 1e6),
            }
    image = np.tile(images[0], (3, 3))
    found["share_of_the_network"] = round(network_share(device, image), 3)
    if device.startswith("cuda"):
        found["device_peak_mb"] = round(torch.cuda.max_memory_allocated() / 1e6)
    return found


def wait_for(device: torch.device) -> None:
    """Wait until a device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def training(name: str, where: str, steps: int) -> dict[str, Any]:
    """Return the seconds of a training step, fed by the loader, and of its crops."""
    device = choose_device(where)
    config = PRESETS[name].replace(steps_per_epoch=steps + WARM_STEPS)
    trainer = Trainer(examples(config), [], config, device)
    state = new_state(config, device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with contextlib.closing(trainer.sampler.batches(0, 0)) as batches:
        for number, batch in enumerate(batches):
            if number == WARM_STEPS:
                wait_for(device)
                begin = time.perf_counter()
            trainer.step(state, batch)
        wait_for(device)
    fed = (time.perf_counter() - begin) / steps
    begin = time.perf_counter()
    for _ in range(steps):
        trainer.step(state, batch)
    wait_for(device)
    alone = (time.perf_counter() - begin) / steps
    begin = time.perf_counter()
    made = sum(1 for _ in trainer.sampler.batches(1, 0))
    crops = (time.perf_counter() - begin) / made
    found = {
        "seconds_a_step": fed,
        "on_ready_crops": alone,
        "of_the_crops": crops,
        "crop_threads": trainer.sampler.threads,
        "precision": str(trainer.autocast or torch.float32),
    }
    if device.type == "cuda":
        found["device_peak_mb"] = round(torch.cuda.max_memory_allocated(device) / 1e6)
    return found


def described(device: str) -> dict[str, Any]:
    """Return what the results say of the device."""
    about = {**machine(), "device": device, "torch": torch.__version__}
    if device.startswith("cuda"):
        about["gpu"] = torch.cuda.get_device_name(torch.device(device))
        about["cuda"] = torch.version.cuda
    return about


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--images", type=Path, default=EXAMPLES / "images")
    parser.add_argument("--mpx", type=float, default=92.7)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    device = options.device
    if device not in available():
        have = ", ".join(available())
        print(f"Skipped: there is no device {device!r} here (only {have}).")
        return
    images = images_of(options.images)
    begin = time.perf_counter()
    found: dict[str, Any] = {"machine": described(device)}
    parts = {
        "parity": lambda: parity(device, images[:20]),
        "resume": lambda: resume(device),
        "predict": lambda: prediction(device, images, options.mpx),
        "train_default": lambda: training("default", device, options.steps),
        "train_classic": lambda: training("classic", device, options.steps),
    }
    for name, part in parts.items():
        found[name] = part()
        print(name, json.dumps(found[name]), flush=True)
        # After every part: what is measured stays if a later one fails.
        found["minutes"] = round((time.perf_counter() - begin) / 60, 1)
        options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
