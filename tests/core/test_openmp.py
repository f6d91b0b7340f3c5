"""How threads of torch wait for each other: chosen before torch is imported."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest
import torch

POLICY = "OMP_WAIT_POLICY"
TOLD = """
import importlib.abc, os, sys

class Watch(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            print("torch with", os.environ.get("OMP_WAIT_POLICY"), flush=True)
            os._exit(0)

sys.meta_path.insert(0, Watch())
from cellunet.cli.app import main
main(sys.argv[1:])
"""


def told(code: str, *words: object, **environment: str) -> str:
    """Return what a fresh process says on both streams."""
    usual = {name: value for name, value in os.environ.items() if name != POLICY}
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=True,
        env=usual | environment,
    )
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("environment", "policy"),
    [({}, "PASSIVE"), ({POLICY: "active"}, "active")],
    ids=["chosen", "the user's"],
)
def test_a_training_imports_torch_with(
    environment, policy, write_data, tmp_path
) -> None:
    data = write_data(tmp_path / "data")
    home = {"CELLUNET_HOME": str(tmp_path / "home")}
    out = told(TOLD, "train", data, "--name", "a", **environment, **home)
    assert f"torch with {policy}\n" in out


@pytest.mark.slow
@pytest.mark.skipif(
    not torch.backends.openmp.is_available(), reason="this torch has no OpenMP"
)
def test_the_runtime_says_that_threads_do_not_spin() -> None:
    out = told("import cellunet.core.unet", OMP_DISPLAY_ENV="verbose")
    assert set(re.findall(rf"{POLICY} ?= ?'(\w+)'", out)) == {"PASSIVE"}
    # What follows from it, by the runtimes of GNU and of LLVM.
    spins = re.findall(r"(?:GOMP_SPINCOUNT|KMP_BLOCKTIME) ?= ?'(\d+)", out)
    assert set(spins) <= {"0"}
