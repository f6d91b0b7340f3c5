"""Speed of the engines on a model's network, and the machine's peak beside it.

    python benchmarks/engines.py                     # speed alone
    python benchmarks/engines.py --data DATA         # and accuracy of the same engines

For each number of threads and size the shortest time of several rounds in which the
engines take turns, so that they meet the same machine. The peak is the best of as many
large matrix products in ONNX Runtime, in float32, on as many threads, taking turns with
them. Beside it the processor time of all threads, which other programs on the machine
hardly change. DATA holds the folder `bbbc039`, whose 50 official validation images are
segmented by the very engines that were timed. Prints the tables, and replaces what an
earlier run left in `benchmarks/results-engines.json`.

The model must be calibrated for eight bits (`cellunet models calibrate`).
"""

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper
from operations import operations_per_pixel

from cellunet import store
from cellunet.annotations.pairs import Pair, find_pairs
from cellunet.command_config import PredictConfig
from cellunet.engine.int8 import ranges_of
from cellunet.engine.onnx import (
    INPUT,
    OUTPUT,
    build_int8,
    read_weights,
)
from cellunet.engine.runtimes import open_session
from cellunet.io.images import open_image
from cellunet.io.scratch import Scratch
from cellunet.tasks.evaluate import Scorable, score_pairs
from cellunet.tasks.predict.plane import as_labels, segment_plane
from cellunet.tasks.predict.settings import load_engine, settings_for
from cellunet.tasks.train.data import read_annotated

HERE = Path(__file__).parent
RESULTS = HERE / "results-engines.json"
SIZES = ((520, 696), (1024, 1024))
SIDE = 2048
NAMES = ("onnxruntime", "torch", "openvino", "openvino-int8", "onnxruntime on int8")

Engine = Callable[[np.ndarray], np.ndarray]


def taken_in_turns(calls: dict[str, Callable[[], object]], rounds: int) -> Any:  # noqa: ANN401
    """Return the seconds of each call in each round, and those of the processor."""
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in range(rounds):
        for name, call in calls.items():
            begin, busy = time.perf_counter(), time.process_time()
            call()
            spent = time.process_time() - busy
            seconds[name].append((time.perf_counter() - begin, spent))
    return seconds


def product(threads: int) -> Callable[[], object]:
    """Return a large matrix product in ONNX Runtime."""
    shape = [SIDE, SIDE]
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n in "abc"]
    node = helper.make_node("MatMul", ["a", "b"], ["c"])
    graph = helper.make_graph([node], "product", values[:2], values[2:])
    opset = [helper.make_opsetid("", 12)]
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=opset, ir_version=7)
    session = open_session(model.SerializeToString(), threads)
    matrix = np.random.default_rng(0).random((SIDE, SIDE), np.float32)
    return lambda: session.run(None, {"a": matrix, "b": matrix})


def loaded(model: store.Model, name: str, threads: int) -> Engine:
    if name == "onnxruntime on int8":
        network = model.card.config.network
        weights = read_weights(model.weights, network)
        graph = build_int8(weights, network, ranges_of(model))
        session = open_session(graph, threads)
        return lambda image: session.run([OUTPUT], {INPUT: image})[0]
    return load_engine(model, engine=name, device="cpu", threads=threads)


def timed(
    model: store.Model, engines: dict[str, Engine], threads: int, rounds: int
) -> list[dict[str, Any]]:
    """Return a row per engine and size."""
    config = model.card.config.network
    cost = operations_per_pixel(config)
    rows = []
    for height, width in SIZES:
        shape = (1, config.in_channels, height, width)
        image = np.random.default_rng(1).random(shape, np.float32)
        calls: dict[str, Callable[[], object]] = {"peak": product(threads)}
        for name, engine in engines.items():
            calls[name] = lambda e=engine, i=image: e(i)
        seconds = taken_in_turns(calls, rounds)
        peak = 2 * SIDE**3 / min(wall for wall, _ in seconds.pop("peak")) / 1e9
        for name, one in seconds.items():
            best = min(wall for wall, _ in one)
            busy = min(busy for _, busy in one)
            median = statistics.median(wall for wall, _ in one)
            rate = height * width * cost / best / 1e9
            row = {
                "threads": threads,
                "engine": name,
                "size": f"{height} x {width}",
                "milliseconds": round(best * 1e3, 1),
                "median_milliseconds": round(median * 1e3, 1),
                "processor_milliseconds": round(busy * 1e3, 1),
                "megapixels_per_second": round(height * width / best / 1e6, 2),
                "gflop_per_second": round(rate, 1),
                "peak_gflop_per_second": round(peak, 1),
                "share_of_peak": round(rate / peak, 3),
            }
            rows.append(row)
            print(*row.values(), sep="  ", flush=True)
    return rows


def scored(
    model: store.Model, engines: dict[str, Engine], pairs: list[Pair]
) -> dict[str, Any]:
    """Return the accuracy of each engine's labels."""
    recipe = settings_for(model, PredictConfig(), "onnxruntime", "cpu", 0)
    found: dict[str, list[Scorable]] = {name: [] for name in engines}
    differing = dict.fromkeys(engines, 0)
    pixels = 0
    for pair in pairs:
        true = read_annotated(pair).labels
        pixels += true.size
        for name, engine in engines.items():
            by_this = replace(recipe, engine=engine)
            with open_image(pair.image) as source, Scratch() as scratch:
                plane = segment_plane(source, 0, by_this, scratch)
                labels = as_labels(plane.bands())
            found[name].append(Scorable(name=pair.name, labels=true, predicted=labels))
            reference = found["onnxruntime"][-1].predicted
            differing[name] += differences(reference, labels)
    rows = {}
    for name, scorables in found.items():
        score = score_pairs(scorables).unseen
        assert score is not None  # noqa: S101
        summary = score.summaries["all"]
        rows[name] = {
            "images": len(pairs),
            "pixels": pixels,
            "mean_ap": round(summary.mean_ap.value, 4),
            "f1_50": round(summary.f1_at(10).value, 4),
            "pixels_that_differ": differing[name],
        }
        print(name, *rows[name].values(), sep="  ", flush=True)
    return rows


def differences(one: np.ndarray, other: np.ndarray) -> int:
    """Return how many pixels belong to another object than before.

    Objects are the same if more than half of their union overlaps; background is
    background.
    """
    sizes, others = np.bincount(one.ravel()), np.bincount(other.ravel())
    keys, counts = np.unique(
        one.ravel().astype(np.int64) * len(others) + other.ravel(), return_counts=True
    )
    a, b = keys // len(others), keys % len(others)
    same = 2 * counts > sizes[a] + others[b] - counts
    alike = (same & (a > 0) & (b > 0)) | ((a == 0) & (b == 0))
    return int(one.size - counts[alike].sum())


def tables(results: dict[str, Any]) -> str:
    rows = [
        "| threads | engine | size | ms | processor, ms | Mpx/s | GFLOP/s "
        "| share of float32 peak |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for r in results["speed"]:
        share = f"{r['share_of_peak']:.0%} of {r['peak_gflop_per_second']:.0f}"
        rows.append(
            f"| {r['threads']} | {r['engine']} | {r['size']} | {r['milliseconds']:.0f} "
            f"| {r['processor_milliseconds']:.0f} "
            f"| {r['megapixels_per_second']:.1f} | {r['gflop_per_second']:.0f} "
            f"| {share} |"
        )
    if results["accuracy"]:
        rows += [
            "",
            "| engine | mean AP | F1 at .50 | pixels of another object |",
            "| --- | --- | --- | --- |",
        ]
    for name, r in results["accuracy"].items():
        share = r["pixels_that_differ"] / r["pixels"]
        rows.append(
            f"| {name} | {r['mean_ap']:.4f} | {r['f1_50']:.4f} "
            f"| {r['pixels_that_differ']:,} of {r['pixels']:,} ({share:.2%}) |"
        )
    about = results["machine"]
    rows += [
        "",
        f"Measured on {about['cores']} cores of an {about['processor']} with "
        f"{', '.join(about['engines'])}; load average of the machine before it "
        f"{about['load']:.1f}.",
    ]
    return "\n".join(rows)


def processor() -> str:
    """Return the processor's name, as far as the system tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.split(":")[1].strip() for line in lines if "model name" in line]
    return names[0] if names else platform.processor()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="nuclei")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    model = store.find_model(options.model)
    load = os.getloadavg()[0]
    speed = []
    for threads in options.threads:
        engines = {name: loaded(model, name, threads) for name in NAMES}
        speed += timed(model, engines, threads, options.rounds)
    accuracy = {}
    if options.data:
        folder = find_pairs(options.data / "bbbc039")
        official = set(folder.validation or ())
        pairs = [pair for pair in folder.pairs if pair.name in official]
        accuracy = scored(model, engines, pairs)
    results = {
        "machine": {
            "platform": platform.platform(),
            "processor": processor(),
            "cores": os.cpu_count(),
            "load": round(load, 1),
            "engines": [e.name for e in engines.values() if hasattr(e, "name")],
        },
        "network": model.card.config.network.to_dict(),
        "flop_per_pixel": operations_per_pixel(model.card.config.network),
        "speed": speed,
        "accuracy": accuracy,
    }
    RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(tables(results))


if __name__ == "__main__":
    main()
