"""The images of a batch through one model: small ones at once, large ones alone."""

from __future__ import annotations

import contextlib
import math
from dataclasses import replace
from typing import TYPE_CHECKING

from cellunet.imaging.blocks import LARGEST_PX
from cellunet.imaging.resample import target_length
from cellunet.run.ahead import Gate
from cellunet.run.executor import executor_of
from cellunet.run.memory import memory_for, window_bytes
from cellunet.tasks.engines import ENGINES, choose_engine
from cellunet.tasks.recipe import engine_for, tiles_at_once

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cellunet.config import PredictConfig
    from cellunet.imaging.files import Source
    from cellunet.store import Model
    from cellunet.tasks.prediction.segment import Recipe

SMALL_PX = 2**20
"""Images of more pixels are worked on alone, so that memory does not add up."""


class SideBySide:
    """How many images are in hand at once, and what each of them is given.

    Small images side by side, each on one thread, keep the cores busier than one after
    the other on all; which it was changes no label.

    Parameters
    ----------
    model, config, engine, device, threads
        As for `cellunet.tasks.recipe.recipe_for`.
    recipe
        What that returned.
    images
        In the batch.
    """

    def __init__(  # noqa: PLR0913
        self,
        model: Model,
        config: PredictConfig,
        engine: str,
        device: str,
        threads: int,
        *,
        recipe: Recipe,
        images: int,
    ) -> None:
        alone = config.max_memory_mb is not None
        if alone or not ENGINES[choose_engine(engine, device)].only_cpu:
            images = 1
        self._config = config
        self._tiles = tiles_at_once(threads)
        self.at_once = min(max(images, 1), self._tiles)
        self._gate = Gate(self.at_once)
        self._small = recipe.engine
        if self.at_once > 1:
            self._small = engine_for(model, config, engine, device, 1)

    @contextlib.contextmanager
    def passing(
        self, source: Source, recipe: Recipe, channels: int = 1
    ) -> Iterator[Recipe]:
        """Wait for the image's turn; yields its recipe, with what it may hold.

        Parameters
        ----------
        source
            The image.
        recipe
            How it is seen, from `cellunet.tasks.recipe.recipe_for_image`.
        channels
            Channels that are read, each of which holds memory.

        Raises
        ------
        ConfigError
            If not even the least fits into ``--max-memory``.
        """
        large = math.prod(source.shape) > SMALL_PX
        height, width = (target_length(n, recipe.scale) for n in source.shape)
        rows = math.ceil(LARGEST_PX / min(recipe.scale, 1.0))
        memory = memory_for(
            self._config.max_memory_mb,
            source.shape,
            window_bytes(
                (height, width), recipe.config.network, recipe.config.image_channels
            ),
            source.held_bytes(rows) * channels,
            # Beside a small image there is another one: its tiles are decoded there.
            self._tiles if large else 1,
            source.channels,
        )
        memory = replace(memory, tile_px=min(memory.tile_px, self._config.tile_px))
        with self._gate.passing(large=large):
            yield replace(
                recipe,
                engine=recipe.engine if large else self._small,
                memory=memory,
                executor=executor_of(memory.workers),
            )
