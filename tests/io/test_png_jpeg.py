"""PNG and JPEG files."""

from __future__ import annotations

import pickle
import struct
import zlib

import imagecodecs
import numpy as np
import pytest

from cellunet.errors import ImageReadError, OutputError
from cellunet.io.images import open_image
from cellunet.io.png_jpeg import ALTERED, write_png
from cellunet.io.source import Region
from tests.io.pixels import read, whole


def save(path, pixels):
    path.write_bytes(imagecodecs.png_encode(pixels))
    return path


def chunk(kind, content):
    check = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + check


def png(width, height, bits, color, *chunks):
    header = struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0)
    body = b"".join(chunks) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + body


def rows(*lines):
    return chunk(b"IDAT", zlib.compress(b"".join(b"\0" + line for line in lines)))


@pytest.mark.parametrize("dtype", ["u1", "u2"])
@pytest.mark.parametrize("shape", [(1, 1), (15, 4000), (7, 5)])
def test_gray_is_read_by_region(tmp_path, dtype, shape):
    pixels = np.arange(shape[0] * shape[1]).astype(dtype).reshape(shape)
    with open_image(save(tmp_path / "ä 😀.png", pixels)) as source:
        assert (source.shape, source.dtype, source.plane_axes) == (shape, dtype, "")
        assert source.pixel_size_um is None
        np.testing.assert_array_equal(whole(source), pixels)
        part = source.read(Region(0, 0, 1, shape[1] - 1, shape[1]))
        assert part.shape == (1, 1, 1)
        assert part[0, 0, 0] == pixels[0, -1]


def test_alpha_beside_gray_is_dropped(tmp_path):
    pixels = np.arange(24, dtype=np.uint8).reshape(3, 4, 2)
    np.testing.assert_array_equal(
        read(save(tmp_path / "a.png", pixels)), pixels[..., 0]
    )


@pytest.mark.parametrize("samples", [3, 4])
def test_colors_need_a_choice(tmp_path, samples):
    pixels = np.arange(12 * samples, dtype=np.uint8).reshape(3, 4, samples)
    path = save(tmp_path / "a.png", pixels)
    with pytest.raises(ImageReadError, match=r"3 axes \(YXS\).*--gray for its lumin"):
        open_image(path)
    np.testing.assert_array_equal(read(path, channel="2"), pixels[..., 2])
    with open_image(path, gray=True) as source:
        expected = pixels[..., :3] @ np.array([0.299, 0.587, 0.114])
        np.testing.assert_allclose(whole(source), expected, rtol=1e-6)


def test_gray_saved_as_rgba_is_read_as_gray(tmp_path):
    pixels = np.full((3, 4, 4), 7, np.uint8)
    pixels[0, 0, :3], pixels[..., 3] = 90, 255
    with open_image(save(tmp_path / "a.png", pixels)) as source:
        np.testing.assert_allclose(whole(source), pixels[..., 0], rtol=1e-6)
        assert source.channel_names == ("luminance",)


def test_a_palette_makes_colors(tmp_path):
    table = chunk(b"PLTE", bytes([10, 20, 30, 40, 50, 60]))
    path = tmp_path / "a.png"
    path.write_bytes(png(2, 1, 8, 3, table, rows(bytes([1, 0]))))
    np.testing.assert_array_equal(read(path, channel="green"), [[50, 20]])


def test_one_bit_gray_is_0_and_255(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(png(3, 1, 1, 0, rows(bytes([0b01000000]))))
    np.testing.assert_array_equal(read(path), [[0, 255, 0]])


def test_a_source_travels_by_pickle_and_reads_again_after_close(tmp_path):
    pixels = np.arange(12, dtype=np.uint16).reshape(3, 4)
    source = open_image(save(tmp_path / "a.png", pixels))
    whole(source)
    sent = pickle.dumps(source)
    assert len(sent) < 2000
    np.testing.assert_array_equal(whole(pickle.loads(sent)), pixels)
    source.close()
    np.testing.assert_array_equal(whole(source), pixels)


def test_what_is_read_may_be_changed_without_harm(tmp_path):
    pixels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    with open_image(save(tmp_path / "a.png", pixels)) as source:
        whole(source)[:] = 0
        np.testing.assert_array_equal(whole(source), pixels)


def test_a_header_of_a_million_squared_is_refused_with_its_numbers(tmp_path):
    path = tmp_path / "huge.png"
    path.write_bytes(png(10**6, 10**6, 16, 0, rows(b"\0\0")))
    with pytest.raises(ImageReadError, match=r"huge\.png claims 2,000,000,000,000"):
        open_image(path)


def test_a_size_above_the_limit_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("cellunet.io.source.MAX_DECODED_BYTES", 100)
    path = save(tmp_path / "a.png", np.zeros((11, 10), np.uint8))
    with pytest.raises(ImageReadError, match="110 bytes; the limit is 100"):
        open_image(path)


@pytest.mark.parametrize("length", [10, 30, 60, 120, 500])
def test_a_truncated_file_is_refused_by_name(tmp_path, rng, length):
    path = save(tmp_path / "cut.png", rng.integers(0, 255, (40, 40), dtype=np.uint8))
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(ImageReadError, match=r"cut\.png"), open_image(path) as source:
        whole(source)


@pytest.mark.parametrize("header", [(0, 5, 8, 0), (5, 5, 8, 5), (5, 5, 3, 0)])
def test_an_impossible_header_is_refused(tmp_path, header):
    path = tmp_path / "a.png"
    path.write_bytes(png(*header))
    with pytest.raises(ImageReadError, match="impossible PNG header"):
        open_image(path)


@pytest.mark.parametrize(
    "pixels",
    [
        np.arange(12, dtype=np.uint8).reshape(3, 4),
        np.arange(12, dtype=np.uint16).reshape(3, 4) * 5000,
        np.arange(36, dtype=np.uint8).reshape(3, 4, 3),
        np.arange(48, dtype=np.uint8).reshape(3, 4, 4),
        np.arange(24, dtype=np.uint8).reshape(4, 6)[::2, ::3],
    ],
)
def test_what_is_written_is_read(tmp_path, pixels):
    path = tmp_path / "new folder" / "a.png"
    write_png(path, pixels)
    np.testing.assert_array_equal(imagecodecs.png_decode(path.read_bytes()), pixels)
    assert [p.name for p in path.parent.iterdir()] == ["a.png"]


def test_a_folder_in_the_way_is_named(tmp_path):
    (tmp_path / "a.png").mkdir()
    with pytest.raises(OutputError, match="a folder of that name exists"):
        write_png(tmp_path / "a.png", np.zeros((2, 2), np.uint8))


@pytest.mark.parametrize("color", [False, True])
def test_a_jpeg_is_read_and_told_to_be_lossy(tmp_path, color):
    path = tmp_path / "a.jpg"
    gray = np.tile(np.arange(64, dtype=np.uint8) * 3, (48, 1))
    pixels = np.stack([gray, gray, gray], -1) if color else gray
    path.write_bytes(imagecodecs.jpeg8_encode(pixels, level=100))
    with open_image(path, gray=color) as source:
        assert source.shape == (48, 64)
        assert source.origin.notes == (ALTERED,)
        read = source.read(Region(0, 0, 48, 0, 64))[0]
    assert np.abs(read - gray.astype(float)).max() <= 3


@pytest.mark.parametrize("side", [12_000, 60_000])
def test_a_large_jpeg_opens_without_a_warning(tmp_path, recwarn, side):
    path = tmp_path / "a.jpg"
    encoded = imagecodecs.jpeg8_encode(np.zeros((16, 16), np.uint8))
    # Height and width lie behind the marker of the frame, its length and the bits.
    at = encoded.index(b"\xff\xc0") + 5
    path.write_bytes(encoded[:at] + struct.pack(">HH", side, side) + encoded[at + 4 :])
    with open_image(path) as source:
        assert source.shape == (side, side)
    assert not list(recwarn)


def test_a_jpeg_that_is_cut_off_or_turned_is_refused(tmp_path):
    from PIL import Image

    path = tmp_path / "a.jpg"
    noise = np.random.default_rng(0).integers(0, 255, (21, 34)).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(noise).save(path, exif=exif)
    with pytest.raises(ImageReadError, match="is turned by its Exif tag"):
        open_image(path)
    path.write_bytes(imagecodecs.jpeg8_encode(noise)[:100])
    with (
        pytest.raises(ImageReadError, match=r"a\.jpg cannot be read"),
        open_image(path) as source,
    ):
        whole(source)
