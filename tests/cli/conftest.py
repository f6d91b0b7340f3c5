"""What the tests of the command line share: calls of `main`, a terminal, a home."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cellunet.cli.app import main


@dataclass(frozen=True)
class Ran:
    """What one call left behind."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        """Standard output, which must be one JSON document and nothing else."""

        def refuse(constant: str) -> float:
            raise ValueError(f"{constant} is no JSON")

        document: dict[str, Any] = json.loads(self.out, parse_constant=refuse)
        assert document["schema"] == "cellunet/1"
        assert document["exit_code"] == self.code
        assert document["ok"] == (self.code == 0)
        assert (document["error"] is None) == (self.code == 0)
        return document


Run = Callable[..., Ran]


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """A terminal that can move its cursor."""
    monkeypatch.setenv("TERM", "xterm")
    return Terminal()


@pytest.fixture(params=["file", "terminal"])
def stream(request: pytest.FixtureRequest, terminal: Terminal) -> io.StringIO:
    """A file, then a terminal."""
    return terminal if request.param == "terminal" else io.StringIO()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home for models, so that no test sees the user's."""
    folder = tmp_path / "home"
    monkeypatch.setenv("CELLUNET_HOME", str(folder))
    return folder


@pytest.fixture
def toml(tmp_path: Path) -> Callable[[str], Path]:
    """``toml(text)``: a file of settings for ``--config``."""

    def write(text: str) -> Path:
        path = tmp_path / "train ä [1].toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Call `main` with words; returns code, standard output and standard error."""

    def call(*words: str | Path) -> Ran:
        capsys.readouterr()
        code = main([str(word) for word in words])
        out, err = capsys.readouterr()
        return Ran(code, out, err)

    return call
