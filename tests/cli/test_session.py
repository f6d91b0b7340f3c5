"""One call of the command line, told again as a line to type."""

import os

import pytest

from cellunet.cli import session as module
from cellunet.cli.console import Console
from cellunet.cli.session import Session, Stop, shell_line


def _session(*words: str) -> Session:
    return Session(argv=words, console=Console(), report=Console(), stop=Stop())


def test_a_command_is_told_with_words_added_and_left_out() -> None:
    session = _session("train", "a b", "--overwrite")
    again = session.command(without=("--overwrite",), add="--resume")
    if os.name != "nt":
        assert again == "cellunet train 'a b' --resume"
    assert _session("train", "--resume").command(add="--resume") == (
        "cellunet train --resume"
    )


def test_an_option_is_added_before_the_words_that_are_no_options() -> None:
    again = _session("train", "--", "-odd").command(add="--resume")
    assert again == "cellunet train --resume -- -odd"


def test_lines_are_quoted_as_the_system_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.os, "name", "nt")
    line = shell_line(["cellunet", "a b"])
    monkeypatch.undo()
    assert line == 'cellunet "a b"'


def test_a_task_that_asks_gets_the_flag_of_its_session() -> None:
    session = _session("train")
    stop = session.can_stop("Nothing is lost.")
    assert stop is session.stop
    assert stop.graceful
    assert stop.advice == "Nothing is lost."
