"""What is left out, as empty or outside regions, changes no label of the rest."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from cellunet import store
from cellunet.command_config import PredictConfig
from cellunet.errors import InputError
from cellunet.imaging import blocks
from cellunet.imaging.blocks import network_plan
from cellunet.io.images import open_image
from cellunet.io.label_tiff import read_provenance
from cellunet.io.scratch import Scratch
from cellunet.tasks.predict.batch import predict
from cellunet.tasks.predict.inputs import Predictions
from cellunet.tasks.predict.plane import Segmented, as_labels, centers, segment
from cellunet.tasks.predict.settings import InferenceSettings, Memory, settings_for

SHAPE = (480, 440)


class Counting:
    """An engine that counts the pixels that it is given."""

    def __init__(self, engine: Any, *, any_window: bool = True) -> None:
        self._engine, self.name = engine, engine.name
        self.any_window = any_window
        self.pixels = 0

    def __call__(self, image: np.ndarray) -> np.ndarray:
        self.pixels += image[0, 0].size
        return self._engine(image)


@pytest.fixture
def small_windows(monkeypatch) -> None:
    """Many blocks in a small image."""
    monkeypatch.setattr(blocks, "LARGEST_PX", 160)


@pytest.fixture
def sparse(nuclei_image, rng) -> np.ndarray:
    """A field with nuclei in one corner and a single one elsewhere."""
    image = rng.normal(200, 6, SHAPE)
    image[:130, :140] = nuclei_image((130, 140), 16, 3)[0] * 1.0 + 60
    y, x = np.indices(SHAPE)
    image[(y - 330) ** 2 + (x - 300) ** 2 < 64] += 800
    return np.clip(image, 0, 65535).astype(np.uint16)


@pytest.fixture
def recipe(tiny_model) -> InferenceSettings:
    model = store.find_model(str(tiny_model.folder))
    return settings_for(model, PredictConfig(), "onnxruntime", "cpu", 1)


def segmented(path: Path, recipe: InferenceSettings) -> tuple[np.ndarray, Segmented]:
    with open_image(path) as source, Scratch() as scratch:
        found = segment(source, 0, recipe, scratch)
        return as_labels(found.bands()), found


@pytest.mark.parametrize("scale", [1.0, 0.7, 1.6])
def test_labels_and_confidences_are_the_same_with_and_without(
    scale, sparse, recipe, tmp_path, small_windows
) -> None:
    path = tmp_path / "field.tif"
    tifffile.imwrite(path, sparse)
    all_of_it, part = Counting(recipe.engine), Counting(recipe.engine)
    own = replace(recipe, scale=scale)
    whole, one = segmented(path, replace(own, engine=all_of_it, skip=False))
    for tile_px in (64, 1024):
        quick, other = segmented(
            path, replace(own, engine=part, memory=Memory(tile_px=tile_px))
        )
        np.testing.assert_array_equal(quick, whole)
        assert other.count == one.count
        np.testing.assert_array_equal(other.areas, one.areas)
    assert one.skipped == 0
    assert other.skipped > 0.3
    assert part.pixels / 2 < 0.8 * all_of_it.pixels
    assert whole.max() > 8


@pytest.mark.parametrize("value", [1e36, -1e36, 3e38])
def test_huge_pixels_lose_no_object(
    value, sparse, recipe, tmp_path, small_windows
) -> None:
    path = tmp_path / "field.tif"
    # Of a camera's range, as fractions: beside it the value is beyond all bounds.
    image = (sparse / 65535).astype(np.float32)
    image[60:63, 60:63] = image[330, 300] = value
    tifffile.imwrite(path, image)
    whole, _ = segmented(path, replace(recipe, skip=False))
    quick, found = segmented(path, recipe)
    np.testing.assert_array_equal(quick, whole)
    assert found.count > 8
    assert found.skipped > 0.3


def test_where_the_size_of_windows_matters_each_is_seen_whole(
    sparse, recipe, tmp_path, small_windows
) -> None:
    path = tmp_path / "field.tif"
    tifffile.imwrite(path, sparse)
    whole, _ = segmented(path, replace(recipe, skip=False))
    engine = Counting(recipe.engine, any_window=False)
    quick, found = segmented(path, replace(recipe, engine=engine))
    np.testing.assert_array_equal(quick, whole)
    size = network_plan(SHAPE, recipe.config.network).block_shape
    assert engine.pixels % (size[0] * size[1]) == 0
    assert found.skipped > 0.2


def test_a_crop_of_a_window_says_the_same_to_the_last_bit(recipe, rng) -> None:
    network = recipe.config.network
    image = rng.random((1, network.in_channels, 256, 320)).astype(np.float32)
    whole = recipe.engine(image)[0]
    halo = network.halo_px
    part = recipe.engine(np.ascontiguousarray(image[:, :, 64:192, 32:208]))[0]
    np.testing.assert_array_equal(
        part[:, halo:-halo, halo:-halo],
        whole[:, 64 + halo : 192 - halo, 32 + halo : 208 - halo],
    )


@pytest.mark.parametrize(
    "config",
    [
        PredictConfig(no_skip=True),
        PredictConfig(min_foreground=0.2),
        PredictConfig(seed_threshold=0.1),
    ],
)
def test_nothing_is_skipped_where_it_is_not_wanted_or_more_is_asked_for(
    config, tiny_model
) -> None:
    model = store.find_model(str(tiny_model.folder))
    assert not settings_for(model, config, "onnxruntime", "cpu", 1).skip


def test_probabilities_are_those_of_all_pixels(
    sparse, recipe, tmp_path, small_windows
) -> None:
    path = tmp_path / "field.tif"
    tifffile.imwrite(path, sparse)
    maps = []
    for own in (recipe, replace(recipe, skip=False)):
        rows: list[np.ndarray] = []
        with open_image(path) as source, Scratch() as scratch:

            def keep(y0: int, band: np.ndarray, into: list[np.ndarray] = rows) -> None:
                into.append(band.copy())

            segment(source, 0, own, scratch, keep)
        maps.append(np.concatenate(rows, 1))
    np.testing.assert_array_equal(*maps)


Run = Callable[..., Predictions]


@pytest.fixture
def run(tiny_model, tmp_path, sparse) -> Run:
    """``run("out", within="r.geojson")``: predict the sparse field."""
    (tmp_path / "in").mkdir()
    tifffile.imwrite(tmp_path / "in" / "field.tif", sparse)

    def call(out: str, *, dry_run: bool = False, **options: Any) -> Predictions:
        return predict(
            [str(tmp_path / "in")],
            tmp_path / out,
            model=str(tiny_model.folder),
            engine="onnxruntime",
            threads=1,
            config=PredictConfig(diameter_px="model", **options),
            dry_run=dry_run,
        )

    return call


def regions(path: Path, *rings: list[tuple[float, float]]) -> str:
    features = [
        {
            "type": "Feature",
            "properties": {"objectType": "annotation", "name": f"part {number}"},
            "geometry": {"type": "Polygon", "coordinates": [ring]},
        }
        for number, ring in enumerate(rings, 1)
    ]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return str(path)


def labels_in(folder: Path) -> np.ndarray:
    return tifffile.imread(folder / "field.tif")


def test_the_share_is_told_and_kept_with_the_labels(
    run, tmp_path, small_windows
) -> None:
    [quick] = run("quick").images
    [whole] = run("whole", no_skip=True).images
    np.testing.assert_array_equal(
        labels_in(tmp_path / "quick"), labels_in(tmp_path / "whole")
    )
    assert whole.skipped_share == 0
    assert quick.skipped_share > 0.3
    made = read_provenance(tmp_path / "quick" / "field.tif")
    assert made is not None
    assert made["skipped_share"] == quick.skipped_share
    # The same results are known again either way.
    [again] = run("quick", no_skip=True).images
    assert again.status == "skipped"
    assert again.skipped_share == quick.skipped_share


def test_objects_whose_center_lies_within_are_kept_whole(run, tmp_path) -> None:
    ring = [(5.0, 5.0), (135.0, 10.0), (70.0, 125.0), (5.0, 5.0)]
    run("whole")
    whole = labels_in(tmp_path / "whole")
    [found] = run("part", within=regions(tmp_path / "r.geojson", ring)).images
    part = labels_in(tmp_path / "part")
    with open_image(tmp_path / "in" / "field.tif") as source:
        assert source.shape == SHAPE
    kept = []
    for number in range(1, whole.max() + 1):
        y, x = (v.mean() + 0.5 for v in np.nonzero(whole == number))
        ends = np.roll(ring, -1, 0)
        inside = False
        for (xa, ya), (xb, yb) in zip(ring, ends, strict=True):
            if (ya > y) != (yb > y):
                inside ^= x < xa + (y - ya) * (xb - xa) / (yb - ya)
        if inside:
            kept.append(number)
    assert 2 < len(kept) < whole.max()
    numbers = np.zeros(whole.max() + 1, whole.dtype)
    numbers[kept] = np.arange(1, len(kept) + 1)
    np.testing.assert_array_equal(part, numbers[whole])
    assert found.objects == len(kept)
    assert found.within is not None
    assert found.within["regions"] == 1


def test_what_lies_far_from_regions_is_not_computed(
    recipe, sparse, tmp_path, small_windows
) -> None:
    from cellunet.annotations.regions import read_regions

    path = tmp_path / "field.tif"
    tifffile.imwrite(path, sparse)
    box = [(0.0, 0.0), (70.0, 0.0), (70.0, 70.0), (0.0, 70.0)]
    mask = read_regions(Path(regions(tmp_path / "r.geojson", box))).mask(SHAPE)
    engine = Counting(recipe.engine)
    labels, found = segmented(
        path, replace(recipe, engine=engine, within=mask, skip=False)
    )
    assert 0 < engine.pixels < 0.4 * SHAPE[0] * SHAPE[1]
    y, x = centers(found)
    assert mask.holds(y, x).all()
    assert labels.max() == found.count > 0
    assert found.skipped == 0


def test_a_file_for_each_image_lies_in_a_folder(run, tmp_path) -> None:
    box = [(0.0, 0.0), (140.0, 0.0), (140.0, 130.0), (0.0, 130.0)]
    folder = tmp_path / "regions"
    folder.mkdir()
    [failed] = run("one", within=str(folder)).images
    assert "no regions of field.tif" in failed.message
    regions(folder / "field.geojson", box)
    [found] = run("one", within=str(folder)).images
    assert found.status == "done"
    for same in (f"{folder}/", os.path.relpath(folder)):
        assert run("one", within=same).images[0].status == "skipped"
    regions(folder / "field.tif.geojson", box)
    [failed] = run("two", within=str(folder)).images
    assert "several files of regions of field.tif" in failed.message


def test_other_regions_make_other_results(run, tmp_path) -> None:
    path = tmp_path / "r.geojson"
    named = regions(path, [(0.0, 0.0), (140.0, 0.0), (140.0, 130.0), (0.0, 130.0)])
    run("out", within=named)
    assert run("out", within=named).images[0].status == "skipped"
    regions(path, [(0.0, 0.0), (70.0, 0.0), (70.0, 130.0), (0.0, 130.0)])
    [failed] = run("out", within=named).images
    assert "within other regions" in failed.message


def test_a_file_that_is_not_there_ends_the_run_at_once(run, tmp_path) -> None:
    with pytest.raises(InputError, match="nowhere"):
        run("out", within=str(tmp_path / "nowhere.zip"))


BOX = [(0.0, 0.0), (140.0, 0.0), (140.0, 130.0), (0.0, 130.0)]


def test_a_dry_run_checks_regions(run, tmp_path) -> None:
    far = [(x + 5000, y) for x, y in BOX]
    [failed] = run(
        "out", dry_run=True, within=regions(tmp_path / "far.geojson", far)
    ).images
    assert failed.status == "failed"
    assert "far.geojson (part 1) holds a pixel of the image" in failed.message
    near = regions(tmp_path / "near.geojson", BOX)
    [planned] = run("out", dry_run=True, within=near).images
    assert planned.status == "planned"
    assert planned.within is not None
    assert planned.within["area_px"] == 140 * 130


def test_regions_of_one_plane_count_on_all_and_a_warning_says_so(
    run, sparse, tmp_path
) -> None:
    path = Path(regions(tmp_path / "r.geojson", BOX))
    drawn = json.loads(path.read_text())
    drawn["features"][0]["geometry"]["plane"] = {"c": -1, "z": 1, "t": 0}
    path.write_text(json.dumps(drawn))
    [plane] = run("plane", within=str(path)).images
    assert not any("plane" in text for text in plane.warnings)
    field = tmp_path / "in" / "field.tif"
    tifffile.imwrite(field, np.stack([sparse, sparse]), metadata={"axes": "ZYX"})
    [stack] = run("stack", within=str(path)).images
    [told] = [text for text in stack.warnings if "one plane of a stack" in text]
    assert told.endswith("they count on all 2.")
    assert stack.objects == 2 * plane.objects


def test_an_outline_that_crosses_itself_is_warned_of(run, tmp_path) -> None:
    bow = [(0.0, 0.0), (130.0, 130.0), (130.0, 0.0), (0.0, 130.0)]
    [found] = run("out", within=regions(tmp_path / "r.geojson", bow)).images
    assert any("part 1 cross" in text for text in found.warnings)
