"""The torch engine."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cellunet.config import UNetConfig
from cellunet.core.device import available, choose_device
from cellunet.core.torch_engine import TorchEngine
from cellunet.core.unet import UNet, initialise

CONFIG = UNetConfig(in_channels=2, channels=(4, 8))


def _engine(device="cpu"):
    network = UNet(CONFIG)
    initialise(network, 0)
    return network, TorchEngine(network.train(), choose_device(device))


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


@pytest.mark.gpu
@pytest.mark.skipif(available() == ["cpu"], reason="no CUDA or MPS device")
def test_a_gpu_computes_the_probabilities_of_the_processor(rng) -> None:
    image = rng.random((1, 2, 64, 64)).astype(np.float32)
    found = _engine("auto")[1](image)
    assert np.abs(found - _engine()[1](image)).max() < 1e-2
