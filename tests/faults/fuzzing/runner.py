"""Fuzzing from outside: cases in a worker process, started anew when one kills it."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parents[3]
MOST_S = 10.0
GOOD = {"success", "refused", "decoder lost"}
"""The last is a native decoder that crashed or hung in a process of its own."""


@dataclass
class Tally:
    """What became of the cases of one format."""

    cases: int = 0
    deep: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    slowest_s: float = 0.0
    largest_bytes: int = 0
    bad: list[dict[str, Any]] = field(default_factory=list)

    def add(self, case: dict[str, Any]) -> None:
        """Count a case."""
        self.cases += 1
        self.deep += case["deep"]
        self.outcomes[case["outcome"]] += 1
        self.slowest_s = max(self.slowest_s, case["seconds"])
        self.largest_bytes = max(self.largest_bytes, case["bytes"])
        if case["outcome"] not in GOOD:
            self.bad.append(case)

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as plain values."""
        return {
            "cases": self.cases,
            "past the header": self.deep,
            **dict(sorted(self.outcomes.items())),
            "slowest, ms": round(1000 * self.slowest_s, 1),
            "largest, MB": round(self.largest_bytes / 1e6, 1),
        }


class Worker:
    """The process that may die; `cases` starts another one then."""

    def __init__(self, max_memory_mb: int = 0) -> None:
        paths = [str(CHECKOUT), os.environ.get("PYTHONPATH", "")]
        single = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.fuzzing.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={
                **os.environ,
                **single,
                "PYTHONPATH": os.pathsep.join(paths),
                "CELLUNET_FUZZ_MB": str(max_memory_mb),
            },
            cwd=CHECKOUT,
            bufsize=0,
        )
        self._buffer = b""

    def processor_s(self) -> float:
        """Return the seconds of the processor that the worker took so far.

        By these a case is judged: a busy machine does not lengthen them.
        """
        stat = Path(f"/proc/{self.process.pid}/stat")
        if not stat.exists():
            return time.monotonic()
        fields = stat.read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def line(self, seconds: float) -> dict[str, Any] | None:
        """Return what the worker says next; None if it ended.

        Raises
        ------
        TimeoutError
            If it computed for so long, or waited twenty times as long, in between.
        """
        computed, begin = self.processor_s(), time.monotonic()
        assert self.process.stdout
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            while b"\n" not in self._buffer:
                if not selector.select(1.0):
                    waited = time.monotonic() - begin
                    spent = self.processor_s() - computed
                    if max(spent, waited / 20) > seconds:
                        raise TimeoutError
                    continue
                part = os.read(self.process.stdout.fileno(), 65536)
                if not part:
                    return None
                self._buffer += part
        first, _, self._buffer = self._buffer.partition(b"\n")
        told: dict[str, Any] = json.loads(first)
        return told

    def ask(self, name: str, seed: int, first: int, stop: int) -> None:
        """Have it run cases."""
        assert self.process.stdin
        self.process.stdin.write(f"{name} {seed} {first} {stop}\n".encode())

    def close(self) -> int:
        """End it and return its exit code."""
        self.process.kill()
        self.process.communicate()
        return self.process.returncode


def lost(index: int, outcome: str) -> dict[str, Any]:
    """Return the case of a worker that died or hung."""
    where = f"case {index}"
    return {
        "index": index,
        "outcome": outcome,
        "where": where,
        "deep": True,
        "seconds": MOST_S if outcome == "hang" else 0.0,
        "bytes": 0,
    }


def fuzz(
    names: list[str], seed: int, count: int, max_memory_mb: int = 0
) -> dict[str, Tally]:
    """Run `count` cases of each format, and return what became of them."""
    tallies = {name: Tally() for name in names}
    worker = Worker(max_memory_mb)
    for name in names:
        index = 0
        while index < count:
            worker.ask(name, seed, index, count)
            index, ended = _listen(worker, tallies[name], index, count)
            if ended:
                worker.close()
                worker = Worker(max_memory_mb)
    worker.close()
    return tallies


def _listen(worker: Worker, tally: Tally, index: int, count: int) -> tuple[int, bool]:
    """Take note until all is told or the worker is lost; return where to go on."""
    seconds = 600.0
    while index < count:
        try:
            told = worker.line(seconds)
        except TimeoutError:
            tally.add(lost(index, "hang"))
            return index + 1, True
        if told is None:
            tally.add(lost(index, "crash"))
            return index + 1, True
        # The worker imports for long, but a case that has begun must end soon.
        seconds = MOST_S
        if "begun" not in told:
            tally.add(told)
            index += 1
    return index, False
