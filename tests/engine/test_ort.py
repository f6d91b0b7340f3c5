from __future__ import annotations

import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch")


from cellunet.config import UNetConfig
from cellunet.engine.onnx import build
from cellunet.engine.runtimes import OnnxRuntimeEngine, _errors, load_onnxruntime
from cellunet.errors import CheckpointError, DeviceError
from tests.networks import state

SHAPES = [
    UNetConfig(channels=(8, 12), stem_stride=1, in_channels=1, classes=2),
    UNetConfig(channels=(8, 12), stem_stride=2),
    UNetConfig(channels=(8, 16, 24), stem_stride=1),
    UNetConfig(channels=(16, 32, 48), stem_stride=2),
    UNetConfig(channels=(5, 7, 9, 11), stem_stride=1, in_channels=3, classes=5),
    UNetConfig(channels=(16, 16, 32, 32), stem_stride=2, in_channels=1),
]
TOLERANCE = 1e-5
"""Largest difference of a probability seen is a third of it."""


@pytest.fixture
def content(small_weights, small_config):
    return build(small_weights, small_config)


def engine_of(content, config, threads=1):
    return OnnxRuntimeEngine(content, config, source="cells", threads=threads)


@pytest.fixture
def engine(content, small_config):
    return engine_of(content, small_config)


@pytest.mark.parametrize("config", SHAPES, ids=str)
def test_it_computes_what_torch_computes(config, make_network, rng):
    network = make_network(config, seed=1)
    shape = (2, config.in_channels, 3 * config.stride_px, 5 * config.stride_px)
    image = rng.normal(0.0, 2.0, shape).astype(np.float32)
    with torch.inference_mode():
        expected = torch.softmax(network(torch.from_numpy(image)), dim=1).numpy()
    found = engine_of(build(state(network), config), config, 2)(image)
    assert found.dtype == np.float32
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE)


def test_probabilities_sum_to_one_whatever_the_logits(engine, rng):
    image = rng.standard_normal((1, 2, 8, 8), np.float32) * np.float32(1e4)
    found = engine(image)
    np.testing.assert_allclose(found.sum(axis=1), 1.0, atol=1e-6)
    assert (found >= 0).all()


def test_neighbors_in_a_batch_change_no_bit(engine, rng):
    images = rng.standard_normal((3, 2, 20, 12), np.float32)
    together = engine(images)
    for image, found in zip(images, together, strict=True):
        np.testing.assert_array_equal(engine(image[np.newaxis])[0], found)


@pytest.mark.parametrize("threads", [1, 2])
def test_runs_sessions_and_threads_change_no_bit(threads, make_network, rng):
    network = make_network(UNetConfig(channels=(16, 32)))
    content = build(state(network), network.config)
    image = rng.standard_normal((1, 2, 64, 96), np.float32)
    expected = engine_of(content, network.config)(image)
    engine = engine_of(content, network.config, threads)
    for _ in range(3):
        np.testing.assert_array_equal(engine(image), expected)


def test_an_engine_says_what_it_is(engine):
    assert engine.name == f"onnxruntime {load_onnxruntime().__version__} cpu"


@pytest.mark.parametrize("shape", [(1, 3, 8, 8), (2, 8, 8), (1, 2, 8, 6), (1, 2, 2, 4)])
def test_an_image_that_does_not_fit_is_refused_with_what_does(engine, shape):
    with pytest.raises(CheckpointError, match=r"2 channels.*multiples of 4") as caught:
        engine(np.zeros(shape, np.float32))
    assert str(shape) in caught.value.message


def test_a_failure_of_the_runtime_is_one_line_of_ours(engine, capfd):
    with pytest.raises(CheckpointError, match="failed on an image of 1 x 2 x 8 x 8"):
        engine(np.zeros((1, 2, 8, 8), np.float64))
    assert capfd.readouterr().err == ""


def test_what_the_runtime_refuses_is_one_line_of_ours(content, small_config, capfd):
    with pytest.raises(CheckpointError, match="cells cannot be used") as caught:
        engine_of(content[:500], small_config)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


def test_a_missing_runtime_names_the_other_engine(content, small_config, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(DeviceError) as caught:
        engine_of(content, small_config)
    assert "--engine torch" in caught.value.hint


def test_every_error_of_the_runtime_is_known():
    onnxruntime = load_onnxruntime()

    names = {error.__name__ for error in _errors(onnxruntime)}
    assert {"InvalidGraph", "InvalidProtobuf", "Fail", "RuntimeException"} <= names
