"""Frozen dataclasses of settings: each field tells all there is to know of it.

A field made by `setting` carries its help text, its limits, its option on the command
line and its row in a report. Standard library only, so that ``cellunet --help`` stays
quick.
"""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from dataclasses import dataclass
from typing import Any, Literal, Self, TypeVar, cast

from cellunet.errors import ConfigError

if typing.TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

T = TypeVar("T")

C = TypeVar("C", bound="Config")

UNITS = {"px": "px", "um": "µm", "mb": "MB"}
"""Units that names of settings end in."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What is known of a field of a `Config`, its type and default aside."""

    help: str
    """What it means, in sentences."""
    panel: str = ""
    """Heading of its option on a help page; empty: it is no option."""
    metavar: str = ""
    """What stands for its value on a help page."""
    otherwise: str = ""
    """What holds where it is left out, if the default does not say it."""
    label: str = ""
    """Its row in a report; such settings decide the labels and are kept with them."""
    only_if_set: bool = False
    """Kept with the labels only where it is not its default, so that results made
    before there was such a setting are known again."""
    low: float | None = None
    """Smallest possible value."""
    high: float | None = None
    """Largest possible value."""
    above: float | None = None
    """Values must be larger."""
    below: float | None = None
    """Values must be smaller."""
    derived: bool = False
    """It follows from the images or the model, and cannot be asked for."""

    def check(self, value: Any, name: str) -> None:  # noqa: ANN401
        """Refuse a value, or one of several, that is not within the limits.

        Raises
        ------
        ConfigError
            If so; `name` is that of the setting. NaN is within no limits.
        """
        several = isinstance(value, tuple)
        for one in (value if several else (value,)) if self.limits else ():
            check(
                # What is a word instead of a number has no limits.
                one is None or isinstance(one, str) or self._allows(one),
                f"{name} {'are' if several else 'is'} {shown(value)}; it must be "
                f"{self.limits}.",
            )

    def _allows(self, value: float) -> bool:
        return (
            (self.low is None or value >= self.low)
            and (self.high is None or value <= self.high)
            and (self.above is None or value > self.above)
            and (self.below is None or value < self.below)
        )

    @property
    def limits(self) -> str:
        """The limits in words; empty without any.

        Examples
        --------
        >>> Setting(help="", low=1, high=8).limits
        '1 to 8'
        """
        if self.low is not None and self.high is not None:
            return f"{self.low:g} to {self.high:g}"
        words = {"at least": self.low, "above": self.above}
        words |= {"at most": self.high, "below": self.below}
        found = [f"{word} {v:g}" for word, v in words.items() if v is not None]
        return " and ".join(found)


def setting(
    default: T,
    help: str,
    /,
    option: str = "",
    within: tuple[float, float] | None = None,
    between: tuple[float, float] | None = None,
    **known: Any,  # noqa: ANN401
) -> T:
    """Return a field of a `Config`.

    Parameters
    ----------
    default
        Its default.
    help
        What it means, in sentences.
    option
        Where it is an option: its heading on a help page, and what stands for its
        value there, as in ``Images: NAME``.
    within
        Smallest and largest possible value.
    between
        Limits that are not possible themselves.
    known
        Further fields of `Setting`.
    """
    known["panel"], _, known["metavar"] = option.partition(": ")
    known["low"], known["high"] = within or (known.get("low"), None)
    known["above"], known["below"] = between or (
        known.get("above"),
        known.get("below"),
    )
    field: Any = dataclasses.field(
        default=default, metadata={"setting": Setting(help=help, **known)}
    )
    return cast("T", field)


def group(kind: type[C], *, derived: bool = False) -> C:
    """Return a field of a `Config` that is a group of settings, as `setting` does."""
    known = Setting(help=kind.__doc__ or "", derived=derived)
    field: Any = dataclasses.field(default_factory=kind, metadata={"setting": known})
    return cast("C", field)


def known_of(field: dataclasses.Field[Any]) -> Setting:
    """Return what is known of a field."""
    found: Setting | None = field.metadata.get("setting")
    return found or Setting(help="")


def unit_of(name: str) -> str:
    """Return the unit that a setting's name ends in, or nothing."""
    return UNITS.get(name.rpartition("_")[2], "")


def shown(value: object, unit: str = "") -> str:
    """Return a value as help texts and reports show it.

    Examples
    --------
    >>> shown((1.0, 1.0, 3.0)), shown(2, "px"), shown(0.003), shown(True)
    ('1,1,3', '2 px', '0.003', 'yes')
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple | list):
        return ",".join(map(shown, value)) or "none"
    if value is None:
        return "none"
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return f"{text} {unit}".strip()


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    """Return the types of a class's fields; Python evaluates them anew each time."""
    return typing.get_type_hints(kind)


class Config:
    """Checks of the limits, and the round trip through plain dictionaries."""

    def __post_init__(self) -> None:
        for field in self.fields():
            known_of(field).check(getattr(self, field.name), field.name)

    @classmethod
    def fields(cls) -> tuple[dataclasses.Field[Any], ...]:
        """Return the fields."""
        return dataclasses.fields(cls)  # type: ignore[arg-type]

    @classmethod
    def hints(cls) -> dict[str, Any]:
        """Return the types of the fields."""
        return _hints(cls)  # type: ignore[arg-type]

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as nested dictionaries and lists."""
        return cast("dict[str, Any]", _plain(dataclasses.asdict(self)))  # type: ignore[call-overload]

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Build from `to_dict` output; unknown keys are refused by name.

        Raises
        ------
        ConfigError
            If a key is unknown, a value has the wrong type or a check fails.
        """
        known = {f.name for f in cls.fields()}
        unknown = sorted(set(values) - known)
        if unknown:
            raise ConfigError(
                f"{cls.__name__} has no setting {', '.join(map(repr, unknown))}.",
                hint=f"Known: {', '.join(sorted(known))}.",
            )
        hints = cls.hints()
        return cls(
            **{k: typed(v, hints[k], f"{cls.__name__}.{k}") for k, v in values.items()}
        )

    def replace(self, **changes: Any) -> Self:  # noqa: ANN401
        """Return a copy with some settings changed, checks included."""
        return dataclasses.replace(self, **changes)  # type: ignore[type-var]

    def changed(self, settings: Mapping[str, Any]) -> Self:
        """Return a copy with settings changed by name, such as ``network.channels``."""
        changes: dict[str, Any] = {}
        groups: dict[str, dict[str, Any]] = {}
        for name, value in settings.items():
            group, _, inner = name.rpartition(".")
            (groups.setdefault(group, {}) if group else changes)[inner] = value
        for group, inside in groups.items():
            changes[group] = getattr(self, group).replace(**inside)
        return self.replace(**changes)

    def recorded(self) -> dict[str, Any]:
        """Return the settings that decide the labels, as `to_dict` has them."""
        values = self.to_dict()
        return {
            f.name: values[f.name]
            for f in self.fields()
            if known_of(f).label
            and not (known_of(f).only_if_set and values[f.name] == f.default)
        }

    @classmethod
    def rows(cls, recorded: Mapping[str, Any]) -> dict[str, Any]:
        """Return `recorded` settings by their labels, those with a unit as text."""
        return {
            known_of(f).label: shown(value, unit) if unit else value
            for f in cls.fields()
            if known_of(f).label and f.name in recorded
            for value, unit in [(recorded[f.name], unit_of(f.name))]
        }


def _plain(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value


def alternatives(hint: Any) -> list[Any]:  # noqa: ANN401
    """Return the types that a value may be of, None aside; sets of words first."""
    kinds: list[Any] = [hint]
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        kinds = [k for k in typing.get_args(hint) if k not in (None, types.NoneType)]
    # A set of words is no type, but stands for one.
    return sorted(kinds, key=lambda kind: isinstance(kind, type))


def typed(value: Any, hint: Any, where: str) -> Any:  # noqa: ANN401
    """Return `value` as the type that `hint` names.

    Raises
    ------
    ConfigError
        If it is of another type; `where` tells which setting it is.
    """
    *words, kind = alternatives(hint)
    if kind is not hint:
        known = [word for literal in words for word in typing.get_args(literal)]
        if value in known or (value is None and type(None) in typing.get_args(hint)):
            return value
        return typed(value, kind, where)
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if isinstance(hint, type) and issubclass(hint, Config):
        if not isinstance(value, dict):
            raise ConfigError(f"{where} is {value!r}; a group of settings is expected.")
        return hint.from_dict(value)
    if origin is Literal:
        if value not in args:
            raise ConfigError(
                f"{where} is {value!r}.", hint=f"Known: {', '.join(map(str, args))}."
            )
        return value
    if origin is tuple:
        return tuple(_typed_values(value, args, where))
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise ConfigError(f"{where} is {value!r}; {hint.__name__} is expected.")
    return value


def _typed_values(value: Any, args: tuple[Any, ...], where: str) -> Iterator[Any]:  # noqa: ANN401
    if not isinstance(value, list | tuple):
        raise ConfigError(f"{where} is {value!r}; a list is expected.")
    variadic = len(args) == 2 and args[1] is Ellipsis
    if not variadic and len(value) != len(args):
        raise ConfigError(f"{where} has {len(value)} values, {len(args)} expected.")
    kinds = [args[0]] * len(value) if variadic else list(args)
    for one, kind in zip(value, kinds, strict=True):
        yield typed(one, kind, where)


def check(ok: bool, message: str, hint: str = "") -> None:
    """Refuse settings.

    Raises
    ------
    ConfigError
        If they are not `ok`.
    """
    if not ok:
        raise ConfigError(message, hint=hint)
