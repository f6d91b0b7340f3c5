"""Ctrl-C and SIGTERM: the first is a wish, the second an order."""

import signal
import subprocess
import sys
import threading

import pytest

from cellunet.cli import session as signals
from cellunet.cli.session import Stop, StoppedNow, listening

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
    stop = Stop(graceful=True)
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
