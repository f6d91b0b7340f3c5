"""What adds up over the images of a batch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cellunet.report.look import LookFirst
from cellunet.report.summary import CONFIDENCE_STEP, DIAMETER_STEP_PX, Histogram, Pool

if TYPE_CHECKING:
    from cellunet.report.summary import ImageSummary


@dataclass(kw_only=True)
class Totals:
    """Counts, sums and the images to look at first, of the images added so far."""

    images: int = 0
    failed: int = 0
    skipped: int = 0
    pictures: int = 0
    warned: int = 0
    objects: Pool = field(default_factory=lambda: Pool(1.0))
    """Objects per image."""
    diameters: Pool = field(default_factory=lambda: Pool(DIAMETER_STEP_PX))
    confidences: Pool = field(default_factory=lambda: Pool(CONFIDENCE_STEP))
    pixel_sizes: set[tuple[float, float] | None] = field(default_factory=set)
    """The different ones, two at the most."""
    look: LookFirst = field(default_factory=LookFirst)

    def add(self, image: ImageSummary) -> None:
        """Count one image."""
        self.images += 1
        self.look.add(self.images, image)
        if image.status == "failed":
            self.failed += 1
            return
        self.skipped += image.status == "skipped"
        self.warned += bool(image.warnings)
        self.objects.add(Histogram(step=1.0, counts={image.objects: 1}))
        self.diameters.add(image.diameters)
        if image.confidences is not None:
            self.confidences.add(image.confidences)
        if len(self.pixel_sizes) < 2:
            self.pixel_sizes.add(image.pixel_size_um)
