"""The openvino engine."""

from __future__ import annotations

import subprocess
import sys
import threading

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cellunet.config import UNetConfig
from cellunet.engine.base import FlippingEngine, plane_probabilities
from cellunet.engine.int8 import measure_ranges
from cellunet.engine.onnx import build, build_int8
from cellunet.engine.runtimes import (
    OnnxRuntimeEngine,
    OpenVinoEngine,
    installed,
    load_onnxruntime,
    load_openvino,
)
from cellunet.errors import CheckpointError, ConfigError
from cellunet.imaging.blocks import plan
from tests.networks import random_network, state

pytestmark = pytest.mark.skipif(not installed(), reason="openvino is not installed")
CONFIG = UNetConfig(channels=(16, 16, 32))


def engine_of(content, *, threads=1, int8=False):
    return OpenVinoEngine(content, CONFIG, source="cells", threads=threads, int8=int8)


def int8_graph(weights, windows):
    return build_int8(weights, CONFIG, measure_ranges(weights, CONFIG, windows, 1))


@pytest.fixture(scope="module")
def weights():
    return state(random_network(CONFIG, 1))


@pytest.fixture(scope="module")
def graphs(weights):
    rng = np.random.default_rng(0)
    windows = [rng.normal(0.3, 0.5, (2, 64, 48)).astype(np.float32) for _ in range(3)]
    return {"float32": build(weights, CONFIG), "int8": int8_graph(weights, windows)}


@pytest.fixture(scope="module")
def engines(graphs):
    return {
        kind: engine_of(content, int8=kind == "int8")
        for kind, content in graphs.items()
    }


@pytest.fixture(scope="module")
def exact(graphs):
    """The float32 network in onnxruntime."""
    return OnnxRuntimeEngine(graphs["float32"], CONFIG, source="cells", threads=1)


BOTH = pytest.mark.parametrize("kind", ["float32", "int8"])


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


def test_it_computes_what_onnxruntime_computes(exact, engines, rng):
    image = some(rng, 2, 2, 64, 80)
    expected = exact(image)
    found = engines["float32"](image)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_eight_bits_are_near(exact, engines, rng):
    image = some(rng, 1, 2, 32, 32)
    assert 0 < np.abs(engines["int8"](image) - exact(image)).mean() < 0.02


def test_eight_bits_are_as_the_graph_says(exact, graphs, engines, rng):
    # Faint: without the instructions of VNNI, sums of two products end at 16 bits.
    image = 0.1 * some(rng, 1, 2, 32, 32)
    found = engines["int8"](image)
    # A step more or less where a value lies between two, and its consequences.
    off = np.abs(found - as_written(graphs["int8"], image)).mean()
    assert off < 0.3 * np.abs(found - exact(image)).mean()


@BOTH
def test_neighbours_in_a_batch_change_no_bit(engines, kind, rng):
    images = some(rng, 3, 2, 24, 40)
    together = engines[kind](images)
    for image, found in zip(images, together, strict=True):
        np.testing.assert_array_equal(engines[kind](image[np.newaxis])[0], found)


@BOTH
def test_runs_shapes_between_and_requests_change_no_bit(graphs, engines, kind, rng):
    image = some(rng, 1, 2, 64, 96)
    expected = engines[kind](image)
    engines[kind](some(rng, 1, 2, 16, 8))
    np.testing.assert_array_equal(engines[kind](image), expected)
    again = engine_of(graphs[kind], int8=kind == "int8")
    np.testing.assert_array_equal(again(image), expected)
    assert again.name == engines[kind].name


@BOTH
def test_threads_change_no_bit(graphs, engines, kind, rng):
    image = some(rng, 1, 2, 64, 96)
    found = engine_of(graphs[kind], threads=2)(image)
    np.testing.assert_array_equal(found, engines[kind](image))


@BOTH
def test_a_result_is_not_written_to_by_the_next_call(engines, kind, rng):
    first = engines[kind](some(rng, 1, 2, 16, 16))
    kept = first.copy()
    engines[kind](some(rng, 1, 2, 16, 16))
    np.testing.assert_array_equal(first, kept)


@BOTH
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


@settings(
    max_examples=10,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(height=st.integers(1, 150), width=st.integers(1, 150), seed=st.integers(0, 9))
@BOTH
def test_blocks_compute_what_one_pass_over_the_plane_does(
    engines, kind, height, width, seed
):
    image = some(np.random.default_rng(seed), 2, height, width)
    stride, halo = CONFIG.stride_px, CONFIG.halo_px
    whole, cut = (
        plan((height, width), stride_px=stride, halo_px=halo, largest_px=largest)
        for largest in (1024, 2 * halo + 2 * stride)
    )
    engine = engines[kind]
    expected = plane_probabilities(engine, image, whole, CONFIG.classes)
    found = plane_probabilities(engine, image, cut, CONFIG.classes)
    assert np.abs(found - expected).max() <= 1e-4


@BOTH
def test_flips_are_averaged(engines, kind, rng):
    image = some(rng, 1, 2, 16, 24)
    flipping = FlippingEngine(engines[kind])
    assert flipping.name == f"{engines[kind].name}, 4 flips"
    found = flipping(image)
    np.testing.assert_allclose(flipping(image[..., ::-1])[..., ::-1], found, atol=1e-6)


def test_the_names_tell_version_and_ranges(weights, engines):
    version = load_openvino().__version__.partition("-")[0]
    assert engines["float32"].name == f"openvino {version} cpu"
    assert engines["int8"].name.startswith(f"openvino {version} cpu int8 ")
    rng = np.random.default_rng(1)
    other = int8_graph(weights, [some(rng, 2, 64, 48)])
    assert engine_of(other, int8=True).name != engines["int8"].name


@pytest.mark.parametrize("shape", [(1, 3, 8, 8), (2, 8, 8), (1, 2, 8, 6), (1, 2, 2, 4)])
def test_an_image_that_does_not_fit_is_refused_with_what_does(engines, shape):
    with pytest.raises(CheckpointError, match=r"2 channels.*multiples of 8"):
        engines["float32"](np.zeros(shape, np.float32))


def test_a_failure_of_the_runtime_is_one_line_of_ours(engines, capfd):
    with pytest.raises(
        CheckpointError, match="failed on an image of 1 x 2 x 8 x 8"
    ) as e:
        engines["float32"](np.zeros((1, 2, 8, 8), np.float64))
    assert "\n" not in str(e.value)
    assert capfd.readouterr().err == ""


def test_what_the_runtime_refuses_is_one_line_of_ours(graphs, capfd):
    with pytest.raises(CheckpointError, match="cells cannot be used by open") as caught:
        engine_of(graphs["float32"][:500])
    assert "\n" not in str(caught.value)
    assert "--engine onnxruntime" in caught.value.hint
    assert capfd.readouterr().err == ""


def test_a_missing_runtime_is_refused_with_the_line_that_installs_it(
    graphs, monkeypatch
):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ConfigError) as caught:
        engine_of(graphs["float32"])
    assert caught.value.hint == 'Try: pip install "cellunet-torch[openvino]".'


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
