"""What README and docs show of the command line is what it says.

Every block that begins with ``$ cellunet`` is run, unless it needs what does not ship.
Times, rates and versions are left out. Numbers may differ a little, since processors
round differently: a count by 3 or by 2 %, another number by .05. Of suggested crops the
image and the two figures are compared, not the place or the reason, which such a
difference can turn over.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

pytestmark = pytest.mark.slow

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^```[a-z]*\n\$ (cellunet .*?)^```$", re.DOTALL | re.MULTILINE)
NUMBER = re.compile(r"(\d+(?:,\d{3})*(?:\.\d+)?)")
VARYING = (
    (re.compile(r"[\d.]+ (s|min|Mpx/s)\b"), r"\1"),
    (re.compile(r"(onnxruntime) [\w.+]+"), r"\1"),
    (re.compile(r"_y\d+_x\d+\.tif(\s+[\d.]+\s+[\d.]+).*"), r"\1"),
)
NO_ZARR = "an OME-Zarr does not ship"
NOT_RUN = {
    "cellunet train new-cells --from c-32-32-64": "its images and model do not ship",
    "cellunet predict fields --out masks": "images of large nuclei do not ship",
    "cellunet predict field.zarr --channel DAPI --out masks": NO_ZARR,
    "cellunet predict field.zarr --channel DAPI --out tables --into-source nuclei "
    "--save table --save zarr-table": NO_ZARR,
    "cellunet predict http://127.0.0.1:8765/field.zarr --channel DAPI --out remote": (
        NO_ZARR
    ),
}
"""Command to the reason why it is not run here."""


def transcripts() -> Iterator[tuple[str, str, list[str]]]:
    """Yield file name, command and the lines that are shown."""
    for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]:
        for block in BLOCK.findall(path.read_text(encoding="utf-8")):
            command, *lines = block.splitlines()
            yield path.name, command, [line for line in lines if line.strip()]


SHOWN = list(transcripts())


def plain(line: str) -> str:
    for pattern, kept in VARYING:
        line = pattern.sub(kept, line)
    return " ".join(line.split())


def agree(shown: str, found: str) -> bool:
    """Return whether two lines are alike but for rounding."""
    ours, theirs = NUMBER.split(plain(shown)), NUMBER.split(plain(found))
    if ours[::2] != theirs[::2]:
        return False
    for a, b in zip(ours[1::2], theirs[1::2], strict=True):
        first, second = (float(text.replace(",", "")) for text in (a, b))
        room = 0.05 if "." in a else max(3.0, 0.02 * first)
        if abs(first - second) > room:
            return False
    return True


@pytest.mark.parametrize(
    ("command", "lines"),
    [
        pytest.param(command, lines, id=f"{name}: {command}")
        for name, command, lines in SHOWN
        if command not in NOT_RUN
    ],
)
def test_a_transcript_is_what_the_command_says(
    command: str, lines: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CELLUNET_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "200")
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    done = subprocess.run(
        [sys.executable, "-m", "cellunet", *shlex.split(command)[1:]],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    # 4: a person should look, which a transcript may show.
    assert done.returncode in (0, 4), done.stderr
    said = [*done.stdout.splitlines(), *done.stderr.splitlines()]
    missing = [one for one in lines if not any(agree(one, other) for other in said)]
    assert missing == [], done.stdout + done.stderr


def test_what_is_not_run_is_still_shown() -> None:
    assert set(NOT_RUN) <= {command for _, command, _ in SHOWN}


@pytest.mark.parametrize(
    ("shown", "found", "same"),
    [
        ("u2os.tif   40  0.2 s", "u2os.tif 42  11.0 s", True),
        ("u2os.tif   40  0.2 s", "u2os.tif 44  0.2 s", False),
        ("true objects  5,896", "true objects  5,800", True),
        ("mean AP 0.582", "mean AP 0.642", False),
        ("a_y8_x33.tif  0.10  0.93  unsure", "a_y0_x0.tif 0.12 0.93 edges", True),
        ("a_y8_x33.tif  0.10  0.93  unsure", "b_y8_x33.tif 0.10 0.93 unsure", False),
    ],
)
def test_lines_agree_but_for_time_and_rounding(
    shown: str, found: str, same: bool
) -> None:
    assert agree(shown, found) == same
