"""How long a training step takes, alone and beside other programs.

    python benchmarks/waiting.py --threads 2 --busy 1

Each row is a process of its own: steps of the default training preset, on crops of
examples that are ready, after two that are not counted. `OMP_WAIT_POLICY` is what
threads do that wait for others: cellunet sets PASSIVE; "none" is what torch does by
itself. With `ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2` before the command
torch computes as on a processor that has no more than AVX2.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cellunet.config import TrainConfig
    from cellunet.core.dataset import Prepared

NONE = "none"
PASSIVE = "PASSIVE"
BUSY = "while True: pass"


def examples(config: TrainConfig) -> list[Prepared]:
    """Return the annotated examples of this repository, ready to be trained on."""
    from cellunet.annotations.pairs import find_pairs
    from cellunet.core.dataset import prepare
    from cellunet.tasks.train.data import ChannelChoice, read_sample

    one = ChannelChoice()
    pairs = find_pairs(Path(__file__).parent.parent / "examples" / "annotated").pairs
    return [prepare(read_sample(pair, one), config) for pair in pairs]


def steps(threads: int, count: int) -> dict[str, float]:
    """Return seconds of a step, on the clock and of the processor."""
    # Before cellunet, which would choose.
    import torch

    from cellunet.config import TrainConfig
    from cellunet.core.dataset import CropSampler
    from cellunet.core.device import use_threads
    from cellunet.core.trainer import Trainer, new_state

    use_threads(threads)
    config, device = TrainConfig(), torch.device("cpu")
    prepared = examples(config)
    batch = CropSampler(prepared, config).batch(0, 0)
    trainer = Trainer(prepared, prepared, config, device)
    state = new_state(config, device)
    for _ in range(2):
        trainer.step(state, batch)
    clock, processor = time.perf_counter(), time.process_time()
    for _ in range(count):
        trainer.step(state, batch)
    return {
        "clock": (time.perf_counter() - clock) / count,
        "processor": (time.process_time() - processor) / count,
    }


def beside(busy: int, policy: str, words: list[str]) -> dict[str, float]:
    """Return what a process says that ran beside so many busy ones."""
    env = {k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"}
    if policy != NONE:
        env["OMP_WAIT_POLICY"] = policy
    others = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(busy)]
    try:
        done = subprocess.run(
            [sys.executable, __file__, "--here", *words],
            env=env,
            check=True,
            capture_output=True,
            text=True,
        )
    finally:
        for other in others:
            other.kill()
            other.wait()
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--busy", type=int, default=1, help="busy programs beside it")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--here", action="store_true", help="one row, in this process")
    asked = parser.parse_args()
    if asked.here:
        print(json.dumps(steps(asked.threads, asked.steps)))
        return
    words = ["--threads", str(asked.threads), "--steps", str(asked.steps)]
    print("| busy programs | OMP_WAIT_POLICY | s a step | s of the processor |")
    print("| ---: | --- | ---: | ---: |")
    for busy in sorted({0, asked.busy}):
        for policy in (NONE, PASSIVE):
            row = beside(busy, policy, words)
            times = f"{row['clock']:.2f} | {row['processor']:.2f}"
            print(f"| {busy} | {policy} | {times} |", flush=True)


if __name__ == "__main__":
    main()
