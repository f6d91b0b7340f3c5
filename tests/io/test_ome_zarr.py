"""OME-Zarr: what is read of stores as other programs write them, and what refused."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest

from cellunet.errors import ConfigError, ImageReadError
from cellunet.io.images import names_of_images, open_image
from cellunet.io.ome_zarr import image_path
from cellunet.io.source import Region

zarr = pytest.importorskip("zarr", "3")

from numcodecs import Blosc
from zarr.codecs import BloscCodec, ZstdCodec

from tests.io.zarr_stores import write_store

UM = {"y": "micrometer", "x": "micrometer"}


def ramp(*shape: int) -> np.ndarray:
    """Return pixels of which each has a value of its own."""
    return np.arange(1, np.prod(shape) + 1, dtype=np.uint16).reshape(shape)


def whole(path: Path, plane: int = 0, **options) -> np.ndarray:
    """Return a plane of an image, CYX."""
    with open_image(path, **options) as source:
        return source.read(Region(plane, 0, source.shape[0], 0, source.shape[1]))


@pytest.mark.parametrize(
    ("version", "options"),
    [
        ("0.4", {"chunks": (16, 16)}),
        ("0.4", {"chunks": (16, 16), "compressors": Blosc(cname="lz4")}),
        ("0.5", {"chunks": (16, 16), "compressors": BloscCodec(cname="zstd")}),
        ("0.5", {"chunks": (16, 16), "compressors": ZstdCodec()}),
        ("0.5", {"chunks": (16, 16), "compressors": None}),
        ("0.5", {"chunks": (8, 8), "shards": (32, 16)}),
    ],
)
def test_both_formats_are_read_in_any_compression_sharded_or_not(
    tmp_path, version, options
) -> None:
    pixels = ramp(45, 61)
    path = write_store(tmp_path / "a.zarr", pixels, version=version, **options)
    assert (whole(path)[0] == pixels).all()
    with open_image(path) as source:
        part = source.read(Region(0, 7, 40, 3, 59))
    assert (part[0] == pixels[7:40, 3:59]).all()


@pytest.mark.parametrize("axes", ["tczyx", "xyzct", "zcxty", "cyxtz"])
def test_axes_are_read_in_any_order(tmp_path, axes) -> None:
    pixels = ramp(2, 3, 4, 5, 6)
    stored = np.moveaxis(pixels, range(5), [axes.index(a) for a in "tczyx"])
    path = write_store(tmp_path / "a.zarr", stored, axes, chunks=(2,) * 5)
    with open_image(path, channel="1") as source:
        assert (source.plane_axes, source.plane_shape) == ("TZ", (2, 4))
        assert source.shape == (5, 6)
        for plane in range(8):
            read = source.read(Region(plane, 0, 5, 0, 6))[0]
            assert (read == pixels[plane // 4, 1, plane % 4]).all()


def test_further_axes_are_read_if_they_are_of_length_one(tmp_path) -> None:
    pixels = ramp(1, 3, 1, 8, 9)
    path = write_store(tmp_path / "a.zarr", pixels, "azbyx")
    with open_image(path) as source:
        assert (source.plane_axes, source.plane_shape) == ("Z", (3,))
        assert (source.read(Region(1, 0, 8, 0, 9))[0] == pixels[0, 1, 0]).all()
    several = write_store(tmp_path / "b.zarr", pixels, "bayxz")
    with pytest.raises(ImageReadError, match=r"not understood \(b, a, y, x, z\)"):
        open_image(several)


def test_channels_are_known_by_the_names_that_omero_gives_them(tmp_path) -> None:
    pixels = ramp(2, 8, 9)
    path = write_store(tmp_path / "a.zarr", pixels, "cyx", channels=("DAPI", "GFP"))
    assert (whole(path, channel="gfp")[0] == pixels[1]).all()
    assert (whole(path, channel="GFP,DAPI") == pixels[::-1]).all()
    with pytest.raises(ImageReadError, match=r"2 channels \(DAPI, GFP\)"):
        open_image(path)


def test_a_level_has_its_own_pixels_and_pixel_size(tmp_path) -> None:
    pixels = ramp(40, 60)
    path = write_store(
        tmp_path / "a.zarr", pixels, levels=3, scale={"y": 250, "x": 500},
        units={"y": "nanometer", "x": "nanometer"},
    )  # fmt: skip
    with open_image(path) as source:
        assert source.pixel_size_um == (0.25, 0.5)
    with open_image(path, level=2) as source:
        assert (source.shape, source.pixel_size_um) == ((10, 15), (1.0, 2.0))
        assert source.origin.full_px == (4, 4)
    assert (whole(path, level=2)[0] == pixels[::4, ::4]).all()
    with pytest.raises(ImageReadError, match="no level 3; it has 3 levels"):
        open_image(path, level=3)


def test_scales_of_all_levels_together_multiply_with_those_of_each(tmp_path) -> None:
    path = write_store(
        tmp_path / "a.zarr", ramp(8, 8), scale={"y": 2, "x": 2}, units=UM
    )
    document = json.loads((path / "zarr.json").read_text())
    multiscale = document["attributes"]["ome"]["multiscales"][0]
    steps = [{"type": "scale", "scale": [0.25, 0.5]}]
    multiscale["coordinateTransformations"] = steps
    (path / "zarr.json").write_text(json.dumps(document))
    with open_image(path) as source:
        assert source.pixel_size_um == (0.5, 1.0)


@pytest.mark.parametrize("unit", ["um", "µm", "\u03bcm", "micron"])
def test_symbols_of_units_are_understood(tmp_path, unit) -> None:
    path = write_store(
        tmp_path / "a.zarr", ramp(8, 8), scale={"y": 0.5, "x": 0.5},
        units=dict.fromkeys("yx", unit),
    )  # fmt: skip
    with open_image(path) as source:
        assert source.pixel_size_um == (0.5, 0.5)


def test_a_scale_without_a_unit_is_no_pixel_size(tmp_path) -> None:
    path = write_store(tmp_path / "a.zarr", ramp(8, 8), scale={"y": 0.5, "x": 0.5})
    with open_image(path) as source:
        assert source.pixel_size_um is None


def test_steps_along_z_and_t_are_in_micrometers_and_seconds(tmp_path) -> None:
    path = write_store(
        tmp_path / "a.zarr", ramp(2, 3, 4, 4), "tzyx", scale={"t": 250, "z": 1.5},
        units={"t": "millisecond", "z": "micrometer"},
    )  # fmt: skip
    with open_image(path) as source:
        assert (source.time_step_s, source.z_step_um) == (0.25, 1.5)


def test_a_chunk_that_is_not_there_is_one_of_the_fill_value(tmp_path) -> None:
    pixels = ramp(32, 32)
    path = write_store(tmp_path / "a.zarr", pixels, chunks=(16, 16), fill_value=7)
    (path / "s0" / "c" / "1" / "0").unlink()
    read = whole(path)[0]
    assert (read[16:, :16] == 7).all()
    assert (read[:, 16:] == pixels[:, 16:]).all()


@pytest.mark.parametrize("shards", [None, (32, 32)])
def test_a_damaged_chunk_is_named_by_its_place(tmp_path, shards) -> None:
    pixels = ramp(64, 64)
    options = {} if shards is None else {"shards": shards}
    path = write_store(tmp_path / "a.zarr", pixels, chunks=(16, 16), **options)
    file = path / "s0" / "c" / ("2" if shards is None else "1") / "0"
    file.write_bytes(file.read_bytes()[: 40 if shards is None else 200])
    with pytest.raises(ImageReadError, match=r"chunk at x 0 to 15, y 32 to 47"):
        whole(path)
    with open_image(path, keep_going=True) as source:
        read = source.read(Region(0, 0, 64, 0, 64))[0]
        lost = source.damaged
    assert {(d.y0, d.x0) for d in lost} >= {(32, 0)}
    for damage in lost:
        assert not read[damage.y0 : damage.y1, damage.x0 : damage.x1].any()
    assert (read[:32] == pixels[:32]).all()
    assert (read[:, 32:] == pixels[:, 32:]).all()


def test_a_want_of_memory_is_no_damage(tmp_path, monkeypatch) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    path = write_store(tmp_path / "a.zarr", ramp(64, 64), chunks=(16, 16))
    with open_image(path, keep_going=True) as source:
        monkeypatch.setattr(source, "_part", fail)
        with pytest.raises(ImageReadError, match="does not fit into memory"):
            source.read(Region(0, 0, 64, 0, 64))
        assert source.damaged == ()


def test_maximum_over_z_and_numbers_of_the_other_byte_order(tmp_path) -> None:
    pixels = np.random.default_rng(0).integers(0, 999, (3, 20, 30)).astype(">u2")
    path = write_store(tmp_path / "a.zarr", pixels, "zyx", version="0.4")
    assert (whole(path, z="max")[0] == pixels.max(axis=0)).all()
    with open_image(path) as source:
        assert source.dtype == np.dtype("=u2")


def test_a_source_travels_to_another_process(tmp_path) -> None:
    pixels = ramp(20, 30)
    path = write_store(tmp_path / "a.zarr", pixels)
    with open_image(path) as source:
        again = pickle.loads(pickle.dumps(source))
    assert (again.read(Region(0, 0, 20, 0, 30))[0] == pixels).all()


def test_where_it_travels_to_no_row_is_read_beyond_the_block(tmp_path) -> None:
    path = write_store(tmp_path / "a.zarr", ramp(64, 400), chunks=(16, 16))
    with open_image(path) as source:
        again = pickle.loads(pickle.dumps(source))
        # Whole rows are kept here: 64 and as many more of 400 pixels.
        assert source.held_bytes(64) - again.held_bytes(64) == 64 * 400 * 2


def test_series_of_a_converter_are_images_of_one_file(tmp_path) -> None:
    root = zarr.create_group(tmp_path / "a.zarr", zarr_format=2)
    root.update_attributes({"bioformats2raw.layout": 3})
    for number in range(2):
        write_store(
            tmp_path / "a.zarr" / str(number), ramp(8, 8 + number), version="0.4"
        )
    assert names_of_images(tmp_path / "a.zarr") == ["0", "1"]
    assert whole(tmp_path / "a.zarr", image="1").shape == (1, 8, 9)
    with open_image(tmp_path / "a.zarr") as source:
        assert "other images too (1)" in source.origin.notes[0]
    with pytest.raises(ImageReadError, match=r"no image '2'; it holds 0 0, 1 1\."):
        open_image(tmp_path / "a.zarr", image="2")


def broken(path: Path, change) -> Path:
    """Change the attributes of a store."""
    document = json.loads((path / "zarr.json").read_text())
    change(document["attributes"]["ome"])
    (path / "zarr.json").write_text(json.dumps(document))
    return path


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda ome: ome.update(version="0.9"), "are of version 0.9; cellunet reads"),
        (lambda ome: ome.pop("multiscales"), "hold no image"),
        (lambda ome: ome["multiscales"][0].pop("datasets"), "have no datasets"),
        (lambda ome: ome["multiscales"][0].pop("axes"), r"not understood \(none\)"),
        (
            lambda ome: ome["multiscales"][0]["datasets"][0].update(path="9"),
            "name an array '9' that is not there",
        ),
        (
            lambda ome: ome["multiscales"][0]["axes"].append(
                {"name": "z", "type": "space"}
            ),
            "scale that does not fit its 3 axes",
        ),
    ],
)  # fmt: skip
def test_metadata_that_are_wrong_are_told_in_one_line(tmp_path, change, told) -> None:
    path = broken(write_store(tmp_path / "a.zarr", ramp(8, 8)), change)
    with pytest.raises(ImageReadError, match=told) as caught:
        open_image(path)
    assert "a.zarr" in str(caught.value)
    assert "\n" not in str(caught.value)


def ill(ome: dict) -> None:
    del ome["multiscales"]
    ome["well"] = {}


@pytest.mark.parametrize(
    "change",
    [
        ill,
        lambda ome: ome["multiscales"][0]["datasets"][0]["coordinateTransformations"][
            0
        ].update(scale=["a", 1]),
    ],
)
def test_metadata_of_other_types_are_told_as_damage(tmp_path, change) -> None:
    path = broken(write_store(tmp_path / "a.zarr", ramp(8, 8)), change)
    with pytest.raises(ImageReadError, match=r"OME-Zarr is damaged or incomplete \("):
        open_image(path)


def test_metadata_that_are_cut_off_are_told_as_damage(tmp_path) -> None:
    path = write_store(tmp_path / "a.zarr", ramp(8, 8))
    (path / "zarr.json").write_text((path / "zarr.json").read_text()[:-20])
    with pytest.raises(ImageReadError, match="damaged or incomplete") as caught:
        open_image(path)
    assert caught.value.hint == "Copy the whole folder again, or export it again."


def test_channels_that_are_null_are_none(tmp_path) -> None:
    path = write_store(tmp_path / "a.zarr", ramp(8, 8), channels=("DAPI",))
    path = broken(path, lambda ome: ome["omero"].update(channels=None))
    assert whole(path).shape == (1, 8, 8)


def test_what_is_no_store_is_told(tmp_path) -> None:
    (tmp_path / "a.zarr").mkdir()
    with pytest.raises(ImageReadError, match="is no Zarr group"):
        open_image(tmp_path / "a.zarr")
    with pytest.raises(ImageReadError, match="does not exist"):
        open_image(tmp_path / "b.zarr")
    shutil.rmtree(tmp_path / "a.zarr")
    zarr.create_array(tmp_path / "a.zarr", shape=(4, 4), dtype="u1")
    with pytest.raises(ImageReadError, match=r"a\.zarr .* damaged or incomplete"):
        open_image(tmp_path / "a.zarr")


def test_without_zarr_the_line_that_installs_it_is_told(tmp_path, monkeypatch) -> None:
    path = write_store(tmp_path / "a.zarr", ramp(8, 8))
    monkeypatch.setitem(__import__("sys").modules, "zarr", None)
    with pytest.raises(ConfigError, match=r'pip install "cellunet-torch\[zarr\]"'):
        open_image(path)


def plate_of_one_field(root: Path) -> Path:
    group = zarr.create_group(root, zarr_format=3)
    group.update_attributes(
        {"ome": {"version": "0.5", "plate": {"wells": [{"path": "A/1"}]}}}
    )
    well = group.require_group("A/1")
    well.update_attributes({"ome": {"well": {"images": [{"path": "0"}]}}})
    write_store(root / "A" / "1" / "0", ramp(20, 30))
    return root


@pytest.mark.parametrize("name", ["A/1/0", "/A/1/0", "A/1/0/", "A//1/0"])
def test_a_field_has_one_name_however_it_is_asked_for(tmp_path, name) -> None:
    path = plate_of_one_field(tmp_path / "p.zarr")
    with open_image(path, image=name) as source:
        assert source.origin.image == "A/1/0"
    assert image_path(path, name) == "A/1/0"


def test_an_array_of_a_plate_is_no_image(tmp_path) -> None:
    path = plate_of_one_field(tmp_path / "p.zarr")
    with pytest.raises(ImageReadError, match=r"no image 'A/1/0/0'; it holds .*A/1/0"):
        open_image(path, image="A/1/0/0")
