"""Files that appear complete or not at all, and the words for when they cannot."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import sys
from typing import TYPE_CHECKING, Protocol

from cellunet.errors import CellunetError, OutputError
from cellunet.locks import lock_new, remove_abandoned

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path


class Closable(Protocol):
    """Anything that can be closed."""

    def close(self) -> None:
        """Close it."""


_FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC), errno.EFBIG}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}
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
            f"{path} cannot be written: there is no room in {folder}{_free(folder)}.",
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


def _free(folder: Path) -> str:
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
