"""The callable through which the core reports progress, and its silent version.

A notebook passes ``tqdm``-like functions, the command line rich ones, a test a
recorder; the core itself never prints.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

T = TypeVar("T")


class Track(Protocol):
    """Wrap a long loop: yields the items unchanged and may show how far it is."""

    def __call__(
        self, items: Iterable[T], label: str, total: int | None = None
    ) -> Iterator[T]:
        """Yield `items` one by one."""


def silent_track(
    items: Iterable[T], label: str, total: int | None = None
) -> Iterator[T]:
    """Yield `items` and report nothing."""
    del label, total
    yield from items
