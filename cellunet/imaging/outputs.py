"""Where results go, and every clash among them found before any work is done."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING

from cellunet.errors import InputError
from cellunet.imaging.files import READERS

if TYPE_CHECKING:
    from collections.abc import Sequence


def output_paths(
    files: Sequence[Path], base: Path, out: Path, suffix: str = ".tif"
) -> dict[Path, Path]:
    """Return the result file of every image: its tree below `base`, moved to `out`.

    Parameters
    ----------
    files
        Images below `base`.
    base
        Their common folder.
    out
        Folder of the results.
    suffix
        What takes the place of the images' suffix (``.tif``, ``.ome.tif``, ...).

    Returns
    -------
    dict
        Image to result, in the order of `files`.

    Raises
    ------
    InputError
        If two images would write one file (upper and lower case count as the same,
        because they are on Windows and macOS), if a result would replace an input, or
        if a folder is in the way.

    Examples
    --------
    >>> paths = output_paths([Path("/in/a/b.ome.tif")], Path("/in"), Path("/out"))
    >>> [p.parts[-2:] for p in paths.values()]
    [('a', 'b.tif')]
    """
    images = {_key(path): path for path in files}
    taken: dict[str, Path] = {}
    results: dict[Path, Path] = {}
    for path in files:
        result = out / below(path, base).parent / (stem(path) + suffix)
        key = _key(result)
        if key in taken:
            raise InputError(
                f"{taken[key]} and {path} would both write {result}.",
                hint="Rename one, or run on them one at a time with different --out.",
            )
        if key in images:
            raise InputError(
                f"The result of {path} would replace the input {images[key]}.",
                hint="Choose another folder with --out.",
            )
        taken[key] = path
        results[path] = result
    checked = {out.parent}
    for path, result in results.items():
        _check_way(path, result, taken, checked)
    return results


def stem(path: Path) -> str:
    """Return a file's name without its image suffix.

    Examples
    --------
    >>> stem(Path("well A1.v2.ome.tif")), stem(Path("x.TIFF")), stem(Path("a.b"))
    ('well A1.v2', 'x', 'a')
    """
    name = path.stem
    is_tiff = path.suffix.lower() in READERS and path.suffix.lower() != ".png"
    if is_tiff and name.lower().endswith(".ome") and len(name) > len(".ome"):
        name = name[: -len(".ome")]
    return name


def below(path: Path, base: Path) -> Path:
    """Return a path relative to a folder that it lies in.

    Raises
    ------
    InputError
        If it does not.
    """
    full = Path(os.path.abspath(path))  # noqa: PTH100 - links are not resolved
    try:
        return full.relative_to(os.path.abspath(base))  # noqa: PTH100
    except ValueError as error:
        raise InputError(
            f"{path} does not lie below {base}.", hint="Name another common folder."
        ) from error


def _key(path: Path) -> str:
    """Return what two names of one file have in common on any file system."""
    return unicodedata.normalize("NFC", os.path.realpath(path)).casefold()


def _check_way(
    path: Path, result: Path, taken: dict[str, Path], checked: set[Path]
) -> None:
    """Refuse a folder in a result's place, or a file where a folder is needed."""
    # Path.is_dir and Path.exists may raise where a folder may not be entered; that is
    # for the writer to report.
    if os.path.isdir(result):  # noqa: PTH112
        raise InputError(
            f"The result of {path} would be {result}, but that is a folder.",
            hint="Rename the folder, or choose another one with --out.",
        )
    for folder in result.parents:
        if folder in checked:
            break
        checked.add(folder)
        if _key(folder) in taken:
            raise InputError(
                f"The results of {taken[_key(folder)]} and {path} are in each other's "
                f"way: {folder} would have to be a file and a folder.",
                hint="Rename one of the two.",
            )
        if os.path.isfile(folder):  # noqa: PTH113
            raise InputError(
                f"The result of {path} would go into {folder}, which is a file.",
                hint="Choose another folder with --out.",
            )
