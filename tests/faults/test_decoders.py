"""A decoder that crashes, hangs or takes too much costs one image, not the batch."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile

from cellunet.annotations.pixels import read_pixels
from cellunet.cli.app import main
from cellunet.errors import AnnotationError, ImageReadError
from cellunet.io.decoding import LEAST_S, SHARED
from cellunet.io.images import open_image
from cellunet.io.source import MOST_LOST, Region
from tests.conftest import CHECKOUT, draw_nuclei

JPEG_2000 = 34712
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


@pytest.fixture(autouse=True)
def breaking(monkeypatch):
    """Decoders break on request in this test alone."""
    SHARED.close()
    monkeypatch.setattr(SHARED, "module", "tests.faults.breaking_decoders")
    yield
    SHARED.close()


def save_png(path: Path, pixels, word: bytes = b"") -> Path:
    path.write_bytes(imagecodecs.png_encode(pixels) + word)
    return path


def save_tiles(path: Path, pixels, words: dict[int, bytes], side: int = 32) -> Path:
    """Write JPEG 2000 tiles, those in `words` with a word behind their data."""
    high, wide = (n // side for n in pixels.shape)
    tiles = (
        imagecodecs.jpeg2k_encode(
            pixels[y * side : (y + 1) * side, x * side : (x + 1) * side],
            level=0,
            codecformat="J2K",
        )
        + words.get(y * wide + x, b"")
        for y in range(high)
        for x in range(wide)
    )
    tifffile.imwrite(
        path,
        tiles,
        shape=pixels.shape,
        dtype=pixels.dtype,
        tile=(side, side),
        compression=JPEG_2000,
        photometric="minisblack",
    )
    return path


def whole(path: Path, **options):
    with open_image(path, **options) as source:
        height, width = source.shape
        return source.read(Region(0, 0, height, 0, width))[0], source.damaged


@pytest.mark.parametrize(
    ("word", "told"),
    [
        (b"<abort>", "decoder crashed: SIGABRT"),
        (b"<address 0>", "decoder crashed: SIGSEGV"),
        (b"<exit>", "decoder crashed: exit code 0"),
    ],
)
def test_of_three_images_the_one_that_crashes_is_named_and_two_are_done(
    tmp_path, tiny_model, capsys, word, told
):
    images, out = tmp_path / "images", tmp_path / "out"
    images.mkdir()
    for number, behind in enumerate([b"", word, b""]):
        pixels = draw_nuclei((64, 64), 8, number)[0]
        save_png(images / f"{number}.png", pixels, behind)
    words = ["predict", images, "--out", out, "--model", tiny_model.folder, "--json"]
    assert main([str(word) for word in words]) == 3
    document = json.loads(capsys.readouterr().out)
    status = [image["status"] for image in document["result"]["images"]]
    assert status == ["done", "failed", "done"]
    assert sorted(path.name for path in out.glob("*.tif")) == ["0.tif", "2.tif"]
    (failed,) = [i for i in document["result"]["images"] if i["status"] == "failed"]
    assert f"1.png cannot be read: the PNG {told}" in json.dumps(failed)
    assert "leave it out" in json.dumps(failed)


def test_train_names_the_image_in_one_error(tmp_path, capsys, write_data):
    data = write_data(tmp_path / "cells")
    path = data / "images" / "a3.tif"
    save_tiles(path, tifffile.imread(path), {1: b"<abort>"})
    assert main(["train", str(data)]) == 1
    told = capsys.readouterr().err
    assert told.count("decoder crashed") == 1
    assert "a3.tif" in told
    assert "JPEG 2000 decoder crashed: SIGABRT" in told


def test_a_crash_in_a_tile_names_its_place_or_leaves_zeros_there(tmp_path):
    pixels = draw_nuclei((96, 96), 12, 0)[0]
    path = save_tiles(tmp_path / "a.tif", pixels, {4: b"<address 0>"})
    with pytest.raises(
        ImageReadError,
        match=r"tile at x 32 to 63, y 32 to 63 .*JPEG 2000 decoder crashed: SIGSEGV",
    ) as refusal:
        whole(path)
    assert "leave it out" in refusal.value.hint
    got, (damage,) = whole(path, keep_going=True)
    expected = pixels.copy()
    expected[32:64, 32:64] = 0
    np.testing.assert_array_equal(got, expected)
    assert (damage.x0, damage.y0) == (32, 32)


@pytest.mark.slow
def test_a_file_on_which_decoders_crash_again_and_again_is_given_up(tmp_path):
    pixels = draw_nuclei((96, 96), 12, 0)[0]
    path = save_tiles(
        tmp_path / "a.tif", pixels, dict.fromkeys(range(MOST_LOST + 1), b"<abort>")
    )
    with pytest.raises(ImageReadError, match="crashed"):
        whole(path, keep_going=True)


@pytest.mark.slow
def test_a_decoder_that_does_not_end_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(SHARED, "least_s", 1.0)
    path = save_png(tmp_path / "a.png", np.ones((8, 8), np.uint8), b"<hang>")
    with pytest.raises(ImageReadError, match="PNG decoder did not end within 1 s"):
        whole(path)
    good = save_png(tmp_path / "b.png", np.ones((8, 8), np.uint8))
    assert whole(good)[0].all()


@LINUX
def test_memory_beyond_what_the_header_claims_is_refused_there(tmp_path):
    path = save_png(tmp_path / "a.png", np.ones((8, 8), np.uint8), b"<bomb>")
    with pytest.raises(ImageReadError, match="more memory than its pixels need"):
        whole(path)
    # No reason to end the process: the next image is decoded by the same one.
    pid = SHARED.pid
    assert whole(save_png(tmp_path / "b.png", np.ones((8, 8), np.uint8)))[0].all()
    assert SHARED.pid == pid


def test_an_annotation_that_crashes_a_decoder_is_named(tmp_path):
    path = save_png(tmp_path / "a.png", np.ones((8, 8), np.uint8), b"<abort>")
    with pytest.raises(AnnotationError, match=r"a\.png .*PNG decoder crashed"):
        read_pixels(path)


def test_two_threads_read_while_one_file_crashes(tmp_path):
    pixels = draw_nuclei((64, 64), 8, 0)[0]
    good = save_png(tmp_path / "good.png", pixels)
    bad = save_png(tmp_path / "bad.png", pixels, b"<abort>")
    crashed, wrong = [], []

    def read(path: Path, times: int) -> None:
        for _ in range(times):
            try:
                if not np.array_equal(whole(path)[0], pixels):
                    wrong.append(path)
            except ImageReadError:
                crashed.append(path)

    threads = [
        threading.Thread(target=read, args=(good, 20)),
        threading.Thread(target=read, args=(bad, 4)),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert crashed == [bad] * 4
    assert not wrong


PARENT = """
import sys
from pathlib import Path
from cellunet.io.decoding import SHARED
from cellunet.io.source import Region
from cellunet.io.images import open_image
SHARED.module = "tests.faults.breaking_decoders"
for name in sys.argv[2:]:
    with open_image(Path(name)) as source:
        source.read(Region(0, 0, 8, 0, 8))
    print(SHARED.pid, flush=True)
if sys.argv[1] == "wait":
    sys.stdin.read()
"""


def start(code: str, *words: Path | str, began: Path) -> subprocess.Popen[str]:
    """Run Python; `began` is there once a decoder hangs."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, words)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={
            **os.environ,
            "PYTHONPATH": str(CHECKOUT),
            "BREAKING_BEGAN": str(began),
        },
    )


def wait_for(path: Path, seconds: float = 100.0) -> None:
    until = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < until, f"no {path.name} in {seconds:.0f} s"
        time.sleep(0.05)


def ends(pid: int, seconds: float = 20.0) -> bool:
    """Return whether a process that is no child of ours ends by itself."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        stat = Path(f"/proc/{pid}/stat")
        try:
            if stat.read_text().rsplit(")", 1)[1].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.05)
    return False


@LINUX
@pytest.mark.parametrize("word", [b"", b"<hang>"], ids=["idle", "decoding"])
def test_the_process_dies_with_cellunet(tmp_path, word):
    pixels = np.ones((8, 8), np.uint8)
    paths = [save_png(tmp_path / "a.png", pixels)]
    if word:
        paths.append(save_png(tmp_path / "b.png", pixels, word))
    began = tmp_path / "began"
    with start(PARENT, "wait", *paths, began=began) as parent:
        assert parent.stdout
        pid = int(parent.stdout.readline())
        if word:
            wait_for(began)
        parent.kill()
        parent.wait()
    assert ends(pid)


@LINUX
def test_the_process_ends_when_cellunet_does(tmp_path):
    path = save_png(tmp_path / "a.png", np.ones((8, 8), np.uint8))
    with start(PARENT, "end", path, began=tmp_path / "began") as parent:
        assert parent.stdout
        pid = int(parent.stdout.readline())
        assert parent.wait(60) == 0
    assert ends(pid, 0.5)


@pytest.mark.skipif(sys.platform == "win32", reason="has no such signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_are_for_cellunet_to_decide_on(tmp_path, number):
    path = save_png(tmp_path / "a.png", np.ones((8, 8), np.uint8))
    whole(path)
    pid = SHARED.pid
    assert pid is not None
    assert os.getpgid(pid) != os.getpgid(0)
    os.kill(pid, number)
    whole(path)
    assert SHARED.pid == pid


def test_where_no_process_can_be_started_nothing_is_taken_for_damage(
    tmp_path, monkeypatch
):
    path = save_tiles(tmp_path / "a.tif", np.ones((32, 32), np.uint8), {})
    monkeypatch.setattr(sys, "executable", str(tmp_path / "nothing"))
    with pytest.raises(ImageReadError, match="cannot be started") as refusal:
        whole(path, keep_going=True)
    assert "uncompressed TIFF" in refusal.value.hint


def test_a_process_that_cannot_begin_is_told_from_one_that_crashed(
    tmp_path, monkeypatch
):
    path = save_png(tmp_path / "a.png", np.ones((8, 8), np.uint8))
    monkeypatch.setattr(SHARED, "module", "no.such.module")
    with pytest.raises(ImageReadError, match=r"did not start \(exit code 1\)"):
        whole(path)


STOPPED = """
import signal, sys
from cellunet.io.decoding import SHARED
from cellunet.cli.app import main
signal.signal(signal.SIGINT, signal.default_int_handler)
SHARED.module = "tests.faults.breaking_decoders"
raise SystemExit(main(["predict", *sys.argv[1:]]))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="has no such signals")
def test_a_second_signal_does_not_wait_for_a_decoder_that_hangs(tmp_path, tiny_model):
    path = save_png(tmp_path / "a.png", np.ones((64, 64), np.uint8), b"<hang>")
    words = [path, "--out", tmp_path / "out", "--model", tiny_model.folder]
    began = tmp_path / "began"
    with start(STOPPED, *words, began=began) as command:
        assert command.stderr
        wait_for(began)
        command.send_signal(signal.SIGINT)
        assert "once more stops at once" in command.stderr.readline()
        command.send_signal(signal.SIGINT)
        assert command.wait(LEAST_S / 3) == 130
