"""The same image under several names: told, or refused where it would be scored."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from cellunet.errors import InputError
from cellunet.imaging.drawn.drawings import some
from cellunet.tasks.training.field_parts import whole_name

if TYPE_CHECKING:
    from collections.abc import Mapping


def copies(prints: Mapping[str, str]) -> list[str]:
    """Return the names of each image that comes more than once, with ``=`` between.

    Parameters
    ----------
    prints
        Name of each image, or part of one, to the fingerprint of all of it; parts of
        one image are no copies.

    Examples
    --------
    >>> copies({"a": "1", "b": "2", "c": "1", "d (1 of 2)": "3", "d (2 of 2)": "3"})
    ['a = c']
    """
    names: dict[str, set[str]] = defaultdict(set)
    for name, print_ in prints.items():
        names[print_].add(whole_name(name))
    return [" = ".join(sorted(found)) for found in names.values() if len(found) > 1]


def refuse_copies(prints: Mapping[str, str]) -> None:
    """Refuse copies among images that are trained on and scored in turn.

    Parameters
    ----------
    prints
        As for `copies`.

    Raises
    ------
    InputError
        If there are any.
    """
    same = copies(prints)
    if same:
        raise InputError(
            f"The same image comes more than once: {some(same)}. With folds one copy "
            "would be trained on where another is scored.",
            hint="Keep one of each, or keep images to score apart: --val DIR.",
        )
