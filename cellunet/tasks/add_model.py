"""Add a model that somebody shared: a file, a folder, or a zip of one.

Only the files of a model are taken, by their names, and read as data: weights are
safetensors, nothing is unpickled, and nothing is unpacked to a path that a zip names.
"""

from __future__ import annotations

import contextlib
import lzma
import re
import stat
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from cellunet import store
from cellunet.engine.onnx import read_weights
from cellunet.errors import CheckpointError, ConfigError, InputError
from cellunet.io.files import write_atomically, writing
from cellunet.tasks.export_model import KINDS, SUMS, sha256_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    Shared = tuple[str, dict[str, Callable[[], bytes]]]
    """What a model is called where it comes from, and what reads each of its files."""

BESIDE = ("history.csv", "curves.svg")
"""What a training leaves beside the weights, and is taken along."""

PICTURE = re.compile(r'[^<>:"/\\|?*\x00-\x1f]+\.png')
"""Without characters by which Windows would write somewhere else, or not at all."""

MOST_BYTES = 2**31
"""A zip may say that it holds far more than anybody has room for."""

DAMAGED = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError),
    *(EOFError, OSError, ValueError, NotImplementedError),
)
"""What is raised of a zip whose bytes are not those that were written."""

TAKEN = f"Give {store.WEIGHTS_FILE}, its folder, or a zip of that."


@dataclass(frozen=True, kw_only=True)
class AddedModel:
    """What was added."""

    name: str
    path: Path
    """Its folder."""
    sha256: str
    """Of its weights, by which results name it."""
    checked: tuple[str, ...]
    """Files whose hash was compared with the one that came along."""

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return dict(vars(self)) | {
            "path": str(self.path),
            "checked": list(self.checked),
        }


def add_model(
    source: str,
    name: str | None = None,
    *,
    sha256: str | None = None,
    overwrite: bool = False,
) -> AddedModel:
    """Add a model to the user's own.

    Parameters
    ----------
    source
        A weights file, a folder with ``model.safetensors``, or a zip of such a folder,
        also the package of bioimage.io that `export_model` writes.
    name
        By which it is to be known; None: as it is called there.
    sha256
        Of the model, as ``cellunet models show`` prints it where it comes from; it is
        refused if it has another. None: not compared.
    overwrite
        Replace a model of that name.

    Raises
    ------
    CellunetError
        If it is no model of cellunet, a damaged one, one of a newer version, has
        another hash, or if the name is taken.
    """
    if "://" in source:
        raise InputError(
            f"{source} is an address.",
            hint="Download the file first; then: cellunet models add FILE.",
        )
    path = Path(source)
    with _opened(path) as (own, files):
        folder = _free_folder(name, own, overwrite=overwrite)
        # Read once: what is compared is what is written.
        contents = {name: read() for name, read in files.items()}
    checked = _check_sums(path, contents)
    contents.pop(SUMS, None)
    with TemporaryDirectory(prefix="cellunet-") as temporary:
        found = _check(path, contents[store.WEIGHTS_FILE], Path(temporary))
    if sha256 is not None and found.lower() != sha256.strip().lower():
        raise CheckpointError(
            f"{path} has the SHA-256 {found}, not {sha256}.",
            hint="Copy it again, or ask for the hash once more.",
        )
    _write(folder, contents)
    return AddedModel(name=folder.name, path=folder, sha256=found, checked=checked)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Shared]:
    """Yield name and files of a model in a folder or a zip, or of a weights file alone.

    Raises
    ------
    InputError
        If there is nothing, or no model in it.
    CheckpointError
        If a zip is damaged or names files outside.
    """
    if path.is_dir():
        yield _in_folder(path)
    elif not path.is_file():
        raise InputError(
            f"There is no {path}.",
            hint=TAKEN,
        )
    elif zipfile.is_zipfile(path):
        try:
            with zipfile.ZipFile(path) as archive:
                yield _in_zip(path, archive)
        except DAMAGED as error:
            raise CheckpointError(
                f"{path} is damaged ({error}).", hint="Copy it again."
            ) from error
    elif path.suffix == ".zip":
        raise CheckpointError(
            f"{path} is no zip, or it is cut off.", hint="Copy it again."
        )
    else:
        named = path.stem
        if path.name == store.WEIGHTS_FILE:
            # Given from within its folder, it names none.
            named = path.parent.resolve().name
        yield named, {store.WEIGHTS_FILE: path.read_bytes}


def _wanted(name: str) -> bool:
    """Return whether a file of a model's folder is taken along."""
    path = PurePosixPath(name)
    return name in (store.WEIGHTS_FILE, SUMS, *BESIDE) or (
        path.parent.as_posix() == "validation"
        and PICTURE.fullmatch(path.name) is not None
        and store.DEVICE_NAME.fullmatch(path.name) is None
    )


def _in_folder(path: Path) -> Shared:
    if not (path / store.WEIGHTS_FILE).is_file():
        raise _no_model(path, unfinished=(path / store.STATE_FILE).is_file())
    named = {f.relative_to(path).as_posix(): f for f in path.rglob("*") if f.is_file()}
    files = {n: f.read_bytes for n, f in named.items() if _wanted(n)}
    return path.resolve().name, files


def _in_zip(path: Path, archive: zipfile.ZipFile) -> Shared:
    """Return the files of the one folder of a zip that holds weights."""
    for member in archive.infolist():
        _refuse_outside(path, member)
    names = [
        m.filename
        for m in archive.infolist()
        # macOS keeps there what it knows of the files; no model is among that.
        if not (m.is_dir() or m.filename.startswith("__MACOSX/"))
    ]
    models = [n for n in names if PurePosixPath(n).name == store.WEIGHTS_FILE]
    if not models:
        unfinished = any(PurePosixPath(n).name == store.STATE_FILE for n in names)
        raise _no_model(path, unfinished=unfinished)
    if len(models) > 1:
        raise InputError(
            f"{path} holds {len(models)} models ({', '.join(sorted(models)[:3])}).",
            hint="Unpack it, and add one folder after the other.",
        )
    inside = PurePosixPath(models[0]).parent
    parts = {
        PurePosixPath(n).relative_to(inside).as_posix(): n
        for n in names
        if PurePosixPath(n).is_relative_to(inside)
    }
    files = {n: _reader(path, archive, full) for n, full in parts.items() if _wanted(n)}
    outer = path.name
    for end in (".zip", KINDS["bioimageio"].removesuffix(".zip")):
        outer = outer.removesuffix(end)
    return inside.name or outer, files


def _refuse_outside(path: Path, member: zipfile.ZipInfo) -> None:
    """Refuse a zip that names a file outside itself, or a link."""
    name = member.filename
    parts = PurePosixPath(name.replace("\\", "/")).parts
    drive = PureWindowsPath(name).drive
    if ".." in parts or name.startswith(("/", "\\")) or drive:
        raise CheckpointError(
            f"{path} holds {name!r}, which lies outside of it; nothing was taken.",
            hint="Ask for a zip of the model's folder alone.",
        )
    if stat.S_ISLNK(member.external_attr >> 16):
        raise CheckpointError(
            f"{path} holds {name!r}, which is a link; nothing was taken.",
            hint="Ask for a zip of the files themselves.",
        )


def _reader(path: Path, archive: zipfile.ZipFile, name: str) -> Callable[[], bytes]:
    def read() -> bytes:
        size = archive.getinfo(name).file_size
        if size > MOST_BYTES:
            raise CheckpointError(
                f"{name} in {path} takes {size:,} bytes, more than a model can.",
                hint="Copy it again.",
            )
        try:
            return archive.read(name)
        except RuntimeError as error:
            # With a password.
            raise CheckpointError(
                f"{name} in {path} cannot be read ({error}).",
                hint="Unpack it, and add the folder.",
            ) from error

    return read


def _no_model(path: Path, *, unfinished: bool) -> InputError:
    if unfinished:
        return InputError(
            f"{path} holds a training that is not finished.",
            hint="Finish it where it is: cellunet train ... --resume.",
        )
    return InputError(
        f"{path} holds no model of cellunet: there is no {store.WEIGHTS_FILE}.",
        hint="Models of other programs cannot be added.",
    )


def _free_folder(given: str | None, own: str, *, overwrite: bool) -> Path:
    """Return the folder of the name that was given, or of the model's own.

    Raises
    ------
    ConfigError
        If the name is taken or cannot name a model.
    """
    name = given or own
    try:
        store.model_folder(name)
    except ConfigError as error:
        if given:
            raise
        hint = "Give it a name: --name MY-CELLS."
        raise ConfigError(error.message, hint=hint) from error
    return store.new_folder(name, overwrite=overwrite)


def _check_sums(source: Path, contents: Mapping[str, bytes]) -> tuple[str, ...]:
    """Compare files with the hashes that came along; return which were.

    Raises
    ------
    CheckpointError
        If one differs.
    """
    checked = []
    for line in contents.get(SUMS, b"").decode(errors="replace").splitlines():
        expected, _, name = line.partition("  ")
        if name not in contents:
            continue
        found = sha256_of(contents[name])
        if found != expected:
            raise CheckpointError(
                f"{name} in {source} is not the file that was shared: its "
                f"SHA-256 begins with {found[:8]}, not {expected[:8]}.",
                hint="Copy it again.",
            )
        checked.append(name)
    return tuple(checked)


def _check(source: Path, weights: bytes, folder: Path) -> str:
    """Refuse weights that cannot be used; return by which hash results name them."""
    file = folder / store.WEIGHTS_FILE
    file.write_bytes(weights)
    try:
        model = store.find_model(str(file))
        read_weights(file, model.card.config.network)
        return model.sha256
    except CheckpointError as error:
        said = error.message.replace(str(file), str(source))
        # Of a name that no model has, the file itself is most likely the wrong one.
        other = source.is_file() and source.suffix not in (".safetensors", ".zip")
        hint = TAKEN if other and error.hint == store.AGAIN else error.hint
        raise CheckpointError(said, hint=hint) from error


def _write(folder: Path, contents: dict[str, bytes]) -> None:
    """Write the files of a model, its weights last."""
    with store.in_home(), writing(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
    with store.training(folder.name):
        last = (store.WEIGHTS_FILE,)
        for name in (*sorted(contents.keys() - set(last)), *last):
            with write_atomically(folder / name) as temporary:
                temporary.write_bytes(contents[name])
        store.remove_replaced(folder, contents.keys())
