"""Sizes, names, positions and times from where each maker's program keeps them."""

from __future__ import annotations

import json
import struct
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile

from cellunet.errors import ImageReadError
from cellunet.io import metadata
from cellunet.io.images import open_image
from cellunet.io.source import Region

PIXELS = np.arange(8 * 10, dtype=np.uint16).reshape(8, 10)
HARMONY = "r01c02f03p01-ch1sk1fk1fl1.tiff"
CONSTANT = (4294967295, 2770410)


def write(path, resolution=None, unit=None, **options):
    options.setdefault("metadata", None)
    if resolution is not None:
        options |= {"resolution": (resolution, resolution), "resolutionunit": unit}
    tifffile.imwrite(path, PIXELS, photometric="minisblack", **options)
    return path


def index(folder, image, channel="", name="Index.idx.xml", namespace="HarmonyV5"):
    text = (
        f'<EvaluationInputData xmlns="http://www.perkinelmer.com/PEHH/{namespace}">'
        f"<Maps><Map>{channel}</Map></Maps><Images><Image>{image}</Image></Images>"
        "</EvaluationInputData>"
    )
    (folder / name).write_text(text, encoding="utf-8-sig")


SIZES = "".join(
    f'<ImageResolution{axis} Unit="m">5.98e-07</ImageResolution{axis}>' for axis in "XY"
)
ENTRY = f"<URL>{HARMONY}</URL><Row>1</Row><Col>2</Col><FieldID>3</FieldID>"
NAMED = "<ChannelID>1</ChannelID><ChannelName>HOECHST</ChannelName>"


@pytest.fixture
def harmony(tmp_path):
    return write(tmp_path / HARMONY, CONSTANT, "CENTIMETER")


def test_the_size_of_a_harmony_image_is_that_of_its_index(tmp_path, harmony):
    index(tmp_path, ENTRY + NAMED + SIZES + "<AbsTime>2023-03-23T14:52</AbsTime>")
    with open_image(harmony) as source:
        assert source.pixel_size_um == pytest.approx((0.598, 0.598))
        assert source.channel_names == ("HOECHST",)
        origin = source.origin
    assert origin.pixel_size_from == "Index.idx.xml"
    assert origin.position == "row 1, column 2, field 3"
    assert origin.acquired == "2023-03-23T14:52"


def test_a_newer_index_keeps_the_size_with_the_channel(tmp_path, harmony):
    channel = f'<Entry ChannelID="1"><ChannelName>DAPI</ChannelName>{SIZES}</Entry>'
    image = f"{ENTRY}<ChannelID>1</ChannelID>"
    index(tmp_path, image, channel, "Index.xml", "HarmonyV6")
    with open_image(harmony) as source:
        assert source.pixel_size_um == pytest.approx((0.598, 0.598))
        assert source.channel_names == ("DAPI",)
        assert source.origin.pixel_size_from == "Index.xml"


@pytest.mark.parametrize("beside", ["nothing", "another image", "broken"])
def test_without_its_index_a_harmony_image_has_no_size(tmp_path, harmony, beside):
    if beside == "another image":
        index(tmp_path, f"<URL>r09c09.tiff</URL>{SIZES}")
    elif beside == "broken":
        (tmp_path / "Index.xml").write_text("<EvaluationInputData>", encoding="utf-8")
    with open_image(harmony) as source:
        assert source.pixel_size_um is None
        (note,) = source.origin.notes
    assert "no pixel size" in note
    assert "Index.idx.xml" in note


def test_the_constant_is_not_believed_under_another_name(tmp_path):
    with open_image(write(tmp_path / "a.tif", CONSTANT, "CENTIMETER")) as source:
        assert source.pixel_size_um is None


def metaseries(state):
    values = {
        "spatial-calibration-state": state,
        "spatial-calibration-x": "1.25",
        "spatial-calibration-y": "1.5",
        "spatial-calibration-units": "um",
        "image-name": "Copy of DAPI",
        "stage-label": "B02 : Site 1",
        "acquisition-time-local": "20240709 13:13:03",
        "_IllumSetting_": "DAPI",
    }
    props = "".join(f'<prop id="{k}" value="{v}"/>' for k, v in values.items())
    return f"<MetaData><PlaneInfo>{props}</PlaneInfo></MetaData>"


def imagexpress(path, state="on"):
    about = {"description": metaseries(state), "software": "MetaSeries"}
    return write(path, (25400, 1), "INCH", **about)


def test_an_imagexpress_image_has_the_size_of_its_xml(tmp_path):
    with open_image(imagexpress(tmp_path / "a.tif")) as source:
        assert source.pixel_size_um == (1.5, 1.25)
        assert source.channel_names == ("DAPI",)
        origin = source.origin
    assert origin.pixel_size_from == "the MetaSeries XML"
    assert (origin.position, origin.acquired) == ("B02 : Site 1", "20240709 13:13:03")


def test_an_imagexpress_image_without_calibration_has_no_size(tmp_path):
    with open_image(imagexpress(tmp_path / "a.tif", "off")) as source:
        assert source.pixel_size_um is None
        assert "no pixel size: ImageXpress" in source.origin.notes[-1]


@pytest.mark.parametrize(("size", "expected"), [(0.325, (0.325, 0.325)), (0.0, None)])
def test_a_micro_manager_image_has_the_size_of_its_own_tag(tmp_path, size, expected):
    meta = {"PixelSizeUm": size, "Channel": "Cy5", "PositionName": "Pos1"}
    text = json.dumps(meta).encode()
    path = write(
        tmp_path / "a.tif",
        (10_000, 1),
        "CENTIMETER",
        extratags=[(51123, 2, len(text) + 1, text + b"\0", True)],
    )
    with open_image(path) as source:
        assert source.pixel_size_um == expected
        assert source.channel_names == ("Cy5",)
        assert source.origin.position == "Pos1"
        assert bool(source.origin.notes) == (expected is None)


def test_pages_of_a_micro_manager_stack_have_the_size_of_its_tag(tmp_path):
    meta = json.dumps({"PixelSizeUm": 0.5, "Channel": "DAPI"}).encode()
    tag = (51123, 2, len(meta) + 1, meta + b"\0", True)
    path = tmp_path / "NDTiffStack.tif"
    with tifffile.TiffWriter(path) as tiff:
        for page in (PIXELS, PIXELS + 1):
            tiff.write(page, photometric="minisblack", metadata=None, extratags=[tag])
    with open_image(path) as source:
        assert source.channel_names == ("DAPI",)
        assert source.pixel_size_um == (0.5, 0.5)


def ndtiff_set(folder, files):
    """Write an NDTiff set; `files`: time, channel and value of each file's planes."""
    found = b""
    for number, planes in enumerate(files):
        name = f"NDTiffStack_{number}.tif"
        body = struct.pack("<2sHI5I2s", b"II", 42, 30, 483729, 3, 3, 2355492, 2, b"{}")
        for k, (time, channel, value) in enumerate(planes):
            data = len(body) + 2 + 10 * 12 + 4
            end = data + PIXELS.nbytes
            after = end + 6 if k + 1 < len(planes) else 0
            tags = [(256, 10), (257, 8), (258, 16), (259, 1), (262, 1), (273, data)]
            tags += [(277, 1), (278, 8), (279, PIXELS.nbytes)]
            entries = b"".join(struct.pack("<HHII", tag, 4, 1, n) for tag, n in tags)
            entries += struct.pack("<HHII", 51123, 2, 6, end)
            body += struct.pack("<H", 10) + entries + struct.pack("<I", after)
            body += (PIXELS + value).tobytes() + b"{   }\0"
            axes = json.dumps({"time": time, "channel": channel}).encode()
            for text in (axes, name.encode()):
                found += struct.pack("<I", len(text)) + text
            found += struct.pack("<8I", data, 10, 8, 1, 0, 0, 0, 0)
        (folder / name).write_bytes(body)
    (folder / "NDTiff.index").write_bytes(found)


def test_a_file_of_an_ndtiff_set_is_read_by_itself_if_it_holds_whole_planes(tmp_path):
    first = [(0, "DAPI", 1), (0, "GFP", 2), (1, "DAPI", 3), (1, "GFP", 4)]
    ndtiff_set(tmp_path, [first, [(2, "DAPI", 5)], [(2, "GFP", 6)]])
    with open_image(tmp_path / "NDTiffStack_0.tif", channel="GFP") as source:
        assert (source.plane_axes, source.plane_shape) == ("T", (2,))
        values = [source.read(Region(n, 0, 1, 0, 1))[0, 0, 0] for n in (0, 1)]
        assert values == [2, 4]
        assert "several files of an NDTiff data set" in source.origin.notes[-1]
    with open_image(tmp_path / "NDTiffStack_2.tif") as source:
        assert (source.file_channels, source.plane_shape) == (("GFP",), ())
        assert source.read(Region(0, 0, 8, 0, 10))[0].tolist() == (PIXELS + 6).tolist()


def test_a_file_of_an_ndtiff_set_that_ends_within_a_time_point_is_refused(tmp_path):
    files = [[(0, "DAPI", 1), (0, "GFP", 2), (1, "DAPI", 3)], [(1, "GFP", 4)]]
    ndtiff_set(tmp_path, files)
    with pytest.raises(ImageReadError, match="3 of its 4 planes") as caught:
        open_image(tmp_path / "NDTiffStack_0.tif", channel="0")
    assert "OME-TIFF" in caught.value.hint


def qptiff(path):
    def described(name, kind):
        return (
            '<?xml version="1.0" encoding="utf-16"?><PerkinElmer-QPI-ImageDescription>'
            f"<ImageType>{kind}</ImageType><Name>{name}</Name>"
            "</PerkinElmer-QPI-ImageDescription>"
        )

    options = {
        "metadata": None,
        "software": "PerkinElmer-QPI",
        "photometric": "minisblack",
        "tile": (16, 16),
        "resolution": (20_000, 20_000),
        "resolutionunit": "CENTIMETER",
    }
    pixels = np.arange(2 * 64 * 96, dtype=np.uint8).reshape(2, 64, 96)
    picture = {"photometric": "rgb", "metadata": None}
    with tifffile.TiffWriter(path) as tiff:
        for page, name in zip(pixels, ("DAPI", "Opal 520"), strict=True):
            tiff.write(page, description=described(name, "FullResolution"), **options)
        tiff.write(np.zeros((9, 12, 3), np.uint8), **picture)
        for page in pixels[:, ::2, ::2]:
            tiff.write(page, description=described("", "ReducedResolution"), **options)
        tiff.write(np.zeros((20, 30, 3), np.uint8), **picture)
        tiff.write(np.zeros((10, 10, 3), np.uint8), **picture)
    return pixels


def test_a_qptiff_is_read_without_renaming(tmp_path):
    path = tmp_path / "a.qptiff"
    pixels = qptiff(path)
    with open_image(path, channel="Opal 520") as source:
        assert source.file_channels == ("DAPI", "Opal 520")
        assert source.pixel_size_um == pytest.approx((0.5, 0.5))
        np.testing.assert_array_equal(
            source.read(Region(0, 0, 64, 0, 96))[0], pixels[1]
        )
        (note,) = source.origin.notes
    assert all(name in note for name in ("Thumbnail", "Macro", "Label"))
    with open_image(path, image="Macro", gray=True) as source:
        assert source.shape == (20, 30)


def stk(path, calibrated=1):
    """Three planes behind one directory, as MetaMorph writes them."""
    planes = np.stack([PIXELS, PIXELS + 1, PIXELS + 2])
    place = 8 + planes.nbytes
    height, width = PIXELS.shape
    extra, extra_at = b"", place + 2 + 12 * 12 + 4

    def put(content):
        nonlocal extra
        at = extra_at + len(extra)
        extra += content
        return at

    def text(content):
        return put(struct.pack("<I", len(content)) + content)

    size = put(struct.pack("<2I", 645, 1000))
    uic1 = [3, calibrated, 4, size, 5, size, 6, text(b"um\0"), 7, text(b"Hoechst\0")]
    first = put(struct.pack(f"<{len(uic1)}I", *uic1))
    second = put(b"".join(struct.pack("<6I", 1, 1, 2450000, k, 0, 0) for k in range(3)))
    entries = [
        (254, 4, 1, 0),
        (256, 4, 1, width),
        (257, 4, 1, height),
        (258, 3, 1, 16),
        (259, 3, 1, 1),
        (262, 3, 1, 1),
        (273, 4, 1, 8),
        (277, 3, 1, 1),
        (278, 4, 1, height),
        (279, 4, 1, PIXELS.nbytes),
        (33628, 4, len(uic1) // 2, first),
        (33629, 5, 3, second),
    ]
    path.write_bytes(
        struct.pack("<2sHI", b"II", 42, place)
        + planes.tobytes()
        + struct.pack("<H", len(entries))
        + b"".join(struct.pack("<HHII", *entry) for entry in entries)
        + struct.pack("<I", 0)
        + extra
    )
    return planes


@pytest.mark.parametrize("suffix", [".stk", ".tif"])
def test_a_metamorph_stack_has_size_and_name_of_its_tags(tmp_path, suffix):
    planes = stk(tmp_path / f"a{suffix}")
    with open_image(tmp_path / f"a{suffix}") as source:
        assert (source.plane_axes, source.plane_shape) == ("Z", (3,))
        assert source.pixel_size_um == pytest.approx((0.645, 0.645))
        assert source.channel_names == ("Hoechst",)
        assert source.origin.pixel_size_from == "the UIC1 tag"
        np.testing.assert_array_equal(source.read(Region(2, 0, 8, 0, 10))[0], planes[2])


def test_a_metamorph_stack_that_is_not_calibrated_has_no_size(tmp_path):
    stk(tmp_path / "a.stk", calibrated=0)
    with open_image(tmp_path / "a.stk") as source:
        assert source.pixel_size_um is None
        assert "UIC1" in source.origin.notes[-1]


def lsm(path):
    """Three channels and their thumbnail, as LSM programs store them."""
    channels = np.stack([PIXELS, PIXELS + 1, PIXELS + 2]).astype(np.uint8)
    magic, begin = 67127628, "<II6i2i3d3dHHI4I"
    numbers = (10, 8, 1, 3, 1, 1), (0, 0), (2e-7, 3e-7, 1e-6), (0, 0, 0), (0, 0, 0)
    fixed = [n for group in numbers for n in group]
    info = struct.pack(begin, magic, struct.calcsize(begin), *fixed, 0, 0, 0, 77)
    tag = (34412, 1, len(info), info, True)
    with tifffile.TiffWriter(path) as tiff:
        options = {"photometric": "rgb", "planarconfig": "separate", "metadata": None}
        tiff.write(
            channels,
            photometric="minisblack",
            planarconfig="separate",
            extratags=[tag],
            metadata=None,
        )
        tiff.write(np.zeros((3, 4, 5), np.uint8), subfiletype=1, **options)
    names = b"".join(
        struct.pack("<I", len(n) + 1) + n + b"\0"
        for n in (b"Ch1-T1", b"Ch2-T2", b"ChD")
    )
    colors = struct.pack("<6I", 36 + len(names), 3, 3, 24, 36, 0) + bytes(12) + names
    content = path.read_bytes()
    place = content.index(info) + struct.calcsize(begin) - 4
    content = content[:place] + struct.pack("<I", len(content)) + content[place + 4 :]
    path.write_bytes(content + colors)
    return channels


def test_an_lsm_has_names_and_size_of_its_own_tag(tmp_path):
    channels = lsm(tmp_path / "a.lsm")
    with open_image(tmp_path / "a.lsm", channel="Ch2-T2") as source:
        assert source.file_channels == ("Ch1-T1", "Ch2-T2", "ChD")
        assert source.pixel_size_um == pytest.approx((0.3, 0.2))
        assert source.origin.pixel_size_from == "the CZ_LSMINFO tag"
        assert source.origin.notes == ()
        found = source.read(Region(0, 0, 8, 0, 10))[0]
    np.testing.assert_array_equal(found, channels[1])


def test_a_plain_size_says_that_it_is_of_the_tags(tmp_path):
    with open_image(write(tmp_path / "a.tif", (20_000, 1), "CENTIMETER")) as source:
        assert source.origin.pixel_size_from == "resolution tags"


def test_properties_that_tifffile_left_as_a_number_name_no_channel():
    info = {"PlaneProperty": 5, "XCalibration": 0.5, "YCalibration": 0.5}
    image = SimpleNamespace(
        tag=lambda code: info | {"CalibrationUnits": "um"},
        tiff=SimpleNamespace(is_stk=False),
    )
    found = metadata._uic(image)
    assert (found.channel_names, found.pixel_size_um) == ((), (0.5, 0.5))
