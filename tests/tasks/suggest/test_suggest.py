"""Crops to annotate next: from images to a folder that can be trained on."""

from __future__ import annotations

import csv
import shutil
from dataclasses import replace
from pathlib import Path, PureWindowsPath

import numpy as np
import pytest

pytest.importorskip("torch")

import tifffile
from PIL import Image

from cellunet import store
from cellunet.annotations.pairs import find_pairs
from cellunet.command_config import PredictConfig, SplitConfig, SuggestConfig
from cellunet.core.dataset import prepare
from cellunet.errors import (
    AnnotationError,
    CellunetError,
    ConfigError,
    ImageReadError,
    InputError,
    ModelNotFoundError,
    OutputError,
)
from cellunet.imaging.normalize import measure_channels, rescale_intensity
from cellunet.io.files import writing
from cellunet.io.images import open_image
from cellunet.io.label_tiff import write_crop
from cellunet.io.scratch import Scratch
from cellunet.io.source import Region
from cellunet.tasks.predict.batch import predict
from cellunet.tasks.predict.plane import as_labels, segment_plane
from cellunet.tasks.predict.settings import Memory, settings_for
from cellunet.tasks.suggest import suggest as task
from cellunet.tasks.suggest.choose import Annotated, candidates, thinned, windows
from cellunet.tasks.suggest.request import SuggestRequest
from cellunet.tasks.suggest.suggest import names_of, suggest
from cellunet.tasks.train.data import ChannelChoice, read_sample
from tests.io.microscope_files import write_lif
from tests.networks import loaded

SIDE = 64
FEW = SuggestConfig(crops=3, side_px=SIDE)


@pytest.fixture
def field(tmp_path, nuclei_image):
    """One field of four by four windows that overlap by half."""
    pixels, _ = nuclei_image((130, 150), 30, 2, radius_px=(4.0, 6.0))
    tifffile.imwrite(tmp_path / "field.tif", pixels)
    return tmp_path / "field.tif"


@pytest.fixture(scope="module")
def images(tmp_path_factory, nuclei_image):
    """Three fields: nuclei of two sizes, and one with nothing in it."""
    folder = tmp_path_factory.mktemp("fields")
    for name, seed, radius in (("large", 1, (9.0, 12.0)), ("small", 2, (4.0, 6.0))):
        pixels, _ = nuclei_image((200, 220), 60, seed, radius_px=radius)
        tifffile.imwrite(
            folder / f"{name}.tif",
            pixels,
            resolution=(20000, 40000),
            resolutionunit="CENTIMETER",
        )
    noise = np.random.default_rng(0).normal(200, 14, (200, 220)).astype(np.uint16)
    tifffile.imwrite(folder / "empty.tif", noise)
    return folder


def request(images, out, **changes):
    settings = {"images": (str(images),), "out": out, "config": FEW, "threads": 1}
    return SuggestRequest(**settings | changes)


def recipe():
    model = store.find_model("nuclei")
    return settings_for(model, PredictConfig(), "onnxruntime", "cpu", 1)


def files_of(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*.*")}


def test_crops_and_their_labels_are_training_data_cut_from_the_images(
    images, tmp_path
) -> None:
    made = suggest(request(images, tmp_path / "out"))
    assert len(made.crops) == 3
    assert made.images == 3
    assert {c.image for c in made.crops} == {
        str(images / "large.tif"),
        str(images / "small.tif"),
    }
    pairs = {p.name: p for p in find_pairs(tmp_path / "out").pairs}
    assert set(pairs) == {c.name for c in made.crops}
    for crop in made.crops:
        whole = tifffile.imread(crop.image)
        sample = read_sample(pairs[crop.name], ChannelChoice())
        part = whole[crop.y : crop.y + SIDE, crop.x : crop.x + SIDE]
        np.testing.assert_array_equal(sample.image[0], part)
        assert sample.image.dtype == np.uint16
        assert sample.annotated.all()
        ids = np.unique(sample.labels[sample.labels > 0])
        np.testing.assert_array_equal(ids, np.arange(1, crop.objects + 1))
        with open_image(pairs[crop.name].image) as source:
            assert source.pixel_size_um == pytest.approx((0.25, 0.5))


def test_crops_that_nobody_corrected_are_told_in_training(images, tmp_path) -> None:
    made = suggest(request(images, tmp_path / "out"))
    first, *others = (c.name for c in made.crops)
    # As napari and Fiji save a label image: without what came with it.
    path = tmp_path / "out" / "labels" / f"{first}.tif"
    tifffile.imwrite(path, tifffile.imread(path))
    data = loaded(tmp_path / "out", config=SplitConfig(folds=2))
    (note,) = data.notes
    assert "Labels as a model wrote them: 2 of 3 images" in note
    assert all(name in note for name in others)
    assert first not in note


def test_labels_are_those_of_the_whole_image_at_that_place(images, tmp_path) -> None:
    crop = suggest(request(images, tmp_path / "out")).crops[0]
    with open_image(crop.image) as source, Scratch() as scratch:
        whole = as_labels(segment_plane(source, 0, recipe(), scratch).bands())
    part = whole[crop.y : crop.y + SIDE, crop.x : crop.x + SIDE]
    labels = tifffile.imread(tmp_path / "out" / "labels" / f"{crop.name}.tif")
    assert labels.dtype == np.uint16
    np.testing.assert_array_equal(labels > 0, part > 0)
    both = np.unique(np.stack([labels.ravel(), part.ravel()]), axis=1)
    assert both.shape[1] == len(np.unique(part))


@pytest.mark.parametrize("kind", ["rois", "geojson"])
def test_shapes_come_back_as_the_labels(images, tmp_path, kind) -> None:
    made = suggest(request(images, tmp_path / "labels"))
    config = FEW.replace(annotations=kind)
    shapes = suggest(request(images, tmp_path / kind, config=config))
    assert shapes.crops == made.crops
    for drawn, pixels in zip(
        find_pairs(tmp_path / kind).pairs,
        find_pairs(tmp_path / "labels").pairs,
        strict=True,
    ):
        assert drawn.annotation.parent.name == shapes.annotations
        found = read_sample(drawn, ChannelChoice()).labels
        expected = read_sample(pixels, ChannelChoice()).labels
        np.testing.assert_array_equal(found, expected)


def test_the_table_tells_of_every_crop_in_the_order_of_worth(images, tmp_path) -> None:
    made = suggest(request(images, tmp_path / "out"))
    with (tmp_path / "out" / "suggested.csv").open(newline="", encoding="utf-8") as f:
        rows = list(csv.DictReader(f))
    assert [r["file"] for r in rows] == [f"images/{c.name}.tif" for c in made.crops]
    assert [(int(r["y"]), int(r["x"])) for r in rows] == [
        (c.y, c.x) for c in made.crops
    ]
    assert all((tmp_path / "out" / r["file"]).is_file() for r in rows)
    assert "of all uncertainty" in rows[0]["why"]
    assert [float(r["share"]) for r in rows] == sorted(
        (float(r["share"]) for r in rows), reverse=True
    )


def test_the_same_request_gives_the_same_files(images, tmp_path) -> None:
    for name in ("a", "b"):
        suggest(request(images, tmp_path / name))
    assert files_of(tmp_path / "a") == files_of(tmp_path / "b")


def test_a_crop_is_scaled_in_training_as_its_whole_image_in_prediction(
    images, tmp_path
) -> None:
    crop = suggest(request(images, tmp_path / "out")).crops[0]
    config = store.find_model("nuclei").card.config
    (pair,) = (p for p in find_pairs(tmp_path / "out").pairs if p.name == crop.name)
    trained = prepare(read_sample(pair, ChannelChoice()), config).crop.image[0]
    with open_image(crop.image) as source, Scratch() as scratch:
        statistics = segment_plane(source, 0, recipe(), scratch).statistics
        whole = source.read(Region(0, 0, *source.shape[:1], 0, source.shape[1]))[0]
    shown = rescale_intensity(whole, statistics, config.normalization)
    part = shown[crop.y : crop.y + SIDE, crop.x : crop.x + SIDE]
    np.testing.assert_array_equal(trained, part)
    with open_image(pair.image) as source, Scratch() as scratch:
        assert segment_plane(source, 0, recipe(), scratch).statistics == statistics
    # By itself it would be shown otherwise.
    tifffile.imwrite(pair.image, tifffile.imread(pair.image))
    alone = prepare(read_sample(pair, ChannelChoice()), config).crop.image[0]
    assert not np.allclose(alone, part)


def test_what_is_annotated_is_not_suggested_again(images, tmp_path) -> None:
    first = suggest(request(images, tmp_path / "first"))
    second = suggest(request(images, tmp_path / "second", data=(tmp_path / "first",)))
    places = {(c.image, c.y, c.x) for c in first.crops}
    for crop in second.crops:
        near = [
            (y, x)
            for image, y, x in places
            if image == crop.image and max(abs(y - crop.y), abs(x - crop.x)) < SIDE
        ]
        assert not near
        assert crop.novelty < 1


def places(crop):
    """Name of the field, plane and pixels of a crop in it."""
    with open_image(crop) as source:
        cut, (height, width) = source.cut_from, source.shape
    rows, columns = range(cut.y, cut.y + height), range(cut.x, cut.x + width)
    return {(cut.image, cut.plane, y, x) for y in rows for x in columns}


def test_crops_below_the_images_are_known_as_places_of_their_fields(
    images, tmp_path
) -> None:
    project = tmp_path / "project"
    shutil.copytree(images, project)
    suggest(request(project, project / "first"))
    data = (project / "first",)
    made = suggest(request(project, tmp_path / "out", data=data))
    known = set().union(*map(places, (project / "first/images").iterdir()))
    for path in (tmp_path / "out/images").iterdir():
        assert not places(path) & known
        known |= places(path)
    assert len(made.crops) == 3
    # The same place once, where nothing says that it is annotated.
    twice = suggest(request(project, tmp_path / "again", config=FEW.replace(crops=20)))
    every = [places(path) for path in (tmp_path / "again/images").iterdir()]
    assert len(every) == len(twice.crops) > 6
    assert len(set().union(*every)) == len(every) * SIDE**2


def test_crops_of_another_side_do_not_overlap_those_annotated(images, tmp_path) -> None:
    suggest(request(images, tmp_path / "first", config=FEW.replace(side_px=100)))
    config = FEW.replace(crops=20)
    suggest(
        request(images, tmp_path / "out", config=config, data=(tmp_path / "first",))
    )
    known = set().union(*map(places, (tmp_path / "first/images").iterdir()))
    made = [places(path) for path in (tmp_path / "out/images").iterdir()]
    assert made
    assert not known & set().union(*made)


def test_nothing_of_an_annotated_image_is_suggested_under_any_name(
    images, tmp_path
) -> None:
    data = tmp_path / "data"
    for side in ("images", "labels"):
        (data / side).mkdir(parents=True)
    pixels = tifffile.imread(images / "large.tif")
    tifffile.imwrite(data / "images" / "other.tif", pixels)
    tifffile.imwrite(data / "labels" / "other.tif", np.ones(pixels.shape, np.uint8))
    made = suggest(request(images, tmp_path / "out", data=(data,)))
    assert {c.image for c in made.crops} == {str(images / "small.tif")}


def test_of_a_field_with_an_annotated_box_other_places_are_suggested(
    images, tmp_path
) -> None:
    data = tmp_path / "data"
    for side in ("images", "labels", "annotated"):
        (data / side).mkdir(parents=True)
    pixels = tifffile.imread(images / "large.tif")
    first = suggest(request(images / "large.tif", tmp_path / "first")).crops[0]
    box = np.zeros(pixels.shape, np.uint8)
    box[first.y + 20 : first.y + 40, first.x + 20 : first.x + 40] = 1
    tifffile.imwrite(data / "images" / "large.tif", pixels)
    tifffile.imwrite(data / "labels" / "large.tif", box)
    tifffile.imwrite(data / "annotated" / "large.tif", box)
    made = suggest(request(images / "large.tif", tmp_path / "out", data=(data,)))
    assert made.crops
    for crop in made.crops:
        assert not box[crop.y : crop.y + SIDE, crop.x : crop.x + SIDE].any()


def test_a_kind_that_is_annotated_comes_last(images, tmp_path) -> None:
    by_itself = suggest(request(images, tmp_path / "out")).crops[0]
    data = tmp_path / "data"
    for side in ("images", "labels"):
        (data / side).mkdir(parents=True)
    pixels = tifffile.imread(by_itself.image)
    # The same field mirrored: of the same kind, but not the same place.
    tifffile.imwrite(data / "images" / "a.tif", pixels[::-1, ::-1])
    tifffile.imwrite(data / "labels" / "a.tif", np.ones(pixels.shape, np.uint8))
    after = suggest(request(images, tmp_path / "out2", data=(data,)))
    assert after.crops[0].image != by_itself.image


def test_windows_are_the_same_however_high_the_bands(field) -> None:
    low = replace(recipe(), memory=Memory(tile_px=40, band_pixels=150 * 16))
    found_by = []
    for applied in (recipe(), low):
        with open_image(field) as source, Scratch() as scratch:
            found = segment_plane(source, 0, applied, scratch)
            bands = list(found.bands())
            looked = list(windows(source, 0, found, applied, SIDE))
        found_by.append((len(bands), looked))
        whole = as_labels(bands)
        for window in looked:
            part = whole[window.y : window.y + SIDE, window.x : window.x + SIDE]
            np.testing.assert_array_equal(window.labels, part)
    (few, tall), (many, low_) = found_by
    assert few == 1
    assert many > 8
    assert [(w.y, w.x, w.seen) for w in tall] == [(w.y, w.x, w.seen) for w in low_]
    assert [(w.y, w.x) for w in tall[:3]] == [(0, 0), (0, 29), (0, 57)]
    assert (tall[-1].y, tall[-1].x) == (130 - SIDE, 150 - SIDE)


def test_of_many_windows_the_most_uncertain_of_each_neighborhood_are_left(
    field,
) -> None:
    with open_image(field) as source, Scratch() as scratch:
        found = segment_plane(source, 0, recipe(), scratch)
        every = list(windows(source, 0, found, recipe(), SIDE))
        assert len(every) == 16
        assert list(thinned(every, source.shape, SIDE, 16)) == every
        four = list(thinned(every, source.shape, SIDE, 4))
    blocks = [[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]]
    uncertainties = [max(every[i].seen.uncertainty for i in block) for block in blocks]
    assert [w.seen.uncertainty for w in four] == uncertainties


def test_planes_of_a_stack_are_looked_at_one_by_one(tmp_path, nuclei_image) -> None:
    planes = np.stack([nuclei_image((64, 64), 6, seed)[0] for seed in (5, 6)])
    tifffile.imwrite(tmp_path / "s.tif", planes, imagej=True, metadata={"axes": "TYX"})
    made = suggest(
        request(tmp_path / "s.tif", tmp_path / "out", config=FEW.replace(crops=1))
    )
    (crop,) = made.crops
    path = tmp_path / "out" / "images" / f"{crop.name}.tif"
    np.testing.assert_array_equal(tifffile.imread(path), planes[crop.plane])
    with open_image(path) as source:
        assert source.cut_from.planes == 2


def test_a_stack_of_one_place_gives_as_many_crops_as_asked_for(
    tmp_path, nuclei_image
) -> None:
    planes = np.stack([nuclei_image((64, 64), 6, seed)[0] for seed in range(5)])
    tifffile.imwrite(tmp_path / "s.tif", planes, imagej=True, metadata={"axes": "TYX"})
    made = suggest(request(tmp_path / "s.tif", tmp_path / "out"))
    assert len({crop.plane for crop in made.crops}) == 3


def test_a_plane_and_an_image_of_one_name_give_crops_of_two_names(
    tmp_path, nuclei_image
) -> None:
    planes = np.stack([nuclei_image((64, 64), 6, seed)[0] for seed in (5, 6)])
    for name, pixels in (("a", planes), ("a_p1", nuclei_image((64, 64), 6, 7)[0])):
        tifffile.imwrite(tmp_path / f"{name}.tif", pixels, metadata={"axes": "TYX"})
    made = suggest(request(tmp_path, tmp_path / "out"))
    assert len({crop.name for crop in made.crops}) == 3
    assert len(find_pairs(tmp_path / "out").pairs) == 3


def test_a_channel_is_kept_under_the_name_it_was_asked_for(
    tmp_path, nuclei_image
) -> None:
    pixels, _ = nuclei_image((64, 64), 6, 5)
    both = np.stack([np.zeros_like(pixels), pixels])
    tifffile.imwrite(
        tmp_path / "c.ome.tif",
        both,
        metadata={"axes": "CYX", "Channel": {"Name": ["GFP", "DAPI"]}},
    )
    for wanted in ("DAPI", "1"):
        out = tmp_path / f"out {wanted}"
        suggest(request(tmp_path / "c.ome.tif", out, channel=wanted))
        (pair,) = find_pairs(out).pairs
        sample = read_sample(pair, ChannelChoice(channel=wanted))
        np.testing.assert_array_equal(sample.image[0], pixels)


def test_images_of_one_name_in_two_folders_are_told_apart(tmp_path) -> None:
    files = [tmp_path / "w1" / "a.tif", tmp_path / "w2" / "A.tif", tmp_path / "b.tif"]
    names = names_of(files, tmp_path)
    assert list(names.values()) == ["w1-a", "w2-A", "b"]
    clash = [tmp_path / "a.tif", tmp_path / "a.png"]
    assert list(names_of(clash, tmp_path).values()) == ["a", "a-2"]


def test_links_to_images_elsewhere_are_told_apart_by_their_own_folders(
    images, tmp_path
) -> None:
    for name, image in (("w1", "large"), ("w2", "small")):
        (tmp_path / "in" / name).mkdir(parents=True)
        (tmp_path / "in" / name / "a.tif").symlink_to(images / f"{image}.tif")
    made = suggest(request(tmp_path / "in", tmp_path / "out"))
    assert {crop.name[:4] for crop in made.crops} == {"w1-a", "w2-a"}


def test_small_and_broken_images_are_named_and_the_others_used(
    images, tmp_path
) -> None:
    mixed = tmp_path / "mixed"
    shutil.copytree(images, mixed)
    tifffile.imwrite(mixed / "tiny.tif", np.zeros((SIDE, SIDE - 1), np.uint16))
    (mixed / "broken.tif").write_bytes(b"II*\0broken")
    made = suggest(request(mixed, tmp_path / "out"))
    assert made.images == 3
    assert [name for name, _ in made.failures] == [str(mixed / "broken.tif")]
    assert made.notes == ("Left out, as smaller than 64 x 64 pixels: 1 image.",)


def test_label_images_among_the_images_are_left_out(images, tmp_path) -> None:
    mixed = shutil.copytree(images, tmp_path / "mixed")
    predict([str(images / "large.tif")], tmp_path / "labels", threads=1)
    (tmp_path / "labels" / "large.tif").rename(mixed / "z.tif")
    found = suggest(request(mixed, tmp_path / "out"))
    assert found.images == 3
    assert found.notes[0].startswith("Left out: 1 label image")


def test_fewer_crops_than_asked_for_are_said(images, tmp_path) -> None:
    made = suggest(
        request(images / "large.tif", tmp_path / "out", config=FEW.replace(crops=50))
    )
    assert 0 < len(made.crops) < 50
    assert f"Only {len(made.crops)} of 50 crops were found" in made.notes[0]


def refused(kind: type[CellunetError], message: str, **changes) -> None:
    with pytest.raises(kind, match=message):
        suggest(request(**changes))


def test_images_that_cannot_be_used_are_refused(images, tmp_path) -> None:
    out = tmp_path / "out"
    refused(InputError, "nowhere", images=tmp_path / "nowhere", out=out)
    big = SuggestConfig(side_px=256)
    refused(InputError, "None of the 3 images", images=images, out=out, config=big)
    refused(InputError, "the model finds", images=images / "empty.tif", out=out)
    (tmp_path / "bad.tif").write_bytes(b"II*\0bad")
    refused(ImageReadError, "bad.tif", images=tmp_path / "bad.tif", out=out)
    assert not out.exists()


def test_models_that_cannot_be_used_are_refused(images, tmp_path, monkeypatch) -> None:
    out = tmp_path / "out"
    refused(ModelNotFoundError, "nuclei2", images=images, out=out, model="nuclei2")
    config = store.find_model("nuclei").card.config
    two = config.replace(network=config.network.replace(in_channels=4))
    model = store.find_model("nuclei")
    card = store.ModelCard(name="two", config=two)
    monkeypatch.setattr(
        task.store,
        "find_model",
        lambda name: store.Model(
            name="two", weights=model.weights, card=card, shipped=False
        ),
    )
    refused(ConfigError, "looks at 2 channels at once", images=images, out=out)


def test_settings_that_cannot_be_are_refused(images, tmp_path) -> None:
    for settings in ({"crops": 0}, {"side_px": 16}):
        with pytest.raises(ConfigError):
            SuggestConfig(**settings)
    with pytest.raises(ConfigError, match="No image"):
        SuggestRequest(images=(), out=tmp_path)
    with pytest.raises(ConfigError, match="below 0"):
        request(images, tmp_path, threads=-1)


def test_crops_and_annotated_data_may_not_lie_in_each_other(images, tmp_path) -> None:
    data = tmp_path / "data"
    for out in (data, data / "new", tmp_path):
        refused(
            ConfigError, "would lie in each other", images=images, out=out, data=(data,)
        )


@pytest.mark.parametrize(
    ("out", "data", "expected"),
    [
        ("D:/out", "C:/data", False),
        ("C:/Data/out", "C:/data", True),
        ("C:/", "C:/data", True),
        ("C:/data-out", "C:/data", False),
    ],
)
def test_folders_of_windows_lie_in_each_other_on_one_drive(out, data, expected) -> None:
    found = task.one_holds_other(PureWindowsPath(out), PureWindowsPath(data))
    assert found is expected


def test_data_that_are_none_are_refused(images, tmp_path) -> None:
    refused(
        InputError,
        "no folder",
        images=images,
        out=tmp_path / "out",
        data=(tmp_path / "nothing",),
    )
    suggest(request(images, tmp_path / "good"))
    for path in (tmp_path / "good" / "labels").iterdir():
        path.write_bytes(b"II*\0")
    refused(
        AnnotationError,
        "labels",
        images=images,
        out=tmp_path / "out",
        data=(tmp_path / "good",),
    )


def test_a_folder_with_anything_in_it_is_not_replaced_unasked(images, tmp_path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    suggest(request(images, out))
    before = files_of(out)
    refused(OutputError, "suggested before", images=images, out=out)
    assert files_of(out) == before
    suggest(request(images, out, overwrite=True, config=FEW.replace(crops=1)))
    assert len(list((out / "labels").iterdir())) == 1
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.doc").write_text("years of work")
    refused(OutputError, "other files", images=images, out=other, overwrite=True)
    assert (other / "thesis.doc").read_text() == "years of work"
    refused(OutputError, "is a file", images=images, out=other / "thesis.doc")
    # Nor is a folder of crops that holds more, or what is read.
    (out / "raw").mkdir()
    refused(OutputError, "other files", images=images, out=out, overwrite=True)
    (out / "raw").rmdir()
    for own in (out / "images/own.tif", out / "labels/own.tif"):
        own.write_text("work")
        refused(OutputError, own.name, images=images, out=out, overwrite=True)
        own.unlink()
    refused(OutputError, "is read", images=out / "images", out=out, overwrite=True)
    assert len(list((out / "images").iterdir())) == 1


def test_a_folder_that_appears_meanwhile_is_not_replaced(
    images, tmp_path, monkeypatch
) -> None:
    out, other = tmp_path / "out", tmp_path / "other"

    def beside_another_process(*arguments) -> None:
        if not out.exists():
            other.rename(out)
        write_crop(*arguments)

    suggest(request(images, other, config=FEW.replace(crops=1)))
    before = files_of(other)
    monkeypatch.setattr(task, "write_crop", beside_another_process)
    refused(OutputError, "suggested before", images=images, out=out)
    assert files_of(out) == before
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_nothing_half_written_is_left_if_writing_fails(
    images, tmp_path, monkeypatch
) -> None:
    out = tmp_path / "out"
    suggest(request(images, out))
    before = files_of(out)
    written = []

    def fails_at_the_second(*arguments) -> None:
        written.append(arguments)
        if len(written) == 2:
            with writing(arguments[0]):
                raise OSError(28, "No space left on device")
        write_crop(*arguments)

    monkeypatch.setattr(task, "write_crop", fails_at_the_second)
    for place, overwrite in ((out, True), (tmp_path / "new", False)):
        written.clear()
        told = rf"^{place}/.*tif cannot be written: there is no room in {place}/"
        refused(OutputError, told, images=images, out=place, overwrite=overwrite)
    assert files_of(out) == before
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_crops_stay_if_no_others_can_take_their_place(
    images, tmp_path, monkeypatch
) -> None:
    out, rename = tmp_path / "out", Path.rename
    suggest(request(images, out))
    before = files_of(out)

    def fails(path, target):
        if target == out / path.name and path.name == "labels" and not failed:
            failed.append(path)
            raise PermissionError(13, "Another process uses it")
        return rename(path, target)

    failed = []
    monkeypatch.setattr(Path, "rename", fails)
    refused(OutputError, "cannot be written", images=images, out=out, overwrite=True)
    assert failed
    assert files_of(out) == before
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("name", [".", "../here"])
def test_crops_go_into_an_empty_folder_that_is_there_and_stays(
    field, tmp_path, monkeypatch, name
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    before = here.stat().st_ino
    monkeypatch.chdir(here)
    rename = Path.rename

    def stays(path, target):
        # As a disk, or the folder that a process of Windows works in.
        assert here not in (path.resolve(), Path(target).resolve())
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", stays)
    one = FEW.replace(crops=1)
    (crop,) = suggest(request(field, Path(name), config=one)).crops
    assert [p.name for p in find_pairs(Path()).pairs] == [crop.name]
    made = {here / name for name in ("images", "labels", "suggested.csv")}
    assert set(here.iterdir()) == made
    again = suggest(request(field, Path(name), config=FEW, overwrite=True)).crops
    assert set(here.iterdir()) == made
    assert {p.stem for p in (here / "labels").iterdir()} == {c.name for c in again}
    assert here.stat().st_ino == before


def test_an_image_that_does_not_fit_into_memory_fails_alone(
    images, tmp_path, monkeypatch
) -> None:
    stack = np.stack([tifffile.imread(images / "large.tif")] * 2)
    tifffile.imwrite(tmp_path / "z.tif", stack, metadata={"axes": "ZYX"}, ome=True)
    planes = []

    def fails_at_the_second_plane(source, plane, *arguments):
        if source.path.name == "z.tif":
            planes.append(plane)
            if plane:
                raise MemoryError
        return segment_plane(source, plane, *arguments)

    monkeypatch.setattr(
        "cellunet.tasks.suggest.choose.segment_plane", fails_at_the_second_plane
    )
    both = (str(tmp_path / "z.tif"), str(images / "small.tif"))
    made = suggest(SuggestRequest(images=both, out=tmp_path / "out", config=FEW))
    assert planes == [0, 1]
    stack_path = str(tmp_path / "z.tif")
    assert made.failures == ((stack_path, f"{stack_path} does not fit into memory."),)
    # Nothing of a stack that failed, what was found before neither.
    assert {crop.image for crop in made.crops} == {str(images / "small.tif")}
    with pytest.raises(ImageReadError, match="does not fit into memory"):
        suggest(request(tmp_path / "z.tif", tmp_path / "other"))


def test_scenes_of_one_file_are_images_of_their_own(images, tmp_path) -> None:
    pytest.importorskip("liffile")
    names = "large", "small"
    fields = {name: tifffile.imread(images / f"{name}.tif") for name in names}
    path = write_lif(tmp_path / "a.lif", fields)
    made = suggest(request(path, tmp_path / "out"))
    assert made.images == 2
    assert {c.image for c in made.crops} == {
        str(path / "a_0_large"),
        str(path / "a_1_small"),
    }
    for crop in made.crops:
        field = fields[crop.image[-5:]]
        cut = tifffile.imread(tmp_path / "out" / "images" / f"{crop.name}.tif")
        part = field[crop.y : crop.y + SIDE, crop.x : crop.x + SIDE]
        np.testing.assert_array_equal(cut, part)


def test_only_crops_of_the_same_field_count_as_annotated(images, tmp_path) -> None:
    made = suggest(request(images, tmp_path / "out")).crops[0]
    with open_image(tmp_path / "out" / "images" / f"{made.name}.tif") as source:
        cut = source.cut_from
    assert cut is not None
    with open_image(made.image) as source, Scratch() as keep:
        asked = request(images, tmp_path / "out")
        every = list(candidates(source, asked, recipe(), 1000, keep))
    known = Annotated(looks=[], cuts=[(cut, (SIDE, SIDE))], windows=set(), side=SIDE)
    for window in every:
        near = max(abs(window.y - made.y), abs(window.x - made.x)) < SIDE
        assert known.holds(window) == near
        renamed = replace(window, path=tmp_path / "another.tif")
        assert not known.holds(renamed)
        brighter = replace(window.statistics, mean=window.statistics.mean + 1)
        elsewhere = replace(window, statistics=brighter)
        assert not known.holds(elsewhere)
        assert not known.lies_beside(elsewhere)
        assert known.lies_beside(replace(elsewhere, plane=1)) == near


def test_a_crop_knows_its_image_for_dark_objects_too(images, tmp_path) -> None:
    made = suggest(request(images, tmp_path / "out")).crops[0]
    whole = tifffile.imread(made.image)
    norm = store.find_model("nuclei").card.config.normalization
    with open_image(tmp_path / "out" / "images" / f"{made.name}.tif") as source:
        for invert in (False, True):
            config = norm.replace(invert=invert)
            expected = measure_channels(lambda: [whole[np.newaxis]], config)[0]
            assert source.cut_from.by_channel(config) == (expected,)


def test_a_crop_of_a_crop_keeps_the_first_image(images, tmp_path) -> None:
    first = suggest(request(images, tmp_path / "first"))
    path = tmp_path / "first" / "images" / f"{first.crops[0].name}.tif"
    small = FEW.replace(side_px=32, crops=1)
    (crop,) = suggest(request(path, tmp_path / "second", config=small)).crops
    with (
        open_image(path) as outer,
        open_image(tmp_path / "second" / "images" / f"{crop.name}.tif") as inner,
    ):
        assert inner.cut_from.channels == outer.cut_from.channels
        assert inner.cut_from.image == outer.cut_from.image
        assert inner.cut_from.y == outer.cut_from.y + crop.y
        assert inner.cut_from.x == outer.cut_from.x + crop.x


def test_a_folder_of_label_images_and_a_picture_holds_nothing_to_suggest(
    field, tmp_path
) -> None:
    labels = tmp_path / "labels"
    predict([str(field)], labels, threads=1)
    shutil.copy(labels / "field.tif", labels / "other.tif")
    # Listing looks into the first file, which is a picture of results.
    Image.new("L", (64, 64)).save(labels / "a_overview.jpg")
    with pytest.raises(InputError, match="only label images"):
        suggest(SuggestRequest(images=(str(labels),), out=tmp_path / "s", config=FEW))
