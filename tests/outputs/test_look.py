"""The images that need a look come first, however many there are."""

from __future__ import annotations

from cellunet.outputs.report import (
    CONFIDENCE_STEP,
    FEWEST_CARDS,
    MOST_CARDS,
    MOST_ERRORS,
    NO_OBJECTS,
    Histogram,
    ImageSummary,
    LookFirst,
    reasons,
)


def certain(value: float) -> Histogram:
    return Histogram.of([value], CONFIDENCE_STEP, top=1.0)


def looked(*images: ImageSummary) -> LookFirst:
    look = LookFirst()
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
