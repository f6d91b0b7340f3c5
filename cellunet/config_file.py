"""Settings in a TOML file: written of a model, read by ``--config``.

Those of a training stand at the top, in tables such as ``[weights]`` where they are
groups; every other command has a table of its own. One file serves all commands.
"""

from __future__ import annotations

import codecs
import json
import textwrap
import tomllib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cellunet.command_config import (
    AnnotationConfig,
    CheckConfig,
    EvaluateConfig,
    PredictConfig,
    SplitConfig,
    SuggestConfig,
)
from cellunet.config import TrainConfig
from cellunet.errors import ConfigError
from cellunet.settings import Config, known_of, typed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from dataclasses import Field
    from pathlib import Path

Settings = Mapping[type[Config], Mapping[str, Any]]
"""By their configuration, then by name, such as ``network.channels``."""

TABLES: dict[str, type[Config]] = {
    "split": SplitConfig,
    "annotations": AnnotationConfig,
    "predict": PredictConfig,
    "evaluate": EvaluateConfig,
    "suggest": SuggestConfig,
    "check": CheckConfig,
}
"""Tables beside those of the groups of `TrainConfig`."""


def read_settings(path: Path) -> Settings:
    """Return the settings of a file.

    Raises
    ------
    ConfigError
        If there is no such file, it is no TOML, a setting is unknown, or a value is
        not possible.
    """
    try:
        content = path.read_bytes()
        # What `>` of Windows PowerShell writes, a byte order mark in front.
        wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        values = tomllib.loads(content.decode("utf-16" if wide else "utf-8-sig"))
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be read: {error.strerror}.",
            hint="One to begin with: cellunet models show nuclei --toml > train.toml",
        ) from error
    except ValueError as error:
        raise ConfigError(f"{path} is no TOML: {error}.") from error
    try:
        tables = {table: values.pop(table, {}) for table in TABLES}
        found: dict[type[Config], dict[str, Any]] = {
            TrainConfig: dict(_read(TrainConfig, values, "", beside=tuple(TABLES)))
        }
        for table, inside in tables.items():
            if not isinstance(inside, dict):
                raise ConfigError(f"{table} is {inside!r}; a table is expected.")
            prefix = f"{table}."
            found[TABLES[table]] = {
                name.removeprefix(prefix): value
                for name, value in _read(TABLES[table], inside, prefix)
            }
    except ConfigError as error:
        raise ConfigError(f"{path}: {error.message}", hint=error.hint) from error
    return found


def as_toml(config: TrainConfig) -> str:
    """Return all settings that can be asked for, with what they mean.

    Those of the training as they were; behind them, to be switched on by taking the
    ``#`` in front away, the defaults of the other commands.
    """
    lines = [*_table(config, "")]
    for table, kind in TABLES.items():
        lines += _table(kind(), table, mark="#")
    return "\n".join(lines) + "\n"


def _open(kind: type[Config]) -> list[Field[Any]]:
    """Return the fields that can be asked for."""
    return [field for field in kind.fields() if not known_of(field).derived]


def _read(
    kind: type[Config],
    values: Mapping[str, Any],
    where: str,
    *,
    beside: tuple[str, ...] = (),
) -> Iterator[tuple[str, Any]]:
    """Yield the settings of a table and their values, as what they are."""
    hints, fields = kind.hints(), {field.name: field for field in _open(kind)}
    for key, value in values.items():
        name = f"{where}{key}"
        if key not in fields:
            follows = any(field.name == key for field in kind.fields())
            raise ConfigError(
                f"{name} follows from the images and the model and cannot be set."
                if follows
                else f"There is no setting {name}.",
                hint=f"Known here: {', '.join([*fields, *beside])}.",
            )
        hint = hints[key]
        if isinstance(hint, type) and issubclass(hint, Config):
            if not isinstance(value, dict):
                raise ConfigError(f"{name} is {value!r}; a table is expected.")
            yield from _read(hint, value, f"{name}.")
            continue
        made = typed(value, hint, name)
        known_of(fields[key]).check(made, name)
        yield name, made


def _table(config: Config, name: str, mark: str = "") -> Iterator[str]:
    """Yield the lines of a table and of those in it; `mark` stands before settings."""
    if name:
        yield from ("", f"[{name}]")
    inner = {}
    for field in _open(type(config)):
        value = getattr(config, field.name)
        if isinstance(value, Config):
            inner[f"{name}.{field.name}".removeprefix(".")] = value
            continue
        known = known_of(field)
        limits = f" ({known.limits})" if known.limits else ""
        text = known.help.replace("`", "").removesuffix(".") + f"{limits}."
        if value is None:
            text += f" Left out: {known.otherwise or 'none'}."
        yield from (f"# {line}" for line in textwrap.wrap(text, 86))
        # What JSON writes of numbers, words, switches and lists is TOML too.
        plain = "" if value is None else json.dumps(config.to_dict()[field.name])
        yield f"{mark}{field.name} = {plain}".rstrip()
    for table, value in inner.items():
        yield from _table(value, table, mark)
