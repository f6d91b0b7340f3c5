"""Sums by well and by sample, and how a report shows them."""

from __future__ import annotations

import math

import pytest

from cellunet.outputs import report
from cellunet.outputs.plates import MOST_GROUPS, Plates, Samples, WellSums, layout_of
from cellunet.outputs.report import ImageSummary, write_report


def image(objects: int = 0, **changes: object) -> ImageSummary:
    return ImageSummary(**{"name": "a", "status": "done", "objects": objects} | changes)


def test_wells_are_added_up_by_plate_whatever_their_form() -> None:
    plates = Plates()
    for well, plate, objects in (
        ("A01", "P1", 3),
        ("a1", "P1", 4),
        ("B02", "P1", 0),
        ("A01", "P2", 5),
    ):
        intensities = {"GFP": (10.0 * objects, objects)}
        columns = {"well": well, "plate": plate}
        plates.add(image(objects, columns=columns, intensities=intensities))
    plates.add(image(9))
    plates.add(image(9, columns={"well": "none"}))
    assert {
        name: {at: (s.images, s.objects) for at, s in wells.items()}
        for name, wells in plates.wells.items()
    } == {"P1": {(0, 0): (2, 7), (1, 1): (1, 0)}, "P2": {(0, 0): (1, 5)}}
    one = plates.wells["P1"]
    assert (one[0, 0].intensity("GFP"), one[0, 0].per_image) == (10, 3.5)
    assert math.isnan(one[1, 1].intensity("GFP"))
    assert plates.channels == ["GFP"]


def test_a_failed_image_adds_nothing() -> None:
    sums = WellSums()
    sums.add(image(status="failed"))
    assert (sums.images, sums.failed) == (0, 1)
    assert math.isnan(sums.per_image)


@pytest.mark.parametrize(
    ("last", "layout"),
    [
        ((0, 0), (8, 12)),
        ((7, 11), (8, 12)),
        ((8, 0), (16, 24)),
        ((0, 12), (16, 24)),
        ((16, 0), (32, 48)),
        ((31, 47), (32, 48)),
    ],
)
def test_the_smallest_plate_that_has_all_wells_is_drawn(last, layout) -> None:
    assert layout_of({(0, 0): WellSums(), last: WellSums()}) == layout


def test_samples_are_added_up_by_each_column_in_order() -> None:
    samples = Samples()
    for drug, dose in (("b", 10.0), ("a", 2.0), ("b", 2.0), ("", math.nan)):
        columns = {"well": "A01", "drug": drug, "dose": dose}
        samples.add(image(1, columns=columns))
    assert {
        name: [(value, sums.objects) for value, sums in groups]
        for name, groups in samples.tables()
    } == {
        "drug": [("a", 1), ("b", 2), ("not given", 1)],
        "dose": [("2", 2), ("10", 1), ("not given", 1)],
    }


def test_a_column_of_too_many_values_is_named_alone() -> None:
    samples = Samples()
    for number in range(MOST_GROUPS + 1):
        samples.add(image(columns={"name": f"s{number}", "drug": "x"}))
    assert [name for name, _ in samples.tables()] == ["drug"]
    assert samples.left_out == ["name"]


@pytest.fixture
def page(tmp_path, run_summary):
    def write(*images: ImageSummary) -> str:
        path = tmp_path / "report.html"
        write_report(path, run_summary, lambda: images)
        return path.read_text(encoding="utf-8")

    return write


def test_a_report_shows_each_plate_and_each_channel(page) -> None:
    made = [
        image(
            n,
            columns={"plate": plate, "well": well, "drug": "<b>"},
            intensities={"w1": (5.0 * n, n)},
        )
        for plate, well, n in (("P1", "A01", 3), ("P1", "H12", 0), ("P2", "P24", 7))
    ]
    text = page(*made)
    assert text.count("<figcaption>Objects per well") == 2
    assert text.count("<figcaption>Mean intensity, w1") == 2
    assert "Objects per well, 2 of 96 wells: from 0 in H12 to 3 in A01." in text
    assert "Mean intensity, w1, 1 of 96 wells: from 5 in A01 to 5 in A01." in text
    assert "Objects per well, 1 of 384 wells: from 7 in P24 to 7 in P24." in text
    assert "By <bdi>drug</bdi>" in text
    assert "plate P1, well A01, drug &lt;b&gt;" in text
    assert "<b>" not in text.replace("<bdi>", "")


@pytest.mark.parametrize(
    ("count", "said"), [(2, "1 more plate:"), (3, "2 more plates:")]
)
def test_plates_that_are_not_drawn_are_counted(page, monkeypatch, count, said) -> None:
    monkeypatch.setattr(report, "MOST_PLATES", 1)
    text = page(
        *(image(columns={"plate": f"P{n}", "well": "A01"}) for n in range(count))
    )
    assert f"{said} in the table of all objects alone." in text
    assert text.count("<figcaption>Objects per well") == 1


def test_a_report_without_wells_or_samples_says_nothing_of_them(page) -> None:
    text = page(image(3))
    assert "Objects per well" not in text
    assert 'id="samples"' not in text
    assert "<code>--save</code> table" not in text


def test_without_a_table_a_report_says_how_intensities_are_shown(page) -> None:
    text = page(image(3, columns={"well": "A01"}))
    assert "Objects per well" in text
    assert "Mean intensity" not in text
    assert "<code>--save</code> table" in text
