"""A folder of results that a run works on: signed on to, leftovers removed."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from cellunet.imaging.atomic import clear_leftovers, writing
from cellunet.locks import working_on

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path


@contextlib.contextmanager
def at_work(
    out: Path, results: Collection[Path], more: Collection[Path] = ()
) -> Iterator[None]:
    """Have results below `out` to oneself inside.

    What killed runs left in their folders is removed first.

    Parameters
    ----------
    out
        The folder of the run; made if need be.
    results
        Files below it that are going to be written.
    more
        Further folders that files are written into.

    Raises
    ------
    BusyError
        If another process is going to write one of the results, and which.
    OutputError
        If there is no room or no permission.
    """
    with contextlib.ExitStack() as stack:
        with writing(out):
            out.mkdir(parents=True, exist_ok=True)
            names = [path.relative_to(out).as_posix() for path in results]
            stack.enter_context(working_on(out, names))
            clear_leftovers({out, *(path.parent for path in results), *more})
        yield
