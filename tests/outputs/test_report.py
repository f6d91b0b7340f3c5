"""The report: records, sums, what to look at first, a page that nothing can break."""

from __future__ import annotations

import base64
import errno
import hashlib
import json
import re
import tracemalloc
from dataclasses import replace
from html.parser import HTMLParser
from urllib.parse import unquote_to_bytes

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellunet.errors import OutputError
from cellunet.outputs.report import (
    CONFIDENCE_STEP,
    DIAMETER_STEP_PX,
    FEWEST_CARDS,
    GROUP,
    MOST_CARDS,
    MOST_ERRORS,
    NO_OBJECTS,
    Histogram,
    ImagesToReview,
    ImageSummary,
    ReportTotals,
    environment,
    from_json,
    link,
    reasons,
    source_hash,
    to_json,
    visible,
    write_report,
)


@pytest.fixture
def written(tmp_path, run_summary):
    def write(*images: ImageSummary, **changes: object) -> str:
        path = tmp_path / "report.html"
        write_report(path, replace(run_summary, **changes), lambda: images)
        return path.read_text(encoding="utf-8")

    return write


def rows(page: str) -> list[str]:
    return re.findall(r'<tr id="i\d+".*?</tr>', page, re.DOTALL)


def test_every_image_has_its_row_in_the_order_of_work(written, make_image) -> None:
    page = written(
        make_image("b.tif", 12),
        ImageSummary(name="cut.tif", status="failed", error="cut.tif is cut off."),
        make_image("a.tif", 1, status="skipped", warnings=("Soft edges.",)),
    )
    first, second, third = rows(page)
    assert "b.tif" in first
    assert "<td>12</td>" in first
    assert "cut.tif is cut off." in second
    assert "Failed" in second
    assert "Soft edges." in third
    assert "13 objects in 2 images, 1 of them finished by an earlier run" in page


def test_settings_versions_and_model_are_told(written, make_image) -> None:
    page = written(make_image("a"))
    for words in ("Magnification", "1.2.3", "nuclei", "background, interior", "masks"):
        assert words in page


def test_a_stopped_run_says_so(written, make_image) -> None:
    assert "Stopped before the end" in written(make_image("a"), stopped=True)
    assert "Stopped before the end" not in written(make_image("a"))


def test_a_batch_of_no_image_has_a_page(written) -> None:
    page = written()
    assert "There is no image to look at." in page
    assert rows(page) == []


def test_the_policy_permits_the_pages_own_style_and_scripts_alone(
    written, make_image
) -> None:
    page = written(make_image("a"))
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)
    assert policy is not None
    rules = dict(
        rule.strip().split(" ", 1) for rule in policy[1].split(";") if " " in rule
    )
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data:"
    scripts = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    styles = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    assert rules["script-src"].split() == [source_hash(s) for s in scripts]
    assert rules["style-src"].split() == [source_hash(s) for s in styles]
    assert "unsafe" not in policy[1]


def test_nothing_outside_the_page_is_named(written, make_image) -> None:
    page = written(make_image("a", link="a_outlines.png"))
    addresses = re.findall(r'(?:src|srcset|href)="([^"]{0,40})', page)
    assert addresses
    assert {a.partition(",")[0] for a in addresses} == {
        "data:image/webp;base64",
        "data:image/svg+xml;base64",
        "#all",
        "#i1",
        "./a_outlines.png",
    }
    assert "http" not in page.replace("http-equiv", "")


class Elements(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, tuple[str, ...]]] = []

    def handle_starttag(self, tag, attrs) -> None:
        self.found.append((tag, tuple(name for name, _ in attrs)))


def elements(page: str) -> list[tuple[str, tuple[str, ...]]]:
    """Every element of the page with the names of its attributes."""
    parser = Elements()
    parser.feed(page)
    parser.close()
    return parser.found


HOSTILE = (
    '<script>alert("x")</script>.tif',
    '"><img src=x onerror=alert(1)>.tif',
    "'onmouseover='alert(1).tif",
    "</script><!--<script>.tif",
    "$rows ${title} %(x)s {name}.tif",
    "a\u2028b\u202egpj\u2066.tif",
    "&lt;b&gt;.tif",
    "half \udcff.tif",
)


@pytest.mark.slow
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_shown_and_not_obeyed(name, written, make_image) -> None:
    harmless = written(make_image("x", warnings=("x",), plane="x", link="x"))
    page = written(make_image(name, warnings=(name,), plane=name, link=name))
    assert elements(page) == elements(harmless)
    assert not re.search("[\u2028\u2029\u202a-\u202e\u2066-\u2069]", page)
    failed = ImageSummary(name=name, status="failed", error=name)
    kept = written(failed, folder=name, results=name, model={name: [name, {name: 1}]})
    assert kept.count("<script>") == 2


def test_rows_come_in_groups_that_a_browser_can_leave_out(written, make_image) -> None:
    page = written(*[make_image("a", thumbnail=b"")] * (2 * GROUP + 1))
    groups = page.split("<tbody>")[-3:]
    assert [len(rows(g)) for g in groups] == [GROUP, GROUP, 1]


def test_beyond_a_number_only_images_to_look_at_have_pictures(
    tmp_path, run_summary, make_image
) -> None:
    images = [make_image("a")] * 5 + [make_image("w", warnings=("x",))] * 5
    path = tmp_path / "report.html"
    write_report(path, run_summary, lambda: images, most_pictures=3)
    pictured = ["<img" in row for row in rows(path.read_text(encoding="utf-8"))]
    assert pictured == [True] * 3 + [False] * 2 + [True] * 3 + [False] * 2


@pytest.mark.slow
def test_memory_does_not_grow_with_the_batch(tmp_path, run_summary, make_image) -> None:
    picture = 200_000

    def batch(count: int):
        for i in range(count):
            yield make_image(f"{i}.tif", thumbnail=bytes([i % 256]) * picture)

    peaks = []
    for count in (40, 120):
        tracemalloc.start()
        write_report(tmp_path / "report.html", run_summary, lambda n=count: batch(n))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # 80 more pictures are 16 MB, 21 MB as text.
    assert peaks[1] < peaks[0] + 3e6
    assert (tmp_path / "report.html").stat().st_size > 120 * picture


def test_a_page_appears_complete_or_not_at_all(
    tmp_path, run_summary, make_image
) -> None:
    def broken():
        yield make_image("a")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OutputError, match="no room"):
        write_report(tmp_path / "report.html", run_summary, broken)
    assert list(tmp_path.iterdir()) == []


def certain(value: float) -> Histogram:
    return Histogram.of([value], CONFIDENCE_STEP, top=1.0)


def looked(*images: ImageSummary) -> ImagesToReview:
    look = ImagesToReview()
    for number, image in enumerate(images, 1):
        look.add(number, image)
    return look


def test_failures_warnings_and_empty_images_are_reasons(make_image) -> None:
    assert reasons(make_image("a")) == ()
    assert reasons(make_image("a", 0)) == (NO_OBJECTS,)
    assert reasons(make_image("a", 0, warnings=("dark",))) == ("dark",)
    assert reasons(ImageSummary(name="a", status="failed", error="cut")) == ("cut",)


def test_more_warnings_come_first_then_less_confidence(make_image) -> None:
    look = looked(
        make_image("one", warnings=("x",), confidences=certain(0.9)),
        make_image("less certain", warnings=("x",), confidences=certain(0.5)),
        make_image("two", warnings=("x", "y"), confidences=certain(0.9)),
    )
    assert [i.name for _, i, _ in look.cards()] == ["two", "less certain", "one"]
    assert [n for n, _, _ in look.cards()] == [3, 2, 1]


def test_a_batch_without_remarks_shows_the_least_certain(make_image) -> None:
    images = [
        make_image(str(i), confidences=certain(0.51 + i / 50)) for i in range(20, 0, -1)
    ]
    look = looked(*images)
    assert look.count == 0
    names = [image.name for _, image, _ in look.cards()]
    assert names == [str(i) for i in range(1, FEWEST_CARDS + 1)]


def test_no_more_images_are_held_than_are_shown(make_image) -> None:
    failed = ImageSummary(name="f", status="failed", error="cut")
    warned = make_image("w", warnings=("x",))
    look = looked(*[failed] * 500, *[warned] * 500, *[make_image("fine")] * 500)
    assert look.count == 1000
    assert len(look.failed) == MOST_ERRORS
    assert len(look.cards()) == MOST_CARDS
    held = len(look._worst) + len(look._least)
    assert held <= MOST_CARDS + FEWEST_CARDS


def test_a_record_comes_back_under_the_name_given(make_image) -> None:
    image = make_image(
        "field 1",
        7,
        warnings=("soft",),
        plane="plane 2 of 3",
        pixel_size_um=(0.5, 0.25),
    )
    again, of = from_json(to_json(image, "labels"), "field 1")
    assert again == image
    assert of == "labels"


def test_what_is_not_known_stays_unknown(make_image) -> None:
    image = make_image("a", 0, confidences=None, thumbnail=b"", thumbnail_size=(0, 0))
    assert from_json(to_json(image, ""), "a")[0] == image


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "null",
        "{}",
        '{"format": 99}',
        "[" * 100_000,
        b"\xff\xfe",
    ],
)
def test_anything_else_is_no_record(content) -> None:
    with pytest.raises(ValueError, match=r".+"):
        from_json(content, "a")


@pytest.mark.parametrize("key", ["thumbnail", "diameters", "seconds", "of"])
def test_a_record_without_a_part_is_refused(key, make_image) -> None:
    values = json.loads(to_json(make_image("a"), "x"))
    del values[key]
    with pytest.raises(ValueError, match=r".+"):
        from_json(json.dumps(values), "a")


values = st.lists(st.floats(0, 500), min_size=1, max_size=60)


def test_bins_hold_their_lower_edge_and_not_their_upper() -> None:
    assert Histogram.of([0.0, 0.49, 0.5, 1.2], 0.5).counts == {0: 2, 1: 1, 2: 1}


@given(values, st.sampled_from([0.05, 0.5, 0.95]))
def test_a_quantile_is_within_a_bin_of_the_truth(found, share) -> None:
    told = Histogram.of(found, 0.5).quantile(share)
    low = np.percentile(found, 100 * share, method="lower")
    high = np.percentile(found, 100 * share, method="higher")
    assert low - 0.5 <= told <= high + 0.5


@given(st.lists(st.integers(0, 300), min_size=1, max_size=20))
def test_the_median_of_whole_numbers_is_exact(found) -> None:
    assert Histogram.of(found, 1.0).median() == np.median(found)


@given(values)
def test_the_mean_is_within_half_a_bin_of_the_truth(found) -> None:
    mean = Histogram.of(found, 0.5).mean()
    assert mean == pytest.approx(np.mean(found), abs=0.2501)


@given(values, values)
def test_the_sum_of_two_counts_both(first, second) -> None:
    totals = ReportTotals()
    for part in (first, second):
        diameters = Histogram.of(part, DIAMETER_STEP_PX)
        totals.add(ImageSummary(name="a", status="done", diameters=diameters))
    both = Histogram.of([*first, *second], DIAMETER_STEP_PX)
    assert totals.diameters == both.counts


def test_without_values_nothing_is_told() -> None:
    empty = Histogram(step=1.0)
    assert (empty.total, empty.median(), empty.mean()) == (0, None, None)


def test_a_record_of_another_step_is_none(make_image) -> None:
    record = json.loads(to_json(make_image("a"), "x"))
    record["diameters"][0] = 0.25
    with pytest.raises(ValueError, match="step"):
        from_json(json.dumps(record), "a")


class Seen(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, list[tuple[str, str | None]]]] = []
        self.data = ""

    def handle_starttag(self, tag, attrs) -> None:
        self.tags.append((tag, attrs))

    def handle_data(self, data) -> None:
        self.data += data


TEMPLATE = environment().from_string('<p title="{{ value }}">{{ value }}</p>')


@pytest.mark.slow
@given(st.text())
def test_any_text_comes_back_as_text_and_as_an_attribute(value) -> None:
    seen = Seen()
    seen.feed(TEMPLATE.render(value=value))
    seen.close()
    assert seen.tags == [("p", [("title", visible(value))])]
    assert seen.data == visible(value)


@pytest.mark.parametrize(
    "hidden", ["\u202e", "\u2066", "\u2028", "\u2029", "\x00", "\n", "\ufeff", "\udcff"]
)
def test_what_is_not_seen_is_spelled_out(hidden) -> None:
    shown = visible(f"a{hidden}b")
    assert shown == f"a\\u{ord(hidden):04x}b"
    shown.encode("utf-8")


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0")))
def test_an_address_is_a_path_below_and_comes_back(path) -> None:
    address = link(path)
    assert address.startswith("./")
    assert set(address) <= set(
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789%/_.-~"
    )
    assert unquote_to_bytes(address[2:]) == path.encode()


def test_a_hash_is_that_of_the_policy() -> None:
    digest = base64.b64encode(hashlib.sha256(b"x").digest()).decode()
    assert source_hash("x") == f"'sha256-{digest}'"
