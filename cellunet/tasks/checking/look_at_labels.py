"""Check one annotation: what its labels and its image tell without any other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cellunet.imaging.checks.fit_checks import brightness, fit_of, small_picture
from cellunet.imaging.checks.label_checks import check_labels
from cellunet.imaging.drawn.scribbles import scribbled_px
from cellunet.imaging.pairing import fingerprint
from cellunet.tasks.checked_labels import CheckedImage, Finding
from cellunet.tasks.checking.drawn_on import read_drawn_on

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from cellunet.config import CheckConfig
    from cellunet.imaging.annotation_sources import Drawn
    from cellunet.imaging.annotations import Annotation
    from cellunet.imaging.checks.fit_checks import Fit
    from cellunet.imaging.checks.label_checks import LabelChecks

MAX_IDS = 8


@dataclass(frozen=True, kw_only=True, eq=False)
class Looked:
    """One annotation, and what to compare with the others."""

    checked: CheckedImage
    """What is known of it alone; its name is still empty."""
    shape: tuple[int, ...]
    """Rows and columns."""
    areas_px: Sequence[int]
    """Area of every object."""
    fingerprint: str = ""
    """Of the image's pixels; empty without an image."""
    bright: npt.NDArray[np.float32] | None = None
    """Small picture of the image; None without an image or with nothing to see."""
    objects: npt.NDArray[np.float32] | None = None
    """Small picture of the objects."""


def look_at(
    one: Drawn, kind: str, ignore_value: int | None, config: CheckConfig
) -> Looked:
    """Read an annotation and check it.

    Raises
    ------
    CellunetError
        If it or its image cannot be read, or they differ in size.
    """
    found = read_drawn_on(one, kind=kind, ignore_value=ignore_value)
    annotation, image = found.annotation, found.image
    checks = check_labels(annotation.labels, config)
    fit = None
    if image is not None:
        fit = fit_of(image, annotation.labels, annotation.annotated, config)
    findings = [*_of_labels(checks, annotation), *_of_fit(fit, config)]
    comparable = image is not None and fit is not None and annotation.annotated is None
    return Looked(
        checked=CheckedImage(
            name="",
            objects=len(checks.areas_px),
            areas_px=_spread(checks.areas_px),
            annotated_share=_share(annotation),
            scribbled_px=scribbled_px(annotation.scribbles),
            correlation=None if fit is None else round(fit.here, 4),
            findings=tuple(findings),
        ),
        shape=annotation.labels.shape,
        areas_px=checks.areas_px,
        fingerprint="" if image is None else fingerprint(image),
        bright=small_picture(brightness(image)) if comparable else None,  # type: ignore[arg-type]
        objects=small_picture(annotation.labels > 0) if comparable else None,
    )


def _of_labels(checks: LabelChecks, annotation: Annotation) -> Iterator[Finding]:
    for kind, ids, text in (
        ("fragments", checks.fragments, "far smaller than the others"),
        ("pieces", checks.pieces, "in two or more pieces under one number"),
        ("holes", checks.holes, "with a hole"),
        ("several", checks.several, "large and not convex, perhaps several in one"),
    ):
        if ids:
            message = f"{_objects(len(ids))} {text}: {_listed(ids)}."
            yield Finding(kind=kind, message=message, ids=ids)
    if annotation.outside:
        message = f"{_objects(annotation.outside)} outside the image."
        yield Finding(kind="outside", message=message)
    if annotation.overlap_px:
        message = f"{annotation.overlap_px:,} px were claimed by two objects or more."
        yield Finding(kind="overlap", message=message)
    if annotation.hidden:
        message = f"{_objects(annotation.hidden)} without a pixel of their own."
        yield Finding(kind="hidden", message=message)
    if not checks.areas_px and annotation.scribbles is None:
        yield Finding(kind="empty", message="No object.")
    for note in annotation.notes[1 if annotation.outside else 0 :]:
        # The first tells what lies outside, which is a finding of its own.
        yield Finding(kind="note", message=note)


def _of_fit(fit: Fit | None, config: CheckConfig) -> Iterator[Finding]:
    if fit is None:
        return
    if fit.is_other(config):
        message = (
            f"Labels and image have nothing in common (correlation {fit.here:.2f}, "
            f"{fit.best:.2f} at best): do they belong together?"
        )
        yield Finding(kind="misfit", message=message)
    if fit.is_shifted(config):
        down, right = fit.shift_px
        message = (
            f"The labels fit better moved by {down} px down and {right} px to the "
            f"right (correlation {fit.best:.2f} instead of {fit.here:.2f})."
        )
        yield Finding(kind="shifted", message=message)


def _objects(count: int) -> str:
    return f"{count:,} object{'' if count == 1 else 's'}"


def _listed(ids: tuple[int, ...]) -> str:
    rest = len(ids) - MAX_IDS
    more = f" and {rest} more" if rest > 0 else ""
    return ", ".join(map(str, ids[:MAX_IDS])) + more


def _spread(areas: Sequence[int]) -> tuple[float, ...]:
    if not areas:
        return ()
    values: Any = np.percentile(areas, (0, 5, 50, 95, 100))
    return tuple(float(v) for v in values)


def _share(annotation: Annotation) -> float:
    if annotation.annotated is None:
        return 1.0
    return float(annotation.annotated.mean())
