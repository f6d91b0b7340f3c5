"""Speed of the engines on the default network, and the machine's peak beside it.

    python benchmarks/engines.py [--threads 2] [--model nuclei] [--json FILE]

For each size the best of many rounds in which the engines take turns, so that they
meet the same machine. The peak is the best of several large matrix products in
ONNX Runtime, in float32, on as many threads.
"""

import argparse
import json
import platform
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper

from cellunet.core.checkpoint import load_network
from cellunet.core.torch_engine import TorchEngine
from cellunet.engine.cost import operations_per_pixel
from cellunet.engine.ort import OnnxRuntimeEngine, usable_cores
from cellunet.store import find_model

SIZES = ((520, 696), (1024, 1024))
ROUNDS = 20
SIDE = 2048


def best_seconds(calls: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Return each call's shortest time of `ROUNDS`, the calls taking turns."""
    best = dict.fromkeys(calls, float("inf"))
    for call in calls.values():
        call()
    for _ in range(ROUNDS):
        for name, call in calls.items():
            begin = time.perf_counter()
            call()
            best[name] = min(best[name], time.perf_counter() - begin)
    return best


def product(threads: int) -> Callable[[], object]:
    """Return a large matrix product in ONNX Runtime."""
    shape = [SIDE, SIDE]
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n in "abc"]
    node = helper.make_node("MatMul", ["a", "b"], ["c"])
    graph = helper.make_graph([node], "product", values[:2], values[2:])
    opset = [helper.make_opsetid("", 12)]
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=opset, ir_version=7)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    matrix = np.random.default_rng(0).random((SIDE, SIDE), np.float32)
    return lambda: session.run(None, {"a": matrix, "b": matrix})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=usable_cores())
    parser.add_argument("--model", default="nuclei")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model = find_model(options.model)
    config = model.card.config.network
    peak = 2 * SIDE**3 / best_seconds({"p": product(options.threads)})["p"] / 1e9
    cost = operations_per_pixel(config)
    print(
        f"{options.threads} threads, peak {peak:.0f} GFLOP/s, {cost / 1e3:.1f} kFLOP/px"
    )
    engines = {
        "onnxruntime": OnnxRuntimeEngine(model.onnx, threads=options.threads),
        "torch": TorchEngine(load_network(model.weights), torch.device("cpu")),
    }
    results = []
    for height, width in SIZES:
        shape = (1, config.in_channels, height, width)
        image = np.random.default_rng(1).random(shape, np.float32)
        calls = {n: (lambda e=e, i=image: e(i)) for n, e in engines.items()}
        for name, seconds in best_seconds(calls).items():
            rate = height * width * cost / seconds / 1e9
            row = {
                "engine": engines[name].name,
                "size": f"{height} x {width}",
                "milliseconds": seconds * 1e3,
                "megapixels_per_second": height * width / seconds / 1e6,
                "gflop_per_second": rate,
                "share_of_peak": rate / peak,
            }
            results.append(row)
            print(
                *(f"{v:.3g}" if isinstance(v, float) else v for v in row.values()),
                sep="  ",
            )
    if options.json:
        about = {"platform": platform.platform(), "threads": options.threads}
        figures = {"machine": about, "peak_gflop": peak, "results": results}
        options.json.write_text(json.dumps(figures, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
