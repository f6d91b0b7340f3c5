"""List models, show one; unfinished trainings are listed beside them."""

from __future__ import annotations

import contextlib
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from cellunet import store
from cellunet.errors import CellunetError, CheckpointError, ModelNotFoundError

if TYPE_CHECKING:
    from pathlib import Path

Status = Literal["ready", "unfinished", "in training", "broken"]

MOST_SOURCES = 5
"""Up to this many source folders are named in `ModelInfo.trained_on`."""


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """What there is to know of a model without loading a weight."""

    name: str
    """Name by which commands know it."""
    path: Path
    """Its folder, or its file if a path was asked for."""
    shipped: bool
    """Whether it came with cellunet; such a model cannot be removed."""
    status: Status
    """``unfinished``: a stopped training; ``broken``: its file cannot be used."""
    problem: str = ""
    """Why it is not ready."""
    bytes: int = 0
    """Size of all its files."""
    target: str = ""
    """What its network learned."""
    trained_on: str = ""
    """Where its training images came from, in words."""
    copy_of: str = ""
    """The model whose weights it has, because training gained nothing over it."""
    calibrated_from: str = ""
    """The model that it is, fitted to a few images without training."""
    training_images: int = 0
    """Number of images that it was trained on."""
    score: dict[str, float] = field(default_factory=dict)
    """Cross-fitted scores on its validation images, by name."""
    sha256: str = ""
    """SHA-256 of its weights; not computed for lists."""
    created_with: str = ""
    """Version of cellunet that trained it."""
    card: dict[str, Any] = field(default_factory=dict)
    """Everything that travels with the weights; empty in lists."""

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return dict(vars(self)) | {"path": str(self.path)}


def list_models() -> tuple[ModelInfo, ...]:
    """Return the user's models and unfinished trainings, then the shipped models.

    A model that cannot be opened is listed with its problem.
    """
    found = [_listed(folder, shipped) for folder, shipped in store.list_folders()]
    unfinished = [_unfinished(folder) for folder in _stopped_runs()]
    mine = [info for info in found if not info.shipped] + unfinished
    shipped = [info for info in found if info.shipped]
    return (*sorted(mine, key=lambda info: info.name), *shipped)


def show_model(name: str) -> ModelInfo:
    """Return all about the model of a name, or at a path.

    Raises
    ------
    ModelNotFoundError
        If there is none.
    CheckpointError
        If its file is foreign or corrupt.
    """
    try:
        model = store.find_model(name)
    except ModelNotFoundError as error:
        for info in list_models():
            if info.name == name:
                return info
        raise error from None
    in_folder = model.weights.name == store.WEIGHTS_FILE
    path = model.weights.parent if in_folder else model.weights
    return _ready(model, path, whole=True)


def _listed(folder: Path, shipped: bool) -> ModelInfo:
    if not store.can_name(folder.name):
        return _misnamed(folder, shipped)
    try:
        card = store.read_card(folder / store.WEIGHTS_FILE)
    except CellunetError as error:
        return _broken(folder, shipped, str(error))
    model = store.Model(
        name=folder.name,
        weights=folder / store.WEIGHTS_FILE,
        card=card,
        shipped=shipped,
    )
    return _ready(model, folder, whole=False)


def _misnamed(folder: Path, shipped: bool) -> ModelInfo:
    problem = f"{folder.name!r} cannot name a model. Rename its folder. {store.NAMED}"
    return _broken(folder, shipped, problem)


def _broken(folder: Path, shipped: bool, problem: str) -> ModelInfo:
    return ModelInfo(
        name=folder.name,
        path=folder,
        shipped=shipped,
        status="broken",
        problem=problem,
        bytes=size_on_disk(folder),
    )


def _ready(model: store.Model, path: Path, *, whole: bool) -> ModelInfo:
    card = model.card
    kept = card.start.get("name", "") if card.start.get("kept") == "yes" else ""
    calibrated = "calibrated" in card.start
    return ModelInfo(
        name=model.name,
        path=path,
        shipped=model.shipped,
        status="ready",
        bytes=size_on_disk(path),
        target=card.config.encoding.target,
        trained_on=_sources(card.training),
        copy_of="" if calibrated else kept,
        calibrated_from=kept if calibrated else "",
        training_images=len(card.training),
        score=dict(card.scores),
        sha256=model.sha256 if whole else "",
        created_with=card.versions.get("cellunet", ""),
        card=card.to_dict() if whole else {},
    )


def _stopped_runs() -> list[Path]:
    models = {folder for folder, _ in store.list_folders()}
    others = (folder for folder in store.own_folders() if folder not in models)
    return [folder for folder in others if _is_stopped(folder)]


def _is_stopped(folder: Path) -> bool:
    try:
        return store.holds(folder, store.STATE_FILE)
    except CheckpointError:
        # May not be entered, and is not called like a model.
        return False


def _unfinished(folder: Path) -> ModelInfo:
    if not store.can_name(folder.name):
        return _misnamed(folder, shipped=False)
    busy = store.is_training(folder.name)
    stopped = "Its training was stopped; the same command with --resume continues it."
    return ModelInfo(
        name=folder.name,
        path=folder,
        shipped=False,
        status="in training" if busy else "unfinished",
        problem="It is being trained." if busy else stopped,
        bytes=size_on_disk(folder),
    )


def size_on_disk(path: Path) -> int:
    """Return the size of a file, or of all files in a folder."""
    total = 0
    # Of a folder that may not be entered no more is known than names.
    with contextlib.suppress(OSError):
        for file in [path] if path.is_file() else path.rglob("*"):
            total += file.stat().st_size if file.is_file() else 0
    return total


def _sources(training: dict[str, str]) -> str:
    """Name the folders that image names begin with, where all begin with one."""
    parts = Counter(n.split("/")[0] for n in training if "/" in n)
    if not 1 <= len(parts) <= MOST_SOURCES or parts.total() != len(training):
        return f"{len(training):,} images"
    return ", ".join(f"{name} ({count:,})" for name, count in parts.items())
