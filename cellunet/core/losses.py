"""Compute losses from (logits, class map, weight map) and the number of pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from torch.nn import functional

if TYPE_CHECKING:
    import torch


class Loss(Protocol):
    """A loss over a batch of crops."""

    def __call__(
        self,
        logits: torch.Tensor,
        class_map: torch.Tensor,
        weight_map: torch.Tensor,
        annotated_px: torch.Tensor | float | None = None,
    ) -> torch.Tensor:
        """Return a scalar."""


def cross_entropy(
    logits: torch.Tensor,
    class_map: torch.Tensor,
    weight_map: torch.Tensor,
    annotated_px: torch.Tensor | float | None = None,
) -> torch.Tensor:
    """Return L = -sum_ij w_ij log p_ij(true class) / N.

    Ronneberger et al. (2015), eq. 1, divided by the number of annotated pixels (not by
    the sum of the weights), so that a batch with much boundary counts for more.

    Parameters
    ----------
    logits
        NKYX; p is their softmax over K, computed in float32.
    class_map
        NYX integer, the true class.
    weight_map
        NYX float32; 0 where a pixel is not annotated.
    annotated_px
        N; by default the pixels of positive weight in this batch. A distributed run
        passes the number over all ranks.
    """
    if annotated_px is None:
        annotated_px = (weight_map > 0).sum().clamp(min=1)
    per_pixel = functional.cross_entropy(
        logits.float(), class_map.long(), reduction="none"
    )  # N Y X
    return (per_pixel * weight_map).sum() / annotated_px


LOSSES: dict[str, Loss] = {"cross-entropy": cross_entropy}
