"""Write files atomically, and lock what several commands may work on.

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
import shutil
import socket
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from cellunet.errors import BusyError, CellunetError, OutputError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

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


class Closable(Protocol):
    """Anything that can be closed."""

    def close(self) -> None:
        """Close it."""


_FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC), errno.EFBIG}

PARTIAL = ".partial"
"""How names of files end that are not complete yet."""


def partial_path(path: Path) -> Path:
    """Return a new name beside `path` for a file that is not complete yet.

    It is hidden and ends in ``.partial``, so that a leftover of a killed process never
    looks like a result; the name is cut because file names have a greatest length.
    """
    token = f"{os.getpid()}-{secrets.token_hex(4)}"
    return path.with_name(f".{path.name[:40]}.{token}{PARTIAL}")


def clear_leftovers(folders: Collection[Path]) -> int:
    """Remove partial files of processes that are gone; return how many.

    Those of living processes are locked, and stay.
    """
    return remove_abandoned(folders, f".*{PARTIAL}")


@contextlib.contextmanager
def writing(path: Path, option: str = "--out") -> Iterator[None]:
    """Turn an operating system's refusal inside into an OutputError about `path`.

    Whoever listens (`sys.addaudithook`) is told ``cellunet.write`` and the path first,
    as Python itself tells of every opening, renaming and removing; tests make it fail
    there.

    Parameters
    ----------
    path
        What is written.
    option
        By which a user chooses its folder.

    Raises
    ------
    OutputError
        In place of OSError, cellunet's own errors aside.
    """
    try:
        sys.audit("cellunet.write", str(path))
        yield
    except CellunetError:
        raise
    except OSError as error:
        raise _explained(path, error, option) from error


def _explained(path: Path, error: OSError, option: str) -> OutputError:
    folder = path.parent
    if os.path.isdir(path):  # noqa: PTH112 - Path.is_dir may raise
        return OutputError(
            f"{path} cannot be written: a folder of that name exists.",
            hint=f"Rename the folder, or choose another one with {option}.",
        )
    if error.errno in _FULL:
        return OutputError(
            f"{path} cannot be written: there is no room in "
            f"{folder}{_atomic_free(folder)}.",
            hint=f"Free space on that disk, or choose another folder with {option}. "
            "What is finished stays; the same command continues.",
        )
    if error.errno in _FORBIDDEN:
        return OutputError(
            f"{path} cannot be written: {folder} permits no writing "
            f"({error.strerror}).",
            hint=f"Choose another folder with {option}, change its permissions, or "
            "close the program that has the file open.",
        )
    if isinstance(error, FileNotFoundError):
        return OutputError(
            f"{path} cannot be written: {folder}, or a file in it, was removed "
            "meanwhile.",
            hint="Run the same command again, and leave the folder there.",
        )
    reason = error.strerror or str(error) or type(error).__name__
    return OutputError(
        f"{path} cannot be written in {folder}: {reason}.",
        hint=f"Choose another folder with {option}.",
    )


def _atomic_free(folder: Path) -> str:
    with contextlib.suppress(OSError):
        return f" ({shutil.disk_usage(folder).free / 2**20:,.0f} MiB free)"
    return ""


def close_unwanted(file: Closable) -> None:
    """Close a file whose content is not wanted any more, or has been written.

    What is still buffered would be written then; on a full disk that fails once more.
    """
    with contextlib.suppress(OSError):
        file.close()


class PendingFile:
    """A file under a temporary name that `commit` renames to its own.

    Parameters
    ----------
    path
        Where the file is to appear. Its folder is made if need be, and the temporary
        file is made at once, so that a folder without permission is found early.
    option
        By which a user chooses its folder.

    Raises
    ------
    OutputError
        If the folder cannot be made or written to, or if a folder, a device or a pipe
        is there.
    """

    def __init__(self, path: Path, option: str = "--out") -> None:
        self.path, self._option = path, option
        self._open = True
        self._locked: int | None = None
        with writing(path, option):
            if path.is_dir():
                raise IsADirectoryError(errno.EISDIR, "a folder", str(path))
            if _is_device(path):
                raise OSError(errno.EEXIST, "a device or a pipe is there")
            path.parent.mkdir(parents=True, exist_ok=True)
            self.temporary = partial_path(path)
            self._locked = lock_new(self.temporary)

    @contextlib.contextmanager
    def opening(self) -> Iterator[None]:
        """Do as `writing` while a writer begins; if that fails nothing stays behind."""
        try:
            with writing(self.path, self._option):
                yield
        except BaseException:
            self.abort()
            raise

    def commit(self) -> None:
        """Flush the file to the disk and rename it.

        Raises
        ------
        OutputError
            If either fails; then nothing stays behind.
        """
        try:
            with writing(self.path, self._option):
                sys.audit("cellunet.commit", str(self.path))
                with self.temporary.open("rb+") as file:
                    os.fsync(file.fileno())
                self.temporary.replace(self.path)
                self._open = False
        finally:
            self.abort()

    def abort(self) -> None:
        """Remove the temporary file; does nothing after `commit` or `abort`."""
        if self._open:
            self._open = False
            # Nothing more can be done about a file that cannot be removed, and the
            # error on the way, if there is one, is the one to report.
            with contextlib.suppress(OSError):
                self.temporary.unlink(missing_ok=True)
        self._unlock()

    def _unlock(self) -> None:
        if self._locked is not None:
            os.close(self._locked)
            self._locked = None


def _is_device(path: Path) -> bool:
    """Say whether renaming would put a file in place of a device, a pipe or a socket.

    ``/dev/stdout`` is a link, to a file perhaps, that other programs need.
    """
    if path.is_symlink() and os.readlink(path).startswith("/proc/"):  # noqa: PTH115
        return True
    return path.exists() and not path.is_file()


@contextlib.contextmanager
def write_atomically(path: Path, option: str = "--out") -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it becomes `path`.

    On an exception the temporary file is removed and `path` stays as it was. `option`
    is that by which a user chooses the folder.

    Raises
    ------
    OutputError
        In place of OSError, here and inside the block.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder) / "answer.txt"
    ...     with write_atomically(path) as temporary:
    ...         _ = temporary.write_text("42")
    ...     path.read_text()
    '42'
    """
    pending = PendingFile(path, option)
    try:
        with writing(path, option):
            yield pending.temporary
        pending.commit()
    finally:
        pending.abort()


@contextlib.contextmanager
def at_work(
    out: Path, results: Collection[Path], more: Collection[Path] = ()
) -> Iterator[None]:
    """Have results below `out` to oneself inside.

    What killed runs left in their folders is removed first.

    Parameters
    ----------
    out
        The folder of the run; made if need be.
    results
        Files below it that are going to be written.
    more
        Further folders that files are written into.

    Raises
    ------
    BusyError
        If another process is going to write one of the results, and which.
    OutputError
        If there is no room or no permission.
    """
    with contextlib.ExitStack() as stack:
        with writing(out):
            out.mkdir(parents=True, exist_ok=True)
            names = [path.relative_to(out).as_posix() for path in results]
            stack.enter_context(working_on(out, names))
            clear_leftovers({out, *(path.parent for path in results), *more})
        yield
