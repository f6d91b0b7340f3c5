"""The commands, their help pages, and `main`, which turns errors into exit codes."""

from __future__ import annotations

import contextlib
import errno
import gc
import importlib.metadata
import inspect
import io
import logging
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, cast

import typer
import typer.main

from cellunet import __version__
from cellunet.bugs import library_versions
from cellunet.cli.console import Console
from cellunet.cli.options import option, with_options
from cellunet.cli.session import (
    BUG,
    Failure,
    Outcome,
    Session,
    StoppedNow,
    document,
    importing,
    listening,
)
from cellunet.errors import (
    BugError,
    CellunetError,
    ConfigError,
    InputError,
    RankError,
)
from cellunet.ranks import is_further

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


REFUSED, USAGE, INTERRUPTED, BROKEN_PIPE = 1, 2, 130, 141

PATH_FAULTS = {errno.ENAMETOOLONG, errno.ELOOP, errno.EACCES}
"""What the system says of paths that cannot be looked up. Whatever is met while files
are read or written has its own words."""

COMPLETING = "_CELLUNET_COMPLETE"
"""Set by the scripts that ``--install-completion`` gives to shells."""

MOST_SHOWN = 200
"""Most characters of a path that are shown where it is too long to be one."""

DISTRIBUTION, NAMESAKE = "cellunet-torch", "cellunet"
"""What this program is called where packages are installed from, and another one
that is imported by the same name."""

COMMANDS = {
    "train": "cellunet.cli.train:train",
    "predict": "cellunet.cli.predict:predict",
    "join": "cellunet.cli.predict:join",
    "evaluate": "cellunet.cli.evaluate:evaluate",
    "suggest": "cellunet.cli.suggest:suggest",
    "check": "cellunet.cli.labels:check",
    "make-labels": "cellunet.cli.labels:make_labels",
    "measure": "cellunet.cli.measure:measure",
    "doctor": "cellunet.cli.doctor:doctor",
    "models": "cellunet.cli.models:app",
}
"""Where each command lies: a function, or what Typer made of several."""

# Typer keeps this class in a private module, and an old Typer in another package; its
# public subclass leads to it wherever it lives.
UsageError = cast("type[Exception]", typer.BadParameter.__mro__[1])


def _print_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"cellunet {__version__}\n")
        raise typer.Exit


def _prose(function: Callable[..., object]) -> str:
    """Return a docstring with its paragraphs unwrapped, for terminals of any width."""
    paragraphs = inspect.getdoc(function) or ""
    return "\n\n".join(" ".join(p.split()) for p in paragraphs.split("\n\n"))


def root(
    ctx: typer.Context,
    version: Annotated[
        bool,
        option(
            "--version -V",
            "",
            "Print the version and leave.",
            callback=_print_version,
            is_eager=True,
        ),
    ] = False,
) -> None:
    """One mask per nucleus or cell from fluorescence microscopy images.

    Exit codes: 0 done; 1 refused before any work; 2 wrong usage; 3 some inputs
    failed or are damaged, each is named; 70 a bug, be it at one input; 130 or 143
    stopped by a signal.
    """
    if ctx.invoked_subcommand is None:
        with contextlib.redirect_stdout(sys.stderr):
            sys.stdout.write(ctx.get_help())
        raise typer.BadParameter("A command is missing.", ctx=ctx)


def make_app(names: Iterable[str] = COMMANDS) -> typer.Typer:
    """Return the command line with these commands; a call needs its own alone."""
    app = typer.Typer(
        name="cellunet",
        help="One mask per nucleus or cell from fluorescence microscopy images.",
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": NAMES},
    )
    app.callback(invoke_without_command=True)(with_options(root))
    for name in names:
        command = _load(name)
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name)
        else:
            app.command(name, help=_prose(command))(with_options(command))
    return app


def _load(name: str) -> Any:  # noqa: ANN401
    module, _, attribute = COMMANDS[name].partition(":")
    return getattr(importlib.import_module(module), attribute)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv
        Words after ``cellunet``; None: those of the process.

    Returns
    -------
    int
        Exit code: 0 done; 1 refused before work; 2 usage; 3 inputs failed; 4 a check
        needs a person; 70 a bug; 130 and 143 stopped by SIGINT and SIGTERM; 141 nobody
        reads the output.
    """
    if COMPLETING in os.environ:
        # A shell asks for words; Typer answers and ends the process.
        make_app()(prog_name="cellunet")
    words = tuple(sys.argv[1:] if argv is None else argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Finished work must not fail at a name or unit that its encoding lacks.
        sys.stdout.reconfigure(errors="backslashreplace")
    if _command(words) == "train" and is_further(os.environ):
        return _beside_the_first(words)
    as_json = "--json" in _options(words)
    console = Console()
    with _logging_to(console), listening() as stop:
        console.stopping = stop
        report = console if as_json else Console(sys.stdout)
        session = Session(argv=words, console=console, report=report, stop=stop)
        try:
            # What anything in a task prints must not mix with the document.
            aside = contextlib.redirect_stdout(sys.stderr)
            with aside if as_json else contextlib.nullcontext():
                outcome = _outcome(session)
            if as_json:
                sys.stdout.write(document(_command(words), outcome) + "\n")
            elif report.lost is not None:
                raise report.lost
            sys.stdout.flush()
        except BrokenPipeError:
            return _quietly_without_readers()
        except OSError as error:
            console.error(f"Standard output cannot be written ({error.strerror}).")
            return REFUSED
        finally:
            gc.unfreeze()
    return outcome.code


def _beside_the_first(words: tuple[str, ...]) -> int:
    """Run one of several processes of a training, whose first one speaks for all.

    Only that the processes have lost each other, and bugs, are told by each.
    """
    with (
        Path(os.devnull).open("w", encoding="utf-8") as nowhere,
        contextlib.redirect_stdout(nowhere),
        listening() as stop,
    ):
        stop.silent = True
        console = Console(nowhere)
        outcome = _outcome(
            Session(argv=words, console=console, report=console, stop=stop)
        )
    failure = outcome.failure
    if failure is not None and failure.type in (RankError.__name__, "Bug"):
        Console().error(str(failure))
    return outcome.code


def _outcome(session: Session) -> Outcome:
    """Run the command; whatever ends it becomes an outcome, told on standard error."""
    say = session.console.error
    try:
        return _run(session)
    except CellunetError as error:
        code = BUG if isinstance(error, BugError) else REFUSED
        outcome = Outcome(code=code, failure=Failure.of(error))
    except UsageError as error:
        outcome = _usage(error, _command(session.argv))
    except (StoppedNow, KeyboardInterrupt):
        advice = session.stop.advice
        session.console.alert(f"cellunet: stopped. {advice}".strip())
        failure = Failure(type="Stopped", message="Stopped at once.", hint=advice)
        return Outcome(code=session.stop.code, failure=failure)
    except BrokenPipeError:
        raise
    except OSError as error:
        outcome = _path_fault(error) or _bug(error)
    except Exception as error:  # noqa: BLE001  (a bug: told with its traceback, not hidden)
        outcome = _bug(error)
    say(str(outcome.failure))
    return outcome


def _path_fault(error: OSError) -> Outcome | None:
    """Return how a path that the system refuses even to look up ends the command."""
    if error.errno not in PATH_FAULTS or not isinstance(error.filename, str):
        return None
    refused = InputError(
        f"{error.filename[:MOST_SHOWN]} cannot be looked up: {error.strerror}.",
        hint="Check the path and who may read the folders on it.",
    )
    return Outcome(code=REFUSED, failure=Failure.of(refused))


def _bug(error: Exception) -> Outcome:
    """Return how an error that nobody foresaw ends the command, its traceback told."""
    traceback.print_exc()
    name = type(error).__name__
    failure = Failure(
        type="Bug",
        message=f"This is a bug in cellunet ({name}: {error}). {library_versions()}",
        hint="Please report it with the lines above and what cellunet doctor prints.",
    )
    return Outcome(code=BUG, failure=failure)


def _refuse_namesake() -> None:
    """Refuse to run beside the other program whose package is called cellunet too.

    Raises
    ------
    ConfigError
        If it is installed in this environment.
    """
    try:
        importlib.metadata.distribution(NAMESAKE)
    except importlib.metadata.PackageNotFoundError:
        return
    raise ConfigError(
        f"This environment also holds {NAMESAKE}, another program, whose files lie in "
        f"the same folder as those of {DISTRIBUTION}.",
        hint=f"Try: pip uninstall -y {NAMESAKE} {DISTRIBUTION}, then install "
        f"{DISTRIBUTION} again.",
    )


def _run(session: Session) -> Outcome:
    _refuse_namesake()
    if "" in session.argv:
        raise typer.BadParameter(
            "An argument is empty; perhaps a variable of the shell is not set."
        )
    first = session.argv[:1]
    with importing():
        app = make_app(first if first and first[0] in COMMANDS else COMMANDS)
        command = plain_pages(typer.main.get_command(app))
    try:
        with command.make_context("cellunet", list(session.argv), obj=session) as ctx:
            outcome = command.invoke(ctx)
    except typer.Exit as end:
        return Outcome(code=end.exit_code)
    return outcome if isinstance(outcome, Outcome) else Outcome()


def _usage(error: Exception, command: str | None) -> Outcome:
    ctx: typer.Context | None = getattr(error, "ctx", None)
    path = ctx.command_path if ctx is not None else f"cellunet {command or ''}".strip()
    format_message: Callable[[], str] = getattr(error, "format_message", error.__str__)
    message = " ".join(format_message().split()).removeprefix("Invalid value: ")
    # What some versions of Typer put before what is wrong.
    message = message.replace(": Value error, ", ": ")
    failure = Failure(
        type="UsageError",
        message=message if message.endswith((".", "?")) else f"{message}.",
        hint=f"See: {path} --help",
    )
    return Outcome(code=USAGE, failure=failure)


def _options(words: tuple[str, ...]) -> tuple[str, ...]:
    """Return the words that can be options: those before ``--``."""
    return words[: words.index("--")] if "--" in words else words


def _command(words: tuple[str, ...]) -> str | None:
    """Return the subcommand that the words name, its own subcommand included."""
    for i, word in enumerate(words):
        if word == "models":
            own = {command.name for command in _load(word).registered_commands}
            inner = [w for w in words[i + 1 :] if not w.startswith("-")][:1]
            return " ".join([word, *(w for w in inner if w in own)])
        if word in COMMANDS:
            return word
    return None


class _Handler(logging.Handler):
    """Prints records as lines of the console, so that they do not break its bars."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        style = "yellow" if record.levelno >= logging.WARNING else "dim"
        name = "cellunet" if record.name.startswith("cellunet") else record.name
        level = record.levelname.lower()
        for line in self.format(record).splitlines():
            self._console.alert(f"{name}: {level}: {line}", style)


@contextlib.contextmanager
def _logging_to(console: Console) -> Iterator[None]:
    """Print log records inside; the only place that sets a handler or a level."""
    handler, root_logger = _Handler(console), logging.getLogger()
    ours = logging.getLogger("cellunet")
    level = ours.level
    root_logger.addHandler(handler)
    ours.setLevel(logging.WARNING)
    try:
        yield
    finally:
        ours.setLevel(level)
        root_logger.removeHandler(handler)


def _quietly_without_readers() -> int:
    """Let go of a pipe that nobody reads: what is still buffered goes nowhere."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
    return BROKEN_PIPE
