"""A model scored on annotated images, those that made it apart from the others."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile

from cellunet import store
from cellunet.config import EvaluateConfig, PredictConfig
from cellunet.errors import AnnotationError, InputError, ModelNotFoundError
from cellunet.tasks.evaluate import chosen_side, evaluate_folders, evaluate_model
from cellunet.tasks.predict.batch import predict


def names(pairs) -> list[str]:
    return [pair.name for pair in pairs]


def test_images_are_grouped_by_what_the_model_knows(
    tiny_model, tmp_path, write_data
) -> None:
    data = write_data(tmp_path / "data", 2, first_seed=30)
    for old in range(6):
        for side in ("images", "labels"):
            # Other names: the pixels are what counts.
            shutil.copy(
                tiny_model.data / side / f"a{old}.tif", data / side / f"b{old}.tif"
            )
    found = evaluate_model(data, model=str(tiny_model.folder), threads=1)
    card = store.find_model(str(tiny_model.folder)).card
    assert {g: len(s.names) for g, s in found.groups.items()} == {
        "unseen": 2,
        "chosen": len(card.validation),
        "trained": len(card.training),
    }
    assert found.unseen is not None
    assert set(found.unseen.names) == {"a0", "a1"}
    assert {n.replace("a", "b") for n in card.training} == set(
        found.groups["trained"].names
    )
    assert found.headline is not None
    assert found.headline.images == ("a0", "a1")


def test_only_seen_images_give_no_headline(tiny_model) -> None:
    found = evaluate_model(tiny_model.data, model=str(tiny_model.folder), threads=1)
    assert found.only_seen
    assert found.headline is None
    assert set(found.groups) == {"chosen", "trained"}


def test_planes_of_a_stack_are_scored_like_images_of_their_own(
    tiny_model, tmp_path, write_data
) -> None:
    single = write_data(tmp_path / "single", 2, first_seed=30)
    data = tmp_path / "stack"
    for side in ("images", "labels"):
        planes = [tifffile.imread(single / side / f"a{k}.tif") for k in (0, 1)]
        (data / side).mkdir(parents=True)
        how = {"ome": True, "metadata": {"axes": "TYX"}, "photometric": "minisblack"}
        tifffile.imwrite(data / side / "m.ome.tif", np.stack(planes), **how)
    scores = [
        evaluate_model(folder, model=str(tiny_model.folder), threads=1).unseen
        for folder in (single, data)
    ]
    assert scores[0] is not None
    assert scores[1] is not None
    assert set(scores[1].names) == {"m_t0", "m_t1"}
    by_plane = [s.summaries["all"].mean_ap.value for s in scores]
    assert by_plane[0] == by_plane[1]
    # And the label stacks that predict writes.
    predict([str(data / "images")], tmp_path / "out", model=str(tiny_model.folder))
    folders = evaluate_folders(tmp_path / "out", data / "labels")
    assert folders.names == {"m_t0", "m_t1"}


def test_scores_are_those_of_predicted_folders(
    tiny_model, tmp_path, write_data
) -> None:
    data = write_data(tmp_path / "data", 3, first_seed=30)
    model = str(tiny_model.folder)
    asked = PredictConfig(min_area_px=50, tile_px=64)
    predict([str(data / "images")], tmp_path / "out", model=model, config=asked)
    for protocol in ("standard", "caicedo2019"):
        config = EvaluateConfig(protocol=protocol)
        folders = evaluate_folders(tmp_path / "out", data / "labels", config=config)
        assert folders.unseen is not None
        # One image after the other, and two side by side.
        for threads in (1, 2):
            found = evaluate_model(
                data, model=model, threads=threads, config=config, predict_config=asked
            )
            assert found.unseen is not None
            assert found.unseen.scores == folders.unseen.scores
            assert found.headline == folders.headline


def test_pixel_classes_are_the_networks_own(tiny_model, tmp_path, write_data) -> None:
    data = write_data(tmp_path / "data", 1, first_seed=30)
    found = evaluate_model(data, model=str(tiny_model.folder), threads=1)
    assert found.unseen is not None
    assert [c.name for c in found.unseen.classes] == [
        "background",
        "interior",
        "boundary",
    ]
    assert found.unseen.classes[0].recall > 0.8


def listed(data: Path, **lists: str) -> Path:
    (data / "metadata").mkdir()
    for side, text in lists.items():
        (data / "metadata" / f"{side}.txt").write_text(text, encoding="utf-8")
    return data


def test_a_side_is_that_of_the_folders_lists(tmp_path, write_data) -> None:
    data = listed(
        write_data(tmp_path / "data", 5),
        training="a0.png\na3.png\n",
        validation="a1.png\n",
    )
    assert names(chosen_side(data, "training")) == ["a0", "a3"]
    assert names(chosen_side(data, "validation")) == ["a1"]
    assert names(chosen_side(data, "all")) == ["a0", "a1", "a3"]


def test_without_a_training_list_training_is_the_rest(tmp_path, write_data) -> None:
    data = listed(write_data(tmp_path / "data", 3), validation="a1\n")
    assert names(chosen_side(data, "training")) == ["a0", "a2"]


def test_a_side_without_a_list_is_refused(tmp_path, write_data) -> None:
    data = write_data(tmp_path / "data", 3)
    assert names(chosen_side(data, "all")) == ["a0", "a1", "a2"]
    for side in ("training", "validation"):
        with pytest.raises(InputError, match=f"no list of {side} images") as caught:
            chosen_side(data, side)
        assert "--side" in caught.value.hint
    listed(data, training="a0\na1\na2\n")
    with pytest.raises(InputError, match="no list of validation"):
        chosen_side(data, "validation")
    assert len(chosen_side(data, "training")) == 3


def test_what_cannot_be_scored_is_refused(tiny_model, tmp_path, write_data) -> None:
    data = write_data(tmp_path / "data", 2, first_seed=30)
    with pytest.raises(ModelNotFoundError):
        evaluate_model(data, model="unknown")
    tifffile.imwrite(data / "labels" / "a1.tif", np.ones((9, 9), np.uint16))
    with pytest.raises(AnnotationError, match="9 x 9"):
        evaluate_model(data, model=str(tiny_model.folder), threads=1)
    stack = np.zeros((2, 9, 9), np.uint8)
    tifffile.imwrite(
        data / "images" / "a1.tif", stack, imagej=True, metadata={"axes": "TYX"}
    )
    with pytest.raises(AnnotationError, match=r"\(2, 9, 9\)"):
        evaluate_model(data, model=str(tiny_model.folder), threads=1)


def test_progress_is_told(tiny_model, tmp_path, write_data) -> None:
    data = write_data(tmp_path / "data", 1, first_seed=30)
    seen: list[tuple[str, int | None]] = []

    def track(items, label, total=None):
        seen.append((label, total))
        yield from items

    evaluate_model(data, model=str(tiny_model.folder), threads=1, track=track)
    assert seen == [("Evaluating", 1)]
