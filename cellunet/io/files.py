"""Write files atomically, and keep two commands from working on the same thing.

A lock is filelock's, on a hidden file beside what it is for: the operating system's
lock on an open file, which ends with its process, so that a killed command blocks
nobody. A soft lock, which would also work where the file system knows no locks,
outlives a killed process, and is not used. What the file holds is only for messages.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import logging
import os
import secrets
import shutil
import socket
import sys
import time
from typing import TYPE_CHECKING, Any, Protocol, TextIO

from cellunet.errors import BusyError, CellunetError, OutputError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator
    from pathlib import Path

    from filelock import BaseFileLock

GATE = ".cellunet.lock"
"""Held for a moment while a run into a folder begins."""

RUN = ".cellunet-{}.lock"
"""Held by a run into a folder as long as it lasts."""

PATIENCE_S = 10.0
"""How long to wait for another process to have looked at a lock."""

BEGIN_S = 600.0
"""How long to wait until all have begun that started before: parts by the hundred."""

_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}

_NO_LOCKS = {
    errno.ENOSYS,
    errno.ENOTSUP,
    errno.EOPNOTSUPP,
    errno.ENOLCK,
    errno.EINVAL,
}
"""What file systems answer that know no locks."""

_log = logging.getLogger(__name__)


def _acquire(path: Path, wait_s: float = 0.0) -> BaseFileLock | None:
    """Lock the file at `path`, which is made if need be; None where that cannot be.

    Raises
    ------
    TimeoutError
        If another process, or another lock of this one, has it after `wait_s`.
    OSError
        If the file cannot be made.
    """
    # Imported by those who lock something, which is not how a command starts.
    from filelock import FileLock

    lock = FileLock(path, timeout=wait_s, fallback_to_soft=False)
    try:
        lock.acquire()
    except TimeoutError:
        raise
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        _log.warning(
            "%s cannot be locked (%s): see to it that no other command of cellunet "
            "writes there at the same time.",
            path,
            error.strerror,
        )
        return None
    return lock


def _release(lock: BaseFileLock) -> None:
    """Remove the file and end the lock."""
    # Removed while it is locked, so that nobody else's is removed. Windows removes no
    # open file; there filelock does it.
    with contextlib.suppress(OSError):
        os.unlink(lock.lock_file)  # noqa: PTH108 - a string
    lock.release()


@contextlib.contextmanager
def locked(path: Path, what: str, hint: str, wait_s: float = 0.0) -> Iterator[bool]:
    """Have something to oneself inside.

    Parameters
    ----------
    path
        The file that stands for it; its folder exists.
    what
        Subject of the message if another process has it: ``Training 'cells'``.
    hint
        What to do then.
    wait_s
        How long to wait for it.

    Yields
    ------
    bool
        False if the file system knows no locks, which a warning tells.

    Raises
    ------
    BusyError
        If another process has it, and which.
    OSError
        If the file cannot be made.
    """
    try:
        lock = _acquire(path, wait_s)
    except TimeoutError:
        raise BusyError(f"{what} by {_holder(path)}.", hint=hint) from None
    if lock is None:
        yield False
        return
    try:
        since = time.strftime("%Y-%m-%d %H:%M")
        words = f"process {os.getpid()} on {socket.gethostname()} since {since}"
        # From the second byte on: the first is what Windows locks.
        with path.open("r+b", buffering=0) as file:
            file.seek(1)
            file.write(words.encode())
            file.truncate()
        yield True
    finally:
        _release(lock)


def _holder(path: Path) -> str:
    """Return who has a file locked, by what is written there."""
    with contextlib.suppress(OSError), path.open("rb", buffering=0) as file:
        file.seek(1)
        words = file.read(200).decode("utf-8", "replace").strip()
        if words.startswith("process "):
            return words
    return "another process"


def is_locked(path: Path) -> bool:
    """Return whether a process has a file locked; remove it if none has."""
    try:
        lock = _acquire(path)
    except FileNotFoundError:
        return False
    except OSError:
        # Taken, or of somebody whose files may not be opened.
        return path.exists()
    if lock is not None:
        _release(lock)
    return False


@contextlib.contextmanager
def at_work(
    out: Path, folders: Collection[Path] = (), part: tuple[int, int] | None = None
) -> Iterator[None]:
    """Have a folder of results to oneself inside, or share it with other parts.

    What killed runs left there is removed first, unless another part is at work.

    Parameters
    ----------
    out
        The folder of the run; made if need be.
    folders
        Further folders that files are written into.
    part
        Number of this part of a batch, and of how many.

    Raises
    ------
    BusyError
        If another process writes there, and which.
    OutputError
        If there is no room or no permission.
    """
    with contextlib.ExitStack() as stack:
        with writing(out):
            out.mkdir(parents=True, exist_ok=True)
        with writing(out / GATE):
            try:
                _begin(stack, out, folders, part)
            except OSError as error:
                if error.errno not in _FORBIDDEN:
                    raise
                # Nobody can write here: nothing can be mixed, and what is to be
                # written anew will say why it cannot.
        yield


def _begin(
    stack: contextlib.ExitStack,
    out: Path,
    folders: Collection[Path],
    part: tuple[int, int] | None,
) -> None:
    """Lock `out`, or this part of it, until `stack` is closed."""
    whole = out / RUN.format("run")
    own = whole if part is None else out / RUN.format("part-{}-of-{}".format(*part))
    what = f"{out} is being written"
    hint = (
        "Wait until that is done, or choose another --out; parts of one prediction "
        "(--part I/N) may run side by side."
    )
    with locked(out / GATE, what, hint, BEGIN_S) as known:
        if not known:
            return
        # Of hundreds of parts not each looks at all.
        others = _runs_in(out)
        if part is not None:
            others = itertools.chain(filter(is_locked, (whole, own)), others)
        first = next(others, None)
        if first is not None and (part is None or first in (own, whole)):
            raise BusyError(f"{what} by {_holder(first)}.", hint=hint)
        if first is None:
            clear_leftovers(_without_runs({out, *folders}))
        # One that begins in a folder below may hold it for the moment of a look.
        stack.enter_context(locked(own, what, hint, PATIENCE_S))


def _runs_in(folder: Path) -> Iterator[Path]:
    """Yield the locks of the runs into a folder that are at work."""
    return filter(is_locked, sorted(folder.glob(RUN.format("*"))))


def _without_runs(folders: Collection[Path]) -> list[Path]:
    """Return folders into which no run writes, nor into one above them.

    The results of a run lie in folders below its own, where another run may be.
    """
    whole = {folder: folder.resolve() for folder in folders}
    around = {folder: {path, *path.parents} for folder, path in whole.items()}
    busy = {at for at in set().union(*around.values()) if any(_runs_in(at))}
    return [folder for folder, those in around.items() if not busy & those]


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


def clear_leftovers(folders: Collection[Path]) -> None:
    """Remove the partial files and folders in folders that this process has to itself.

    Parameters
    ----------
    folders
        Where to look, not below them; those that are not there are passed over.
    """
    for folder in folders:
        for path in folder.glob(f".*{PARTIAL}"):
            with contextlib.suppress(OSError):
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink()


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
        with writing(path, option):
            if path.is_dir():
                raise IsADirectoryError(errno.EISDIR, "a folder", str(path))
            if _is_device(path):
                raise OSError(errno.EEXIST, "a device or a pipe is there")
            path.parent.mkdir(parents=True, exist_ok=True)
            self.temporary = partial_path(path)
            self.temporary.touch()

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


def _is_device(path: Path) -> bool:
    """Say whether renaming would put a file in place of a device, a pipe or a socket.

    ``/dev/stdout`` is a link, to a file perhaps, that other programs need.
    """
    if path.is_symlink() and os.readlink(path).startswith("/proc/"):  # noqa: PTH115
        return True
    return path.exists() and not path.is_file()


class StreamedFile:
    """A file that is written piece by piece, and appears at `commit`.

    Parameters
    ----------
    path
        Where it is to appear.
    begin
        Opens the file under its temporary name, and writes what comes first.

    Raises
    ------
    OutputError
        If it cannot be begun; then nothing stays behind.
    """

    def __init__(self, path: Path, begin: Callable[[Path], Any]) -> None:
        self._pending = PendingFile(path)
        with self._pending.opening():
            self._file = begin(self._pending.temporary)

    def close(self) -> None:
        """Close the file, all of which has been written."""
        with writing(self._pending.path):
            self._file.close()

    def commit(self) -> None:
        """Make the complete file appear."""
        self.close()
        self._pending.commit()

    def abort(self) -> None:
        """Leave nothing behind; does nothing after `commit`."""
        close_unwanted(self._file)
        self._pending.abort()


class StreamedText(StreamedFile):
    """A text file that is written piece by piece, its lines as they are.

    Parameters
    ----------
    path
        Where it is to appear.
    first
        What it begins with.
    encoding
        Of its text.
    """

    def __init__(self, path: Path, first: str, encoding: str) -> None:
        super().__init__(
            path, lambda temporary: _begin_text(temporary, first, encoding)
        )

    def write(self, texts: Iterable[str]) -> None:
        """Append pieces of text."""
        with writing(self._pending.path):
            self._file.writelines(texts)


def _begin_text(path: Path, first: str, encoding: str) -> TextIO:
    file = open_text(path, encoding)
    file.write(first)
    return file


def open_text(path: Path, encoding: str) -> TextIO:
    """Open a file to be written as on any system: lines end in line feeds."""
    return path.open("w", encoding=encoding, newline="")


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
