"""Settings of a training in a TOML file: written of a model, read by ``--config``.

Settings have names such as ``weights.border_weight``; the dots are tables of the file.
"""

from __future__ import annotations

import json
import textwrap
import tomllib
from typing import TYPE_CHECKING, Any, TypeVar

from cellunet.config import (
    PRESETS,
    TARGET,
    SplitConfig,
    Target,
    TrainConfig,
    for_target,
)
from cellunet.errors import ConfigError, choose
from cellunet.settings import Config, known_of, typed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from dataclasses import Field
    from pathlib import Path

C = TypeVar("C", bound=Config)

SPLIT = "split"
"""Table of `SplitConfig`, beside those of the groups of `TrainConfig`."""


def read_settings(path: Path) -> dict[str, Any]:
    """Return the settings of a file by name.

    Raises
    ------
    ConfigError
        If there is no such file, it is no TOML, a setting is unknown, or a value is
        not possible.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be read: {error.strerror}.",
            hint="One to begin with: cellunet models show nuclei --toml > train.toml",
        ) from error
    except ValueError as error:
        raise ConfigError(f"{path} is no TOML: {error}.") from error
    try:
        split = values.pop(SPLIT, {})
        if not isinstance(split, dict):
            raise ConfigError(f"{SPLIT} is {split!r}; a table is expected.")
        found = dict(_read(TrainConfig, values, ""))
        return found | dict(_read(SplitConfig, split, f"{SPLIT}."))
    except ConfigError as error:
        raise ConfigError(f"{path}: {error.message}", hint=error.hint) from error


def changed(config: C, settings: Mapping[str, Any]) -> C:
    """Return a configuration with settings changed."""
    changes: dict[str, Any] = {}
    groups: dict[str, dict[str, Any]] = {}
    for name, value in settings.items():
        group, _, inner = name.rpartition(".")
        (groups.setdefault(group, {}) if group else changes)[inner] = value
    for group, inside in groups.items():
        changes[group] = getattr(config, group).replace(**inside)
    return config.replace(**changes)


def configure(
    settings: Mapping[str, Any],
    preset: str = TrainConfig.preset,
    target: Target = TARGET,
) -> TrainConfig:
    """Return a preset's configuration with settings changed.

    Parameters
    ----------
    settings
        By name; a preset and a target among them come before the others.
    preset
        A name in `cellunet.config.PRESETS`, if there is none among `settings`.
    target
        What the network learns, if that is not among them.

    Raises
    ------
    ConfigError
        If the preset is unknown or settings contradict each other.
    """
    preset = settings.get("preset", preset)
    target = settings.get("encoding.target", target)
    config = for_target(choose(PRESETS, preset, "preset")(), target)
    own = {n: v for n, v in settings.items() if not n.startswith(f"{SPLIT}.")}
    config = changed(config, own)
    # The decoder's correction starts at what the loss was weighted with.
    odds = config.weights.class_weights
    return config.replace(decode=config.decode.replace(class_odds=odds))


def as_toml(config: TrainConfig) -> str:
    """Return the settings of a training that can be asked for, with what they mean."""
    lines = list(_lines(config))
    for field in _open(TrainConfig):
        value = getattr(config, field.name)
        if isinstance(value, Config):
            lines += ["", f"[{field.name}]", *_lines(value)]
    return "\n".join(lines) + "\n"


def _open(kind: type[Config]) -> list[Field[Any]]:
    """Return the fields that can be asked for."""
    return [field for field in kind.fields() if not known_of(field).derived]


def _read(
    kind: type[Config], values: Mapping[str, Any], where: str
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
                hint=f"Known here: {', '.join(fields)}.",
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


def _lines(config: Config) -> Iterator[str]:
    for field in _open(type(config)):
        value = getattr(config, field.name)
        if isinstance(value, Config):
            continue
        known = known_of(field)
        limits = f" ({known.limits})" if known.limits else ""
        text = known.help.replace("`", "").removesuffix(".") + f"{limits}."
        yield from (f"# {line}" for line in textwrap.wrap(text, 86))
        # What JSON writes of numbers, words, switches and lists is TOML too.
        yield f"{field.name} = {json.dumps(config.to_dict()[field.name])}"
