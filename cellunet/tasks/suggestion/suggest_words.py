"""Why a crop was chosen, in words and numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cellunet.tasks.suggested import Crop

if TYPE_CHECKING:
    from cellunet.imaging.coverage import Choice
    from cellunet.tasks.suggested import SuggestRequest
    from cellunet.tasks.suggestion.candidates import Candidate

NOVEL = 0.5
"""Novelty from which on a crop is said to be unlike what is annotated."""


def described(
    request: SuggestRequest, candidate: Candidate, choice: Choice, name: str
) -> Crop:
    """Return a chosen window as it is told of; `name` is what its files begin with."""
    seen, side = candidate.seen, request.config.side_px
    plane = f"_p{candidate.plane}" if candidate.plane else ""
    return Crop(
        name=f"{name}{plane}_y{candidate.y}_x{candidate.x}",
        image=str(candidate.path),
        plane=candidate.plane,
        y=candidate.y,
        x=candidate.x,
        height=side,
        width=side,
        uncertainty=seen.doubt,
        novelty=choice.novelty,
        share=choice.share,
        objects=seen.objects,
        unsure=seen.unsure,
        why=_why(candidate, choice),
    )


def _why(candidate: Candidate, choice: Choice) -> str:
    """Return in words why a window was chosen."""
    seen = candidate.seen
    if not seen.objects:
        first = "no object found, but something suspected"
    elif seen.unsure:
        first = f"unsure of {seen.unsure} of {seen.objects} objects"
    else:
        first = f"{seen.objects} objects, unsure of their edges"
    parts = [first, f"stands for {choice.share:.0%} of all doubt"]
    if choice.novelty >= NOVEL:
        parts.append("unlike what is annotated or listed above")
    return "; ".join(parts)


def notes_of(request: SuggestRequest, *, small: int, found: int) -> tuple[str, ...]:
    """Return what to know: of so many images too small, and so many crops found."""
    side, notes = request.config.side_px, []
    if small:
        notes.append(
            f"Left out, as smaller than {side} x {side} pixels: "
            + ("1 image." if small == 1 else f"{small} images.")
        )
    if found < request.config.crops:
        notes.append(
            f"Only {found} of {request.config.crops} crops were found that show "
            "something and do not overlap."
        )
    return tuple(notes)
