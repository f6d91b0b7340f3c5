"""Shapes that people draw, and how they become labels.

Readers of ROI sets, GeoJSON, COCO and labelme turn what they find into `Drawing`, and
`paint` puts all drawings of one image together by one rule. Lines, clicks and brushed
areas that say "inside an object" or "background" are scribbles
(`cellunet.imaging.drawn.scribbles`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from cellunet.errors import AnnotationError
from cellunet.imaging.drawn.annotation_types import Annotation
from cellunet.imaging.drawn.scribbles import BACKGROUND, INTERIOR, with_scribbles

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt

    from cellunet.imaging.drawn.figures import Figure

Role = Literal["object", "ignore", "region", "background", "interior"]
MAX_NAMED = 3
BAND_PX = 512
"""Rows that are looked at at once."""
# QuPath writes "Ignore*" and "Region*"; Fiji numbers names that come twice, "ignore-1".
_NUMBERED = r"\*?([-_. ]?\d+)?"
_SPECIAL = re.compile(rf"(ignore|region|background|interior){_NUMBERED}", re.IGNORECASE)
_STROKE = re.compile(
    rf"(background|(interior|object|cell|nucleus)){_NUMBERED}", re.IGNORECASE
)


@dataclass(frozen=True)
class Drawing:
    """One thing that was drawn.

    Parameters
    ----------
    name
        By which a person finds it again.
    figure
        What it encloses.
    role
        ``object``; ``ignore``, a part of the image that says nothing; ``region``, a
        part that is annotated, where only parts are; ``background`` and ``interior``,
        scribbles.
    """

    name: str
    figure: Figure
    role: Role = "object"


def role_of(class_name: object) -> Role:
    """Return what a class, label or ROI name makes of an area.

    ``ignore``, ``region``, ``background`` and ``interior``, whatever the case, also
    with a star or a number behind.

    Examples
    --------
    >>> [role_of(name) for name in ("Ignore*", "region-2", "ignored", None)]
    ['ignore', 'region', 'object', 'object']
    """
    found = _matched(_SPECIAL, class_name)
    return "object" if found is None else found[1].lower()  # type: ignore[return-value]


def stroke_role(class_name: object) -> Role | None:
    """Return what a class, label or ROI name makes of a line or a click.

    ``nucleus``, ``cell`` and ``object`` mean ``interior`` here: who clicks on a
    nucleus does not say where it ends. None if the name does not tell.

    Examples
    --------
    >>> [stroke_role(name) for name in ("Nucleus", "background-2", "spot")]
    ['interior', 'background', None]
    """
    found = _matched(_STROKE, class_name)
    if found is None:
        return None
    return "interior" if found[2] else "background"


def _matched(pattern: re.Pattern[str], name: object) -> re.Match[str] | None:
    return pattern.fullmatch(name.strip()) if isinstance(name, str) else None


def paint(
    drawings: Sequence[Drawing], shape: tuple[int, int], path: Path, kind: str
) -> Annotation:
    """Put drawings together to labels, numbered from 1 in their order.

    A pixel that several objects claim goes to the smallest of them (then to the one
    drawn first): so no object disappears under a larger one, and the result does not
    depend on an order that programs change when they save.

    Parameters
    ----------
    drawings
        Objects, ignored parts, annotated regions and scribbles.
    shape
        Rows and columns of the image.
    path, kind
        Where they come from and how they were drawn.

    Raises
    ------
    AnnotationError
        If half of the objects or of the scribbles lie outside the image, or a figure
        cannot be filled.
    """
    canvas = _Canvas(shape, path, len(drawings))
    for drawing in drawings:
        canvas.add(drawing)
    return canvas.annotation(kind)


class _Canvas:
    """Labels in the making."""

    def __init__(self, shape: tuple[int, int], path: Path, count: int) -> None:
        self.shape, self.path = shape, path
        self.labels = np.zeros(shape, np.int32)
        self.areas = np.zeros(count + 1, np.int64)
        self.twice = np.zeros(shape, np.bool_)
        self.parts: dict[str, npt.NDArray[np.bool_]] = {}
        self.objects = self.strokes = 0
        self.outside: list[str] = []
        self.lost: list[str] = []
        self.crossing: list[str] = []

    def add(self, drawing: Drawing) -> None:
        """Draw one more."""
        try:
            window, inside, crosses, outside = drawing.figure.fill(self.shape)
        except AnnotationError as error:
            raise AnnotationError(
                f"{self.path}: {drawing.name}: {error.message}", hint=error.hint
            ) from error
        if crosses:
            self.crossing.append(drawing.name)
        if drawing.role in ("background", "interior"):
            self.strokes += 1
            self.lost += [drawing.name] if outside else []
        if drawing.role != "object":
            part = self.parts.setdefault(drawing.role, np.zeros(self.shape, np.bool_))
            part[window] |= inside
            return
        self.objects += 1
        if outside:
            self.outside.append(drawing.name)
            return
        self._claim(window, inside)

    def _claim(
        self, window: tuple[slice, slice], inside: npt.NDArray[np.bool_]
    ) -> None:
        number, area = self.objects, int(np.count_nonzero(inside))
        self.areas[number] = area
        labels = self.labels[window]
        taken = labels > 0
        self.twice[window] |= inside & taken
        labels[inside & (~taken | (self.areas[labels] > area))] = number

    def annotation(self, kind: str) -> Annotation:
        """Return what came of it."""
        self._refuse_elsewhere(self.outside, self.objects, "objects")
        self._refuse_elsewhere(self.lost, self.strokes, "scribbles")
        seen = np.zeros(self.objects + 1, np.bool_)
        for y0 in range(0, self.shape[0], BAND_PX):
            # In bands, since an index is widened to 8 bytes a pixel.
            seen[self.labels[y0 : y0 + BAND_PX]] = True
        found = Annotation(
            self.labels,
            kind,
            overlap_px=int(np.count_nonzero(self.twice)),
            hidden=int(np.count_nonzero(~seen[1:])) - len(self.outside),
            annotated=self._annotated(),
            outside=len(self.outside),
            notes=tuple(self._notes()),
        )
        if not self.strokes:
            return found
        return with_scribbles(found, self._scribbles(), self.parts.get("ignore"))

    def _refuse_elsewhere(self, names: list[str], count: int, what: str) -> None:
        if names and 2 * len(names) >= count:
            raise AnnotationError(
                f"{self.path}: {len(names)} of {count} {what} lie outside the image of "
                f"{self.shape[1]} x {self.shape[0]} px (width x height): "
                f"{some(names)}.",
                hint="Were they drawn on another image, or saved at another scale?",
            )

    def _scribbles(self) -> npt.NDArray[np.uint8]:
        """Return what is scribbled; a pixel said to be both says nothing."""
        nowhere = np.zeros(self.shape, np.bool_)
        background = self.parts.get("background", nowhere)
        interior = self.parts.get("interior", nowhere)
        scribbles = np.zeros(self.shape, np.uint8)
        scribbles[background & ~interior] = BACKGROUND
        scribbles[interior & ~background] = INTERIOR
        return scribbles

    def _annotated(self) -> npt.NDArray[np.bool_] | None:
        if not self.parts:
            return None
        region, ignored = self.parts.get("region"), self.parts.get("ignore")
        if region is None:
            if self.strokes:
                # Who scribbles does not mean that all else is background.
                return None
            region = np.ones(self.shape, np.bool_)
        return region if ignored is None else region & ~ignored

    def _notes(self) -> list[str]:
        notes = []
        if self.outside:
            notes.append(
                f"{len(self.outside)} of {self.objects} objects lie outside the image "
                f"and are left out: {some(self.outside)}."
            )
        if self.lost:
            notes.append(
                f"{len(self.lost)} of {self.strokes} scribbles lie outside the image "
                f"and are left out: {some(self.lost)}."
            )
        if self.crossing:
            notes.append(
                f"Outlines that cross themselves ({len(self.crossing)}), filled by the "
                f"even-odd rule: {some(self.crossing)}."
            )
        return notes


def some(names: Sequence[str]) -> str:
    """Return the first names of a list, and how many more there are."""
    rest = len(names) - MAX_NAMED
    more = f" and {rest} more" if rest > 0 else ""
    return ", ".join(names[:MAX_NAMED]) + more
