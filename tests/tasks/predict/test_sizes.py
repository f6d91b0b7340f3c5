"""The size of objects found before an image is segmented, and what follows from it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile

from cellunet import store
from cellunet.command_config import PredictConfig
from cellunet.errors import ConfigError
from cellunet.imaging.empty import Rectangle
from cellunet.imaging.sizes import look_of
from cellunet.io.label_tiff import read_provenance
from cellunet.io.scratch import Scratch
from cellunet.io.source import ArraySource
from cellunet.metrics.matching import match, overlaps
from cellunet.tasks.predict import sizes as size_module
from cellunet.tasks.predict.batch import predict
from cellunet.tasks.predict.plane import as_labels, segment
from cellunet.tasks.predict.session import load_model
from cellunet.tasks.predict.settings import Memory, settings_for
from cellunet.tasks.predict.sizes import (
    Size,
    common_size,
    find_size,
    size_warnings,
    with_size,
)

EXAMPLES = Path(__file__).parents[3] / "examples"


@pytest.fixture(scope="module")
def model():
    return store.find_model("nuclei")


@pytest.fixture(scope="module")
def recipe(model):
    return settings_for(
        model, PredictConfig(diameter_px="model"), "onnxruntime", "cpu", 1
    )


@pytest.fixture(scope="module")
def usual(nuclei_image):
    """Nuclei of the size that the shipped model knows, and their labels."""
    return nuclei_image((360, 400), 25, 1, radius_px=(13, 17))


@pytest.fixture(scope="module")
def large(nuclei_image):
    """Nuclei three times as large."""
    return nuclei_image((520, 600), 14, 2, radius_px=(40, 52))


def labels_of(image, recipe, size, **asked):
    card = store.find_model("nuclei").card
    own = {name: asked[name] for name in asked if name != "edge"}
    with Scratch() as scratch:
        way = with_size(recipe, PredictConfig(**asked), card, size)
        way = replace(way, **own)
        return as_labels(segment(ArraySource(image), 0, way, scratch).bands())


def found_share(true, found) -> float:
    """Share of true objects that are found with an IoU of at least .5."""
    table = overlaps(true, found)
    return len(match(table, 10)) / true.max()


def test_huge_pixels_do_not_hide_how_large_the_others_are(model, recipe, large) -> None:
    image = large[0].astype(np.float32)
    image[100:104, 100:104] = 3e38
    size = find_size(ArraySource(image), recipe, model.card)
    assert size is not None
    assert size.diameter_px == pytest.approx(92, rel=0.15)


def test_objects_of_a_usual_size_are_seen_as_they_are(model, recipe, usual) -> None:
    image, labels = usual
    found = find_size(ArraySource(image), recipe, model.card)
    diameters = 2 * np.sqrt(np.bincount(labels.ravel())[1:] / np.pi)
    assert found.scale == 1.0
    assert found.diameter_px == pytest.approx(np.median(diameters), rel=0.2)
    assert found.sure
    assert 0.5 < found.confidence <= 1


def test_small_nuclei_that_a_coarse_look_shows_as_clumps_are_measured(
    model, recipe
) -> None:
    image = tifffile.imread(EXAMPLES / "images" / "dsb_small_nuclei.tif")
    found = find_size(ArraySource(image), recipe, model.card)
    # Their median diameter is 13 px; clumps of them are seen as 24 px wide.
    assert found.diameter_px == pytest.approx(13, rel=0.15)


def test_large_objects_are_measured_and_seen_reduced(model, recipe, large) -> None:
    image, labels = large
    found = find_size(ArraySource(image), recipe, model.card)
    diameters = 2 * np.sqrt(np.bincount(labels.ravel())[1:] / np.pi)
    assert found.diameter_px == pytest.approx(np.median(diameters), rel=0.2)
    # Of the size of the large objects that the model learned, 40 px.
    assert found.scale == pytest.approx(40 / found.diameter_px, rel=0.2)
    assert found_share(labels, labels_of(image, recipe, found)) >= 0.8


@pytest.mark.slow
def test_neither_tile_nor_memory_changes_the_size(model, recipe, large) -> None:
    source = ArraySource(large[0])
    first = find_size(source, recipe, model.card)
    for tile, band in ((64, 2**12), (256, 2**16)):
        memory = Memory(tile_px=tile, band_pixels=band)
        again = find_size(source, replace(recipe, memory=memory), model.card)
        assert again == first


def test_of_a_large_plane_a_bounded_part_is_looked_at(
    model, recipe, large, monkeypatch
) -> None:
    image = np.tile(large[0], (3, 2))
    monkeypatch.setattr(size_module, "COARSE_PX", 400_000)
    monkeypatch.setattr(size_module, "GRID_PX", 256)
    monkeypatch.setattr(size_module, "COMPARED_PX", 2**18)
    looked = []
    looker = size_module._SizeFinder._read

    def read(self, plane, window):
        looked.append(window.pixels)
        return looker(self, plane, window)

    monkeypatch.setattr(size_module._SizeFinder, "_read", read)
    found = find_size(ArraySource(image), recipe, model.card)
    assert found.scale < 0.6
    assert found.diameter_px == pytest.approx(90, rel=0.25)
    # Sixteen windows reduced, and two looks at what is compared.
    assert sum(looked) <= 16 * 256**2 + 2 * 2**18
    assert sum(looked) < image.size


@pytest.mark.slow
def test_small_nuclei_beside_large_ones_are_not_lost(
    model, recipe, nuclei_image
) -> None:
    image, labels = nuclei_image((640, 520), 14, 2, radius_px=(40, 52))
    other, small = nuclei_image((640, 200), 24, 3, radius_px=(12, 15))
    both = np.concatenate((image, other), 1)
    found = find_size(ArraySource(both), recipe, model.card)
    assert found.scale < 0.6
    assert found.added_scale == 1.0
    seen = labels_of(both, recipe, found)
    own = replace(found, scale=1.0, added_scale=None)
    before = found_share(small, labels_of(both, recipe, own)[:, 520:])
    assert found_share(small, seen[:, 520:]) >= before - 0.05
    assert found_share(labels, seen[:, :520]) >= 0.8
    in_tiles = replace(recipe, memory=Memory(tile_px=128, band_pixels=2**14))
    np.testing.assert_array_equal(labels_of(both, in_tiles, found), seen)
    # Numbered without gaps, whichever look they are from.
    assert set(np.unique(seen)) == set(range(seen.max() + 1))


TWO_SIZES = Size(diameter_px=100.0, confidence=0.9, scale=0.4, added_scale=1.0)


@pytest.fixture(scope="module")
def of_two_sizes(nuclei_image):
    """Large nuclei, some at the edge of the image, and small ones right of column 300.

    One at the edge holds bright spots.
    """
    image = np.concatenate(
        (
            nuclei_image((400, 300), 6, 2, radius_px=(45, 58))[0],
            nuclei_image((400, 160), 18, 3, radius_px=(10, 14))[0],
        ),
        axis=1,
    )
    yy, xx = np.ogrid[:400, :300]
    part = image[:, :300]
    part[np.hypot(yy - 30, xx - 60) <= 55] = 900
    for y, x in ((12, 40), (15, 85), (45, 62), (55, 30), (55, 92)):
        part[np.hypot(yy - y, xx - x) <= 10] = 2600
    return image


def at_frame(labels):
    return np.unique(np.r_[labels[0], labels[-1], labels[:, 0], labels[:, -1]])


def test_of_large_objects_at_the_edge_no_pieces_are_left(recipe, of_two_sizes) -> None:
    every = labels_of(of_two_sizes, recipe, TWO_SIZES)
    found = labels_of(of_two_sizes, recipe, TWO_SIZES, exclude_border=True)
    inner = ~np.isin(every, at_frame(every)) & (every > 0)
    np.testing.assert_array_equal(found > 0, inner)


def test_outlines_move_as_far_as_the_look_that_drew_them_says(
    recipe, of_two_sizes
) -> None:
    usual = replace(TWO_SIZES, scale=1.0, added_scale=None)
    both, alone = (
        labels_of(of_two_sizes, recipe, size, edge=0.1)[:, 330:] > 0
        for size in (TWO_SIZES, usual)
    )
    np.testing.assert_array_equal(both, alone)


@pytest.mark.parametrize("edge", [0.1, 0.7])
def test_a_smallest_area_is_that_of_the_final_outline(recipe, usual, edge) -> None:
    size = Size(diameter_px=30.0, confidence=0.9, scale=1.0)
    every = labels_of(usual[0], recipe, size, edge=edge)
    areas = np.bincount(every.ravel())[1:]
    least = int(np.median(areas))
    found = labels_of(usual[0], recipe, size, edge=edge, min_area_px=least)
    np.testing.assert_array_equal(np.bincount(found.ravel())[1:], areas[areas >= least])


def test_the_smallest_area_asked_for_changes_no_size(model, recipe, nuclei_image):
    image = nuclei_image((200, 220), 40, 3, radius_px=(2, 12))[0]
    decode = recipe.config.decode.replace(edge=0.2)
    recipe = replace(recipe, config=recipe.config.replace(decode=decode))
    usual, asked = (
        find_size(ArraySource(image), replace(recipe, min_area_px=least), model.card)
        for least in (None, 1)
    )
    assert asked == usual


def test_windows_follow_a_coarse_look_to_its_last_columns() -> None:
    # Of 75 rows four are left, 16 pixels each, and an object in the last column alone.
    labels = np.zeros((4, 64), np.uint32)
    labels[:, -1] = 1
    window = Rectangle(0, 75, 2000, 3024)
    seen = size_module._WindowObjects(
        window, look_of(labels, np.full((4, 64), 255)), labels
    )
    coarse = [size_module._enlarged(seen, 16)]
    assert size_module._fullest(coarse, 512, 2**16) == [Rectangle(0, 75, 2512, 3024)]


def test_planes_and_images_share_the_median_of_the_sure_sizes() -> None:
    sizes = [
        Size(diameter_px=d, confidence=0.8, scale=s, sure=sure)
        for d, s, sure in ((90, 0.4, True), (100, 0.4, True), (30, 1.0, True))
    ]
    unsure = Size(diameter_px=300, confidence=0.4, scale=1.0, sure=False)
    nothing = Size(diameter_px=None, confidence=0.0, scale=1.0)
    assert common_size([*sizes, unsure, nothing]).scale == 0.4
    assert common_size([*sizes, unsure, nothing]).diameter_px == 90
    assert common_size([nothing, unsure]) == unsure
    assert common_size([nothing, nothing]) == nothing


@pytest.fixture
def run(tmp_path):
    def call(*, should_stop=lambda: False, **options):
        return predict(
            [str(tmp_path / "in")],
            tmp_path / "out",
            threads=1,
            config=PredictConfig(**options),
            should_stop=should_stop,
        )

    return call


@pytest.fixture
def folder(tmp_path, usual, large):
    (tmp_path / "in").mkdir()
    tifffile.imwrite(tmp_path / "in" / "a.tif", usual[0])
    tifffile.imwrite(tmp_path / "in" / "b.tif", large[0])
    return tmp_path / "in"


@pytest.mark.usefixtures("folder")
def test_what_was_found_is_in_results_and_provenance(run, tmp_path) -> None:
    found = run(save=("report",))
    sizes = [image.size for image in found.images]
    assert sizes[0] is not None
    assert sizes[1] is not None
    assert sizes[0]["scale"] == 1.0
    assert sizes[1]["scale"] < 0.6
    assert found.settings["diameter"] == "auto"
    kept = read_provenance(tmp_path / "out" / "b.tif")
    assert kept is not None
    assert kept["size"] == sizes[1]
    page = (tmp_path / "out" / "report.html").read_text("utf-8")
    assert f"px, seen at {sizes[1]['scale']:g}" in page
    # What is finished is not looked at again, and says the same.
    again = run(save=("report",))
    assert [(i.status, i.size) for i in again.images] == [
        ("skipped", size) for size in sizes
    ]


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("asked", [{"scale": 0.5}, {"diameter_px": 90.0}])
def test_what_is_told_is_not_looked_for(run, asked) -> None:
    assert [image.size for image in run(**asked).images] == [None, None]


@pytest.mark.slow
@pytest.mark.usefixtures("folder")
def test_a_batch_has_one_size(run) -> None:
    found = run(diameter_px="batch")
    one, other = found.images
    assert one.size == other.size
    assert found.settings["scale"] == one.size["scale"]
    assert [i.status for i in run(diameter_px="batch").images] == ["skipped"] * 2


@pytest.mark.usefixtures("folder")
def test_a_stop_while_the_size_of_a_batch_is_looked_for_leaves_nothing(
    run, tmp_path
) -> None:
    found = run(should_stop=lambda: True, diameter_px="batch")
    assert found.stopped
    assert found.images == ()
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("folder")
def test_an_image_too_large_for_memory_says_nothing_of_the_size_of_a_batch(
    run, monkeypatch
) -> None:
    find_size = size_module.find_size

    def of_one(source, *others):
        if source.path.name == "a.tif":
            raise MemoryError
        return find_size(source, *others)

    monkeypatch.setattr(size_module, "find_size", of_one)
    found = run(diameter_px="batch")
    assert [image.status for image in found.images] == ["done", "done"]
    assert found.settings["scale"] < 0.6


def test_label_images_do_not_count_for_the_size_of_a_batch(
    run, folder, tmp_path, monkeypatch
) -> None:
    run(diameter_px="model")
    (tmp_path / "out" / "b.tif").rename(folder / "z.tif")
    looked = []
    monkeypatch.setattr(
        size_module, "find_size", lambda source, *_: looked.append(source.path)
    )
    monkeypatch.setattr(
        size_module,
        "common_size",
        lambda _: Size(diameter_px=9.0, confidence=0.9, scale=1.0),
    )
    run(diameter_px="batch")
    assert [path.name for path in looked] == ["a.tif", "b.tif"]


def test_planes_of_a_stack_are_seen_alike(run, tmp_path, usual, large) -> None:
    (tmp_path / "in").mkdir()
    image = large[0][:360, :400]
    stack = np.stack([image, image, usual[0]])
    tifffile.imwrite(
        tmp_path / "in" / "s.tif", stack, imagej=True, metadata={"axes": "ZYX"}
    )
    (image,) = run().images
    assert image.status == "done", image.message
    assert image.size["scale"] < 0.6


def test_a_stack_over_time_is_looked_at_in_the_middle_of_its_depth(
    run, tmp_path, large
) -> None:
    (tmp_path / "in").mkdir()
    image = large[0][:360, :400]
    # Out of focus: nothing in the first and the last section.
    stack = np.full((5, 5, *image.shape), int(np.median(image)), image.dtype)
    stack[:, 1:4] = image
    tifffile.imwrite(
        tmp_path / "in" / "s.tif", stack, imagej=True, metadata={"axes": "TZYX"}
    )
    (found,) = run().images
    assert found.size["scale"] < 0.6


@pytest.mark.slow
def test_arrays_are_seen_as_files_are(run, tmp_path, large) -> None:
    (tmp_path / "in").mkdir()
    tifffile.imwrite(tmp_path / "in" / "b.tif", large[0])
    run()
    loaded = load_model(threads=1)
    labels, _ = loaded.segment(large[0])
    np.testing.assert_array_equal(labels, tifffile.imread(tmp_path / "out" / "b.tif"))
    assert loaded.size_of(large[0]).scale < 0.6
    told = load_model(threads=1, config=PredictConfig(diameter_px="model"))
    assert told.size_of(large[0]) is None
    with pytest.raises(ConfigError, match="batch"):
        load_model(config=PredictConfig(diameter_px="batch"))


def test_two_ways_to_tell_the_size_are_refused() -> None:
    with pytest.raises(ConfigError, match="Both scale and diameter"):
        PredictConfig(diameter_px="batch", scale=2.0)
    assert not PredictConfig(scale=2.0).finds_size
    assert not PredictConfig(diameter_px="model").finds_size
    assert PredictConfig().finds_size


def test_tiny_nuclei_are_seen_magnified(model, recipe, nuclei_image) -> None:
    image, labels = nuclei_image((160, 160), 40, 6, radius_px=(2.6, 3.2))
    found = find_size(ArraySource(image), recipe, model.card)
    assert found.diameter_px == pytest.approx(6, abs=1.5)
    assert 2 <= found.scale <= 3
    usual = replace(found, scale=1.0)
    before = found_share(labels, labels_of(image, recipe, usual))
    assert found_share(labels, labels_of(image, recipe, found)) > before


def test_an_unsure_size_is_warned_of_once() -> None:
    unsure = Size(diameter_px=120, confidence=0.4, scale=1.0, sure=False)
    (said,) = size_warnings(unsure, ("Soft edges.",))
    assert "about 120 px" in said
    assert "--diameter" in said
    assert size_warnings(unsure, ("Soft edges: try: --diameter PIXELS.",)) == ()
    assert size_warnings(replace(unsure, sure=True), ()) == ()
    assert size_warnings(None, ()) == ()


def test_clumps_are_no_size_to_go_by(model, recipe) -> None:
    # Two bright crescents, each as wide as half the image.
    yy, xx = np.ogrid[:400, :800]
    ring = np.hypot(yy - 200, (xx % 400) - 200)
    crescents = (ring < 150) & (ring > 90) & (yy > 200)
    image = np.where(crescents, 2000, 200).astype(np.uint16)
    image += np.random.default_rng(0).poisson(30, image.shape).astype(np.uint16)
    found = find_size(ArraySource(image), recipe, model.card)
    assert found.scale == 1.0
