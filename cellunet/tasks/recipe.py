"""How a model is applied: its engine, and its constants at the scale asked for."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from cellunet.engine.base import FlippingEngine
from cellunet.errors import ConfigError
from cellunet.tasks.engines import load_engine
from cellunet.tasks.segment import Recipe

if TYPE_CHECKING:
    from collections.abc import Callable

    from cellunet.config import DecodeConfig, PredictConfig
    from cellunet.store import Model

SCALES = (0.05, 20.0)
"""Smallest and largest scale that may follow from a diameter."""


def recipe_for(
    model: Model,
    config: PredictConfig,
    engine: str,
    device: str,
    threads: int,
    should_stop: Callable[[], bool] = lambda: False,
) -> Recipe:
    """Return how a model is applied.

    Parameters
    ----------
    model
        The model.
    config
        What is asked for.
    engine, device, threads
        What computes, as in `cellunet.tasks.engines.load_engine`.
    should_stop
        Asked between blocks.

    Raises
    ------
    CellunetError
        If the engine, the scale or the model's files cannot be used.
    """
    card = model.card
    scale = scale_of(config, model)
    decode = at_scale(card.config.decode, scale)
    if config.seed_threshold is not None:
        decode = decode.replace(seed_threshold=config.seed_threshold)
    if config.min_area_px is not None:
        # In the image's own pixels, which are those that decoding sees.
        decode = decode.replace(min_area_px=config.min_area_px)
    loaded = load_engine(model, engine=engine, device=device, threads=threads)
    return Recipe(
        engine=FlippingEngine(loaded) if config.flips else loaded,
        config=card.config,
        decode=decode,
        scale=scale,
        exclude_border=config.exclude_border,
        tile_px=config.tile_px,
        should_stop=should_stop,
    )


def scale_of(config: PredictConfig, model: Model) -> float:
    """Return by how much images are magnified before the network.

    Raises
    ------
    ConfigError
        If a diameter is given and the model does not know its objects', or if they
        are too far apart.
    """
    if config.diameter_px is None:
        return config.scale or 1.0
    median = model.card.diameter_px[1]
    if median <= 0:
        raise ConfigError(
            f"Model {model.name!r} does not know its objects' diameter.",
            hint="Give --scale instead.",
        )
    scale = median / config.diameter_px
    if not SCALES[0] <= scale <= SCALES[1]:
        raise ConfigError(
            f"A diameter of {config.diameter_px:g} px is too far from the {median:.0f} "
            f"px that model {model.name!r} knows.",
            hint=f"From {median / SCALES[1]:.1f} to {median / SCALES[0]:.0f} px are "
            "possible.",
        )
    return scale


def at_scale(decode: DecodeConfig, scale: float) -> DecodeConfig:
    """Return decode constants for images that the network sees magnified by `scale`.

    They count the image's own pixels, at which labels are decoded whatever the scale.
    """
    if scale == 1.0:
        return decode
    return decode.replace(
        min_area_px=round(decode.min_area_px / scale**2),
        growth_px=min(math.ceil(decode.growth_px / scale), 64),
        max_hole_px=round(decode.max_hole_px / scale**2),
        max_core_px=max(round(decode.max_core_px / scale**2), 1),
    )
