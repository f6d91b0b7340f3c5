"""What is seen while an image is segmented, and the statistics of training images."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch")

import tifffile

from cellunet import store
from cellunet.command_config import PredictConfig
from cellunet.core.dataset import Sample
from cellunet.imaging.quality import Appearance
from cellunet.io.images import open_image
from cellunet.io.scratch import Scratch
from cellunet.io.source import Region
from cellunet.tasks.predict.appearance import Band, QualityRecorder, quality_warnings
from cellunet.tasks.predict.plane import as_labels, segment_plane
from cellunet.tasks.predict.settings import Memory, settings_for
from cellunet.tasks.train import checks as statistics_module
from cellunet.tasks.train.checks import appearance_of, training_statistics


@pytest.fixture
def model(tiny_model):
    return store.find_model(str(tiny_model.folder))


@pytest.fixture
def recipe(model):
    return settings_for(model, PredictConfig(), "onnxruntime", "cpu", 1)


def test_confidences_are_means_of_the_likeliest_class(
    recipe, tmp_path, nuclei_image
) -> None:
    recipe = replace(recipe, memory=Memory(tile_px=64))
    tifffile.imwrite(tmp_path / "a.tif", nuclei_image((150, 80), 20, 3)[0])
    kept = []
    with open_image(tmp_path / "a.tif") as source, Scratch() as scratch:
        observer = QualityRecorder(source, recipe)
        plane = segment_plane(
            source, 0, recipe, scratch, lambda y0, rows: kept.append(rows)
        )
        observer.segmented([plane])
        labels = as_labels(plane.bands())
        assert len(list(plane.bands())) > 1
        image = source.read(Region(0, 0, 150, 0, 80))[0]
        observer.on_rows(Band(0, 0, image, labels))
        seen = observer.finish()
    likeliest = np.concatenate(kept, axis=1).max(axis=0)
    expected = [likeliest[labels == i].mean() for i in range(1, labels.max() + 1)]
    np.testing.assert_allclose(seen.confidences, expected, atol=0.002)
    np.testing.assert_array_equal(seen.areas, np.bincount(labels.ravel())[1:])
    assert seen.appearance.objects == labels.max()


def test_a_training_leaves_statistics_in_the_card(model) -> None:
    known = model.card.training_statistics
    assert set(known) == {
        "contrast",
        "level",
        "sharpness",
        "diameter_px",
        "uncertain",
    }
    assert all(len(values) == store.STATISTICS for values in known.values())
    low, _, high = model.card.diameter_px
    assert low - 2 <= known["diameter_px"][4] <= high + 2


def test_training_images_are_not_remarked_on_and_inverted_ones_are(
    model, recipe, tiny_model, tmp_path
) -> None:
    for path in sorted((tiny_model.data / "images").iterdir()):
        image = tifffile.imread(path)
        if path.stem not in model.card.training:
            continue
        seen = appearance_of(image[np.newaxis], recipe)
        assert quality_warnings(seen, model.card, 1.0) == ()
        inverted = image.max() - image
        seen = appearance_of(inverted[np.newaxis], recipe)
        said = quality_warnings(seen, model.card, 1.0)
        assert any(line.startswith("Bright all over") for line in said)


def test_sizes_are_compared_as_the_training_images_were_seen(model) -> None:
    low, median, high = model.card.diameter_px
    # The same objects, learned from images ten times as large and reduced to a tenth.
    known = model.card.training_statistics
    sizes = [10 * d for d in known["diameter_px"]]
    card = replace(
        model.card,
        config=model.card.config.replace(scale=0.1),
        training_statistics={"diameter_px": sizes},
    )
    nothing = replace(card, training_statistics={})
    for known in (card, nothing):
        usual = Appearance(objects=5, diameter_px=10 * median)
        assert quality_warnings(usual, known, 0.1) == ()
        (said,) = quality_warnings(replace(usual, diameter_px=40 * high), known, 0.1)
        assert said.startswith(f"The objects found are {40 * high:.0f} px wide")
        # Seen at a quarter of that they look as they are known to.
        large = replace(usual, diameter_px=40 * median)
        assert quality_warnings(large, known, 0.025) == ()
        assert len(quality_warnings(replace(usual, diameter_px=low), known, 0.1)) == 1


def test_of_very_many_images_an_even_part_is_described(
    recipe, nuclei_image, monkeypatch
) -> None:
    monkeypatch.setattr(statistics_module, "MOST_STATISTICS", 2)
    samples = [
        Sample(
            name=str(i),
            image=(image := nuclei_image((48, 48), 4, i)[0])[np.newaxis],
            labels=np.zeros(image.shape, np.int32),
            annotated=np.ones(image.shape, bool),
        )
        for i in range(5)
    ]
    seen: list[int] = []

    def track(items, label, total):
        seen.append(total)
        return items

    found = training_statistics(samples, recipe, track)
    assert seen == [2]
    assert len(found["contrast"]) == store.STATISTICS
