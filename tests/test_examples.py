"""Every example script runs, from the outside, as a user would run it."""

import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tifffile

from cellunet.annotations.pairs import content_hash, is_known
from cellunet.io.images import open_image
from cellunet.io.source import Region
from cellunet.store import find_model

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Variables of a shell that knows the command `cellunet` of this checkout."""
    tools = tmp_path / "tools"
    tools.mkdir()
    command = tools / "cellunet"
    command.write_text(
        f'#!/bin/sh\nexec "{sys.executable}" -m cellunet "$@"\n', encoding="utf-8"
    )
    command.chmod(0o755)
    checkout = [str(EXAMPLES.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {
        "PATH": os.pathsep.join([str(tools), os.environ["PATH"]]),
        "PYTHONPATH": os.pathsep.join(checkout),
        "CELLUNET_HOME": str(tmp_path / "home"),
    }


def succeed(command: list[object], environment: dict[str, str], **options) -> str:
    done = subprocess.run(
        [str(word) for word in command],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
        **options,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    ("script", "expected", "file"),
    [
        pytest.param(
            *("predict.py", "nuclei", "u2os_B24_s9.tif"), marks=pytest.mark.smoke
        ),
        ("train.py", "epoch 2", "models/example/model.safetensors"),
        pytest.param(
            *("evaluate.py", "mean AP", "field1.tif"), marks=pytest.mark.smoke
        ),
        ("make_labels.py", "field1: 42 objects", "weights/field1.tif"),
        ("session.py", "confidence above 0.9", "u2os_B24_s9.npz"),
        ("round_trip.py", "u2os_N12_s7, QuPath", "u2os_N12_s7.geojson"),
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


def test_outlines_come_back_from_fiji_and_qupath_as_the_very_labels(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    command = [sys.executable, EXAMPLES / "round_trip.py", tmp_path / "out"]
    told = succeed(command, environment).splitlines()
    assert len(told) == 2 * len(list((EXAMPLES / "images").glob("*.tif")))
    for line in told:
        assert line.endswith(", the same")
        assert " 0 objects" not in line


@pytest.mark.skipif(os.name == "nt", reason="a script for POSIX shells")
def test_a_pipeline_finds_segments_and_joins(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    images, out = tmp_path / "my images", tmp_path / "out put"
    shutil.copytree(EXAMPLES / "images", images)
    odd = images / "line\nbreak.tif"
    (images / "dsb_small_nuclei.tif").rename(odd)
    succeed(["sh", EXAMPLES / "pipeline.sh", images, out], environment)
    found = rows(out / "joined.csv")
    assert {row["image"] for row in found} == {p.name for p in images.iterdir()}
    for image in images.iterdir():
        count = tifffile.imread(out / image.name).max()
        assert sum(row["image"] == image.name for row in found) == count
    key = ("image", "id", "area_px", "confidence")
    joined = {tuple(row[k] for k in key) for row in found}
    assert joined == {tuple(row[k] for k in key) for row in rows(out / "table.csv")}


@pytest.mark.skipif(
    shutil.which("snakemake") is None or os.name == "nt",
    reason="Snakemake is not installed (pip install 'cellunet-torch[workflow]')",
)
def test_a_workflow_makes_everything_once(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    images, out = tmp_path / "images", tmp_path / "results"
    images.mkdir()
    for name in ("dsb_small_nuclei.tif", "u2os_B24_s9.tif"):
        shutil.copy(EXAMPLES / "images" / name, images)
    command = ["snakemake", "--snakefile", EXAMPLES / "workflow" / "Snakefile"]
    command += ["--cores", "1", "--config", f"images={images}", f"out={out}"]
    # Snakemake may live in an environment of its own.
    other = environment | {"PYTHONPATH": "", "XDG_CACHE_HOME": str(tmp_path / "cache")}
    tools = tmp_path / "tools" / "cellunet"
    head, body = tools.read_text(encoding="utf-8").split("\n", 1)
    path = f'export PYTHONPATH="{environment["PYTHONPATH"]}"'
    tools.write_text(f"{head}\n{path}\n{body}", encoding="utf-8")
    succeed(command, other, cwd=tmp_path)
    summary = {row["image"]: row for row in rows(out / "summary.csv")}
    assert set(summary) == {"dsb_small_nuclei", "u2os_B24_s9"}
    for name, row in summary.items():
        count = tifffile.imread(out / name / f"{name}.tif").max()
        assert int(row["objects"]) == count > 10
    made = (out / "u2os_B24_s9" / "u2os_B24_s9.tif").stat().st_mtime_ns
    again = subprocess.run(
        [str(word) for word in command],
        capture_output=True,
        text=True,
        env=other,
        check=True,
        cwd=tmp_path,
    )
    assert "Nothing to be done" in again.stdout + again.stderr
    assert (out / "u2os_B24_s9" / "u2os_B24_s9.tif").stat().st_mtime_ns == made


def test_no_example_image_was_trained_on() -> None:
    card = find_model("nuclei").card
    for path in (*EXAMPLES.glob("images/*"), *EXAMPLES.glob("annotated/images/*")):
        with open_image(path) as source:
            height, width = source.shape
            print_ = content_hash(source.read(Region(0, 0, height, 0, width)))
        assert not is_known(print_, card.training.values()), path.name


def test_every_script_is_tested_and_listed() -> None:
    files = [*EXAMPLES.glob("*.py"), *EXAMPLES.glob("*.sh")]
    scripts = {p.name for p in files}
    listed = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert scripts == {
        *("predict.py", "train.py", "evaluate.py", "make_labels.py"),
        "from_fiji.py",
        *("session.py", "round_trip.py", "pipeline.sh"),
    }
    assert all(name in listed for name in [*scripts, "workflow/Snakefile"])


def test_the_documentation_quotes_the_scripts_for_clusters_as_they_are() -> None:
    page = (EXAMPLES.parent / "docs" / "cluster.md").read_text(encoding="utf-8")
    listed = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    files = [p for p in (EXAMPLES / "cluster").rglob("*") if p.is_file()]
    assert len(files) == 5
    for file in files:
        assert "```\n" in page.partition(file.read_text(encoding="utf-8"))[2], file.name
        parts = file.relative_to(EXAMPLES / "cluster").parts
        assert parts[0] in listed, file.name


@pytest.mark.skipif(os.name == "nt", reason="a script of bash")
def test_the_parts_of_a_slurm_array_join(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    images, out = tmp_path / "my images", tmp_path / "out put"
    images.mkdir()
    for name in ("dsb_small_nuclei.tif", "u2os_B24_s9.tif"):
        shutil.copy(EXAMPLES / "images" / name, images)
    script = ["bash", EXAMPLES / "cluster" / "slurm.sh", images, out, 2]
    for part in (2, 1):
        succeed(script, environment | {"SLURM_ARRAY_TASK_ID": str(part)})
    succeed(["cellunet", "join", out], environment)
    found = [row["image"] for row in rows(out / "table.csv")]
    assert list(dict.fromkeys(found)) == ["dsb_small_nuclei.tif", "u2os_B24_s9.tif"]
    assert (out / "report.html").is_file()
