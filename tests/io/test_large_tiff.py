"""Large files: streamed, sparse, beyond 4 GiB; what they take is said."""

from __future__ import annotations

import struct
import sys
import tempfile
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from cellunet.errors import ImageReadError, OutputError
from cellunet.io import label_tiff as sink
from cellunet.io import tiff_pixels as reading_memory
from cellunet.io import (
    tiff_pixels as row_window,
)
from cellunet.io import (
    tiff_pixels as segments,
)
from cellunet.io import (
    tiff_strips as decoders,
)
from cellunet.io import (
    tiff_strips as strips,
)
from cellunet.io.decoding import codec_of, isolated_bytes
from cellunet.io.images import create_labels, open_image
from cellunet.io.png import write_png
from cellunet.io.source import Region

PIXELS = np.random.default_rng(1).poisson(200, (900, 120)).astype(np.uint16)


def save(path, pixels=PIXELS, **options):
    tifffile.imwrite(path, pixels, photometric="minisblack", **options)
    return path


def stream_all(patch: pytest.MonkeyPatch) -> None:
    """Stream all strips in small steps, keep few rows and many states."""
    patch.setattr(segments, "STREAM_BYTES", 0)
    patch.setattr(row_window, "KEPT_ROWS", 60)
    patch.setattr(row_window, "STEP_ROWS", 16)
    patch.setattr(strips, "MARK_BYTES", 20_000)
    patch.setattr(decoders, "MOST_BYTES", 5_000)
    patch.setattr(decoders, "CHUNK_BYTES", 3_000)


@pytest.fixture
def streaming(monkeypatch):
    stream_all(monkeypatch)


@pytest.mark.parametrize("codec", ["zlib", "lzw", "lzma", "packbits"])
@settings(max_examples=15)
@given(data=st.data())
def test_a_streamed_strip_is_read_in_any_order(codec, data):
    kind = data.draw(st.sampled_from(["u2", "f4", ">u2", ">f4", "u1"]))
    pixels = PIXELS.astype(kind)
    predict = codec != "packbits" and data.draw(st.booleans())
    bands = st.tuples(st.integers(0, 899), st.integers(1, 100), st.integers(0, 100))
    with (
        tempfile.TemporaryDirectory() as folder,
        pytest.MonkeyPatch.context() as patch,
    ):
        stream_all(patch)
        path = save(
            Path(folder) / "a.tif",
            pixels,
            compression=codec,
            predictor=predict,
            rowsperstrip=data.draw(st.sampled_from([900, 333])),
            byteorder=">" if kind[0] == ">" else "<",
        )
        with open_image(path) as source:
            for y0, height, x0 in data.draw(st.lists(bands, min_size=1, max_size=8)):
                y1 = min(y0 + height, 900)
                part = source.read(Region(0, y0, y1, x0, x0 + 20))[0]
                np.testing.assert_array_equal(part, pixels[y0:y1, x0 : x0 + 20])


def test_a_pass_in_windows_decodes_each_row_once(streaming, tmp_path, monkeypatch):
    path = save(tmp_path / "a.tif", compression="zlib", rowsperstrip=900)
    decoded = []
    values = strips.RowForm.values
    monkeypatch.setattr(
        strips.RowForm,
        "values",
        lambda self, data: decoded.append(len(data)) or values(self, data),
    )
    with open_image(path) as source:
        for y0 in range(0, 900, 50):
            for x0 in range(0, 120, 40):
                source.read(Region(0, y0, min(y0 + 60, 900), x0, x0 + 40))
    assert sum(decoded) == PIXELS.nbytes


def test_a_later_pass_starts_from_a_kept_state(streaming, tmp_path, monkeypatch):
    path = save(tmp_path / "a.tif", compression="zlib", rowsperstrip=900)
    fresh = []
    make = strips.DECODERS[8]
    monkeypatch.setitem(segments.DECODERS, 8, lambda r: fresh.append(1) or make(r))
    with open_image(path) as source:
        source.read(Region(0, 890, 900, 0, 120))
        part = source.read(Region(0, 500, 510, 0, 120))[0]
    np.testing.assert_array_equal(part, PIXELS[500:510])
    assert len(fresh) == 1


def test_a_projection_of_streamed_planes(streaming, tmp_path):
    pixels = np.stack([PIXELS, PIXELS[::-1], PIXELS[:, ::-1]])
    path = save(
        tmp_path / "a.tif",
        pixels,
        compression="zlib",
        rowsperstrip=900,
        metadata={"axes": "ZYX"},
    )
    with open_image(path, z="max") as source:
        for y0 in range(0, 900, 300):
            part = source.read(Region(0, y0, y0 + 300, 5, 25))[0]
            expected = pixels[:, y0 : y0 + 300, 5:25].max(axis=0)
            np.testing.assert_array_equal(part, expected)


def test_what_is_decoded_whole_is_said_and_can_be_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(segments, "STREAM_BYTES", 1000)
    monkeypatch.setattr(reading_memory, "NOTED_BYTES", 100_000)
    whole = save(tmp_path / "a.tif", compression="zstd", rowsperstrip=900)
    write_png(tmp_path / "b.png", PIXELS)
    streamed = save(tmp_path / "c.tif", compression="zlib", rowsperstrip=900)
    for path in (whole, tmp_path / "b.png"):
        assert (
            f"{path.name} can only be decoded in pieces" in open_image(path).memory_note
        )
        with pytest.raises(ImageReadError, match="pieces of 216,000 bytes; the limit"):
            open_image(path, limit_bytes=200_000)
    assert "can only" not in open_image(streamed, limit_bytes=200_000).memory_note
    monkeypatch.undo()
    assert open_image(whole).memory_note == ""


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
    monkeypatch.setattr(sink, "CLASSIC_BYTES", 0)
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
    return create_labels(
        path,
        shape=labels.shape[-2:],
        plane_axes="T"[: labels.ndim - 2],
        plane_shape=labels.shape[:-2],
        dtype=labels.dtype,
        pixel_size_um=None,
        provenance={},
    )


@pytest.mark.parametrize("shape", [(1, 10**6), (10**6, 1)])
def test_lines_of_a_million_pixels_are_written_and_read(tmp_path, shape):
    # What waits uncompressed is a strip, whatever the shape of the image.
    labels = np.arange(10**6, dtype=np.uint32).reshape(shape)
    path = tmp_path / "a.tif"
    with labels_at(path, labels) as target:
        for y0 in range(0, shape[0], 1000):
            target.write(0, y0, labels[y0 : y0 + 1000])
        band = target._pages[0].band
        assert band is None or band.nbytes <= max(sink.STRIP_BYTES, 4 * shape[1])
        target.commit()
    with open_image(path) as source:
        got = source.read(Region(0, 0, shape[0], 0, shape[1]))[0]
    np.testing.assert_array_equal(got, labels)


@pytest.mark.parametrize("part", [0.2, 0.8])
def test_a_disk_that_fills_while_tiles_wait_leaves_nothing(tmp_path, monkeypatch, part):
    monkeypatch.setattr(sink, "MEMORY_BYTES", 1)
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
def test_reading_holds_no_more_than_is_counted(tmp_path, monkeypatch, options):
    monkeypatch.setattr(segments, "STREAM_BYTES", 2**20)
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
