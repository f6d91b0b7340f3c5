"""Loss, steps, validation, resume, and which weights a run is for."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch.nn import functional

from cellunet.config import AugmentConfig, TrainConfig, UNetConfig, WeightConfig
from cellunet.core.dataset import Batch, prepare
from cellunet.core.device import available, choose_device
from cellunet.core.trainer import (
    LossAndConfusion,
    Trainer,
    TrainState,
    cross_entropy,
    likeliest,
    new_state,
    state_from,
)
from cellunet.errors import ConfigError, DeviceError
from cellunet.imaging.blocks import network_plan
from cellunet.imaging.normalize import network_input
from tests.networks import TINY

CPU = torch.device("cpu")


def _never() -> bool:
    return False


def _ignore(state: TrainState, loss: float) -> None:
    del state, loss


def _trainer(images, config, device=CPU) -> Trainer:
    return Trainer(images[:2], images[2:], config, device)


def _run(trainer, state, *, stop_after=None, on_step=_ignore, on_epoch=None):
    """Run, and stop after so many steps; returns (finished, steps taken)."""
    taken = []

    def count(state, loss):
        taken.append(loss)
        on_step(state, loss)

    finished = trainer.run(
        state,
        should_stop=lambda: stop_after is not None and len(taken) >= stop_after,
        on_step=count,
        on_epoch=on_epoch or (lambda summary: None),
    )
    return finished, taken


def _weights(network):
    return {k: v.clone() for k, v in network.state_dict().items()}


def _assert_same(first: TrainState, second: TrainState) -> None:
    for name in ("network", "average", "best"):
        a, b = getattr(first, name).state_dict(), getattr(second, name).state_dict()
        assert all(torch.equal(a[k], b[k]) for k in a)
    assert first.history == second.history
    for name in ("epoch", "step", "best_loss", "best_epoch", "epochs_without_gain"):
        assert getattr(first, name) == getattr(second, name)


@pytest.fixture
def config(tiny_config) -> TrainConfig:
    return tiny_config.replace(patience_epochs=5, keep="best", average_decay=0.9)


@pytest.mark.parametrize("optimizer", ["adamw", "adam-amsgrad"])
def test_the_same_seed_gives_the_same_bits_and_another_does_not(
    tiny_images, config, optimizer
) -> None:
    config = config.replace(optimizer=optimizer)
    states = []
    for seed in (1, 1, 2):
        seeded = config.replace(seed=seed)
        state = new_state(seeded, CPU)
        assert _run(_trainer(tiny_images, seeded), state)[0]
        states.append(state)
    _assert_same(states[0], states[1])
    assert not torch.equal(states[0].network.head.weight, states[2].network.head.weight)


@pytest.mark.parametrize(
    ("optimizer", "stops"), [("adamw", range(1, 7)), ("adam-amsgrad", [2])]
)
def test_a_run_stopped_after_any_step_goes_on_as_if_it_had_not(
    tiny_images, config, optimizer, stops
) -> None:
    config = config.replace(optimizer=optimizer, steps_per_epoch=3)
    whole = new_state(config, CPU)
    finished, losses = _run(_trainer(tiny_images, config), whole)
    assert finished
    assert len(losses) == 6
    for stop in stops:
        stopped = new_state(config, CPU)
        finished, before = _run(_trainer(tiny_images, config), stopped, stop_after=stop)
        assert not finished
        assert (stopped.epoch, stopped.step) == ((stop - 1) // 3, (stop - 1) % 3 + 1)
        # Nothing but the state is carried over, as from a file.
        resumed = copy.deepcopy(stopped)
        finished, after = _run(_trainer(tiny_images, config), resumed)
        assert finished
        assert before + after == losses
        _assert_same(resumed, whole)


def test_a_run_stopped_in_validation_validates_again(tiny_images, config) -> None:
    whole = new_state(config, CPU)
    _run(_trainer(tiny_images, config), whole)
    state = new_state(config, CPU)
    asked = []

    def stop_in_validation():
        asked.append(state.step)
        return len(asked) == 5

    assert not _trainer(tiny_images, config).run(
        state, should_stop=stop_in_validation, on_step=_ignore
    )
    assert (state.epoch, state.step, state.history) == (0, 4, [])
    assert _run(_trainer(tiny_images, config), state)[0]
    _assert_same(state, whole)


def test_a_finished_run_takes_no_more_steps(tiny_images, config) -> None:
    state = new_state(config, CPU)
    _run(_trainer(tiny_images, config), state)
    before = _weights(state.network)
    assert _run(_trainer(tiny_images, config), state) == (True, [])
    assert all(torch.equal(v, before[k]) for k, v in _weights(state.network).items())


def test_the_average_is_the_exponential_mean_of_weights_and_statistics(
    tiny_images, config
) -> None:
    state = new_state(config, CPU)
    expected = {k: v.double() for k, v in _weights(state.network).items()}
    done = 0

    def follow(state, loss):
        nonlocal done
        decay = min(0.9, (1 + done) / (10 + done))
        for key, value in state.network.state_dict().items():
            expected[key] = decay * expected[key] + (1 - decay) * value.double()
        done += 1

    trainer = _trainer(tiny_images, config)
    _run(trainer, state, on_step=follow)
    assert done == 8
    for key, value in state.average.state_dict().items():
        if value.is_floating_point():
            assert torch.allclose(value.double(), expected[key], rtol=1e-5, atol=1e-6)
    assert trainer.kept(state) is state.average
    assert not torch.equal(state.average.head.weight, state.network.head.weight)


def test_without_an_average_the_weights_themselves_are_kept(
    tiny_images, config
) -> None:
    config = config.replace(average_decay=0.0, keep="last")
    state = new_state(config, CPU)
    start = _weights(state.average)
    trainer = _trainer(tiny_images, config)
    _run(trainer, state)
    assert trainer.kept(state) is state.network
    assert trainer.result(state) is state.network
    assert all(torch.equal(v, start[k]) for k, v in _weights(state.average).items())


def _with_losses(monkeypatch, losses):
    """Let validation find these losses, one an epoch."""
    left = iter(losses)

    def validate(self, network, should_stop=_never):
        loss = next(left)
        return LossAndConfusion(classes=3, loss_sum=loss * 10, pixels=10)

    monkeypatch.setattr(Trainer, "validate", validate)


@pytest.mark.parametrize(
    ("patience", "losses", "epochs", "best"),
    [
        (2, [1.0, 0.5, 0.6, 0.7, 0.4, 0.3], 4, 1),
        (3, [1.0, 0.5, 0.6, 0.7, 0.4, 0.3], 6, 5),
        (1, [1.0, 1.0, 0.1, 0.1, 0.1, 0.1], 2, 0),
        (0, [0.1, 0.5, 0.6, 0.7, 0.8, 0.9], 6, 0),
    ],
)
def test_training_stops_when_patience_is_over_and_keeps_the_best(
    tiny_images, config, monkeypatch, patience, losses, epochs, best
) -> None:
    config = config.replace(epochs=6, steps_per_epoch=1, patience_epochs=patience)
    _with_losses(monkeypatch, losses)
    trainer, state = _trainer(tiny_images, config), new_state(config, CPU)
    after = []
    finished, taken = _run(
        trainer, state, on_epoch=lambda _: after.append(_weights(state.average))
    )
    assert finished
    assert len(taken) == len(state.history) == state.epoch == epochs
    assert (state.best_epoch, state.best_loss) == (best, losses[best])
    result = _weights(trainer.result(state))
    assert all(torch.equal(v, result[k]) for k, v in after[best].items())
    # Asked again, it is still over.
    assert trainer._patience_is_over(state) == (epochs < 6)


def test_keep_last_returns_the_last_weights(tiny_images, config, monkeypatch) -> None:
    config = config.replace(keep="last", epochs=3, steps_per_epoch=1)
    _with_losses(monkeypatch, [0.1, 0.2, 0.3])
    trainer, state = _trainer(tiny_images, config), new_state(config, CPU)
    _run(trainer, state)
    assert trainer.result(state) is state.average
    assert state.best_epoch == 0
    assert not torch.equal(state.best.head.weight, state.average.head.weight)


def test_a_loss_that_is_not_a_number_is_never_the_best(
    tiny_images, config, monkeypatch
) -> None:
    config = config.replace(epochs=3, steps_per_epoch=1)
    _with_losses(monkeypatch, [math.nan, 0.5, math.nan])
    state = new_state(config, CPU)
    _run(_trainer(tiny_images, config), state)
    assert (state.best_epoch, state.best_loss) == (1, 0.5)


def _rates(trainer, config):
    state = new_state(config, CPU)
    rates = []
    for state.epoch in range(config.epochs):
        for state.step in range(trainer.steps_per_epoch):
            rates.append(trainer.learning_rate(state))
    return rates


def test_the_cosine_schedule_by_hand(tiny_images, config) -> None:
    config = config.replace(
        epochs=5, steps_per_epoch=8, warmup_steps=4, learning_rate=0.2
    )
    rates = _rates(_trainer(tiny_images, config), config)
    assert rates[:4] == pytest.approx([0.05, 0.1, 0.15, 0.2])
    # From step 4 on, half a cosine over the 36 steps that are left.
    assert rates[4] == 0.2
    assert rates[4 + 12] == pytest.approx(0.2 * 0.75)
    assert rates[4 + 18] == pytest.approx(0.1)
    assert rates[4 + 24] == pytest.approx(0.2 * 0.25)
    assert 0 < rates[-1] < 0.001
    assert rates[4:] == sorted(rates[4:], reverse=True)


def test_the_warm_up_is_at_most_a_tenth_of_the_run(tiny_images, config) -> None:
    config = config.replace(epochs=5, steps_per_epoch=8, warmup_steps=200)
    rates = _rates(_trainer(tiny_images, config), config)
    assert np.argmax(rates) in (3, 4)
    short = config.replace(epochs=1, steps_per_epoch=1)
    assert _rates(_trainer(tiny_images, short), short) == [config.learning_rate]


def test_a_constant_schedule_is_constant_and_reaches_the_optimizer(
    tiny_images, config
) -> None:
    config = config.replace(schedule="constant", learning_rate=0.01)
    trainer, state = _trainer(tiny_images, config), new_state(config, CPU)
    assert set(_rates(trainer, config)) == {0.01}
    cosine = config.replace(schedule="cosine")
    trainer = _trainer(tiny_images, cosine)
    seen = []
    _run(
        trainer,
        state,
        on_step=lambda s, _: seen.append(s.optimizer.param_groups[0]["lr"]),
    )
    assert seen == _rates(trainer, cosine)
    assert [row["learning_rate"] for row in state.history] == [seen[3], seen[7]]


def test_a_step_is_that_of_plain_torch(tiny_images, config) -> None:
    """Network, loss and optimizer by hand: the same weights after one step."""
    config = config.replace(schedule="constant", weight_decay=0.1)
    trainer, state = _trainer(tiny_images, config), new_state(config, CPU)
    batch = trainer.sampler.batch(0, 0)
    network = copy.deepcopy(state.network).train()
    optimizer = torch.optim.AdamW(network.parameters(), 3e-3, weight_decay=0.1)
    log_p = network(batch.image).log_softmax(dim=1)
    true = log_p.gather(1, batch.class_map.long()[:, None])[:, 0]
    expected = -(batch.weight_map * true).sum() / (batch.weight_map > 0).sum()
    expected.backward()
    optimizer.step()
    loss = trainer.step(state, batch)
    assert loss == pytest.approx(expected.item(), rel=1e-5)
    assert state.tally.loss == pytest.approx(loss)
    for a, b in zip(state.network.parameters(), network.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-4)


def test_validation_is_the_loss_of_whole_images_and_leaves_the_network(
    tiny_images, make_sample, config
) -> None:
    # The last is seen in two windows.
    images = [*tiny_images, prepare(make_sample((1100, 24), 7, 12), config)]
    assert network_plan((1100, 24), config.network).rows == 2
    state = new_state(config, CPU)
    trainer = Trainer(tiny_images, images, config, CPU)
    _run(trainer, state, stop_after=2)
    before = _weights(state.network)
    tally = trainer.validate(state.network)
    assert all(torch.equal(v, before[k]) for k, v in _weights(state.network).items())
    total = count = 0.0
    hits = 0
    state.network.eval()
    for prepared in images:
        image = network_input(prepared.crop.image, config.normalization)
        height, width = prepared.class_map.shape
        short = [(0, -n % config.network.stride_px) for n in (height, width)]
        image = np.pad(image, ((0, 0), *short), "symmetric")
        with torch.inference_mode():
            logits = state.network(torch.from_numpy(image)[None])[..., :height, :width]
        true = torch.from_numpy(prepared.class_map).long()[None]
        weights = torch.from_numpy(prepared.weight_map)[None]
        per_pixel = functional.cross_entropy(logits, true, reduction="none")
        total += float((per_pixel * weights).sum())
        count += int((weights > 0).sum())
        hits += int(((logits.argmax(1) == true) & (weights > 0)).sum())
    assert tally.pixels == count == 64 * 64 + 64 * 80 + 20 * 40 + 1100 * 24
    assert tally.loss == pytest.approx(total / count, rel=1e-5)
    assert np.trace(tally.confusion) == pytest.approx(hits, abs=4)
    assert tally.confusion.sum() == count


def test_every_epoch_leaves_a_row_with_all_numbers(tiny_images, config) -> None:
    rows = []
    state = new_state(config, CPU)
    _run(_trainer(tiny_images, config), state, on_epoch=rows.append)
    assert rows == state.history
    assert [row["epoch"] for row in rows] == [1, 2]
    names = {"epoch", "learning_rate"} | {
        f"{part}_{number}"
        for part in ("train", "validation")
        for number in (
            "loss",
            *(
                f"{kind}_{name}"
                for kind in ("precision", "recall")
                for name in ("background", "interior", "boundary")
            ),
        )
    }
    assert set(rows[0]) == names
    # The training numbers of an epoch are of that epoch alone.
    assert state.tally.pixels == 0


def test_the_loss_falls_on_easy_images(make_sample) -> None:
    config = TINY.replace(
        network=UNetConfig(channels=(8, 16)),
        augment=AugmentConfig(warp_probability=0.0, intensity_probability=0.0),
        weights=WeightConfig(border_weight=0.0),
        batch=4,
        epochs=4,
        steps_per_epoch=12,
        warmup_steps=3,
        learning_rate=0.02,
        average_decay=0.8,
    )
    images = [prepare(make_sample((64, 64), seed), config) for seed in range(4)]
    trainer = Trainer(images[:3], images[3:], config, CPU)
    state = new_state(config, CPU)
    before = trainer.validate(state.network).loss
    _run(trainer, state)
    losses = [row["validation_loss"] for row in state.history]
    assert losses[-1] < 0.6 * losses[0] < 0.6 * before
    assert state.history[-1]["train_loss"] < 0.5 * state.history[0]["train_loss"]
    assert state.history[-1]["validation_recall_background"] > 0.9
    assert state.history[-1]["validation_precision_interior"] > 0.8


@pytest.mark.parametrize("target", ["three-class", "boundary"])
def test_other_targets_and_presets_take_steps_too(make_sample, target) -> None:
    from cellunet.presets import PRESETS, for_target

    config = for_target(
        PRESETS["classic"].replace(
            network=UNetConfig(in_channels=1, channels=(4, 8), stem_stride=1),
            crop_px=32,
            epochs=1,
        ),
        target,
    )
    images = [prepare(make_sample((40, 48), seed), config) for seed in range(8)]
    trainer = Trainer(images[:7], images[7:], config, CPU)
    assert trainer.steps_per_epoch == 2
    state = new_state(config, CPU)
    assert _run(trainer, state)[0]
    assert trainer.result(state) is state.best
    assert math.isfinite(state.best_loss)


def test_bfloat16_computes_but_keeps_its_weights_in_float32(tiny_images, config):
    config = config.replace(precision="bfloat16", steps_per_epoch=1, epochs=1)
    state = new_state(config, CPU)
    _, losses = _run(_trainer(tiny_images, config), state)
    single = config.replace(precision="float32")
    _, exact = _run(_trainer(tiny_images, single), new_state(single, CPU))
    assert losses == pytest.approx(exact, rel=0.02)
    assert losses != exact
    assert {p.dtype for p in state.network.parameters()} == {torch.float32}


def test_given_weights_are_where_a_run_starts(tiny_images, config) -> None:
    given = new_state(config.replace(seed=77), CPU).network
    expected = _weights(given)
    state = state_from(copy.deepcopy(given), config, CPU)
    for network in (state.network, state.average, state.best):
        assert all(torch.equal(v, expected[k]) for k, v in _weights(network).items())
    assert not state.average.head.weight.requires_grad
    assert state.network.head.weight.requires_grad
    _run(_trainer(tiny_images, config), state, stop_after=1)
    # The three share no memory.
    assert torch.equal(state.best.head.weight, expected["head.weight"])


def test_the_optimizer_is_the_one_asked_for(config) -> None:
    adamw = new_state(config.replace(weight_decay=0.3), CPU).optimizer
    assert type(adamw) is torch.optim.AdamW
    assert adamw.defaults["weight_decay"] == 0.3
    amsgrad = new_state(config.replace(optimizer="adam-amsgrad"), CPU).optimizer
    assert type(amsgrad) is torch.optim.Adam
    assert amsgrad.defaults["amsgrad"]
    assert amsgrad.defaults["weight_decay"] == 0


def test_an_unknown_loss_is_refused(tiny_images, config) -> None:
    with pytest.raises(ConfigError, match="focal"):
        _trainer(tiny_images, config.replace(loss="focal"))


def _full(*args):
    raise torch.cuda.OutOfMemoryError("CUDA out of memory.")


def test_a_step_that_does_not_fit_the_device_names_batch_and_crop(
    tiny_images, config, monkeypatch
) -> None:
    config = config.replace(batch=3, crop_px=32)
    trainer = _trainer(tiny_images, config)
    state = new_state(config, CPU)
    monkeypatch.setattr(trainer, "loss", _full)
    with pytest.raises(DeviceError) as caught:
        trainer.step(state, trainer.sampler.batch(0, 0))
    assert caught.value.message == (
        "A step of 3 crops of 32 x 32 px did not fit into cpu."
    )
    assert "batch or crop_px" in caught.value.hint
    with pytest.raises(DeviceError, match=r"A validation window of .* px did not fit"):
        trainer.validate(state.network)


@pytest.mark.parametrize(
    ("device", "cores", "threads"), [("cpu", 6, 1), ("cuda", 6, 6), ("mps", 64, 8)]
)
def test_several_threads_make_crops_for_an_accelerator(
    device, cores, threads, tiny_images, config, monkeypatch
) -> None:
    # As `use_threads` set it: all cores, or --threads.
    monkeypatch.setattr(torch, "get_num_threads", lambda: cores)
    config = config.replace(precision="float32")
    trainer = _trainer(tiny_images, config, torch.device(device))
    assert trainer.sampler.threads == threads


@pytest.mark.gpu
@pytest.mark.skipif(available() == ["cpu"], reason="no CUDA or MPS device")
def test_a_gpu_trains_and_resumes(tiny_images, config) -> None:
    device = choose_device("auto")
    state = new_state(config, device)
    assert not _run(_trainer(tiny_images, config, device), state, stop_after=3)[0]
    state = copy.deepcopy(state)
    assert _run(_trainer(tiny_images, config, device), state)[0]
    assert state.network.head.weight.device.type == device.type
    alone = new_state(config, CPU)
    _run(_trainer(tiny_images, config), alone)
    losses = [[r["train_loss"] for r in s.history] for s in (state, alone)]
    assert losses[0] == pytest.approx(losses[1], rel=0.05)


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
    loss = cross_entropy(logits, classes, weights)
    assert torch.allclose(cross_entropy(logits, classes, 10 * weights), 10 * loss)


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


def test_precision_and_recall_by_hand() -> None:
    tally = LossAndConfusion(classes=3)
    # True 0 0 0 1 1 2, predicted 0 0 1 1 0 1; a seventh pixel is not annotated.
    predicted = torch.tensor([0, 0, 1, 1, 0, 1, 2])
    logits = functional.one_hot(predicted, 3).T.float()[None, :, None]  # 1 3 1 7
    batch = Batch(
        logits,
        torch.tensor([[[0, 0, 0, 1, 1, 2, 2]]], dtype=torch.uint8),
        torch.tensor([[[1.0, 2.0, 1.0, 1.0, 1.0, 1.0, 0.0]]]),
    )
    tally.add(0.5, logits, batch)
    assert tally.confusion.tolist() == [[2, 1, 0], [1, 1, 0], [0, 1, 0]]
    summary = tally.summary("train", ("background", "interior", "boundary"))
    assert summary["train_loss"] == pytest.approx(0.5)
    assert summary["train_precision_background"] == pytest.approx(2 / 3)
    assert summary["train_recall_background"] == pytest.approx(2 / 3)
    assert summary["train_precision_interior"] == pytest.approx(1 / 3)
    assert summary["train_recall_interior"] == pytest.approx(1 / 2)
    assert math.isnan(summary["train_precision_boundary"])
    assert summary["train_recall_boundary"] == 0
    # Two more pixels of a greater loss.
    tally.add(2.5, logits[..., :2], Batch(*(part[..., :2] for part in batch)))
    assert tally.loss == pytest.approx((6 * 0.5 + 2 * 2.5) / 8)


def test_as_many_classes_as_a_network_may_have_are_told_apart() -> None:
    classes = torch.arange(16)
    logits = functional.one_hot(classes, 16).T.float()[None, :, None]
    tally = LossAndConfusion(classes=16)
    true = classes.to(torch.uint8)[None, None]
    tally.add(0.0, logits, Batch(logits, true, torch.ones(1, 1, 16)))
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
