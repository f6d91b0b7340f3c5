"""Engines: what they compute, block by block, and what they say when they cannot."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from unittest.mock import Mock

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from cellunet.config import MOST_LEVELS, UNetConfig
from cellunet.core.device import TorchEngine
from cellunet.engine import runtimes
from cellunet.engine.int8 import measure_ranges
from cellunet.engine.onnx import build, build_int8
from cellunet.engine.runtimes import (
    FlippingEngine,
    OnnxRuntimeEngine,
    OpenVinoEngine,
    _compile,
    _errors,
    installed,
    load_onnxruntime,
    load_openvino,
    plane_probabilities,
    window_of,
)
from cellunet.errors import CheckpointError, ConfigError, DeviceError
from cellunet.imaging.blocks import network_plan, plan
from tests.networks import random_network, state

CPU = torch.device("cpu")
CONFIG = UNetConfig(channels=(16, 16, 32))
ORT, OPENVINO, INT8 = "onnxruntime", "openvino", "openvino int8"
needs_openvino = pytest.mark.skipif(not installed(), reason="openvino is not installed")
ALL = pytest.mark.parametrize(
    "kind", [ORT, *(pytest.param(k, marks=needs_openvino) for k in (OPENVINO, INT8))]
)
FLOAT32 = pytest.mark.parametrize(
    "kind", [ORT, pytest.param(OPENVINO, marks=needs_openvino)]
)


def engine_of(content, kind=ORT, config=CONFIG, threads=1):
    if kind == ORT:
        return OnnxRuntimeEngine(content, config, source="cells", threads=threads)
    options = {"source": "cells", "threads": threads, "int8": kind == INT8}
    return OpenVinoEngine(content, config, **options)


def int8_graph(weights, windows):
    return build_int8(weights, CONFIG, measure_ranges(weights, CONFIG, windows, 1))


@pytest.fixture(scope="module")
def weights():
    return state(random_network(CONFIG, 1))


@pytest.fixture(scope="module")
def graphs(weights):
    rng = np.random.default_rng(0)
    exact = build(weights, CONFIG)
    windows = [some(rng, 2, 64, 48) for _ in range(3)]
    return {ORT: exact, OPENVINO: exact, INT8: int8_graph(weights, windows)}


@pytest.fixture(scope="module")
def engines(graphs):
    kinds = [ORT, OPENVINO, INT8] if installed() else [ORT]
    return {kind: engine_of(graphs[kind], kind) for kind in kinds}


def as_written(content, image):
    """Return what the graph's operators give one by one, in float32."""
    runtime = load_onnxruntime()
    options = runtime.SessionOptions()
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = runtime.InferenceSession(
        content, options, providers=["CPUExecutionProvider"]
    )
    (found,) = session.run(None, {"image": image})
    return found


def some(rng, *shape):
    return rng.normal(0.3, 0.5, shape).astype(np.float32)


# --- windows of blocks ---


class PixelEngine:
    """Returns its input, and remembers the shapes that it was given."""

    name = "pixels"

    def __init__(self):
        self.shapes = []

    def __call__(self, image):
        self.shapes.append(image.shape)
        assert image.flags.c_contiguous
        return image


@pytest.mark.parametrize("shape", [(1, 1), (7, 5), (64, 64), (97, 53), (15, 200)])
def test_stitch_of_cut_returns_the_image(rng, shape) -> None:
    image = rng.random((3, *shape)).astype(np.float32)
    for largest in (40, 48, 1024):
        engine = PixelEngine()
        blocks = plan(shape, stride_px=8, halo_px=13, largest_px=largest)
        assert np.array_equal(plane_probabilities(engine, image, blocks, 3), image)
        # The network sees one shape only.
        assert set(engine.shapes) == {(1, 3, *blocks.block_shape)}


def test_a_window_beyond_the_plane_is_mirrored_and_reads_pixels_of_the_plane_only():
    image = np.arange(5 * 3, dtype=np.float32).reshape(1, 5, 3)
    blocks = plan((5, 3), stride_px=4, halo_px=4, largest_px=64)
    asked = []

    def read(y0, y1, x0, x1):
        asked.append((y0, y1, x0, x1))
        return image[:, y0:y1, x0:x1]

    (window,) = window_of(blocks.blocks[0], blocks.shape, read)[0]
    assert asked == [(0, 5, 0, 3)]
    assert window.shape == (8, 4)
    assert window[:, 0].tolist() == [0, 3, 6, 9, 12, 12, 9, 6]
    assert window[0].tolist() == [0, 1, 2, 2]


@pytest.mark.parametrize(
    ("config", "extra"),
    [
        (UNetConfig(in_channels=2, channels=(4, 8)), (0, 4, 28)),
        (UNetConfig(in_channels=1, classes=2, channels=(4, 8), stem_stride=1), (2, 26)),
        (UNetConfig(in_channels=2, channels=(4, 6, 8)), (8, 56)),
        (UNetConfig(in_channels=1, channels=(3, 4, 5, 6), stem_stride=1), (48,)),
    ],
)
def test_blocks_compute_what_one_pass_over_the_whole_plane_does(
    make_network, rng, config, extra
) -> None:
    stride, halo = config.stride_px, config.halo_px
    engine = TorchEngine(make_network(config, 3), CPU)
    shape = (3 * halo + 31, 2 * halo + stride + 5)
    image = rng.normal(0, 1.5, (config.in_channels, *shape)).astype(np.float32)
    short = [(0, -n % stride) for n in shape]
    padded = np.pad(image, ((0, 0), *short), "symmetric")
    whole = engine(padded[np.newaxis])[0, :, : shape[0], : shape[1]]
    # The comparison is of something: classes vary from pixel to pixel.
    assert whole.std(axis=(1, 2)).min() > 0.02
    for more in extra:
        largest = 2 * halo + stride + more
        blocks = plan(shape, stride_px=stride, halo_px=halo, largest_px=largest)
        assert len(blocks.blocks) > 1
        found = plane_probabilities(engine, image, blocks, config.classes)
        assert np.abs(found - whole).max() <= 1e-4
    once = plane_probabilities(
        engine, image, network_plan(shape, config), config.classes
    )
    assert np.array_equal(once, whole)


@settings(
    max_examples=10,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(height=st.integers(1, 150), width=st.integers(1, 150), seed=st.integers(0, 9))
@ALL
def test_blocks_of_any_plane_compute_what_one_pass_does(
    engines, kind, height, width, seed
):
    image = some(np.random.default_rng(seed), 2, height, width)
    stride, halo = CONFIG.stride_px, CONFIG.halo_px
    expected, found = (
        plane_probabilities(
            engines[kind],
            image,
            plan((height, width), stride_px=stride, halo_px=halo, largest_px=largest),
            CONFIG.classes,
        )
        for largest in (1024, 2 * halo + 2 * stride)
    )
    assert np.abs(found - expected).max() <= 1e-4


def test_a_halo_that_is_too_small_would_be_noticed(make_network, rng) -> None:
    config = UNetConfig(in_channels=1, channels=(4, 8))
    engine = TorchEngine(make_network(config, 3), CPU)
    image = rng.normal(0, 1.5, (1, 80, 80)).astype(np.float32)
    whole = engine(image[np.newaxis])[0]
    blocks = plan((80, 80), stride_px=4, halo_px=4, largest_px=40)
    found = plane_probabilities(engine, image, blocks, 3)
    assert np.abs(found - whole).max() > 1e-4


def test_the_deepest_network_has_a_plan() -> None:
    deep = UNetConfig(channels=(1,) * MOST_LEVELS)
    assert deep.halo_px > 1024
    shape = (20_000, 40)
    assert network_plan(shape, deep).rows > 1


@pytest.mark.slow
def test_flips_are_averaged_and_do_not_show_the_blocks(make_network, rng) -> None:
    config = UNetConfig(in_channels=1, channels=(4, 8))
    plain = TorchEngine(make_network(config, 3), CPU)
    engine = FlippingEngine(plain)
    image = rng.normal(0, 1.5, (1, 1, 96, 104)).astype(np.float32)
    whole = engine(image)
    turned = [
        np.flip(plain(np.ascontiguousarray(np.flip(image, axes))), axes)
        for axes in ((), (2,), (3,), (2, 3))
    ]
    assert np.allclose(whole, np.mean(turned, axis=0), atol=1e-6)
    assert np.abs(whole - turned[0]).max() > 0.01
    blocks = plan((96, 104), stride_px=4, halo_px=config.halo_px, largest_px=60)
    assert len(blocks.blocks) > 1
    found = plane_probabilities(engine, image[0], blocks, 3)
    assert np.abs(found - whole[0]).max() <= 1e-4


@ALL
def test_mirroring_the_image_mirrors_the_mean_of_its_flips(engines, kind, rng):
    image = some(rng, 1, 2, 16, 24)
    flipping = FlippingEngine(engines[kind])
    assert flipping.name == f"{engines[kind].name}, 4 flips"
    found = flipping(image)
    np.testing.assert_allclose(flipping(image[..., ::-1])[..., ::-1], found, atol=1e-6)


# --- what they compute ---


@pytest.mark.parametrize(
    "config",
    [
        UNetConfig(channels=(8, 12), stem_stride=1, in_channels=1, classes=2),
        UNetConfig(channels=(8, 12), stem_stride=2),
        UNetConfig(channels=(8, 16, 24), stem_stride=1),
        UNetConfig(channels=(16, 32, 48), stem_stride=2),
        UNetConfig(channels=(5, 7, 9, 11), stem_stride=1, in_channels=3, classes=5),
        UNetConfig(channels=(16, 16, 32, 32), stem_stride=2, in_channels=1),
    ],
    ids=str,
)
def test_onnxruntime_computes_what_torch_computes(config, make_network, rng):
    network = make_network(config, seed=1)
    shape = (2, config.in_channels, 3 * config.stride_px, 5 * config.stride_px)
    image = rng.normal(0.0, 2.0, shape).astype(np.float32)
    with torch.inference_mode():
        expected = torch.softmax(network(torch.from_numpy(image)), dim=1).numpy()
    found = engine_of(build(state(network), config), config=config, threads=2)(image)
    assert found.dtype == np.float32
    assert found.shape == expected.shape
    # The largest difference seen is a third of this.
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


@needs_openvino
def test_openvino_computes_what_onnxruntime_computes(engines, rng):
    image = some(rng, 2, 2, 64, 80)
    found = engines[OPENVINO](image)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, engines[ORT](image), rtol=0, atol=1e-5)


@needs_openvino
def test_eight_bits_are_near(engines, rng):
    image = some(rng, 1, 2, 32, 32)
    assert 0 < np.abs(engines[INT8](image) - engines[ORT](image)).mean() < 0.02


@needs_openvino
def test_eight_bits_are_as_the_graph_says(graphs, engines, rng):
    # Faint: without the instructions of VNNI, sums of two products end at 16 bits.
    image = 0.1 * some(rng, 1, 2, 32, 32)
    found = engines[INT8](image)
    # A step more or less where a value lies between two, and its consequences.
    off = np.abs(found - as_written(graphs[INT8], image)).mean()
    assert off < 0.3 * np.abs(found - engines[ORT](image)).mean()


@ALL
def test_probabilities_sum_to_one_whatever_the_logits(engines, kind, rng):
    found = engines[kind](np.float32(1e4) * some(rng, 1, 2, 8, 8))
    np.testing.assert_allclose(found.sum(axis=1), 1.0, atol=1e-6)
    assert (found >= 0).all()


@ALL
def test_neighbors_in_a_batch_change_no_bit(engines, kind, rng):
    images = some(rng, 3, 2, 24, 40)
    together = engines[kind](images)
    for image, found in zip(images, together, strict=True):
        np.testing.assert_array_equal(engines[kind](image[np.newaxis])[0], found)


@ALL
def test_runs_shapes_between_and_threads_change_no_bit(graphs, engines, kind, rng):
    image = some(rng, 1, 2, 64, 96)
    expected = engines[kind](image)
    engines[kind](some(rng, 1, 2, 16, 8))
    np.testing.assert_array_equal(engines[kind](image), expected)
    for threads in (1, 2):
        again = engine_of(graphs[kind], kind, threads=threads)
        for _ in range(2):
            np.testing.assert_array_equal(again(image), expected)
        assert again.name == engines[kind].name


@ALL
def test_a_result_is_not_written_to_by_the_next_call(engines, kind, rng):
    first = engines[kind](some(rng, 1, 2, 16, 16))
    kept = first.copy()
    engines[kind](some(rng, 1, 2, 16, 16))
    np.testing.assert_array_equal(first, kept)


@ALL
def test_threads_that_share_an_engine_do_not_meet(engines, kind, rng):
    images = [some(rng, 1, 2, 32, 32) for _ in range(4)]
    expected = [engines[kind](image) for image in images]
    found = [[] for _ in images]

    def work(i):
        for _ in range(5):
            found[i].append(engines[kind](images[i]))

    workers = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for results, one in zip(found, expected, strict=True):
        assert len(results) == 5
        for result in results:
            np.testing.assert_array_equal(result, one)


@needs_openvino
def test_callers_on_one_thread_each_do_not_wait_for_each_other(
    graphs, engines, rng, monkeypatch
):
    images = [some(rng, 1, 2, 32, 32) for _ in range(2)]
    expected = [engines[OPENVINO](image) for image in images]
    meeting = threading.Barrier(2, timeout=10)

    class Meeting:
        def __init__(self, request):
            self.request, self.get_output_tensor = request, request.get_output_tensor

        def infer(self, inputs):
            meeting.wait()
            self.request.infer(inputs)

    monkeypatch.setattr(runtimes, "_compile", lambda *own: Meeting(_compile(*own)))
    engine = engine_of(graphs[OPENVINO], OPENVINO)
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(engine, images))
    np.testing.assert_array_equal(found, expected)


def test_openvino_is_told_to_keep_what_it_prepared_for_few_shapes_alone():
    # The compiled model does not tell.
    runtime = Mock()
    _compile(runtime, b"", 1)
    settings = runtime.Core().compile_model.call_args.args[2]
    assert settings["CPU_RUNTIME_CACHE_CAPACITY"] == 32


@needs_openvino
@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_openvino_does_not_grow_with_every_shape_of_window(graphs, tmp_path):
    path = tmp_path / "graph.onnx"
    path.write_bytes(graphs[OPENVINO])
    program = (
        "import sys\n"
        "import numpy as np\n"
        "from pathlib import Path\n"
        "from cellunet.config import UNetConfig\n"
        "from cellunet.engine.runtimes import OpenVinoEngine\n"
        "def mib():\n"
        "    pages = int(Path('/proc/self/statm').read_text().split()[1])\n"
        "    return pages * 4 // 1024\n"
        "graph, config = Path(sys.argv[1]).read_bytes(), UNetConfig(\n"
        f"    channels={CONFIG.channels})\n"
        "engine = OpenVinoEngine(graph, config, source='cells', threads=1)\n"
        "for i in range(240):\n"
        "    if i == 80:\n"
        "        before = mib()\n"
        "    height, width = 64 + 8 * (i % 12), 64 + 8 * (i // 12)\n"
        "    engine(np.zeros((1, 2, height, width), np.float32))\n"
        "print(mib() - before)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, path],
        capture_output=True,
        text=True,
        check=True,
    )
    # 200 MiB where each shape is kept.
    assert int(done.stdout) < 100


# --- what they say ---


def test_onnxruntime_says_what_it_is(engines):
    assert engines[ORT].name == f"onnxruntime {load_onnxruntime().__version__} cpu"


@needs_openvino
def test_the_names_of_openvino_tell_version_and_ranges(weights, engines):
    version = load_openvino().__version__.partition("-")[0]
    assert engines[OPENVINO].name == f"openvino {version} cpu"
    assert engines[INT8].name.startswith(f"openvino {version} cpu int8 ")
    other = int8_graph(weights, [some(np.random.default_rng(1), 2, 64, 48)])
    assert engine_of(other, INT8).name != engines[INT8].name


@pytest.mark.parametrize("shape", [(1, 3, 8, 8), (2, 8, 8), (1, 2, 8, 6), (1, 2, 2, 4)])
@FLOAT32
def test_an_image_that_does_not_fit_is_refused_with_what_does(engines, kind, shape):
    with pytest.raises(CheckpointError, match=r"2 channels.*multiples of 8") as caught:
        engines[kind](np.zeros(shape, np.float32))
    assert str(shape) in caught.value.message


@FLOAT32
def test_a_failure_of_the_runtime_is_one_line_of_ours(engines, kind, capfd):
    with pytest.raises(
        CheckpointError, match="failed on an image of 1 x 2 x 8 x 8"
    ) as caught:
        engines[kind](np.zeros((1, 2, 8, 8), np.float64))
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


@FLOAT32
def test_what_the_runtime_refuses_is_one_line_of_ours(graphs, kind, capfd):
    with pytest.raises(CheckpointError, match="cells cannot be used") as caught:
        engine_of(graphs[kind][:500], kind)
    assert "\n" not in str(caught.value)
    other = "torch" if kind == ORT else "onnxruntime"
    assert f"--engine {other}" in caught.value.hint
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("kind", "error", "hint"),
    [
        (ORT, DeviceError, "--engine torch"),
        (OPENVINO, ConfigError, 'pip install "cellunet-torch[openvino]"'),
    ],
)
def test_a_missing_runtime_is_refused_with_the_way_out(
    graphs, monkeypatch, kind, error, hint
):
    monkeypatch.setitem(sys.modules, kind, None)
    with pytest.raises(error) as caught:
        engine_of(graphs[kind], kind)
    assert hint in caught.value.hint


def test_every_error_of_onnxruntime_is_known():
    names = {error.__name__ for error in _errors(load_onnxruntime())}
    assert {"InvalidGraph", "InvalidProtobuf", "Fail", "RuntimeException"} <= names


@needs_openvino
@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_a_signal_after_two_engines_have_gone_is_no_end():
    program = (
        "import signal\n"
        "from cellunet import store\n"
        "from cellunet.tasks.predict.settings import load_engine\n"
        "signal.signal(signal.SIGTERM, lambda *_: print('heard'))\n"
        "model = store.find_model('nuclei')\n"
        "asked = {'engine': 'openvino', 'device': 'cpu', 'threads': 1}\n"
        "first, second = (load_engine(model, **asked) for _ in range(2))\n"
        "del first\n"
        "del second\n"
        "signal.raise_signal(signal.SIGTERM)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "heard\n", "")
