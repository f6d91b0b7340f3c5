"""One plane: the same labels as decoding the whole at once, in any tiles."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")


import itertools
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import ndimage

from cellunet import store
from cellunet.command_config import PredictConfig
from cellunet.config import (
    DecodeConfig,
    EncodingConfig,
    TrainConfig,
    UNetConfig,
    WeightConfig,
)
from cellunet.core.device import TorchEngine
from cellunet.core.unet import UNet, initialize
from cellunet.engine.runtimes import plane_probabilities
from cellunet.errors import CheckpointError, ImageReadError, OutputError
from cellunet.imaging import blocks as blocks_module
from cellunet.imaging.blocks import network_plan
from cellunet.imaging.decode import correct, decode_plane, seed_and_foreground_mask
from cellunet.imaging.normalize import measure, normalize
from cellunet.io.images import open_image
from cellunet.io.label_tiff import TiffSink
from cellunet.io.scratch import KeptTile, PlaneStore, Scratch
from cellunet.io.source import Region
from cellunet.io.tiff import TiffSource
from cellunet.metrics.matching import score_image
from cellunet.tasks.predict import image as side_by_side
from cellunet.tasks.predict import plane as segment_module
from cellunet.tasks.predict import settings as recipes
from cellunet.tasks.predict.batch import predict
from cellunet.tasks.predict.blocks import DecodeStep
from cellunet.tasks.predict.plane import (
    DecodePass,
    PredictionStopped,
    as_labels,
    segment,
    segment_plane,
    tiles,
)
from cellunet.tasks.predict.settings import (
    InferenceSettings,
    Memory,
    SecondPass,
    at_scale,
    settings_for,
)
from cellunet.tasks.scheduling import executor_of

SCALES = (1.0, 0.6, 1.9)
WINDOWS = (1024, 64, 80)
MEMORY = 20_000
"""Bytes held in memory: nearly everything passes through the disk."""


@pytest.fixture(scope="module")
def recipe(tiny_model) -> InferenceSettings:
    model = store.find_model(str(tiny_model.folder))
    return settings_for(model, PredictConfig(), "onnxruntime", "cpu", 1)


def saved(folder: Path, image: np.ndarray) -> Path:
    path = folder / "image.tif"
    tifffile.imwrite(path, image)
    return path


def labels_of(path: Path, recipe: InferenceSettings) -> np.ndarray:
    with open_image(path) as source, Scratch(memory_bytes=MEMORY) as scratch:
        found = segment_plane(source, 0, recipe, scratch)
        labels = as_labels(found.bands())
        assert found.count == labels.max(initial=0)
        return labels


def probabilities_of(image: np.ndarray, recipe: InferenceSettings) -> np.ndarray:
    """The whole plane through the network, without any of `segment`."""
    config = recipe.config
    scaled = normalize(
        image, measure(lambda: [image], config.normalization), config.normalization
    )
    return plane_probabilities(
        recipe.engine, scaled, network_plan(image.shape, config.network), 3
    )


@pytest.mark.parametrize("shape", [(70, 300), (300, 70), (9, 5), (1, 1)])
def test_labels_are_those_of_the_whole_plane_for_every_tile(
    shape, recipe, tmp_path, nuclei_image
) -> None:
    image = nuclei_image(shape, 40, 9)[0]
    expected = decode_plane(
        probabilities_of(image, recipe), recipe.config.encoding, recipe.decode
    )
    path = saved(tmp_path, image)
    for tile_px in (64, 100, 257, 1024):
        found = labels_of(path, replace(recipe, memory=Memory(tile_px=tile_px)))
        np.testing.assert_array_equal(found, expected)
    if min(shape) > 60:
        assert expected.max() > 10


def test_what_training_scores_is_what_predict_drops_for_every_tile(
    recipe, tmp_path, nuclei_image
) -> None:
    image = nuclei_image((70, 300), 40, 9)[0]
    probabilities = probabilities_of(image, recipe)
    encoding, path = recipe.config.encoding, saved(tmp_path, image)
    every = decode_plane(probabilities, encoding, recipe.decode).max()
    corrected = correct(probabilities, recipe.decode.class_odds)
    sure = corrected.max(axis=0)[
        decode_plane(probabilities, encoding, recipe.decode) > 0
    ]
    unsure = recipe.decode.replace(min_confidence=float(sure.mean()))
    expected = decode_plane(probabilities, encoding, unsure)
    assert 0 < expected.max() < every
    for tile_px in (64, 100, 1024):
        settings = replace(recipe, decode=unsure, memory=Memory(tile_px=tile_px))
        with open_image(path) as source, Scratch(memory_bytes=MEMORY) as scratch:
            plane = segment(source, 0, settings, scratch)
            found = as_labels(plane.bands())
            anew = replace(plane, known=None).confidences
        np.testing.assert_array_equal(found, expected)
        np.testing.assert_array_equal(plane.known, anew)


def test_two_sizes_in_one_plane_are_told_apart_wherever_arrays_wait(
    recipe, tmp_path, nuclei_image
) -> None:
    path = saved(tmp_path, nuclei_image((70, 300), 40, 9)[0])
    further = SecondPass(scale=1.3, decode=at_scale(recipe.decode, 1.3), large_px=12)
    found = []
    for memory in (2**24, 0):
        with open_image(path) as source, Scratch(memory_bytes=memory) as scratch:
            both = segment(source, 0, replace(recipe, added=further), scratch)
            found.append((as_labels(both.bands()), both.evidence(0, 70).copy()))
    (labels, sure), (again, sure_again) = found
    assert labels.max() > 10
    np.testing.assert_array_equal(again, labels)
    np.testing.assert_array_equal(sure_again, sure)


def test_several_blocks_of_the_network_make_the_same_labels(
    recipe, tmp_path, nuclei_image, monkeypatch
) -> None:
    image = nuclei_image((200, 230), 60, 9)[0]
    path = saved(tmp_path, image)
    whole = labels_of(path, recipe)
    # Windows no longer than twice two halos: 8 or more of them.
    monkeypatch.setattr(blocks_module, "LARGEST_PX", 64)
    assert len(network_plan(image.shape, recipe.config.network).blocks) >= 8
    expected = decode_plane(
        probabilities_of(image, recipe), recipe.config.encoding, recipe.decode
    )
    for tile_px in (64, 100):
        found = labels_of(path, replace(recipe, memory=Memory(tile_px=tile_px)))
        np.testing.assert_array_equal(found, expected)
    # Sums of another order differ in their last bits, no more.
    assert (whole != expected).mean() < 0.01


@pytest.mark.slow
@settings(
    max_examples=25,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_white_noise_through_random_weights_is_cut_without_a_seam(
    data, recipe, tmp_path, monkeypatch
) -> None:
    """Nothing is smooth here: whatever depends on where a block ends would show."""
    height, width = (data.draw(st.sampled_from([1, 17, 61, 97, 129])) for _ in range(2))
    seed = data.draw(st.integers(0, 2**16))
    image = np.random.default_rng(seed).normal(500, 200, (height, width))
    network = UNet(recipe.config.network)
    initialize(network, seed)
    engine = TorchEngine(network.eval(), torch.device("cpu"))
    noisy = replace(recipe, engine=engine, scale=data.draw(st.sampled_from(SCALES)))
    with monkeypatch.context() as patch:
        patch.setattr(blocks_module, "LARGEST_PX", data.draw(st.sampled_from(WINDOWS)))
        path = saved(tmp_path, image.astype(np.float32))
        whole = labels_of(path, noisy)
        for tile_px in data.draw(st.lists(st.integers(3, 140), min_size=1, max_size=3)):
            memory = Memory(tile_px=tile_px, band_pixels=1000)
            again = labels_of(path, replace(noisy, memory=memory))
            np.testing.assert_array_equal(again, whole)


@pytest.mark.slow
def test_a_nucleus_across_the_corner_of_four_blocks_stays_one(
    recipe, tmp_path, monkeypatch
) -> None:
    y, x = np.mgrid[:192, :192]
    image = np.where((y - 96) ** 2 + (x - 96) ** 2 < 81, 900, 100).astype(np.uint16)
    image[((y - 30) ** 2 + (x - 40) ** 2) < 64] = 900
    path = saved(tmp_path, image)
    expected = labels_of(path, recipe)
    assert expected.max() == 2
    monkeypatch.setattr(blocks_module, "LARGEST_PX", 64)
    plan = network_plan(image.shape, recipe.config.network)
    corners = {(b.y.core_stop, b.x.core_stop) for b in plan.blocks}
    assert any(expected[c] for c in corners if max(c) < 192)
    for tile_px in (96, 64, 7):
        found = labels_of(path, replace(recipe, memory=Memory(tile_px=tile_px)))
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("scale", [2.0, 0.5, 1.7])
def test_objects_come_back_at_the_images_own_size(
    scale, tiny_model, tmp_path, nuclei_image
) -> None:
    truth = nuclei_image((128, 128), 20, 12, radius_px=(6.0, 9.0))
    if scale >= 1:
        # Every second pixel, so that the network has to see it twice as large.
        step = round(scale)
        image, labels = (a[::step, ::step] for a in truth)
    else:
        image, labels = (a.repeat(2, 0).repeat(2, 1) for a in truth)
    model = store.find_model(str(tiny_model.folder))
    found = {}
    for tile_px in (64, 100, 1024):
        config = PredictConfig(scale=scale, tile_px=tile_px)
        recipe = settings_for(model, config, "onnxruntime", "cpu", 1)
        found[tile_px] = labels_of(saved(tmp_path, image), recipe)
        assert found[tile_px].shape == image.shape
        np.testing.assert_array_equal(found[tile_px], found[64])
    score = next(iter(score_image(labels, found[64], name="x").values()))
    assert score.f1_at(10) > 0.7


def test_bands_of_probabilities_make_the_plane(
    recipe, tmp_path, nuclei_image, monkeypatch
) -> None:
    image = nuclei_image((150, 80), 20, 3)[0]
    monkeypatch.setattr(blocks_module, "LARGEST_PX", 64)
    bands: list[tuple[int, np.ndarray]] = []
    with open_image(saved(tmp_path, image)) as source, Scratch() as scratch:
        segment_plane(
            source,
            0,
            recipe,
            scratch,
            lambda y0, rows: bands.append((y0, rows)),
        )
    assert len(bands) > 2
    ends = np.cumsum([rows.shape[1] for _, rows in bands]).tolist()
    assert [y0 for y0, _ in bands] == [0, *ends[:-1]]
    assert ends[-1] == 150
    whole = np.concatenate([rows for _, rows in bands], axis=1)
    raw = probabilities_of(image, recipe)
    odds = np.asarray(recipe.decode.class_odds, np.float32)[:, None, None]
    expected = raw / odds / (raw / odds).sum(axis=0)
    np.testing.assert_allclose(whole, expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("scale", [0.37, 0.6, 1.9, 3.3])
def test_at_another_scale_blocks_compute_what_one_pass_computes(
    scale, recipe, tmp_path, nuclei_image, monkeypatch
) -> None:
    path = saved(tmp_path, nuclei_image((130, 171), 40, 9)[0])
    found = []
    for largest_px in (4096, 64):
        monkeypatch.setattr(blocks_module, "LARGEST_PX", largest_px)
        kept: list[np.ndarray] = []
        with open_image(path) as source, Scratch() as scratch:
            segment_plane(
                source,
                0,
                replace(recipe, scale=scale),
                scratch,
                lambda y0, rows, kept=kept: kept.append(rows),
            )
        found.append(np.concatenate(kept, axis=1))
    if scale > 1:
        assert len(kept) > 2
    np.testing.assert_allclose(found[0], found[1], atol=1e-5)


def test_the_height_of_the_bands_read_changes_nothing(
    recipe, tmp_path, nuclei_image, monkeypatch
) -> None:
    path = saved(tmp_path, nuclei_image((100, 60), 12, 3)[0].astype(np.float32))
    whole = labels_of(path, recipe)
    monkeypatch.setattr(segment_module, "BAND_ROWS", 7)
    np.testing.assert_array_equal(labels_of(path, recipe), whole)


def test_what_was_seen_is_told(recipe, tmp_path, nuclei_image) -> None:
    image = nuclei_image((64, 64), 8, 5)[0]
    with open_image(saved(tmp_path, image)) as source, Scratch() as scratch:
        found = segment_plane(source, 0, recipe, scratch)
        areas = np.bincount(as_labels(found.bands()).ravel())[1:]
    np.testing.assert_array_equal(found.areas, areas)
    assert found.statistics.count == 64 * 64
    with (
        open_image(saved(tmp_path, np.zeros((9, 9), np.uint8))) as source,
        Scratch() as scratch,
    ):
        empty = segment_plane(source, 0, recipe, scratch)
    assert empty.count == 0
    assert not len(empty.areas)


def test_a_network_that_computes_no_numbers_is_no_empty_image(
    recipe, tmp_path, nuclei_image
) -> None:
    class Broken:
        name = recipe.engine.name

        def __call__(self, image):
            found = recipe.engine(image)
            found[..., 5, 7] = np.nan
            return found

    path = saved(tmp_path, nuclei_image((64, 64), 8, 5)[0])
    with pytest.raises(CheckpointError, match="does not compute numbers at x 0 to"):
        labels_of(path, replace(recipe, engine=Broken()))


def test_a_stop_comes_between_blocks(recipe, tmp_path, nuclei_image) -> None:
    path = saved(tmp_path, nuclei_image((64, 64), 8, 5)[0])
    with pytest.raises(PredictionStopped):
        labels_of(path, replace(recipe, should_stop=lambda: True))


@pytest.mark.parametrize(
    ("shape", "tile", "halo"), [((70, 130), 64, 10), ((1, 1), 64, 3)]
)
def test_cores_of_tiles_cover_the_plane_once(shape, tile, halo) -> None:
    covered = np.zeros(shape, int)
    for i, row in enumerate(tiles(shape, tile, halo)):
        for j, area in enumerate(row):
            assert area.place == (i, j)
            assert area.plane == shape
            view = covered[
                area.y0 : area.y0 + area.height, area.x0 : area.x0 + area.width
            ]
            assert view.shape == (area.height, area.width)
            view[area.core] += 1
            for start, length, core, whole in (
                (area.y0, area.height, area.core[0], shape[0]),
                (area.x0, area.width, area.core[1], shape[1]),
            ):
                assert core.start == min(halo, start + core.start)
                assert length - core.stop == min(halo, whole - start - core.stop)
    assert (covered == 1).all()


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

    def within(self, y0: int, y1: int, x0: int, x1: int) -> list[KeptTile]:
        assert self.holds(y1, x1)
        self.read_down_to = max(self.read_down_to, y1)
        return super().within(y0, y1, x0, x1)


def marks_of(probabilities: np.ndarray, recipe: InferenceSettings) -> np.ndarray:
    corrected = correct(probabilities, recipe.decode.class_odds)
    return seed_and_foreground_mask(corrected, recipe.config.encoding, recipe.decode)


def decoding_of(
    marks: PlaneStore, recipe: InferenceSettings, scratch: Scratch
) -> DecodePass:
    step = DecodeStep(
        encoding=recipe.config.encoding, decode=recipe.decode, room=scratch, rows=7
    )
    return DecodePass(marks, SHAPE, recipe, step)


def threads_left() -> set[str]:
    names = {thread.name for thread in threading.enumerate()}
    return {name for name in names if name.startswith("cellunet")}


@pytest.mark.slow
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
            decoding = decoding_of(marks, recipe, scratch)
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
        decoding = decoding_of(marks, recipe, scratch)
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


@pytest.mark.slow
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
            decoding = decoding_of(marks, recipe, scratch)
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


@pytest.mark.usefixtures("many_blocks")
@pytest.mark.parametrize("what", ["write", "read"])
def test_what_fails_while_labels_are_written_is_told_and_nothing_is_left(
    what, tiny_model, tmp_path, nuclei_image, monkeypatch
) -> None:
    tifffile.imwrite(tmp_path / "a.tif", nuclei_image((300, 170), 60, 3)[0])
    written, threads = [], set()
    write, read = TiffSink.write, TiffSource.read

    def failing_write(self: TiffSink, plane: int, y0: int, rows: Any) -> None:
        written.append(y0)
        threads.add(threading.current_thread().name.partition("_")[0])
        if what == "write" and len(written) == 2:
            raise OutputError("There is no room.")
        write(self, plane, y0, rows)

    def failing_read(self: Any, region: Region) -> Any:
        if what == "read" and len(written) >= 2:
            raise ImageReadError("It is gone.")
        return read(self, region)

    monkeypatch.setattr(TiffSink, "write", failing_write)
    monkeypatch.setattr(TiffSource, "read", failing_read)
    found = predict(
        [str(tmp_path / "a.tif")],
        tmp_path / "out",
        model=str(tiny_model.folder),
        threads=2,
        config=PredictConfig(tile_px=64),
    )
    told = {"write": "There is no room.", "read": "It is gone."}[what]
    assert found.images[0].message == told
    assert threads == {"cellunet-ahead"}
    assert not list((tmp_path / "out").iterdir())
    assert not threads_left()


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
