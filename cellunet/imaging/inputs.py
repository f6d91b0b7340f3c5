"""From what a user names (files, folders, patterns, a list) to image files.

And from these to the result files, every clash found before any work is done.
"""

from __future__ import annotations

import fnmatch
import glob
import os
import re
import stat
import unicodedata
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from cellunet.errors import InputError
from cellunet.imaging.exclusions import (
    counted,
    is_unread,
    left_out,
    note_on,
    note_on_unread,
    way_out,
)
from cellunet.imaging.files import FOLDERS, READERS
from cellunet.imaging.outputs import output_paths, stem

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from typing import TextIO

__all__ = ["Inputs", "find_inputs", "natural_key", "output_paths", "stem"]

SHOWN = 5
"""Most names listed in one message."""


@dataclass(frozen=True)
class Inputs:
    """The image files that were found."""

    files: list[Path]
    """In the order of the inputs, each folder and pattern in natural order, once."""
    base: Path
    """Their common folder, absolute: where the tree of results starts."""
    missing: list[tuple[str, str]] = field(default_factory=list)
    """What was named but not found or not readable, and why."""
    named: frozenset[Path] = frozenset()
    """Those of `files` that were named one by one."""
    left_out: dict[str, list[Path]] = field(default_factory=dict)
    """What lies in the folders and is no image, by its kind in
    `cellunet.imaging.exclusions.KINDS`."""
    warnings: tuple[str, ...] = ()
    """What to look at, in sentences."""


def find_inputs(
    inputs: Sequence[str],
    stdin: TextIO | None = None,
    *,
    exclude: Path | None = None,
    include: Collection[str] = (),
) -> Inputs:
    """Find the image files that `inputs` name.

    Parameters
    ----------
    inputs
        Files; folders, of which all image files are taken, at any depth, hidden ones
        aside; patterns with ``*``, ``?``, ``[...]`` and ``**`` that the shell left;
        and ``-`` for a list of these on `stdin`, one a line, or separated by NUL.
    stdin
        The list for ``-``.
    exclude
        A folder that folders and patterns leave out: that of the results, so that a
        second run does not take the first one's results for images.
    include
        Kinds of `cellunet.imaging.exclusions.KINDS` that are taken from folders and
        patterns as well; what is named itself always is.

    Returns
    -------
    Inputs
        What is missing is listed in it: one lost file must not stop the others.

    Raises
    ------
    InputError
        If there is no file at all, or if files have no common folder.
    """
    search = _Search(os.path.realpath(exclude) if exclude is not None else None)
    for text in _listed(inputs, stdin):
        search.add(text)
    named = [path for key, path in search.files.items() if key in search.named]
    others = [path for key, path in search.files.items() if key not in search.named]
    out = left_out(others, named, include)
    gone = {path for paths in out.values() for path in paths}
    files = [path for path in search.files.values() if path not in gone]
    if not files:
        raise _nothing(search, out)
    return Inputs(
        files,
        _common(search.anchors),
        search.missing,
        named=frozenset(named),
        left_out=out,
        warnings=tuple(_warnings(search.unread, left_out(named, (), include))),
    )


def natural_key(path: str) -> list[tuple[int, int, str]]:
    """Return a sort key by which ``t2.tif`` comes before ``t10.tif``.

    Examples
    --------
    >>> sorted(["t10.tif", "t2.tif", "T1.tif"], key=natural_key)
    ['T1.tif', 't2.tif', 't10.tif']
    """
    parts = re.split(r"([0-9]+)", unicodedata.normalize("NFC", path))
    key = [
        (0, int(part), "") if k % 2 else (1, 0, part.casefold())
        for k, part in enumerate(parts)
    ]
    # Names that differ only in case or leading zeros still have one order.
    return [*key, (2, 0, path)]


def _listed(inputs: Sequence[str], stdin: TextIO | None) -> Iterator[str]:
    """Yield the inputs, ``-`` replaced by the lines of `stdin`."""
    for text in inputs:
        if text != "-":
            yield text
            continue
        if stdin is None:
            raise InputError(
                "The input '-' is a list on standard input, but there is none.",
                hint="Try: ls *.tif | cellunet predict - --out DIR.",
            )
        # Windows shells may put a byte order mark first. Only real line ends count:
        # file names may hold other characters that Unicode calls line breaks.
        content = stdin.read().removeprefix("\ufeff")
        lines = content.split("\0" if "\0" in content else "\n")
        yield from (line.rstrip("\r\n") for line in lines if line.strip())


class _Search:
    """Collects files, each once."""

    def __init__(self, exclude: str | None) -> None:
        self.files: dict[str, Path] = {}
        self.anchors: set[str] = set()
        self.missing: list[tuple[str, str]] = []
        self.named: set[str] = set()
        self.unread: Counter[str] = Counter()
        self._exclude = exclude

    def add(self, text: str) -> None:
        """Add what one input names."""
        path = Path(text)
        try:
            mode = path.stat().st_mode
        except (OSError, ValueError) as error:
            self._add_absent(text, error)
            return
        if stat.S_ISDIR(mode) and is_unread(path.name):
            self.missing.append((text, "an image in a format that is not read"))
        elif stat.S_ISDIR(mode) and not _is_folder_image(path.name):
            self._add_folder(path, text)
        elif stat.S_ISDIR(mode) or stat.S_ISREG(mode):
            self.named.add(self._add_file(path, str(path.parent)))
        else:
            self.missing.append((text, "neither a file nor a folder"))

    def _add_absent(self, text: str, error: OSError | ValueError) -> None:
        if glob.has_magic(text):
            self._add_pattern(text)
        elif not isinstance(error, FileNotFoundError | NotADirectoryError):
            reason = error.strerror if isinstance(error, OSError) else str(error)
            self.missing.append((text, reason or "unreadable"))
        elif Path(text).is_symlink():
            self.missing.append((text, "a link to a file that does not exist"))
        else:
            self.missing.append((text, "no such file or folder"))

    def _add_file(self, path: Path, anchor: str) -> str:
        key = os.path.normcase(os.path.realpath(path))
        self.files.setdefault(key, path)
        self.anchors.add(os.path.abspath(anchor))  # noqa: PTH100 - not resolved
        return key

    def _add_unread(self, names: list[str]) -> None:
        visible = (n for n in names if is_unread(n) and not n.startswith("."))
        self.unread.update(Path(name).suffix.lower() for name in visible)

    def _add_folder(self, folder: Path, text: str) -> None:
        told = len(self.missing)
        found = self._walk(folder)
        for path in found:
            self._add_file(path, str(folder))
        if not found and len(self.missing) == told:
            reason = f"a folder without an image ({', '.join(READERS)})"
            self.missing.append((text, reason))

    def _add_pattern(self, text: str) -> None:
        found: list[Path] = []
        for path in self._matches(text):
            if _is_folder_image(path.name):
                found.append(path)
            elif is_unread(path.name):
                self._add_unread([path.name])
            elif os.path.isdir(path):  # noqa: PTH112 - False if it may not be read
                found += self._walk(path)
            elif _is_image(path) and not self._excluded(str(path.parent)):
                found.append(path)
        for path in found:
            self._add_file(path, str(path.parent))
        if not found:
            self.missing.append((text, "no image fits this pattern"))

    def _matches(self, text: str) -> list[Path]:
        """Return the files and folders that fit a pattern, in natural order."""
        parts = Path(text).parts
        if "**" not in parts:
            names = glob.glob(text)  # noqa: PTH207 - which cannot be absolute
            return [Path(n) for n in sorted(names, key=natural_key)]
        # The standard library follows links in circles here; `_walk` does not.
        fixed = next(k for k, part in enumerate(parts) if glob.has_magic(part))
        root = Path(*parts[:fixed])
        unread = Counter(self.unread)
        found = self._walk(root)
        if parts[-1] not in ("*", "**"):
            # What the pattern does not ask for is no one's loss.
            self.unread = unread
        return [p for p in found if _fits(p.relative_to(root).parts, parts[fixed:])]

    def _excluded(self, folder: str) -> bool:
        if self._exclude is None:
            return False
        real = os.path.realpath(folder)
        return real == self._exclude or real.startswith(self._exclude + os.sep)

    def _walk(self, folder: Path) -> list[Path]:
        """Return the image files below `folder`, following links but no circles."""
        found: list[str] = []
        seen = {os.path.realpath(folder)}

        def unreadable(error: OSError) -> None:
            self.missing.append((str(error.filename), error.strerror or "unreadable"))

        for at, folders, names in os.walk(folder, onerror=unreadable, followlinks=True):
            if self._excluded(at):
                folders.clear()
                continue
            kept = []
            whole = [name for name in folders if _is_folder_image(name)]
            names += whole
            for name in sorted(set(folders) - set(whole), key=natural_key):
                real = os.path.realpath(os.path.join(at, name))  # noqa: PTH118
                if is_unread(name):
                    names.append(name)
                elif not name.startswith(".") and real not in seen:
                    seen.add(real)
                    kept.append(name)
            folders[:] = kept
            found += [os.path.join(at, name) for name in names]  # noqa: PTH118
            self._add_unread(names)
        images = [p for p in map(Path, sorted(found, key=natural_key)) if _is_image(p)]
        return images


def _fits(names: tuple[str, ...], parts: tuple[str, ...]) -> bool:
    """Say whether a relative path's names fit a pattern's parts, ``**`` among them."""
    if not parts or not names:
        return not names and all(part == "**" for part in parts)
    if parts[0] == "**":
        return _fits(names, parts[1:]) or _fits(names[1:], parts)
    return fnmatch.fnmatch(names[0], parts[0]) and _fits(names[1:], parts[1:])


def _is_image(path: Path) -> bool:
    """Say whether a name is not hidden and has an image's suffix."""
    return not path.name.startswith(".") and path.suffix.lower() in READERS


def _is_folder_image(name: str) -> bool:
    """Say whether a folder of this name is one image, not a folder of images."""
    return not name.startswith(".") and Path(name).suffix.lower() in FOLDERS


def _warnings(unread: Counter[str], named: dict[str, list[Path]]) -> Iterator[str]:
    """Yield what to know of files that are not read, and of some that were named."""
    if unread:
        yield f"Left out: {note_on_unread(unread)}. {way_out(unread)}"
    if named:
        yield f"Segmented because they were named one by one: {counted(named)}."


def _nothing(search: _Search, out: dict[str, list[Path]]) -> InputError:
    missing = [f"{text}: {why}" for text, why in search.missing]
    if out:
        missing.append(note_on(out))
    if not missing and not search.unread:
        return InputError(
            "No input was named.", hint="Name images, folders or patterns."
        )
    more = [f"and {len(missing) - SHOWN} more"] if len(missing) > SHOWN else []
    unread = [note_on_unread(search.unread)] if search.unread else []
    shown = "; ".join([*missing[:SHOWN], *more, *unread]).removesuffix(".")
    return InputError(
        f"There is no image to work on ({shown}).",
        hint=way_out(search.unread)
        or f"Name files that exist, or folders with images ({', '.join(READERS)}).",
    )


def _common(folders: set[str]) -> Path:
    try:
        return Path(os.path.commonpath(folders))
    except ValueError as error:
        drives = sorted({os.path.splitdrive(f)[0] for f in folders})
        raise InputError(
            f"The inputs lie on several drives ({', '.join(drives)}), so their results "
            "have no common folder.",
            hint="Run once for each drive.",
        ) from error
