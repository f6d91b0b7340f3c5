"""How mkdocstrings reads cellunet: settings by their help text, reST's code marks."""

from __future__ import annotations

import dataclasses
from typing import Any

import griffe

from cellunet import config
from cellunet.settings import known_of


class Docstrings(griffe.Extension):
    """Give each setting its help text, default and limits as documentation."""

    def on_attribute_instance(self, *, attr: griffe.Attribute, **_: Any) -> None:  # noqa: ANN401
        """Replace ``setting(default, help, ...)`` by the default and the help."""
        kind = getattr(config, attr.parent.name if attr.parent else "", None)
        if attr.docstring or not dataclasses.is_dataclass(kind):
            return
        field = next((f for f in dataclasses.fields(kind) if f.name == attr.name), None)
        if field is None:
            return
        known = known_of(field)
        lines = [known.help]
        lines += [f"If left out: {known.otherwise}."] if known.otherwise else []
        lines += [f"Limits: {known.limits}."] if known.limits else []
        default = field.default
        attr.value = None if default is dataclasses.MISSING else repr(default)
        attr.docstring = griffe.Docstring(" ".join(lines), parent=attr)

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:  # noqa: ANN401
        """Drop the lone ``::`` before a block of code."""
        if obj.docstring:
            text = obj.docstring.value.replace("``", "`")
            obj.docstring.value = text.replace("\n::\n", "\n")
