"""A session in Python: arrays in, labels and a table out, as the files say."""

from __future__ import annotations

import csv
import subprocess
import sys
import tempfile
from functools import partial

import numpy as np
import pytest
import tifffile

import cellunet
from cellunet.command_config import PredictConfig
from cellunet.errors import ConfigError, ImageReadError, ModelNotFoundError, OutputError
from cellunet.imaging.measure import column_names
from cellunet.io import scratch
from cellunet.tasks.predict import session
from cellunet.tasks.predict.batch import predict
from cellunet.tasks.predict.session import load_model


@pytest.fixture
def model(tiny_model):
    return load_model(str(tiny_model.folder), threads=1)


@pytest.fixture
def image(nuclei_image):
    return nuclei_image((90, 70), 14, 40)[0]


def test_arrays_give_what_files_give(model, image, tiny_model, tmp_path) -> None:
    labels, table = model.segment(image)
    tifffile.imwrite(tmp_path / "a.tif", image)
    predict(
        [str(tmp_path / "a.tif")],
        tmp_path / "out",
        model=str(tiny_model.folder),
        threads=1,
        config=PredictConfig(save=("table",), tile_px=64),
    )
    np.testing.assert_array_equal(labels, tifffile.imread(tmp_path / "out" / "a.tif"))
    with (tmp_path / "out" / "a_table.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(table) == ["id", *column_names()]
    assert len(rows) == labels.max() == len(table["id"]) > 5
    for name, values in table.items():
        texts = [float(row[name] or "nan") for row in rows]
        np.testing.assert_allclose(values, texts, rtol=1e-8, err_msg=name)


def test_the_table_is_plain_arrays(model, image) -> None:
    labels, table = model.segment(image, pixel_size_um=0.5)
    assert labels.dtype == np.uint32
    assert table["area_um2"].sum() == (labels > 0).sum() / 4
    assert all(type(values) is np.ndarray for values in table.values())
    assert (table["confidence"] > 1 / 3).all()
    assert (table["confidence"] <= 1).all()


def test_further_channels_are_measured_by_name(model, image) -> None:
    both = model.segment(image, others={"GFP": image.astype(float) / 2})
    alone = model.segment(image)
    np.testing.assert_array_equal(both.labels, alone.labels)
    mean = alone.table["intensity_mean"]
    np.testing.assert_array_equal(both.table["intensity_mean_0"], mean)
    np.testing.assert_allclose(both.table["intensity_mean_GFP"], mean / 2)


def test_a_pixel_may_be_higher_than_wide(model, image) -> None:
    table = model.segment(image, pixel_size_um=(2.0, 0.5)).table
    np.testing.assert_allclose(table["y_um"], 2 * table["y_px"])
    np.testing.assert_allclose(table["x_um"], table["x_px"] / 2)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((3, 9, 9)), r"shape \(3, 9, 9\)"),
        (np.zeros((0, 9)), "one plane"),
        (np.zeros((9, 9), complex), "complex128"),
        ([["a", "b"]], "real numbers"),
    ],
)
def test_what_is_no_plane_is_refused(model, image, message) -> None:
    with pytest.raises(ImageReadError, match=message) as caught:
        model.segment(image)
    assert caught.value.hint


def test_a_channel_of_another_shape_is_refused(model, image) -> None:
    with pytest.raises(ImageReadError, match="Channel 'x'"):
        model.segment(image, others={"x": image[1:]})


def test_settings_are_those_of_predict(tiny_model, image) -> None:
    name = str(tiny_model.folder)
    config = PredictConfig(exclude_border=True)
    found = load_model(name, threads=1, config=config).segment(image)
    assert not found.table["touches_border"].any()
    with pytest.raises(ConfigError, match="channel, save"):
        load_model(name, config=PredictConfig(channel="1", save=("table",)))
    for files in (
        {"image": "1"},
        {"pages": "z"},
        {"include": ("labels",)},
        {"part": (1, 2)},
        {"into_source": "nuclei"},
        {"within": "regions.geojson"},
        {"max_memory_mb": 2000},
    ):
        with pytest.raises(ConfigError, match="concern files"):
            load_model(name, config=PredictConfig(**files))
    with pytest.raises(OutputError, match="no folder"):
        load_model(name, config=PredictConfig(scratch="nowhere"))
    with pytest.raises(ConfigError, match="above 0"):
        load_model(name, threads=1).segment(image, pixel_size_um=0)
    with pytest.raises(ModelNotFoundError):
        load_model("unknown")


def test_what_does_not_fit_into_memory_waits_where_it_is_told_to(
    tiny_model, image, tmp_path, monkeypatch
) -> None:
    folders = []

    def temporary(folder):
        folders.append(folder)
        return tempfile.TemporaryFile(dir=folder)

    monkeypatch.setattr(scratch, "temporary", temporary)
    no_memory = partial(scratch.Scratch, memory_bytes=0)
    monkeypatch.setattr(session, "Scratch", no_memory)
    config = PredictConfig(scratch=str(tmp_path), diameter_px="model")
    model = load_model(str(tiny_model.folder), threads=1, config=config)
    assert model.segment(image).labels.any()
    assert {*folders} == {tmp_path}


def test_a_diameter_changes_nothing_for_the_next_call(model, image, tiny_model):
    name, config = str(tiny_model.folder), PredictConfig(diameter_px=20.0)
    there = load_model(name, threads=1, config=config)
    model.segment(image, diameter=20)
    found = load_model(name, threads=1).segment(image)
    np.testing.assert_array_equal(model.segment(image).labels, found.labels)
    np.testing.assert_array_equal(
        there.segment(image, diameter="auto").labels, found.labels
    )
    assert model.size_of(image, diameter=20) is None


def test_rows_are_counted_to_the_end(model, image) -> None:
    told = []
    model.segment(image, diameter="model", on_rows=lambda *rows: told.append(rows))
    assert told[-1] == (90, 90)
    assert told == sorted(told)


def test_whoever_wants_to_stop_is_heard(model, image) -> None:
    with pytest.raises(cellunet.PredictionStopped):
        model.segment(image, should_stop=lambda: True)
    assert model.segment(image).labels.any()


def test_a_model_names_itself(model) -> None:
    assert repr(model).startswith("<model tiny, onnxruntime")
    assert model.card.diameter_px[1] > 0


def test_a_session_imports_no_torch() -> None:
    code = """
import sys
import numpy as np
from cellunet.tasks.predict.session import load_model
labels, table = load_model(threads=1, device="cpu").segment(np.zeros((40, 40), "u1"))
assert labels.shape == (40, 40) and len(table["id"]) == 0
heavy = [m for m in ("torch", "skimage", "pyarrow", "roifile") if m in sys.modules]
sys.exit(f"imported: {heavy}" if heavy else 0)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_diameter_is_told_without_loading_the_model_again(
    model, image, tiny_model
) -> None:
    name, median = str(tiny_model.folder), model.card.diameter_px[1]
    for diameter in (median, 2 * median, "model"):
        told = PredictConfig(diameter_px=diameter)
        expected = load_model(name, threads=1, config=told).segment(image)
        found = model.segment(image, diameter=diameter)
        np.testing.assert_array_equal(found.labels, expected.labels)
        np.testing.assert_array_equal(
            found.table["confidence"], expected.table["confidence"]
        )


def test_a_diameter_takes_the_place_of_what_the_model_was_loaded_with(
    model, image, tiny_model
) -> None:
    config = PredictConfig(scale=0.5)
    loaded = load_model(str(tiny_model.folder), threads=1, config=config)
    np.testing.assert_array_equal(
        loaded.segment(image, diameter="model").labels,
        model.segment(image, diameter="model").labels,
    )


@pytest.mark.parametrize("diameter", [1, -3, 1e6, float("nan"), "batch", "small"])
def test_an_impossible_diameter_is_refused(model, image, diameter) -> None:
    with pytest.raises(ConfigError):
        model.segment(image, diameter=diameter)


def test_a_table_becomes_a_data_frame(model, image) -> None:
    pytest.importorskip("pandas")
    table = model.segment(image).table
    frame = table.to_pandas()
    assert frame.index.name == "id"
    assert frame.index.tolist() == table["id"].tolist()
    assert list(frame) == [name for name in table if name != "id"]
    np.testing.assert_array_equal(frame["area_px"], table["area_px"])


def test_a_data_frame_without_pandas_says_what_to_install(
    model, image, monkeypatch
) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ConfigError, match="pandas") as caught:
        model.segment(image).table.to_pandas()
    assert 'pip install "cellunet-torch[pandas]"' in caught.value.hint
