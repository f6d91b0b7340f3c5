"""Decoding in a process of its own: the same pixels, and only where it is needed."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile

from cellunet.io import (
    decoder_messages as messages,
)
from cellunet.io import (
    decoding as isolated,
)
from cellunet.io import (
    decoding as isolation,
)
from cellunet.io import tiff_pixels as piece_decoder
from cellunet.io.decoding import CODECS, SHARED, Task, codec_of, decode_bytes
from cellunet.io.images import open_image
from cellunet.io.source import DecodingError, Region

RNG = np.random.default_rng(5)
PIXELS = RNG.integers(0, 200, (64, 96)).astype(np.uint8)
LOSSLESS = {
    **{"zlib": {}, "lzw": {}, "packbits": {}, "zstd": {}, "lzma": {}, "png": {}},
    "jpeg2000": {"compressionargs": {"level": 0, "reversible": True}},
    "webp": {"compressionargs": {"lossless": True}},
    "jpegxl": {"compressionargs": {"lossless": True}},
    "lerc": {},
}


def read(path, **options):
    with open_image(path, **options) as source:
        height, width = source.shape
        return source.read(Region(0, 0, height, 0, width))[0]


@pytest.fixture
def no_process():
    SHARED.close()
    yield
    assert SHARED.pid is None


@pytest.mark.parametrize(
    "options",
    [{}, {"tile": (16, 32)}, {"rowsperstrip": 8}, {"rowsperstrip": 8, "bigtiff": True}],
)
@pytest.mark.usefixtures("no_process")
def test_uncompressed_pixels_start_no_process(tmp_path, options):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, PIXELS, photometric="minisblack", **options)
    np.testing.assert_array_equal(read(path), PIXELS)


@pytest.mark.parametrize("codec", LOSSLESS)
@pytest.mark.parametrize("layout", [{"tile": (16, 32)}, {"rowsperstrip": 24}])
def test_every_codec_returns_what_tifffile_does(tmp_path, codec, layout):
    pixels = np.stack([PIXELS] * 3, -1) if codec == "webp" else PIXELS
    path = tmp_path / "a.tif"
    colours = "rgb" if codec == "webp" else "minisblack"
    options = {"photometric": colours, "compression": codec, **LOSSLESS[codec]}
    tifffile.imwrite(path, pixels, **options, **layout)
    expected = tifffile.imread(path)
    np.testing.assert_array_equal(expected, pixels)
    got = read(path, channel="1") if codec == "webp" else read(path)
    np.testing.assert_array_equal(got, PIXELS)
    assert SHARED.pid is not None


@pytest.mark.parametrize("jpeg", [{}, {"subsampling": (2, 2)}])
def test_jpeg_gets_its_tables_and_its_colours(tmp_path, jpeg):
    path = tmp_path / "a.tif"
    smooth = np.add.outer(np.arange(64), np.arange(96)).astype(np.uint8)
    pixels = np.stack([smooth, smooth // 2, 200 - smooth], -1)
    tifffile.imwrite(
        path,
        pixels,
        photometric="rgb",
        compression="jpeg",
        compressionargs={"level": 95},
        tile=(32, 32),
        **jpeg,
    )
    expected = tifffile.imread(path)
    for channel in range(3):
        got = read(path, channel=str(channel))
        np.testing.assert_array_equal(got, expected[..., channel])


@pytest.mark.parametrize("predictor", [True, False])
@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_predictors_and_byte_orders_are_undone(tmp_path, predictor, byteorder, dtype):
    path = tmp_path / "a.tif"
    pixels = (PIXELS * 7.0).astype(dtype)
    options = {"compression": "lzw", "predictor": predictor, "byteorder": byteorder}
    tifffile.imwrite(path, pixels, photometric="minisblack", rowsperstrip=5, **options)
    got = read(path)
    assert got.dtype == dtype
    np.testing.assert_array_equal(got, pixels)


def test_small_pieces_are_asked_for_together(tmp_path, monkeypatch):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, PIXELS, compression="lzw", rowsperstrip=2)
    asked = []
    decode = piece_decoder.decode_pieces
    monkeypatch.setattr(
        piece_decoder,
        "decode_pieces",
        lambda page, pieces, *a: asked.append(len(pieces)) or decode(page, pieces, *a),
    )
    np.testing.assert_array_equal(read(path), PIXELS)
    assert asked == [32]
    monkeypatch.setattr(piece_decoder, "TOGETHER_BYTES", 5 * 2 * 96)
    np.testing.assert_array_equal(read(path), PIXELS)
    assert asked == [32, 5, 5, 5, 5, 5, 5, 2]


def test_a_file_that_changes_between_two_reads_is_refused(tmp_path):
    path = tmp_path / "a.tif"
    options = {"compression": "lzw", "photometric": "minisblack", "rowsperstrip": 32}
    tifffile.imwrite(path, PIXELS, **options)
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages[0]
        data = path.read_bytes()
        start, count = page.dataoffsets[0], page.databytecounts[0]
        encoded = data[start : start + count]
        other = tmp_path / "b.tif"
        tifffile.imwrite(other, PIXELS, predictor=True, **options)
        other.replace(path)
        with pytest.raises(DecodingError, match="has changed since"):
            isolated.decode_pieces(page, {0: encoded}, {}, 32 * 96)


def test_what_a_decoder_says_is_passed_on():
    with pytest.raises(DecodingError, match=r"\w"):
        isolated.decode_png(b"\x89PNG\r\n\x1a\n nothing", 100)


def test_parts_of_strips_are_decoded(rng):
    data = rng.integers(0, 9, 1000, dtype=np.uint8).tobytes()
    assert decode_bytes(5, imagecodecs.lzw_encode(data)) == data
    assert decode_bytes(32773, imagecodecs.packbits_encode(data)) == data


def test_every_row_says_why_and_what_is_unknown_is_isolated():
    assert all(codec.name and codec.why for codec in CODECS.values())
    assert [number for number, codec in CODECS.items() if not codec.isolated] == [1]
    assert codec_of(12345).isolated


def test_all_that_tifffile_decodes_has_a_row():
    known = {k for k in range(1, 65536) if k in tifffile.TIFF.DECOMPRESSORS}
    assert known <= CODECS.keys()


def test_the_process_imports_what_it_needs():
    code = (
        "import sys, cellunet.io.decoder_process\n"
        "print(*[m for m in ('torch', 'scipy', 'skimage', 'onnxruntime', 'typer') "
        "if m in sys.modules])"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert ran.stdout.split() == []


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_the_process_takes_no_more_than_is_counted():
    isolated.decode_png(imagecodecs.png_encode(PIXELS), PIXELS.nbytes)
    status = Path(f"/proc/{SHARED.pid}/status").read_text("ascii")
    lines = dict(line.split(":", 1) for line in status.splitlines())
    assert int(lines["VmHWM"].split()[0]) * 1024 < isolated.PROCESS_BYTES


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_fork_starts_a_process_of_its_own():
    encoded = imagecodecs.png_encode(PIXELS)
    isolated.decode_png(encoded, PIXELS.nbytes)
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            before = SHARED.pid
            same = np.array_equal(isolated.decode_png(encoded, PIXELS.nbytes), PIXELS)
            SHARED.close()
            code = 0 if same and before is None else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    got = isolated.decode_png(encoded, PIXELS.nbytes)
    np.testing.assert_array_equal(got, PIXELS)


def sent(head, parts=()):
    stream = io.BytesIO()
    messages.send(stream, head, parts)
    stream.seek(0)
    return stream


def test_a_message_arrives_as_it_was_sent():
    head, parts = messages.receive(sent({"a": [1, "µ"]}, [b"", b"xyz"]), 3)
    assert head["a"] == [1, "µ"]
    assert parts == [b"", b"xyz"]


def test_a_message_that_is_larger_than_it_may_be_takes_no_memory():
    with pytest.raises(ValueError, match="a message of 4 bytes"):
        messages.receive(sent({}, [b"abcd"]), 3)
    with pytest.raises(ValueError, match="head of"):
        messages.receive(io.BytesIO(b"\xff" * 100), 3)
    with pytest.raises(EOFError):
        messages.receive(io.BytesIO(sent({}, [b"abcd"]).read()[:-1]), 9)


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"results": 5},
        {"results": [{"dtype": "O", "shape": [1]}]},
        {"results": [{"dtype": "<u2", "shape": [-1, 7]}]},
        {"results": [{"dtype": "|u1", "shape": [4]}, {"dtype": "|u1", "shape": [4]}]},
    ],
)
def test_an_answer_that_makes_no_sense_is_an_error(answer):
    with pytest.raises(DecodingError):
        isolation._results(answer, [bytearray(4)])


def test_time_and_memory_follow_from_what_is_expected():
    small, large = (Task("PNG", {}, [], size) for size in (10, 2**30))
    assert small.seconds < large.seconds < 600 + isolation.LEAST_S
