"""Labels that a model made and nobody has corrected."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cellunet.imaging.drawn.drawings import some
from cellunet.imaging.provenance import read_provenance

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from cellunet.imaging.pairing import Pair

MODELS = {"model", "suggested_by"}
"""Keys of the provenance of label images that `predict` and `--suggest` wrote."""


def uncorrected(pairs: Sequence[Pair]) -> list[str]:
    """Say of how many images the labels are a model's own, as it wrote them.

    A program in which labels are corrected saves them without their provenance.

    Parameters
    ----------
    pairs
        Images with annotations that can be read.
    """
    names = [pair.name for pair in pairs if _is_a_models(pair.annotation)]
    if not names:
        return []
    return [
        f"Labels as a model wrote them: {len(names)} of {len(pairs)} images "
        f"({some(names)}). If nobody has looked at them, a model learns its own "
        "mistakes, and the score to expect is of no worth: correct them, or leave "
        "them out."
    ]


def _is_a_models(path: Path) -> bool:
    found = read_provenance(path) if path.is_file() else None
    return found is not None and not MODELS.isdisjoint(found)
