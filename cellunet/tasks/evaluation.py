"""What an evaluation is asked for and what it returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cellunet.config import EvaluateConfig
    from cellunet.imaging.scoring.image_scores import ImageScores
    from cellunet.imaging.scoring.pixel_scores import ClassScores
    from cellunet.imaging.scoring.scores import Summary

Group = Literal["unseen", "chosen", "trained"]
"""What a model knows of an image: nothing; its decode constants were chosen on it; its
weights were trained on it."""
GROUPS: tuple[Group, ...] = ("unseen", "chosen", "trained")
Side = Literal["all", "training", "validation"]
"""Images of a folder that has lists of training and validation images."""


@dataclass(frozen=True, kw_only=True)
class GroupScores:
    """Scores of the images of one group, in each form of the protocol."""

    summaries: Mapping[str, Summary]
    """Name of a form to its summary, the headline's first."""
    scores: Mapping[str, tuple[ImageScores, ...]]
    """Name of a form to the scores of its images, in the order they came."""
    classes: tuple[ClassScores, ...]
    """Precision and recall of each class over the pixels of all images."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the images, in the order they came."""
        return next(iter(self.summaries.values())).images

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return {
            "forms": {form: s.to_dict() for form, s in self.summaries.items()},
            "classes": [c.to_dict() for c in self.classes],
            "scores": {
                form: [one.to_dict() for one in images]
                for form, images in self.scores.items()
            },
        }


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Scores of images, those that the model has seen apart from those it has not."""

    config: EvaluateConfig
    """How it was scored."""
    groups: Mapping[Group, GroupScores]
    """Scores by what the model knows of the images; empty groups are absent."""

    @property
    def unseen(self) -> GroupScores | None:
        """Images that played no part in making the model; None if there are none."""
        return self.groups.get("unseen")

    @property
    def headline(self) -> Summary | None:
        """The figures to quote: unseen images, first form; None if all are seen."""
        if self.unseen is None:
            return None
        return next(iter(self.unseen.summaries.values()))

    @property
    def names(self) -> set[str]:
        """Names of all images."""
        return {name for group in self.groups.values() for name in group.names}

    @property
    def only_seen(self) -> bool:
        """Whether every image is known to the model, so that no figure is fair."""
        return self.unseen is None

    @property
    def only_trained(self) -> bool:
        """Whether the model was trained on every image."""
        return set(self.groups) == {"trained"}

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return {
            "config": self.config.to_dict(),
            "only_seen": self.only_seen,
            "headline": self.headline.to_dict() if self.headline else None,
            "groups": {name: group.to_dict() for name, group in self.groups.items()},
        }

    def csv_rows(self) -> list[dict[str, str | int | float | None]]:
        """Return one row per image and form, all of the same keys."""
        return [
            {"group": group, "form": form, **one.csv_row()}
            for group, found in self.groups.items()
            for form, images in found.scores.items()
            for one in images
        ]
