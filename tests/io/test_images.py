"""Files that hold several images, and files that are parts of a set."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile

from cellunet.errors import ImageReadError
from cellunet.io.images import names_of_images, open_image
from cellunet.io.png_jpeg import write_png
from tests.io.pixels import read, whole

FIRST = np.arange(8 * 10, dtype=np.uint16).reshape(8, 10)
NAMESPACE = "http://www.openmicroscopy.org/Schemas/OME/2016-06"


def image(name, pixels, data, channels=1, size=""):
    height, width = pixels.shape[-2:]
    named = "".join(f'<Channel Name="c{k}"/>' for k in range(channels))
    return (
        f'<Image Name="{name}"><Pixels DimensionOrder="XYCZT" Type="uint16" '
        f'SizeX="{width}" SizeY="{height}" SizeC="{channels}" SizeZ="1" SizeT="1" '
        f"{size}>{named}{data}</Pixels></Image>"
    )


def ome(path, pages, images, uuid=""):
    own = f' UUID="{uuid}"' if uuid else ""
    xml = f'<?xml version="1.0"?><OME xmlns="{NAMESPACE}"{own}>{images}</OME>'
    with tifffile.TiffWriter(path) as tiff:
        for number, page in enumerate(pages):
            tiff.write(
                page,
                photometric="minisblack",
                metadata=None,
                description=None if number else xml,
            )
    return path


def page(number, place=0, file=None):
    inside = f'<UUID FileName="{file}">urn:uuid:{file}</UUID>' if file else ""
    return (
        f'<TiffData IFD="{number}" FirstC="{place}" PlaneCount="1">{inside}</TiffData>'
    )


@pytest.fixture
def levels(tmp_path):
    size = 'PhysicalSizeX="0.5" PhysicalSizeY="0.5"'
    small = FIRST[::2, ::2]
    described = image("field #1", FIRST, page(0), size=size)
    described += image("field #2", small, page(1), size=size)
    return ome(tmp_path / "a.ome.tif", [FIRST, small], described)


def test_the_largest_image_is_read_and_the_others_are_told(levels):
    with open_image(levels) as source:
        np.testing.assert_array_equal(whole(source), FIRST)
        (note,) = source.origin.notes
    assert "the others: 1 field #2 (5 x 4 px)" in note
    assert "--image" in note


@pytest.mark.parametrize("wanted", ["1", "field #2", "FIELD #2"])
def test_an_image_is_chosen_by_number_or_name(levels, wanted):
    with open_image(levels, image=wanted) as source:
        np.testing.assert_array_equal(whole(source), FIRST[::2, ::2])
        assert source.origin.image == "1"


def test_a_level_that_claims_the_size_of_the_first_has_none(levels):
    with open_image(levels, image="0") as source:
        assert source.pixel_size_um == (0.5, 0.5)
        assert source.origin.notes == ()
    with open_image(levels, image="1") as source:
        assert source.pixel_size_um is None
        assert "smaller copy of image 0" in source.origin.notes[0]


def test_an_image_that_is_not_there_is_refused_with_those_that_are(levels):
    with pytest.raises(ImageReadError, match=r"no image '2'.*0 field #1 \(10 x 8 px\)"):
        open_image(levels, image="2")


def test_pages_of_several_sizes_are_several_images(tmp_path):
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(FIRST[:3], photometric="minisblack", metadata=None)
        tiff.write(FIRST, photometric="minisblack", metadata=None)
    assert names_of_images(path) == ["", ""]
    np.testing.assert_array_equal(read(path), FIRST)


def test_each_file_of_a_set_with_a_position_a_file_is_read(tmp_path):
    names = "p0.ome.tif", "p1.ome.tif"
    described = "".join(image(n, FIRST, page(0, file=n)) for n in names)
    for number, name in enumerate(names):
        path = ome(tmp_path / name, [FIRST + number], described, f"urn:uuid:{name}")
        with open_image(path) as source:
            np.testing.assert_array_equal(whole(source), FIRST + number)
            assert "one of 2 files" in source.origin.notes[0]


def test_a_file_of_a_set_with_a_channel_a_file_has_the_name_of_its_own(tmp_path):
    names = "c0.ome.tif", "c1.ome.tif"
    data = "".join(page(0, k, n) for k, n in enumerate(names))
    described = image("all", FIRST, data, channels=2)
    path = ome(tmp_path / names[1], [FIRST], described, f"urn:uuid:{names[1]}")
    with open_image(path) as source:
        assert source.file_channels == ("c1",)


def test_a_file_with_planes_that_make_no_whole_is_refused(tmp_path):
    data = page(0, 0, "a.ome.tif") + page(0, 1, "b.ome.tif")
    data += '<TiffData IFD="1" FirstC="1" FirstZ="1"><UUID FileName="a.ome.tif">'
    data += "urn:uuid:a.ome.tif</UUID></TiffData>"
    described = image("all", FIRST, data, channels=2).replace('SizeZ="1"', 'SizeZ="2"')
    path = ome(tmp_path / "a.ome.tif", [FIRST] * 2, described, "urn:uuid:a.ome.tif")
    with pytest.raises(ImageReadError, match="2 of the 4 planes of image 'all'"):
        open_image(path)


@pytest.fixture
def binary_only(tmp_path):
    body = '<BinaryOnly MetadataFile="a.companion.ome" UUID="urn:uuid:x"/>'
    return ome(tmp_path / "b.ome.tif", [FIRST], body, "urn:uuid:b.ome.tif")


def test_metadata_in_a_companion_are_read_where_it_lies_beside(tmp_path, binary_only):
    data = page(0, 0, "a.ome.tif") + page(0, 1, "b.ome.tif")
    size = 'PhysicalSizeX="0.5" PhysicalSizeY="0.25"'
    described = image("all", FIRST, data, channels=2, size=size)
    (tmp_path / "a.companion.ome").write_text(
        f'<OME xmlns="{NAMESPACE}">{described}</OME>', encoding="utf-8"
    )
    with open_image(binary_only) as source:
        assert source.file_channels == ("c1",)
        assert source.pixel_size_um == (0.25, 0.5)
        np.testing.assert_array_equal(whole(source), FIRST)


def test_metadata_in_another_file_of_the_set_are_read(tmp_path):
    names = "a.ome.tif", "b.ome.tif"
    data = "".join(page(0, k, n) for k, n in enumerate(names))
    size = 'PhysicalSizeX="0.5" PhysicalSizeY="0.25"'
    described = image("all", FIRST, data, channels=2, size=size)
    ome(tmp_path / names[0], [FIRST + 1], described, "urn:uuid:a.ome.tif")
    body = '<BinaryOnly MetadataFile="a.ome.tif" UUID="urn:uuid:a.ome.tif"/>'
    other = ome(tmp_path / names[1], [FIRST], body, "urn:uuid:b.ome.tif")
    with open_image(other) as source:
        assert source.file_channels == ("c1",)
        assert source.pixel_size_um == (0.25, 0.5)
        np.testing.assert_array_equal(whole(source), FIRST)
    (tmp_path / names[0]).write_bytes(b"II*\0cut")
    with pytest.raises(
        ImageReadError, match=r"another file, a\.ome\.tif, which cannot"
    ):
        open_image(other)


def test_a_companion_that_is_not_there_is_named(binary_only):
    with pytest.raises(ImageReadError, match=r"a\.companion\.ome.*beside it"):
        open_image(binary_only)


def split(path, software="OME Bio-Formats 7.3.1"):
    """One channel of two, with a chain of directories that ends beyond the file."""
    description = "ImageJ=\nhyperstack=true\nimages=2\nchannels=2\nslices=1\nframes=1"
    tifffile.imwrite(
        path,
        FIRST,
        photometric="minisblack",
        metadata=None,
        description=description,
        software=software,
    )
    content = bytearray(path.read_bytes())
    entries = int.from_bytes(content[8:10], "little")
    following = 10 + 12 * entries
    content[following : following + 4] = len(content).to_bytes(4, "little")
    path.write_bytes(bytes(content))
    return path


def test_one_file_of_a_split_image_is_read(tmp_path):
    with open_image(split(tmp_path / "a.tif")) as source:
        np.testing.assert_array_equal(whole(source), FIRST)
        assert "split into files" in source.origin.notes[0]


def test_of_other_programs_a_directory_beyond_the_end_is_damage(tmp_path):
    with pytest.raises(ImageReadError, match="truncated or damaged"):
        open_image(split(tmp_path / "a.tif", software="another"))


@pytest.mark.parametrize("dtype", ["u2", "f4"])
@pytest.mark.parametrize("count", [3, 4])
def test_frames_stored_as_planar_color_are_frames(tmp_path, dtype, count):
    pixels = np.stack([FIRST + k for k in range(count)]).astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", planarconfig=2)
    with open_image(tmp_path / "a.tif") as source:
        assert (source.plane_axes, source.plane_shape) == ("T", (count,))
        np.testing.assert_array_equal(whole(source, count - 1), pixels[-1])


def test_real_color_stays_color(tmp_path):
    bytes_ = np.stack([FIRST % 256] * 3).astype(np.uint8)
    bytes_[1] += 1
    tifffile.imwrite(tmp_path / "a.tif", bytes_, photometric="rgb", planarconfig=2)
    deep = np.stack([FIRST, FIRST + 1, FIRST], axis=-1)
    tifffile.imwrite(tmp_path / "b.tif", deep, photometric="rgb")
    for name in "ab":
        with pytest.raises(ImageReadError, match="in color"):
            open_image(tmp_path / f"{name}.tif")


def test_three_planes_are_color_where_color_is_asked_for(tmp_path):
    pixels = np.stack([FIRST, FIRST + 1, FIRST + 2])
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", planarconfig=2)
    with open_image(tmp_path / "a.tif", channel="green") as source:
        np.testing.assert_array_equal(whole(source), pixels[1])
        assert "read as red, green and blue" in source.origin.notes[0]


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize(("number", "name"), [(0, "red"), (1, "green"), (2, "blue")])
def test_the_color_that_has_signal_is_named_and_no_other(
    tmp_path, rng, suffix, number, name
):
    pixels = np.zeros((20, 30, 3), np.uint8)
    pixels[..., (number + 1) % 3] = 7  # the same everywhere: no signal
    pixels[..., number] = rng.integers(0, 200, (20, 30))
    path = tmp_path / f"a.{suffix}"
    if suffix == "png":
        write_png(path, pixels)
    else:
        tifffile.imwrite(path, pixels, photometric="rgb")
    with pytest.raises(ImageReadError, match="no channel was chosen") as caught:
        open_image(path)
    assert caught.value.hint.startswith(
        f"Only {name} has signal. Try: --channel {name}"
    )
    with open_image(path, channel=name) as source:
        np.testing.assert_array_equal(whole(source), pixels[..., number])
    pixels[..., number] = 0
    write_png(tmp_path / "b.png", pixels)
    with pytest.raises(ImageReadError) as caught:
        open_image(tmp_path / "b.png")
    assert "--channel NAME" in caught.value.hint
