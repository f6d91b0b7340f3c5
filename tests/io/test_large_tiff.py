"""Large files: in strips, sparse, beyond 4 GiB; what they take is said."""

from __future__ import annotations

import re
import struct
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from cellunet.errors import ImageReadError, OutputError
from cellunet.io import label_tiff
from cellunet.io import source as io_source
from cellunet.io.decoding import codec_of, isolated_bytes
from cellunet.io.images import create_labels, open_image
from cellunet.io.label_tiff import ImageSpec
from cellunet.io.png_jpeg import write_png
from cellunet.io.source import Region
from tests.io.pixels import decoded_pieces

PIXELS = np.random.default_rng(1).poisson(200, (900, 120)).astype(np.uint16)


def save(path, pixels=PIXELS, **options):
    tifffile.imwrite(path, pixels, photometric="minisblack", **options)
    return path


@pytest.mark.parametrize("rows", [900, 300, 16])
def test_a_pass_in_windows_decodes_each_strip_once(tmp_path, monkeypatch, rows):
    pixels = np.stack([PIXELS, PIXELS[::-1]])
    options = {"compression": "zlib", "metadata": {"axes": "ZYX"}}
    path = save(tmp_path / "a.tif", pixels, rowsperstrip=rows, **options)
    decoded = decoded_pieces(monkeypatch)
    with open_image(path, z="max") as source:
        for y0 in range(0, 900, 100):
            for x0 in range(0, 120, 40):
                y1 = min(y0 + 120, 900)
                part = source.read(Region(0, y0, y1, x0, x0 + 40))[0]
                expected = pixels[:, y0:y1, x0 : x0 + 40].max(axis=0)
                np.testing.assert_array_equal(part, expected)
    assert len(decoded) == 2 * -(-900 // rows)


def test_what_is_decoded_whole_is_said_and_can_be_refused(tmp_path, monkeypatch):
    whole = save(tmp_path / "a.tif", compression="zlib", rowsperstrip=900)
    write_png(tmp_path / "b.png", PIXELS)
    assert open_image(whole).memory_note == ""
    monkeypatch.setattr(io_source, "NOTED_BYTES", 48_000_000)
    for path in (whole, tmp_path / "b.png"):
        note = open_image(path).memory_note
        assert note.startswith(f"{path.name} can only be decoded in pieces of 0 MiB")
        assert re.search(r"takes up to \d\d MiB of memory\. As a tiled", note)
        with pytest.raises(ImageReadError, match="pieces of 216,000 bytes; the limit"):
            open_image(path, limit_bytes=200_000)
    raw = save(tmp_path / "c.tif", rowsperstrip=900)
    assert open_image(raw, limit_bytes=200_000).memory_note == ""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("options", [{}, {"tile": (16, 16)}, {"compression": "zlib"}])
def test_no_image_is_mapped_into_memory(tmp_path, options):
    path = save(tmp_path / "mapped.tif", **options)
    with open_image(path) as source:
        source.read(Region(0, 0, 900, 0, 120))
        assert "mapped.tif" not in Path("/proc/self/maps").read_text()


def big_sparse(path, places: dict[int, int], side: int) -> None:
    """Write a BigTIFF of 16 x 16 tiles whose data lie at `places`, by tile number."""
    count = (side // 16) ** 2
    starts = [places.get(k, 0) for k in range(count)]
    sizes = [256 if k in places else 0 for k in range(count)]
    table = struct.pack(f"<{count}Q", *starts) + struct.pack(f"<{count}Q", *sizes)
    entries = [
        (256, 4, 1, side),
        (257, 4, 1, side),
        (258, 3, 1, 8),
        (259, 3, 1, 1),
        (262, 3, 1, 1),
        (277, 3, 1, 1),
        (322, 3, 1, 16),
        (323, 3, 1, 16),
        (324, 16, count, 16),
        (325, 16, count, 16 + 8 * count),
    ]
    tags = b"".join(struct.pack("<HHQQ", *e) for e in entries)
    directory = struct.pack("<Q", len(entries)) + tags + struct.pack("<Q", 0)
    with path.open("wb") as file:
        file.write(b"II+\0" + struct.pack("<HHQ", 8, 0, 16 + len(table)))
        file.write(table + directory)
        for number, place in places.items():
            file.seek(place)
            file.write(bytes([number % 255 + 1]) * 256)


@settings(max_examples=20)
@given(
    places=st.dictionaries(
        st.integers(0, 63), st.integers(2**20, 2**36), min_size=1, max_size=4
    )
)
def test_tiles_anywhere_in_a_large_file_are_found(tmp_path_factory, places):
    # Holes of a sparse file: no gigabyte is written.
    spread = {k: (v & ~0xFFF) + k * 2**12 for k, v in places.items()}
    if len(set(spread.values())) < len(spread):
        return
    path = tmp_path_factory.mktemp("sparse") / "a.btf"
    big_sparse(path, spread, 128)
    with open_image(path) as source:
        pixels = source.read(Region(0, 0, 128, 0, 128))[0]
    path.unlink()
    expected = np.zeros((128, 128), np.uint8)
    for number in spread:
        y, x = divmod(number, 8)
        expected[16 * y : 16 * y + 16, 16 * x : 16 * x + 16] = number % 255 + 1
    np.testing.assert_array_equal(pixels, expected)


def test_labels_beyond_4_gib_of_a_file_come_back(tmp_path, monkeypatch):
    """The first tiles of the second plane are moved behind a hole of 5 GiB."""
    monkeypatch.setattr(label_tiff, "CLASSIC_BYTES", 0)
    labels = np.arange(2 * 300 * 20, dtype=np.uint32).reshape(2, 300, 20) + 2**31
    write = tifffile.TiffWriter.write

    def behind(self, *given, **options):
        if options["description"] is None:
            self._fh.seek(5 * 2**30)
        return write(self, *given, **options)

    monkeypatch.setattr(tifffile.TiffWriter, "write", behind)
    path = tmp_path / "a.tif"
    with labels_at(path, labels) as target:
        for plane in range(2):
            target.write(plane, 0, labels[plane])
        target.commit()
    assert path.stat().st_size > 5 * 2**30
    with tifffile.TiffFile(path) as tiff:
        assert tiff.is_bigtiff
        assert min(tiff.pages[1].dataoffsets) > 2**32
    with open_image(path) as source:
        for plane in range(2):
            part = source.read(Region(plane, 0, 300, 0, 20))[0]
            np.testing.assert_array_equal(part, labels[plane])


def labels_at(path, labels):
    spec = ImageSpec(
        shape=labels.shape[-2:],
        plane_axes="T"[: labels.ndim - 2],
        plane_shape=labels.shape[:-2],
        dtype=labels.dtype,
    )
    return create_labels(path, spec)


@pytest.mark.parametrize("shape", [(1, 10**6), (10**6, 1)])
def test_lines_of_a_million_pixels_are_written_and_read(tmp_path, shape):
    # What waits uncompressed is a strip, whatever the shape of the image.
    labels = np.arange(10**6, dtype=np.uint32).reshape(shape)
    path = tmp_path / "a.tif"
    with labels_at(path, labels) as target:
        for y0 in range(0, shape[0], 1000):
            target.write(0, y0, labels[y0 : y0 + 1000])
        band = target._pages[0].band
        assert band is None or band.nbytes <= max(label_tiff.STRIP_BYTES, 4 * shape[1])
        target.commit()
    with open_image(path) as source:
        got = source.read(Region(0, 0, shape[0], 0, shape[1]))[0]
    np.testing.assert_array_equal(got, labels)


@pytest.mark.parametrize("part", [0.2, 0.8])
def test_a_disk_that_fills_while_tiles_wait_leaves_nothing(tmp_path, monkeypatch, part):
    monkeypatch.setattr(label_tiff, "WAITING_BYTES", 1)
    labels = np.random.default_rng(0).integers(0, 2**32, (2000, 300), dtype=np.uint32)
    written = []

    def write(data):
        written.append(len(data))
        if sum(written) > part * labels.nbytes:
            raise OSError(28, "No space left on device")
        return len(data)

    target = labels_at(tmp_path / "a.tif", labels)
    monkeypatch.setattr(target._waiting, "write", write)
    with target, pytest.raises(OutputError, match=r"no room .*Free space"):
        target.write(0, 0, labels)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"tile": (256, 256), "compression": "zlib"},
        {"tile": (1024, 1024), "compression": "zstd"},
        {"rowsperstrip": 16, "compression": "zlib"},
        {"rowsperstrip": 16, "compression": "lzw", "predictor": True},
        {"rowsperstrip": 2048, "compression": "zlib"},
        {"rowsperstrip": 2048, "compression": "zstd"},
    ],
    ids=lambda options: " ".join(map(str, options.values())) or "raw",
)
def test_reading_holds_no_more_than_is_counted(tmp_path, options):
    pixels = np.random.default_rng(0).integers(0, 99, (2048, 4096)).astype(np.uint16)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, pixels, photometric="minisblack", **options)
    side, largest = 512, 0
    with open_image(path) as source:
        counted = source.held_bytes(side)
        tracemalloc.start()
        try:
            for y, x in np.ndindex(4, 8):
                region = (side * y, side * (y + 1), side * x, side * (x + 1))
                asked = source.read(Region(0, *region)).nbytes
            largest = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    # Twice what is asked for: pixels are put together before they are handed out.
    assert largest <= counted + 2 * asked + 2**20
    most = 4 * pixels.nbytes + 2**20
    # The process that decodes holds its part once more.
    assert counted <= most + ("compression" in options) * isolated_bytes(
        codec_of(8), pixels.nbytes, pixels.nbytes
    )


def test_taller_windows_of_strips_hold_more_rows(tmp_path):
    path = save(tmp_path / "a.tif", compression="zlib", rowsperstrip=4)
    with open_image(path) as source:
        few, many = source.held_bytes(10), source.held_bytes(10_000)
    assert 0 < few <= many


def test_a_png_is_held_whole(tmp_path):
    write_png(tmp_path / "a.png", PIXELS)
    assert open_image(tmp_path / "a.png").held_bytes(1) >= 2 * PIXELS.nbytes
