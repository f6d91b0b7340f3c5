"""The page as text: complete, self-contained, of any size, and never half there."""

from __future__ import annotations

import errno
import re
import tracemalloc
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from cellunet.errors import OutputError
from cellunet.outputs.report import GROUP, ImageSummary, source_hash, write_report


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
