"""Help pages with texts as they were written: no markup read, no types of Python."""

from __future__ import annotations

import re
from typing import Any

import typer

NAMES = ["--help", "-h"]
"""Options that show a help page."""
_TAG = re.compile(r"(\[[a-z#/@][^\[]*?\])")
"""What rich takes for markup."""


def plain_pages(command: Any) -> Any:  # noqa: ANN401
    """Return a command of Typer, its pages and those of its commands made plain.

    Brackets as in ``cellunet-torch[parquet]`` print as they are. Switches, ``--help``
    too, and arguments, which have names that say what they are, show no type.
    """
    context = typer.Context(command, help_option_names=NAMES)
    for parameter in (*command.params, command.get_help_option(context)):
        if getattr(parameter, "help", None):
            parameter.help = _TAG.sub(r"\\\1", parameter.help)
        if getattr(parameter, "is_flag", False):
            parameter.metavar = ""
        if parameter.param_type_name == "argument":
            # What newer versions of Typer ask; older ones show a word such as TEXT.
            parameter.display_type_rich = lambda ctx: None
    command.help = _TAG.sub(r"\\\1", command.help or "")
    for inner in getattr(command, "commands", {}).values():
        plain_pages(inner)
    return command
