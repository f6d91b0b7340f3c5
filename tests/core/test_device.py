"""A device is honored or refused, never replaced; the torch engine on it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

torch = pytest.importorskip("torch")


from cellunet.config import TrainConfig, UNetConfig
from cellunet.core.device import (
    TorchEngine,
    autocast_dtype,
    available,
    choose_device,
    within_memory,
)
from cellunet.core.trainer import state_from
from cellunet.errors import DeviceError
from tests.networks import random_network

CONFIG = UNetConfig(in_channels=2, channels=(4, 8))
GPU = pytest.mark.skipif(available() == ["cpu"], reason="no CUDA or MPS device")


@pytest.fixture
def machine(monkeypatch):
    def build(cuda=0, *, mps=False):
        monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)

    return build


def test_auto_takes_cuda_then_mps_then_the_processor(machine) -> None:
    machine(cuda=2, mps=True)
    assert available() == ["cuda", "cuda:0", "cuda:1", "mps", "cpu"]
    assert choose_device("auto") == torch.device("cuda")
    machine(mps=True)
    assert choose_device("auto") == torch.device("mps")
    machine()
    assert choose_device("auto") == torch.device("cpu")


def test_a_wish_that_can_be_had_is_honored(machine) -> None:
    machine(cuda=2, mps=True)
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device("cuda:1") == torch.device("cuda", 1)
    assert choose_device("mps") == torch.device("mps")


@pytest.mark.parametrize("wish", ["cuda", "cuda:2", "mps", "tpu", "", "CPU"])
def test_a_wish_that_cannot_is_refused_with_what_there_is(machine, wish) -> None:
    machine(cuda=2 if wish == "cuda:2" else 0)
    with pytest.raises(DeviceError) as caught:
        choose_device(wish)
    assert repr(wish) in caught.value.message
    assert "cpu" in caught.value.hint
    assert ("cuda:1" in caught.value.hint) == (wish == "cuda:2")


def test_precision_is_as_asked_and_bfloat16_only_where_it_is_native(
    monkeypatch,
) -> None:
    cpu = torch.device("cpu")
    assert autocast_dtype(cpu, "float32") is None
    assert autocast_dtype(cpu, "bfloat16") is torch.bfloat16
    assert autocast_dtype(torch.device("mps"), "auto") is None
    for found, expected in (
        ({"avx512_bf16": True}, torch.bfloat16),
        ({"amx_bf16": True}, torch.bfloat16),
        ({"avx2": True}, None),
        ({}, None),
    ):
        monkeypatch.setattr(
            torch.cpu, "get_capabilities", lambda f=found: f, raising=False
        )
        assert autocast_dtype(cpu, "auto") is expected
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert autocast_dtype(cpu, "auto") is None
    for major, expected in ((7, None), (8, torch.bfloat16), (9, torch.bfloat16)):
        monkeypatch.setattr(
            torch.cuda, "get_device_capability", lambda device, m=major: (m, 0)
        )
        assert autocast_dtype(torch.device("cuda"), "auto") is expected


@pytest.mark.gpu
@GPU
def test_the_device_of_auto_computes() -> None:
    device = choose_device("auto")
    assert torch.ones(3, device=device).sum().item() == 3


def _engine(device="cpu", precision="float32"):
    network = random_network(CONFIG)
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


@pytest.mark.parametrize("setting", [True, False])
def test_convolutions_are_those_of_cudnn_unrounded(monkeypatch, setting) -> None:
    cudnn = torch.backends.cudnn
    seen = []

    class Convolutions(torch.nn.Module):
        def forward(self, image):
            seen.append((cudnn.enabled, cudnn.deterministic, cudnn.allow_tf32))
            return image

    monkeypatch.setattr(cudnn, "enabled", setting)
    monkeypatch.setattr(cudnn, "deterministic", setting)
    monkeypatch.setattr(cudnn, "allow_tf32", True)
    TorchEngine(Convolutions(), choose_device("cpu"))(np.zeros((1, 2, 8, 8), "f4"))
    assert seen == [(setting, setting, False)]
    assert (cudnn.enabled, cudnn.deterministic, cudnn.allow_tf32) == (
        (setting, setting, True)
    )


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


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(torch.cuda.OutOfMemoryError("CUDA: no more"), id="CUDA"),
        pytest.param(RuntimeError("MPS backend out of memory (...)"), id="MPS"),
        pytest.param(
            RuntimeError("DefaultCPUAllocator: can't allocate memory"), id="CPU"
        ),
    ],
)
def test_a_window_that_does_not_fit_the_device_says_so(error, monkeypatch) -> None:
    network, engine = _engine()

    def fail(image):
        raise error

    monkeypatch.setattr(network, "forward", fail)
    with pytest.raises(DeviceError) as caught:
        engine(np.zeros((1, 2, 16, 24), np.float32))
    assert caught.value.message == "A window of 16 x 24 px did not fit into cpu."
    assert caught.value.hint == "Close what else uses its memory."


def test_a_gpu_that_others_have_filled_is_told_before_the_first_window(
    monkeypatch,
) -> None:
    def fail(*_: object) -> None:
        # So CUDA says it where not even its context fits.
        raise RuntimeError("CUDA error: out of memory")

    network, _ = _engine()
    monkeypatch.setattr(network, "to", fail)
    cuda = torch.device("cuda")
    with pytest.raises(DeviceError, match="The network did not fit into cuda") as said:
        TorchEngine(network, cuda)
    assert "--device cpu" in said.value.hint
    with pytest.raises(DeviceError, match="The network did not fit"):
        state_from(network, TrainConfig(), cuda)


def test_what_does_not_fit_a_gpu_may_fit_the_cpu() -> None:
    cuda = torch.device("cuda", 1)
    with pytest.raises(DeviceError) as caught, within_memory(cuda, "A step", "Less"):
        raise torch.cuda.OutOfMemoryError("CUDA: no more")
    assert caught.value.message == "A step did not fit into cuda:1."
    assert caught.value.hint == "Less, or compute on --device cpu."


def test_another_error_of_torch_is_not_taken_for_want_of_memory() -> None:
    _, engine = _engine()
    with pytest.raises(RuntimeError, match="channels"):
        engine(np.zeros((1, 1, 16, 24), np.float32))


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
