"""Tell faults of cellunet and its libraries from faults of the files that are read.

A damaged file can surface as almost any exception, so its type alone says little. What
decides is where it was raised and on what: a module, a class or an object of a library
lacks a name, or a call does not fit its function. No byte of a file does that.
"""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import sys
import types
from typing import TYPE_CHECKING

from cellunet import __version__
from cellunet.errors import BugError, CellunetError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TESTED = {
    "tifffile": ("2024.8.30", "2026.11.8"),
    "imagecodecs": ("2024.6.1", "2026.10.10"),
    "numpy": ("1.26.0", "2.5.5"),
    "scipy": ("1.12.0", "1.18.1"),
    "onnxruntime": ("1.17.0", "1.32.0"),
    "torch": ("2.4.0", "2.13.0"),
    "typer": ("0.26.0", "0.29.2"),
    "rich": ("13.7.0", "15.0.0"),
    "safetensors": ("0.4.3", "0.8.0"),
    "platformdirs": ("4.0.0", "4.14.8"),
    "roifile": ("2024.5.24", "2026.11.6"),
    "filelock": ("3.30.0", "4.3.1"),
    "jinja2": ("3.1.3", "3.1.6"),
    "matplotlib": ("3.8.0", "3.11.2"),
    "pillow": ("10.1.0", "13.0.0"),
    "pyarrow": ("16.0.0", "26.0.1"),
    "openvino": ("2025.0.0", "2026.4.1"),
    "zarr": ("3.1.0", "3.4.2"),
    "fsspec": ("2024.6.0", "2026.9.0"),
    "liffile": ("2025.11.8", "2026.10.14"),
    "oiffile": ("2025.1.1", "2026.10.15"),
    "h5py": ("3.11.0", "3.16.0"),
}
"""Package to the oldest and the newest version that tests passed with. The oldest is
the lower bound in ``pyproject.toml``; ``.ci/matrix`` tests both."""


def installed(package: str) -> str | None:
    """Return the version of an installed package, None if it is not there."""
    # Here, because it takes a while to load and most commands never ask.
    from importlib import metadata

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def outside_tested() -> list[str]:
    """Return a sentence for each library that is older or newer than those tested."""
    told = []
    for package, (oldest, newest) in TESTED.items():
        version = installed(package)
        if version is None:
            continue
        if not _numbers(oldest) <= _numbers(version) <= _numbers(newest):
            told.append(
                f"cellunet was tested with {package} {oldest} to {newest}; this is "
                f"{version}."
            )
    return told


def in_use() -> dict[str, str | None]:
    """Return the version of Python and of each library; None if it is not there."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    return found | {package: installed(package) for package in TESTED}


def _numbers(version: str) -> tuple[int, ...]:
    """Return the release of a version to compare by.

    Examples
    --------
    >>> _numbers("2.13.0+cpu"), _numbers("0.27.0rc1"), _numbers("4.0")
    ((2, 13), (0, 27), (4,))
    """
    parts = []
    for part in version.partition("+")[0].split("."):
        digits = part[: next((i for i, c in enumerate(part) if not c.isdigit()), 99)]
        parts.append(int(digits or 0))
    while parts and not parts[-1]:
        parts.pop()
    return tuple(parts)


PACKAGE = os.path.dirname(__file__) + os.sep  # noqa: PTH120

REPORT = "Nothing is wrong with the file. Please report it with: cellunet doctor"

_HOOKS = ("__getattr__", "__getattribute__")

_VALUES = (str, bytes, bytearray, memoryview, int, float, complex, tuple, list, dict)

_BAD_KEYWORD = ("unexpected keyword argument", "invalid keyword argument")

_BAD_CALL = (
    "is not callable",
    "positional argument",
    "keyword-only argument",
    "multiple values for",
    "takes no arguments",
)

_log = logging.getLogger(__name__)


def is_bug(error: BaseException) -> bool:
    """Return whether an exception cannot come from what a file holds.

    Parameters
    ----------
    error
        As it was caught, with its traceback.
    """
    if isinstance(error, BugError):
        return True
    if isinstance(error, UnboundLocalError):
        return _raised_here(error)
    if isinstance(error, NameError):
        return True
    if isinstance(error, ImportError):
        # A library has a class of its own for a codec that it was built without.
        return type(error) in (ImportError, ModuleNotFoundError)
    if isinstance(error, AttributeError):
        return _lacks_name(error)
    return isinstance(error, TypeError) and _misfit_call(error)


def bug(error: BaseException, path: Path) -> BugError:
    """Return the error that tells of a bug met at a file, versions included."""
    if isinstance(error, BugError):
        return error
    _log.debug("A bug, met at %s", path, exc_info=error)
    about = f"{type(error).__name__}: {' '.join(str(error).split())}"
    return BugError(
        f"{path} met a bug in cellunet {__version__} or in a library that it uses "
        f"({about:.200}, {_place(error)}). {library_versions()}",
        hint=REPORT,
    )


@contextlib.contextmanager
def telling_bugs(path: Path, *passing: type[Exception]) -> Iterator[None]:
    """Turn exceptions that nobody foresaw into one error, so that a batch goes on.

    Parameters
    ----------
    path
        The file at hand.
    passing
        Exceptions that mean something else.

    Raises
    ------
    BugError
        In place of whatever is neither an error of ours nor of the system.
    """
    known: tuple[type[Exception], ...] = (CellunetError, OSError, MemoryError)
    try:
        yield
    except known + passing:
        raise
    except Exception as error:
        raise bug(error, path) from error


def library_versions() -> str:
    """Return the versions that a bug may come from, in a sentence each."""
    found = outside_tested()
    if found:
        return " ".join(found)
    return "All libraries are of versions that cellunet was tested with."


def _lacks_name(error: AttributeError) -> bool:
    owner = error.obj
    if isinstance(owner, types.ModuleType | type):
        return True
    if owner is None or isinstance(owner, _VALUES) or _is_array(owner):
        # What a tag or a document holds, of another kind than is expected.
        return False
    return _raised_here(error)


def _is_array(value: object) -> bool:
    # Without an import: the command line must not load numpy to print its help.
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, numpy.ndarray | numpy.generic)


def _misfit_call(error: TypeError) -> bool:
    told = str(error)
    if any(words in told for words in _BAD_KEYWORD):
        return True
    return _raised_here(error) and any(words in told for words in _BAD_CALL)


def _frames(error: BaseException) -> list[tuple[str, str, int]]:
    """Return file, function and line of each frame, the one that raised last."""
    found, trace = [], error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        found.append((code.co_filename, code.co_name, trace.tb_lineno))
        trace = trace.tb_next
    while found and found[-1][1] in _HOOKS:
        found.pop()
    return found


def _raised_here(error: BaseException) -> bool:
    """Return whether the frame that raised is one of cellunet's."""
    frames = _frames(error)
    return bool(frames) and frames[-1][0].startswith(PACKAGE)


def _place(error: BaseException) -> str:
    """Return the last line of cellunet that the exception passed."""
    own = [frame for frame in _frames(error) if frame[0].startswith(PACKAGE)]
    if not own:
        return "outside of cellunet"
    name, _, line = own[-1]
    return f"cellunet/{name.removeprefix(PACKAGE).replace(os.sep, '/')}:{line}"
