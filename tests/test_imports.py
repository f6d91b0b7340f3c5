"""What starting up imports: the cause of a slow start, not its time."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"

HEAVY = (
    "torch",
    "numpy",
    "scipy",
    "skimage",
    "tifffile",
    "imagecodecs",
    "onnxruntime",
    "safetensors",
    "matplotlib",
    "jinja2",
    "PIL",
    "filelock",
    "zarr",
    "fsspec",
    "napari",
    "qtpy",
    "magicgui",
    "pandas",
    *("nd2", "liffile", "czifile", "pylibCZIrw", "oiffile", "oirfile", "h5py"),
)


def _loaded(code: str, among: tuple[str, ...] = HEAVY) -> set[str]:
    """Return which of the heavy packages a fresh interpreter has after `code`."""
    report = f"import sys; print(*[m for m in {among!r} if m in sys.modules])"
    ran = subprocess.run(
        [sys.executable, "-c", f"{code}\n{report}"],
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=True,
    )
    return set(ran.stdout.splitlines()[-1].split())


def _calls(*words: str) -> str:
    # The help goes to nowhere, so that the last line is the report.
    return (
        "import contextlib, io, sys\n"
        "from cellunet.cli.app import main\n"
        "with contextlib.redirect_stdout(io.StringIO()):\n"
        f"    assert main({list(words)!r}) == 0"
    )


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["--version"],
        ["train", "--help"],
        ["predict", "--help"],
        ["evaluate", "--help"],
        ["make-labels", "--help"],
        ["suggest", "--help"],
        ["check", "--help"],
        ["models", "--help"],
    ],
    ids=" ".join,
)
def test_help_imports_nothing_heavy(words: list[str]) -> None:
    assert _loaded(_calls(*words)) == set()


def test_the_package_and_its_lowest_floors_import_nothing_heavy() -> None:
    code = "import cellunet, cellunet.config, cellunet.errors, cellunet.progress"
    assert _loaded(f"{code}, cellunet.store") == set()


def test_a_list_of_models_imports_nothing_heavy() -> None:
    assert _loaded("import cellunet.tasks.models") == set()


@pytest.mark.parametrize(
    "module", ["cellunet.tasks.predict.batch", "cellunet.io.images"]
)
def test_prediction_needs_no_torch(module: str) -> None:
    assert not _loaded(f"import {module}") & {"torch", "zarr", "fsspec"}


@pytest.mark.parametrize(
    "module",
    [
        "cellunet.cli.app",
        "cellunet.cli.models",
        "cellunet.tasks.train.arrays",
        "cellunet.tasks.predict.session",
    ],
)
def test_nothing_but_its_plugin_needs_napari(module: str) -> None:
    if module.endswith("arrays"):
        pytest.importorskip("torch")
    assert not _loaded(f"import {module}") & {"napari", "qtpy", "magicgui", "pandas"}


@pytest.mark.slow
def test_only_a_report_imports_what_draws_it(tmp_path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((64, 64), np.uint8))
    words = ["predict", str(path), "--out", str(tmp_path / "out"), "--quiet"]
    assert not _loaded(_calls(*words)) & {
        "torch",
        "scipy",
        "skimage",
        "matplotlib",
        "jinja2",
        "PIL",
        "zarr",
        "fsspec",
        *("nd2", "liffile", "czifile", "pylibCZIrw", "oiffile", "oirfile", "h5py"),
    }
    drawn = _loaded(
        _calls(*words, "--save", "report", "--overwrite")
        + "\nassert 'matplotlib.pyplot' not in sys.modules"
    )
    assert drawn >= {"matplotlib", "jinja2"}


@pytest.mark.slow
def test_a_prediction_imports_no_other_command_and_reads_no_annotations(
    tmp_path,
) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((64, 64), np.uint8))
    words = ["predict", str(path), "--out", str(tmp_path / "out"), "--quiet"]
    others = ("rich", "cellunet.cli.train", "cellunet.cli.models", "cellunet.core")
    others += ("cellunet.annotations", "cellunet.imaging.cores", "cellunet.metrics")
    others += ("cellunet.outputs.report", "cellunet.outputs.charts")
    assert not _loaded(_calls(*words), others)


@pytest.mark.slow
def test_crops_are_suggested_without_torch(tmp_path) -> None:
    path = str(EXAMPLES / "images" / "dsb_small_nuclei.tif")
    words = ["suggest", path, "--data", str(EXAMPLES / "annotated")]
    words += ["--out", str(tmp_path / "out"), "--crops", "1"]
    assert "torch" not in _loaded(_calls(*words))
    assert len(list((tmp_path / "out" / "labels").iterdir())) == 1


def test_decode_workers_import_imaging_alone() -> None:
    loaded = _loaded("import cellunet.imaging.decode, cellunet.tasks.scheduling")
    assert not loaded & {"torch", "onnxruntime", "scipy", "skimage"}


def test_who_has_no_torch_is_told_what_to_install(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from cellunet.cli.app import main\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    words = ["train", str(EXAMPLES / "annotated"), "--name", "mine"]
    ran = subprocess.run(
        [sys.executable, "-c", code, *words],
        capture_output=True,
        text=True,
        env=os.environ | {"CELLUNET_HOME": str(tmp_path)},
    )
    (line,) = ran.stderr.splitlines()
    assert line.startswith("cellunet: error: Training, like --engine torch, needs")
    assert line.endswith('Try: pip install "cellunet-torch[train]".')
    assert ran.returncode == 1
