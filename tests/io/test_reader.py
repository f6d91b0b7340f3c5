"""TIFF files of many layouts, read by region."""

from __future__ import annotations

import math
import pickle
import struct
import tempfile
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from cellunet.errors import ImageReadError
from cellunet.io import tiff_pixels
from cellunet.io.images import open_image
from cellunet.io.source import Region
from tests.io.pixels import decoded_pieces, read, save, whole

DTYPES = ["u1", "u2", "u4", "i1", "i2", "i4", "f2", "f4", "f8"]
CODECS = [None, "lzw", "zlib", "zstd", "lzma", "packbits"]


def numbers(shape: tuple[int, ...], dtype: str = "u2") -> np.ndarray:
    """Every value its own, as far as the type allows."""
    return np.arange(math.prod(shape)).astype(dtype).reshape(shape)


def header(
    width: int,
    height: int,
    rows: int,
    codec: int = 1,
    *,
    count: int = 100,
    bits: int = 16,
) -> bytes:
    """A little-endian TIFF of one strip of `count` zero bytes."""
    entries = [
        (256, 4, width),
        (257, 4, height),
        (258, 3, bits),
        (259, 3, codec),
        (262, 3, 1),
        (273, 4, 200),
        (277, 3, 1),
        (278, 4, rows),
        (279, 4, count),
    ]
    tags = b"".join(struct.pack("<HHII", code, kind, 1, v) for code, kind, v in entries)
    head = b"II*\0" + struct.pack("<IH", 8, len(entries)) + tags + bytes(4)
    return head.ljust(200, b"\0") + bytes(count)


@st.composite
def layouts(draw: st.DrawFn) -> tuple[np.ndarray, dict[str, object], int]:
    dtype = draw(st.sampled_from(DTYPES))
    # tifffile takes a last axis of length 1 for samples; see the test on stored order.
    shape = draw(st.integers(1, 70)), draw(st.integers(2, 70))
    planes = draw(st.integers(1, 3))
    pixels = numbers((planes, *shape), dtype)
    codec = draw(st.sampled_from(CODECS))
    predict = codec not in (None, "packbits") and dtype != "f2" and draw(st.booleans())
    options: dict[str, object] = {
        "compression": codec,
        "predictor": predict,
        "byteorder": draw(st.sampled_from("<>")),
        "bigtiff": draw(st.booleans()),
        "metadata": None if draw(st.booleans()) else {"axes": "TYX"},
    }
    if draw(st.booleans()):
        options["tile"] = draw(st.sampled_from([(16, 16), (32, 16), (16, 48)]))
    else:
        options["rowsperstrip"] = draw(st.integers(1, 80))
    return pixels, options, draw(st.integers(0, planes - 1))


@settings(max_examples=80)
@given(layout=layouts(), data=st.data())
def test_a_region_is_the_slice_of_the_whole(layout, data):
    pixels, options, plane = layout
    height, width = pixels.shape[1:]
    y0 = data.draw(st.integers(0, height - 1))
    x0 = data.draw(st.integers(0, width - 1))
    y1 = data.draw(st.integers(y0 + 1, height))
    x1 = data.draw(st.integers(x0 + 1, width))
    with tempfile.TemporaryDirectory() as folder:
        path = save(Path(folder) / "a.tif", pixels, **options)
        with open_image(path) as source:
            region = source.read(Region(plane, y0, y1, x0, x1))
    assert source.shape == (height, width)
    assert source.dtype == region.dtype == pixels.dtype.newbyteorder("=")
    np.testing.assert_array_equal(region[0], pixels[plane, y0:y1, x0:x1])


def test_jpeg_is_read_like_tifffile_reads_it(tmp_path, rng):
    pixels = rng.integers(0, 256, (48, 64), dtype=np.uint8)
    path = save(tmp_path / "a.tif", pixels, compression="jpeg", tile=(16, 32))
    np.testing.assert_array_equal(read(path), tifffile.imread(path))


def test_jpeg_colors_are_red_green_and_blue(tmp_path):
    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[..., 2] = 200
    path = save(tmp_path / "a.tif", pixels, photometric="rgb", compression="jpeg")
    with open_image(path, channel="blue") as source:
        assert abs(int(whole(source)[8, 8]) - 200) <= 3


def test_bilevel_images_are_0_and_1(tmp_path):
    pixels = numbers((5, 13)) % 3 == 0
    with open_image(save(tmp_path / "a.tif", pixels)) as source:
        assert source.dtype == np.uint8
        np.testing.assert_array_equal(whole(source), pixels.astype(np.uint8))


def test_packed_12_bit_values_are_unpacked(tmp_path):
    path = tmp_path / "a.tif"
    # Big-endian bits, whatever the byte order: 0x123, 0x456.
    path.write_bytes(header(2, 1, 1, count=3, bits=12)[:-3] + b"\x12\x34\x56")
    with open_image(path) as source:
        assert source.dtype == np.uint16
        np.testing.assert_array_equal(whole(source), [[0x123, 0x456]])


@pytest.mark.parametrize("shape", [(1, 1), (15, 4000), (4000, 15)])
def test_images_of_odd_shapes(tmp_path, shape):
    pixels = numbers(shape)
    np.testing.assert_array_equal(
        read(save(tmp_path / "a.tif", pixels, compression="zlib")), pixels
    )


def test_part_of_a_long_uncompressed_row_is_read_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(tiff_pixels, "LONG_ROW_BYTES", 64)
    pixels = numbers((6, 100))
    with open_image(save(tmp_path / "a.tif", pixels)) as source:
        region = source.read(Region(0, 1, 4, 30, 40))[0]
    np.testing.assert_array_equal(region, pixels[1:4, 30:40])


@pytest.mark.parametrize(
    "name", ["with space.tif", "Zürich Färbung.tif", "nuclei 😀🔬.TIF", "[a]*.tiff"]
)
def test_names_of_all_kinds(tmp_path, name):
    np.testing.assert_array_equal(
        read(save(tmp_path / name, numbers((4, 5)))), numbers((4, 5))
    )


@pytest.mark.parametrize("rows", [20, 6])
def test_uncompressed_pages_that_lie_apart(tmp_path, rows):
    pixels = numbers((3, 20, 30))
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as tiff:
        for page in pixels:
            tiff.write(page, photometric="minisblack", metadata=None, rowsperstrip=rows)
    with open_image(path) as source:
        for plane in (2, 0, 1):
            np.testing.assert_array_equal(whole(source, plane), pixels[plane])
            part = source.read(Region(plane, 3, 9, 2, 5))[0]
            np.testing.assert_array_equal(part, pixels[plane, 3:9, 2:5])


def test_uncompressed_strips_in_another_order(tmp_path):
    pixels = numbers((3, 8))
    path = save(tmp_path / "a.tif", pixels, rowsperstrip=1)
    with tifffile.TiffFile(path, mode="r+") as tiff:
        tag = tiff.pages[0].tags[273]
        tag.overwrite(tag.value[::-1])
    np.testing.assert_array_equal(read(path), pixels[::-1])


def test_a_file_cut_short_after_it_was_opened_is_refused(tmp_path):
    for options in ({}, {"compression": "zlib"}):
        path = save(tmp_path / "a.tif", numbers((40, 40)), **options)
        source = open_image(path)
        path.write_bytes(path.read_bytes()[:-50])
        with source, pytest.raises(ImageReadError, match=r"its pixels go on to byte"):
            whole(source)


def test_imagej_hyperstack(tmp_path):
    pixels = numbers((2, 3, 2, 5, 7))
    meta = {"axes": "TZCYX", "Labels": ["DAPI", "GFP"] * 6}
    path = save(tmp_path / "a.tif", pixels, imagej=True, metadata=meta)
    with open_image(path, channel="GFP") as source:
        assert (source.plane_axes, source.plane_shape) == ("TZ", (2, 3))
        for plane in range(6):
            expected = pixels[plane // 3, plane % 3, 1]
            np.testing.assert_array_equal(whole(source, plane), expected)
    with open_image(path, channel="0", z="max") as source:
        assert (source.plane_axes, source.plane_shape) == ("T", (2,))
        np.testing.assert_array_equal(whole(source, 1), pixels[1, :, 0].max(axis=0))


def test_imagej_planes_behind_a_single_directory(tmp_path):
    # ImageJ writes stacks so: one directory, and all planes one after the other.
    pixels = numbers((6, 5, 7))
    path = save(
        tmp_path / "a.tif", pixels, imagej=True, truncate=True, metadata={"axes": "ZYX"}
    )
    with tifffile.TiffFile(path) as tiff:
        assert len(tiff.pages) == 1
    with open_image(path) as source:
        assert (source.plane_axes, source.plane_shape) == ("Z", (6,))
        np.testing.assert_array_equal(whole(source, 4), pixels[4])
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ImageReadError, match="truncated"):
        open_image(path)


def test_the_color_map_of_an_imagej_file_is_for_display_only(tmp_path):
    pixels = numbers((5, 7), "u1")
    table = np.zeros((3, 256), np.uint8)
    table[2] = np.arange(256)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, pixels, imagej=True, colormap=np.uint16(table) * 257)
    np.testing.assert_array_equal(read(path), pixels)


def test_a_palette_makes_colors(tmp_path):
    pixels = numbers((2, 3), "u1")
    colormap = np.zeros((3, 256), np.uint16)
    colormap[0] = np.arange(256)[::-1] * 257
    colormap[1] = 7 * 257
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, pixels, photometric="palette", colormap=colormap)
    with pytest.raises(ImageReadError, match="in indexed color"):
        open_image(path)
    with open_image(path, channel="red") as source:
        assert source.dtype == np.uint8
        np.testing.assert_array_equal(whole(source), 255 - pixels)


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("options", [{}, {"compression": "lzw"}, {"tile": (16, 16)}])
def test_colors_interleaved_or_planar(tmp_path, planar, options):
    pixels = numbers((3, 20, 30))
    stored = pixels if planar == "separate" else np.moveaxis(pixels, 0, -1)
    path = save(
        tmp_path / "a.tif", stored, photometric="rgb", planarconfig=planar, **options
    )
    with open_image(path, channel="green") as source:
        assert source.channel_names == ("green",)
        np.testing.assert_array_equal(whole(source), pixels[1])
    weights = np.array([0.299, 0.587, 0.114])
    with open_image(path, gray=True) as source:
        assert source.dtype == np.float32
        expected = np.tensordot(weights, pixels, 1)
        np.testing.assert_allclose(whole(source), expected, rtol=1e-6)


def test_gray_saved_as_color_is_read_as_gray(tmp_path):
    pixels = numbers((4, 5), "u1")
    color = np.repeat(pixels[..., np.newaxis], 3, axis=2)
    path = save(tmp_path / "a.tif", color, photometric="rgb")
    with open_image(path) as source:
        np.testing.assert_allclose(whole(source), pixels, rtol=1e-6)
        assert source.file_channels == ("luminance",)
        assert "saved as color" in source.origin.notes[0]


def test_alpha_beside_gray_is_dropped(tmp_path):
    pixels = numbers((4, 5, 2), "u1")
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path,
        pixels,
        photometric="minisblack",
        planarconfig="contig",
        extrasamples=["unassalpha"],
    )
    np.testing.assert_array_equal(read(path), pixels[..., 0])


def test_pages_of_a_volume_are_z_planes(tmp_path):
    pixels = numbers((4, 32, 48))
    path = save(
        tmp_path / "a.tif",
        pixels,
        volumetric=True,
        tile=(2, 16, 16),
        compression="zlib",
        metadata={"axes": "ZYX"},
    )
    with open_image(path) as source:
        assert (source.plane_axes, source.plane_shape) == ("Z", (4,))
        for plane in range(4):
            np.testing.assert_array_equal(whole(source, plane), pixels[plane])


def test_a_pyramid_is_read_at_full_size(tmp_path):
    pixels = numbers((64, 64))
    path = tmp_path / "a.ome.tif"
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(pixels, subifds=1, tile=(16, 16))
        tiff.write(pixels[::2, ::2], subfiletype=1, tile=(16, 16))
    np.testing.assert_array_equal(read(path), pixels)


def test_a_source_travels_by_pickle_and_opens_again(tmp_path):
    pixels = numbers((3, 40, 50))
    path = save(tmp_path / "a.tif", pixels, compression="zlib")
    with open_image(path) as source:
        whole(source)
        sent = pickle.dumps(source)
    assert len(sent) < 2000
    with pickle.loads(sent) as copy:
        assert copy.shape == (40, 50)
        np.testing.assert_array_equal(whole(copy, 2), pixels[2])
    np.testing.assert_array_equal(whole(source, 1), pixels[1])
    source.close()


def test_a_file_that_changed_after_pickling_is_refused(tmp_path):
    path = save(tmp_path / "a.tif", numbers((4, 5)))
    sent = pickle.dumps(open_image(path))
    save(path, numbers((4, 6)))
    with pytest.raises(ImageReadError, match="changed since"):
        whole(pickle.loads(sent))


def test_a_single_compressed_strip_is_decoded_once(tmp_path, monkeypatch):
    path = save(
        tmp_path / "a.tif", numbers((64, 64)), compression="zlib", rowsperstrip=64
    )
    decoded = decoded_pieces(monkeypatch)
    with open_image(path) as source:
        for y in range(0, 64, 16):
            source.read(Region(0, y, y + 16, 0, 64))
    assert decoded == [0]


def test_only_the_tiles_needed_are_decoded_and_few_are_kept(tmp_path, monkeypatch):
    pixels = numbers((64, 64))
    path = save(tmp_path / "a.tif", pixels, compression="zlib", tile=(16, 16))
    decoded = decoded_pieces(monkeypatch)
    monkeypatch.setattr(tiff_pixels, "CACHE_BYTES", 2 * 16 * 16 * 2)
    with open_image(path) as source:
        source.read(Region(0, 16, 33, 0, 16))
        assert decoded == [4, 8]
        source.read(Region(0, 20, 33, 0, 16))
        assert decoded == [4, 8]
        source.read(Region(0, 0, 16, 0, 16))
        np.testing.assert_array_equal(
            source.read(Region(0, 16, 32, 0, 16))[0], pixels[16:32, :16]
        )
        assert decoded == [4, 8, 0, 4]


@pytest.mark.parametrize(
    ("axes", "choice", "planes"),
    [("YX", {}, 1), ("CYX", {"channel": "0,1,2"}, 3), ("ZYX", {"z": "max"}, 3)],
)
def test_little_more_than_a_row_of_tiles_is_kept(
    axes, choice, planes, tmp_path, monkeypatch
):
    shape = (64, 256) if planes == 1 else (planes, 64, 256)
    path = save(
        tmp_path / "a.tif",
        numbers(shape),
        compression="zlib",
        tile=(16, 16),
        metadata={"axes": axes},
        ome=True,
    )
    decoded = decoded_pieces(monkeypatch)
    monkeypatch.setattr(tiff_pixels, "WINDOW_PX", 0)
    with open_image(path, **choice) as source:
        for y in range(0, 64, 4):
            source.read(Region(0, y, y + 4, 0, 256))
        assert len(decoded) == planes * 64
        assert len(source._opened().reader._cache) <= planes * 20


def test_tiles_left_out_of_a_sparse_file_are_zero(tmp_path):
    pixels = numbers((32, 32)) + 1
    path = save(tmp_path / "a.tif", pixels, tile=(16, 16), compression="zlib")
    with tifffile.TiffFile(path, mode="r+") as tiff:
        for tag in (324, 325):
            values = list(tiff.pages[0].tags[tag].value)
            values[3] = 0
            tiff.pages[0].tags[tag].overwrite(values)
    with open_image(path) as source:
        result = whole(source)
    assert not result[16:, 16:].any()
    np.testing.assert_array_equal(result[:16], pixels[:16])


def test_a_region_outside_the_image_is_a_bug(tmp_path):
    source = open_image(save(tmp_path / "a.tif", numbers((4, 5))))
    for region in (Region(1, 0, 1, 0, 1), Region(0, 0, 5, 0, 1), Region(0, 2, 2, 0, 1)):
        with pytest.raises(ValueError, match="outside"):
            source.read(region)


def test_interleaved_samples_called_channels_are_channels(tmp_path):
    pixels = numbers((4, 5, 2))
    path = save(
        tmp_path / "a.tif", pixels, planarconfig="contig", metadata={"axes": "YXC"}
    )
    np.testing.assert_array_equal(read(path, channel="1"), pixels[..., 1])


# --- what is refused ---


@pytest.mark.parametrize(
    ("pixels", "options", "match"),
    [
        # tifffile stores (2, 3, 1) as one page of 2 x 3 samples of length 1.
        (
            numbers((2, 3, 1)),
            {"metadata": {"axes": "TYX"}},
            "axes TYX of 2 x 3 x 1, but its pages",
        ),
        (numbers((4, 5, 4), "u1"), {"photometric": "separated"}, "space SEPARATED"),
        (numbers((4, 5), "c8"), {}, "complex64"),
    ],
    ids=["axes unlike the stored order", "another color space", "complex values"],
)
def test_pixels_that_are_no_intensities_are_refused(tmp_path, pixels, options, match):
    with pytest.raises(ImageReadError, match=match):
        open_image(save(tmp_path / "a.tif", pixels, **options))


@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}, {"tile": (16, 16)}])
@pytest.mark.parametrize("part", [0.3, 0.6, 0.95])
def test_a_truncated_file_is_refused_by_name(tmp_path, options, part, rng):
    pixels = rng.integers(0, 60000, (3, 60, 60), dtype=np.uint16)
    path = save(tmp_path / "cut short.tif", pixels, metadata=None, **options)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * part)])
    with pytest.raises(ImageReadError, match=r"cut short\.tif"), open_image(path) as s:
        whole(s, 2)


@pytest.mark.parametrize("codec", [1, 5, 8, 32773, 50000])
@pytest.mark.parametrize("rows", [10**6, 1])
def test_a_header_of_a_million_squared_is_refused_with_its_numbers(
    tmp_path, codec, rows
):
    path = tmp_path / "huge.tif"
    path.write_bytes(header(10**6, 10**6, rows, codec))
    with pytest.raises(ImageReadError, match=r"huge\.tif .*\d") as refusal:
        open_image(path)
    assert "000,000" in str(refusal.value) or "1000000" in str(refusal.value)


def test_a_small_header_of_this_kind_is_read(tmp_path):
    path = tmp_path / "small.tif"
    path.write_bytes(header(10, 5, 5))
    with open_image(path) as source:
        assert source.shape == (5, 10)


@pytest.mark.parametrize(("width", "height", "rows"), [(0, 5, 5), (5, 0, 5), (5, 5, 0)])
def test_an_image_without_pixels_is_refused(tmp_path, width, height, rows):
    path = tmp_path / "empty.tif"
    path.write_bytes(header(width, height, rows))
    with pytest.raises(ImageReadError, match=r"empty\.tif"):
        open_image(path)


def test_a_tiff_without_pages_is_refused(tmp_path):
    path = tmp_path / "none.tif"
    path.write_bytes(b"II*\0" + bytes(20))
    with pytest.raises(ImageReadError, match="without an image"):
        open_image(path)


@pytest.mark.slow
@settings(max_examples=150)
@given(st.data())
def test_damage_anywhere_is_an_image_read_error_or_no_error(data):
    codec = data.draw(st.sampled_from(["zlib", "lzw", None]))
    pixels = np.random.default_rng(1).integers(0, 900, (2, 20, 20)).astype(np.uint16)
    options = data.draw(
        st.sampled_from([{"metadata": None}, {"ome": True}, {"imagej": codec is None}])
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.tif"
        save(path, pixels, compression=codec, **options)
        content = bytearray(path.read_bytes())
        for _ in range(data.draw(st.integers(1, 4))):
            place = data.draw(st.integers(4, len(content) - 1))
            content[place] = data.draw(st.integers(0, 255))
        path.write_bytes(content[: data.draw(st.integers(8, len(content)))])
        message = "a.tif"
        try:
            with open_image(path) as source:
                for plane in range(math.prod(source.plane_shape)):
                    whole(source, plane)
        except ImageReadError as error:
            message = str(error)
    assert "a.tif" in message
    assert "\n" not in message


@pytest.mark.data
def test_published_images_are_read_as_tifffile_reads_them(data_dir):
    for path in sorted((data_dir / "bbbc039" / "images").glob("*.tif"))[:5]:
        with open_image(path) as source:
            assert source.shape == (520, 696)
            assert source.pixel_size_um == (0.645, 0.645)
            np.testing.assert_array_equal(whole(source), tifffile.imread(path))
