"""The torch engine."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

torch = pytest.importorskip("torch")


from cellunet.config import UNetConfig
from cellunet.core.device import TorchEngine, available, choose_device
from cellunet.core.unet import UNet, initialize

CONFIG = UNetConfig(in_channels=2, channels=(4, 8))


def _engine(device="cpu", precision="float32"):
    network = UNet(CONFIG)
    initialize(network, 0)
    return network, TorchEngine(network.train(), choose_device(device), precision)


def test_probabilities_are_the_softmax_of_the_network_in_evaluation(rng) -> None:
    network, engine = _engine()
    image = rng.random((3, 2, 16, 24)).astype(np.float32)
    before = image.copy()
    found = engine(image)
    assert found.shape == (3, 3, 16, 24)
    assert found.dtype == np.float32
    assert found.flags.c_contiguous
    assert np.abs(found.sum(axis=1) - 1).max() < 1e-6
    assert np.array_equal(image, before)
    assert not network.training
    with torch.inference_mode():
        expected = network(torch.from_numpy(image)).softmax(dim=1).numpy()
    assert np.abs(found - expected).max() < 1e-6
    # Nothing of a call stays behind: batch-norm statistics are only read.
    assert np.array_equal(engine(image), found)


def test_the_name_tells_version_and_device() -> None:
    _, engine = _engine()
    assert engine.name == f"torch {torch.__version__} cpu"


def test_bfloat16_is_asked_for_named_and_near(rng) -> None:
    image = rng.random((2, 2, 32, 24)).astype(np.float32)
    _, engine = _engine(precision="bfloat16")
    assert engine.name == f"torch {torch.__version__} cpu bfloat16"
    found, exact = engine(image), _engine()[1](image)
    assert found.dtype == np.float32
    # The softmax is in float32 all the same.
    assert np.abs(found.sum(axis=1) - 1).max() < 1e-6
    assert 0 < np.abs(found - exact).max() < 2e-2


GPU = pytest.mark.skipif(available() == ["cpu"], reason="no CUDA or MPS device")


@pytest.mark.gpu
@GPU
@pytest.mark.parametrize(
    ("precision", "tolerance"), [("float32", 1e-4), ("bfloat16", 3e-2)]
)
def test_a_gpu_computes_the_probabilities_of_the_processor(
    rng, precision, tolerance
) -> None:
    image = rng.random((1, 2, 64, 64)).astype(np.float32)
    found = _engine("auto", precision)[1](image)
    assert np.abs(found - _engine()[1](image)).max() < tolerance


@pytest.mark.gpu
@GPU
def test_results_of_a_gpu_are_complete_and_nothing_writes_to_them_later(rng) -> None:
    # Pinned memory is used again; not while a copy runs, nor while an array has it.
    images = [rng.random((1, 2, 256, 256)).astype(np.float32) for _ in range(8)]
    _, engine = _engine("auto")
    expected = [engine(image).copy() for image in images]
    found = [engine(image) for image in images for _ in range(3)]
    for i, one in enumerate(found):
        assert np.array_equal(one, expected[i // 3])
        assert one.flags.c_contiguous


@pytest.mark.gpu
@GPU
def test_threads_that_share_a_gpu_do_not_meet(rng) -> None:
    images = [rng.random((1, 2, 128, 128)).astype(np.float32) for _ in range(4)]
    _, engine = _engine("auto")
    expected = [engine(image) for image in images]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(engine, images * 5))
    for i, one in enumerate(found):
        assert np.array_equal(one, expected[i % 4])
