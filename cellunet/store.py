"""Models on disk: where they are, their cards, their weights.

A model is a folder with ``model.safetensors``: weights, and a card in the header.
Cards are read without torch and without loading a weight. The user's models live in
``CELLUNET_HOME`` or the system's place for application data; the models that ship with
cellunet are in the package.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import re
import shutil
import stat
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cellunet.config import TrainConfig
from cellunet.errors import (
    CellunetError,
    CheckpointError,
    ConfigError,
    ModelNotFoundError,
    OutputError,
)
from cellunet.io.files import is_locked, locked, write_atomically, writing

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    import numpy as np
    import numpy.typing as npt

WEIGHTS_FILE = "model.safetensors"

STATE_FILE = "state.safetensors"
"""The state of a training that can be resumed."""

FOLD_FILE = "fold-{}.safetensors"
"""A finished part of a training that is not; its number goes between the braces."""

CARD_KEY = "cellunet"

CARD_FORMAT = 1

STATISTICS = 9
"""How many percentiles there are of each number in `ModelCard.training_statistics`."""

AGAIN = "Copy it again, or train the model again."

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

NAMED = (
    "Up to 64 letters, digits, '.', '_' and '-'; a letter or digit first, and no "
    "'.safetensors' last."
)
"""What `NAME` is, in words."""

DEVICE_NAME = re.compile(r"(con|prn|aux|nul|(com|lpt)[0-9])(\..*)?", re.IGNORECASE)
"""Names that mean a device on Windows, whatever the suffix."""

SHIPPED = Path(__file__).parent / "models"

DROPPED = {"onnx_sha256"}
"""Fields that older cards have and that mean nothing any more."""

THEN: dict[str, dict[str, Any]] = {
    "augment": {"dim_probability": 0.0},
    "normalization": {"foreground_limit": 0.0},
}
"""Settings newer than the first cards, and what a card without them was made with:
today's default would say of a model what is not true of it."""

DROPPED_SETTINGS = {"weights": ("small_object_px", "small_object_gain")}
"""Settings of older cards that are ignored: they mattered in training only."""


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """What travels with the weights."""

    name: str
    config: TrainConfig
    """Settings of the training; `config.decode` holds the constants chosen at its
    end."""
    epochs: int = 0
    """Epochs trained."""
    training: dict[str, str] = field(default_factory=dict)
    """Name of each training image to its fingerprint."""
    validation: dict[str, str] = field(default_factory=dict)
    """The same of the validation images."""
    start: dict[str, str] = field(default_factory=dict)
    """Name and SHA-256 of the model whose weights training began with, and whether
    they were ``kept`` as they were, by training or because they were ``calibrated``
    alone; empty from scratch, and in models that are older than this."""
    scores: dict[str, float] = field(default_factory=dict)
    """Cross-fitted scores on images that were not trained on."""
    diameter_px: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Equivalent diameter of the training objects: 5th percentile, median, 95th."""
    training_statistics: dict[str, list[float]] = field(default_factory=dict)
    """What the training images look like, `cellunet.imaging.quality.summarize` of
    them; empty in models that were trained before this was kept."""
    versions: dict[str, str] = field(default_factory=dict)
    """Versions of cellunet, torch and numpy that trained it."""
    channels: tuple[str, ...] = ()
    """Of a model that looks at several channels, what they were called in training;
    empty where it looks at one."""
    int8_ranges: dict[str, list[float]] = field(default_factory=dict)
    """Scale and zero point with which each feature map is rounded to eight bits
    (`cellunet.engine.int8`); empty in a model that was not calibrated."""

    def to_dict(self) -> dict[str, Any]:
        """Return the card as plain values."""
        plain = dict(vars(self))
        if self.channels:
            plain["channels"] = list(self.channels)
        else:
            del plain["channels"]
        if not self.int8_ranges:
            # A card without them is the one that `Model.sha256` is of.
            del plain["int8_ranges"]
        plain["config"] = self.config.to_dict()
        plain["diameter_px"] = list(self.diameter_px)
        return {"format": CARD_FORMAT, **plain}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ModelCard:
        """Build from `to_dict` output.

        Raises
        ------
        ConfigError
            If a field is missing, unknown or of the wrong kind.
        """
        values = dict(values)
        found = values.pop("format", None)
        if found != CARD_FORMAT:
            raise ConfigError(
                f"It has format {found!r}; this version reads {CARD_FORMAT}."
            )
        values = {k: v for k, v in values.items() if k not in DROPPED}
        unknown = sorted(values.keys() - {known.name for known in fields(cls)})
        if unknown:
            raise ConfigError(f"Its {', '.join(unknown)} are not known.")
        try:
            values["config"] = read_config(values["config"])
            low, median, high = (float(v) for v in values["diameter_px"])
            values["diameter_px"] = (low, median, high)
            values["channels"] = _names(values.get("channels", []))
            card = cls(**values)
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"It is incomplete ({error}).") from error
        _check_kinds(card)
        return card


def _names(values: object) -> tuple[str, ...]:
    if not isinstance(values, list) or not all(isinstance(v, str) for v in values):
        raise ConfigError("Its channels are no list of names.")
    return tuple(values)


def read_config(values: dict[str, Any]) -> TrainConfig:
    """Return the settings of a card or a state of training.

    Those that it is too old to hold are as they were then; `DROPPED_SETTINGS`
    are left out.
    """
    config = dict(values)
    for group, settings in THEN.items():
        if isinstance(config.get(group), dict):
            config[group] = settings | config[group]
    for group, dropped in DROPPED_SETTINGS.items():
        if isinstance(config.get(group), dict):
            kept = {k: v for k, v in config[group].items() if k not in dropped}
            config[group] = kept
    return TrainConfig.from_dict(config)


def _check_kinds(card: ModelCard) -> None:
    """Refuse a card whose values are not of the kinds that its fields say."""
    low, median, high = card.diameter_px
    if not 0 <= low <= median <= high < math.inf:
        raise ConfigError(f"Its diameters are {card.diameter_px}.")
    kinds = {"name": str, "epochs": int}
    wrong = [n for n, kind in kinds.items() if not isinstance(getattr(card, n), kind)]
    tables = {
        "training": str,
        "validation": str,
        "versions": str,
        "start": str,
        "scores": float,
    }
    for name, kind in tables.items():
        table = getattr(card, name)
        values = table.values() if isinstance(table, dict) else [None]
        if not all(isinstance(value, kind) for value in values):
            wrong.append(name)
    if card.channels and len(card.channels) != card.config.image_channels:
        wrong.append("channels")
    if not _percentiles(card.training_statistics):
        wrong.append("training_statistics")
    if not _ranges(card.int8_ranges):
        wrong.append("int8_ranges")
    if wrong:
        raise ConfigError(f"Its values of {', '.join(wrong)} are of another kind.")


def _percentiles(table: object) -> bool:
    """Return whether these are `STATISTICS` finite numbers, not falling, per name."""
    return isinstance(table, dict) and all(
        isinstance(values, list)
        and len(values) == STATISTICS
        and all(isinstance(v, float | int) and math.isfinite(v) for v in values)
        and sorted(values) == values
        for values in table.values()
    )


def _ranges(table: object) -> bool:
    """Return whether these are a scale (float32) and a zero point (uint8) per name."""
    return isinstance(table, dict) and all(
        isinstance(values, list)
        and len(values) == 2
        and all(isinstance(v, float | int) for v in values)
        and 1e-38 < values[0] < 3e38
        and values[1] in range(256)
        for values in table.values()
    )


@dataclass(frozen=True, kw_only=True)
class Model:
    """A model on disk whose card has been read and checked."""

    name: str
    weights: Path
    card: ModelCard
    shipped: bool
    seen: tuple[int, int, int] | None = None
    """What told the weights file from others when its header was read."""

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the weights file, by which results name their model.

        The ranges for eight bits are left out of the file for it, so that a
        calibration makes no other model of it.

        Raises
        ------
        CheckpointError
            If the file cannot be read or is another one by now.
        """
        if self.card.int8_ranges:
            metadata = read_metadata(self.weights)
            del metadata["int8_ranges"]
            content = encode(read_tensors(self.weights), metadata)
            digest = hashlib.sha256(content).hexdigest()
        else:
            digest = file_sha256(self.weights)
        self.check_unchanged()
        return digest

    def check_unchanged(self) -> None:
        """Refuse to go on with weights that are not those whose header was read.

        To be called when all that is needed has been read: files are replaced as a
        whole, so then all of it was of one model.

        Raises
        ------
        CheckpointError
            If they have been replaced.
        """
        if self.seen is not None and _seen(self.weights) != self.seen:
            raise CheckpointError(
                f"{self.weights} was replaced while it was read.",
                hint="Run the same command again; it takes the new weights.",
            )


def with_those_of(
    start: str, theirs: Mapping[str, str], prints: dict[str, str]
) -> dict[str, str]:
    """Return images and those that made the start, both of which made a model.

    Parameters
    ----------
    start
        Name of the model that the new one was made of.
    theirs, prints
        Name of each image to its fingerprint: of the start, and of the new model.
    """
    ours = set(prints.values())
    return prints | {
        f"{start}: {name}": print_
        for name, print_ in theirs.items()
        if print_ not in ours
    }


NO_HOME = Path("/nonexistent/cellunet")
"""The folder of models of a user without a home; nothing can be written there."""


def home() -> Path:
    """Return the folder of the user's models: ``CELLUNET_HOME`` or the system's."""
    chosen = os.environ.get("CELLUNET_HOME")
    if chosen:
        return Path(chosen)
    from platformdirs import user_data_path

    # A user without a home, as in a container, can use the shipped models, and keep
    # none. Old versions of platformdirs return a path with ~, newer ones refuse.
    try:
        folder = user_data_path("cellunet")
    except RuntimeError:
        return NO_HOME
    return folder if folder.is_absolute() else NO_HOME


@contextlib.contextmanager
def in_home(
    hint: str = "Set CELLUNET_HOME to a folder that can be written.",
) -> Iterator[None]:
    """Give errors of writing into the models' folder a hint that fits there."""
    try:
        yield
    except OutputError as error:
        raise OutputError(error.message, hint=hint) from error


def can_name(name: str) -> bool:
    """Return whether a name can name a model, and a folder everywhere.

    One that ends as a file of weights does would be taken for a path.
    """
    named = NAME.fullmatch(name) and not DEVICE_NAME.fullmatch(name)
    return bool(named) and not name.endswith((".", ".safetensors"))


def model_folder(name: str) -> Path:
    """Return where a model of that name belongs.

    Raises
    ------
    ConfigError
        If the name is not one that can name a folder everywhere.
    """
    if not can_name(name):
        raise ConfigError(f"{name!r} cannot name a model.", hint=NAMED)
    return home() / "models" / name


def new_folder(name: str, *, overwrite: bool) -> Path:
    """Return where a new model of that name belongs.

    Raises
    ------
    ConfigError
        If the name cannot name a model, is that of one that ships, which the new one
        would hide, or is taken and not to be overwritten.
    """
    folder = model_folder(name)
    if (SHIPPED / name / WEIGHTS_FILE).is_file():
        raise ConfigError(
            f"{name!r} is the name of a model that ships with cellunet.",
            hint="Choose another: --name MY-CELLS.",
        )
    if folder.exists() and not overwrite:
        raise ConfigError(
            f"{folder} exists already.",
            hint="Choose another --name, or replace it with --overwrite.",
        )
    return folder


def find_model(name: str) -> Model:
    """Return the model of a name, or at a path.

    Parameters
    ----------
    name
        A name that `list_models` shows, a folder with ``model.safetensors``, or a
        ``.safetensors`` file.

    Raises
    ------
    ModelNotFoundError
        If there is none; the message lists those that there are.
    CheckpointError
        If its file is not one of ours, or corrupt.
    """
    path = Path(name)
    if not name.strip():
        raise ModelNotFoundError(
            "The name of the model is empty.", hint="See: cellunet models."
        )
    if path.suffix == ".safetensors" or os.sep in name or "/" in name:
        return _at_path(path, name)
    if NAME.fullmatch(name):
        ships = holds(SHIPPED / name, WEIGHTS_FILE)
        try:
            mine = holds(home() / "models" / name, WEIGHTS_FILE)
        except CheckpointError:
            # Whose home may not be entered can use the models that ship.
            if not ships:
                raise
            mine = False
        if mine or ships:
            folder = home() / "models" / name if mine else SHIPPED / name
            return _open(folder / WEIGHTS_FILE, name, shipped=not mine)
    if (path / WEIGHTS_FILE).is_file():
        return _at_path(path, name)
    names = {folder.name for folder, _ in list_folders() if can_name(folder.name)}
    known = ", ".join(sorted(names)) or "none"
    if NAME.fullmatch(name) and (home() / "models" / name / STATE_FILE).is_file():
        state = "being trained" if is_training(name) else "not trained to its end"
        raise ModelNotFoundError(
            f"Model {name!r} is {state}.", hint=f"Known: {known}. See: cellunet models."
        )
    raise ModelNotFoundError(
        f"There is no model {name!r}.",
        hint=f"Known: {known}. See: cellunet models.",
    )


def _at_path(path: Path, name: str) -> Model:
    file = path / WEIGHTS_FILE if path.is_dir() else path
    if not file.is_file():
        raise ModelNotFoundError(
            f"There is no model at {name}.",
            hint=f"A folder with {WEIGHTS_FILE}, or such a file, is expected.",
        )
    return _open(file, file.parent.name if file.name == WEIGHTS_FILE else file.stem)


def _open(file: Path, name: str, *, shipped: bool = False) -> Model:
    seen = _seen(file)
    model = Model(
        name=name,
        weights=file,
        card=read_card(file),
        shipped=shipped,
        seen=seen,
    )
    model.check_unchanged()
    return model


def _seen(file: Path) -> tuple[int, int, int]:
    """Return what tells a file from one that takes its place."""
    try:
        found = file.stat()
    except OSError as error:
        raise CheckpointError(
            f"{file} cannot be read ({error}).", hint="Check its permissions."
        ) from error
    return found.st_ino, found.st_mtime_ns, found.st_size


def list_folders() -> list[tuple[Path, bool]]:
    """Return the folder of each model, called as the model is, and whether it ships.

    The user's come first, each group by name. A folder that may not be entered is
    taken for a model if it is called like one.

    Raises
    ------
    CheckpointError
        If the folder of models cannot be read.
    """
    return [
        *((folder, False) for folder in own_folders() if _may_be_model(folder)),
        *((folder, True) for folder in _inside(SHIPPED) if _may_be_model(folder)),
    ]


def own_folders() -> list[Path]:
    """Return all that is in the folder of the user's models, by name.

    Raises
    ------
    CheckpointError
        If that cannot be read.
    """
    return _inside(home() / "models")


def _inside(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise _unreadable(folder, error) from error


def _may_be_model(folder: Path) -> bool:
    try:
        return holds(folder, WEIGHTS_FILE)
    except CheckpointError:
        return can_name(folder.name)


def holds(folder: Path, name: str) -> bool:
    """Return whether there is a file of that name in a folder.

    Raises
    ------
    CheckpointError
        If the folder may not be entered.
    """
    try:
        return stat.S_ISREG((folder / name).stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise _unreadable(folder, error) from error


def removable(name: str) -> Path:
    """Return the folder of a model of the user's, or of an unfinished run.

    Raises
    ------
    ModelNotFoundError
        If there is none of that name.
    ConfigError
        If it ships with cellunet.
    """
    folder = model_folder(name)
    if not folder.is_dir():
        if (SHIPPED / name / WEIGHTS_FILE).is_file():
            raise ConfigError(f"{name} ships with cellunet and cannot be removed.")
        raise ModelNotFoundError(
            f"There is no model {name!r}.", hint="See: cellunet models."
        )
    return folder


def remove_replaced(folder: Path, new: Collection[str]) -> None:
    """Remove the files that a replaced model left in its folder.

    Parameters
    ----------
    folder
        Of the model.
    new
        Files of the new one: paths in the folder with forward slashes.

    Raises
    ------
    OutputError
        If a file cannot be removed.
    """
    for old in folder.rglob("*"):
        if old.is_file() and old.relative_to(folder).as_posix() not in new:
            with writing(old):
                old.unlink()


def remove(name: str) -> Path:
    """Remove a model of the user's, or an unfinished run, and return its folder.

    Raises
    ------
    ModelNotFoundError
        If there is none of that name.
    ConfigError
        If it ships with cellunet.
    BusyError
        If it is being trained.
    OutputError
        If a file cannot be removed.
    """
    folder = removable(name)
    try:
        with training(name, "Wait until that is done, or stop it."):
            shutil.rmtree(folder)
    except OSError as error:
        raise OutputError(f"{folder} cannot be removed ({error}).") from error
    return folder


def is_training(name: str) -> bool:
    """Return whether a process is training under a name."""
    folder = model_folder(name)
    return is_locked(folder.with_name(f".{name}.lock"))


def training(
    name: str,
    hint: str = "Wait until that is done, stop it, or choose another --name.",
) -> contextlib.AbstractContextManager[bool]:
    """Have the folder of a model's name to oneself inside.

    False is entered if the file system knows no locks.

    Raises
    ------
    BusyError
        If another process is training under that name, and which.
    OSError
        If the folder of models permits no writing.
    """
    folder = model_folder(name)
    return locked(
        folder.with_name(f".{name}.lock"),
        f"{folder} is being trained",
        hint,
    )


def read_metadata(file: Path) -> dict[str, Any]:
    """Return the card or state that cellunet wrote into a safetensors header.

    No weight is read.

    Raises
    ------
    CheckpointError
        If the file cannot be read, is cut off or damaged, or there is none in it.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="numpy") as opened:
            metadata = opened.metadata()
    except OSError as error:
        raise _unreadable(file, error) from error
    except SafetensorError as error:
        raise _damaged(file, error) from error
    try:
        values = json.loads((metadata or {}).get(CARD_KEY, "null"))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(
            f"The card of {file} is corrupt ({error}).", hint=AGAIN
        ) from error
    if not isinstance(values, dict):
        raise CheckpointError(
            f"{file} holds no cellunet model.",
            hint="Weights of other programs cannot be used.",
        )
    return values


def read_tensors(file: Path) -> dict[str, npt.NDArray[np.generic]]:
    """Return the arrays of a safetensors file by name, in memory of their own.

    Raises
    ------
    CheckpointError
        If the file cannot be read, is cut off or damaged, or holds numbers of a kind
        that cellunet does not write.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        return load(file.read_bytes())
    except OSError as error:
        raise _unreadable(file, error) from error
    except (SafetensorError, LookupError, ValueError) as error:
        raise _damaged(file, error) from error


def encode(
    tensors: Mapping[str, npt.NDArray[np.generic]], metadata: dict[str, Any]
) -> bytes:
    """Return a safetensors file; the same arguments give the same bytes."""
    import numpy as np
    from safetensors.numpy import save

    # It writes the memory of an array as it is, whatever the array's strides.
    plain = {name: np.asarray(values, order="C") for name, values in tensors.items()}
    # One metadata key: the order of several would differ from run to run. Its own keys
    # stay in order, because that of a history's columns is to outlast a stop.
    return save(plain, {CARD_KEY: json.dumps(metadata)})


def write(
    file: Path,
    tensors: Mapping[str, npt.NDArray[np.generic]],
    metadata: dict[str, Any],
) -> None:
    """Write a safetensors file with a card or state in its header, as a whole.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    content = encode(tensors, metadata)
    with write_atomically(file) as temporary:
        temporary.write_bytes(content)


def _unreadable(file: Path, error: OSError) -> CheckpointError:
    return CheckpointError(
        f"{file} cannot be read ({error}).", hint="Check its permissions."
    )


def _damaged(file: Path, error: Exception) -> CheckpointError:
    return CheckpointError(
        f"{file} is not a safetensors file, or it is cut off or damaged ({error}).",
        hint=AGAIN,
    )


def read_card(file: Path) -> ModelCard:
    """Return the card of a weights file.

    Raises
    ------
    CheckpointError
        If the file is foreign or corrupt.
    """
    try:
        return ModelCard.from_dict(read_metadata(file))
    except CheckpointError:
        raise
    except CellunetError as error:
        raise CheckpointError(
            f"The card of {file} cannot be used: {error.message}",
            hint="It may come from a newer cellunet: update, or train again.",
        ) from error


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hex.

    Raises
    ------
    CheckpointError
        If it cannot be read.
    """
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise _unreadable(path, error) from error
