"""Options: help texts tell the defaults of `config`, and tasks agree with them."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Annotated, Any, Literal

import pytest

from cellunet.annotations.read import ANNOTATIONS
from cellunet.cli.app import COMMANDS
from cellunet.cli.options import Options, help_of
from cellunet.command_config import (
    DEVICE,
    ENGINE,
    KINDS,
    MODEL,
    PROTOCOL,
    PROTOCOLS,
    THREADS,
    EvaluateConfig,
)
from cellunet.config import TrainConfig
from cellunet.metrics import matching
from cellunet.settings import Config, setting
from cellunet.tasks.evaluate import evaluate_model
from cellunet.tasks.make_labels import make_labels
from cellunet.tasks.predict.batch import predict
from cellunet.tasks.train.request import TrainRequest

if TYPE_CHECKING:
    from tests.cli.conftest import Run


def _help(run: Run, monkeypatch: pytest.MonkeyPatch, command: str) -> dict[str, str]:
    """Return each option's help text, whatever the width of the terminal."""
    monkeypatch.setenv("COLUMNS", "400")
    lines = run(command, "--help").out.splitlines()
    pattern = re.compile(r"^\W*?(?:\*\s+)?(--[a-z-]+)\s(.*?)\W*$")
    found = (pattern.match(line.strip("│ ")) for line in lines)
    return {m.group(1): m.group(2) for m in found if m}


@dataclass(frozen=True, kw_only=True)
class DemoConfig(Config):
    """Settings of a command."""

    count: int = setting(3, "Objects.", low=1, option="Objects: N")
    width_px: float | None = setting(
        None, "Width.", otherwise="as wide as it is", option="Objects: PX"
    )
    mirror: bool = setting(False, "Mirror it.", option="Objects")
    save: tuple[Literal["table", "report"], ...] = setting(
        (), "Also write.", option="Objects: WHAT"
    )
    part: tuple[int, int] | None = setting(
        None, "Part.", otherwise="all", option="Options: I/N"
    )
    hidden: int = setting(0, "No option.")


@pytest.fixture
def demo(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What `DemoConfig` was built from: the command ``demo`` is added to the others."""
    made: list[object] = []

    def demo(config: DemoConfig) -> None:
        """Do it."""
        made.append(config)

    def two(values: Annotated[dict[str, Any], Options(DemoConfig, "count")]) -> None:
        """Do some of it."""
        made.append(values)

    module = SimpleNamespace(demo=demo, two=two)
    monkeypatch.setitem(sys.modules, "demo_commands", module)
    for name in ("demo", "two"):
        monkeypatch.setitem(COMMANDS, name, f"demo_commands:{name}")
    return made


def test_options_are_the_fields_and_build_the_configuration(run: Run, demo) -> None:
    assert run("demo").code == 0
    words = "demo --count 5 --width 2.5 --mirror --save report --save report --part 2/3"
    assert run(*words.split()).code == 0
    assert demo == [
        DemoConfig(),
        DemoConfig(count=5, width_px=2.5, mirror=True, save=("report",), part=(2, 3)),
    ]


def test_what_was_given_is_told_from_what_was_left_open(run: Run, demo) -> None:
    run("two")
    run("two", "--count", "3")
    assert demo == [{}, {"count": 3}]


def test_limits_are_those_of_the_field(run: Run, demo) -> None:
    ran = run("demo", "--count", "0")
    assert (ran.code, demo) == (1, [])
    assert ran.err == "cellunet: error: count is 0; it must be at least 1.\n"


def test_every_command_has_the_options_of_messages(run: Run, demo) -> None:
    assert run("demo", "--json").document["command"] == "demo"
    assert run("demo", "-q", "-v").code == 0


def test_help_texts_end_with_the_default(run: Run, demo, monkeypatch) -> None:
    texts = _help(run, monkeypatch, "demo")
    found = {option: " ".join(text.split()) for option, text in texts.items()}
    assert (
        found
        | {
            "--count": "N Objects. Default: 3",
            "--width": "PX Width. Default: as wide as it is",
            "--mirror": "Mirror it. Default: no",
            "--save": "WHAT Also write. Default: none",
            "--part": "I/N Part. Default: all",
        }
        == found
    )


def test_presets_that_differ_are_named() -> None:
    fields = {f.name: f for f in TrainConfig.fields()}
    assert help_of(TrainConfig, fields["epochs"]) == (
        "Epochs; each ends with a validation. Default: 30; 2 in few; 50 in classic."
    )


@pytest.mark.parametrize(
    "command", ["train", "predict", "evaluate", "suggest", "check", "make-labels"]
)
def test_every_option_with_a_value_tells_its_default(
    run: Run, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    texts = _help(run, monkeypatch, command)
    required = {"--out", "--help"}
    # Switches whose text says what they switch on.
    plain = {"--json", "--verbose", "--quiet"}
    silent = {o for o, text in texts.items() if "Default: " not in text}
    assert silent <= required | plain
    assert len(texts) > 7


@pytest.mark.parametrize(
    ("task", "names"),
    [
        (predict, {"model": MODEL}),
        (evaluate_model, {"model": MODEL, "side": "all"}),
        (predict, {"engine": ENGINE, "device": DEVICE}),
        (evaluate_model, {"engine": ENGINE, "device": DEVICE}),
        (predict, {"threads": THREADS}),
        (make_labels, {"threads": THREADS, "overwrite": False}),
        (TrainRequest, {"start": None, "device": DEVICE}),
        (TrainRequest, {"threads": THREADS, "minutes": None}),
    ],
)
def test_tasks_have_the_same_defaults(
    task: Callable[..., Any], names: dict[str, object]
) -> None:
    parameters = inspect.signature(task).parameters
    assert {name: parameters[name].default for name in names} == names


def test_tables_of_other_layers_have_the_rows_that_help_texts_name() -> None:
    assert set(KINDS) == set(ANNOTATIONS)
    assert set(PROTOCOLS) == set(matching.PROTOCOLS)
    assert EvaluateConfig().protocol == PROTOCOL
