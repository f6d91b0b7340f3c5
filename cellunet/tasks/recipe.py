"""How a model is applied: its engine, and its constants at the scale asked for."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from cellunet.engine.base import FlippingEngine
from cellunet.engine.cores import usable_cores
from cellunet.errors import ConfigError
from cellunet.run.executor import executor_of
from cellunet.run.memory import memory_for
from cellunet.tasks.engines import load_engine
from cellunet.tasks.prediction.segment import Recipe

if TYPE_CHECKING:
    from collections.abc import Callable

    from cellunet.config import DecodeConfig, PredictConfig
    from cellunet.engine.base import Engine
    from cellunet.imaging.files import Source
    from cellunet.store import Model

MOST_AT_ONCE = 4
"""Tiles of a large image in work at once at most, or small images in hand."""
SCALES = (0.05, 20.0)
"""Smallest and largest scale that may follow from a diameter or a pixel size."""
SQUARE = 1.05
"""Pixels whose sides differ by up to this factor are square enough for one scale."""
SAME_SCALE = 0.005
"""Scales closer to 1 than this are 1."""


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
    memory = memory_for(None, (0, 0), 0, 0, tiles_at_once(threads))
    return Recipe(
        engine=engine_for(model, config, engine, device, threads),
        config=card.config,
        decode=decode_at(card.config.decode, config, scale),
        scale=scale,
        exclude_border=config.exclude_border,
        memory=replace(memory, tile_px=min(memory.tile_px, config.tile_px)),
        executor=executor_of(memory.workers),
        should_stop=should_stop,
    )


def tiles_at_once(threads: int) -> int:
    """Return how many tiles are decoded at once; `threads` 0: as the cores allow."""
    return min(threads or usable_cores(), MOST_AT_ONCE)


def engine_for(
    model: Model, config: PredictConfig, engine: str, device: str, threads: int
) -> Engine:
    """Return what computes, as for `recipe_for`."""
    loaded = load_engine(model, engine=engine, device=device, threads=threads)
    return FlippingEngine(loaded) if config.flips else loaded


def recipe_for_image(recipe: Recipe, config: PredictConfig, source: Source) -> Recipe:
    """Return how one image is seen: the same engine, and the scale of its pixels.

    Parameters
    ----------
    recipe
        How the model is applied.
    config
        What is asked for.
    source
        The image.

    Raises
    ------
    ConfigError
        If images are to be seen at a pixel size, and this one's is not known, not
        square or too far from it.
    """
    wanted, own = config.pixel_size_um, source.pixel_size_um
    if wanted is None:
        return recipe
    if own is None:
        raise ConfigError(
            f"{source.path} does not say how large its pixels are, so --pixel-size "
            "cannot rescale it.",
            hint="Give --scale or --diameter instead, or save the pixel size in it.",
        )
    if max(own) > SQUARE * min(own):
        raise ConfigError(
            f"{source.path} has pixels of {own[0]:g} x {own[1]:g} micrometres, which "
            "are not square; --pixel-size cannot rescale it.",
            hint="Resample it to square pixels, or give --scale.",
        )
    scale = math.sqrt(own[0] * own[1]) / wanted
    # Metadata are rounded: a scale of 1.0003 would only cost time and sharpness.
    scale = 1.0 if abs(scale - 1) < SAME_SCALE else scale
    if not SCALES[0] <= scale <= SCALES[1]:
        raise ConfigError(
            f"{source.path} has pixels of {own[0]:g} micrometres, too far from the "
            f"{wanted:g} that --pixel-size asks for.",
            hint=f"From {own[0] / SCALES[1]:.3g} to {own[0] / SCALES[0]:.3g} are "
            "possible for it.",
        )
    decode = decode_at(recipe.config.decode, config, scale)
    return replace(recipe, scale=scale, decode=decode)


def decode_at(
    trained: DecodeConfig, config: PredictConfig, scale: float
) -> DecodeConfig:
    """Return the decode constants for a scale, and what is asked for instead."""
    decode = at_scale(trained, scale)
    if config.seed_threshold is not None:
        decode = decode.replace(seed_threshold=config.seed_threshold)
    if config.min_area_px is not None:
        # In the image's own pixels, which are those that decoding sees.
        decode = decode.replace(min_area_px=config.min_area_px)
    return decode


def scale_of(config: PredictConfig, model: Model) -> float:
    """Return by how much images are magnified before the network.

    Raises
    ------
    ConfigError
        If a diameter is given and the model does not know its objects', if they are
        too far apart, or if the scale is too far from 1.
    """
    if config.diameter_px is None:
        return _possible(model.card.config.scale * (config.scale or 1.0), model)
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


def _possible(scale: float, model: Model) -> float:
    own = model.card.config.scale
    if not SCALES[0] <= scale <= SCALES[1]:
        raise ConfigError(
            f"Model {model.name!r} sees images magnified by {own:g} as it is; "
            f"{scale:g} in all is too far from 1.",
            hint=f"--scale from {SCALES[0] / own:.3g} to {SCALES[1] / own:.3g} is "
            "possible for it.",
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
