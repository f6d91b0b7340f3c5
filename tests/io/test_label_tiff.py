"""Label images and crops: complete or absent, and with what they remember."""

from __future__ import annotations

import tempfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from cellunet.errors import ConfigError, OutputError
from cellunet.io import label_tiff
from cellunet.io.images import create_labels, open_image
from cellunet.io.label_tiff import (
    ImageSpec,
    read_provenance,
)
from cellunet.io.source import Region


def create(path, labels, axes="", size=None, provenance=None, **steps):
    spec = ImageSpec(
        shape=labels.shape[-2:],
        plane_axes=axes,
        plane_shape=labels.shape[:-2],
        dtype=labels.dtype,
        pixel_size_um=size,
        provenance=provenance,
        **steps,
    )
    return create_labels(path, spec)


def save(path, labels, axes="", band=100, **options):
    with create(path, labels, axes, **options) as target:
        for plane, rows in enumerate(labels.reshape(-1, *labels.shape[-2:])):
            for y in range(0, len(rows), band):
                target.write(plane, y, rows[y : y + band])
        target.commit()
    return path


@settings(max_examples=40)
@given(
    st.sampled_from(["", "T", "Z", "TZ", "ZT"]),
    st.tuples(st.integers(1, 300), st.integers(1, 300)),
    st.sampled_from([np.uint16, np.uint32]),
    st.integers(1, 400),
)
def test_labels_come_back_whatever_the_bands(axes, shape, dtype, band):
    planes = (2, 3)[: len(axes)]
    labels = (
        np.arange(np.prod((*planes, *shape))).astype(dtype).reshape(*planes, *shape)
    )
    with tempfile.TemporaryDirectory() as folder:
        path = save(Path(folder) / "a.tif", labels, axes, band)
        np.testing.assert_array_equal(
            tifffile.imread(path, squeeze=False).reshape(labels.shape), labels
        )
        with open_image(path) as source:
            assert (source.plane_axes, source.plane_shape) == (axes, planes)
            assert (source.shape, source.dtype) == (shape, dtype)
            found = source.read(Region(0, 0, shape[0], 0, shape[1]))[0]
        np.testing.assert_array_equal(found, labels.reshape(-1, *shape)[0])


@pytest.mark.parametrize("shape", [(2, 5, 1), (3, 1, 1), (2, 1, 5)])
def test_stacks_of_narrow_planes_keep_their_shape(tmp_path, shape):
    labels = np.arange(np.prod(shape), dtype=np.uint16).reshape(shape)
    path = save(tmp_path / "a.tif", labels, "T")
    with open_image(path) as source:
        for plane in range(shape[0]):
            found = source.read(Region(plane, 0, shape[1], 0, shape[2]))[0]
            np.testing.assert_array_equal(found, labels[plane])


@pytest.mark.parametrize("name", ["ü b.tif", "nuclei 😀.ome.tif", "a.TIFF", "b.btf"])
@pytest.mark.parametrize("shape", [(1, 1), (15, 4000)])
def test_names_and_shapes_of_all_kinds(tmp_path, name, shape):
    labels = np.arange(shape[0] * shape[1], dtype=np.uint16).reshape(shape)
    path = save(tmp_path / name, labels)
    np.testing.assert_array_equal(tifffile.imread(path).reshape(shape), labels)


def test_the_same_labels_give_the_same_bytes(tmp_path):
    labels = np.arange(600 * 300, dtype=np.uint32).reshape(600, 300)
    options = {"size": (0.65, 0.325), "provenance": {"model": "nuclei"}}
    first = save(tmp_path / "a.tif", labels, band=7, **options).read_bytes()
    assert save(tmp_path / "b.tif", labels, band=600, **options).read_bytes() == first


def test_the_file_is_a_deflated_ome_tiff_in_strips_with_its_pixel_size(tmp_path):
    labels = np.zeros((3, 300, 520), np.uint16)
    path = save(tmp_path / "a.tif", labels, "Z", size=(0.5, 0.25), z_step_um=2.0)
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages.first
        assert tiff.series[0].kind == "ome"
        assert tiff.series[0].axes == "ZYX"
        # 252 rows of 520 pixels of two bytes fit into 256 KiB.
        assert (page.is_tiled, page.rowsperstrip) == (False, 252)
        assert page.compression.name == "ADOBE_DEFLATE"
        # 10,000 micrometers in a centimeter.
        assert page.get_resolution("CENTIMETER") == pytest.approx((40_000, 20_000))
        pixels = tifffile.xml2dict(tiff.ome_metadata)["OME"]["Image"]["Pixels"]
        assert (pixels["PhysicalSizeX"], pixels["PhysicalSizeY"]) == (0.25, 0.5)
        assert pixels["PhysicalSizeZ"] == 2.0
        # No unit: micrometers are the schema's default, and no reader trips over "µ".
        assert not {"PhysicalSizeXUnit", "TimeIncrement"} & set(pixels)
        assert (pixels["SizeZ"], pixels["SizeT"], pixels["SizeC"]) == (3, 1, 1)
        assert tiff.ome_metadata.isascii()
    with open_image(path) as source:
        assert source.pixel_size_um == (0.5, 0.25)
        assert (source.z_step_um, source.time_step_s) == (2.0, None)


def test_provenance_comes_back_as_it_was(tmp_path):
    given_ = {
        "model": "nuclei <&\"' µ 😀",
        "path": "a\x01b\udcff]]>",
        "settings": {"scale": 1.5, "steps": [1, 2], "none": None, "yes": True},
    }
    path = save(tmp_path / "a.tif", np.ones((3, 4), np.uint16), provenance=given_)
    assert read_provenance(path) == given_


def test_provenance_that_is_no_json_is_a_bug_and_leaves_nothing(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        create(tmp_path / "a.tif", np.ones((3, 4), np.uint16), provenance={"x": np.nan})
    assert not list(tmp_path.iterdir())


def test_a_large_plane_is_cut_into_tiles(tmp_path, monkeypatch):
    monkeypatch.setattr(label_tiff, "STRIPS_PIXELS", 300 * 520 - 1)
    labels = np.arange(300 * 520, dtype=np.uint32).reshape(300, 520)
    path = save(tmp_path / "a.tif", labels, band=7)
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages.first
        assert (page.tilelength, page.tilewidth) == (256, 256)
        np.testing.assert_array_equal(tiff.asarray(), labels)


def test_a_large_file_becomes_bigtiff(tmp_path, monkeypatch):
    labels = np.ones((3, 4), np.uint16)
    path = save(tmp_path / "a.tif", labels)
    with tifffile.TiffFile(path) as tiff:
        assert not tiff.is_bigtiff
    monkeypatch.setattr(label_tiff, "CLASSIC_BYTES", path.stat().st_size - 1)
    with tifffile.TiffFile(save(path, labels)) as tiff:
        assert tiff.is_bigtiff


@settings(max_examples=20, deadline=None)
@given(cuts=st.sets(st.integers(1, 599)), width=st.sampled_from([1, 30, 300]))
def test_channels_that_grow_in_turn_come_back(cuts, width):
    pixels = np.random.default_rng(0).random((2, 3, 600, width)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.tif"
        with label_tiff.TiffSink(path, channels_of(pixels)) as target:
            for plane in range(2):
                for y0, y1 in pairwise([0, *sorted(cuts), 600]):
                    for channel in range(3):
                        rows = pixels[plane, channel, y0:y1]
                        target.write(3 * plane + channel, y0, rows)
            assert not path.exists()
            target.commit()
        with tifffile.TiffFile(path) as tiff:
            assert tiff.series[0].axes == "TCYX"
            np.testing.assert_array_equal(tiff.asarray(), pixels)
        with open_image(path, channel="edge") as source:
            assert source.time_step_s == 30.0
            found = source.read(Region(1, 0, 600, 0, width))[0]
        np.testing.assert_array_equal(found, pixels[1, 2])


def channels_of(pixels):
    return ImageSpec(
        name="probabilities",
        shape=pixels.shape[-2:],
        plane_axes="T",
        plane_shape=pixels.shape[:1],
        channels=("rest", "inside", "edge"),
        dtype=pixels.dtype,
        pixel_size_um=None,
        time_step_s=30.0,
    )


def test_of_each_page_that_grows_less_than_a_strip_is_held(tmp_path):
    pixels = np.zeros((1, 3, 4000, 64), np.float32)
    with label_tiff.TiffSink(tmp_path / "a.tif", channels_of(pixels)) as target:
        for y0 in range(0, 4000, 100):
            for channel in range(3):
                target.write(channel, y0, pixels[0, channel, y0 : y0 + 100])
            bands = [page.band for page in target._pages if page.band is not None]
            assert all(band.nbytes <= label_tiff.STRIP_BYTES for band in bands)
    assert not list(tmp_path.iterdir())


def test_strips_beyond_the_memory_limit_wait_on_the_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(label_tiff, "WAITING_BYTES", 10)
    labels = np.arange(600 * 40, dtype=np.uint32).reshape(600, 40)
    path = save(tmp_path / "a.tif", labels)
    np.testing.assert_array_equal(tifffile.imread(path), labels)
    assert [p.name for p in tmp_path.iterdir()] == ["a.tif"]


def test_a_file_appears_only_at_commit(tmp_path):
    path = tmp_path / "deep" / "a.tif"
    labels = np.ones((3, 4), np.uint16)
    with create(path, labels) as target:
        target.write(0, 0, labels)
        assert not path.exists()
        assert all(p.name.startswith(".") for p in path.parent.iterdir())
        assert all(p.suffix == ".partial" for p in path.parent.iterdir())
        target.commit()
        target.abort()
    assert [p.name for p in path.parent.iterdir()] == ["a.tif"]


def test_an_exception_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.tif"
    path.write_text("old")
    labels = np.ones((3, 4), np.uint16)

    def stop() -> None:
        with create(path, labels) as target:
            target.write(0, 0, labels)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop()
    assert path.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


def test_commit_replaces_an_old_file(tmp_path):
    path = tmp_path / "a.tif"
    path.write_text("old")
    save(path, np.full((3, 4), 7, np.uint16))
    assert (tifffile.imread(path) == 7).all()


@pytest.mark.parametrize(
    ("plane", "y0", "rows"),
    [
        (0, 1, np.ones((1, 4), np.uint16)),
        (1, 0, np.ones((1, 4), np.uint16)),
        (0, 0, np.ones((1, 5), np.uint16)),
        (0, 0, np.ones((4, 4), np.uint16)),
        (0, 0, np.ones((0, 4), np.uint16)),
        (0, 0, np.ones((1, 4), np.uint32)),
        (0, 0, np.ones(4, np.uint16)),
    ],
)
def test_rows_out_of_order_or_shape_are_a_bug(tmp_path, plane, y0, rows):
    target = create(tmp_path / "a.tif", np.ones((3, 4), np.uint16))
    with target, pytest.raises(ValueError, match="expected at"):
        target.write(plane, y0, rows)
    assert not list(tmp_path.iterdir())


def test_a_commit_before_the_last_row_is_a_bug(tmp_path):
    with create(tmp_path / "a.tif", np.ones((3, 4), np.uint16)) as target:
        target.write(0, 0, np.ones((2, 4), np.uint16))
        with pytest.raises(ValueError, match="2 rows"):
            target.commit()
    assert not list(tmp_path.iterdir())


def test_an_unknown_suffix_is_refused_with_the_known_ones(tmp_path):
    with pytest.raises(ConfigError, match=r"'\.jpg'.*\.tif"):
        create(tmp_path / "a.jpg", np.ones((3, 4), np.uint16))


def test_a_full_disk_names_the_folder_and_leaves_nothing(tmp_path, monkeypatch):
    def full(*_args, **_options):
        raise OSError(28, "No space left on device")

    path = tmp_path / "a.tif"
    labels = np.ones((3, 4), np.uint16)
    target = create(path, labels)
    target.write(0, 0, labels)
    monkeypatch.setattr(label_tiff.tifffile.TiffWriter, "write", full)
    with pytest.raises(OutputError, match=r"no room in .* MiB free.*Free space"):
        target.commit()
    assert not list(tmp_path.iterdir())


def test_a_folder_of_the_name_is_found_before_any_work(tmp_path):
    (tmp_path / "a.tif").mkdir()
    with pytest.raises(OutputError, match="a folder of that name exists"):
        create(tmp_path / "a.tif", np.ones((3, 4), np.uint16))
