"""Annotations of the scenes of a microscope's file, named as results of `predict`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

pytest.importorskip("liffile")

from cellunet.annotations.pairs import find_annotations, find_pairs
from cellunet.command_config import PredictConfig
from cellunet.errors import InputError
from cellunet.io.images import open_image
from cellunet.io.microscopes import scene_paths, split_scene
from cellunet.tasks.predict.batch import predict
from tests.io.microscope_files import write_lif
from tests.io.pixels import whole

LEFT = np.arange(20 * 30, dtype=np.uint16).reshape(20, 30)
RIGHT = LEFT[::-1, ::-1].copy()
LARGE = np.tile(LEFT, (2, 2))


@pytest.fixture
def data(tmp_path) -> Path:
    (tmp_path / "images").mkdir()
    write_lif(tmp_path / "images" / "a.lif", {"L": LEFT, "R 2/b": RIGHT, "": LARGE})
    return tmp_path


def annotate(data: Path, *names: str, folder: str = "labels") -> None:
    (data / folder).mkdir(exist_ok=True)
    for name in names:
        tifffile.imwrite(data / folder / name, (LEFT > 300).astype(np.uint8))


def test_scenes_are_called_as_predict_calls_their_results(data, tiny_model):
    config, model = PredictConfig(), str(tiny_model.folder)
    found = predict(
        [str(data / "images")], data / "out", model=model, config=config
    ).images
    names = [Path(image.output or "").stem for image in found]
    assert names == ["a_0_L", "a_1_R-2-b", "a_2"]
    assert [p.name for p in scene_paths(data / "images" / "a.lif")] == names


def test_each_annotated_scene_is_a_pair_and_others_are_told(data):
    annotate(data, "a_1_R-2-b.tif", "a_0_L_masks.tif")
    found = find_pairs(data)
    assert [p.name for p in found.pairs] == ["a_0_L", "a_1_R-2-b"]
    for pair, pixels in zip(found.pairs, (LEFT, RIGHT), strict=True):
        with open_image(pair.image) as source:
            np.testing.assert_array_equal(whole(source), pixels)
    told = f"Left out of {data / 'images' / 'a.lif'}, without an annotation: a_2."
    assert found.notes == (told,)


def test_annotations_beside_the_file_or_alone_find_their_scenes(data):
    annotate(data, "a_0_L_masks.tif", "a_1_R-2-b_scribbles.tif", folder="images")
    pairs = find_pairs(data / "images").pairs
    assert [p.name for p in pairs] == ["a_0_L", "a_1_R-2-b"]
    (data / "rois").mkdir()
    alone = data / "rois" / "a_1_R-2-b.geojson"
    alone.write_text('{"type": "FeatureCollection", "features": []}')
    (one,) = find_annotations(alone).drawn
    assert one.image == data / "images" / "a.lif" / "a_1_R-2-b"


def test_an_annotation_of_the_whole_file_is_said_to_be_of_its_largest_scene(data):
    annotate(data, "a.tif")
    found = find_pairs(data)
    assert [p.name for p in found.pairs] == ["a"]
    with open_image(found.pairs[0].image) as source:
        assert source.shape == LARGE.shape
    (told,) = found.notes
    assert told.startswith(f"{data / 'images' / 'a.lif'} holds 3 scenes;")
    assert "only the largest is read" in told
    assert "a_0_L, a_1_R-2-b, a_2" in told
    assert found.left_out == (told,)


def test_an_annotation_of_a_scene_that_is_not_there_has_no_image(data):
    annotate(data, "a_7_L.tif")
    with pytest.raises(InputError, match="no image for the annotation a_7_L"):
        find_pairs(data)


def test_a_library_that_scenes_need_is_named_where_it_is_missing(data, monkeypatch):
    annotate(data, "a_0_L.tif")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match="no image for the annotation a_0_L") as told:
        find_pairs(data)
    assert "The scenes of a.lif are not known" in (told.value.hint or "")
    assert 'pip install "cellunet-torch[formats]"' in (told.value.hint or "")


def test_lists_of_sides_name_scenes(data):
    annotate(data, "a_0_L.tif", "a_1_R-2-b.tif")
    (data / "metadata").mkdir()
    (data / "metadata" / "training.txt").write_text("a_0_L\n")
    (data / "metadata" / "validation.txt").write_text("a_1_R-2-b\n")
    found = find_pairs(data)
    assert (found.train, found.validation) == (("a_0_L",), ("a_1_R-2-b",))


def test_images_in_a_folder_named_like_a_file_are_no_scenes(tmp_path):
    folder = tmp_path / "day.lif"
    folder.mkdir()
    tifffile.imwrite(folder / "day_1.tif", LEFT)
    assert split_scene(folder / "day_1.tif") == (folder / "day_1.tif", None)
    with open_image(folder / "day_1.tif") as source:
        np.testing.assert_array_equal(whole(source), LEFT)


@pytest.mark.parametrize("name", ["1_L", "b_1_L", "a_L", "a_1L", "xa_1_L"])
def test_other_names_behind_a_file_are_no_scenes(name, data):
    path = data / "images" / "a.lif" / name
    assert split_scene(path) == (path, None)
