"""What the tests of faults share: a workshop of commands, small images, comparisons."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from tests.conftest import CHECKOUT, draw_nuclei

FULL = int(os.environ.get("CELLUNET_FAULTS", "0"))
"""How many moments the long form has for each command; 0: the short form."""
MOMENTS = FULL // 2 or 3
"""At how many changes of files something happens, and at how many times."""
SMALL_IMAGES = 50 if FULL else 5
HIDDEN = (".partial", ".lock")
"""What a killed process may leave behind; hidden, and removed by the next run."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test in this folder, and those of many runs as slow."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("faults")
            if {"workshop", "tallies"} & set(item.fixturenames):
                item.add_marker("slow")


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    """Exit code; negative: the signal that killed it."""
    seconds: float
    after_signal_s: float | None
    events: list[str]
    """Changes of files below the root, in order."""
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        """What --json printed."""
        document: dict[str, Any] = json.loads(self.out)
        return document


@dataclass
class Workshop:
    """Runs commands in forks of a process that has imported everything."""

    process: subprocess.Popen[str]
    folder: Path
    env: dict[str, str] = field(default_factory=dict)

    def __call__(self, *words: str | Path, root: Path, **moment: object) -> Ended:
        """Run a command to whose file events below `root` a moment applies."""
        paths = {n: str(self.folder / n) for n in ("out", "err", "events")}
        request = {
            "argv": [str(word) for word in words],
            "root": str(root),
            "env": self.env,
            **paths,
            **moment,
        }
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        texts = {n: Path(p).read_text("utf-8", "replace") for n, p in paths.items()}
        return Ended(
            **answer,
            events=texts["events"].splitlines(),
            out=texts["out"],
            err=texts["err"],
        )

    def models(self, home: Path) -> Path:
        """Have models lie in a home from now on; return their folder."""
        self.env["CELLUNET_HOME"] = str(home)
        return home / "models"


@pytest.fixture(scope="session")
def workshop_process() -> Iterator[subprocess.Popen[str]]:
    """The process behind `workshop`."""
    pytest.importorskip("torch")
    if not hasattr(os, "fork"):
        pytest.skip("this system forks no processes")
    env = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(
            [str(CHECKOUT), os.environ.get("PYTHONPATH", "")]
        ),
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("workshop.py"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=env,
    )
    assert process.stdin
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    yield process
    process.communicate()


@pytest.fixture
def workshop(workshop_process: subprocess.Popen[str], tmp_path: Path) -> Workshop:
    """``workshop("predict", ..., root=OUT, at=3)``: killed at its third event."""
    folder = tmp_path / "workshop"
    folder.mkdir()
    home = tmp_path / "home"
    return Workshop(workshop_process, folder, {"CELLUNET_HOME": str(home)})


def hashes(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file below a folder, hidden ones too, by path."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(
            path.read_bytes()
        ).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def whole_files(folder: Path) -> dict[str, str]:
    """Return `hashes` without what a killed process may leave behind."""
    return {
        name: digest
        for name, digest in hashes(folder).items()
        if not (Path(name).name.startswith(".") and name.endswith(HIDDEN))
    }


def moments(events: int, wanted: int, seed: int) -> list[int]:
    """Return which of so many events something happens at; all if there are few."""
    if events <= wanted:
        return list(range(1, events + 1))
    picked = np.random.default_rng(seed).choice(events, wanted, replace=False) + 1
    return sorted(int(k) for k in picked)


@pytest.fixture(scope="session")
def small_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of small fields of drawn nuclei."""
    folder = tmp_path_factory.mktemp("small") / "images"
    folder.mkdir()
    for number in range(SMALL_IMAGES):
        image = draw_nuclei((64, 64), 8, number)[0]
        tifffile.imwrite(folder / f"f{number:02}.tif", image)
    return folder


@pytest.fixture(scope="session")
def large_field(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A field of several decoding tiles and of several windows of the network."""
    folder = tmp_path_factory.mktemp("large") / "images"
    folder.mkdir()
    tile = draw_nuclei((300, 300), 60, 7)[0]
    side = 4 if FULL else 2
    path = folder / "field.tif"
    tifffile.imwrite(path, np.tile(tile, (side, side)), tile=(256, 256))
    return folder


@pytest.fixture(scope="session")
def annotated(
    tmp_path_factory: pytest.TempPathFactory, write_data: Callable[..., Path]
) -> Path:
    """Six annotated images."""
    return write_data(tmp_path_factory.mktemp("annotated") / "cells")
