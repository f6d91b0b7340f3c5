"""Tiles are decoded beside the network, and nothing shows it."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import tifffile
from scipy import ndimage

from cellunet.config import (
    DecodeConfig,
    EncodingConfig,
    PredictConfig,
    TrainConfig,
    UNetConfig,
    WeightConfig,
)
from cellunet.imaging import blocks as blocks_module
from cellunet.imaging.decode import decode_plane, seed_and_foreground_mask
from cellunet.imaging.targets import correct
from cellunet.io.scratch import PlaneStore, Scratch
from cellunet.tasks.predict import image as side_by_side
from cellunet.tasks.predict import settings as recipes
from cellunet.tasks.predict.batch import predict
from cellunet.tasks.predict.plane import DecodePass, PredictionStopped, as_labels
from cellunet.tasks.predict.settings import InferenceSettings, Memory
from cellunet.tasks.scheduling import executor_of

ENCODINGS = {
    "inner": EncodingConfig(),
    "outer": EncodingConfig(boundary_side="outer"),
    "boundary": EncodingConfig(target="boundary"),
}
SHAPE = (61, 83)
THREADS = (1, 2, 4)
TILES = (4, 13, 40)
"""Sides of tiles; nuclei are about 12 pixels wide."""
CUTS = (0, 17, 40, 61), (0, 30, 31, 83)
"""Of the parts in which marks come in."""


def recipe_of(
    encoding: EncodingConfig, tile_px: int, threads: int, **more: object
) -> InferenceSettings:
    classes = len(encoding.classes)
    ones = (1.0,) * classes
    decode = DecodeConfig(class_odds=ones, seed_threshold=0.5, min_area_px=3)
    config = TrainConfig(
        encoding=encoding,
        network=UNetConfig(classes=classes),
        weights=WeightConfig(class_weights=ones),
        decode=decode,
    )
    return InferenceSettings(
        engine=None,
        config=config,
        decode=decode,
        memory=Memory(tile_px=tile_px),
        executor=executor_of(threads),
        **more,
    )


@pytest.fixture
def probabilities(rng):
    """Of so many classes: smooth noise, so that all is about 12 pixels wide."""

    def make(classes: int) -> np.ndarray:
        logits = ndimage.gaussian_filter(rng.normal(size=(classes, *SHAPE)), (0, 3, 3))
        positive = np.exp(40 * logits)
        return (positive / positive.sum(axis=0)).astype(np.float32)

    return make


class Watched(PlaneStore):
    """Marks that come in while they are decoded, and who reads which when."""

    def __init__(self, scratch: Scratch, marks: np.ndarray) -> None:
        super().__init__(scratch)
        self._all = marks
        self.read_down_to = 0

    def parts(self) -> Iterator[int]:
        """Put the parts in one after the other; yield how far tiles were read."""
        for y0, y1 in pairwise(CUTS[0]):
            for x0, x1 in pairwise(CUTS[1]):
                self.put(y0, x0, self._all[y0:y1, x0:x1].copy())
                yield self.read_down_to

    def read(self, y0: int, y1: int, x0: int, x1: int) -> np.ndarray:
        assert self.holds(y1, x1)
        self.read_down_to = max(self.read_down_to, y1)
        return super().read(y0, y1, x0, x1)


def marks_of(probabilities: np.ndarray, recipe: InferenceSettings) -> np.ndarray:
    corrected = correct(probabilities, recipe.decode.class_odds)
    return seed_and_foreground_mask(corrected, recipe.config.encoding, recipe.decode)


def threads_left() -> set[str]:
    names = {thread.name for thread in threading.enumerate()}
    return {name for name in names if name.startswith("cellunet")}


@pytest.mark.parametrize("threads", THREADS)
@pytest.mark.parametrize("memory", [0, 2**20])
@pytest.mark.parametrize("name", ENCODINGS)
def test_labels_depend_neither_on_threads_nor_on_tiles(
    name, memory, threads, probabilities
) -> None:
    encoding = ENCODINGS[name]
    field = probabilities(len(encoding.classes))
    for tile_px in TILES:
        recipe = recipe_of(encoding, tile_px, threads)
        expected = decode_plane(field, encoding, recipe.decode)
        assert expected.max() > 5
        with Scratch(memory_bytes=memory) as scratch:
            marks = Watched(scratch, marks_of(field, recipe))
            decoding = DecodePass(marks, SHAPE, recipe, scratch, 7)
            decoding.run(marks.parts())
            labels = as_labels(decoding.bands(decoding.numbers()))
        np.testing.assert_array_equal(labels, expected)
    assert not threads_left()


@pytest.mark.parametrize("name", ENCODINGS)
def test_a_tile_is_begun_as_soon_as_its_marks_are_there(name, probabilities) -> None:
    encoding = ENCODINGS[name]
    recipe = recipe_of(encoding, 4, 1)
    halo = 12
    with Scratch() as scratch:
        marks = Watched(scratch, marks_of(probabilities(len(encoding.classes)), recipe))
        decoding = DecodePass(marks, SHAPE, recipe, scratch, 7)
        begun: list[int] = []

        def parts() -> Iterator[int]:
            for _ in marks.parts():
                yield 0
                begun.append(marks.read_down_to)

        decoding.run(parts())
    # After each part, all that is to be read above the last full row of parts.
    whole_rows = np.repeat(CUTS[0], 3)[1:10]
    assert len(begun) == 9
    assert all(np.array(begun) >= whole_rows - halo - 4)


@pytest.mark.parametrize("threads", THREADS)
@pytest.mark.parametrize("name", ENCODINGS)
def test_a_stop_leaves_no_thread_at_work(name, threads, probabilities) -> None:
    encoding = ENCODINGS[name]
    for last in (1, 20, 300):
        left = iter(range(last))

        def stop(left: Iterator[int] = left) -> bool:
            return next(left, None) is None

        recipe = recipe_of(encoding, 4, threads, should_stop=stop)
        with Scratch() as scratch:
            field = probabilities(len(encoding.classes))
            marks = Watched(scratch, marks_of(field, recipe))
            decoding = DecodePass(marks, SHAPE, recipe, scratch, 7)
            with pytest.raises(PredictionStopped):
                decoding.run(marks.parts())
            assert not threads_left()


@pytest.fixture
def many_blocks(monkeypatch) -> None:
    """Small windows of a large field, and probabilities that are always the same."""
    monkeypatch.setattr(side_by_side, "SMALL_PX", 0)
    monkeypatch.setattr(blocks_module, "LARGEST_PX", 64)
    load = recipes.load_engine
    monkeypatch.setattr(
        recipes, "load_engine", lambda model, **how: load(model, **how | {"threads": 1})
    )


def stopping_at(call: int | None) -> Callable[[], bool]:
    calls = itertools.count(1)
    return lambda: call is not None and next(calls) >= call


@pytest.mark.slow
@pytest.mark.usefixtures("many_blocks")
def test_all_files_are_the_same_for_any_threads_tiles_memory_and_stops(
    tiny_model, tmp_path, nuclei_image, monkeypatch
) -> None:
    image = nuclei_image((200, 170), 60, 3)[0].astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", image)
    memory_for, folders = recipes.memory_for, itertools.count()

    def files(
        threads: int, tile_px: int, limit: int | None = None, stop: int | None = None
    ) -> dict[str, bytes]:
        # Smaller tiles than may be asked for: smaller than a nucleus.
        monkeypatch.setattr(
            recipes,
            "memory_for",
            lambda *given: replace(memory_for(*given), tile_px=tile_px),
        )
        config = PredictConfig(
            save=("table", "geojson", "classes", "outlines"), max_memory_mb=limit
        )
        out = tmp_path / str(next(folders))
        for stop_at in (stop, None) if stop else (None,):
            found = predict(
                [str(tmp_path / "a.tif")],
                out,
                model=str(tiny_model.folder),
                threads=threads,
                config=config,
                should_stop=stopping_at(stop_at),
            )
            assert found.stopped == (stop_at is not None)
            assert not threads_left()
        assert found.images[0].objects > 20
        return {path.name: path.read_bytes() for path in out.iterdir()}

    expected = files(1, 1024)
    assert len(expected) >= 5
    for threads in THREADS:
        assert files(threads, 8) == expected
        assert files(threads, 100, limit=300) == expected
        assert files(threads, 8, stop=40) == expected
