"""Find, open and describe the stores of OME-Zarr: folders, and addresses of servers.

An address (``http://``, ``https://``, ``s3://``) travels as a `Path` like any other
input, whose two slashes have become one; `address` gives it back. Zarr itself is
imported where a store is opened, so that nothing else needs it or waits for it.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cellunet.bugs import is_bug
from cellunet.errors import CellunetError, ConfigError, ImageReadError, optional
from cellunet.io.source import READ_FAILURES, brief, reading

if TYPE_CHECKING:
    from collections.abc import Iterator

SUFFIX = ".zarr"

NAMESPACE = "cellunet.provenance"
"""Attribute of a group that holds the provenance of labels."""

METADATA = {2: ".zattrs", 3: "zarr.json"}
"""File of a group's attributes by the format of Zarr."""

_GROUP = {2: ".zgroup", 3: "zarr.json"}

_ADDRESS = re.compile(r"(https?|s3):/+(.+)", re.IGNORECASE)

_NEEDS = {"http": "aiohttp", "https": "aiohttp", "s3": "s3fs"}


def address(path: Path | str) -> str:
    """Return the address that a path stands for; empty if it is one of this machine.

    Examples
    --------
    >>> address(Path("https://example.org/a.zarr")), address(Path("a.zarr"))
    ('https://example.org/a.zarr', '')
    """
    text = path.as_posix() if isinstance(path, Path) else path
    found = _ADDRESS.fullmatch(text)
    return f"{found[1].lower()}://{found[2]}" if found else ""


def is_zarr(path: Path) -> bool:
    """Return whether a path names an OME-Zarr, or a group within one, by its name.

    A file in a folder of such a name is none.

    Examples
    --------
    >>> is_zarr(Path("a.ome.zarr")), is_zarr(Path("plate.zarr/A/1/0"))
    (True, True)
    """
    named = (part.lower().endswith(SUFFIX) for part in path.parts)
    if address(path):
        return True
    # Of os.path, because Path.is_file may raise where a folder may not be entered.
    return any(named) and not os.path.isfile(path)  # noqa: PTH113


def store_of(path: Path) -> Path:
    """Return the folder ``.zarr`` that a path is or lies in; else the path."""
    above = (p for p in (path, *path.parents) if p.name.lower().endswith(SUFFIX))
    return next(above, path)


def zarr_module() -> Any:  # noqa: ANN401 - a library that need not be there
    """Return zarr, which reads and writes the arrays.

    Raises
    ------
    ConfigError
        With the line that installs it, if it is not there or too old.
    """
    zarr = optional("zarr", "zarr", "OME-Zarr")
    if not hasattr(zarr, "storage") or int(zarr.__version__.partition(".")[0]) < 3:
        raise ConfigError(
            f"OME-Zarr needs zarr 3; this is {zarr.__version__}.",
            hint='Try: pip install "cellunet-torch[zarr]".',
        )
    return zarr


@contextlib.contextmanager
def reading_zarr(path: Path) -> Iterator[None]:
    """Do as `reading`, and turn what servers answer into an error about `path`, too.

    Raises
    ------
    ImageReadError
        If the store cannot be read.
    """
    with reading(path):
        try:
            yield
        except remote_failures() as error:
            raise ImageReadError(
                f"{address(path) or path} cannot be read: {brief(error)}.",
                hint="Check the address, and that it may be read from here.",
            ) from error
        except READ_FAILURES as error:
            # These have words of their own.
            told = CellunetError | FileNotFoundError | PermissionError | MemoryError
            if isinstance(error, told) or is_bug(error):
                raise
            raise ImageReadError(
                f"{address(path) or path} cannot be read; its OME-Zarr is damaged or "
                f"incomplete ({brief(error)}).",
                hint="Copy the whole folder again, or export it again.",
            ) from error


def remote_failures() -> tuple[type[Exception], ...]:
    """Return what libraries raise where a server does not answer as it should."""
    found = []
    for module, name in (
        ("aiohttp", "ClientError"),
        ("botocore.exceptions", "BotoCoreError"),
        ("botocore.exceptions", "ClientError"),
    ):
        # Nothing that was not imported can have raised it.
        if module in sys.modules:
            found.append(getattr(sys.modules[module], name))
    return tuple(found)


def open_group(path: Path, name: str = "") -> Any:  # noqa: ANN401 - zarr's
    """Return the group at a path or an address, or one within it, for reading.

    Raises
    ------
    ImageReadError
        If there is none.
    """
    zarr = zarr_module()
    where: Any = address(path)
    if where:
        scheme = where.partition(":")[0]
        optional("fsspec", "zarr", "A store on a server")
        extra = "s3" if scheme == "s3" else "zarr"
        optional(_NEEDS[scheme], extra, f"An address {scheme}://")
        where = zarr.storage.FsspecStore.from_url(where, read_only=True)
    elif not path.exists():
        raise ImageReadError(
            f"{path} does not exist.",
            hint="Check the path, and that its drive is connected.",
        )
    else:
        where = zarr.storage.LocalStore(path, read_only=True)
    try:
        # Consolidated metadata would hide labels that were added later.
        return zarr.open_group(where, path=name, mode="r", use_consolidated=False)
    except FileNotFoundError as error:
        raise ImageReadError(
            f"{address(path) or path} is no Zarr group: it holds neither zarr.json nor "
            ".zgroup.",
            hint="Name the folder NAME.zarr itself; it may have been copied in part.",
        ) from error


def refuse_without_ranges(path: Path, file: str) -> None:
    """Refuse a server that answers a request for some bytes of a file with all.

    Chunks within a shard are such bytes, and a whole shard in their place only looks
    damaged.

    Raises
    ------
    ImageReadError
        If so.
    """
    url = address(path)
    if not url.startswith("http"):
        return
    fsspec = optional("fsspec", "zarr", "A store on a server")
    files, root = fsspec.core.url_to_fs(url)
    if len(files.cat_file(f"{root}/{file}", start=0, end=1)) > 1:
        raise ImageReadError(
            f"{url} is sharded, and its server does not answer Range requests: asked "
            "for one byte of a file, it sends all.",
            hint="Use a server that does (nginx, Apache, S3), or copy the store here.",
        )


def zarr_format(folder: Path) -> int | None:
    """Return the format of the group in a folder, 2 or 3; None if there is none."""
    for number in (3, 2):
        if (folder / _GROUP[number]).is_file():
            return number
    return None


def read_attributes(folder: Path) -> dict[str, Any]:
    """Return the attributes of a group of this machine, without zarr.

    Raises
    ------
    ImageReadError
        If they cannot be read.
    """
    number = zarr_format(folder)
    file = folder / METADATA[number or 2]
    if number is None or not file.is_file():
        return {}
    with reading(file):
        found = json.loads(file.read_text("utf-8"))
        if number == 3 and isinstance(found, dict):
            found = found.get("attributes", {})
        if not isinstance(found, dict):
            raise ValueError("no JSON object")
    return found


def read_provenance(folder: Path) -> dict[str, Any] | None:
    """Return the provenance of labels that cellunet wrote; None of all others."""
    with contextlib.suppress(OSError):
        found = read_attributes(folder).get(NAMESPACE)
        return found if isinstance(found, dict) else None
    return None


def size_and_time(path: Path) -> tuple[int, int]:
    """Return the bytes of an image's files, and when the last of them was changed.

    Labels and tables within the store do not count: adding them changes no image. Of
    a store on a server only the length of its metadata is known.

    Raises
    ------
    OSError
        If the store cannot be read.
    """
    if address(path):
        with reading_zarr(path):
            return len(json.dumps(dict(open_group(path).attrs))), 0
    size = newest = 0
    root = os.fspath(path)
    for at, folders, names in os.walk(root):
        # At any depth: a store may hold several images. What is hidden is what a
        # killed run left.
        kept = (n for n in folders if not n.startswith("."))
        folders[:] = sorted(set(kept) - {"labels", "tables"})
        for name in names:
            # Of the group itself: what lists labels and tables may change.
            if at == root or name.startswith(".cellunet"):
                continue
            found = os.stat(os.path.join(at, name))  # noqa: PTH116, PTH118 - of many
            size += found.st_size
            newest = max(newest, found.st_mtime_ns)
    return size, newest
