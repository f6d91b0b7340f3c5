"""Headers that claim too much are refused before memory is taken for it."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile

from cellunet.errors import ImageReadError
from cellunet.io.images import open_image
from cellunet.io.source import Region
from tests.faults.fuzzing import seeds

MOST_BYTES = 40_000_000


def huge_tiff() -> bytes:
    """A million pixels square, in a file of a kilobyte."""
    content = bytearray(seeds.tiffs()[1])
    place = struct.unpack_from(">I", content, 4)[0]
    for k in range(struct.unpack_from(">H", content, place)[0]):
        entry = place + 2 + 12 * k
        if struct.unpack_from(">H", content, entry)[0] in (256, 257):
            struct.pack_into(">HII", content, entry + 2, 4, 1, 1_000_000)
    return bytes(content)


def huge_png() -> bytes:
    head = struct.pack(">IIBBBBB", 50_000, 50_000, 16, 0, 0, 0, 0)
    parts = [b"\x89PNG\r\n\x1a\n"]
    for kind, data in ((b"IHDR", head), (b"IDAT", zlib.compress(bytes(9)))):
        check = struct.pack(">I", zlib.crc32(kind + data))
        parts.append(struct.pack(">I", len(data)) + kind + data + check)
    return b"".join(parts)


def bomb() -> bytes:
    """One strip of 2 GB of zeros, deflated to two megabytes."""
    packer, parts = zlib.compressobj(9), []
    for _ in range(64):
        parts.append(packer.compress(bytes(2**20)))
    parts.append(packer.flush())
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as tiff:
        tiff.write(
            iter([b"".join(parts)]),
            shape=(40_000, 50_000),
            dtype=np.uint8,
            compression="zlib",
            rowsperstrip=40_000,
            metadata=None,
        )
    return file.getvalue()


def pages(count: int, *, cyclic: bool) -> bytes:
    """So many directories of one pixel; the last one leads back to the first."""
    head, content = b"II*\0\x08\0\0\0", bytearray()
    size = 2 + 8 * 12 + 4
    tags = ((256, 1), (257, 1), (258, 8), (259, 1), (262, 1), (273, 8), (278, 1))
    for number in range(count):
        content += struct.pack("<H", 8)
        for tag, value in (*tags, (279, 1)):
            content += struct.pack("<HHII", tag, 4, 1, value)
        last = number == count - 1
        content += struct.pack("<I", (8 * cyclic) if last else 8 + size * (number + 1))
    return head + bytes(content)


def with_xml(text: str) -> Callable[[], bytes]:
    return lambda: seeds.ome_tiff(text)


ENTITY = '<?xml version="1.0"?><!DOCTYPE OME [<!ENTITY a "{}">]>' + seeds.OME[38:]


@pytest.mark.parametrize(
    ("make", "suffix", "told"),
    [
        (huge_tiff, ".tif", "needs|claims"),
        (huge_png, ".png", "claims 5,000,000,000 bytes"),
        (lambda: pages(300, cyclic=True), ".tif", "runs in a circle"),
        (with_xml(ENTITY.format("&a;" * 9)), ".tif", "defines XML entities"),
        (with_xml(ENTITY.format("x").replace('"x"', 'SYSTEM "file:///etc/passwd"')),
         ".tif", "defines XML entities"),
    ],
    ids=["TIFF", "PNG", "circle", "entities", "external"],
)  # fmt: skip
def test_what_cannot_be_true_is_refused_with_little_memory(
    tmp_path: Path, make: Callable[[], bytes], suffix: str, told: str
) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(make())
    tracemalloc.start()
    with pytest.raises(ImageReadError, match=told):
        open_image(path)
    assert tracemalloc.get_traced_memory()[1] < MOST_BYTES
    tracemalloc.stop()


def claim(*entries: tuple[int, int, int], size: int) -> bytes:
    """A million pixels square of 8 bits in a file of so many bytes, all of them 0."""
    common = ((256, 1, 1_000_000), (257, 1, 1_000_000), (258, 1, 8), (262, 1, 1))
    tags = [struct.pack("<HHII", n, 4, *rest) for n, *rest in (*common, *entries)]
    head = b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + b"".join(tags)
    return head.ljust(size, b"\0")


TILES, SIDE = 62 * 62, 16_384
SPARSE = claim(
    (322, 1, SIDE), (323, 1, SIDE), (324, TILES, 200), (325, TILES, 200), size=20_000
)
CUT = claim((273, 1, 200), (278, 1, 1_000_000), (279, 1, 10**9), size=300)


@pytest.mark.parametrize("content", [SPARSE, CUT], ids=["sparse", "cut short"])
def test_a_trillion_pixels_that_are_not_there_are_refused(tmp_path, content) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(content)
    with pytest.raises(ImageReadError, match=r"claims 1,000,000,000,000 bytes"):
        open_image(path, keep_going=True)


def test_a_deflated_strip_of_gigabytes_is_refused(tmp_path) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(bomb())
    assert path.stat().st_size < 3_000_000
    tracemalloc.start()
    with (
        pytest.raises(ImageReadError, match="can only be decoded in pieces of"),
        open_image(path, limit_bytes=2**28) as source,
    ):
        source.read(Region(0, 30_000, 30_064, 0, 50_000))
    assert tracemalloc.get_traced_memory()[1] < 4 * MOST_BYTES
    tracemalloc.stop()


def test_ten_thousand_pages_are_planes(tmp_path) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(pages(10_000, cyclic=False))
    with open_image(path) as source:
        assert source.plane_shape == (10_000,)
        assert source.read(Region(9_999, 0, 1, 0, 1)).shape == (1, 1, 1)
