"""Precision and recall of a pass, and the class of each pixel."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch")

from torch.nn import functional

from cellunet.core.dataset import Batch
from cellunet.core.trainer import Tally, likeliest


def test_precision_and_recall_by_hand() -> None:
    tally = Tally(classes=3)
    # True 0 0 0 1 1 2, predicted 0 0 1 1 0 1; a seventh pixel is not annotated.
    predicted = torch.tensor([0, 0, 1, 1, 0, 1, 2])
    logits = functional.one_hot(predicted, 3).T.float()[None, :, None]  # 1 3 1 7
    batch = Batch(
        logits,
        torch.tensor([[[0, 0, 0, 1, 1, 2, 2]]], dtype=torch.uint8),
        torch.tensor([[[1.0, 2.0, 1.0, 1.0, 1.0, 1.0, 0.0]]]),
    )
    tally.add(0.5, 6, logits, batch)
    tally.add(2.0, 2, logits[..., :0], Batch(*(part[..., :0] for part in batch)))
    assert tally.confusion.tolist() == [[2, 1, 0], [1, 1, 0], [0, 1, 0]]
    summary = tally.summary("train", ("background", "interior", "boundary"))
    assert summary["train_loss"] == pytest.approx((6 * 0.5 + 2 * 2) / 8)
    assert summary["train_precision_background"] == pytest.approx(2 / 3)
    assert summary["train_recall_background"] == pytest.approx(2 / 3)
    assert summary["train_precision_interior"] == pytest.approx(1 / 3)
    assert summary["train_recall_interior"] == pytest.approx(1 / 2)
    assert math.isnan(summary["train_precision_boundary"])
    assert summary["train_recall_boundary"] == 0


def test_as_many_classes_as_a_network_may_have_are_told_apart() -> None:
    classes = torch.arange(16)
    logits = functional.one_hot(classes, 16).T.float()[None, :, None]
    tally = Tally(classes=16)
    true = classes.to(torch.uint8)[None, None]
    tally.add(0.0, 16, logits, Batch(logits, true, torch.ones(1, 1, 16)))
    assert tally.confusion.tolist() == torch.eye(16, dtype=torch.int64).tolist()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("count", [2, 3, 5])
def test_the_likeliest_class_has_the_greatest_logit_the_first_of_equals(
    count, dtype
) -> None:
    generator = torch.Generator().manual_seed(count)
    # Few values, so that many are equal.
    logits = torch.randint(-2, 3, (2, count, 9, 11), generator=generator).to(dtype)
    for laid_out in (logits, logits.to(memory_format=torch.channels_last)):
        found = likeliest(laid_out)
        assert found.dtype == torch.uint8
        expected = (logits == logits.amax(1, keepdim=True)).to(torch.uint8).argmax(1)
        assert torch.equal(found.long(), expected)
