"""The one JSON document of a command: schema ``cellunet/1``, see ``docs/json.md``."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cellunet import __version__
from cellunet.bugs import REPORT
from cellunet.errors import CellunetError

SCHEMA = "cellunet/1"
INPUTS_FAILED, BUG = 3, 70
"""Exit codes: some inputs failed; cellunet or a library is at fault."""


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Why a command did not do all it was asked for."""

    type: str
    """Name of the error class, or ``UsageError``, ``InputsFailed``, ``Stopped``,
    ``Bug``."""
    message: str
    """What is wrong and where."""
    hint: str = ""
    """What to do next."""

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()

    @classmethod
    def of_inputs(cls, message: str, hint: str, bugs: int) -> Failure:
        """Return the failure of a batch, `bugs` of whose inputs were not at fault."""
        if bugs:
            return cls(type="Bug", message=message, hint=REPORT)
        return cls(type="InputsFailed", message=message, hint=hint)

    @classmethod
    def of(cls, error: CellunetError) -> Failure:
        """Return the failure that an error tells of."""
        return cls(type=type(error).__name__, message=error.message, hint=error.hint)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a command ended with."""

    code: int = 0
    """Exit code."""
    result: dict[str, Any] | None = None
    """What the command found or made, documented per command."""
    failure: Failure | None = None
    """Why `code` is not 0."""


def document(command: str | None, outcome: Outcome) -> str:
    """Return the document as text: ASCII, so that any stream can carry it.

    Parameters
    ----------
    command
        Subcommand, with its own subcommand if it has one: ``"models show"``; None if
        none was recognised.
    outcome
        What the command ended with.
    """
    values = {
        "schema": SCHEMA,
        "cellunet": __version__,
        "command": command,
        "ok": outcome.code == 0,
        "exit_code": outcome.code,
        "error": dataclasses.asdict(outcome.failure) if outcome.failure else None,
        "result": outcome.result,
    }
    return json.dumps(plain(values), indent=2, allow_nan=False)


def plain(value: Any) -> Any:  # noqa: ANN401
    """Return `value` in terms of JSON; what is not finite becomes None.

    Dictionaries, lists, tuples, paths, text, numbers of Python and of numpy (by their
    ``item`` method) are understood.

    Raises
    ------
    TypeError
        For anything else.

    Examples
    --------
    >>> plain({"loss": float("nan"), "size": (1, 2)})
    {'loss': None, 'size': [1, 2]}
    """
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "item"):
        return plain(value.item())
    raise TypeError(f"{type(value).__name__} has no form in JSON.")
