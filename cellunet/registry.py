"""Look a name up in a table of choices."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, TypeVar

from cellunet.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

T = TypeVar("T")


def choose(table: Mapping[str, T], name: str, what: str) -> T:
    """Return ``table[name]``, or refuse with the names that there are.

    Parameters
    ----------
    table
        Name to choice.
    name
        The name asked for.
    what
        What is being chosen, in words: ``"loss"``.

    Raises
    ------
    ConfigError
        If `name` is not in `table`.

    Examples
    --------
    >>> choose({"cross-entropy": 1}, "cross-entropy", "loss")
    1
    """
    if name in table:
        return table[name]
    known = ", ".join(sorted(table))
    near = difflib.get_close_matches(name, list(table), n=1)
    hint = f"Did you mean {near[0]!r}? " if near else ""
    raise ConfigError(f"Unknown {what} {name!r}.", hint=f"{hint}Known: {known}.")
