"""A call: the document, signals, the line to type again."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from cellunet.cli import session as module
from cellunet.cli import session as signals
from cellunet.cli.console import Console
from cellunet.cli.session import (
    SCHEMA,
    Failure,
    Outcome,
    Session,
    StoppedNow,
    StopRequest,
    document,
    listening,
    plain,
    shell_line,
)
from cellunet.command_config import EvaluateConfig
from cellunet.errors import DeviceError
from cellunet.metrics.matching import ClassScores, ImageScores, MatchRule
from cellunet.metrics.summary import Estimate, Paired, ScoreTotals, Summary
from cellunet.tasks.evaluate import GROUPS
from cellunet.tasks.make_labels import MadeImage, MadeLabels
from cellunet.tasks.models import ModelInfo
from cellunet.tasks.predict.inputs import ImageResult, Predictions
from cellunet.tasks.train.request import Trained


def _session(*words: str) -> Session:
    return Session(argv=words, console=Console(), report=Console(), stop=StopRequest())


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


PAGE = Path(__file__).parents[2] / "docs" / "json.md"


def test_what_is_not_finite_becomes_null() -> None:
    values = {"a": float("nan"), "b": [float("inf"), -float("inf")], "c": 1.5}
    assert plain(values) == {"a": None, "b": [None, None], "c": 1.5}


def test_values_of_numpy_and_paths_become_plain() -> None:
    values = (np.float32("nan"), np.float64(0.5), np.int64(3), np.bool_(True))
    assert plain(values) == [None, 0.5, 3, True]
    assert plain({1: Path("ä")}) == {"1": "ä"}


def test_other_types_are_refused() -> None:
    with pytest.raises(TypeError, match="set has no form in JSON"):
        plain({"names": {1}})


def test_a_failure_is_told_as_message_and_hint() -> None:
    failure = Failure.of(DeviceError("No cuda.", hint="Try: --device cpu."))
    assert failure.type == "DeviceError"
    assert str(failure) == "No cuda. Try: --device cpu."


def test_a_document_says_who_wrote_it_and_how_it_ended() -> None:
    failure = Failure(type="Stopped", message="m")
    text = document("train", Outcome(code=130, result={"x": (1,)}, failure=failure))
    values = json.loads(text)
    assert list(values) == [
        "schema", "cellunet", "command", "ok", "exit_code", "error", "result",
    ]  # fmt: skip
    assert values["schema"] == SCHEMA
    assert values["ok"] is False
    assert values["error"] == {"type": "Stopped", "message": "m", "hint": ""}
    assert values["result"] == {"x": [1]}


def test_the_page_describes_the_schema_and_every_key_of_a_document() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert f"schema `{SCHEMA}`" in page
    values = json.loads(document(None, Outcome()))
    assert all(f"`{key}`" in page for key in values)


@pytest.mark.parametrize(
    "kind",
    [
        Trained, Predictions, ImageResult, ModelInfo, MadeLabels, MadeImage, Summary,
        Paired, ScoreTotals, Estimate, ClassScores, EvaluateConfig,
    ],
)  # fmt: skip
def test_the_page_describes_every_field_of_a_result(kind: type) -> None:
    page = PAGE.read_text(encoding="utf-8")
    names = [field.name for field in dataclasses.fields(kind)]
    assert [name for name in names if f"`{name}`" not in page] == []


def test_the_page_describes_the_scores_of_an_image_and_the_groups() -> None:
    page = PAGE.read_text(encoding="utf-8")
    scores = ImageScores(
        name="a",
        rule=MatchRule(),
        tp=(0,) * 10,
        true_objects=0,
        predicted_objects=0,
        merges=0,
        splits=0,
        matched_iou_sum=0.0,
    )
    keys = {*scores.to_dict(), *MatchRule().to_dict(), *GROUPS}
    assert {key for key in keys if f"`{key}`" not in page} == set()


INT, TERM = signal.SIGINT, signal.SIGTERM


def test_the_first_signal_is_a_wish_where_the_task_asks(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with listening() as stop:
        stop.graceful = True
        assert not stop()
        signal.raise_signal(INT)
        assert stop()
        assert stop.code == 130
    assert "once more stops at once" in capfd.readouterr().err


def test_a_terminal_that_shows_it_needs_no_line(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with listening() as stop:
        stop.graceful, stop.announce = True, False
        signal.raise_signal(TERM)
        assert stop.code == 143
    assert capfd.readouterr().err == ""


def test_the_second_signal_stops_at_once() -> None:
    with listening() as stop:
        stop.graceful, stop.announce = True, False
        signal.raise_signal(INT)
        with pytest.raises(StoppedNow):
            signal.raise_signal(TERM)
        assert stop.code == 143
        # A third one would find the system's handlers.
        assert signal.getsignal(INT) is signal.SIG_DFL


def test_the_first_signal_stops_at_once_where_nobody_asks() -> None:
    with listening(), pytest.raises(StoppedNow):
        signal.raise_signal(INT)


def test_handlers_are_as_before_afterwards() -> None:
    before = signal.getsignal(INT), signal.getsignal(TERM)
    with listening() as stop:
        assert signal.getsignal(INT) == stop.handle
    assert (signal.getsignal(INT), signal.getsignal(TERM)) == before


def test_a_signal_that_the_caller_ignores_stays_ignored() -> None:
    before = signal.signal(INT, signal.SIG_IGN)
    try:
        with listening() as stop:
            signal.raise_signal(INT)
            assert not stop()
    finally:
        signal.signal(INT, before)


def test_outside_the_main_thread_nothing_is_handled() -> None:
    before, seen = signal.getsignal(INT), []

    def work() -> None:
        with listening() as stop:
            seen.append((stop(), signal.getsignal(INT)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(False, before)]


def test_a_closed_standard_error_does_not_matter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(signals, "STDERR", 987)
    stop = StopRequest(graceful=True)
    stop.handle(INT, None)
    assert stop()


def test_systems_without_a_signal_do_without_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(signals, "NAMES", ("SIGINT", "SIGNONE"))
    assert signals._numbers() == [INT]


CHILD = """
import sys, time
from cellunet.cli.app import main
from cellunet.tasks import models

def wait():
    try:
        print("waiting", file=sys.stderr, flush=True)
        time.sleep(30)
    finally:
        print("tidied up", file=sys.stderr, flush=True)

models.list_models = wait
sys.exit(main(["models"]))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals to a process")
@pytest.mark.parametrize(("number", "code"), [(INT, 130), (TERM, 143)])
def test_a_process_ends_with_the_shells_code(number: int, code: int) -> None:
    words = [sys.executable, "-c", CHILD]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        assert process.stderr.readline() == "waiting\n"
        process.send_signal(number)
        told = process.stderr.read()
        assert process.wait() == code
    assert told == "tidied up\ncellunet: stopped.\n"
