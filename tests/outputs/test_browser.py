"""The page in a real Chromium: skipped, with the reason, where there is none."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from cellunet.outputs.report import ImageSummary, write_report
from tests.browser import Page, browser, find
from tests.outputs.test_report import HOSTILE

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        find() is None, reason="needs Chromium (Debian: apt-get install chromium)"
    ),
]
SIZES = {"desktop": (1280, 900, False), "phone": (390, 844, True)}
RETURN, SPACE = {"code": 13, "typed": "\r"}, {"code": 32, "typed": " "}


@pytest.fixture(scope="module")
def chromium():
    with browser() as page:
        yield page


@pytest.fixture
def opened(chromium: Page, tmp_path, run_summary):
    """``opened(images, script=True)``: the page of images, at desktop size."""

    def show(*images: ImageSummary, script: bool = True) -> Page:
        write_report(tmp_path / "report.html", run_summary, lambda: images)
        chromium.call("Emulation.setScriptExecutionDisabled", value=not script)
        chromium.size(1280, 900)
        chromium.media()
        chromium.open(tmp_path / "report.html")
        return chromium

    yield show
    chromium.call("Emulation.setScriptExecutionDisabled", value=False)


@pytest.fixture
def plate(make_image) -> list[ImageSummary]:
    """130 images: three to look at, one failed."""
    images = [make_image(f"well {i}.tif", 1 + i % 90) for i in range(130)]
    images[7] = make_image("well 7.tif", 8, warnings=("Soft edges.",))
    images[8] = make_image("well 8.tif", 0)
    images[9] = make_image("well 9.tif", 10, warnings=("Bright.", "Soft edges."))
    images[10] = ImageSummary(name="well 10.tif", status="failed", error="Cut off.")
    return images


def names(page: Page) -> list[str]:
    return page.run(
        '[...document.querySelectorAll("#images tbody th bdi")].map(e => e.innerText)'
    )


def focus(page: Page) -> str:
    return page.run('(document.activeElement.id || "") + document.activeElement.text')


def test_the_page_asks_for_nothing_and_complains_of_nothing(opened, plate) -> None:
    page = opened(*plate)
    assert [u.rpartition("/")[2] for u in page.requested()] == ["report.html"]
    assert page.complaints() == []
    # Images are loaded when they come into view, and drawn a moment later.
    image = "document.querySelector('#images img')"
    drawn = f"{image}.decode().then(() => {image}.naturalWidth)"
    assert page.run(drawn) == plate[0].thumbnail_size[0]


def test_nothing_in_a_name_is_executed(opened, make_image) -> None:
    images = [
        make_image(n, warnings=(n,), link=n, plane=n, thumbnail_size=(9, 9))
        for n in HOSTILE
    ]
    page = opened(*images)
    assert page.complaints() == []
    assert not [e for e in page.events if e.get("method", "").startswith("Page.java")]
    shown = names(page)
    assert shown[0] == HOSTILE[0]
    assert shown[5] == r"a\u2028b\u202egpj\u2066.tif"
    links = page.run('[...document.querySelectorAll("a[title]")].map(a => a.protocol)')
    assert set(links) == {"file:"}


def test_markup_that_slipped_through_would_still_not_run(
    chromium, tmp_path, run_summary, make_image
) -> None:
    path = tmp_path / "report.html"
    write_report(path, run_summary, lambda: [make_image("a")])
    injected = (
        '<h1><script>window.broken = 1</script><img src="data:," '
        'onerror="window.broken = 1"><img src="https://example.org/pixel.png">'
    )
    page = path.read_text(encoding="utf-8").replace("<h1>", injected)
    path.write_text(page, encoding="utf-8")
    chromium.open(path)
    chromium.run("new Promise(done => setTimeout(done, 200))")
    assert chromium.run("window.broken === undefined")
    refused = [w for w in chromium.complaints() if "Content Security Policy" in w]
    assert len(refused) == 3


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_is_accessible(size, scheme, opened, plate) -> None:
    spec = importlib.util.find_spec("axe_core_python")
    if spec is None or spec.origin is None:
        pytest.skip("needs axe-core (pip install axe-core-python)")
    page = opened(*plate)
    width, height, phone = SIZES[size]
    page.size(width, height, phone=phone)
    page.media(prefers_color_scheme=scheme)
    axe = Path(spec.origin).with_name("axe.min.js").read_text(encoding="utf-8")
    page.run(f"{axe}; true")
    found = page.run("axe.run().then(found => found.violations)")
    assert [(v["id"], v["nodes"][0]["html"][:200]) for v in found] == []
    assert page.run("document.documentElement.scrollWidth") <= width


def test_the_table_is_shown_page_by_page(opened, plate) -> None:
    page = opened(*plate)
    assert len(names(page)) == 50
    assert page.run('document.getElementById("said").innerText') == (
        "Images 1 to 50 of 130."
    )
    page.run('document.getElementById("next").focus()')
    page.press("Enter", **RETURN)
    assert names(page)[0] == "well 50.tif"
    assert focus(page).startswith("all")


def test_columns_are_sorted_from_the_keyboard(opened, plate) -> None:
    page = opened(*plate)
    head = "document.querySelector('[data-sort=n]')"
    page.run(f"{head}.querySelector('button').focus()")
    page.press("Enter", **RETURN)
    assert page.run(f"{head}.ariaSort") == "descending"
    counts = page.run(
        '[...document.querySelectorAll("#images tbody tr")].map(r => +r.dataset.n)'
    )
    assert counts == sorted(counts, reverse=True)
    assert counts[0] == 90
    page.press(" ", **SPACE)
    assert page.run(f"{head}.ariaSort") == "ascending"
    assert names(page)[0] == "well 8.tif"


def test_names_are_sorted_as_people_count(opened, plate) -> None:
    page = opened(*reversed(plate))
    page.run("document.querySelector('[data-sort=name] button').click()")
    assert names(page)[:3] == ["well 0.tif", "well 1.tif", "well 2.tif"]


def test_what_failed_is_last_whichever_way_it_is_sorted(opened, plate) -> None:
    page = opened(*plate[:12])
    for _ in range(2):
        page.run("document.querySelector('[data-sort=n] button').click()")
        assert names(page)[-1] == "well 10.tif"


def test_the_table_is_filtered_by_typing_and_by_kind(opened, plate) -> None:
    page = opened(*plate)
    page.run('document.getElementById("name").focus()')
    for letter in "WELL 12":
        page.press(letter, typed=letter)
    page.run("new Promise(done => setTimeout(done, 400))")
    assert len(names(page)) == 11
    told = page.run('document.getElementById("said").innerText')
    assert told == "Images 1 to 11 of 11 found among 130."
    page.run(
        '(() => { const k = document.getElementById("kind"); k.value = "look";'
        'document.getElementById("name").value = "";'
        'k.dispatchEvent(new Event("change")); })()'
    )
    assert names(page) == [f"well {i}.tif" for i in (7, 8, 9, 10)]


def test_a_link_of_the_first_section_leads_to_its_row(opened, plate) -> None:
    plate[120] = plate[7]
    plate[7] = plate[0]
    page = opened(*plate)
    page.run("document.querySelector('.cards a[href=\"#i121\"]').focus()")
    page.press("Enter", **RETURN)
    page.run("new Promise(done => setTimeout(done, 200))")
    assert focus(page).startswith("i121")


def test_without_script_every_image_is_in_a_plain_table(opened, plate) -> None:
    page = opened(*plate, script=False)
    shown = page.run(
        '[...document.querySelectorAll("#images tbody tr")]'
        ".filter(r => r.offsetHeight > 0).length"
    )
    assert shown == 130
    assert page.run('document.getElementById("controls").offsetHeight') == 0
    assert page.run('document.getElementById("pages").offsetHeight') == 0


def test_on_paper_there_are_rows_and_no_controls(opened, plate) -> None:
    page = opened(*plate)
    page.media("print")
    assert page.run('document.getElementById("controls").offsetHeight') == 0
    assert page.run('document.querySelector("#images tr").offsetHeight') > 0
    pdf = page.call("Page.printToPDF")["data"]
    assert pdf.startswith("JVBERi")


def test_five_thousand_images_lay_out_one_page_of_rows(opened, make_image) -> None:
    page = opened(*(make_image(f"{i}.tif", 1 + i % 200) for i in range(5000)))
    assert page.run('document.querySelectorAll("#images tbody tr").length') == 50
    page.run("document.querySelector('[data-sort=n] button').click()")
    assert names(page)[0] == "199.tif"
    assert page.complaints() == []
