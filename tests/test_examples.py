"""Every example script runs, from the outside, as a user would run it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.mark.parametrize(
    ("script", "expected", "file"),
    [
        ("predict.py", "nuclei", "u2os_B24_s9.tif"),
        ("train.py", "epoch 2", "models/example/model.safetensors"),
        ("evaluate.py", "mean AP", "field1.tif"),
        ("make_labels.py", "field1: 41 objects", "weights/field1.tif"),
        ("from_fiji.py", "the same pixels: True", "made/annotated/field1.tif"),
    ],
)
def test_example_runs_and_leaves_its_files(
    script: str, expected: str, file: str, tmp_path: Path
) -> None:
    out = tmp_path / "out with space"
    done = subprocess.run(
        [sys.executable, EXAMPLES / script, out],
        capture_output=True,
        text=True,
        env=os.environ | {"CELLUNET_HOME": str(tmp_path / "home")},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert expected in done.stdout
    assert (out / file).is_file()


def test_every_script_is_tested_and_listed() -> None:
    scripts = {p.name for p in EXAMPLES.glob("*.py")}
    listed = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert scripts == {
        "predict.py",
        "train.py",
        "evaluate.py",
        "make_labels.py",
        "from_fiji.py",
    }
    assert all(name in listed for name in scripts)
