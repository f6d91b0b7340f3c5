"""The weighted cross-entropy, by hand and against torch's own."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch")

from torch.nn import functional

from cellunet.core.losses import LOSSES, cross_entropy


def test_a_loss_by_hand() -> None:
    # Two pixels: p of the true class is 1/4 (weight 2) and 1/2 (weight 5).
    logits = torch.log(torch.tensor([[[[0.25, 0.5]], [[0.75, 0.5]]]]))  # 1 2 1 2
    classes = torch.tensor([[[0, 1]]], dtype=torch.uint8)
    weights = torch.tensor([[[2.0, 5.0]]])
    expected = (2 * math.log(4) + 5 * math.log(2)) / 2
    assert cross_entropy(logits, classes, weights).item() == pytest.approx(expected)


def _random(annotated=0.7):
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(2, 3, 5, 7, generator=generator, requires_grad=True)
    classes = torch.randint(0, 3, (2, 5, 7), generator=generator, dtype=torch.uint8)
    table = torch.tensor([1.0, 2.0, 3.0])
    inside = torch.rand(2, 5, 7, generator=generator) < annotated
    return logits, classes, table[classes.long()] * inside, table


def test_it_is_divided_by_annotated_pixels_not_by_the_sum_of_weights() -> None:
    logits, classes, weights, _ = _random()
    annotated = int((weights > 0).sum())
    loss = cross_entropy(logits, classes, weights)
    assert torch.allclose(cross_entropy(logits, classes, 10 * weights), 10 * loss)
    total = cross_entropy(logits, classes, weights, 1.0)
    assert torch.allclose(total, loss * annotated)


def test_it_equals_that_of_torch_with_class_weights() -> None:
    logits, classes, weights, table = _random(annotated=1.1)
    theirs = functional.cross_entropy(logits, classes.long(), table, reduction="sum")
    assert torch.allclose(cross_entropy(logits, classes, weights), theirs / 70)


def test_what_is_not_annotated_has_no_gradient() -> None:
    logits, classes, weights, _ = _random()
    cross_entropy(logits, classes, weights).backward()
    outside = weights == 0
    assert outside.any()
    assert not logits.grad.permute(0, 2, 3, 1)[outside].any()
    assert logits.grad.permute(0, 2, 3, 1)[~outside].all()


def test_a_batch_without_annotation_is_zero_not_nan() -> None:
    logits, classes, weights, _ = _random()
    loss = cross_entropy(logits, classes, weights * 0)
    loss.backward()
    assert loss.item() == 0
    assert not logits.grad.any()


def test_parts_of_a_batch_with_the_global_count_add_up_to_the_whole() -> None:
    logits, classes, weights, _ = _random()
    count = (weights > 0).sum()
    parts = [
        cross_entropy(logits[i : i + 1], classes[i : i + 1], weights[i : i + 1], count)
        for i in range(2)
    ]
    assert torch.allclose(sum(parts), cross_entropy(logits, classes, weights))


def test_half_precision_logits_are_summed_in_float32() -> None:
    logits, classes, weights, _ = _random()
    loss = cross_entropy(logits.bfloat16(), classes, weights)
    assert loss.dtype == torch.float32
    expected = cross_entropy(logits.bfloat16().float(), classes, weights)
    assert torch.equal(loss, expected)


def test_very_sure_and_wrong_is_finite() -> None:
    logits = torch.tensor([[[[1e4]], [[-1e4]]]])
    loss = cross_entropy(logits, torch.ones(1, 1, 1), torch.ones(1, 1, 1))
    assert loss.item() == pytest.approx(2e4)


def test_the_default_is_in_the_table() -> None:
    assert LOSSES["cross-entropy"] is cross_entropy
