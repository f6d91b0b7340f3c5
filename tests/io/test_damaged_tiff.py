"""A part of a TIFF that is lost: named with its place, or zeros on request."""

from __future__ import annotations

import struct

import numpy as np
import pytest
import tifffile

from cellunet.errors import ImageReadError
from cellunet.io.images import open_image
from cellunet.io.source import Region
from tests.io.pixels import whole

RNG = np.random.default_rng(3)
PIXELS = RNG.integers(1, 60000, (64, 96), dtype=np.uint16)


def save(path, pixels=PIXELS, **options):
    tifffile.imwrite(path, pixels, photometric="minisblack", **options)
    return path


def offsets(path, page: int = 0):
    with tifffile.TiffFile(path) as tiff:
        return tiff.pages[page].dataoffsets, tiff.pages[page].databytecounts


def overwrite(path, place: int, data: bytes) -> None:
    content = bytearray(path.read_bytes())
    content[place : place + len(data)] = data
    path.write_bytes(content)


@pytest.fixture
def broken_tile(tmp_path):
    """The tile at x 32 to 63, y 16 to 31 holds rubbish."""
    path = save(tmp_path / "scan.tif", tile=(16, 32), compression="zlib")
    overwrite(path, offsets(path)[0][4], b"rubbish" * 3)
    return path


def test_a_broken_tile_is_named_with_its_place(broken_tile):
    with open_image(broken_tile) as source:
        source.read(Region(0, 0, 16, 0, 96))
        with pytest.raises(
            ImageReadError, match=r"scan\.tif is damaged: its tile at x 32 to 63, y 16"
        ) as refusal:
            whole(source)
    assert "--keep-going" in refusal.value.hint


def test_zeros_stand_in_a_broken_tile_on_request(broken_tile):
    expected = PIXELS.copy()
    expected[16:32, 32:64] = 0
    with open_image(broken_tile, keep_going=True) as source:
        assert source.damaged == ()
        for _ in range(2):
            np.testing.assert_array_equal(whole(source), expected)
        (damage,) = source.damaged
    assert damage.place == "tile at x 32 to 63, y 16 to 31 of plane 0"


def test_a_file_cut_short_names_its_first_lost_tile_or_reads_the_others(tmp_path):
    path = save(tmp_path / "a.tif", tile=(16, 32), compression="zlib")
    starts, counts = offsets(path)
    content = path.read_bytes()
    # Its directory lies in front.
    path.write_bytes(content[: starts[10] + counts[10] // 2])
    with pytest.raises(ImageReadError, match=r"2 of its 12 tiles .* x 32 to 63, y 48"):
        open_image(path)
    with open_image(path, keep_going=True) as source:
        pixels = whole(source)
        assert len(source.damaged) == 2
    np.testing.assert_array_equal(pixels[:48], PIXELS[:48])
    np.testing.assert_array_equal(pixels[48:, :32], PIXELS[48:, :32])
    assert not pixels[48:, 32:].any()


@pytest.mark.parametrize("options", [{}, {"rowsperstrip": 64}])
def test_raw_rows_beyond_the_end_are_zeros_in_every_region(tmp_path, options):
    path = save(tmp_path / "a.tif", **options)
    (start, *_), _ = offsets(path)
    path.write_bytes(path.read_bytes()[: start + 20 * 96 * 2 + 30])
    with pytest.raises(ImageReadError):
        open_image(path)
    with open_image(path, keep_going=True) as source:
        pixels = whole(source)
        np.testing.assert_array_equal(pixels[:20], PIXELS[:20])
        assert not pixels[20:].any()
        np.testing.assert_array_equal(
            source.read(Region(0, 10, 40, 3, 5))[0], pixels[10:40, 3:5]
        )
        (damage,) = source.damaged
    assert (damage.y0, damage.y1, damage.x0, damage.x1) == (20, 64, 0, 96)


@pytest.mark.parametrize("codec", ["zlib", "lzma"])
def test_a_strip_with_a_wrong_checksum_is_lost(tmp_path, codec):
    path = save(tmp_path / "a.tif", compression=codec, rowsperstrip=32)
    starts, counts = offsets(path)
    place = starts[1] + counts[1] - (1 if codec == "zlib" else 30)
    overwrite(path, place, bytes([path.read_bytes()[place] ^ 1]))
    with open_image(path, keep_going=True) as source:
        pixels = whole(source)
        (damage,) = source.damaged
    assert damage.place == "strip at x 0 to 95, y 32 to 63 of plane 0"
    np.testing.assert_array_equal(pixels[:32], PIXELS[:32])
    assert not pixels[32:].any()


def test_tiles_that_share_bytes_are_refused_with_their_places(tmp_path):
    path = save(tmp_path / "a.tif", tile=(16, 32), compression="zlib")
    with tifffile.TiffFile(path, mode="r+") as tiff:
        tag = tiff.pages[0].tags[324]
        values = list(tag.value)
        values[5] = values[4] + 3
        tag.overwrite(values)
    with pytest.raises(
        ImageReadError,
        match=r"two tiles of page 0 share bytes .* x 32 to 63, y 16 to 31 and x 64",
    ):
        open_image(path)


def test_equal_tiles_that_are_kept_once_are_no_damage(tmp_path):
    path = save(tmp_path / "a.tif", tile=(16, 32), compression="zlib")
    with tifffile.TiffFile(path, mode="r+") as tiff:
        for code in (324, 325):
            tag = tiff.pages[0].tags[code]
            tag.overwrite([tag.value[0], tag.value[0], *tag.value[2:]])
    with open_image(path) as source:
        pixels = whole(source)
    np.testing.assert_array_equal(pixels[:16, 32:64], PIXELS[:16, :32])


def test_an_unknown_compression_is_refused_even_if_asked_to_keep_going(tmp_path):
    path = save(tmp_path / "a.tif")
    with tifffile.TiffFile(path, mode="r+") as tiff:
        tiff.pages[0].tags[259].overwrite(60001)
    with pytest.raises(ImageReadError, match=r"cannot undo|cannot be read"):
        open_image(path, keep_going=True)


def _directory(
    next_at: int,
    sub_at: int | None = None,
    subs: int = 1,
    kinds: dict[int, int] | None = None,
) -> bytes:
    """Return a directory of a 4 x 4 image at byte 0, little-endian.

    Tags in `kinds` are of other types than TIFF 6.0 has for them.
    """
    entries = [
        (256, 3, 1, 4),
        (257, 3, 1, 4),
        (258, 3, 1, 8),
        (259, 3, 1, 1),
        (262, 3, 1, 1),
        (273, 4, 1, 0),
        (277, 3, 1, 1),
        (278, 3, 1, 4),
        (279, 4, 1, 16),
    ]
    if sub_at is not None:
        entries.append((330, 4, subs, sub_at))
    kinds = kinds or {}
    tags = b"".join(
        struct.pack("<HHII", tag, kinds.get(tag, kind), count, value)
        for tag, kind, count, value in entries
    )
    return struct.pack("<H", len(entries)) + tags + struct.pack("<I", next_at)


@pytest.mark.parametrize(
    ("directories", "message"),
    [
        ({8: _directory(8)}, "chain of 1 pages runs in a circle"),
        ({8: _directory(300), 300: _directory(8)}, "chain of 2 pages runs in a circle"),
        ({8: _directory(0, sub_at=8)}, "lead back to it"),
        ({8: _directory(0, 300), 300: _directory(0, sub_at=8)}, "lead back to it"),
        ({8: _directory(0, sub_at=400)}, "does not fit into its"),
        ({8: _directory(121), 121: bytes(6)}, "bytes 8 and 121 overlap"),
        ({8: _directory(0, kinds={256: 11})}, "ImageWidth is stored as floats"),
        ({8: _directory(0, kinds={278: 5})}, "RowsPerStrip is stored as fractions"),
        ({8: _directory(0, kinds={273: 2})}, "StripOffsets is stored as text"),
        (
            {8: _directory(0, 200, 7), 200: struct.pack("<7I", *[300] * 7)},
            "7 smaller versions or more, too many for its 400 bytes",
        ),
    ],
)
def test_directories_that_cannot_be_are_refused(tmp_path, directories, message):
    path = tmp_path / "a.tif"
    content = bytearray(400)
    content[:8] = b"II*\0" + struct.pack("<I", 8)
    for place, data in directories.items():
        content[place : place + len(data)] = data
    path.write_bytes(content)
    with pytest.raises(ImageReadError, match=message):
        open_image(path)
