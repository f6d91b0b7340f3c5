"""Which images need a look first, and why, in one pass and in bounded memory."""

from __future__ import annotations

import bisect
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cellunet.report.summary import ImageSummary

MOST_CARDS = 24
"""Images that are shown large at the top."""
FEWEST_CARDS = 6
"""Up to so many are shown there even if nothing was found wrong."""
MOST_ERRORS = 50
"""Failed images that are listed at the top; the table has all."""
NO_OBJECTS = "No object was found in it."
LEAST = "Among the least certain of the others: mean confidence {:.2f}."


def reasons(image: ImageSummary) -> tuple[str, ...]:
    """Return why people should look at an image; nothing for most."""
    if image.status == "failed":
        return (image.error,)
    if not image.objects and not image.warnings:
        return (NO_OBJECTS,)
    return image.warnings


class LookFirst:
    """The images that most need a look, seen one by one."""

    def __init__(self) -> None:
        self.count = 0
        """Images that need a look, failed ones included."""
        self.failed: list[tuple[int, ImageSummary]] = []
        """The first `MOST_ERRORS` of those that failed, with their numbers."""
        self._worst: list[tuple[tuple[float, float, int], ImageSummary]] = []
        self._least: list[tuple[tuple[float, float, int], ImageSummary]] = []

    def add(self, number: int, image: ImageSummary) -> None:
        """Take note of image `number`."""
        why = reasons(image)
        self.count += bool(why)
        if image.status == "failed":
            if len(self.failed) < MOST_ERRORS:
                self.failed.append((number, image))
            return
        mean = image.confidences.mean() if image.confidences else None
        rank = (-float(len(why)), 1.0 if mean is None else mean, number)
        if why:
            bisect.insort(self._worst, (rank, image), key=lambda one: one[0])
            del self._worst[MOST_CARDS:]
        elif mean is not None:
            bisect.insort(self._least, (rank, image), key=lambda one: one[0])
            del self._least[FEWEST_CARDS:]

    def cards(self) -> list[tuple[int, ImageSummary, tuple[str, ...]]]:
        """Return number, image and reasons of those to show, the worst first.

        Filled up with the least confident of the others to `FEWEST_CARDS`.
        """
        found = [(rank[2], one, reasons(one)) for rank, one in self._worst]
        for rank, one in self._least[: max(FEWEST_CARDS - len(found), 0)]:
            found.append((rank[2], one, (LEAST.format(rank[1]),)))
        return found
