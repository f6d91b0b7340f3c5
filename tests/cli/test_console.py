"""Text for people: lines, tables, progress, on a terminal and elsewhere."""

import io
import threading
import time

import pytest

from cellunet.cli.console import Bar, Console, duration, time_left

NAME = "plate [1] [bold]x[/bold] ä😀 :smile:.tif"


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_names_print_as_they_are(stream: io.StringIO) -> None:
    console = Console(stream)
    console.line(NAME)
    console.table([("image", "nuclei"), (NAME, "1,234")])
    assert stream.getvalue().count(NAME) == 2
    assert "1,234" in stream.getvalue()


def test_control_characters_are_spelled_out() -> None:
    stream = io.StringIO()
    Console(stream).line("a\x1b[2J\nb ä\u009b")
    assert stream.getvalue() == "a\\x1b[2J\\nb ä\\x9b\n"


def test_a_name_that_is_no_text_is_spelled_out() -> None:
    raw = io.BytesIO()
    console = Console(io.TextIOWrapper(raw, encoding="utf-8"))
    console.line("plate\udcff.tif")
    console.table([("image", "nuclei"), ("plate\udcff.tif", "7")])
    assert raw.getvalue().count(b"plate\\udcff.tif") == 2


def test_lines_are_never_broken_on_a_narrow_terminal(
    monkeypatch: pytest.MonkeyPatch, terminal: io.StringIO
) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    Console(terminal).error("x" * 100)
    assert "x" * 100 in terminal.getvalue()


def test_plain_tables_align_numbers_to_the_right() -> None:
    stream = io.StringIO()
    rows = [("image", "nuclei", ""), ("a", "7", "new"), ("long", "1,000", "")]
    Console(stream).table(rows, left=(0, 2))
    assert stream.getvalue() == ("image  nuclei\na           7  new\nlong    1,000\n\n")


def test_an_empty_header_is_left_away() -> None:
    stream = io.StringIO()
    Console(stream).table([("", ""), ("a", "1")])
    assert stream.getvalue() == "a  1\n\n"


def test_a_terminal_without_cursor_is_written_plainly(
    monkeypatch: pytest.MonkeyPatch, terminal: io.StringIO
) -> None:
    assert Console(terminal).live
    monkeypatch.setenv("TERM", "dumb")
    assert not Console(terminal).live
    assert not Console(io.StringIO()).live


def test_work_goes_on_when_nobody_reads_standard_error() -> None:
    class Closed(io.StringIO):
        writes = 0

        def write(self, text: str) -> int:
            self.writes += 1
            raise BrokenPipeError

    stream = Closed()
    console = Console(stream)
    console.line("one")
    console.line("two")
    assert stream.writes == 1


def test_durations_have_the_unit_that_a_person_would_use() -> None:
    spans = [0.04, 9.94, 9.96, 59.4, 60, 3599, 3600, 90_000]
    assert [duration(s) for s in spans] == [
        "0.0 s", "9.9 s", "10 s", "59 s", "1 min 00 s", "59 min 59 s", "1 h 00 min",
        "25 h 00 min",
    ]  # fmt: skip


def test_the_time_left_follows_from_the_time_passed() -> None:
    assert time_left(25, 100, 20) == "1 min 00 s left"
    assert time_left(0, 100, 20) == ""
    assert time_left(3, 2, 20) == ""


def _told(total: int | None, seconds_each: float, items: int) -> list[str]:
    clock, stream = Clock(), io.StringIO()
    bar = Bar(Console(stream), "Segmenting", total, clock)
    for done in range(1, items + 1):
        clock.now += seconds_each
        bar.update(done)
    bar.close()
    return stream.getvalue().splitlines()


def test_plain_progress_is_silent_over_what_takes_seconds() -> None:
    assert _told(50, 0.19, 50) == []


def test_plain_progress_tells_every_ten_seconds_at_most() -> None:
    assert _told(8, 5, 8) == [
        "Segmenting: 2 of 8, 30 s left",
        "Segmenting: 4 of 8, 20 s left",
        "Segmenting: 6 of 8, 10 s left",
    ]


def test_plain_progress_over_hours_tells_every_tenth_or_minute() -> None:
    # 1,000 items of 1 s: a tenth is 100 s away, so a line every minute.
    lines = _told(1000, 1, 1000)
    assert lines[0] == "Segmenting: 60 of 1,000, 15 min 40 s left"
    assert len(lines) == 16


def test_plain_progress_without_a_total_counts() -> None:
    assert _told(None, 20, 2) == ["Segmenting: 1", "Segmenting: 2"]


def test_tracking_yields_the_items_unchanged(stream: io.StringIO) -> None:
    console = Console(stream)
    assert list(console.track([3, 1, 2], "Reading")) == [3, 1, 2]
    assert list(console.track(iter("ab"), "Reading", 2)) == ["a", "b"]
    assert list(console.track([], "Reading")) == []


def test_a_live_bar_shows_label_count_and_stop(terminal: io.StringIO) -> None:
    console = Console(terminal)
    for done in console.track(range(4), "Segmenting [x]"):
        if done == 2:
            console.stopping = lambda: True
            console.foot().refresh()
    shown = terminal.getvalue()
    assert "Segmenting [x]" in shown
    assert "2/4" in shown
    assert "stopping (again: at once)" in shown


def test_live_bars_nest_and_leave_no_thread_behind(terminal: io.StringIO) -> None:
    before = threading.active_count()
    console = Console(terminal)
    for _ in console.track(range(2), "outer"):
        for _ in console.track(range(2), "inner"):
            console.line("a line above")
    deadline = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() == before


def test_a_loop_that_breaks_takes_its_bar_away(terminal: io.StringIO) -> None:
    console = Console(terminal)
    loop = console.track(range(9), "Reading")
    next(loop)
    loop.close()  # type: ignore[attr-defined]
    assert console._progress is None
