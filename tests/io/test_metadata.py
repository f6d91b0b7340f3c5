"""Sizes, names, positions and times, wherever OME, ImageJ and makers keep them."""

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
from cellunet.io.metadata import imagej_channel_names, summarize_ome, unit_s, unit_um
from cellunet.io.source import Region
from tests.io.pixels import whole

STACK = np.arange(2 * 3 * 2 * 5 * 7, dtype=np.uint16).reshape(2, 3, 2, 5, 7)


def ome(tmp_path, pixels=STACK, axes="TZCYX", **metadata):
    path = tmp_path / "a.ome.tif"
    metadata = {"axes": axes, **metadata}
    tifffile.imwrite(
        path, pixels, ome=True, photometric="minisblack", metadata=metadata
    )
    return path


def rewrite(path, change):
    """Write an OME-TIFF again with its XML changed by `change`."""
    with tifffile.TiffFile(path) as tiff:
        xml, pixels = tiff.ome_metadata, tiff.asarray()
    planes = pixels.reshape(-1, *pixels.shape[-2:])
    tifffile.imwrite(
        path,
        planes,
        photometric="minisblack",
        metadata=None,
        description=change(xml).encode(),
    )
    return path


@pytest.mark.parametrize(
    ("unit", "expected"),
    [
        ("µm", 1.0),
        ("\u03bcm", 1.0),
        ("\\u00B5m", 1.0),
        ("um", 1.0),
        ("Micron", 1.0),
        ("nm", 1e-3),
        ("mm", 1e3),
        ("cm", 1e4),
        ("m", 1e6),
        ("Å", 1e-4),
        ("\u212b", 1e-4),
        ("inch", 25_400.0),
        ("yard", 914_400.0),
        ("nanometer", 1e-3),
        ("Millimetre", 1e3),
        ("meters", 1e6),
        ("yottameter", 1e30),
        ("feetmeter", None),
        ("pixel", None),
        ("reference frame", None),
        ("", None),
    ],
)
def test_units_are_known_in_their_spellings(unit, expected):
    assert unit_um(unit) == expected


@pytest.mark.parametrize(
    ("unit", "expected"),
    [
        ("s", 1),
        ("ms", 1e-3),
        ("\u03bcs", 1e-6),
        ("second", 1),
        ("microseconds", 1e-6),
        ("hour", 3600),
        ("minute", 60),
        ("Sec", 1),
        ("Ms", None),
        ("frame", None),
    ],
)
def test_units_of_time_are_known_in_their_spellings(unit, expected):
    assert unit_s(unit) == expected


def test_ome_axes_names_and_pixel_size(tmp_path):
    path = ome(
        tmp_path,
        Channel={"Name": ["DAPI", "GFP"]},
        PhysicalSizeX=325.0,
        PhysicalSizeXUnit="nm",
        PhysicalSizeY=0.0005,
        PhysicalSizeYUnit="mm",
    )
    with pytest.raises(
        ImageReadError, match=r"5 axes \(TZCYX\).*2 channels \(DAPI, GFP\)"
    ):
        open_image(path)
    with open_image(path, channel="GFP") as source:
        assert (source.plane_axes, source.plane_shape) == ("TZ", (2, 3))
        assert source.pixel_size_um == pytest.approx((0.5, 0.325))
        found = whole(source, 4)
    np.testing.assert_array_equal(found, STACK[1, 1, 1])


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({"PhysicalSizeZ": 2.5, "TimeIncrement": 30}, (2.5, 30)),
        ({"PhysicalSizeZ": 500, "PhysicalSizeZUnit": "nm"}, (0.5, None)),
        ({"TimeIncrement": 0.5, "TimeIncrementUnit": "min"}, (None, 30)),
        ({"PhysicalSizeZ": 2, "PhysicalSizeZUnit": "pixel"}, (None, None)),
        ({"PhysicalSizeZ": 0, "TimeIncrement": -1}, (None, None)),
        ({}, (None, None)),
    ],
)
def test_ome_tells_the_steps_along_z_and_time(tmp_path, metadata, expected):
    with open_image(ome(tmp_path, **metadata), channel="0") as source:
        assert (source.z_step_um, source.time_step_s) == expected


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({"unit": "micron", "spacing": 2.5, "finterval": 30}, (2.5, 30)),
        ({"unit": "nm", "spacing": 500, "finterval": 2, "tunit": "min"}, (0.5, 120)),
        ({"unit": "micron", "zunit": "mm", "spacing": 0.5}, (500, None)),
        ({"spacing": 2.5}, (None, None)),
        ({"unit": "micron", "spacing": -2.5, "finterval": 0}, (None, None)),
        ({"finterval": 2, "tunit": "frame"}, (None, None)),
    ],
)
def test_imagej_tells_the_steps_along_z_and_time(tmp_path, metadata, expected):
    path = tmp_path / "a.tif"
    stack = STACK[:, :, 0]
    tifffile.imwrite(path, stack, imagej=True, metadata={"axes": "TZYX", **metadata})
    with open_image(path) as source:
        assert (source.z_step_um, source.time_step_s) == expected


def test_ome_without_a_size_has_none(tmp_path):
    with open_image(ome(tmp_path), channel="0") as source:
        assert source.pixel_size_um is None


@pytest.mark.parametrize(
    ("resolution", "unit", "expected"),
    [
        ((20_000, 10_000), "CENTIMETER", (1.0, 0.5)),
        ((50_800, 50_800), "INCH", (0.5, 0.5)),
        ((72, 72), "INCH", None),
        ((96, 96), "INCH", None),
        ((300, 300), "INCH", None),
        ((600, 600), "INCH", None),
        ((118, 118), "CENTIMETER", None),
        ((20_000, 20_000), "NONE", None),
        (((0, 1), (0, 1)), "CENTIMETER", None),
    ],
)
def test_resolution_tags_are_believed_only_if_microscopic(
    tmp_path, resolution, unit, expected
):
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path,
        STACK[0, 0, 0],
        photometric="minisblack",
        resolution=resolution,
        resolutionunit=unit,
    )
    with open_image(path) as source:
        found = source.pixel_size_um
    assert found is None if expected is None else found == pytest.approx(expected)


@pytest.mark.parametrize(
    ("unit", "per_unit", "expected"),
    [
        ("micron", 2.0, (0.5, 0.5)),
        ("\\u00B5m", 4.0, (0.25, 0.25)),
        ("nm", 0.002, (0.5, 0.5)),
        ("inch", 72.0, None),
        ("pixel", 2.0, None),
        (None, 2.0, None),
    ],
)
def test_imagej_keeps_the_unit_in_its_description(tmp_path, unit, per_unit, expected):
    path = tmp_path / "a.tif"
    metadata = {"axes": "YX"} | ({"unit": unit} if unit else {})
    tifffile.imwrite(
        path,
        STACK[0, 0, 0],
        imagej=True,
        resolution=(per_unit, per_unit),
        metadata=metadata,
    )
    with open_image(path) as source:
        found = source.pixel_size_um
    assert found is None if expected is None else found == pytest.approx(expected)


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["DAPI", "GFP"] * 3, ("DAPI", "GFP")),
        (["DAPI", "GFP", "", "", "", ""], ("DAPI", "GFP")),
        (["c:1/2 t:1/2 - DAPI", "c:2/2 t:1/2 - GFP"], ("DAPI", "GFP")),
        (["DAPI\nExposure: 25\r\nTEST", "GFP\x00\nExposure: 30"], ("DAPI", "GFP")),
        (["a_001", "a_002", "a_003", "a_004"], ()),
        (["same", "same"], ()),
        (["DAPI"], ()),
        ([], ()),
    ],
)
def test_imagej_slice_labels_name_channels_if_they_repeat(labels, expected):
    assert imagej_channel_names({"channels": 2, "Labels": labels}) == expected


# --- what is refused ---


def test_one_file_of_a_set_holds_the_planes_that_it_names(tmp_path):
    def split(xml):
        own = xml.split('UUID="')[1].split('"')[0]
        other = "urn:uuid:00000000-0000-0000-0000-000000000000"
        tiffdata = (
            f'<TiffData IFD="0" FirstT="0"><UUID FileName="a.ome.tif">{own}</UUID>'
            '</TiffData><TiffData IFD="0" FirstT="1">'
            f'<UUID FileName="b.ome.tif">{other}</UUID></TiffData>'
        )
        start, end = xml.index("<TiffData"), xml.rindex("</Pixels>")
        return xml[:start] + tiffdata + xml[end:]

    path = rewrite(ome(tmp_path, STACK[:, 0, 0], "TYX"), split)
    with open_image(path) as source:
        assert source.plane_shape == ()
        assert "one of 2 files" in source.origin.notes[0]
        found = whole(source)
    np.testing.assert_array_equal(found, STACK[0, 0, 0])


def test_a_renamed_single_file_is_read(tmp_path):
    path = ome(tmp_path, STACK[:, 0, 0], "TYX")
    path.rename(tmp_path / "renamed.tif")
    with open_image(tmp_path / "renamed.tif") as source:
        assert source.plane_axes == "T"


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        ('SizeT="2"', 'SizeT="2000000"', "claims 2,000,000 planes"),
        ('PlaneCount="2"', 'PlaneCount="99999999"', "claims 99,999,999 planes"),
        ('SizeT="2"', 'SizeT="many"', "SizeT='many'"),
        ('SizeT="2"', 'SizeT="3"', r"lacks page 2 of the 3"),
        ("<Pixels ", "<Pixels <", "not valid XML"),
        ("<OME ", "<!DOCTYPE a><OME ", "entities"),
        ("Pixels", "Voxels", "no image"),
        (
            "<Pixels ",
            '<BinaryOnly MetadataFile="x" UUID="y"/><Pixels ',
            "keeps its OME metadata in another file, x",
        ),
        ("</OME>", "<!-- ModuloAlongZ --></OME>", "ModuloAlong"),
    ],
)
def test_ome_metadata_that_cannot_be_true_is_refused(tmp_path, old, new, match):
    path = ome(tmp_path, STACK[:, 0, 0], "TYX")
    if "BinaryOnly" in new:
        xml = f"<OME>{new}</OME>".replace("<Pixels ", "")
        path = rewrite(path, lambda _: xml)
    else:
        path = rewrite(path, lambda xml: xml.replace(old, new))
    with pytest.raises(ImageReadError, match=match):
        open_image(path)


@pytest.mark.parametrize("root", ["scn", "DataObject", "PerkinElmer-QPI-Image"])
def test_entities_in_the_xml_of_any_program_are_refused(tmp_path, root):
    path = tmp_path / "a.tif"
    xml = f'<!DOCTYPE a [<!ENTITY a "ha">]><{root}>&a;</{root}>'
    tifffile.imwrite(path, STACK[0, 0, 0], description=xml, metadata=None)
    with pytest.raises(ImageReadError, match="defines XML entities"):
        open_image(path)


def test_a_summary_tells_of_each_image(tmp_path):
    xml = (
        '<OME><Image><Pixels SizeZ="1" SizeC="1" SizeT="1"><Channel Fluor="Hoechst"/>'
        '</Pixels></Image><Image><Pixels SizeZ="3" SizeC="2" SizeT="1"/></Image></OME>'
    )
    found = summarize_ome(tmp_path / "a.tif", xml, 10_000)
    assert [image.planes for image in found.images] == [1, 6]
    assert found.images[0].channel_names == ("Hoechst",)


def test_imagej_metadata_that_cannot_be_true_is_refused(tmp_path):
    path = tmp_path / "a.tif"
    description = "ImageJ=1.53\nimages=6\nslices=6\n"
    tifffile.imwrite(
        path,
        STACK[0, 0],
        photometric="minisblack",
        metadata=None,
        description=description,
        compression="zlib",
    )
    with pytest.raises(ImageReadError, match=r"a\.tif"):
        open_image(path)


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
        np.testing.assert_array_equal(whole(source), pixels[1])
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
        np.testing.assert_array_equal(whole(source, 2), planes[2])


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
        found = whole(source)
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
