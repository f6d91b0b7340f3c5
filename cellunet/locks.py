"""Who works on what, when several commands run at the same time.

A lock is the operating system's advisory lock on an open file. It belongs to the
process, so that one that is killed leaves none behind; the file may stay, and whoever
comes next takes it away. What the file holds is only for messages.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import secrets
import socket
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cellunet.errors import BusyError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

MUTEX = ".cellunet.lock"
"""Held for a moment while a run signs on to a folder."""
RUN = ".cellunet-{}.run"
"""Of a run, in the folder of its results, as long as it lasts."""
PATIENCE_S = 10.0
"""How long to wait for another run to have signed on."""
_TAKEN = {errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}
_FAR = 2**30
"""The byte that is locked on Windows, where locked bytes cannot be read."""

_log = logging.getLogger(__name__)


def try_lock(descriptor: int) -> bool:
    """Lock an open file for this process, without waiting.

    Parameters
    ----------
    descriptor
        Open for reading and writing; the lock ends when it is closed.

    Returns
    -------
    bool
        False if another process, or another opening of the file, has it locked.

    Raises
    ------
    OSError
        If the file system knows no locks.
    """
    try:
        if sys.platform == "win32":
            os.lseek(descriptor, _FAR, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _TAKEN:
            return False
        raise
    return True


@dataclass(frozen=True)
class Holder:
    """Who has a file locked, by what it wrote there."""

    words: str
    """A process and its computer, for a message."""
    results: frozenset[str]
    """What it is going to write, empty if that does not matter."""


class Held:
    """A file that this process has locked; `release` takes it away.

    Parameters
    ----------
    path
        The file; its folder exists.
    results
        What this process is going to write, for others to compare.

    Raises
    ------
    BlockingIOError
        If another process has it locked.
    OSError
        If it cannot be made.
    """

    def __init__(self, path: Path, results: Collection[str] = ()) -> None:
        self.path = path
        self._descriptor = _open_locked(path)
        about = {
            "process": os.getpid(),
            "computer": socket.gethostname(),
            "results": sorted(results),
        }
        try:
            content = json.dumps(about).encode("ascii")
            os.lseek(self._descriptor, 0, os.SEEK_SET)
            os.truncate(self._descriptor, 0)
            while content:
                content = content[os.write(self._descriptor, content) :]
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """Remove the file and end the lock."""
        # Removed while it is locked, so that nobody else's is removed. Windows removes
        # no open file; there it stays, as that of a killed process does.
        with contextlib.suppress(OSError):
            self.path.unlink()
        os.close(self._descriptor)


def _open_locked(path: Path) -> int:
    """Return a descriptor of the file at `path`, made if need be, and locked."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            if not _lock_or_say(descriptor, path):
                raise BlockingIOError(errno.EWOULDBLOCK, "locked", str(path))
            # Another process may have removed it between opening and locking.
            if _is_at(descriptor, path):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _lock_or_say(descriptor: int, path: Path) -> bool:
    try:
        return try_lock(descriptor)
    except OSError as error:
        _log.warning(
            "%s cannot be locked (%s): see to it that no other command of cellunet "
            "writes there at the same time.",
            path,
            error.strerror,
        )
        return True


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def locked(path: Path, what: str, hint: str) -> Iterator[None]:
    """Have something to oneself inside.

    Parameters
    ----------
    path
        The file that stands for it; its folder exists.
    what
        Subject of the message if another process has it: ``Training 'cells'``.
    hint
        What to do then.

    Raises
    ------
    BusyError
        If another process has it, and which.
    OSError
        If the file cannot be made.
    """
    try:
        held = Held(path)
    except BlockingIOError:
        raise BusyError(f"{what} by {_read(path).words}.", hint=hint) from None
    try:
        yield
    finally:
        held.release()


@contextlib.contextmanager
def working_on(folder: Path, results: Collection[str]) -> Iterator[None]:
    """Sign on to a folder with the results that are going to be written there.

    Runs of different results may work side by side; of the same results, the second
    one is refused.

    Parameters
    ----------
    folder
        Where; it exists.
    results
        Names below it.

    Raises
    ------
    BusyError
        If another process is at work on one of them, and which.
    OSError
        If there is no room to sign on.
    """
    try:
        held = _signed_on(folder, frozenset(results))
    except OSError as error:
        if error.errno not in _FORBIDDEN:
            raise
        # Nobody can write here: nothing can be mixed, and what is to be written
        # anew will say why it cannot.
        yield
        return
    try:
        yield
    finally:
        held.release()


def _signed_on(folder: Path, results: frozenset[str]) -> Held:
    with _alone(folder / MUTEX):
        for path in sorted(folder.glob(RUN.format("*"))):
            other = _living(path)
            common = other.results & results if other else None
            if other and common:
                raise BusyError(
                    f"{folder / min(common)} is being written by {other.words}.",
                    hint="Wait until that is done, or choose another --out; calls "
                    "with different --part may run side by side.",
                )
        token = f"{os.getpid()}-{secrets.token_hex(4)}"
        return Held(folder / RUN.format(token), results)


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Wait for a lock that others hold for a moment only."""
    end = time.monotonic() + PATIENCE_S
    while True:
        try:
            held = Held(path)
            break
        except BlockingIOError:
            if time.monotonic() > end:
                raise BusyError(
                    f"{path.parent} is locked by {_read(path).words}.",
                    hint="Wait until that is done, or choose another --out.",
                ) from None
            time.sleep(0.02)
    try:
        yield
    finally:
        held.release()


def _living(path: Path) -> Holder | None:
    """Return the run that a file belongs to; remove the file of one that is gone."""
    try:
        descriptor = os.open(path, os.O_RDWR)
    except OSError:
        # Just removed, or of somebody whose files may not be opened.
        return _read(path) if path.exists() else None
    try:
        if not _free(descriptor):
            return _read(path)
        with contextlib.suppress(OSError):
            path.unlink()
    finally:
        os.close(descriptor)
    return None


def _free(descriptor: int) -> bool:
    """Return whether nobody has a file locked, as far as that can be told."""
    try:
        return try_lock(descriptor)
    except OSError:
        return False


def _read(path: Path) -> Holder:
    """Return what the holder wrote; it may be just about to."""
    about: Any = None
    with contextlib.suppress(OSError, ValueError):
        about = json.loads(path.read_bytes())
    if not isinstance(about, dict):
        return Holder("another process", frozenset())
    words = f"process {about.get('process')} on {about.get('computer')}"
    results = about.get("results")
    names = results if isinstance(results, list) else []
    return Holder(words, frozenset(str(name) for name in names))


def lock_new(path: Path) -> int | None:
    """Make a file and lock it; return its descriptor.

    None where files cannot be locked; then the file is there all the same.

    Raises
    ------
    OSError
        If it cannot be made.
    """
    if sys.platform == "win32":
        # It renames no file that is open.
        path.touch()
        return None
    else:
        while True:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                taken = try_lock(descriptor)
            except OSError:
                os.close(descriptor)
                return None
            if taken and _is_at(descriptor, path):
                return descriptor
            # `remove_abandoned` of another process came in between.
            os.close(descriptor)


def remove_abandoned(folders: Collection[Path], pattern: str) -> int:
    """Remove files of `lock_new` that no process has locked any more.

    Parameters
    ----------
    folders
        Where to look, not below them; those that are not there are passed over.
    pattern
        Of the files' names.

    Returns
    -------
    int
        How many were removed.
    """
    removed = 0
    if sys.platform != "win32":
        for folder in folders:
            for path in folder.glob(pattern):
                with contextlib.suppress(OSError):
                    removed += _remove_if_free(path)
    return removed


def _remove_if_free(path: Path) -> bool:
    descriptor = os.open(path, os.O_RDWR)
    try:
        if not _free(descriptor):
            return False
        path.unlink()
    finally:
        os.close(descriptor)
    return True
