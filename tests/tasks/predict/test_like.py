"""A run is repeated from a label image of it, to the byte."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile

from cellunet import store
from cellunet.command_config import PredictConfig
from cellunet.errors import (
    AnnotationError,
    ConfigError,
    ImageReadError,
    InputError,
    ModelNotFoundError,
)
from cellunet.tasks.predict.batch import predict
from cellunet.tasks.predict.like import earlier_run, size_asked_for
from tests.io.microscope_files import write_lif


@pytest.fixture
def named(tiny_model, tmp_path, monkeypatch) -> str:
    """The name of a model in a home of its own."""
    folder = tmp_path / "home" / "models" / "mine"
    shutil.copytree(tiny_model.folder, folder)
    monkeypatch.setenv("CELLUNET_HOME", str(tmp_path / "home"))
    return "mine"


@pytest.fixture
def images(tmp_path, nuclei_image) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(2):
        pixels = np.stack([nuclei_image((70, 80), 9, 40 + n)[0] for n in range(2)])
        tifffile.imwrite(
            folder / f"a{number}.ome.tif",
            pixels,
            resolution=(20_000, 20_000),
            resolutionunit="CENTIMETER",
            metadata={
                "axes": "CYX",
                "Channel": {"Name": ["DAPI", "GFP"]},
                "PhysicalSizeX": 0.5,
                "PhysicalSizeY": 0.5,
            },
        )
    return folder


def run(images: Path, out: Path, name: str, **options) -> Path:
    config = options.pop("config", None) or PredictConfig(channel="DAPI", **options)
    found = predict([str(images)], out, model=name, config=config, threads=1)
    assert not found.failed, found.failed
    return out / "a0.tif"


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"scale": 1.5, "min_area_px": 4, "edge": 0.3},
        {"diameter_px": 17.0, "seed_threshold": 0.3},
        {"diameter_px": "model", "flips": True, "exclude_border": True},
        {"diameter_px": "batch"},
        {"pixel_size_um": 0.4, "min_area_px": 9},
        {"min_area_px": 30, "max_area_px": 90, "min_confidence": 0.4},
        {"save": ("table", "rois"), "measure": "all"},
    ],
)
def test_a_run_is_repeated_to_the_byte(options, images, named, tmp_path):
    first = run(images, tmp_path / "first", named, **options)
    earlier = earlier_run(first)
    assert earlier.computing == {"engine": "onnxruntime", "device": "cpu"}
    again = run(images, tmp_path / "again", earlier.model, config=earlier.config({}))
    for path in (first, first.with_name("a1.tif")):
        assert path.read_bytes() == (again.parent / path.name).read_bytes()
    assert {p.name for p in first.parent.iterdir()} == {
        p.name for p in again.parent.iterdir()
    }
    assert earlier.differences(earlier.engine) == ()


@pytest.mark.parametrize(
    ("scale", "own", "expected"),
    [
        (1.0, 1.0, {"diameter_px": "model"}),
        (4.5, 3.0, {"scale": 1.5}),
        # 1.7 times any factor is next to 1.75; the objects learned are 14 px wide.
        (1.75, 1.7, {"diameter_px": 8.0}),
        # Of the model's own scale it is less than can be asked for.
        (0.0625, 2.0, {"diameter_px": 224.0}),
    ],
)
def test_the_scale_of_a_model_of_another_scale_is_asked_for_to_its_last_bit(
    scale, own, expected
) -> None:
    assert size_asked_for(scale, own, 14.0) == expected


def test_a_file_per_channel_is_repeated(named, tmp_path, nuclei_image):
    folder = tmp_path / "plate"
    folder.mkdir()
    for number in (1, 2):
        pixels = nuclei_image((64, 64), 8, number)[0]
        tifffile.imwrite(folder / f"A01_s1_w{number}.tif", pixels)
    config = PredictConfig(segment_channel="w2", save=("table",))
    predict([str(folder)], tmp_path / "out", model=named, config=config)
    earlier = earlier_run(tmp_path / "out" / "A01_s1_w2.tif")
    assert earlier.config({}).segment_channel == "w2"


def test_all_images_of_other_files_are_segmented(named, tmp_path, nuclei_image):
    pixels = [nuclei_image((64, 64), 8, number)[0] for number in range(2)]
    for name in ("a.lif", "b.lif"):
        write_lif(tmp_path / name, {"one": pixels[0], "two": pixels[1]})
    predict([str(tmp_path / "a.lif")], tmp_path / "out", model=named)
    earlier = earlier_run(tmp_path / "out" / "a_1_two.tif")
    (note,) = earlier.notes
    assert "is of image 1 of its file" in note
    found = predict(
        [str(tmp_path / "b.lif")],
        tmp_path / "like",
        model=named,
        config=earlier.config({}),
    )
    assert [i.image for i in found.done] == ["0", "1"]
    assert earlier.config({"image": "1"}).image == "1"


def test_what_is_given_comes_before_and_one_size_excludes_the_others(
    images, named, tmp_path
):
    label = run(images, tmp_path / "out", named, scale=1.5, flips=True)
    found = earlier_run(label).config({"pixel_size_um": 0.5, "channel": "GFP"})
    assert (found.scale, found.pixel_size_um, found.flips) == (None, 0.5, True)
    assert found.channel == "GFP"


def test_columns_of_samples_are_told_and_stay_in_finished_tables(
    images, named, tmp_path
):
    sheet = tmp_path / "sheet.csv"
    sheet.write_text("file,dose\na0.ome.tif,2\na1.ome.tif,3\n", encoding="utf-8")
    options = {"save": ("table",), "samples": str(sheet)}
    first = run(images, tmp_path / "out", named, **options)
    earlier = earlier_run(first)
    (note,) = earlier.notes
    assert "columns of --plate-pattern or --samples (dose), which --like" in note
    tables = {p: p.read_bytes() for p in first.parent.glob("*.csv")}
    assert len(tables) == 3
    found = predict(
        [str(images)],
        first.parent,
        model=named,
        config=earlier.config({}),
        keep_columns=True,
    )
    assert len(found.skipped) == 2
    assert {p: p.read_bytes() for p in first.parent.glob("*.csv")} == tables


def test_other_files_are_saved_of_a_run_that_saved_tables(images, named, tmp_path):
    asked = {"save": ("table", "rois"), "measure": "all", "table_format": "parquet"}
    earlier = earlier_run(run(images, tmp_path / "out", named, **asked))
    found = earlier.config({"save": ("rois",)})
    assert (found.save, found.measure, found.table_format) == (
        ("rois",),
        "basic",
        "csv",
    )
    found = earlier.config({"save": ("geojson",)})
    assert (found.measure, found.table_format) == ("all", "csv")
    found = earlier.config({"save": ("table",)})
    assert (found.measure, found.table_format) == ("all", "parquet")


def test_what_does_not_go_with_the_run_is_named(images, named, tmp_path):
    label = run(images, tmp_path / "out", named, link_planes=True)
    with pytest.raises(ConfigError, match=r"settings of .*a0\.tif: A maximum proj"):
        earlier_run(label).config({"z": "max"})


def test_other_regions_than_those_of_the_run_are_refused(images, named, tmp_path):
    def draw(path: Path, side: float) -> None:
        box = [[0.0, 0.0], [side, 0.0], [side, side], [0.0, side]]
        path.write_text(json.dumps({"type": "Polygon", "coordinates": [box]}))

    folder = tmp_path / "regions"
    folder.mkdir()
    for number in range(2):
        draw(folder / f"a{number}.geojson", 60)
    one = tmp_path / "r.geojson"
    draw(one, 60)
    for within, drawn in ((one, one), (folder, folder / "a0.geojson")):
        label = run(images, tmp_path / within.stem, named, within=str(within))
        again = earlier_run(label)
        assert again.config({}).within == str(within)
        draw(drawn, 50)
        with pytest.raises(
            ConfigError, match=r"settings of .*a0\.tif: .*other regions now .*--within"
        ):
            again.config({})
        assert again.config({"within": str(drawn)}).within == str(drawn)
        drawn.write_text("{")
        with pytest.raises(AnnotationError, match=r"settings of .*a0\.tif: .*no JSON"):
            again.config({})
    one.unlink()
    with pytest.raises(InputError, match=r"settings of .*a0\.tif: There is no "):
        earlier_run(tmp_path / "r" / "a0.tif").config({})


def test_a_model_that_is_not_there_or_another_one_is_one_line(
    images, named, tiny_model, tmp_path
):
    label = run(images, tmp_path / "out", named)
    folder = tmp_path / "home" / "models" / "mine"
    folder.rename(tmp_path / "moved")
    with pytest.raises(ModelNotFoundError, match=r"by model 'mine' .*--model PATH"):
        earlier_run(label)
    assert earlier_run(label, str(tmp_path / "moved")).notes == ()
    shutil.copytree(Path(__file__).parents[3] / "cellunet/models/nuclei", folder)
    with pytest.raises(ConfigError, match="another one now"):
        earlier_run(label)
    (note,) = earlier_run(label, "mine").notes
    assert "(--seed-threshold, --edge, --min-area, --min-confidence)" in note
    least = store.find_model("mine").card.config.decode.min_confidence
    assert least > 0
    assert note.endswith(f"drops below {least:g}: --min-confidence 0 as then")


def test_other_versions_are_told(images, named, tmp_path):
    earlier = earlier_run(run(images, tmp_path / "out", named))
    (told,) = earlier.differences("torch 9 cuda")
    assert told.endswith(
        "was made by onnxruntime "
        f"{earlier.engine.split()[1]} cpu (now torch 9 cuda): labels may differ in a "
        "few pixels"
    )


def test_what_does_not_say_how_it_was_made_is_refused(tmp_path):
    tifffile.imwrite(tmp_path / "x.tif", np.ones((8, 8), np.uint16))
    with pytest.raises(InputError, match="does not say how it was made"):
        earlier_run(tmp_path / "x.tif")
    with pytest.raises(ImageReadError, match="does not exist"):
        earlier_run(tmp_path / "y.tif")
