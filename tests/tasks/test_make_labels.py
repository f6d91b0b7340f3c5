"""Annotations become the files a network is trained on, or a named failure."""

from __future__ import annotations

import json
import shutil

import imagecodecs
import numpy as np
import pytest
import tifffile

from cellunet.cli.app import main
from cellunet.command_config import AnnotationConfig
from cellunet.config import EncodingConfig, WeightConfig
from cellunet.errors import ConfigError, InputError, OutputError
from cellunet.imaging.targets import encode, weight_map
from cellunet.io.images import open_image
from cellunet.tasks.make_labels import FULL, make_labels

ENCODING = EncodingConfig()


@pytest.fixture
def pairs_dir(tmp_path, nuclei_image):
    """Two pairs of image and label image, with a space and an umlaut in a name."""
    for seed, name in enumerate(("a 1", "ü")):
        image, labels = nuclei_image((48, 40), 4, seed)
        for folder, pixels in (("images", image), ("labels", labels)):
            path = tmp_path / "annotated" / folder / f"{name}.tif"
            path.parent.mkdir(parents=True, exist_ok=True)
            tifffile.imwrite(path, pixels.astype(np.uint16))
    return tmp_path / "annotated"


def files(folder):
    return sorted(
        p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()
    )


def test_each_annotation_becomes_labels_classes_weights_and_a_preview(
    pairs_dir, tmp_path
):
    weights = WeightConfig()
    made = make_labels(pairs_dir, tmp_path / "out", encoding=ENCODING, weights=weights)
    assert files(tmp_path / "out") == sorted(
        f"{folder}/{name}"
        for folder, suffix in (
            ("labels", "tif"),
            ("classes", "tif"),
            ("weights", "tif"),
            ("previews", "png"),
        )
        for name in (f"a 1.{suffix}", f"ü.{suffix}")
    )
    assert made.failures == ()
    for one in made.images:
        drawn = tifffile.imread(pairs_dir / "labels" / f"{one.name}.tif")
        found = {
            folder: tifffile.imread(tmp_path / "out" / folder / f"{one.name}.tif")
            for folder in ("labels", "classes", "weights")
        }
        class_map = encode(drawn, ENCODING)
        np.testing.assert_array_equal(found["labels"], drawn)
        np.testing.assert_array_equal(found["classes"], class_map)
        np.testing.assert_array_equal(
            found["weights"], weight_map(drawn, class_map, weights)
        )
        types = [found[f].dtype for f in ("labels", "classes", "weights")]
        assert types == [np.uint16, np.uint8, np.float32]
        picture = (tmp_path / "out" / "previews" / f"{one.name}.png").read_bytes()
        shape = imagecodecs.png_decode(picture).shape
        # 48 x 40 enlarged 14 times, image and objects side by side.
        assert shape == (48 * 14, 2 * 40 * 14 + 6, 3)


def test_the_result_counts_what_was_made(tmp_path):
    drawn = np.zeros((5, 8), np.uint16)
    drawn[0, :2], drawn[2, :4], drawn[4] = 3, 70, 9
    tifffile.imwrite(tmp_path / "a.tif", drawn)
    made = make_labels(tmp_path / "a.tif", tmp_path / "out", encoding=ENCODING)
    (one,) = made.images
    assert (one.kind, one.objects, one.median_area_px) == ("labels", 3, 4.0)
    assert (one.height_px, one.width_px) == (5, 8)
    assert made.layout == "file"
    assert not (tmp_path / "out" / "weights").exists()
    document = json.loads(json.dumps(made.to_dict()))
    assert document["objects"] == 3
    assert document["images"][0]["name"] == "a"
    assert document["failures"] == []


def test_an_annotation_without_objects_has_no_median_area(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((5, 8), np.uint16))
    made = make_labels(tmp_path / "a.tif", tmp_path / "out", encoding=ENCODING)
    assert (made.images[0].objects, made.images[0].median_area_px) == (0, None)


def test_ids_past_65535_are_written_as_uint32(tmp_path):
    drawn = np.zeros((5, 8), np.uint32)
    drawn[2:4, 2:4] = 70_000
    tifffile.imwrite(tmp_path / "a.tif", drawn)
    make_labels(tmp_path / "a.tif", tmp_path / "out", encoding=ENCODING)
    written = tifffile.imread(tmp_path / "out" / "labels" / "a.tif")
    assert written.dtype == np.uint32
    np.testing.assert_array_equal(written, drawn)


def test_objects_drawn_one_by_one_are_put_together(tmp_path):
    for number, column in enumerate((1, 2, 6)):
        drawn = np.zeros((6, 9), np.uint8)
        drawn[1:5, column : column + 2] = 255
        folder = tmp_path / "stage1_train" / "n1"
        for sub, name in (("masks", f"{number}.png"), ("images", "n1.png")):
            (folder / sub).mkdir(parents=True, exist_ok=True)
            (folder / sub / name).write_bytes(imagecodecs.png_encode(drawn))
    made = make_labels(tmp_path / "stage1_train", tmp_path / "out", encoding=ENCODING)
    (one,) = made.images
    assert (made.layout, one.kind) == ("dsb2018", "objects")
    assert (one.objects, one.overlap_px, one.hidden) == (3, 4, 0)
    labels = tifffile.imread(tmp_path / "out" / "labels" / "n1.tif")
    np.testing.assert_array_equal(labels[2], [0, 1, 1, 2, 0, 0, 3, 3, 0])


def test_color_images_are_previewed(tmp_path):
    labels = np.zeros((30, 20), np.uint16)
    labels[2:9, 3:9] = 5
    image = np.repeat(labels[..., None].astype(np.uint8), 4, axis=2)
    for folder, pixels in (("images", image), ("masks", labels)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.png").write_bytes(imagecodecs.png_encode(pixels))
    made = make_labels(tmp_path, tmp_path / "out", encoding=ENCODING)
    assert made.failures == ()


def test_of_several_channels_the_first_is_previewed(pairs_dir, tmp_path, nuclei_image):
    image, _ = nuclei_image((48, 40), 4, 1)
    two = np.stack([image, np.zeros_like(image)])
    path = pairs_dir / "images" / "ü.tif"
    make_labels(pairs_dir, tmp_path / "one", encoding=ENCODING)
    tifffile.imwrite(path, two, imagej=True, metadata={"axes": "CYX"})
    made = make_labels(pairs_dir, tmp_path / "two", encoding=ENCODING)
    assert made.failures == ()
    one, two = ((tmp_path / n / "previews" / "ü.png") for n in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()


def test_the_pixel_size_of_the_image_goes_to_all_that_is_made(pairs_dir, tmp_path):
    path = pairs_dir / "images" / "ü.tif"
    metadata = {"axes": "YX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.25}
    tifffile.imwrite(path, tifffile.imread(path), ome=True, metadata=metadata)
    out = tmp_path / "out"
    make_labels(pairs_dir, out, encoding=ENCODING, weights=WeightConfig())
    for folder in ("labels", "classes", "weights"):
        with open_image(out / folder / "ü.tif") as source:
            assert source.pixel_size_um == (0.25, 0.5)


def test_a_bad_annotation_is_named_and_the_rest_goes_on(pairs_dir, tmp_path):
    tifffile.imwrite(pairs_dir / "labels" / "a 1.tif", np.full((48, 40), 0.5))
    out = tmp_path / "out"
    made = make_labels(pairs_dir, out, encoding=ENCODING)
    assert [one.name for one in made.images] == ["ü"]
    ((name, message),) = made.failures
    assert name == "a 1"
    assert "floating-point values" in message
    assert files(out) == ["classes/ü.tif", "labels/ü.tif", "previews/ü.png"]


def test_an_image_of_another_shape_is_a_failure_with_both_shapes(pairs_dir, tmp_path):
    tifffile.imwrite(pairs_dir / "images" / "ü.tif", np.zeros((40, 48), np.uint16))
    made = make_labels(pairs_dir, tmp_path / "out", encoding=ENCODING)
    ((name, message),) = made.failures
    assert name == "ü"
    assert "48 x 40" in message
    assert "40 x 48" in message


def test_an_unreadable_image_is_a_failure(pairs_dir, tmp_path):
    (pairs_dir / "images" / "ü.tif").write_bytes(b"")
    made = make_labels(pairs_dir, tmp_path / "out", encoding=ENCODING)
    ((_, message),) = made.failures
    assert "is empty" in message


def test_an_image_of_several_planes_is_a_failure(pairs_dir, tmp_path):
    stack = np.zeros((3, 48, 40), np.uint16)
    path = pairs_dir / "images" / "ü.tif"
    tifffile.imwrite(path, stack, imagej=True, metadata={"axes": "ZYX"})
    made = make_labels(pairs_dir, tmp_path / "out", encoding=ENCODING)
    ((_, message),) = made.failures
    assert "3 planes (Z)" in message


def test_existing_results_are_refused_before_any_work(pairs_dir, tmp_path):
    out = tmp_path / "out"
    make_labels(pairs_dir, out, encoding=ENCODING)
    before = {p: p.stat().st_mtime_ns for p in out.rglob("*.*")}
    with pytest.raises(InputError, match=r"exist already \(6\)") as caught:
        make_labels(pairs_dir, out, encoding=ENCODING)
    assert "--overwrite" in caught.value.hint
    assert {p: p.stat().st_mtime_ns for p in out.rglob("*.*")} == before
    made = make_labels(pairs_dir, out, encoding=ENCODING, overwrite=True)
    assert len(made.images) == 2


def test_no_weight_map_of_earlier_labels_stays(pairs_dir, tmp_path):
    out = tmp_path / "out"
    make_labels(pairs_dir, out, encoding=ENCODING, weights=WeightConfig())
    (out / "weights" / "of another image.tif").write_bytes(b"stays")
    make_labels(pairs_dir, out, encoding=ENCODING, overwrite=True)
    assert files(out / "weights") == ["of another image.tif"]
    # Nor does one without labels count as nothing.
    (out / "weights" / "ü.tif").write_bytes(b"of what?")
    for folder in ("labels", "classes", "previews"):
        shutil.rmtree(out / folder)
    with pytest.raises(InputError, match=r"exist already \(1\).*weights"):
        make_labels(pairs_dir, out, encoding=ENCODING)


def test_annotations_are_never_overwritten(pairs_dir):
    with pytest.raises(InputError, match="replace what they are made from"):
        make_labels(pairs_dir, pairs_dir, encoding=ENCODING, overwrite=True)


def test_weights_for_another_number_of_classes_are_refused(pairs_dir, tmp_path):
    two = WeightConfig(class_weights=(1.0, 3.0))
    with pytest.raises(ConfigError, match="2 class weights; target three-class has 3"):
        make_labels(pairs_dir, tmp_path / "out", encoding=ENCODING, weights=two)
    assert not (tmp_path / "out").exists()


def test_an_unknown_kind_is_refused(pairs_dir, tmp_path):
    with pytest.raises(ConfigError, match="Unknown kind of annotation 'mask'"):
        make_labels(
            pairs_dir,
            tmp_path / "out",
            encoding=ENCODING,
            annotations=AnnotationConfig(kind="mask"),
        )


def test_an_output_that_is_a_file_is_refused(pairs_dir, tmp_path):
    (tmp_path / "out").touch()
    with pytest.raises(OutputError, match="out"):
        make_labels(pairs_dir, tmp_path / "out", encoding=ENCODING)


def test_a_folder_named_like_a_result_is_a_failure(pairs_dir, tmp_path):
    (tmp_path / "out" / "classes" / "ü.tif").mkdir(parents=True)
    made = make_labels(pairs_dir, tmp_path / "out", encoding=ENCODING, overwrite=True)
    assert [name for name, _ in made.failures] == ["ü"]
    assert [one.name for one in made.images] == ["a 1"]


def test_progress_is_reported_per_annotation(pairs_dir, tmp_path):
    seen = []

    def track(items, label, total=None):
        for item in items:
            seen.append((item.name, label, total))
            yield item

    make_labels(pairs_dir, tmp_path / "out", encoding=ENCODING, track=track)
    assert seen == [("a 1", "Making labels", 2), ("ü", "Making labels", 2)]


@pytest.mark.data
def test_a_published_image_comes_out_whole(data_dir, tmp_path):
    name = "IXMtest_A02_s1_w1051DAA7C-7042-435F-99F0-1E847D9B42CB.png"
    source = data_dir / "bbbc039" / "masks" / name
    made = make_labels(source, tmp_path, encoding=ENCODING, weights=WeightConfig())
    assert (made.images[0].kind, made.images[0].objects) == ("colored", 110)


def test_files_are_the_same_for_any_threads(pairs_dir, tmp_path) -> None:
    made = {}
    for threads in (1, 3):
        out = tmp_path / str(threads)
        found = make_labels(pairs_dir, out, encoding=ENCODING, threads=threads)
        files = {p.relative_to(out): p.read_bytes() for p in out.rglob("*.*")}
        made[threads] = [image.name for image in found.images], files
    assert made[1] == made[3]


def test_labels_without_background_are_told(tmp_path):
    (tmp_path / "a").mkdir()
    pixels = np.ones((20, 20), np.uint8)
    pixels[4:8, 4:8] = 2
    tifffile.imwrite(tmp_path / "a/x.tif", pixels)
    made = make_labels(tmp_path / "a", tmp_path / "out", encoding=ENCODING)
    assert FULL in made.images[0].notes


def test_outlines_of_cells_are_read_where_they_are_asked_for_and_told_once(
    tmp_path, capsys
):
    def square(low, high):
        ring = [[low, low], [high, low], [high, high], [low, high], [low, low]]
        return {"type": "Polygon", "coordinates": [ring]}

    cell = {
        "type": "Feature",
        "geometry": square(2, 14),
        "nucleusGeometry": square(5, 9),
        "properties": {"objectType": "cell"},
    }
    for name in "ab":
        tifffile.imwrite(tmp_path / f"{name}.tif", np.zeros((20, 20), np.uint16))
        (tmp_path / f"{name}.geojson").write_text(json.dumps([cell]))
    for options, area in (([], 16), (["--cells"], 144)):
        words = ["make-labels", str(tmp_path), "--out", str(tmp_path / "out")]
        assert main([*words, "--overwrite", *options]) == 0
        labels = tifffile.imread(tmp_path / "out/labels/a.tif")
        assert np.count_nonzero(labels) == area
        told = capsys.readouterr().out
        assert told.count("QuPath's cells are read by their") == 1
        assert "a, b: QuPath's cells" in told
