"""Odd places: names, links, homes that are not there, few cores, no network."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tifffile

from cellunet.cli.app import main
from cellunet.engine import runtimes
from cellunet.engine.threads import usable_cores
from tests.conftest import draw_nuclei

LONG = "x" * 240
EXAMPLE = Path(__file__).parents[2] / "examples" / "images" / "dsb_small_nuclei.tif"


@pytest.mark.parametrize(
    "name", ["with spaces", "Zellkerne für Ü", "nuclei 😀", LONG, "a'b\"c", "-dash"]
)
def test_any_name_of_file_and_folder_will_do(tiny_model, tmp_path, name) -> None:
    folder = tmp_path / name
    folder.mkdir()
    tifffile.imwrite(folder / f"{name}.tif", draw_nuclei((48, 48), 5)[0])
    out = tmp_path / f"out {name[:80]}"
    words = ["predict", str(folder), "--out", str(out), "--threads", "1"]
    assert main([*words, "--model", str(tiny_model.folder), "--save", "table"]) == 0
    assert (out / f"{name}.tif").is_file()


def test_folders_that_link_to_themselves_end(tiny_model, tmp_path, capsys) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    tifffile.imwrite(folder / "a.tif", draw_nuclei((48, 48), 5)[0])
    (folder / "loop").symlink_to(folder, target_is_directory=True)
    (folder / "b.tif").symlink_to(folder / "b.tif")
    words = ["predict", str(folder), "--out", str(tmp_path / "out"), "--threads", "1"]
    assert main([*words, "--model", str(tiny_model.folder)]) in (0, 3)
    assert (tmp_path / "out" / "a.tif").is_file()
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity here")
def test_no_more_threads_than_cores_that_may_be_used() -> None:
    code = "from cellunet.engine.threads import usable_cores; print(usable_cores())"
    one = min(os.sched_getaffinity(0))
    done = subprocess.run(
        [sys.executable, "-c", code],
        preexec_fn=lambda: os.sched_setaffinity(0, {one}),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "1\n"
    assert usable_cores() >= 1


def test_more_threads_than_cores_are_told_and_not_started(
    tiny_model, tmp_path, capsys, monkeypatch
) -> None:
    started: list[int] = []
    original = runtimes._options

    def options(runtime, threads):
        started.append(threads)
        return original(runtime, threads)

    monkeypatch.setattr(runtimes, "_options", options)
    # Few enough to do no harm if they were started.
    cores = os.cpu_count() or 1
    many = str(cores + 60)
    tifffile.imwrite(tmp_path / "a.tif", draw_nuclei((48, 48), 5)[0])
    words = ["predict", str(tmp_path / "a.tif"), "--out", str(tmp_path / "out")]
    words += ["--threads", many, "--model", str(tiny_model.folder)]
    assert main(words) == 0
    told = " ".join(capsys.readouterr().err.split())
    assert f"--threads {many}: this machine has {cores} core" in told
    assert started == [cores]
    assert (tmp_path / "out" / "a.tif").is_file()


def alone(*wrapper: str, out: Path, env: dict[str, str]) -> subprocess.CompletedProcess:
    """Segment an example with the model that ships, in a process of its own."""
    words = ["-m", "cellunet", "predict", str(EXAMPLE), "--out", str(out)]
    return subprocess.run(
        [*wrapper, sys.executable, *words, "--threads", "1"],
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )


def permitted(*wrapper: str) -> None:
    """Skip where the system does not permit a namespace."""
    if shutil.which(wrapper[0]) is None:
        pytest.skip(f"there is no {wrapper[0]} here")
    done = subprocess.run([*wrapper, "true"], capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"{' '.join(wrapper)} is not permitted ({done.stderr.decode()})")


@pytest.mark.slow
def test_without_network_and_home_prediction_works(tmp_path) -> None:
    wrapper = ("unshare", "-rn")
    permitted(*wrapper)
    kept = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH")
    env = {name: os.environ[name] for name in kept if name in os.environ}
    done = alone(*wrapper, out=tmp_path / "out", env=env)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / EXAMPLE.name).is_file()


def test_on_a_read_only_system_only_the_output_folder_is_written(tmp_path) -> None:
    script = (
        'mount --make-rprivate / && mount --bind "$OUT" "$OUT" && '
        'mount -o remount,bind,ro / && exec "$@"'
    )
    wrapper = ("unshare", "-rm", "sh", "-c", script, "sh")
    out = tmp_path / "out"
    out.mkdir()
    os.environ["OUT"] = str(out)
    try:
        permitted(*wrapper)
        env = dict(os.environ) | {"HOME": str(tmp_path / "no home")}
        done = alone(*wrapper, out=out, env=env)
    finally:
        del os.environ["OUT"]
    assert done.returncode == 0, done.stderr
    assert (out / EXAMPLE.name).is_file()
    assert not (tmp_path / "no home").exists()
