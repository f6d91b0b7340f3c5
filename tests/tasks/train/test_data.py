"""Annotated folders to samples: what is read, kept and refused."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np
import pytest

pytest.importorskip("torch")

import tifffile

from cellunet import store
from cellunet.annotations.pairs import Pair, fingerprint
from cellunet.command_config import PredictConfig, SplitConfig
from cellunet.config import NormalizationConfig, TrainConfig
from cellunet.core.dataset import prepare
from cellunet.errors import AnnotationError, ImageReadError, InputError
from cellunet.imaging.normalize import measure_channels, rescale_intensity
from cellunet.io.crops import CropChannel, CropMetadata
from cellunet.io.label_tiff import write_crop
from cellunet.io.source import Statistics
from cellunet.tasks.predict.settings import settings_for
from cellunet.tasks.train.checks import training_notes
from cellunet.tasks.train.data import (
    MARGIN_PX,
    ChannelChoice,
    ReadImage,
    annotated_boxes,
    cut,
    distinct_names,
    measured_in,
    object_diameters_px,
    partly_annotated,
    read_annotated,
    read_sample,
)
from cellunet.tasks.train.finish import training_statistics
from tests.networks import loaded, sample_of

NEVER = measured_in(Path("nowhere"), ChannelChoice())


@pytest.fixture
def data(tmp_path: Path, write_data) -> Path:
    return write_data(tmp_path / "drawn", 4)


def image_of(data: Path, number: int) -> Path:
    return data / "images" / f"a{number}.tif"


def label_of(data: Path, number: int) -> Path:
    return data / "labels" / f"a{number}.tif"


def test_every_image_is_on_one_side_with_its_pixels_and_print(data) -> None:
    found = loaded(data)
    names = [s.name for s in (*found.training, *found.validation)]
    assert sorted(names) == ["a0", "a1", "a2", "a3"]
    assert len(found.training) == len(found.validation) == 2
    sample = found.training[0]
    pixels = tifffile.imread(data / "images" / f"{sample.name}.tif")
    np.testing.assert_array_equal(sample.image, pixels[np.newaxis])
    assert sample.labels.dtype == np.int32
    assert sample.annotated.all()
    assert found.training_prints[sample.name] == fingerprint(pixels[np.newaxis])
    assert list(found.training_prints) == [s.name for s in found.training]
    assert list(found.validation_prints) == [s.name for s in found.validation]


def test_annotations_are_told_apart_in_any_order_of_the_images(data) -> None:
    found = loaded(data)
    turned = replace(found, training=found.training[::-1])
    assert turned.annotations_print() == found.annotations_print()
    first, *rest = found.training
    corrected = replace(first, labels=np.where(first.labels == 1, 0, first.labels))
    other = replace(found, training=(corrected, *rest))
    assert other.annotations_print() != found.annotations_print()


def test_the_seed_decides_the_split(data) -> None:
    sides = {tuple(loaded(data, seed=s).training_prints) for s in range(8)}
    assert len(sides) > 1
    assert list(loaded(data, seed=3).training_prints) == list(
        loaded(data, seed=3).training_prints
    )


def test_a_list_of_validation_images_makes_folds_needless_and_says_so(data) -> None:
    assert loaded(data, config=SplitConfig(folds=2)).notes == ()
    (data / "metadata").mkdir()
    (data / "metadata" / "validation.txt").write_text("a1.tif\n")
    found = loaded(data, config=SplitConfig(folds=2))
    assert found.notes == (f"No folds: {data} lists its validation images.",)
    assert [s.name for s in found.validation] == ["a1"]


def test_missing_and_extra_partners_are_named_together(data) -> None:
    label_of(data, 0).unlink()
    image_of(data, 1).unlink()
    with pytest.raises(InputError, match="a0") as caught:
        loaded(data)
    assert "a1" in caught.value.message


def test_all_images_that_cannot_be_used_are_named_together(data) -> None:
    tifffile.imwrite(label_of(data, 0), np.ones((64, 60), np.uint16))
    tifffile.imwrite(image_of(data, 1), np.full((64, 64), np.nan, np.float32))
    image_of(data, 2).write_bytes(b"")
    tifffile.imwrite(label_of(data, 3), np.full((64, 64), 0.5, np.float32))
    with pytest.raises(InputError, match="4 images cannot be used") as caught:
        loaded(data)
    assert "64 x 60 pixels, but a0.tif has 64 x 64" in caught.value.message
    assert "a1.tif has no finite pixel" in caught.value.message
    assert all(f"a{i}.tif" in caught.value.message for i in range(4))
    assert caught.value.hint


def test_of_many_images_that_cannot_be_used_ten_are_named(tmp_path, write_data) -> None:
    data = write_data(tmp_path / "many", 13)
    for number in range(13):
        image_of(data, number).write_bytes(b"")
    with pytest.raises(InputError, match="And 3 more"):
        loaded(data)


@pytest.mark.parametrize(
    ("pixels", "kind", "words"),
    [
        (np.ones((64, 60), np.uint16), AnnotationError, "same shape"),
        (np.full((64, 64), -1, np.int16), AnnotationError, "a0"),
        (np.full((64, 64), 0.5, np.float32), AnnotationError, "a0"),
    ],
)
def test_one_label_that_cannot_be_used_is_refused_as_itself(
    pixels, kind, words, data
) -> None:
    tifffile.imwrite(label_of(data, 0), pixels)
    with pytest.raises(kind) as caught:
        loaded(data)
    assert words in str(caught.value)


def test_an_image_without_a_finite_pixel_is_refused(data) -> None:
    tifffile.imwrite(image_of(data, 0), np.full((64, 64), np.inf, np.float32))
    with pytest.raises(ImageReadError, match=r"a0\.tif has no finite pixel"):
        loaded(data)


def test_a_stack_is_refused(data) -> None:
    stack = np.zeros((3, 64, 64), np.uint16)
    tifffile.imwrite(image_of(data, 0), stack, imagej=True, metadata={"axes": "TYX"})
    with pytest.raises(InputError, match="holds 3 planes") as caught:
        loaded(data)
    # Pages without an axis name are taken for planes.
    assert "if they are channels" in caught.value.hint


def stacked(data: Path, name: str, *numbers: int) -> None:
    """Make one stack over time of these images and one of their labels."""
    for side, path in (("images", image_of), ("labels", label_of)):
        pixels = np.stack([tifffile.imread(path(data, k)) for k in numbers])
        for k in numbers:
            path(data, k).unlink()
        how = {"ome": True, "metadata": {"axes": "TYX"}, "photometric": "minisblack"}
        tifffile.imwrite(data / side / f"{name}.ome.tif", pixels, **how)


def test_a_stack_with_a_stack_of_labels_is_an_image_a_plane(data) -> None:
    expected = {k: tifffile.imread(image_of(data, k)) for k in (1, 3)}
    drawn = {k: tifffile.imread(label_of(data, k)) for k in (1, 3)}
    stacked(data, "movie", 1, 3)
    found = {s.name: s for s in loaded(data).samples}
    assert sorted(found) == ["a0", "a2", "movie_t0", "movie_t1"]
    for name, number in (("movie_t0", 1), ("movie_t1", 3)):
        np.testing.assert_array_equal(found[name].image[0], expected[number])
        np.testing.assert_array_equal(found[name].labels, drawn[number])
        assert found[name].origin.endswith("movie.ome.tif")


def test_planes_of_the_only_stack_on_both_sides_are_told(data) -> None:
    stacked(data, "movie", 0, 1, 2, 3)
    told = loaded(data, config=SplitConfig(folds=2)).notes
    assert any("Planes of one stack, or crops" in note for note in told)


def cropped(path: Path, field: str, mean: float = 4, planes: int = 1) -> None:
    """Make an image a crop of a field."""
    looks = Statistics(low=0, high=9, mean=mean, std=2, noise=1, count=9, foreground=7)
    channel = CropChannel(channel="", statistics=looks, negative=looks)
    cut = CropMetadata(
        image=field,
        plane=0,
        y=0,
        x=0,
        percentiles=(3, 99.8),
        channels=(channel,),
        planes=planes,
    )
    write_crop(path, tifffile.imread(path), cut, None)


def test_crops_of_one_field_stay_on_one_side_and_are_told_if_they_cannot(data) -> None:
    for number, field in enumerate("baba"):
        cropped(image_of(data, number), f"{field}.tif")
    half = SplitConfig(validation_fraction=0.5)
    found = loaded(data, config=half)
    sides = {s.origin for s in found.training}, {s.origin for s in found.validation}
    assert all(len(side) == 1 for side in sides)
    assert sides[0] != sides[1]
    assert not any("crops of one image" in note for note in found.notes)
    for number in range(4):
        cropped(image_of(data, number), "a.tif")
    assert any("crops of one image" in note for note in loaded(data).notes)


@pytest.mark.parametrize("second", ["aabb", "bbaa", "ccbb", "aacc"])
def test_crops_of_one_field_in_two_folders_are_on_one_side(
    write_data, tmp_path, second: str
) -> None:
    folders = []
    for seed, fields in ((0, "aabb"), (4, second)):
        folders.append(write_data(tmp_path / fields / str(seed), 4, first_seed=seed))
        for number, field in enumerate(fields):
            cropped(image_of(folders[-1], number), f"{field}.tif")
    found = loaded(*folders)
    assert len(found.training) + len(found.validation) == 8
    training, validation = (
        {s.origin for s in side} for side in (found.training, found.validation)
    )
    assert training.isdisjoint(validation)


@pytest.mark.parametrize(("planes", "fields"), [(1, 2), (4, 1)])
def test_crops_of_images_of_one_name_are_told_apart_unless_planes_of_a_stack(
    data, planes: int, fields: int
) -> None:
    for number in range(4):
        cropped(image_of(data, number), "A01.tif", mean=number % 2, planes=planes)
    found = loaded(data)
    assert len({s.origin for s in (*found.training, *found.validation)}) == fields


def test_the_planes_of_a_stack_that_count_can_be_named(data) -> None:
    stacked(data, "movie", 0, 1, 2, 3)
    found = loaded(data, planes="0-3:2")
    assert sorted(s.name for s in found.samples) == ["movie_t0", "movie_t2"]


def test_what_there_is_to_say_of_drawings_is_said_once_for_all_images(data) -> None:
    def square(low, high):
        ring = [[low, low], [high, low], [high, high], [low, high]]
        return {"type": "Polygon", "coordinates": [ring]}

    for k in range(4):
        cell = {
            "type": "Feature",
            "geometry": square(5, 30),
            "nucleusGeometry": square(10, 20 + k),
            "properties": {"objectType": "cell"},
        }
        label_of(data, k).with_suffix(".geojson").write_text(json.dumps([cell]))
        label_of(data, k).unlink()
    found = loaded(data)
    told = [note for note in found.notes if "QuPath's cells" in note]
    assert len(told) == 1
    assert told[0].startswith("a")
    assert "and 1 more: QuPath's cells are read by their nuclei" in told[0]
    assert all(s.kind == "geojson" for s in found.samples)
    assert {np.count_nonzero(s.labels) for s in found.samples} == {100, 121, 144, 169}


def test_a_color_image_trains_by_a_channel_or_gray(data, rng) -> None:
    rgb = rng.integers(0, 255, (64, 64, 3), np.uint8)
    tifffile.imwrite(image_of(data, 0), rgb, photometric="rgb")
    pair = Pair(image_of(data, 0), label_of(data, 0), "a0")
    with pytest.raises(ImageReadError):
        read_sample(pair, ChannelChoice())
    green = read_sample(pair, ChannelChoice(channel="green"))
    np.testing.assert_array_equal(green.image, rgb[None, ..., 1])
    assert read_sample(pair, ChannelChoice(gray=True)).image.shape == (1, 64, 64)


def test_the_same_image_on_both_sides_is_refused(data) -> None:
    for number in range(1, 4):
        image_of(data, number).write_bytes(image_of(data, 0).read_bytes())
    with pytest.raises(InputError, match="same image is in training and validation"):
        loaded(data)


def test_no_object_at_all_is_refused(data) -> None:
    for number in range(4):
        tifffile.imwrite(label_of(data, number), np.zeros((64, 64), np.uint16))
    with pytest.raises(InputError, match="None of the 2 training images"):
        loaded(data)


def test_images_of_several_folders_bear_their_names(tmp_path, write_data) -> None:
    first = write_data(tmp_path / "one", 2)
    second = write_data(tmp_path / "two", 2, first_seed=20)
    found = loaded(first, second)
    names = {*found.training_prints, *found.validation_prints}
    assert names == {"one/a0", "one/a1", "two/a0", "two/a1"}


def test_folders_of_one_name_are_told_apart_by_their_path(tmp_path, write_data) -> None:
    first = write_data(tmp_path / "one" / "data", 2)
    second = write_data(tmp_path / "two" / "data", 2, first_seed=20)
    found = loaded(first, second)
    names = {*found.training_prints, *found.validation_prints}
    assert names == {"one/data/a0", "one/data/a1", "two/data/a0", "two/data/a1"}


def test_a_folder_named_twice_is_refused(data) -> None:
    with pytest.raises(InputError, match="named twice"):
        loaded(data, data / ".." / data.name)


def test_a_validation_folder_leaves_all_others_to_training(data, write_data) -> None:
    other = write_data(data.parent / "other", 2, first_seed=20)
    (other / "images" / "notes.pdf").touch()
    found = loaded(data, validation=other)
    assert len(found.training) == 4
    # As cellunet check names them; those of the other side have the same names.
    assert list(found.validation_prints) == ["val/a0", "val/a1"]
    assert any("pdf" in note for note in found.notes)


def test_images_of_both_sides_are_checked_where_their_names_are_the_same(
    data, write_data
) -> None:
    other = write_data(data.parent / "other", 4, first_seed=20)
    for folder in (data, other):
        tifffile.imwrite(image_of(folder, 0), np.full((64, 64), 7, np.uint16))
        labels = tifffile.imread(label_of(folder, 1))
        tifffile.imwrite(image_of(folder, 1), (labels == 0).astype(np.uint16) * 900)
    tifffile.imwrite(image_of(other, 0), np.full((64, 64), 8, np.uint16))
    found = loaded(data, validation=other)
    assert len(found.training_prints | found.validation_prints) == 8
    notes = " ".join(training_notes(found, start="nuclei", target="three-class"))
    assert "single value: 2 of 8 (a0, val/a0)" in notes
    assert "In 2 of 6 images objects are darker than their background" in notes
    assert "(a1, val/a1)" in notes


def test_objects_of_a_folder_are_read_as_labels(tmp_path) -> None:
    masks = tmp_path / "masks"
    masks.mkdir()
    for number, column in enumerate((1, 5)):
        drawn = np.zeros((8, 8), np.uint8)
        drawn[2:4, column : column + 2] = 255
        tifffile.imwrite(masks / f"{number}.tif", drawn)
    labels = read_annotated(Pair(tmp_path / "x.tif", masks, "x")).labels
    assert np.bincount(labels.ravel()).tolist() == [56, 4, 4]


def test_diameters_are_those_of_circles_of_the_same_area() -> None:
    labels = np.zeros((10, 30), np.int32)
    # 5, 25 and 45 pixels.
    labels[0, :5], labels[2:7, :5], labels[:9, 10:15] = 1, 2, 7
    sample = sample_of(labels)
    low, middle, high = object_diameters_px([sample, sample])
    assert middle == pytest.approx(2 * np.sqrt(25 / np.pi))
    assert 2 * np.sqrt(5 / np.pi) <= low < middle < high <= 2 * np.sqrt(45 / np.pi)


def test_reading_labels_needs_no_torch() -> None:
    code = (
        "import sys, cellunet.tasks.evaluate, cellunet.tasks.models\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_parts_hold_all_that_counts_once_with_their_surroundings():
    counted = np.zeros((3000, 2500), bool)
    counted[1500:1564, 1000:1100] = True
    counted[2990:, 2400:] = True
    boxes = annotated_boxes(counted)
    assert len(boxes) == 2
    (rows, columns), own = boxes[0]
    # Whole blocks of 64 px with 256 px around them.
    assert (rows.start, rows.stop) == (1472 - MARGIN_PX, 1600 + MARGIN_PX)
    assert (columns.start, columns.stop) == (960 - MARGIN_PX, 1152 + MARGIN_PX)
    assert own.sum() == 64 * 100
    (rows, columns), own = boxes[1]
    assert (rows.stop, columns.stop) == (3000, 2500)
    assert own.sum() == 10 * 100


def test_parts_whose_surroundings_meet_are_one():
    counted = np.zeros((400, 4000), bool)
    counted[100, 1000] = counted[100, 1500] = True
    assert len(annotated_boxes(counted)) == 1
    counted[100, 1500], counted[100, 1700] = False, True
    assert len(annotated_boxes(counted)) == 2


def test_no_pixel_counts_in_two_parts(rng):
    counted = np.zeros((3000, 3000), bool)
    # An angle around a dot: the angle's box holds the dot.
    counted[0, :2600] = counted[:2600, 0] = True
    counted[1500, 1500] = True
    boxes = annotated_boxes(counted)
    assert len(boxes) == 2
    assert sum(int(own.sum()) for _, own in boxes) == counted.sum()
    again = np.zeros_like(counted)
    for view, own in boxes:
        assert not (again[view] & own).any()
        again[view] |= own
    np.testing.assert_array_equal(again, counted)


@pytest.fixture
def field(nuclei_image):
    """A field of 1,400 x 1,200 px, bright beyond a small annotated part."""
    image, labels = nuclei_image((1400, 1200), 30, 1)
    image[:, 900:] += 3000
    annotated = np.zeros(labels.shape, bool)
    annotated[40:104, 60:130] = True
    return sample_of(labels, image, name="field", annotated=annotated)


@pytest.mark.slow
def test_a_part_is_prepared_like_its_place_in_the_whole(field, tmp_path):
    tifffile.imwrite(tmp_path / "field.tif", field.image[0])
    (part,) = cut(field, measured_in(tmp_path / "field.tif", ChannelChoice()))
    assert part.name == "field"
    assert part.image.base is None
    assert part.image.shape == (1, 128 + MARGIN_PX, 192 + MARGIN_PX)
    assert part.annotated.sum() == field.annotated.sum()
    config = TrainConfig()
    whole, small = prepare(field, config), prepare(part, config)
    view = np.s_[: part.labels.shape[0], : part.labels.shape[1]]
    np.testing.assert_array_equal(small.crop.image, whole.crop.image[:, *view])
    np.testing.assert_array_equal(small.weight_map, whole.weight_map[view])
    # By its own statistics it would look otherwise: brighter.
    alone = prepare(replace(part, measured=None), config)
    assert np.abs(alone.crop.image - small.crop.image).max() > 0.1


@pytest.mark.slow
def test_a_part_of_a_crop_is_scaled_as_the_field_that_the_crop_was_cut_from(field):
    channel = field.image[:1] * 2
    statistics = measure_channels(lambda: [channel], NormalizationConfig())
    crop = replace(field, measured=lambda config: statistics)
    (part,) = cut(crop, NEVER)
    assert part.statistics_for(NormalizationConfig()) == statistics


@pytest.mark.slow
def test_what_a_model_knows_of_its_images_is_of_their_whole_field(
    field, tmp_path, tiny_model
):
    tifffile.imwrite(tmp_path / "field.tif", field.image[0])
    (part,) = cut(field, measured_in(tmp_path / "field.tif", ChannelChoice()))
    recipe = settings_for(
        store.find_model(str(tiny_model.folder)), PredictConfig(), "torch", "cpu", 1
    )
    whole, kept, alone = (
        training_statistics([sample], recipe)
        for sample in (field, part, replace(part, measured=None))
    )
    assert kept["contrast"] == whole["contrast"]
    assert alone["contrast"] != whole["contrast"]


@pytest.mark.parametrize(("asked", "numbers"), [("1", (1,)), ("1,0", (1, 0))])
def test_channels_are_measured_over_the_whole_file_in_their_order(
    tmp_path, rng, asked, numbers
):
    image = rng.integers(0, 900, (2, 1100, 40)).astype(np.uint16)
    image[1] *= 3
    tifffile.imwrite(tmp_path / "a.tif", image, metadata={"axes": "CYX"}, ome=True)
    config = NormalizationConfig()
    found = measured_in(tmp_path / "a.tif", ChannelChoice(channel=asked))(config)
    assert found == measure_channels(lambda: [image[list(numbers)]], config)
    assert rescale_intensity(image[1, :5], found[0], config).max() <= 1.01


@pytest.mark.slow
def test_what_is_mostly_annotated_stays_whole(field):
    everything = replace(field, annotated=np.ones_like(field.annotated))
    assert cut(everything, NEVER) == [everything]
    half = field.annotated.copy()
    half[:, :800] = True
    half = replace(field, annotated=half)
    assert cut(half, NEVER) == [half]


@pytest.mark.slow
def test_boxes_in_a_field_become_parts_under_the_field_s_fingerprint(tmp_path, field):
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    boxes = [(40, 40, 100, 100), (1000, 1200, 1100, 1290)]
    for name in ("a", "b"):
        image = field.image[0] + (name == "b")
        tifffile.imwrite(tmp_path / "images" / f"{name}.tif", image)
        features = [_box(box, "Region*") for box in boxes]
        features.append(_box((50, 50, 66, 66), None))
        path = tmp_path / "labels" / f"{name}.geojson"
        path.write_text(json.dumps(features))
    data = loaded(tmp_path)
    (name,) = {s.name[0] for s in data.training}
    names = [f"{name} (1 of 2)", f"{name} (2 of 2)"]
    assert [s.name for s in data.training] == names
    image = tifffile.imread(tmp_path / "images" / f"{name}.tif")
    prints = {fingerprint(image[np.newaxis])}
    assert set(data.training_prints.values()) == prints
    assert list(data.training_prints) == names
    assert data.notes[-1].startswith("Large images: 2; of them annotated parts with")
    assert "on average less than 1%" in data.notes[-2]


def test_a_share_that_rounds_to_all_is_not_called_all():
    image = ReadImage(
        parts=(), reduced=False, print_="", annotated_share=0.999, scribbled_px=(0, 0)
    )
    (note,) = partly_annotated([image])
    assert "(on average more than 99%)" in note


@pytest.mark.slow
def test_a_box_without_an_object_is_refused(tmp_path, field):
    for side in ("images", "labels"):
        (tmp_path / side).mkdir()
    tifffile.imwrite(tmp_path / "images" / "a.tif", field.image[0])
    path = tmp_path / "labels" / "a.geojson"
    path.write_text(json.dumps([_box((40, 40, 100, 100), "Region*")]))
    with pytest.raises(InputError, match="a, the only training image, has no object"):
        loaded(tmp_path, config=SplitConfig(folds=2))


def _box(box, name):
    x0, y0, x1, y1 = box
    ring = [[x0, y0], [x1, y0], [x1, y1], [x0, y1], [x0, y0]]
    return {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": {"classification": {"name": name}} if name else {},
    }


@pytest.mark.parametrize(
    ("kind", "folders", "names"),
    [
        (PureWindowsPath, (r"C:\data", r"D:\data"), ["C/data", "D/data"]),
        (PureWindowsPath, ("C:\\", "D:\\"), ["C", "D"]),
        (
            PureWindowsPath,
            (r"\\lab\share\a", r"\\home\share\a"),
            ["lab/share/a", "home/share/a"],
        ),
        (PureWindowsPath, (r"C:\x\a", r"C:\x\b"), ["a", "b"]),
        (PurePosixPath, ("/a", "/b/a"), ["a", "b/a"]),
    ],
)
def test_folders_are_told_apart_by_their_last_parts_and_drives(
    kind, folders, names
) -> None:
    assert distinct_names([kind(folder) for folder in folders]) == names
    # None begins at the root of a drive, wherever it is put.
    assert not any(kind(f"{name}/x").anchor for name in names)
