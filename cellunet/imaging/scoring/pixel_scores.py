"""Precision and recall of each class of a class map, counted in pixels."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cellunet.errors import AnnotationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from cellunet.imaging.matching import Counts, Flags, Integers


@dataclass(frozen=True, kw_only=True)
class ClassScores:
    """How well the pixels of one class are found."""

    name: str
    """Name of the class."""
    precision: float | None
    """Share of the pixels predicted as the class that are; None: none is predicted."""
    recall: float | None
    """Share of the class's pixels that are predicted as it; None: there are none."""
    true_pixels: int
    """Pixels of the class."""
    predicted_pixels: int
    """Pixels predicted as the class."""

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values."""
        return dataclasses.asdict(self)


def confusion_matrix(
    class_map: Integers,
    predicted: Integers,
    *,
    classes: int,
    annotated: Flags | None = None,
) -> Counts:
    """Count the pixels of each pair of true and predicted class.

    Parameters
    ----------
    class_map, predicted
        True and predicted class numbers, 0 to `classes` - 1, of one shape.
    classes
        Number of classes.
    annotated
        True where the image is annotated, of the same shape; None: everywhere.

    Returns
    -------
    Counts
        int64 of shape (classes, classes); rows are true, columns predicted classes.

    Raises
    ------
    AnnotationError
        If the shapes differ or a class number is out of range.
    """
    shapes = {a.shape for a in (class_map, predicted, annotated) if a is not None}
    if len(shapes) > 1:
        raise AnnotationError(
            f"True classes are of shape {class_map.shape}, predicted ones of "
            f"{predicted.shape}; class maps of one image and shape are expected."
        )
    inside = slice(None) if annotated is None else annotated.ravel()
    true, found = class_map.ravel()[inside], predicted.ravel()[inside]
    for what, values in (("true", true), ("predicted", found)):
        if values.size and not 0 <= int(values.min()) <= int(values.max()) < classes:
            raise AnnotationError(
                f"The {what} classes are {values.min()} to {values.max()}; "
                f"0 to {classes - 1} are expected."
            )
    keys = true.astype(np.int64) * classes + found.astype(np.int64)
    counts: npt.NDArray[np.int64] = np.bincount(keys, minlength=classes**2)
    return counts.reshape(classes, classes)


def class_scores(confusion: Counts, names: Sequence[str]) -> tuple[ClassScores, ...]:
    """Return precision and recall of each class.

    Parameters
    ----------
    confusion
        Sum of the images' `confusion_matrix`, shape (classes, classes).
    names
        Names of the classes, in the order of their numbers.
    """
    return tuple(
        ClassScores(
            name=name,
            precision=float(hits / predicted) if predicted else None,
            recall=float(hits / true) if true else None,
            true_pixels=int(true),
            predicted_pixels=int(predicted),
        )
        for name, hits, true, predicted in zip(
            names,
            confusion.diagonal(),
            confusion.sum(axis=1),
            confusion.sum(axis=0),
            strict=True,
        )
    )
