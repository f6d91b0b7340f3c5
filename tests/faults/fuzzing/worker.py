"""Runs mutated inputs one by one, in a process that may die of one.

Every case is announced before and told after; the memory of the process is limited, so
that what takes too much is an error of that case.
"""

from __future__ import annotations

import io
import json
import os
import re
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from cellunet import store
from cellunet.annotations.coco import is_coco
from cellunet.annotations.imagej import roi_drawings
from cellunet.annotations.json_files import kind_of, read_json
from cellunet.annotations.read import ReadRequest, read_drawn
from cellunet.config import NormalizationConfig, UNetConfig
from cellunet.engine.int8 import ranges_of
from cellunet.engine.onnx import build_int8, read_weights
from cellunet.errors import BugError, CellunetError, ImageReadError
from cellunet.imaging.normalize import measure_channels
from cellunet.io.images import open_image
from cellunet.io.label_tiff import held_bytes, read_provenance
from cellunet.io.paths import find_inputs
from cellunet.io.source import DecoderLostError, Region
from cellunet.tasks.predict.settings import (
    MEGABYTE,
    load_engine,
    memory_for,
    window_bytes,
)
from tests.faults.fuzzing import seeds
from tests.faults.fuzzing.mutate import FORMATS, mutated

MEMORY_MB = int(os.environ.get("CELLUNET_FUZZ_MB", "0")) or None
"""As of `--max-memory`, counted before an image is read; None: not counted."""
LIMIT_BYTES = MEMORY_MB * MEGABYTE if MEMORY_MB else 256 * 2**20
"""What may be decoded in one piece."""
MORE_BYTES = 2 * 2**30
"""Address space beyond what the process has after its imports."""
MOST_PX = 2**24

Past = Callable[[], None]
"""Called when the header has been read and believed."""


def image(path: Path, past: Past) -> None:
    """Open and read every plane, as prediction does."""
    try:
        opened = open_image(path, limit_bytes=LIMIT_BYTES)
    except ImageReadError as error:
        if "--gray" not in error.hint:
            raise
        opened = open_image(path, gray=True, limit_bytes=LIMIT_BYTES)
    with opened as source:
        past()
        height, width = source.shape
        rows = max(min(MOST_PX // width, height), 1)
        network = UNetConfig()
        window = window_bytes(source.shape, network)
        held = source.held_bytes(rows) + held_bytes(source.shape)
        memory_for(MEMORY_MB, source.shape, window, held, 0)
        for plane in range(min(int(np.prod(source.plane_shape)), 4)):
            region = Region(plane, 0, rows, 0, min(width, MOST_PX))
            measure_channels(
                lambda r=region: [source.read(r)[:1]], NormalizationConfig()
            )
    read_provenance(path)


def drawn(kind: str) -> Callable[[Path, Past], None]:
    """Return what reads shapes of a kind."""

    def read(path: Path, past: Past) -> None:
        if kind == "rois":
            roi_drawings(path)
            past()
        elif kind_of(read_json(path)) is not None:
            past()
        is_coco(path)
        read_drawn(path, ReadRequest(shape=(seeds.SIDE, seeds.SIDE)), kind)

    return read


def safetensors(path: Path, past: Past) -> None:
    """Read a model's card, and its weights into a network; run it in ONNX."""
    from cellunet.core.checkpoint import load_network

    store.read_metadata(path)
    past()
    model = store.find_model(str(path))
    load_network(path)
    engine = load_engine(model, engine="onnxruntime", device="cpu", threads=1)
    engine(np.zeros((1, model.card.config.network.in_channels, 16, 16), np.float32))
    network = model.card.config.network
    build_int8(read_weights(path, network), network, ranges_of(model))


def inputs(path: Path, past: Past) -> None:
    """Find the images that a list names."""
    folder = path.parent / "tree"
    if not folder.exists():
        (folder / "sub").mkdir(parents=True)
        for name in ("a.tif", "b.png", "sub/c.tif", "sub/😀ü.tif"):
            (folder / name).touch()
        (folder / "loop").symlink_to(folder, target_is_directory=True)
    # Not the whole disk, which a mutation may well ask for.
    content = re.sub(rb"(^|[\0\r\n ])/", rb"\1@/", path.read_bytes())
    content = content.replace(b"..", b".").replace(b"@", os.fsencode(folder))
    text = io.TextIOWrapper(io.BytesIO(content), "utf-8", "surrogateescape")
    find_inputs(["-"], text)
    past()


SUFFIX = {
    "ome": ".tif",
    "codecs": ".tif",
    "tiff": ".tif",
    "rois": ".zip",
    "list": ".txt",
}
TARGETS: dict[str, Callable[[Path, Past], None]] = {
    "tiff": image,
    "codecs": image,
    "png": image,
    "ome": image,
    **{kind: drawn(kind) for kind in ("rois", "geojson", "coco", "labelme")},
    "safetensors": safetensors,
    "list": inputs,
}


def run(name: str, content: bytes, folder: Path) -> dict[str, Any]:
    """Return what became of one case."""
    path = folder / f"case{SUFFIX.get(name, f'.{name}')}"
    path.write_bytes(content)
    deep = []
    _reset_peak()
    before, begin = _peak(), time.process_time()
    outcome, where = "success", ""
    try:
        TARGETS[name](path, lambda: deep.append(1))
    except CellunetError as error:
        outcome, where = "refused", str(error)
        if isinstance(error.__cause__, DecoderLostError):
            outcome = "decoder lost"
        if isinstance(error, BugError):
            outcome = "taken for a bug"
        if len(where.splitlines()) != 1:
            outcome = "several lines"
    except Exception:  # noqa: BLE001
        outcome, where = "traceback", traceback.format_exc()
    return {
        "outcome": outcome,
        "where": where[-3000:],
        "deep": bool(deep),
        "seconds": time.process_time() - begin,
        "bytes": max(_peak() - before, 0),
    }


def _reset_peak() -> None:
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def _peak() -> int:
    """Return the most memory that the process had since the last reset, in bytes."""
    status = Path("/proc/self/status")
    if not status.exists():
        return 0
    lines = status.read_text().splitlines()
    return next(int(li.split()[1]) for li in lines if li.startswith("VmHWM")) * 1024


def limit_memory() -> None:
    """Refuse the process more address space than a case may need."""
    if sys.platform != "linux":
        return
    import resource

    lines = Path("/proc/self/status").read_text().splitlines()
    size = next(int(li.split()[1]) for li in lines if li.startswith("VmSize")) * 1024
    resource.setrlimit(resource.RLIMIT_AS, (size + MORE_BYTES,) * 2)


def main() -> None:
    """Run cases ``FORMAT SEED FIRST STOP`` of each line on standard input."""
    warnings.simplefilter("error")
    for name in FORMATS:
        mutated(name, 0, 0)
    limit_memory()
    # What libraries print to standard output must not mix with what is told.
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for line in sys.stdin:
            name, seed, first, stop = line.split()
            for index in range(int(first), int(stop)):
                content = mutated(name, int(seed), index)
                out.write(json.dumps({"begun": index}) + "\n")
                out.flush()
                told = run(name, content, Path(folder))
                out.write(json.dumps({"index": index, **told}) + "\n")
                out.flush()


if __name__ == "__main__":
    main()
