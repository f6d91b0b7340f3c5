"""What a training begins with where nothing else is asked for; without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cellunet import store
from cellunet.config import (
    FEW_IMAGES,
    FOLDS,
    MODEL,
    PRESETS,
    SCRATCH,
    TARGET,
    TrainConfig,
    for_target,
)
from cellunet.imaging.pairing import find_pairs, listed

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from cellunet.config import Target


@dataclass(frozen=True, kw_only=True)
class Suited:
    """What to train with where nothing else is asked for."""

    preset: str
    folds: int
    """0 where some images are kept out for validation."""
    target: Target
    """What the network learns."""


def began_with(name: str) -> Suited:
    """Return what suits a training that is to be resumed: the preset it began with.

    Parameters
    ----------
    name
        Of the model; without a saved state the default preset, for whoever refuses to
        resume it.

    Raises
    ------
    CheckpointError
        If the state cannot be read.
    """
    state = store.model_folder(name) / store.STATE_FILE
    if not state.is_file():
        return Suited(preset=TrainConfig.preset, folds=0, target=TARGET)
    config = store.read_metadata(state).get("config")
    preset, encoding = (
        config.get(name) if isinstance(config, dict) else None
        for name in ("preset", "encoding")
    )
    # What it cannot mean is told when the whole state is read.
    boundary = isinstance(encoding, dict) and encoding.get("target") == "boundary"
    return Suited(
        preset=preset if preset in PRESETS else TrainConfig.preset,
        folds=0,
        target="boundary" if boundary else TARGET,
    )


def suited(
    folders: Sequence[Path],
    validation: Path | None = None,
    *,
    start: str | None = None,
    target: Target | None = None,
    keep_out: bool = False,
) -> Suited:
    """Return the preset, the folds and the target for annotated folders.

    Up to `cellunet.config.FEW_IMAGES` images that start from a model take the preset
    ``few``; if none of them is set aside for validation they are cross-validated.

    Parameters
    ----------
    folders
        Annotated folders.
    validation
        A folder of validation images.
    start
        What training is to start from, if that was said; from ``scratch`` there is no
        preset for few images.
    target
        What the network is to learn, if that was said; else what the model to start
        from has learned.
    keep_out
        Whether a share of the images is to be kept out for validation.

    Raises
    ------
    InputError
        If a folder holds no pairs, or partners are missing.
    """
    if target is None:
        target = TARGET
        if start not in (None, SCRATCH):
            target = store.find_model(str(start)).card.config.encoding.target
    begins_with = start_name(start, for_target(TrainConfig(), target))
    found = [find_pairs(folder) for folder in folders]
    count = sum(len(listed(pairs)) for pairs in found)
    if begins_with == SCRATCH or count > FEW_IMAGES:
        return Suited(preset=TrainConfig.preset, folds=0, target=target)
    kept_out = validation or keep_out or any(p.validation is not None for p in found)
    # A single image is cut in two.
    folds = 0 if kept_out else min(FOLDS, max(count, 2))
    return Suited(preset="few", folds=folds, target=target)


def start_name(wanted: str | None, config: TrainConfig) -> str:
    """Return what training starts from: what is wanted, else the model that ships.

    A preset or target that the model that ships does not have starts from scratch,
    unless another model is named.
    """
    if wanted is not None:
        return wanted
    theirs = store.find_model(MODEL).card.config
    fits = config.encoding.target == theirs.encoding.target and _takes_network(config)
    return MODEL if fits else SCRATCH


def _takes_network(config: TrainConfig) -> bool:
    """Return whether network and normalisation were left open."""
    usual = for_target(TrainConfig(), config.encoding.target)
    return (config.network, config.normalization) == (
        usual.network,
        usual.normalization,
    )
