"""Resume a training: what is known of it, and what must be as it began."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from cellunet import store
from cellunet.command_config import SCRATCH, AnnotationConfig, SplitConfig
from cellunet.config import TARGET, TrainConfig
from cellunet.core import checkpoint
from cellunet.errors import ConfigError
from cellunet.presets import PRESETS, for_target
from cellunet.tasks.train import pretrained
from cellunet.tasks.train.data import whole_name

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from cellunet.tasks.train.data import TrainingData
    from cellunet.tasks.train.pretrained import PretrainedModel
    from cellunet.tasks.train.request import TrainRequest


@dataclass(frozen=True, kw_only=True)
class SavedRun:
    """What is known of the run to resume before its weights are read."""

    config: TrainConfig
    about: dict[str, Any]


def saved_run(request: TrainRequest, folder: Path) -> SavedRun | None:
    """Return the run to resume, or None if a new one is asked for.

    Settings may be given again or left out; others than the run began with are
    refused.

    Raises
    ------
    ConfigError
        If other settings are asked for.
    CheckpointError
        If the state cannot be read.
    """
    if not request.resume:
        return None
    numbers = checkpoint.read_state(folder / store.STATE_FILE)
    saved = SavedRun(
        config=store.read_config(numbers["config"]), about=numbers["about"]
    )
    differ = _other_settings(request, saved)
    if differ:
        raise ConfigError(
            f"Training {request.name!r} began with other settings "
            f"({', '.join(differ)}).",
            hint="Leave the options out to resume, or start anew with --overwrite.",
        )
    return saved


def as_it_began(request: TrainRequest, saved: SavedRun) -> TrainRequest:
    """Return a request to resume with what it leaves out as the run began with it.

    How images are read and split decides which images there are, so it is saved.
    """
    began = {name: saved.about.get(name, plain) for name, plain in _usual().items()}
    return replace(
        request,
        split=SplitConfig(**{n: began.pop(n) for n in SplitConfig().to_dict()}),
        annotations=AnnotationConfig(
            **{n: began.pop(n) for n in AnnotationConfig().to_dict()}
        ),
        **began,
    )


def about(
    request: TrainRequest, data: TrainingData, start: PretrainedModel | None
) -> dict[str, Any]:
    """Return what a run is known by when it is resumed, JSON values."""
    return {
        "training": data.training_prints,
        "validation": data.validation_prints,
        "annotations": data.annotations_print(),
        # States of earlier versions lack it.
        "kept_together": True,
        "minutes": request.minutes,
        "start": start.name if start else SCRATCH,
        "start_sha256": start.sha256 if start else "",
        **{name: _plain(request, name) for name in _usual()},
        "fold": 0,
    }


def moved(began: Mapping[str, Any], there: Mapping[str, Any]) -> list[str]:
    """Return what to say of a run that goes on elsewhere than it last was.

    Parameters
    ----------
    began
        What is known of the run; an older version did not save where it was.
    there
        Device, threads and processes with which it goes on.
    """
    before = {name: began.get(name) for name in there}
    if None in before.values() or before == there:
        return []
    ran, runs = (
        f"{at['device']} (threads: {at['threads']}, processes: {at['processes']})"
        for at in (before, there)
    )
    return [
        f"So far this training ran on {ran}; it continues on {runs}, where sums are "
        "added in another order: the weights will differ in their last digits from "
        "those of a run that stayed where it was."
    ]


def refuse_other(
    saved: SavedRun, data: TrainingData, start: PretrainedModel | None, name: str
) -> None:
    """Refuse to resume a run on other images or annotations, or from another start.

    Raises
    ------
    ConfigError
        If they are not those that it began with.
    """
    theirs = saved.about.get("training"), saved.about.get("validation")
    if theirs != (data.training_prints, data.validation_prints):
        raise ConfigError(
            f"The images are not those that training {name!r} began with.",
            hint="Give the same folders and split, or start anew: --overwrite.",
        )
    drawn = saved.about.get("annotations")
    cut = any(s.origin or whole_name(s.name) != s.name for s in data.samples)
    if "kept_together" not in saved.about and cut and saved.about.get("fold", 0):
        raise ConfigError(
            f"Training {name!r} was begun by an earlier version, which divided parts "
            "of one image over several folds.",
            hint="Start anew: --overwrite.",
        )
    if drawn is not None and drawn != data.annotations_print():
        raise ConfigError(
            f"The annotations are not those that training {name!r} began with.",
            hint="To train on them, start anew: --overwrite.",
        )
    if start is not None and saved.about["start_sha256"] != start.sha256:
        raise ConfigError(
            f"Model {start.name!r}, from which training {name!r} began, is not the "
            "same any more.",
            hint="Start anew with --overwrite.",
        )


def _usual() -> dict[str, Any]:
    """Return by name what is as good as left out of how images are read and split."""
    split, annotations = SplitConfig().to_dict(), AnnotationConfig().to_dict()
    return {"channel": None, "gray": False, "pages": None, **split, **annotations}


def _plain(request: TrainRequest, name: str) -> Any:  # noqa: ANN401
    settings = {**request.split.to_dict(), **request.annotations.to_dict()}
    return settings[name] if name in settings else getattr(request, name)


def _other_settings(request: TrainRequest, saved: SavedRun) -> list[str]:
    """Return the names of settings that are given and not those of the saved run."""
    differ = []
    if request.minutes not in (None, saved.about.get("minutes")):
        differ.append("minutes")
    if request.start not in (None, saved.about.get("start")):
        differ.append("start")
    for name, usual in _usual().items():
        asked_for = name in request.given or _plain(request, name) != usual
        if asked_for and _plain(request, name) != saved.about.get(name, usual):
            differ.append(name)
    asked, began = request.config, saved.config
    names = _asked_for(asked, request.given)
    if asked.encoding.target != began.encoding.target:
        return [*differ, "encoding.target"] if "encoding.target" in names else differ
    # These follow from the model to start from, the data and the time budget, not
    # from what was asked.
    if saved.about.get("start") != SCRATCH:
        asked = pretrained.inherit_from_pretrained(asked, began, request.given)
    asked = asked.replace(
        network=asked.network.replace(in_channels=began.network.in_channels),
        decode=asked.decode.replace(max_core_px=began.decode.max_core_px),
    )
    if saved.about.get("minutes") is not None:
        asked = asked.replace(steps_per_epoch=began.steps_per_epoch)
    ours, theirs = _by_name(began.to_dict()), _by_name(asked.to_dict())
    return differ + [
        name for name in ours if name in names and ours[name] != theirs[name]
    ]


def _asked_for(config: TrainConfig, given: Collection[str]) -> set[str]:
    """Return the names of the settings that were given or are not the preset's."""
    preset = PRESETS.get(config.preset, TrainConfig())
    usual = _by_name(for_target(preset, config.encoding.target).to_dict())
    usual |= {"preset": TrainConfig.preset, "encoding.target": TARGET}
    values = _by_name(config.to_dict())
    return {*given, *(name for name in usual if values[name] != usual[name])}


def _by_name(values: dict[str, Any]) -> dict[str, Any]:
    """Return nested settings by names such as ``weights.border_weight``."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        inner = _by_name(value) if isinstance(value, dict) else {"": value}
        flat |= {f"{key}.{name}".rstrip("."): one for name, one in inner.items()}
    return flat
