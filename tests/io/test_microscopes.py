"""The files of microscopes' programs: pixels, axes, names and sizes as written."""

from __future__ import annotations

import dataclasses
import importlib
import os
import pickle
import sys
import tracemalloc
from pathlib import Path
from types import SimpleNamespace

import imagecodecs
import numpy as np
import pytest

from cellunet.command_config import PredictConfig
from cellunet.errors import ConfigError, ImageReadError
from cellunet.io import microscopes, nikon, olympus
from cellunet.io.axes import AS_GRAY
from cellunet.io.images import names_of_images, open_image
from cellunet.io.paths import way_out
from cellunet.io.scenes import Scene, SceneSource, scenes_of
from cellunet.io.source import PlaneChoice, Region
from cellunet.tasks.measure import measure
from cellunet.tasks.predict.batch import predict
from tests.io.microscope_files import (
    write_deltavision,
    write_imaris,
    write_lif,
    write_mrc,
    write_nd2,
    write_oif,
)
from tests.io.pixels import whole

STACK = np.random.default_rng(5).integers(0, 4000, (2, 2, 3, 21, 34), np.uint16)
"""TCZYX."""


def write_czi(path: Path, scenes: int = 1, *, options: str | None = None) -> Path:
    """Write `STACK`, in each scene plus its number, 0.25 by 0.5 µm, Z 2 µm."""
    czi = pytest.importorskip("pylibCZIrw.czi")
    with czi.create_czi(str(path), compression_options=options) as file:
        for scene in range(scenes):
            for t, c, z in np.ndindex(STACK.shape[:3]):
                file.write(
                    STACK[t, c, z][..., np.newaxis] + np.uint16(scene),
                    plane={"T": t, "C": c, "Z": z},
                    scene=scene,
                    location=(scene * 100 - 7, 30),
                )
        file.write_metadata(
            "a",
            channel_names={0: "DAPI", 1: "GFP"},
            scale_x=5e-7,
            scale_y=2.5e-7,
            scale_z=2e-6,
        )
    return path


def make(name: str, folder: Path) -> Path:
    """Write a small file of the kind that its name says."""
    path = folder / name
    if path.suffix == ".nd2":
        return write_nd2(path)
    if path.suffix == ".czi":
        return write_czi(path)
    if path.suffix == ".lif":
        return write_lif(path, {"Series001": STACK})
    if path.suffix == ".ims":
        return write_imaris(path, STACK, ("DAPI", "GFP"))
    if path.suffix == ".oif":
        return write_oif(path, STACK[0])
    if path.suffix == ".mrc":
        return write_mrc(path, STACK[0, 0].astype(np.float32))
    # Waves count fastest: ZCYX.
    planes = STACK[0].swapaxes(0, 1).reshape(-1, *STACK.shape[-2:])
    return write_deltavision(path, planes, waves=2)


EVERY = ("a.nd2", "a.lif", "a.czi", "a.ims", "a.oif", "a.dv", "a.r3d", "a.mrc")

SAID = {
    "a.lif": (("Blue", "Green"), (0.2, 0.1), 0.5, 3.0),
    "a.czi": (("DAPI", "GFP"), (0.25, 0.5), 2.0, None),
    "a.ims": (("DAPI", "GFP"), (0.1, 0.05), 0.2, None),
    "a.oif": (("DAPI", "Alexa Fluor 488"), (0.5, 0.25), 1.0, None),
    "a.dv": (("0", "1"), (0.5, 0.25), 2.0, None),
}
"""Names of channels, size of a pixel, µm along Z and seconds along T, as written."""


@pytest.mark.parametrize("name", SAID)
def test_pixels_and_metadata_are_those_that_were_written(tmp_path, name):
    names, size, z_step, time_step = SAID[name]
    stack = STACK if name in ("a.lif", "a.czi", "a.ims") else STACK[:1]
    with open_image(make(name, tmp_path), channel="1,0") as source:
        assert source.file_channels == names
        assert source.channel_names == names[::-1]
        assert source.pixel_size_um == pytest.approx(size)
        assert source.z_step_um == pytest.approx(z_step)
        assert source.time_step_s == (time_step and pytest.approx(time_step))
        assert source.origin.pixel_size_from
        shape = (2, 3) if len(stack) == 2 else (3,)
        assert source.plane_axes == "TZ"[-len(shape) :]
        assert source.plane_shape == shape
        for plane, at in enumerate(np.ndindex(shape)):
            t, z = (*at,) if len(at) == 2 else (0, *at)
            read = source.read(Region(plane, 3, 20, 5, 31))
            np.testing.assert_array_equal(read, stack[t, ::-1, z, 3:20, 5:31])


def test_nikons_own_file_is_read_with_names_and_sizes(tmp_path):
    path = write_nd2(tmp_path / "a.nd2")
    with open_image(path, channel="fm 4-64/2% chaps") as source:
        assert source.file_channels == ("5-FAM/pH 9.0", "FM 4-64/2% CHAPS")
        assert (source.plane_axes, source.plane_shape) == ("TZ", (3, 10))
        assert source.pixel_size_um == pytest.approx((0.16781, 0.16781), rel=1e-4)
        assert source.z_step_um == 0.5
        assert source.origin.acquired == "18/06/2014  15:55:27"
        # Values as Bio-Formats 7.3.1 has them.
        assert source.read(Region(14, 0, 31, 0, 38)).sum() == 129_772
        read = source.read(Region(14, 7, 9, 30, 33))
    with open_image(path, channel="1", z="max") as source:
        assert (source.plane_axes, source.plane_shape) == ("T", (3,))
        assert (source.read(Region(1, 7, 9, 30, 33)) >= read).all()


def test_mrc_is_read_in_ångström_from_behind_its_extended_header(tmp_path):
    with open_image(make("a.mrc", tmp_path)) as source:
        assert source.plane_axes == "Z"
        assert source.pixel_size_um == pytest.approx((5e-4, 5e-4))
        read = source.read(Region(2, 0, 21, 0, 34))[0]
    np.testing.assert_array_equal(read, STACK[0, 0, 2].astype(np.float32))


@pytest.mark.parametrize("order", ["<", ">"])
def test_deltavision_of_either_byte_order_is_read(tmp_path, order):
    path = make("a.dv", tmp_path)
    content = path.read_bytes()
    if order == ">":
        head = np.frombuffer(content[:96], "<i4").astype(">i4").tobytes()
        rest = np.frombuffer(content[96:], "<i2").astype(">i2").tobytes()
        path.write_bytes(head + rest)
    with open_image(path, channel="1") as source:
        np.testing.assert_array_equal(
            source.read(Region(1, 0, 21, 0, 34))[0], STACK[0, 1, 1]
        )
        assert source.dtype == np.dtype("=u2")


@pytest.mark.parametrize("name", EVERY)
def test_a_source_is_small_to_pickle_and_reads_on_after_it_was_closed(tmp_path, name):
    path = make(name, tmp_path)
    channel = None if name == "a.mrc" else "0"
    with open_image(path, channel=channel) as source:
        expected = source.read(Region(1, 0, 4, 0, 5))
        source.close()
        copy = pickle.loads(pickle.dumps(source))
        np.testing.assert_array_equal(source.read(Region(1, 0, 4, 0, 5)), expected)
    with copy:
        np.testing.assert_array_equal(copy.read(Region(1, 0, 4, 0, 5)), expected)


@pytest.mark.parametrize("name", ["a.lif", "a.dv"])
def test_a_region_of_a_large_plane_takes_little_memory(tmp_path, name):
    side = 9000
    large = np.broadcast_to(np.uint16(7), (side, side))
    path = tmp_path / name
    if name == "a.lif":
        write_lif(path, {"large": np.ascontiguousarray(large)})
    else:
        write_deltavision(path, large[np.newaxis], waves=1)
    with open_image(path) as source:
        tracemalloc.start()
        read = source.read(Region(0, 4000, 4100, 4000, 4100))
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert (read == 7).all()
    assert most < 2**21
    assert source.held_bytes(100) < 2**22


@pytest.mark.parametrize("name", EVERY)
def test_what_is_cut_off_is_refused_in_one_line(tmp_path, name):
    path = make(name, tmp_path)
    if name == "a.oif":
        plane = path.with_name("a.oif.files") / "s_C001Z001.tif"
        plane.write_bytes(plane.read_bytes()[:-500])
    else:
        path.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 5])
    channel = None if name == "a.mrc" else "0"
    with (
        pytest.raises(ImageReadError, match=rf"{path.stem}\.") as caught,
        open_image(path, channel=channel) as source,
    ):
        whole(source)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", [n for n in EVERY if n not in ("a.oif", "a.mrc")])
def test_another_kind_of_file_under_the_suffix_is_named(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(imagecodecs.png_encode(np.zeros((9, 9), np.uint8)))
    with pytest.raises(ImageReadError, match=r"its content is PNG.*\.png"):
        open_image(path)


@pytest.mark.parametrize("name", ["a.oif", "a.mrc"])
def test_what_no_first_bytes_tell_is_refused_where_it_is_read(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(b"just some text" * 100)
    with pytest.raises(ImageReadError, match=r"cannot be read; it is damaged"):
        open_image(path)


@pytest.mark.parametrize("name", ["a.nd2", "a.lif", "a.czi", "a.ims", "a.oif"])
def test_a_missing_library_is_told_with_what_installs_it(tmp_path, monkeypatch, name):
    path = make(name, tmp_path)
    monkeypatch.setattr(microscopes.importlib.util, "find_spec", lambda _: None)
    library = microscopes.MAKERS[path.suffix].library
    with pytest.raises(ImageReadError) as caught:
        open_image(path)
    assert str(caught.value) == (
        f"{path} is read with the library {library}, which is not installed. "
        'Try: pip install "cellunet-torch[formats]".'
    )


@pytest.mark.parametrize("maker", microscopes.MAKERS.values(), ids=microscopes.MAKERS)
def test_what_opens_a_file_is_found_where_the_table_says(maker):
    module, _, name = maker.opener.partition(".")
    opener = getattr(importlib.import_module(f"cellunet.io.{module}"), name)
    assert callable(opener.close)


def test_a_library_that_needs_a_newer_python_is_told_with_it():
    assert microscopes.what_to_install(".oir").endswith(", with Python 3.12 or newer")
    assert "Python" not in microscopes.what_to_install(".nd2")
    install = 'pip install "cellunet-torch[formats]"'
    assert way_out([".oir", ".nd2"]) == (
        f"To read .nd2: {install}. To read .oir: {install}, with Python 3.12 or newer."
    )


def test_a_plane_that_the_file_lacks_is_damage(tmp_path):
    czi = pytest.importorskip("pylibCZIrw.czi")
    path = tmp_path / "a.czi"
    with czi.create_czi(str(path)) as file:
        for t, z in ((0, 0), (0, 1), (1, 0)):
            file.write(STACK[t, 0, z][..., np.newaxis], plane={"T": t, "Z": z})
    with open_image(path) as source:
        assert source.plane_shape == (2, 2)
        with pytest.raises(ImageReadError, match="T 1 Z 1 C 0 is not in the file"):
            source.read(Region(3, 0, 21, 0, 34))
    with open_image(path, keep_going=True) as source:
        assert not source.read(Region(3, 0, 21, 0, 34)).any()
        assert source.read(Region(2, 0, 21, 0, 34)).any()
        (lost,) = source.damaged
    assert lost.plane == 3


def test_frames_that_nikons_file_lacks_are_damage(tmp_path, monkeypatch):
    nd2 = pytest.importorskip("nd2")
    path = write_nd2(tmp_path / "a.nd2")
    found = nd2.ND2File.read_frame
    monkeypatch.setattr(
        nd2.ND2File,
        "read_frame",
        lambda file, k: np.zeros((2, 31, 38), "u2") if k == 4 else found(file, k),
    )
    with open_image(path, channel="0") as source:
        source.read(Region(3, 0, 31, 0, 38))
        with pytest.raises(ImageReadError, match="T 0 Z 4 C 0 is not in the file"):
            source.read(Region(4, 0, 31, 0, 38))


def test_frames_that_nikons_library_decoded_are_read(tmp_path, monkeypatch):
    nd2 = pytest.importorskip("nd2")
    path = write_nd2(tmp_path / "a.nd2")
    with open_image(path, channel="0") as source:
        expected = source.read(Region(3, 0, 31, 0, 38))
    found = nd2.ND2File.read_frame
    # JPEG 2000 of old files comes as an array of its own, no view of the file.
    monkeypatch.setattr(
        nd2.ND2File, "read_frame", lambda file, k: found(file, k).copy()
    )
    with open_image(path, channel="0") as source:
        np.testing.assert_array_equal(source.read(Region(3, 0, 31, 0, 38)), expected)


def test_a_file_without_an_image_is_told(tmp_path):
    czi = pytest.importorskip("pylibCZIrw.czi")
    with czi.create_czi(str(tmp_path / "a.czi")):
        pass
    write_lif(tmp_path / "a.lif", {})
    for name in ("a.czi", "a.lif"):
        with pytest.raises(ImageReadError, match=rf"{name} holds no image"):
            open_image(tmp_path / name)


def test_channels_of_8_and_16_bits_keep_their_values(tmp_path):
    czi = pytest.importorskip("pylibCZIrw.czi")
    path = tmp_path / "a.czi"
    first = STACK[0, 0, 0].astype(np.uint8)
    with czi.create_czi(str(path)) as file:
        file.write(first[..., np.newaxis], plane={"C": 0})
        file.write(STACK[0, 1, 0][..., np.newaxis], plane={"C": 1})
    with open_image(path, channel="0,1") as source:
        read = source.read(Region(0, 0, 21, 0, 34))
    np.testing.assert_array_equal(read, np.stack([first, STACK[0, 1, 0]]))


def test_a_compressed_color_czi_and_tiles_with_a_gap_are_read(tmp_path):
    czi = pytest.importorskip("pylibCZIrw.czi")
    color = np.zeros((21, 34, 3), np.uint8)
    # Blue comes first.
    color[...] = 3, 2, 1
    path = tmp_path / "color.czi"
    with czi.create_czi(str(path), compression_options="zstd0:ExplicitLevel=1") as file:
        file.write(color)
    with open_image(path, channel="red") as source:
        assert (source.read(Region(0, 0, 5, 0, 5)) == 1).all()
    with pytest.raises(ImageReadError, match="it is in color"):
        open_image(path)
    path = tmp_path / "tiles.czi"
    with czi.create_czi(str(path)) as file:
        for x, y in ((0, 0), (34, 0), (0, 21)):
            file.write(STACK[0, 0, 0][..., np.newaxis], location=(x, y))
    with open_image(path) as source:
        assert source.shape == (42, 68)
        read = source.read(Region(0, 0, 42, 0, 68))[0]
        assert not source.read(Region(0, 25, 40, 40, 60)).any()
    np.testing.assert_array_equal(read[21:, :34], STACK[0, 0, 0])
    assert not read[21:, 34:].any()


def test_a_gray_image_saved_as_color_is_told(tmp_path):
    czi = pytest.importorskip("pylibCZIrw.czi")
    gray = STACK[0, 0, 0].astype(np.uint8)
    with czi.create_czi(str(tmp_path / "a.czi")) as file:
        file.write(np.repeat(gray[..., np.newaxis], 3, axis=2))
    with open_image(tmp_path / "a.czi") as source:
        assert source.origin.notes == (AS_GRAY,)
        read = source.read(Region(0, 0, 21, 0, 34))[0]
    np.testing.assert_allclose(read, gray, rtol=1e-6)


def test_levels_of_imaris_are_read_with_their_pixel_size(tmp_path):
    path = write_imaris(tmp_path / "a.ims", STACK, ("DAPI", "GFP"), levels=3)
    with open_image(path, channel="1", level=1) as source:
        assert source.shape == (11, 17)
        assert source.pixel_size_um == pytest.approx((0.2, 0.1))
        assert source.origin.full_px == (2, 2)
        assert source.origin.notes[0].startswith("level 1: a pixel of labels")
        read = source.read(Region(4, 2, 11, 3, 17))[0]
    # Plane 4 is T 1, Z 1.
    np.testing.assert_array_equal(read, STACK[1, 1, 1, ::2, ::2][2:11, 3:17])
    again = pickle.loads(pickle.dumps(source))
    np.testing.assert_array_equal(whole(again, 4)[2:11, 3:17], read)
    with pytest.raises(ImageReadError, match=r"no level 3; it has 3 levels: 0 \(21 x"):
        open_image(path, channel="1", level=3)


def test_measure_knows_of_which_level_of_imaris_labels_are(tmp_path, tiny_model):
    path = write_imaris(tmp_path / "a.ims", STACK, ("DAPI", "GFP"), levels=2)
    config = PredictConfig(channel="0", z="max", level=1)
    model = str(tiny_model.folder)
    predict([str(path)], tmp_path / "out", model=model, config=config)
    own = PredictConfig(z="max", save=("table",))
    out = str(tmp_path / "out")
    (image,) = measure(out, [str(path)], tmp_path / "m", config=own).images
    assert image.message == ""


SCENES = {"Series001": STACK[:, :, :, :16, :20], "Series 2/b": STACK}


@pytest.fixture
def scenes(tmp_path) -> Path:
    return write_lif(tmp_path / "a.lif", SCENES)


def test_the_largest_scene_is_read_and_others_by_number_or_name(scenes):
    assert names_of_images(scenes) == list(SCENES)
    with open_image(scenes, channel="0") as source:
        assert source.shape == (21, 34)
        assert source.origin.position == "Series 2/b"
        assert "the others: 0 Series001 (20 x 16 px)" in source.origin.notes[0]
    for wanted in ("0", "series001"):
        with open_image(scenes, channel="0", image=wanted) as source:
            assert source.shape == (16, 20)
            assert source.origin.notes == ()


def test_a_file_is_opened_to_list_its_scenes_and_then_once_for_each(
    tmp_path, monkeypatch
):
    leica = pytest.importorskip("cellunet.io.leica")
    opened = []

    class Counted(leica.Lif):
        def __init__(self, path: Path) -> None:
            opened.append(path)
            super().__init__(path)

    monkeypatch.setattr(leica, "Lif", Counted)
    path = write_lif(tmp_path / "a.lif", SCENES)
    for number in range(len(names_of_images(path))):
        with open_image(path, channel="0", image=str(number)) as source:
            source.read(Region(0, 0, 16, 0, 20))
            source.read(Region(1, 0, 16, 0, 20))
    assert len(opened) == 1 + len(SCENES)
    write_lif(path, {"other": STACK})
    assert names_of_images(path) == ["other"]


@pytest.mark.parametrize("level", [0, 1])
def test_imaris_is_opened_as_seldom(level, tmp_path, monkeypatch):
    imaris = pytest.importorskip("cellunet.io.imaris")
    opened = []

    class Counted(imaris.Imaris):
        def __init__(self, path: Path, level: int = 0) -> None:
            opened.append(level)
            super().__init__(path, level)

    monkeypatch.setattr(imaris, "Imaris", Counted)
    path = write_imaris(tmp_path / "a.ims", STACK, ("DAPI", "GFP"), levels=2)
    names_of_images(path)
    for channel in ("0", "1"):
        with open_image(path, channel=channel, level=level) as source:
            source.read(Region(0, 0, 5, 0, 5))
    # To list its images, the level that is read, and both channels.
    assert opened == [*range(level + 1), level, level]


def test_a_file_that_changed_unseen_is_read_when_run_again(tmp_path):
    path = write_lif(tmp_path / "a.lif", SCENES)
    names_of_images(path)
    before, other = path.stat(), "Series001".encode("utf-16-le")
    with path.open("r+b") as file:
        changed = file.read().replace(other, "Series007".encode("utf-16-le"))
        file.seek(0)
        file.write(changed)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    with (
        pytest.raises(ImageReadError, match="has changed since it was opened"),
        open_image(path, channel="0", image="0") as source,
    ):
        whole(source)
    assert names_of_images(path)[0] == "Series007"


def test_of_many_files_each_is_opened_once_to_list_its_scenes(tmp_path):
    opened = []

    class Container:
        scenes = (Scene(axes="YX", shape=(5, 6), dtype=np.dtype(np.uint8)),)

        def __init__(self, path: Path) -> None:
            opened.append(path)

        def close(self) -> None:
            pass

    paths = [tmp_path / str(number) for number in range(400)]
    for path in paths:
        path.touch()
    for path in paths * 2:
        scenes_of(path, Container)
    assert opened == paths


def test_an_empty_scene_is_refused(tmp_path):
    scene = Scene(name="none", axes="YX", shape=(0, 0), dtype=np.dtype(np.uint8))

    class Empty:
        scenes = (scene, dataclasses.replace(scene, shape=(5, 6)))

        def __init__(self, path: Path) -> None:
            pass

        def close(self) -> None:
            pass

    path = tmp_path / "a"
    path.touch()
    with pytest.raises(ImageReadError, match="a: it has no pixels"):
        SceneSource(path, PlaneChoice(image="0"), Empty, "")
    assert SceneSource(path, PlaneChoice(), Empty, "").shape == (5, 6)


def test_a_scene_that_is_not_there_is_refused_with_those_that_are(scenes):
    with pytest.raises(ImageReadError, match=r"no image 'c'; it holds 0 Series001"):
        open_image(scenes, channel="0", image="c")


def test_a_scan_without_rows_is_refused_and_others_are_read(tmp_path):
    path = write_lif(tmp_path / "a.lif", {"xy": STACK[0, 0, 0], "xz": STACK[0, 0, 1]})
    content = path.read_bytes()
    before, _, after = content.rpartition('DimID="2"'.encode("utf-16-le"))
    path.write_bytes(before + 'DimID="3"'.encode("utf-16-le") + after)
    with open_image(path) as source:
        assert source.origin.position == "xy"
    with pytest.raises(ImageReadError, match="its image xz is a scan along zx"):
        open_image(path, image="xz")


def test_each_scene_of_czi_lies_where_it_was_written(tmp_path):
    path = write_czi(tmp_path / "a.czi", 2)
    for scene in range(2):
        with open_image(path, channel="0", image=str(scene)) as source:
            assert source.shape == (21, 34)
            read = source.read(Region(0, 0, 21, 0, 34))[0]
        np.testing.assert_array_equal(read, STACK[0, 0, 0] + scene)


def test_positions_of_nikons_file_are_scenes(tmp_path, monkeypatch):
    nd2 = pytest.importorskip("nd2")
    path = write_nd2(tmp_path / "a.nd2")
    with open_image(path, channel="0", image=None) as source:
        second = source.read(Region(10, 0, 31, 0, 38))
    points = [
        nd2.structures.Position((0.0, 0.0, 0.0), None, name) for name in ("A", "B", "")
    ]
    loop = nd2.structures.XYPosLoop(
        3, 0, nd2.structures.XYPosLoopParams(isSettingZ=False, points=points)
    )
    with nd2.ND2File(path) as file:
        z_loop = file.experiment[1]
    monkeypatch.setattr(nd2.ND2File, "experiment", [loop, z_loop])
    path = write_nd2(tmp_path / "positions.nd2")
    assert names_of_images(path) == ["A", "B", ""]
    with open_image(path, channel="0", image="b") as source:
        assert (source.plane_axes, source.plane_shape) == ("Z", (10,))
        np.testing.assert_array_equal(source.read(Region(0, 0, 31, 0, 38)), second)
    monkeypatch.setattr(nd2.ND2File, "is_legacy", True)
    container = nikon.Nd2(path)
    container.close()
    # A frame, which is decoded whole, holds both channels.
    assert [s.whole_bytes for s in container.scenes] == [2 * 31 * 38 * 2] * 3


def test_a_file_of_olympus_that_is_not_understood_is_closed(tmp_path, monkeypatch):
    closed = []

    class OirFile:
        def __init__(self, path):
            self.path = path

        def close(self):
            closed.append(self.path)

        @property
        def sizes(self):
            raise ValueError("no sizes")

    monkeypatch.setitem(sys.modules, "oirfile", SimpleNamespace(OirFile=OirFile))
    with pytest.raises(ValueError, match="no sizes"):
        olympus.Oir(tmp_path / "a.oir")
    assert closed == [tmp_path / "a.oir"]


def test_each_scene_gets_a_result_of_its_own_that_measure_knows(scenes, tiny_model):
    out, model = scenes.parent / "out", str(tiny_model.folder)
    config = PredictConfig(channel="green", z="max", save=("table",))
    found = predict([str(scenes)], out, model=model, config=config)
    labels = [Path(i.output or "") for i in found.images]
    assert [p.name for p in labels] == ["a_0_Series001.tif", "a_1_Series-2-b.tif"]
    again = predict([str(scenes)], out, model=model, config=config)
    assert [(i.status, i.image) for i in again.images] == [
        ("skipped", "0"),
        ("skipped", "1"),
    ]
    wrong = predict(
        [str(scenes)], out / "w", model=model, config=config.replace(channel="red")
    )
    assert [i.image for i in wrong.failed] == ["0", "1"]
    assert [(i.image, i.position) for i in found.images] == [
        ("0", "Series001"),
        ("1", "Series 2/b"),
    ]
    one = config.replace(image="1")
    (image,) = predict([str(scenes)], out / "1", model=model, config=one).images
    assert image.shape == (2, 21, 34)
    own = PredictConfig(z="max", save=("table",))
    measured = measure(str(out), [str(scenes)], scenes.parent / "m", config=own)
    assert [i.message for i in measured.images] == ["", "", ""]
    assert all(i.images == (str(scenes),) for i in measured.images)


def test_microscopes_files_of_further_channels_are_measured(tmp_path, tiny_model):
    options = {"model": str(tiny_model.folder)}
    config = PredictConfig(segment_channel="w1", z="max", save=("table",))
    for number in (1, 2):
        write_mrc(tmp_path / f"s1_w{number}.mrc", STACK[0, 0].astype(np.float32))
    found = predict([str(tmp_path)], tmp_path / "out", config=config, **options)
    assert [i.status for i in found.images] == ["done"]
    head = (tmp_path / "out" / "table.csv").read_text("utf-8").partition("\n")[0]
    assert "intensity_mean_w1" in head
    assert "intensity_mean_w2" in head
    for number in (1, 2):
        write_lif(tmp_path / f"s2_w{number}.lif", SCENES)
    with pytest.raises(ConfigError, match=r"s2_w1\.lif holds 2 images"):
        predict([str(tmp_path)], tmp_path / "out", config=config, **options)


def test_the_batch_goes_on_behind_files_that_cannot_be_read(tmp_path, tiny_model):
    path = write_deltavision(tmp_path / "a.dv", STACK[0, 0], waves=1)
    (tmp_path / "broken.nd2").write_bytes(path.read_bytes())
    found = predict(
        [str(tmp_path)],
        tmp_path / "out",
        model=str(tiny_model.folder),
        config=PredictConfig(),
    )
    assert [i.status for i in found.images] == ["done", "failed"]
    assert "its content is DeltaVision. Rename it to .dv." in found.images[1].message


def test_where_no_level_is_read_the_message_says_so(tmp_path):
    with pytest.raises(ImageReadError, match="no smaller level is read, only full"):
        open_image(make("a.dv", tmp_path), channel="0", level=1)
