"""What is counted of a pass over images: its loss, and which classes were taken."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from cellunet.core.dataset import Batch


@dataclass(kw_only=True)
class Tally:
    """Running sums of one pass: loss, annotated pixels, and a confusion matrix."""

    classes: int
    loss_sum: float = 0.0
    pixels: int = 0
    confusion: npt.NDArray[np.int64] = field(
        default_factory=lambda: np.zeros((0, 0), np.int64)
    )

    def __post_init__(self) -> None:
        if not self.confusion.size:
            self.confusion = np.zeros((self.classes, self.classes), np.int64)

    def add(self, loss: float, pixels: int, logits: torch.Tensor, batch: Batch) -> None:
        """Add a batch: its mean loss over `pixels`, and predicted against true."""
        self.loss_sum += loss * pixels
        self.pixels += pixels
        # One number a pixel, true and predicted class, and one for what does not count.
        beyond = self.classes**2
        cells = batch.class_map.to(torch.int16) * self.classes + likeliest(logits)
        cells.masked_fill_(batch.weight_map <= 0, beyond)
        counts = torch.bincount(cells.flatten(), minlength=beyond + 1)[:beyond]
        self.confusion += counts.cpu().numpy().reshape(self.classes, self.classes)

    @property
    def loss(self) -> float:
        """Mean loss over the annotated pixels."""
        return self.loss_sum / max(self.pixels, 1)

    def summary(self, prefix: str, names: Sequence[str]) -> dict[str, float]:
        """Return loss, and precision and recall of each class; nan where undefined."""
        hits = np.diag(self.confusion).astype(float)
        with np.errstate(invalid="ignore"):
            precision = hits / self.confusion.sum(axis=0)
            recall = hits / self.confusion.sum(axis=1)
        values = {f"{prefix}_loss": self.loss}
        for i, name in enumerate(names):
            values[f"{prefix}_precision_{name}"] = float(precision[i])
            values[f"{prefix}_recall_{name}"] = float(recall[i])
        return values


def likeliest(logits: torch.Tensor) -> torch.Tensor:
    """Return the class of the greatest logit, NYX uint8, of NKYX; the first of equals.

    Class by class over whole planes: `argmax` along a short axis takes twice as long
    on a CPU.
    """
    best, *others = logits.unbind(dim=1)
    found = torch.zeros(best.shape, dtype=torch.uint8, device=best.device)
    for number, plane in enumerate(others, 1):
        greater = plane > best
        if number == 1:
            found = greater.to(torch.uint8)
        else:
            found.masked_fill_(greater, number)
        best = torch.maximum(best, plane)
    return found
