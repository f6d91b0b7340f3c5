"""The start with a finer level, of `benchmarks/finer_start.py`."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")


from cellunet.config import UNetConfig
from cellunet.core.unet import UNet, initialize

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "finer_start.py"


@pytest.fixture
def finer(monkeypatch):
    monkeypatch.syspath_prepend(SCRIPT.parent)
    spec = importlib.util.spec_from_file_location("finer_start", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.finer


def _coarse(stem_stride):
    network = UNet(UNetConfig(channels=(4, 5, 6), stem_stride=stem_stride))
    initialize(network, 1)
    return network.eval()


def test_all_below_the_new_level_computes_the_same(finer) -> None:
    coarse = _coarse(2)
    fine = finer(coarse, 3, 0)
    assert fine.config.channels == (3, 4, 5, 6)
    assert fine.config.stem_stride == 1
    drawn = torch.Generator().manual_seed(0)
    theirs = ours = torch.randn(1, 4, 12, 8, generator=drawn)
    with torch.inference_mode():
        # From where the old stem's convolution over the image ends.
        for old, new in zip(list(coarse.stem)[1:], list(fine.down[0])[1:], strict=True):
            theirs, ours = old(theirs.clone()), new(ours.clone())
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
        for old, new in zip(coarse.down, fine.down[1:], strict=True):
            theirs, ours = old(coarse.pool(theirs)), new(fine.pool(ours))
            torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
        for level, up in enumerate(coarse.up):
            theirs, ours = up(theirs), fine.up[level](ours)
            torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
        assert fine(torch.zeros(1, 2, 24, 16)).shape == (1, 3, 24, 16)


def test_what_is_new_follows_from_the_seed(finer) -> None:
    coarse = _coarse(2)
    one, same, other = (finer(coarse, 3, seed) for seed in (0, 0, 1))
    torch.testing.assert_close(one.head.weight, same.head.weight, rtol=0, atol=0)
    assert not torch.equal(one.head.weight, other.head.weight)
    assert torch.equal(one.merge[0][0].weight, other.merge[0][0].weight)


def test_a_network_at_full_resolution_is_refused(finer) -> None:
    with pytest.raises(SystemExit, match="full resolution already"):
        finer(_coarse(1), 3, 0)
