"""What score to expect on other images of this kind, and whether a model gained.

Scores are of images that the model did not see. Of few images each is cut into
quarters, so that there is something to draw intervals from; such an interval tells of
other places in these images, and is too narrow for other images.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cellunet.config import BootstrapConfig
from cellunet.imaging.decode.decoding import decode_plane
from cellunet.imaging.scoring.bootstrap import estimate_means
from cellunet.imaging.scoring.image_scores import score_image
from cellunet.imaging.scoring.scores import summarize

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from cellunet.config import DecodeConfig, EncodingConfig
    from cellunet.imaging.scoring.bootstrap import Estimate
    from cellunet.imaging.scoring.fitting import Truth
    from cellunet.imaging.scoring.image_scores import ImageScores

ENOUGH_IMAGES = 8
"""From so many images on the images themselves are what intervals are drawn from."""


@dataclass(frozen=True, kw_only=True)
class Expected:
    """Scores on unseen images, with intervals."""

    mean_ap: Estimate
    f1_50: Estimate
    f1_90: Estimate
    gain: Estimate | None
    """Of mean AP over the model that training started from, paired; None from
    scratch."""
    pieces: int
    """How many images or quarters of images were scored."""
    quarters: bool
    """Whether they are quarters."""
    of_one_image: bool
    """Whether all are parts of one image, other parts of which were trained on: they
    tell of no other image."""

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return {
            "mean_ap": self.mean_ap.to_dict(),
            "f1_50": self.f1_50.to_dict(),
            "f1_90": self.f1_90.to_dict(),
            "gain": self.gain.to_dict() if self.gain else None,
            "pieces": self.pieces,
            "quarters": self.quarters,
            "of_one_image": self.of_one_image,
        }


def expected(
    found: Sequence[ImageScores],
    before: Sequence[ImageScores] | None,
    *,
    images: int,
    of_one_image: bool = False,
) -> Expected:
    """Summarise scores of unseen images or of their quarters (`piece_scores`).

    Parameters
    ----------
    found
        Of the trained model.
    before
        Of the model that training started from, in the same order; None from scratch.
    images
        How many images they come from, or parts that were kept out by themselves.
    of_one_image
        Whether other parts of the same image were trained on.
    """
    summary = summarize(found)
    gain = None
    if before is not None:
        # At the edge of a quarter which true objects take part may depend on what is
        # predicted, so that these are not pairs of scores of the very same objects.
        gains = [a.mean_ap - b.mean_ap for a, b in zip(found, before, strict=True)]
        (gain,) = estimate_means(np.array(gains)[:, None], BootstrapConfig())
    return Expected(
        mean_ap=summary.mean_ap,
        f1_50=summary.f1_at(10),
        f1_90=summary.f1_at(18),
        gain=gain,
        pieces=len(found),
        quarters=images < ENOUGH_IMAGES,
        of_one_image=of_one_image,
    )


def piece_scores(
    truths: Sequence[Truth],
    decodes: Sequence[DecodeConfig],
    encoding: EncodingConfig,
) -> list[ImageScores]:
    """Score images, or the quarters of each if they are fewer than `ENOUGH_IMAGES`.

    Parameters
    ----------
    truths
        Images with their probabilities.
    decodes
        Constants to decode each with.
    encoding
        As the model was trained.
    """
    scores = []
    for truth, decode in zip(truths, decodes, strict=True):
        probabilities = truth.probabilities.astype(np.float32)
        labels = decode_plane(probabilities, encoding, decode)
        for name, annotated in _pieces(truth, len(truths)):
            forms = score_image(truth.labels, labels, name=name, annotated=annotated)
            scores.append(next(iter(forms.values())))
    return scores


def _pieces(truth: Truth, images: int) -> Iterator[tuple[str, npt.NDArray[np.bool_]]]:
    """Yield names and annotated parts; a quarter that is not annotated is none."""
    if images >= ENOUGH_IMAGES:
        yield truth.name, truth.annotated
        return
    rows, columns = np.nonzero(truth.annotated)
    if not rows.size:
        return
    # Quarters of what is annotated, wherever in the image that lies.
    row, column = int(np.median(rows)) + 1, int(np.median(columns)) + 1
    for name, part in {
        "upper left": np.s_[:row, :column],
        "upper right": np.s_[:row, column:],
        "lower left": np.s_[row:, :column],
        "lower right": np.s_[row:, column:],
    }.items():
        annotated = np.zeros_like(truth.annotated)
        annotated[part] = truth.annotated[part]
        if annotated.any():
            yield f"{truth.name}, {name}", annotated
