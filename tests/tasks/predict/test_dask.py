"""One image over many workers: the labels of one process, whatever ends on the way."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile

distributed = pytest.importorskip("distributed")
zarr = pytest.importorskip("zarr", "3")

from cellunet.command_config import PredictConfig
from cellunet.errors import (
    CheckpointError,
    ConfigError,
    DeviceError,
    OutputError,
)
from cellunet.imaging import blocks as grid
from cellunet.imaging.decode import decode_plane
from cellunet.io.scratch import Scratch, SharedScratch
from cellunet.store import find_model
from cellunet.tasks.predict import workers
from cellunet.tasks.predict.batch import predict
from cellunet.tasks.predict.blocks import SharedNetworkStep
from cellunet.tasks.predict.inputs import Predictions
from cellunet.tasks.predict.plane import as_labels
from tests.io.zarr_stores import labels_in, write_store
from tests.tasks.predict.test_plane import (
    ENCODINGS,
    SHAPE,
    Watched,
    decoding_of,
    marks_of,
    recipe_of,
)

WINDOW_PX = 64
"""Of the network: the images here are many blocks."""


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def cluster() -> Iterator[object]:
    """Workers that are threads of this process, in which tests see what they do."""
    logger = logging.getLogger("distributed")
    logger.setLevel(logging.CRITICAL)
    with distributed.LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        processes=False,
        protocol="tcp://",
        dashboard_address=None,
        scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},
        silence_logs=logging.CRITICAL,
        memory_limit=0,
    ) as cluster:
        yield cluster


@pytest.fixture
def small_windows(monkeypatch) -> None:
    monkeypatch.setattr(grid, "LARGEST_PX", WINDOW_PX)


@pytest.fixture
def run(tiny_model, tmp_path, small_windows) -> Callable[..., Predictions]:
    def call(*inputs: object, out: str = "out", stop=lambda: False, **options):
        if "scale" not in options:
            options.setdefault("diameter_px", "model")
        return predict(
            [str(text) for text in inputs],
            tmp_path / out,
            model=str(tiny_model.folder),
            threads=1,
            config=PredictConfig(tile_px=64, **options),
            should_stop=stop,
        )

    return call


@pytest.fixture
def pixels(nuclei_image) -> np.ndarray:
    return nuclei_image((130, 260), 60, 3)[0]


@pytest.fixture
def image(tmp_path, pixels) -> Path:
    return write_store(tmp_path / "a.zarr", pixels, chunks=(64, 64))


@pytest.fixture
def computed(monkeypatch) -> list[tuple[int, ...]]:
    """Shapes of the windows that the network of workers was given, as they come."""
    shapes: list[tuple[int, ...]] = []
    compute = workers.ShippedEngine.__call__

    def call(self, window):
        shapes.append(window.shape)
        return compute(self, window)

    monkeypatch.setattr(workers.ShippedEngine, "__call__", call)
    return shapes


def files(folder: Path) -> dict[str, bytes]:
    """Return all that lies in a folder, but what tells when and how long."""
    found = (p for p in folder.rglob("*") if p.is_file())
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in found}


@pytest.mark.parametrize("count", [1, 2, 4])
def test_labels_are_those_of_one_process_for_any_number_of_workers(
    count, run, cluster, image, tmp_path, computed, monkeypatch
) -> None:
    cluster.scale(count)
    wait_until(lambda: len(cluster.scheduler.workers) == count)
    here = run(image, out="here")
    assert not computed
    compute, began = workers.ShippedEngine.__call__, set()
    all_there = threading.Barrier(count, timeout=60)

    def call(self, window):
        worker = distributed.get_worker().address
        if worker not in began:
            began.add(worker)
            all_there.wait()
        return compute(self, window)

    monkeypatch.setattr(workers.ShippedEngine, "__call__", call)
    there = run(image, out="there", dask=cluster.scheduler_address)
    assert len(began) == count
    assert len(computed) >= 18, "many blocks"
    assert there.images[0].status == "done", there.failed
    assert there.images[0].objects == here.images[0].objects > 20
    assert labels_in(tmp_path / "there" / "a.zarr").max() > 20
    assert files(tmp_path / "there") == files(tmp_path / "here")


@pytest.mark.parametrize(
    "options",
    [
        {"save": ("classes", "probabilities", "table"), "diameter_px": "auto"},
        {"scale": 0.6, "edge": 0.4, "exclude_border": True},
        {"scale": 1.3, "flips": True, "min_confidence": 0.5},
    ],
    ids=str,
)
def test_every_other_output_is_the_same_too(
    options, run, cluster, pixels, tmp_path
) -> None:
    # Two time points in tiles.
    path = tmp_path / "t.tif"
    both = np.stack([pixels, pixels[::-1]])
    how = {"tile": (64, 64), "compression": "deflate", "metadata": {"axes": "TYX"}}
    tifffile.imwrite(path, both, ome=True, **how)
    run(path, out="here", **options)
    found = run(path, out="there", dask=cluster.scheduler_address, **options)
    assert not found.failed, found.failed[0].message
    made = files(tmp_path / "there")
    assert made == files(tmp_path / "here")
    assert "t.tif" in made


def test_labels_go_into_the_image_itself(run, cluster, image, tmp_path) -> None:
    run(image, out="here")
    run(image, dask=cluster.scheduler_address, into_source="nuclei")
    made = labels_in(image / "labels" / "nuclei")
    np.testing.assert_array_equal(made, labels_in(tmp_path / "here" / "a.zarr"))


@pytest.mark.parametrize("name", ENCODINGS)
def test_every_target_is_decoded_on_workers(name, cluster, tmp_path, rng) -> None:
    encoding = ENCODINGS[name]
    logits = rng.normal(size=(len(encoding.classes), *SHAPE))
    field = (np.exp(logits) / np.exp(logits).sum(axis=0)).astype(np.float32)
    recipe = recipe_of(encoding, 13, 1)
    expected = decode_plane(field, encoding, recipe.decode)
    assert expected.max() > 5
    with workers.connected(cluster.scheduler_address, lambda: False) as elsewhere:
        room = SharedScratch(tmp_path)
        marks = Watched(Scratch(), marks_of(field, recipe))
        decoding = decoding_of(marks, replace(recipe, executor=elsewhere), room)
        decoding.run(marks.parts())
        numbers = decoding.numbers()
        here = decoding_of(marks, recipe, room)
        here._strips = decoding._strips
        labels = as_labels(here.bands(numbers))
    np.testing.assert_array_equal(labels, expected)


def test_a_stopped_run_is_continued_without_its_finished_blocks(
    run, cluster, image, tmp_path, computed
) -> None:
    run(image, out="here")
    asked = {"dask": cluster.scheduler_address}
    stopped = run(image, stop=lambda: len(computed) >= 10, **asked)
    assert stopped.stopped
    out = tmp_path / "out"
    (folder,) = out.glob(".*.blocks")
    assert [p.name for p in out.iterdir()] == [folder.name], "no labels"
    finished = len(list(folder.glob("*-sure-*")))
    assert finished >= 10
    computed.clear()
    run(image, **asked)
    assert not list(out.glob(".*"))
    again = len(computed)
    computed.clear()
    run(image, out="third", **asked)
    # Workers may have finished some more after the command ended.
    assert again <= len(computed) - finished
    assert files(out) == files(tmp_path / "here")


@pytest.fixture
def sparse(tmp_path, pixels) -> Path:
    """An image with nuclei in its left half alone."""
    quiet = np.random.default_rng(0).normal(200, 6, (130, 520))
    quiet[:, :130] = pixels[:, :130]
    return write_store(
        tmp_path / "sparse.zarr", quiet.astype(np.uint16), chunks=(64, 64)
    )


@pytest.mark.parametrize("scale", [1.0, 0.8])
def test_workers_leave_out_what_one_process_leaves_out(
    scale, run, cluster, sparse, tmp_path, computed
) -> None:
    asked = {"dask": cluster.scheduler_address, "scale": scale}
    [here] = run(sparse, out="here", scale=scale).images
    [there] = run(sparse, out="there", **asked).images
    assert there.skipped_share == here.skipped_share > 0.2
    assert files(tmp_path / "there") == files(tmp_path / "here")
    some = sum(shape[2] * shape[3] for shape in computed)
    computed.clear()
    run(sparse, out="whole", no_skip=True, **asked)
    assert some < 0.9 * sum(shape[2] * shape[3] for shape in computed)
    made, whole = (
        labels_in(tmp_path / name / "sparse.zarr") for name in ("there", "whole")
    )
    np.testing.assert_array_equal(made, whole)
    assert whole.max() > 5


def test_what_was_left_out_is_known_of_finished_blocks(
    run, cluster, sparse, tmp_path, computed
) -> None:
    [here] = run(sparse, out="here").images
    asked = {"dask": cluster.scheduler_address}
    assert run(sparse, stop=lambda: len(computed) >= 4, **asked).stopped
    [found] = run(sparse, **asked).images
    assert found.skipped_share == here.skipped_share
    assert files(tmp_path / "out") == files(tmp_path / "here")


def test_workers_segment_within_regions_as_one_process_does(
    run, cluster, sparse, tmp_path, computed
) -> None:
    ring = [(0.0, 0.0), (70.0, 0.0), (70.0, 70.0), (0.0, 70.0), (0.0, 0.0)]
    shape = {"type": "Polygon", "coordinates": [ring]}
    feature = {"type": "Feature", "properties": {}, "geometry": shape}
    path = tmp_path / "r.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    asked = {"within": str(path), "no_skip": True, "save": ("probabilities",)}
    [here] = run(sparse, out="here", **asked).images
    [there] = run(sparse, out="there", dask=cluster.scheduler_address, **asked).images
    assert there.objects == here.objects > 1
    assert files(tmp_path / "there") == files(tmp_path / "here")
    some = sum(shape[2] * shape[3] for shape in computed)
    computed.clear()
    run(sparse, out="all", dask=cluster.scheduler_address, no_skip=True)
    assert 0 < some < 0.7 * sum(shape[2] * shape[3] for shape in computed)


def test_finished_blocks_of_other_settings_are_not_taken(
    run, cluster, image, tmp_path, computed
) -> None:
    run(image, out="here", scale=0.8)
    asked = {"dask": cluster.scheduler_address}
    assert run(image, stop=lambda: len(computed) >= 10, **asked).stopped
    run(image, scale=0.8, **asked)
    assert files(tmp_path / "out") == files(tmp_path / "here")
    assert not list((tmp_path / "out").glob(".*"))


def test_the_scratch_folder_holds_finished_blocks(
    run, cluster, image, tmp_path, computed
) -> None:
    (tmp_path / "shared").mkdir()
    asked = {"dask": cluster.scheduler_address, "scratch": str(tmp_path / "shared")}
    assert run(image, stop=lambda: len(computed) >= 5, **asked).stopped
    assert list((tmp_path / "shared").glob(".*.blocks"))
    assert not list((tmp_path / "out").glob(".*.blocks"))
    assert run(image, **asked).images[0].status == "done"
    assert not list((tmp_path / "shared").iterdir())


def test_an_image_that_only_the_command_sees_names_the_worker(
    run, cluster, image, monkeypatch
) -> None:
    gone, whole = image.with_name("gone.zarr"), SharedNetworkStep.__call__

    def call(self, item):
        with contextlib.suppress(FileNotFoundError):
            image.rename(gone)
        return whole(self, item)

    monkeypatch.setattr(SharedNetworkStep, "__call__", call)
    (failed,) = run(image, dask=cluster.scheduler_address).failed
    assert re.match(r"On worker tcp://127.0.0.1:\d+: ", failed.message)
    assert "a.zarr does not exist" in failed.message


def test_a_folder_that_workers_do_not_see_is_named(tmp_path) -> None:
    room = SharedScratch(tmp_path / "elsewhere")
    with pytest.raises(OutputError, match=r"no folder .*elsewhere.*scratch in"):
        room.keep(np.zeros(3), "a")
    assert not list(tmp_path.iterdir()), "a worker makes no folder"


def test_workers_without_cellunet_are_refused() -> None:
    class Client:
        def run(self, *_: object, **__: object) -> dict[str, object]:
            lost = ModuleNotFoundError("No module named 'cellunet'")
            return {"tcp://node2:1234": lost}

    with pytest.raises(DeviceError, match=r"tcp://node2:1234 has no cellunet.*pip"):
        workers._check_workers(Client())


def test_workers_with_another_cellunet_are_refused(
    run, cluster, image, tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr(workers, "__version__", "0.0.1")
    with pytest.raises(
        DeviceError, match=r"Worker tcp\S+ has cellunet .*is .* 0\.0\.1"
    ):
        run(image, dask=cluster.scheduler_address)
    assert not list((tmp_path / "out").glob("*"))


def shipped(model: Path, folder: Path, name: str) -> workers.ShippedEngine:
    return workers.EngineOnWorkers(
        model=find_model(str(model)),
        config=PredictConfig(),
        engine="auto",
        threads=0,
        name=name,
        any_window=True,
    ).shipped_to(folder)


def test_workers_with_another_engine_are_refused(tiny_model, tmp_path) -> None:
    engine = shipped(tiny_model.folder, tmp_path, "onnxruntime 0")
    assert engine.threads == 1
    with pytest.raises(DeviceError, match=r"onnxruntime \d.*; the command has .* 0\."):
        engine(np.zeros((1, 2, 8, 8), np.float32))


def test_another_model_is_refused(tiny_model, tmp_path) -> None:
    engine = shipped(tiny_model.folder, tmp_path, "onnxruntime")
    engine.weights.write_bytes(find_model("nuclei").weights.read_bytes())
    with pytest.raises(CheckpointError, match="is not the model that the command has"):
        engine(np.zeros((1, 2, 8, 8), np.float32))


def test_a_scheduler_that_does_not_answer_is_named(run, image, monkeypatch) -> None:
    monkeypatch.setattr(workers, "ANSWER_S", 0.5)
    with pytest.raises(DeviceError, match=r"No Dask scheduler answers at tcp://127"):
        run(image, dask="tcp://127.0.0.1:9")


def test_a_scheduler_without_workers_is_told(run, cluster, image, monkeypatch) -> None:
    monkeypatch.setattr(workers, "WORKERS_S", 0.3)
    cluster.scale(0)
    wait_until(lambda: not cluster.scheduler.workers)
    with pytest.raises(DeviceError, match=r"0 of 1 workers of tcp"):
        run(image, dask=cluster.scheduler_address)
    cluster.scale(2)


def test_without_the_extra_the_line_that_installs_it_is_told(
    run, image, monkeypatch
) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ConfigError, match=r'pip install "cellunet-torch\[dask\]"'):
        run(image, dask="local[2]")


@pytest.mark.parametrize("text", ["local", "local[0]", "local[x]", "node1", "a b:1"])
def test_what_is_no_address_is_refused(text) -> None:
    with pytest.raises(ConfigError, match=r'--dask "local\[4\]"'):
        PredictConfig(dask=text)


@pytest.mark.parametrize(
    ("engine", "device", "named"),
    [("torch", "auto", "--engine torch"), ("auto", "cuda", "--device cuda")],
)
def test_other_devices_are_refused(engine, device, named) -> None:
    with pytest.raises(ConfigError, match=f"{named} .*onnxruntime"):
        workers.refuse_other_devices(engine, device)


def test_nothing_is_started_for_what_is_finished(run, image) -> None:
    run(image)
    # Nobody answers there.
    again = run(image, dask="tcp://127.0.0.1:9")
    assert again.images[0].status == "skipped"


# What follows starts processes.


def command(image: Path, out: Path, model: Path, dask: str) -> subprocess.Popen[str]:
    """Start the command in a group of processes of its own, as a terminal does."""
    code = (
        f"import sys; from cellunet.imaging import blocks; blocks.LARGEST_PX = "
        f"{WINDOW_PX}; from cellunet.cli.app import main; sys.exit(main())"
    )
    words = ["predict", image, "--out", out, "--model", model, "--json"]
    words += ["--dask", dask, "--tile", "64", "--diameter", "model"]
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def blocks_done(out: Path, least: int, process: subprocess.Popen[str]) -> None:
    """Wait until so many blocks of the network are finished."""
    while len(list(out.glob(".*.blocks/*-sure-*"))) < least:
        assert process.poll() is None, "".join(process.communicate())
        time.sleep(0.02)


@pytest.fixture
def large(tmp_path, nuclei_image) -> Path:
    """An image of more than a hundred blocks."""
    pixels = np.tile(nuclei_image((320, 320), 120, 3)[0], (1, 2))
    return write_store(tmp_path / "large.zarr", pixels, chunks=(128, 128))


@pytest.fixture
def expected(run, large, tmp_path) -> dict[str, bytes]:
    run(large, out="here")
    return files(tmp_path / "here")


def children(pid: int) -> list[int]:
    """Return the workers that a command started."""
    import psutil

    found = psutil.Process(pid).children(recursive=True)
    return [p.pid for p in found if "spawn_main" in " ".join(p.cmdline())]


@pytest.mark.slow
def test_a_worker_that_is_killed_changes_nothing(
    large, expected, tmp_path, tiny_model
) -> None:
    out = tmp_path / "out"
    process = command(large, out, tiny_model.folder, "local[2]")
    for least in (10, 40):
        blocks_done(out, least, process)
        os.kill(children(process.pid)[0], signal.SIGKILL)
    text, errors = process.communicate()
    assert process.returncode == 0, errors
    assert json.loads(text)["result"]["images"][0]["status"] == "done"
    assert "distributed" not in errors
    assert files(out) == expected


@pytest.mark.faults
@pytest.mark.slow
def test_ctrl_c_ends_the_workers_and_the_same_command_continues(
    large, expected, tmp_path, tiny_model
) -> None:
    out = tmp_path / "out"
    process = command(large, out, tiny_model.folder, "local[2]")
    blocks_done(out, 10, process)
    started = children(process.pid)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate()
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert len(started) == 2
    for pid in started:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    done = len(list(out.glob(".*.blocks/*-sure-*")))
    again = command(large, out, tiny_model.folder, "local[1]")
    _, errors = again.communicate()
    assert again.returncode == 0, errors
    assert done >= 10
    assert files(out) == expected


@pytest.mark.faults
@pytest.mark.slow
def test_a_scheduler_that_is_restarted_is_given_the_rest(
    large, expected, tmp_path, tiny_model
) -> None:
    out = tmp_path / "out"

    def start(port: int) -> list[subprocess.Popen[bytes]]:
        address = f"tcp://127.0.0.1:{port}"
        here = ["--host", "127.0.0.1", "--no-dashboard"]
        programs = [
            ["dask_scheduler", *here, "--port", str(port)],
            ["dask_worker", address, "--nthreads", "2", "--no-nanny", "--no-dashboard"],
        ]
        return [
            subprocess.Popen(
                [sys.executable, "-m", f"distributed.cli.{name}", *words],
                cwd=tmp_path,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            for name, *words in programs
        ]

    port = 18786
    programs = start(port)
    try:
        process = command(large, out, tiny_model.folder, f"tcp://127.0.0.1:{port}")
        blocks_done(out, 10, process)
        for program in programs:
            program.kill()
            program.wait()
        text, _ = process.communicate()
        assert process.returncode == 3
        (failed,) = json.loads(text)["result"]["images"]
        assert "scheduler at tcp://127.0.0.1:18786 was lost" in failed["message"]
        assert not list(out.glob("*.zarr"))
        programs = start(port)
        again = command(large, out, tiny_model.folder, f"tcp://127.0.0.1:{port}")
        _, errors = again.communicate()
        assert again.returncode == 0, errors
    finally:
        for program in programs:
            program.kill()
            program.wait()
    assert files(out) == expected


def test_blocks_of_an_image_whose_name_is_no_utf8_have_a_folder(tmp_path) -> None:
    # As os.fsdecode returns the bytes a\xff.tif.
    folder = workers.folder_of(tmp_path / "a\udcff.tif", {}, tmp_path)
    assert folder.name.startswith(".a\udcff.tif.")
    assert folder != workers.folder_of(tmp_path / "a\udcfe.tif", {}, tmp_path)
