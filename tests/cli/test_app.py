"""`main`: help, usage, errors, exit codes, one document, logging."""

from __future__ import annotations

import gc
import io
import logging
import os
import re
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import tifffile

from cellunet import __version__
from cellunet.cli.app import main
from cellunet.errors import ConfigError, ImageReadError
from cellunet.tasks import models

if TYPE_CHECKING:
    from tests.cli.conftest import Run

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"
COMMANDS = ["train", "predict", "evaluate", "make-labels", "models"]


def _listing(monkeypatch: pytest.MonkeyPatch, list_models: object) -> None:
    """Put a function in place of the task of ``cellunet models``."""
    monkeypatch.setattr(models, "list_models", list_models)


def test_help_goes_to_standard_output_and_lists_the_commands(run: Run) -> None:
    ran = run("--help")
    assert (ran.code, ran.err) == (0, "")
    assert all(name in ran.out for name in COMMANDS)


@pytest.mark.parametrize(
    "command",
    [*COMMANDS, "models show", "models calibrate", "models remove"],
)
def test_every_command_has_help(run: Run, command: str) -> None:
    ran = run(*command.split(), "-h")
    assert (ran.code, ran.err) == (0, "")
    assert "--json" in ran.out


def test_version_is_one_line_on_standard_output(run: Run) -> None:
    ran = run("--version")
    assert (ran.code, ran.out, ran.err) == (0, f"cellunet {__version__}\n", "")


def test_no_command_shows_the_help_on_standard_error(run: Run) -> None:
    ran = run()
    assert (ran.code, ran.out) == (2, "")
    assert "make-labels" in ran.err
    assert ran.err.endswith(
        "cellunet: error: A command is missing. See: cellunet --help\n"
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["tran"], "No such command 'tran'."),
        (["train", "x", "--name", "n", "--epoch", "1"], "No such option: --epoch"),
        (["predict", "--out", "o"], "Missing argument 'INPUTS'."),
        (["predict", "a", "--out", "o", "--max-memory", "a"], "'--max-memory'"),
        (["predict", "x", "--out", "o", "--z", "mean"], ": 'mean' is not one"),
        (["predict", "", "--out", "o"], "An argument is empty; perhaps a variable"),
        (["models", "show"], "Missing argument 'NAME|PATH'. See: cellunet models show"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_2(
    run: Run, words: list[str], message: str
) -> None:
    ran = run(*words)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("cellunet: error: ")
    assert ran.err.count("\n") == 1
    assert message in ran.err


def test_wrong_usage_is_a_document_where_one_was_asked_for(run: Run) -> None:
    ran = run("train", "--json", "--nonsense")
    error = ran.document["error"]
    assert ran.code == 2
    assert ran.document["command"] == "train"
    assert error["type"] == "UsageError"
    assert "--nonsense" in error["message"]
    assert error["hint"] == "See: cellunet train --help"
    assert error["message"] in ran.err


NEEDS_TORCH = pytest.mark.skipif(find_spec("torch") is None, reason="needs torch")


@pytest.mark.parametrize(
    "words",
    [
        ["predict", "{images}", "--out", "{out}", "--model", "{long}"],
        ["evaluate", "{long}"],
        ["evaluate", "{images}", "--pred", "{long}"],
        ["train", "{long}"],
        pytest.param(["suggest", "{images}", "--out", "{long}"], marks=NEEDS_TORCH),
        ["make-labels", "{long}", "--out", "{out}"],
        ["models", "show", "{long}"],
    ],
    ids=lambda words: " ".join(words),
)
def test_a_path_too_long_to_be_one_is_one_line_and_exit_1(
    run: Run, tmp_path: Path, words: list[str]
) -> None:
    images = tmp_path / "images"
    images.mkdir()
    tifffile.imwrite(images / "a.tif", np.eye(20, dtype=np.uint16))
    names = {"images": images, "out": tmp_path / "out", "long": "n" * 300}
    ran = run(*(word.format(**names) for word in words))
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.count("\n") == 1
    assert "cannot be looked up: File name too long. Check the path" in ran.err


def test_an_error_is_one_line_with_its_hint_and_exit_1(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise ImageReadError(
            "[b]ä😀.tif[/b] is 0 bytes.", hint="Copy it :smile: again."
        )

    _listing(monkeypatch, refuse)
    ran = run("models")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == (
        "cellunet: error: [b]ä😀.tif[/b] is 0 bytes. Copy it :smile: again.\n"
    )


def test_an_error_is_a_document_too(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise ConfigError("[b]ä😀.tif[/b] is odd.", hint="Try: another.")

    _listing(monkeypatch, refuse)
    ran = run("models", "--json")
    assert ran.out.isascii()
    assert ran.document["command"] == "models"
    assert ran.document["result"] is None
    assert ran.document["error"] == {
        "type": "ConfigError",
        "message": "[b]ä😀.tif[/b] is odd.",
        "hint": "Try: another.",
    }
    assert "cellunet: error: [b]ä😀.tif[/b] is odd. Try: another.\n" in ran.err


@pytest.mark.parametrize("words", [["models"], ["models", "--json"]])
def test_a_bug_keeps_its_traceback_and_exits_70(
    run: Run, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    def fail() -> None:
        raise ZeroDivisionError("by nought")

    _listing(monkeypatch, fail)
    ran = run(*words)
    assert ran.code == 70
    assert "Traceback (most recent call last)" in ran.err
    assert "in fail" in ran.err
    assert "This is a bug in cellunet (ZeroDivisionError: by nought)" in ran.err
    if "--json" in words:
        assert ran.document["error"]["type"] == "Bug"
    else:
        assert ran.out == ""


def test_what_a_task_prints_does_not_mix_with_the_document(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def chatter() -> tuple[()]:
        print("some library says hello")  # noqa: T201
        return ()

    _listing(monkeypatch, chatter)
    ran = run("models", "--json")
    assert ran.document["result"]["models"] == []
    assert "some library says hello" in ran.err
    assert "hello" in run("models").out


def test_help_with_json_is_still_one_document(run: Run) -> None:
    ran = run("train", "--json", "--help")
    assert ran.document["result"] is None
    assert "--minutes" in ran.err


def test_json_after_two_dashes_is_a_file_name(run: Run) -> None:
    ran = run("models", "show", "--", "--json")
    assert (ran.code, ran.out) == (1, "")
    assert "There is no model '--json'" in ran.err


def test_a_closed_pipe_ends_quietly(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stdout", Closed())
    assert main(["models", "--json"]) == 141
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_full_disk_under_standard_output_is_told(options: list[str]) -> None:
    words = [sys.executable, "-m", "cellunet", "models", *options]
    with Path("/dev/full").open("w") as full:
        ran = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True)
    assert ran.returncode == 1
    assert "cellunet: error: Standard output cannot be written" in ran.stderr
    assert "Traceback" not in ran.stderr


@pytest.mark.parametrize("words", [["models"], ["--help"]])
def test_what_standard_output_cannot_encode_is_escaped(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, words: list[str]
) -> None:
    monkeypatch.setenv("CELLUNET_HOME", str(tmp_path / "in µm"))
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    assert main(words) == 0
    if words == ["models"]:
        assert b"in \\xb5m" in raw.getvalue()


def test_a_reader_that_left_early_leaves_no_traceback(tmp_path: Path) -> None:
    environment = os.environ | {"CELLUNET_HOME": str(tmp_path)}
    process = subprocess.Popen(
        [sys.executable, "-m", "cellunet", "models", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
    )
    assert process.stdout
    assert process.stderr
    process.stdout.close()
    told = process.stderr.read().decode()
    process.stderr.close()
    assert process.wait() == 141
    assert "Traceback" not in told
    assert "BrokenPipeError" not in told


def _noisy() -> tuple[()]:
    log = logging.getLogger("cellunet.io.images")
    log.debug("a detail")
    log.info("a fact\nof two lines")
    log.warning("a doubt about [x]")
    logging.getLogger("tifffile").warning("odd tag")
    return ()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["models"], {"warning"}),
        (["models", "-v"], {"warning", "info"}),
        (["-v", "models"], {"warning", "info"}),
        (["models", "-vv"], {"warning", "info", "debug"}),
    ],
)
def test_log_levels(
    run: Run, monkeypatch: pytest.MonkeyPatch, words: list[str], told: set[str]
) -> None:
    _listing(monkeypatch, _noisy)
    lines = run(*words).err.splitlines()
    expected = {
        "warning": ["cellunet: warning: a doubt about [x]"],
        "info": ["cellunet: info: a fact", "cellunet: info: of two lines"],
        "debug": ["cellunet: debug: a detail"],
    }
    for level, wanted in expected.items():
        assert all((line in lines) == (level in told) for line in wanted)
    assert "tifffile: warning: odd tag" in lines


def test_logging_is_as_before_after_a_call(run: Run) -> None:
    before = logging.getLogger().handlers[:], logging.getLogger("cellunet").level
    run("models", "-vv")
    assert before == (
        logging.getLogger().handlers,
        logging.getLogger("cellunet").level,
    )


def test_python_m_cellunet_returns_the_exit_code() -> None:
    words = [sys.executable, "-m", "cellunet", "nonsense"]
    ran = subprocess.run(words, capture_output=True, text=True)
    assert ran.returncode == 2
    assert ran.stdout == ""


@pytest.mark.parametrize("words", [["--version"], ["predict", "--help"], ["models"]])
def test_another_program_of_the_same_import_name_is_refused(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    described = tmp_path / "site" / "cellunet-2.0.dist-info"
    described.mkdir(parents=True)
    (described / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: cellunet\nVersion: 2.0\n", encoding="utf-8"
    )
    assert run(*words).code == 0
    monkeypatch.syspath_prepend(tmp_path / "site")
    ran = run(*words)
    assert (ran.code, ran.out, ran.err.count("\n")) == (1, "", 1)
    assert "also holds cellunet, another program" in ran.err
    assert "pip uninstall -y cellunet cellunet-torch" in ran.err


def test_a_call_leaves_the_collection_of_garbage_as_it_was(run: Run) -> None:
    run("predict", "nothing-here", "--out", "nowhere")
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0


@pytest.mark.skipif(sys.platform != "linux", reason="of the GNU C library")
def test_threads_share_one_heap() -> None:
    code = (
        "import ctypes, threading\n"
        "from cellunet.cli.session import share_heap\n"
        "share_heap()\n"
        "libc = ctypes.CDLL(None)\n"
        "libc.malloc.restype = ctypes.c_void_p\n"
        "for _ in range(4):\n"
        "    t = threading.Thread(target=lambda: libc.malloc(5000))\n"
        "    t.start(); t.join()\n"
        "libc.malloc_info(0, ctypes.c_void_p.in_dll(libc, 'stdout'))\n"
        "libc.fflush(None)\n"
    )
    words = [sys.executable, "-c", code]
    ran = subprocess.run(words, capture_output=True, text=True, check=True)
    assert ran.stdout.count("<heap nr=") == 1


def test_what_commands_need_is_installed_with_them() -> None:
    project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
    needed = {re.split(r"[<>=]", line)[0] for line in project["dependencies"]}
    assert {"roifile", "tifffile", "onnxruntime"} <= needed
    assert "roi" not in project["optional-dependencies"]
