"""Decoding in a process of its own: the same pixels, and only where it is needed."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile

from cellunet.errors import ImageReadError
from cellunet.io import tiff_pixels
from cellunet.io.decoding import (
    CODECS,
    PNG,
    PROCESS_BYTES,
    SHARED,
    _answer,
    codec_of,
    decode_file,
)
from cellunet.io.images import open_image
from cellunet.io.source import DecodingError, Region
from tests.io.pixels import read

RNG = np.random.default_rng(5)
PIXELS = RNG.integers(0, 200, (64, 96)).astype(np.uint8)
LOSSLESS = {
    **{"zlib": {}, "lzw": {}, "packbits": {}, "zstd": {}, "lzma": {}, "png": {}},
    "jpeg2000": {"compressionargs": {"level": 0, "reversible": True}},
    "webp": {"compressionargs": {"lossless": True}},
    "jpegxl": {"compressionargs": {"lossless": True}},
    "lerc": {},
}


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
    colors = "rgb" if codec == "webp" else "minisblack"
    options = {"photometric": colors, "compression": codec, **LOSSLESS[codec]}
    tifffile.imwrite(path, pixels, **options, **layout)
    expected = tifffile.imread(path)
    np.testing.assert_array_equal(expected, pixels)
    got = read(path, channel="1") if codec == "webp" else read(path)
    np.testing.assert_array_equal(got, PIXELS)
    assert SHARED.pid is not None


@pytest.mark.parametrize("jpeg", [{}, {"subsampling": (2, 2)}])
def test_jpeg_gets_its_tables_and_its_colors(tmp_path, jpeg):
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
    decode = SHARED.decode
    monkeypatch.setattr(
        SHARED,
        "decode",
        lambda codec, decoder, calls, size: (
            asked.append(len(calls)) or decode(codec, decoder, calls, size)
        ),
    )
    np.testing.assert_array_equal(read(path), PIXELS)
    assert asked == [32]
    monkeypatch.setattr(tiff_pixels, "TOGETHER_BYTES", 5 * 2 * 96)
    np.testing.assert_array_equal(read(path), PIXELS)
    assert asked == [32, 5, 5, 5, 5, 5, 5, 2]


def test_a_file_that_changes_between_two_reads_is_refused(tmp_path):
    path, other = tmp_path / "a.tif", tmp_path / "b.tif"
    options = {"compression": "lzw", "photometric": "minisblack", "tile": (32, 48)}
    tifffile.imwrite(path, PIXELS, **options)
    tifffile.imwrite(other, PIXELS, predictor=True, **options)
    with open_image(path) as source:
        source.read(Region(0, 0, 32, 0, 96))
        other.replace(path)
        with pytest.raises(ImageReadError, match="has changed since"):
            source.read(Region(0, 32, 64, 0, 96))


def test_a_file_of_a_new_inode_number_is_the_same_file(tmp_path):
    path, copy = tmp_path / "a.tif", tmp_path / "b.tif"
    tifffile.imwrite(path, PIXELS, compression="lzw", tile=(32, 48))
    shutil.copy2(path, copy)
    with open_image(path) as source:
        source.read(Region(0, 0, 32, 0, 96))
        copy.replace(path)
        found = source.read(Region(0, 32, 64, 0, 96))[0]
    np.testing.assert_array_equal(found, PIXELS[32:])


def test_what_a_decoder_says_is_passed_on():
    with pytest.raises(DecodingError, match=r"\w"):
        decode_file(PNG, b"\x89PNG\r\n\x1a\n nothing", 100)


def test_all_but_what_is_not_compressed_is_isolated():
    assert [number for number, codec in CODECS.items() if not codec.isolated] == [1]
    assert codec_of(12345).isolated


def test_all_that_tifffile_decodes_has_a_row():
    known = {k for k in range(1, 65536) if k in tifffile.TIFF.DECOMPRESSORS}
    assert known <= CODECS.keys()


def test_the_process_imports_what_it_needs():
    code = (
        "import sys, cellunet.io.decoding\n"
        "print(*[m for m in ('torch', 'scipy', 'skimage', 'onnxruntime', 'typer') "
        "if m in sys.modules])"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert ran.stdout.split() == []


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_the_process_takes_no_more_than_is_counted(tmp_path, monkeypatch):
    # Libraries are compiled once, as pip does; compiling tifffile takes 60 MB.
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    monkeypatch.setenv("PYTHONPYCACHEPREFIX", str(tmp_path))
    for _ in "compiled", "measured":
        # A process of its own: what others asked of the shared one counts as well.
        SHARED.close()
        decode_file(PNG, imagecodecs.png_encode(PIXELS), PIXELS.nbytes)
    status = Path(f"/proc/{SHARED.pid}/status").read_text("ascii")
    lines = dict(line.split(":", 1) for line in status.splitlines())
    assert int(lines["VmHWM"].split()[0]) * 1024 < PROCESS_BYTES


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_fork_starts_a_process_of_its_own():
    encoded = imagecodecs.png_encode(PIXELS)
    decode_file(PNG, encoded, PIXELS.nbytes)
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            before = SHARED.pid
            same = np.array_equal(decode_file(PNG, encoded, PIXELS.nbytes), PIXELS)
            SHARED.close()
            code = 0 if same and before is None else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    got = decode_file(PNG, encoded, PIXELS.nbytes)
    np.testing.assert_array_equal(got, PIXELS)


@pytest.mark.parametrize(
    ("line", "error"),
    [
        (b"", EOFError),
        (b"rubbish\n", ValueError),
        (b"[" * 5000 + b"\n", (ValueError, RecursionError)),
        (b"{}\n", LookupError),
        (b"5\n", TypeError),
        (b'{"dtype": "O", "shape": [1]}\n12345678', ValueError),
        (b'{"dtype": "<u2", "shape": [-1, -2]}\n1234', ValueError),
        (b'{"dtype": "|u1", "shape": [5]}\n1234', EOFError),
        (b'{"dtype": "|u1", "shape": [2000]}\n', ValueError),
    ],
)
def test_an_answer_that_makes_no_sense_takes_no_memory_and_is_an_error(line, error):
    with pytest.raises(error):
        _answer(io.BytesIO(line), 1000)


def test_an_answer_is_pixels_or_what_the_decoder_says():
    answers = io.BytesIO(
        b'{"dtype": "<u2", "shape": [1, 2]}\n\x01\x00\x02\x00'
        b'{"error": "no image", "bug": false}\n'
    )
    np.testing.assert_array_equal(_answer(answers, 4), [[1, 2]])
    assert str(_answer(answers, 4)) == "no image"
