"""Options of commands, made from the fields of `cellunet.config`.

A command has one parameter for each group of settings that it takes::

    def measure(
        config: MeasureConfig,
        images: Annotated[dict[str, Any], Options(PredictConfig, "channel", "gray")],
    ) -> Outcome: ...

`with_options` gives it the options of all fields, or of those that are named, and
``--config`` for all settings, those without an option too. The command gets a
configuration, checked, or by name the values that were given: an option comes before
the file. A parameter of the type `Settings` gets all that the file says.
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
from cellunet.command_config import MODEL, ComputeConfig, PredictConfig
from cellunet.config import TrainConfig
from cellunet.config_file import Settings, read_settings
from cellunet.engine.threads import threads_for
from cellunet.errors import ConfigError
from cellunet.presets import PRESETS
from cellunet.settings import Config, alternatives, known_of, shown, unit_of

MESSAGES = "Messages"

Command = Callable[..., Outcome | None]


class Options:
    """Marks a parameter of a command that stands for options.

    Parameters
    ----------
    kind
        The configuration whose fields they are.
    names
        The fields; all if none is named. Those that are no options can be set in a
        file alone.
    options
        Those of them that are options here; all that can be if none is named.
    from_file
        Whether what a file says of them counts.
    """

    def __init__(
        self,
        kind: type[Config],
        *names: str,
        options: tuple[str, ...] = (),
        from_file: bool = True,
    ) -> None:
        self.kind, self.from_file = kind, from_file
        fields = {f.name: f for f in kind.fields()}
        self.names = names or tuple(fields)
        chosen = [fields[name] for name in options or self.names]
        self.fields = [field for field in chosen if known_of(field).panel]

    def parameters(self) -> list[inspect.Parameter]:
        """Return a parameter of a command for each field."""
        return [_parameter(self.kind, field) for field in self.fields]

    def taken(self, values: dict[str, Any], file: Settings) -> dict[str, Any]:
        """Return what was given, as the fields have it; takes it out of `values`."""
        of_kind = file.get(self.kind, {}) if self.from_file else {}
        given = {k: v for k, v in of_kind.items() if k.partition(".")[0] in self.names}
        for field in self.fields:
            value = values.pop(field.name)
            # An option that may be repeated and was not is an empty list.
            if value is None or value is False or value == []:
                continue
            if isinstance(value, list):
                value = tuple(dict.fromkeys(one.value for one in value))
            elif isinstance(value, str):
                value = parsed(value, self.kind.hints()[field.name], option_of(field))
            given[field.name] = value
        return given


def parsed(text: str, hint: Any, option: str) -> Any:  # noqa: ANN401
    """Return what was typed for a value of a type that Typer does not know.

    One of some words or a number, or numbers with slashes between.

    Raises
    ------
    ConfigError
        If it is something else.
    """
    *literals, kind = alternatives(hint)
    words = [word for literal in literals for word in typing.get_args(literal)]
    several = typing.get_args(kind) if typing.get_origin(kind) is tuple else ()
    if (kind not in (int, float) and not several) or text in words:
        return text
    try:
        if not several:
            return kind(text)
        return tuple(k(one) for k, one in zip(several, text.split("/"), strict=True))
    except ValueError:
        example = "2/8" if several else f"a number or one of {', '.join(words)}"
        raise ConfigError(
            f"{option} is {text!r}.", hint=f"For example {option} {example}."
        ) from None


def option_of(field: Field[Any]) -> str:
    """Return the option of a field: its name without the unit."""
    stem = field.name.removesuffix(f"_{field.name.rpartition('_')[2]}")
    name = stem if unit_of(field.name) else field.name
    return "--" + name.replace("_", "-")


def help_of(kind: type[Config], field: Field[Any]) -> str:
    """Return the help text of a field's option, which ends with its default."""
    known, unit = known_of(field), unit_of(field.name)
    default = known.otherwise or shown(field.default, unit)
    if issubclass(kind, TrainConfig) and not known.otherwise:
        for name, preset in PRESETS.items():
            value = getattr(preset, field.name)
            if value != field.default:
                default += f"; {shown(value, unit)} in {name}"
    return f"{known.help} Default: {default}."


def _parameter(kind: type[Config], field: Field[Any]) -> inspect.Parameter:
    known, hints = known_of(field), alternatives(kind.hints()[field.name])
    hint = hints[-1] if len(hints) == 1 else str
    flag = hint is bool
    if typing.get_origin(hint) is tuple:
        # Typer takes no list of literals, and no pair in one word.
        words = typing.get_args(typing.get_args(hint)[0])
        made_of = {word.upper(): word for word in words}
        hint = list[StrEnum(field.name, made_of)] if words else str  # type: ignore[misc]
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
        if name in groups:
            parameters += [p for mark in groups[name] for p in mark.parameters()]
        elif hints[name] != Settings:
            parameters.append(own)
    everywhere = [*(_OF_SETTINGS if groups else ()), *_EVERYWHERE]
    parameters += everywhere

    def call(**values: Any) -> Outcome | None:  # noqa: ANN401
        path = values.get("config_file")
        for parameter in everywhere:
            del values[parameter.name]
        file: Settings = read_settings(path) if path else {}
        built: dict[str, Any] = {n: file for n, h in hints.items() if h == Settings}
        for name, marks in groups.items():
            given: dict[str, Any] = {}
            for mark in marks:
                given |= mark.taken(values, file)
            bare = getattr(hints[name], "__origin__", hints[name])
            kind = None if bare == dict[str, Any] else marks[0].kind
            built[name] = given if kind is None else kind().changed(given)
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


def _of_settings(
    config_file: Annotated[
        Path | None,
        option(
            "--config",
            "FILE.toml",
            "Settings by name, with or without an option, which comes first; cellunet "
            "models show NAME --toml writes all, and what they mean. Default: none.",
        ),
    ] = None,
) -> None:
    """Have the option of every command that has settings."""


def _parameters(function: Callable[..., None]) -> list[inspect.Parameter]:
    return [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for parameter in inspect.signature(function, eval_str=True).parameters.values()
    ]


_EVERYWHERE, _OF_SETTINGS = _parameters(_messages), _parameters(_of_settings)


def out(text: str, metavar: str = "DIR", panel: str | None = None) -> Any:  # noqa: ANN401
    """Return the option that says where results go, and what they are."""
    return option("--out -o", metavar, text, panel)


Model = Annotated[
    str,
    option(
        "--model -m",
        "NAME|PATH",
        f"Model to use; cellunet models lists them. Default: {MODEL}.",
    ),
]

Channel = Annotated[dict[str, Any], Options(PredictConfig, "channel", "gray", "pages")]

# A file that lets `predict` replace results shall not let others replace a model, or
# labels that were corrected.
Overwrite = Annotated[
    dict[str, Any], Options(PredictConfig, "overwrite", from_file=False)
]

Computing = Annotated[dict[str, Any], Options(ComputeConfig, "device", "threads")]
