"""Options of commands, made from the fields of `cellunet.config`.

A command has one parameter for each group of settings that it takes::

    def measure(
        config: MeasureConfig,
        images: Annotated[dict[str, Any], Options(PredictConfig, "channel", "gray")],
    ) -> Outcome: ...

`with_options` gives it the options of all fields, or of those that are named. The
command gets a configuration, checked, or by name the values that were given.
"""

from __future__ import annotations

import inspect
import logging
import typing
from collections.abc import Callable
from dataclasses import Field
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from cellunet.cli.console import counted
from cellunet.cli.session import Outcome, Session
from cellunet.config import (
    MODEL,
    PRESETS,
    AnnotationConfig,
    ComputeConfig,
    PredictConfig,
    TrainConfig,
)
from cellunet.engine.cores import threads_for
from cellunet.settings import Config, known_of, shown, unit_of, without_none

MESSAGES = "Messages"

Command = Callable[..., Outcome | None]


class Options:
    """Marks a parameter of a command that stands for options.

    Parameters
    ----------
    kind
        The configuration whose fields they are.
    names
        The fields; all that are options if none is named.
    """

    def __init__(self, kind: type[Config], *names: str) -> None:
        self.kind = kind
        fields = {f.name: f for f in kind.fields() if known_of(f).panel}
        self.fields = [fields[name] for name in names or fields]

    def parameters(self) -> list[inspect.Parameter]:
        """Return a parameter of a command for each field."""
        return [_parameter(self.kind, field) for field in self.fields]

    def taken(self, values: dict[str, Any]) -> dict[str, Any]:
        """Return what was given, as the fields have it; takes it out of `values`."""
        given: dict[str, Any] = {}
        for field in self.fields:
            value, parse = values.pop(field.name), known_of(field).parse
            # An option that may be repeated and was not is an empty list.
            if value is None or value is False or value == []:
                continue
            if isinstance(value, list):
                value = tuple(dict.fromkeys(one.value for one in value))
            made = value if parse is None else parse(value)
            # One word may stand for another field than that of the option.
            given |= made if isinstance(made, dict) else {field.name: made}
        return given


def option_of(field: Field[Any]) -> str:
    """Return the option of a field: its name without the unit."""
    stem = field.name.removesuffix(f"_{field.name.rpartition('_')[2]}")
    name = stem if unit_of(field.name) else field.name
    return known_of(field).name or "--" + name.replace("_", "-")


def help_of(kind: type[Config], field: Field[Any]) -> str:
    """Return the help text of a field's option, which ends with its default."""
    known, unit = known_of(field), unit_of(field.name)
    default = known.otherwise or shown(field.default, unit)
    if issubclass(kind, TrainConfig) and not known.otherwise:
        for name, preset in PRESETS.items():
            value = getattr(preset(), field.name)
            if value != field.default:
                default += f"; {shown(value, unit)} in {name}"
    return f"{known.help} Default: {default}."


def _parameter(kind: type[Config], field: Field[Any]) -> inspect.Parameter:
    known, hint = known_of(field), without_none(kind.hints()[field.name])
    flag = hint is bool
    if known.parse is not None:
        hint = str
    elif typing.get_origin(hint) is tuple:
        # Typer takes no list of literals.
        words = typing.get_args(typing.get_args(hint)[0])
        hint = list[StrEnum(field.name, {w.upper(): w for w in words})]  # type: ignore[misc]
    made = option(
        option_of(field),
        known.metavar,
        help_of(kind, field),
        # Typer's own heading is that of options without one.
        None if known.panel == "Options" else known.panel,
        callback=_check_threads if field.name == "threads" else None,
    )
    return inspect.Parameter(
        field.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=False if flag else None,
        annotation=Annotated[hint if flag else hint | None, made],
    )


def with_options(command: Command) -> Command:
    """Return a command for Typer: its options, and those that every command has."""
    hints = typing.get_type_hints(command, include_extras=True)
    groups = {name: marks for name, hint in hints.items() if (marks := _marks(hint))}
    parameters: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(command).parameters.items():
        own = parameter.replace(
            annotation=hints[name], kind=inspect.Parameter.KEYWORD_ONLY
        )
        made = [p for mark in groups.get(name, ()) for p in mark.parameters()]
        parameters += made or [own]
    parameters += _EVERYWHERE

    def call(**values: Any) -> Outcome | None:  # noqa: ANN401
        for parameter in _EVERYWHERE:
            del values[parameter.name]
        built = {}
        for name, marks in groups.items():
            given = {k: v for mark in marks for k, v in mark.taken(values).items()}
            bare = getattr(hints[name], "__origin__", hints[name])
            built[name] = given if bare == dict[str, Any] else marks[0].kind(**given)
        return command(**values, **built)

    call.__doc__ = command.__doc__
    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {p.name: p.annotation for p in parameters}
    return call


def _marks(hint: Any) -> list[Options]:  # noqa: ANN401
    """Return the options that a parameter of this type stands for."""
    if isinstance(hint, type) and issubclass(hint, Config):
        return [Options(hint)]
    return [m for m in getattr(hint, "__metadata__", ()) if isinstance(m, Options)]


def _set_level(level: str | None) -> None:
    if level is not None:
        logging.getLogger("cellunet").setLevel(level.upper())


def _set_verbose(count: int) -> None:
    if count:
        _set_level("info" if count == 1 else "debug")


def _set_quiet(ctx: typer.Context, wanted: bool) -> None:
    if wanted:
        Session.of(ctx).console.silence()


def _check_threads(threads: int | None) -> int | None:
    cores = threads_for(threads or 0)
    if threads is not None and threads > cores:
        have = f"this machine has {counted(cores, 'core')}, and as many threads compute"
        logging.getLogger(__name__).warning("--threads %d: %s.", threads, have)
    return threads


def given_words(ctx: typer.Context) -> dict[str, str]:
    """Return the parameters that were given on the command line, and their words."""
    words = {}
    for parameter in ctx.command.params:
        source = ctx.get_parameter_source(str(parameter.name))
        if source is not None and source.name == "COMMANDLINE":
            words[str(parameter.name)] = parameter.opts[0]
    return words


def refuse_given(ctx: typer.Context, names: tuple[str, ...], why: str) -> None:
    """Refuse options that would mean nothing.

    Raises
    ------
    typer.BadParameter
        With the first of `names` that was given, and `why`.
    """
    for name, word in given_words(ctx).items():
        if name in names:
            raise typer.BadParameter(f"{word} {why}.", ctx=ctx)


def option(
    names: str,
    metavar: str,
    text: str,
    panel: str | None = None,
    **more: Any,  # noqa: ANN401
) -> Any:  # noqa: ANN401
    """Return an option that is no field of a configuration.

    Parameters
    ----------
    names
        As they are typed: ``--out -o``.
    metavar
        What stands for its value; empty for a switch.
    text
        Its help text, with its default.
    panel
        Its heading on the help page.
    more
        As `typer.Option` has it.
    """
    return typer.Option(
        *names.split(),
        metavar=metavar,
        help=text,
        rich_help_panel=panel,
        show_default=False,
        **more,
    )


def _messages(
    as_json: Annotated[
        bool,
        option(
            "--json",
            "",
            "Print one JSON document (docs/json.md) on standard output, and nothing "
            "else there.",
            MESSAGES,
        ),
    ] = False,
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"] | None,
        option(
            "--log-level",
            "LEVEL",
            "Least severe log messages to print: debug, info, warning, error. "
            "Default: warning.",
            MESSAGES,
            callback=_set_level,
        ),
    ] = None,
    verbose: Annotated[
        int,
        option(
            "--verbose -v",
            "",
            "Print more of what happens; twice: everything.",
            MESSAGES,
            callback=_set_verbose,
            count=True,
        ),
    ] = 0,
    quiet: Annotated[
        bool,
        option(
            "--quiet -q",
            "",
            "Print results, warnings and errors alone: no progress and no notes.",
            MESSAGES,
            callback=_set_quiet,
        ),
    ] = False,
) -> None:
    """Options that every command has."""


_EVERYWHERE = [
    parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
    for parameter in inspect.signature(_messages, eval_str=True).parameters.values()
]

Model = Annotated[
    str,
    option(
        "--model -m",
        "NAME|PATH",
        f"Model to use; cellunet models lists them. Default: {MODEL}.",
    ),
]

SettingsFile = Annotated[
    Path | None,
    option(
        "--config",
        "FILE.toml",
        "Settings of training, each by its name; cellunet models show NAME --toml "
        "writes those of a model, and what they mean. Default: those of the preset.",
    ),
]

Channel = Annotated[dict[str, Any], Options(PredictConfig, "channel", "gray")]

Reading = Annotated[
    dict[str, Any],
    Options(PredictConfig, "channel", "gray"),
    Options(AnnotationConfig, "ignore_value", "planes"),
]

Overwrite = Annotated[dict[str, Any], Options(PredictConfig, "overwrite")]

Computing = Annotated[dict[str, Any], Options(ComputeConfig, "device", "threads")]
