"""Help pages: every word of every text is there, at any width, and nothing else."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import typer.main

from cellunet.cli.app import make_app

if TYPE_CHECKING:
    from tests.cli.conftest import Run

TREE = typer.main.get_command(make_app())
WIDTHS = [60, 80, 120]


def commands(command: Any = TREE, name: str = "") -> dict[str, Any]:
    """Return every command by the words that call it; the program itself by none."""
    found = {name: command}
    for word, inner in getattr(command, "commands", {}).items():
        found |= commands(inner, f"{name} {word}".strip())
    return found


COMMANDS = commands()


@pytest.fixture
def page(run: Run, monkeypatch: pytest.MonkeyPatch):
    """``page(command, width)``: the help page."""

    def read(command: str, width: int) -> str:
        monkeypatch.setenv("COLUMNS", str(width))
        ran = run(*command.split(), "--help")
        assert (ran.code, ran.err) == (0, "")
        return ran.out

    return read


def words(text: str) -> str:
    """Return a text without frames, on one line."""
    return " ".join(re.sub("[╭╮╰╯─│]", " ", text).split())


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("command", COMMANDS)
def test_a_page_shows_every_text_as_it_was_written(page, command, width) -> None:
    found = page(command, width)
    assert max(map(len, found.splitlines())) == width
    for parameter in COMMANDS[command].params:
        assert words(parameter.help) in words(found)
        for option in parameter.opts:
            name = option if option.startswith("-") else parameter.metavar
            assert re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", found)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("command", COMMANDS)
def test_a_page_shows_no_type_of_python_and_one_default(page, command, width) -> None:
    found = page(command, width)
    assert not re.findall(r"<\w+[^>]*>|\('|\\\[", found)
    for parameter in COMMANDS[command].params:
        assert len(re.findall("Default:|by default", parameter.help)) <= 1


@pytest.mark.parametrize(
    ("command", "extra"), [("predict", "openvino"), ("evaluate", "openvino")]
)
def test_extras_are_named_whole(page, command, extra) -> None:
    assert f"cellunet-torch[{extra}]" in words(page(command, 80))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("short", "long", "commands"),
    [
        ("-o", "--out", ["predict", "train", "suggest", "evaluate", "check"]),
        ("-m", "--model", ["predict", "evaluate", "suggest"]),
        ("-q", "--quiet", [*COMMANDS]),
        ("-h", "--help", [*COMMANDS]),
        ("-V", "--version", [""]),
    ],
)
def test_what_is_typed_often_has_a_short_form(page, short, long, commands) -> None:
    for command in commands:
        assert re.search(rf"{long} +{short}\b", page(command, 80))


@pytest.mark.slow
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_completes_commands_and_options(shell: str) -> None:
    asked = {
        "_CELLUNET_COMPLETE": f"complete_{shell}",
        "COMP_WORDS": "cellunet predict --diam",
        "COMP_CWORD": "2",
        "_TYPER_COMPLETE_ARGS": "cellunet predict --diam",
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    }
    ran = subprocess.run(
        [sys.executable, "-m", "cellunet"],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | asked,
    )
    assert "--diameter" in ran.stdout
    assert "--pixel-size" not in ran.stdout


def test_the_script_for_a_shell_is_offered(page) -> None:
    assert "--install-completion" in page("", 80)
    assert "--show-completion" in page("", 80)


@pytest.mark.parametrize(
    ("line", "command"),
    [
        ("evaluate", "evaluate"),
        ("evaluate data --pred out --model m", "evaluate"),
        ("check data", "check"),
        ("train data --folds 2 --val .2", "train"),
        ("models show", "models show"),
    ],
)
def test_wrong_usage_names_the_page_of_its_command(run: Run, line, command) -> None:
    ran = run(*line.split())
    assert ran.code == 2
    assert ran.err.endswith(f"See: cellunet {command} --help\n")


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("train a --out o", "--out goes with --learning-curve."),
        ("evaluate b --pred a --gray", "--gray goes with a model, not with"),
        ("models calibrate m a --device cpu", "--device goes with --name."),
        ("models calibrate m a --planes 0", "--planes goes with --name."),
        ("evaluate b --pred a --engine auto", "--engine goes with a model"),
    ],
)
def test_an_option_that_would_mean_nothing_is_refused(run: Run, line, told) -> None:
    ran = run(*line.split())
    assert ran.code == 2
    assert ran.err.startswith(f"cellunet: error: {told}")
