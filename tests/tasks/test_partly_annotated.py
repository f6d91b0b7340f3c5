"""What is not annotated does not count, from the file to the score."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

pytest.importorskip("torch")

import roifile
import tifffile

from cellunet import store
from cellunet.command_config import AnnotationConfig
from cellunet.config import EncodingConfig, WeightConfig
from cellunet.core.dataset import prepare
from cellunet.errors import AnnotationError
from cellunet.imaging.targets import encode, weight_map
from cellunet.tasks.evaluate import evaluate_folders, evaluate_model
from cellunet.tasks.make_labels import make_labels
from cellunet.tasks.predict.batch import predict
from cellunet.tasks.train.train import train
from tests.networks import loaded

SIDE = 64
BOXES = {1: (4, 6, 18, 20), 2: (18, 6, 30, 22), 3: (40, 8, 56, 24), 4: (8, 40, 26, 58)}
"""x0, y0, x1, y1 of objects; 1 and 2 touch."""
REGION = (0, 0, 34, 64)
IGNORED = (0, 50, 64, 64)


def corners(box):
    x0, y0, x1, y1 = box
    return [[x0, y0], [x1, y0], [x1, y1], [x0, y1]]


def feature(box, name=None):
    return {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [[*corners(box), [*box[:2]]]]},
        "properties": {"objectType": "annotation"}
        | ({"classification": {"name": name}} if name else {}),
    }


def write_rois(folder, name):
    rois = []
    drawn = [*BOXES.values(), REGION, IGNORED]
    names = [*map(str, BOXES), "region", "ignore"]
    for box, title in zip(drawn, names, strict=True):
        roi = roifile.ImagejRoi.frompoints(np.array(corners(box)), name=title)
        roi.roitype = roifile.ROI_TYPE.POLYGON
        rois.append(roi)
    roifile.roiwrite(folder / f"{name}.zip", rois, name=names, mode="w")


def write_geojson(folder, name):
    features = [feature(box) for box in BOXES.values()]
    features += [feature(REGION, "Region*"), feature(IGNORED, "Ignore*")]
    document = {"type": "FeatureCollection", "features": features}
    (folder / f"{name}.geojson").write_text(json.dumps(document))


def write_labelme(folder, name):
    shapes = [
        {"label": label, "points": [box[:2], box[2:]], "shape_type": "rectangle"}
        for label, box in (
            *(("nucleus", box) for box in BOXES.values()),
            ("region", REGION),
            ("ignore", IGNORED),
        )
    ]
    size = {"imageHeight": SIDE, "imageWidth": SIDE}
    (folder / f"{name}.json").write_text(json.dumps({"shapes": shapes} | size))


def write_coco(folder, *names):
    images = [
        {"id": i, "file_name": f"{n}.tif", "height": SIDE, "width": SIDE}
        for i, n in enumerate(names)
    ]
    drawn = [*((1, box) for box in BOXES.values()), (2, REGION), (3, IGNORED)]
    annotations = [
        {
            "id": len(drawn) * i + k,
            "image_id": i,
            "category_id": category,
            "segmentation": [[v for point in corners(box) for v in point]],
        }
        for i in range(len(names))
        for k, (category, box) in enumerate(drawn)
    ]
    categories = [
        {"id": 1, "name": "nucleus"},
        {"id": 2, "name": "region"},
        {"id": 3, "name": "ignore"},
    ]
    document = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "instances.json").write_text(json.dumps(document))


def expected():
    labels = np.zeros((SIDE, SIDE), np.int32)
    for number, (x0, y0, x1, y1) in BOXES.items():
        labels[y0:y1, x0:x1] = number
    annotated = np.zeros((SIDE, SIDE), bool)
    annotated[:50, :34] = True
    return labels, annotated


def write_labels(folder, name):
    labels, annotated = expected()
    tifffile.imwrite(folder / f"{name}.tif", labels.astype(np.uint16))
    (folder.parent / "annotated").mkdir(exist_ok=True)
    part = annotated.astype(np.uint8)
    tifffile.imwrite(folder.parent / "annotated" / f"{name}.tif", part)


def write_value(folder, name):
    labels, annotated = expected()
    # Where nothing counts, objects cannot be told: their visible parts stay.
    pixels = np.where(annotated, labels, 999).astype(np.uint16)
    tifffile.imwrite(folder / f"{name}.tif", pixels)


WRITERS = {
    "rois": write_rois,
    "geojson": write_geojson,
    "labelme": write_labelme,
    "coco": write_coco,
    "labels": write_labels,
    "value": write_value,
}


@pytest.fixture
def dataset(tmp_path, rng):
    """``dataset(FORMAT)``: two images annotated in part, in one of the formats."""

    def build(form, names=("a", "b")):
        folder = tmp_path / form
        (folder / "images").mkdir(parents=True)
        place = folder / ("annotations" if form != "labels" else "labels")
        place.mkdir()
        labels, _ = expected()
        for name in names:
            image = 200 + 900 * (labels > 0) + rng.normal(0, 20, labels.shape)
            tifffile.imwrite(folder / "images" / f"{name}.tif", image.astype(np.uint16))
            if form != "coco":
                WRITERS[form](place, name)
        if form == "coco":
            write_coco(place, *names)
        return folder

    return build


@pytest.mark.parametrize("form", WRITERS)
def test_every_format_says_the_same_of_labels_and_of_what_counts(dataset, form):
    data = loaded(dataset(form), ignore_value=999 if form == "value" else None)
    labels, annotated = expected()
    for sample in (*data.training, *data.validation):
        np.testing.assert_array_equal(sample.annotated, annotated)
        np.testing.assert_array_equal(
            np.where(annotated, sample.labels, 0), np.where(annotated, labels, 0)
        )
        if form != "value":
            np.testing.assert_array_equal(sample.labels, labels)
    # 34 x 50 of 64 x 64 pixels.
    assert data.notes[-1].startswith("Annotated in part: 2 of 2 images (on average 42%")


@pytest.mark.slow
@pytest.mark.parametrize("form", WRITERS)
def test_made_labels_keep_what_counts_and_are_read_back(dataset, form, tmp_path):
    folder = dataset(form)
    out = tmp_path / "out"
    weights = WeightConfig()
    made = make_labels(
        folder,
        out,
        encoding=EncodingConfig(),
        weights=weights,
        annotations=AnnotationConfig(ignore_value=999 if form == "value" else None),
    )
    assert made.failures == ()
    labels, annotated = expected()
    share = 34 * 50 / 64**2
    assert made.images[0].annotated_share == pytest.approx(share)
    written = tifffile.imread(out / "annotated" / "a.tif")
    np.testing.assert_array_equal(written, annotated * np.uint8(255))
    weight = tifffile.imread(out / "weights" / "a.tif")
    np.testing.assert_array_equal(weight > 0, annotated)
    if form != "value":
        class_map = encode(labels, EncodingConfig())
        whole = weight_map(labels, class_map, weights)
        np.testing.assert_array_equal(weight[annotated], whole[annotated])
    # With the images beside, what was made is a folder to train on.
    shutil.copytree(folder / "images", out / "images")
    for sample in loaded(out).training:
        np.testing.assert_array_equal(sample.annotated, annotated)


def test_what_counts_everywhere_leaves_no_file_of_an_earlier_call(dataset, tmp_path):
    folder, out = dataset("value"), tmp_path / "out"
    make_labels(
        folder,
        out,
        encoding=EncodingConfig(),
        annotations=AnnotationConfig(ignore_value=999),
    )
    assert (out / "annotated" / "a.tif").is_file()
    make_labels(folder, out, encoding=EncodingConfig(), overwrite=True)
    assert not (out / "annotated" / "a.tif").exists()


def test_what_does_not_count_has_no_weight_in_training(dataset, quick_config):
    prepared = prepare(loaded(dataset("rois")).training[0], quick_config)
    np.testing.assert_array_equal(prepared.weight_map > 0, expected()[1])


@pytest.mark.slow
def test_a_model_is_trained_and_chosen_on_what_counts(dataset, quick, home):
    trained = train(quick(dataset("geojson", ("a", "b", "c"))))
    assert trained.finished
    assert any("Annotated in part" in note for note in trained.notes)
    card = store.read_card(trained.folder / store.WEIGHTS_FILE)
    assert np.isfinite(card.scores["mean_ap"])


def test_a_model_is_scored_on_what_counts(tiny_model, tmp_path, write_data):
    model = str(tiny_model.folder)
    data = write_data(tmp_path / "data", 3, first_seed=60)
    whole = evaluate_model(data, model=model, threads=1).headline
    for name in ("a0", "a1", "a2"):
        image = tifffile.imread(data / "labels" / f"{name}.tif").astype(np.uint16)
        image[:, 32:] = 5000
        tifffile.imwrite(data / "labels" / f"{name}.tif", image)
    half = evaluate_model(
        data, model=model, threads=1, annotations=AnnotationConfig(ignore_value=5000)
    )
    # Without the value the right half is one large object that nobody finds.
    wrong = evaluate_model(data, model=model, threads=1)
    assert half.headline.totals.true_objects < whole.totals.true_objects
    assert half.headline.totals.left_out > 0
    assert half.headline.mean_ap.value > wrong.headline.mean_ap.value + 0.05
    assert sum(c.true_pixels for c in half.unseen.classes) == 3 * 64 * 32
    # Folders of labels are scored the same way.
    predict([str(data / "images")], tmp_path / "out", model=model)
    folders = evaluate_folders(
        tmp_path / "out",
        data / "labels",
        annotations=AnnotationConfig(ignore_value=5000),
    )
    assert folders.unseen.scores == half.unseen.scores


def test_drawn_truth_scores_a_folder_of_predictions(dataset, tmp_path):
    folder = dataset("rois")
    labels, _ = expected()
    (tmp_path / "pred").mkdir()
    for name in ("a", "b"):
        # Object 3 lies outside the region: predicting it or not is no one's error.
        found = np.where(labels == 3, 0, labels) if name == "a" else labels
        tifffile.imwrite(tmp_path / "pred" / f"{name}.tif", found.astype(np.uint16))
    found = evaluate_folders(tmp_path / "pred", folder / "annotations")
    assert found.headline.mean_ap.value == 1
    assert found.headline.totals.true_objects == 2 * 3
    assert found.headline.totals.left_out == 1


def test_an_image_of_which_nothing_counts_is_refused(dataset):
    folder = dataset("value")
    nothing = np.full((SIDE, SIDE), 999, np.uint16)
    tifffile.imwrite(folder / "annotations" / "a.tif", nothing)
    with pytest.raises(AnnotationError, match="marks no pixel of its image"):
        loaded(folder, ignore_value=999)
