"""Channel names and pixel sizes in TIFF metadata, and claims that are refused."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile

from cellunet.errors import ImageReadError
from cellunet.io.images import open_image
from cellunet.io.metadata import imagej_channel_names, summarize_ome, unit_um
from cellunet.io.source import Region

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
        ("pixel", None),
        ("reference frame", None),
        ("", None),
    ],
)
def test_units_are_known_in_their_spellings(unit, expected):
    assert unit_um(unit) == expected


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
        found = source.read(Region(4, 0, 5, 0, 7))[0]
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
        found = source.read(Region(0, 0, 5, 0, 7))[0]
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
