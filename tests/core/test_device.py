"""An explicit wish is honoured or refused, never replaced."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")


from cellunet.core.device import autocast_dtype, available, choose_device
from cellunet.errors import DeviceError


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


def test_a_wish_that_can_be_had_is_honoured(machine) -> None:
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
@pytest.mark.skipif(available() == ["cpu"], reason="no CUDA or MPS device")
def test_the_device_of_auto_computes() -> None:
    device = choose_device("auto")
    assert torch.ones(3, device=device).sum().item() == 3
