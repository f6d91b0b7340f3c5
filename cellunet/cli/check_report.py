"""What ``cellunet make-labels --check`` prints and returns."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from cellunet.bugs import REPORT
from cellunet.cli.console import counted
from cellunet.cli.jsonout import BUG, Failure, Outcome

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cellunet.cli.console import Console
    from cellunet.tasks.checked_labels import Checked, CheckedImage

NEEDS_PERSON = 4
MAX_ROWS = 20


def report_check(console: Console, checked: Checked) -> Outcome:
    """Print what was found and return it, with exit code 4 if a person should look."""
    flagged = [image for image in checked.images if image.needs_person]
    for image in flagged[:MAX_ROWS]:
        console.line(_line(image), "red")
    if len(flagged) > MAX_ROWS:
        console.line(f"and {counted(len(flagged) - MAX_ROWS, 'image')} more", "red")
    for kind, count in checked.counts.items():
        console.line(f"{kind}: {counted(count, 'image')}")
    objects = sum(image.objects for image in checked.images)
    console.line(
        f"{counted(objects, 'object')} in {counted(len(checked.images), 'image')} "
        f"({checked.layout}); {_sizes(checked)}",
        "bold",
    )
    for note in (*_of_parts(checked), *checked.notes):
        console.line(note)
    sheets = ", ".join(str(path) for path in checked.sheets[:3])
    more = ", ..." if len(checked.sheets) > 3 else ""
    console.line(f"Look at {sheets or 'nothing'}{more} and {checked.report}")
    if not flagged:
        return Outcome(result=checked.to_dict())
    failure = _failure(checked, flagged)
    met_bug = checked.counts.get("bug", 0) > 0
    if met_bug:
        failure = replace(failure, type="Bug", hint=REPORT)
    return Outcome(
        code=BUG if met_bug else NEEDS_PERSON,
        result=checked.to_dict(),
        failure=failure,
    )


def _line(image: CheckedImage) -> str:
    told = " ".join(f.message for f in image.findings if f.needs_person)
    return f"{image.name}: {told}"


def _of_parts(checked: Checked) -> Iterator[str]:
    """Yield how much of the images counts, where that is not all."""
    shares = [i.annotated_share for i in checked.images if 0 < i.annotated_share < 1]
    if shares:
        mean = sum(shares) / len(shares)
        yield (
            f"{counted(len(shares), 'image')} annotated in part (on average "
            f"{f'{mean:.0%}' if mean > 0.01 else 'less than 1%'}); the rest is dark on "
            "the sheets."
        )
    said = [i.scribbled_px for i in checked.images if any(i.scribbled_px)]
    if said:
        background, inside = map(sum, zip(*said, strict=True))
        yield (
            f"{counted(len(said), 'image')} with scribbles: {background:,} px of "
            f"background (white on the sheets), {inside:,} px inside objects (blue)."
        )


def _sizes(checked: Checked) -> str:
    if not checked.areas_px:
        return "no areas."
    low, middle, high = (checked.areas_px[p] for p in ("5", "50", "95"))
    return f"area {low:,.0f} to {high:,.0f} px (90 %), median {middle:,.0f}."


def _failure(checked: Checked, flagged: list[CheckedImage]) -> Failure:
    return Failure(
        type="NeedsPerson",
        message=f"{len(flagged)} of {counted(len(checked.images), 'annotation')} need "
        f"a person to look; the first: {_line(flagged[0])}",
        hint=f"Look at the contact sheets in {checked.out}, and correct what is wrong.",
    )
