"""Nothing reports that it is used: no socket, and no file of another program."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cellunet.engine import runtimes as ov

CHECKOUT = Path(__file__).parents[1]
IMAGE = CHECKOUT / "examples" / "images" / "dsb_small_nuclei.tif"
RUNTIMES = {"onnxruntime", "openvino"}
IMPORTED_BY = {"runtimes.py": {"onnxruntime"}}
"""Modules that import a runtime; openvino is looked up by its name, there too."""
AUDITED = """
import sys

def refuse(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto"):
        sys.exit(f"{event}{arguments}")

sys.addaudithook(refuse)
"""
COMMAND_LINE = "from cellunet.cli.app import main; sys.exit(main(sys.argv[1:]))"
SESSION = """
import tifffile
from cellunet.tasks.predict.session import load_model
labels, table = load_model().segment(tifffile.imread(sys.argv[1]))
sys.exit(not labels.max())
"""
PREDICT = [COMMAND_LINE, "predict", IMAGE, "--out", "masks", "--engine"]
OPENVINO = pytest.mark.skipif(not ov.installed(), reason="openvino is not installed")


@pytest.mark.parametrize(
    "words",
    [
        pytest.param([*PREDICT, "onnxruntime"], id="onnxruntime"),
        pytest.param([*PREDICT, "torch"], id="torch", marks=pytest.mark.slow),
        pytest.param(
            [*PREDICT, "openvino-int8"],
            id="openvino",
            marks=[OPENVINO, pytest.mark.slow],
        ),
        pytest.param([SESSION, IMAGE], id="load_model", marks=pytest.mark.slow),
    ],
)
def test_segmenting_opens_no_socket_and_leaves_a_new_home_empty(
    tmp_path: Path, words: list[str | Path]
) -> None:
    home, work = tmp_path / "home", tmp_path / "work"
    home.mkdir()
    work.mkdir()
    kept = ("PATH", "SYSTEMROOT", "LD_LIBRARY_PATH", "PYTHONPATH")
    program, *rest = words
    traced, trace = tracing(tmp_path / "trace")
    done = subprocess.run(
        [*traced, sys.executable, "-B", "-c", f"{AUDITED}{program}", *map(str, rest)],
        capture_output=True,
        text=True,
        check=False,
        cwd=work,
        env={name: os.environ[name] for name in kept if name in os.environ}
        | {"HOME": str(home), "USERPROFILE": str(home), "LOCALAPPDATA": str(home)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert [str(p.relative_to(home)) for p in home.rglob("*")] == []
    assert families(trace) <= {"AF_UNIX"}


ON_A_NODE = """
from cellunet.cli.app import main
words = ["predict", sys.argv[1], "--out", "masks", "--save", "table", "--part", "1/1"]
sys.exit(main(words) or main(["join", "masks"]))
"""


@pytest.mark.parametrize(
    "home", [None, pytest.param("file/home", marks=pytest.mark.slow)]
)
def test_a_node_without_a_home_segments_and_joins(tmp_path: Path, home) -> None:
    # Nobody can make a folder below a file.
    (tmp_path / "file").touch()
    kept = ("PATH", "SYSTEMROOT", "LD_LIBRARY_PATH", "PYTHONPATH")
    names = ("HOME", "USERPROFILE", "LOCALAPPDATA") if home else ()
    done = subprocess.run(
        [sys.executable, "-B", "-c", f"{AUDITED}{ON_A_NODE}", str(IMAGE)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={name: os.environ[name] for name in kept if name in os.environ}
        | {name: str(tmp_path / str(home)) for name in names},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "masks" / "table.csv").is_file()
    assert {path.name for path in tmp_path.iterdir()} == {"file", "masks"}


def tracing(trace: Path) -> tuple[list[str], Path]:
    """Return the words before a command that write its calls of the network to a file.

    None where strace is missing or not permitted: then the audit of Python's own
    sockets is what there is.
    """
    words = [
        "strace",
        "-f",
        "--seccomp-bpf",
        "-qq",
        "-e",
        "trace=network",
        "-o",
        str(trace),
    ]
    if shutil.which("strace") is None:
        return [], trace
    tried = subprocess.run([*words, "true"], capture_output=True, check=False)
    return (words if tried.returncode == 0 else []), trace


def families(trace: Path) -> set[str]:
    """Return the families of the sockets that were opened."""
    text = trace.read_text(encoding="utf-8") if trace.is_file() else ""
    return set(re.findall(r"socket\((\w+)", text))


@pytest.mark.slow
@pytest.mark.parametrize("folder", ["cellunet", "tests", "benchmarks", "examples"])
def test_a_runtime_is_imported_in_one_place_alone(folder: str) -> None:
    for path in (CHECKOUT / folder).rglob("*.py"):
        assert imported(path) == IMPORTED_BY.get(path.name, set()), path


def imported(path: Path) -> set[str]:
    """Return the runtimes that a module imports, whatever else it does with them."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").partition(".")[0])
        elif isinstance(node, ast.Call) and "importorskip" in ast.unparse(node.func):
            found |= {a.value for a in node.args if isinstance(a, ast.Constant)}
    return found & RUNTIMES
