"""Labels and models are scored; images that a model knows, apart."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile

from cellunet import store
from cellunet.command_config import EvaluateConfig, PredictConfig
from cellunet.config import EncodingConfig
from cellunet.errors import AnnotationError, ConfigError, InputError, ModelNotFoundError
from cellunet.tasks import fit_model
from cellunet.tasks.evaluate import (
    Scorable,
    chosen_side,
    compare,
    evaluate_folders,
    evaluate_model,
    score_pairs,
)
from cellunet.tasks.predict.batch import predict

# Two objects of 25 and 30 px.
TRUE = np.zeros((12, 14), np.int32)
TRUE[1:6, 1:6] = 1
TRUE[6:11, 7:13] = 2
# The second is missed.
HALF = np.where(TRUE == 1, 1, 0).astype(np.int32)


def test_seen_images_are_scored_apart_from_the_headline() -> None:
    found = score_pairs(
        [
            Scorable(name="new", labels=TRUE, predicted=HALF),
            Scorable(name="known", labels=TRUE, predicted=TRUE, group="trained"),
        ]
    )
    assert found.headline is not None
    assert found.headline.images == ("new",)
    # One of two found: F1 2 / 3, AP 1 / 2.
    assert found.headline.f1_at(10).value == pytest.approx(2 / 3)
    assert found.headline.mean_ap.value == pytest.approx(1 / 2)
    assert "trained" in found.groups
    assert found.groups["trained"].summaries["all"].mean_ap.value == 1
    assert found.names == {"new", "known"}
    assert not found.only_seen


def test_without_unseen_images_there_is_no_headline() -> None:
    found = score_pairs(
        [Scorable(name="known", labels=TRUE, predicted=TRUE, group="trained")]
    )
    assert found.headline is None
    assert found.only_seen
    plain = json.loads(json.dumps(found.to_dict()))
    assert plain["only_seen"] is True
    assert plain["headline"] is None
    assert "unseen" not in plain["groups"]


def test_pixels_of_classes_come_from_both_labels_encoded() -> None:
    config = EvaluateConfig(encoding=EncodingConfig(boundary_px=1))
    found = score_pairs(
        [Scorable(name="a", labels=TRUE, predicted=HALF)], config=config
    )
    assert found.unseen is not None
    background, interior, boundary = found.unseen.classes
    # Interiors 3 x 3 = 9 and 3 x 4 = 12 px, boundaries 16 and 18; the second is missed.
    assert (interior.precision, interior.recall) == (1, pytest.approx(9 / 21))
    assert (boundary.precision, boundary.recall) == (1, pytest.approx(16 / 34))
    # 168 px in all, 113 of them background, predicted 143.
    assert (background.recall, background.precision) == (1, pytest.approx(113 / 143))


def test_class_maps_that_are_given_are_taken() -> None:
    nothing = np.zeros(TRUE.shape, np.uint8)
    found = score_pairs(
        [
            Scorable(
                name="a",
                labels=TRUE,
                predicted=TRUE,
                class_maps=(nothing, np.full_like(nothing, 2)),
            )
        ]
    )
    assert found.unseen is not None
    assert [c.predicted_pixels for c in found.unseen.classes] == [0, 0, TRUE.size]


def test_what_is_not_annotated_is_left_out() -> None:
    annotated = np.ones(TRUE.shape, bool)
    annotated[:, 6:] = False
    pair = Scorable(name="a", labels=TRUE, predicted=HALF, annotated=annotated)
    found = score_pairs([pair])
    assert found.headline is not None
    assert found.headline.mean_ap.value == 1
    assert found.unseen is not None
    assert sum(c.true_pixels for c in found.unseen.classes) == annotated.sum()


def test_caicedo2019_has_its_two_forms() -> None:
    config = EvaluateConfig(protocol="caicedo2019")
    found = score_pairs(
        [Scorable(name="a", labels=TRUE, predicted=TRUE)], config=config
    )
    assert found.unseen is not None
    assert list(found.unseen.summaries) == ["plain", "dilated"]
    assert found.headline is found.unseen.summaries["plain"]
    assert found.headline.mean_f1.value == 1
    # Grown by a pixel all round: 25 / 49 = .51, and 30 / (7 * 8) = .536: found at .50.
    assert found.unseen.summaries["dilated"].mean_f1.value == pytest.approx(1 / 9)


def test_rows_of_all_images_and_forms_have_the_same_keys() -> None:
    found = score_pairs(
        [
            Scorable(name="new", labels=TRUE, predicted=HALF),
            Scorable(name="known", labels=TRUE, predicted=TRUE, group="trained"),
        ]
    )
    rows = found.csv_rows()
    assert [(r["group"], r["form"], r["name"]) for r in rows] == [
        ("unseen", "all", "new"),
        ("unseen", "without_small", "new"),
        ("unseen", "small_ignored", "new"),
        ("trained", "all", "known"),
        ("trained", "without_small", "known"),
        ("trained", "small_ignored", "known"),
    ]
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0].keys())
    writer.writeheader()
    writer.writerows(rows)
    assert "0.50" in text.getvalue().splitlines()[0]


def test_an_unknown_protocol_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="caicedo2019, standard"):
        EvaluateConfig(protocol="coco")


def test_a_config_survives_its_dictionary() -> None:
    config = EvaluateConfig(protocol="caicedo2019")
    assert EvaluateConfig.from_dict(config.to_dict()) == config


def test_no_images_and_images_given_twice_are_refused() -> None:
    with pytest.raises(InputError, match="no images"):
        score_pairs([])
    pair = Scorable(name="a", labels=TRUE, predicted=TRUE)
    with pytest.raises(InputError, match="a is given twice"):
        score_pairs([pair, pair])


def test_an_image_that_cannot_be_scored_is_named() -> None:
    with pytest.raises(AnnotationError, match="plate 3: The predicted labels are of"):
        score_pairs([Scorable(name="plate 3", labels=TRUE, predicted=TRUE[1:])])


def write(folder: Path, **images: np.ndarray) -> Path:
    folder.mkdir()
    for name, labels in images.items():
        tifffile.imwrite(folder / f"{name}.tif", labels.astype(np.uint16))
    return folder


def test_folders_are_scored_file_by_file(tmp_path: Path) -> None:
    true = write(tmp_path / "true", a_masks=TRUE, b_masks=TRUE)
    found = write(tmp_path / "found", a=TRUE, b=HALF)
    seen: list[tuple[str, int | None]] = []

    def track(items, label, total=None):
        seen.append((label, total))
        yield from items

    result = evaluate_folders(found, true, track=track)
    assert seen == [("Scoring", 2)]
    assert result.headline is not None
    assert result.headline.images == ("a", "b")
    assert result.headline.mean_ap.value == pytest.approx((1 + 1 / 2) / 2)
    assert result.headline.totals.missed == 1
    one = evaluate_folders(found, true, names=["b"])
    assert one.headline is not None
    assert one.headline.images == ("b",)


def test_poor_predictions_are_scored_not_refused(tmp_path: Path) -> None:
    everything = np.ones((12, 14), np.uint16)
    everything[3:9, 3:9] = 0
    noise = np.random.default_rng(0).integers(1, 90, (40, 40), dtype=np.uint16)
    true = write(tmp_path / "t", a=TRUE.astype(np.uint16), b=noise // 90 + 1)
    found = write(tmp_path / "p", a=everything, b=noise)
    result = evaluate_folders(found, true)
    assert result.headline is not None
    assert result.headline.mean_ap.value == 0


def test_a_plane_of_a_stack_of_labels_is_read_as_the_others(tmp_path: Path) -> None:
    # Of the second plane, the one object is in two pieces.
    planes = np.stack([TRUE, np.where(TRUE > 0, 1, 0)]).astype(np.uint16)
    for folder in ("p", "t"):
        (tmp_path / folder).mkdir()
        tifffile.imwrite(tmp_path / folder / "a.tif", planes, metadata={"axes": "ZYX"})
    first, second = evaluate_folders(tmp_path / "p", tmp_path / "t").unseen.scores[
        "all"
    ]
    assert (first.predicted_objects, second.predicted_objects) == (2, 1)


def test_files_of_different_shape_are_both_named(tmp_path: Path) -> None:
    true = write(tmp_path / "true", a_masks=TRUE)
    found = write(tmp_path / "found", a=TRUE[:, 1:])
    with pytest.raises(AnnotationError) as caught:
        evaluate_folders(found, true)
    assert str(found / "a.tif") in caught.value.message
    assert str(true / "a_masks.tif") in caught.value.message
    assert "12 x 13 px" in caught.value.message
    assert "12 x 14 px" in caught.value.message


def evaluation(predicted: np.ndarray, **groups: str):
    return score_pairs(
        Scorable(name=name, labels=TRUE, predicted=predicted, group=group)
        for name, group in groups.items()
    )


def test_two_evaluations_compare_on_what_neither_has_seen() -> None:
    first = evaluation(TRUE, a="unseen", b="unseen", c="trained")
    second = evaluation(HALF, a="unseen", b="trained", c="unseen")
    found = compare(first, second)["all"]
    assert found.images == ("a",)
    assert found.mean_ap.value == pytest.approx(1 / 2)
    with pytest.raises(InputError, match="only in the second: d"):
        compare(
            first, evaluation(HALF, a="unseen", b="trained", c="trained", d="trained")
        )
    for other in (
        evaluation(HALF, a="trained", b="trained", c="unseen"),
        evaluation(HALF, a="trained", b="trained", c="trained"),
    ):
        with pytest.raises(InputError, match="neither of the two"):
            compare(first, other)


def test_without_unseen_images_those_that_neither_was_trained_on_are_compared() -> None:
    first = evaluation(TRUE, b="chosen", a="trained", c="unseen")
    second = evaluation(HALF, a="unseen", b="unseen", c="chosen")
    assert compare(first, second)["all"].images == ("b", "c")
    assert not first.only_trained
    assert evaluation(TRUE, a="trained").only_trained


def test_evaluations_of_different_protocols_do_not_compare() -> None:
    pairs = [Scorable(name="a", labels=TRUE, predicted=TRUE)]
    other = score_pairs(pairs, config=EvaluateConfig(protocol="caicedo2019"))
    with pytest.raises(InputError, match="by protocol standard, the second by caicedo"):
        compare(score_pairs(pairs), other)


@pytest.mark.data
def test_published_masks_scored_against_themselves_are_perfect(
    data_dir: Path, tmp_path: Path
) -> None:
    masks = data_dir / "bbbc039" / "masks"
    listed = (data_dir / "bbbc039" / "metadata" / "validation.txt").read_text().split()
    names = [Path(name).stem for name in sorted(listed)[:3]]
    copies = tmp_path / "copies"
    copies.mkdir()
    for name in names:
        (copies / f"{name}.png").write_bytes((masks / f"{name}.png").read_bytes())
    found = evaluate_folders(copies, masks, names=names)
    assert found.headline is not None
    assert found.headline.mean_ap.value == 1
    assert found.headline.totals.merges == found.headline.totals.splits == 0


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


def test_planes_of_a_stack_are_scored_at_the_size_that_predict_finds(
    nuclei_image, tmp_path, monkeypatch
) -> None:
    # By itself the first plane, of larger nuclei, would be seen reduced.
    planes = [
        nuclei_image((400, 400), 5, 1, radius_px=(50, 60)),
        *(nuclei_image((400, 400), 12, k, radius_px=(9, 12)) for k in (2, 3)),
    ]
    for side, own in (("images", 0), ("labels", 1)):
        stack = np.stack([plane[own].astype(np.uint16) for plane in planes])
        (tmp_path / "data" / side).mkdir(parents=True)
        how = {"ome": True, "metadata": {"axes": "ZYX"}, "photometric": "minisblack"}
        tifffile.imwrite(tmp_path / "data" / side / "m.ome.tif", stack, **how)
    data = tmp_path / "data"
    predict([str(data / "images")], tmp_path / "out", threads=1)
    told = evaluate_folders(tmp_path / "out", data / "labels").headline
    found = evaluate_model(data, threads=1).headline
    assert found.mean_ap.value == told.mean_ap.value
    # And the model that is to be fitted.
    monkeypatch.setenv("CELLUNET_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(fit_model._Trial, "stages", lambda trial: [])
    before = fit_model.fit_model("nuclei", data, "fitted", threads=1).before
    assert before["mean_ap"] == pytest.approx(told.mean_ap.value)


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


def test_one_size_for_all_images_is_found_as_predict_finds_it(
    tmp_path, nuclei_image
) -> None:
    data = tmp_path / "data"
    for side in ("images", "labels"):
        (data / side).mkdir(parents=True)
    # Three times as large as the shipped model knows.
    image, labels = nuclei_image((520, 600), 14, 2, radius_px=(40, 52))
    tifffile.imwrite(data / "images" / "a.tif", image)
    tifffile.imwrite(data / "labels" / "a.tif", labels.astype(np.uint16))
    asked = PredictConfig(diameter_px="batch")
    predict([str(data / "images")], tmp_path / "out", threads=1, config=asked)
    folders = evaluate_folders(tmp_path / "out", data / "labels")
    found = evaluate_model(data, threads=1, predict_config=asked)
    assert found.headline == folders.headline
    as_it_is = PredictConfig(diameter_px="model")
    other = evaluate_model(data, threads=1, predict_config=as_it_is)
    assert other.headline != found.headline


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


def test_regions_that_scores_would_not_heed_are_refused(tmp_path) -> None:
    with pytest.raises(ConfigError, match="of whole images"):
        evaluate_model(tmp_path, predict_config=PredictConfig(within="r.geojson"))


def test_progress_is_told(tiny_model, tmp_path, write_data) -> None:
    data = write_data(tmp_path / "data", 1, first_seed=30)
    seen: list[tuple[str, int | None]] = []

    def track(items, label, total=None):
        seen.append((label, total))
        yield from items

    evaluate_model(data, model=str(tiny_model.folder), threads=1, track=track)
    assert seen == [("Evaluating", 1)]
