"""Every error that cellunet raises on purpose, and look-ups that raise them.

::

    CellunetError              what went wrong, where, and a hint: what to do next
    ├── ConfigError            a setting is unknown, out of range or contradicts another
    ├── InputError             the inputs as a whole: none, or partners missing
    ├── ImageReadError         one image cannot be read or understood (also OSError)
    ├── AnnotationError        one annotation cannot be used as labels
    ├── OutputError            a result cannot be written (also OSError)
    ├── BusyError              another process works on the same thing
    ├── CheckpointError        weights or a run's state: missing, corrupt, foreign
    ├── ModelNotFoundError     no model of that name or path (also FileNotFoundError)
    ├── DeviceError            the device or engine asked for is not available
    ├── RankError              the processes of one training do not go together
    └── BugError               cellunet or a library is at fault, and not a file

The core raises them; only ``cellunet.cli.app.main`` catches them, and the system's
refusals to look up a path. Any other exception is a bug and keeps its traceback.
"""

from __future__ import annotations

import difflib
import importlib
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from types import ModuleType


class CellunetError(Exception):
    """Base of all errors that are told in one line, most of them the user's to solve.

    Parameters
    ----------
    message
        What is wrong and where, with the value found and the value expected.
    hint
        What to do next: the command, option or change that helps.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        # Names of files may hold line breaks, and bytes that are no text at all.
        self.message, self.hint = printable(message), printable(hint)
        super().__init__(self.message)

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


def printable(text: str) -> str:
    r"""Return text on one line, characters that cannot be seen escaped.

    Names of files may hold them, and a terminal would obey.

    Examples
    --------
    >>> printable("a\x1b[2Jb")
    'a\\x1b[2Jb'
    """
    if text.isprintable():
        return text
    return "".join(
        c.encode("unicode_escape").decode("ascii") if _is_unseen(c) else c for c in text
    )


def _is_unseen(character: str) -> bool:
    # Rarely asked, so that no command waits for the table.
    import unicodedata

    # Spaces of other scripts can be seen, and joiners are part of words of some.
    kind = unicodedata.category(character)
    return kind in ("Cc", "Cs", "Zl", "Zp") or (
        kind == "Cf" and character not in "\u200c\u200d"
    )


class ConfigError(CellunetError):
    """A setting is unknown, out of range or contradicts another."""


class InputError(CellunetError):
    """The inputs as a whole cannot be used."""


class ImageReadError(CellunetError, OSError):
    """One image cannot be read or understood."""


class AnnotationError(CellunetError):
    """One annotation cannot be used as labels."""


class OutputError(CellunetError, OSError):
    """A result cannot be written."""


class BusyError(CellunetError):
    """Another process is at work on the same thing."""


class CheckpointError(CellunetError):
    """Weights or the state of a run are missing, corrupt or of another kind."""


class ModelNotFoundError(CellunetError, FileNotFoundError):
    """No model of that name or at that path."""


class DeviceError(CellunetError):
    """The device or engine that was asked for is not available."""


class RankError(CellunetError):
    """The processes of one training have lost each other or differ."""


class BugError(CellunetError):
    """A fault of cellunet or of a library, met at one file of several.

    Not the user's to solve, and never taken for damage of the file.
    """


def one_line(error: BaseException) -> str:
    """Return the message of a library's exception on one line."""
    return " ".join(str(error).split())


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


def optional(module: str, extra: str, purpose: str) -> ModuleType:
    """Return a module of an extra.

    Parameters
    ----------
    module
        Its name.
    extra
        The extra of cellunet that installs it.
    purpose
        What needs it, as the subject of the message.

    Raises
    ------
    ConfigError
        If it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise ConfigError(
            f"{purpose} needs the package {package}, which is not there ({error}).",
            hint=f'Try: pip install "cellunet-torch[{extra}]".',
        ) from error


def some(names: Iterable[object], most: int = 3) -> str:
    """Return the first names of a list for a message, and how many more there are.

    Examples
    --------
    >>> some("abcde")
    'a, b, c and 2 more'
    """
    listed = [str(name) for name in names]
    shown = ", ".join(listed[:most])
    more = len(listed) - most
    return f"{shown} and {more} more" if more > 0 else shown
