"""Parts of an image that cannot be read: named with their place, or left as zeros."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cellunet.errors import ImageReadError
from cellunet.imaging.native.decoder_errors import DecoderLostError

if TYPE_CHECKING:
    from pathlib import Path

KEEP_GOING = (
    "Copy or export it again; cellunet predict --keep-going leaves zeros there."
)
"""What helps where a part of an image is lost."""
MOST_LOST = 4
"""Parts of one file at which a decoder may crash or hang before it is given up."""


@dataclass(frozen=True, order=True)
class Damage:
    """A rectangle of a plane as the file stores it, whose pixels are lost."""

    plane: int
    """Number of the stored plane, 0-based: each channel has its own."""
    y0: int
    """First row."""
    y1: int
    """Row after the last."""
    x0: int
    """First column."""
    x1: int
    """Column after the last."""
    what: str
    """What is lost: ``tile``, ``strip`` or ``rows``."""
    reason: str
    """What the decoder said."""

    @property
    def place(self) -> str:
        """Where it is, both ends included."""
        return (
            f"{self.what} at x {self.x0} to {self.x1 - 1}, y {self.y0} to "
            f"{self.y1 - 1} of plane {self.plane}"
        )


class DamageLog:
    """What became of the parts of one file that cannot be read.

    Parameters
    ----------
    path
        The file.
    keep_going
        Note the damage and let zeros stand there, instead of raising.
    """

    def __init__(self, path: Path, *, keep_going: bool) -> None:
        self._path, self.keep_going = path, keep_going
        self._noted: dict[tuple[int, int, int, int, int], Damage] = {}
        self._lost = 0

    @property
    def noted(self) -> tuple[Damage, ...]:
        """All that was found so far, in the order of planes, rows and columns."""
        return tuple(sorted(self._noted.values()))

    def note(self, damage: Damage, error: BaseException | None = None) -> None:
        """Note that a part is lost, or refuse the file.

        Raises
        ------
        ImageReadError
            Unless the log is to keep going, and decoders did not crash or hang too
            often: each time takes a while, and a file has many parts.
        """
        lost = isinstance(error, DecoderLostError)
        self._lost += lost
        if not self.keep_going or self._lost > MOST_LOST:
            raise ImageReadError(
                f"{self._path} is damaged: its {damage.place} cannot be read "
                f"({damage.reason}).",
                hint=DecoderLostError.hint if lost else KEEP_GOING,
            ) from error
        key = (damage.plane, damage.y0, damage.y1, damage.x0, damage.x1)
        self._noted.setdefault(key, damage)


def brief(error: BaseException) -> str:
    """Return an error in one short line."""
    return f"{' '.join(str(error).split()) or type(error).__name__:.160}"
