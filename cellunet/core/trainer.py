"""Train: loss, steps, validation, best state so far, early stop, resume.

The state of a run (`TrainState`) is all that is needed to go on: a run that is stopped
after any step and resumed takes the same steps as one that never stopped.
"""

from __future__ import annotations

import contextlib
import copy
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

from cellunet.core import distributed
from cellunet.core.dataset import Batch, CropSampler, Prepared
from cellunet.core.device import autocast_dtype, moved, sent, within_memory
from cellunet.core.unet import UNet, initialize
from cellunet.errors import choose
from cellunet.imaging.blocks import network_plan
from cellunet.imaging.normalize import network_input
from cellunet.ranks import ALONE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import numpy.typing as npt

    from cellunet.config import TrainConfig
    from cellunet.ranks import Ranks


def cross_entropy(
    logits: torch.Tensor, class_map: torch.Tensor, weight_map: torch.Tensor
) -> torch.Tensor:
    """Return L = -sum_ij w_ij log p_ij(true class) / N.

    Ronneberger et al. (2015), eq. 1, divided by the number N of annotated pixels (not
    by the sum of the weights), so that a batch with much boundary counts for more.

    Parameters
    ----------
    logits
        NKYX; p is their softmax over K, computed in float32.
    class_map
        NYX integer, the true class.
    weight_map
        NYX float32; 0 where a pixel is not annotated.
    """
    annotated_px = (weight_map > 0).sum().clamp(min=1)
    per_pixel = functional.cross_entropy(
        logits.float(), class_map.long(), reduction="none"
    )  # N Y X
    return (per_pixel * weight_map).sum() / annotated_px


MOST_THREADS = 8
"""Threads that make crops for an accelerator; more would wait for Python's lock."""

LOSSES = {"cross-entropy": cross_entropy}
"""Name in `TrainConfig.loss` to a function of logits, class map and weight map."""


@dataclass(kw_only=True)
class LossAndConfusion:
    """Running sums of one pass: loss, annotated pixels, and a confusion matrix."""

    classes: int
    loss_sum: float = 0.0
    pixels: int = 0
    confusion: npt.NDArray[np.int64] = field(
        default_factory=lambda: np.zeros((0, 0), np.int64)
    )

    def __post_init__(self) -> None:
        if not self.confusion.size:
            self.confusion = np.zeros((self.classes, self.classes), np.int64)

    def add(self, loss: float, logits: torch.Tensor, batch: Batch) -> None:
        """Add a batch: its mean loss, and predicted against true classes."""
        pixels = int((batch.weight_map > 0).sum())
        self.loss_sum += loss * pixels
        self.pixels += pixels
        # One number a pixel, true and predicted class, and one for what does not count.
        beyond = self.classes**2
        cells = batch.class_map.to(torch.int16) * self.classes + likeliest(logits)
        cells.masked_fill_(batch.weight_map <= 0, beyond)
        counts = torch.bincount(cells.flatten(), minlength=beyond + 1)[:beyond]
        self.confusion += counts.cpu().numpy().reshape(self.classes, self.classes)

    def merge(self, other: LossAndConfusion) -> None:
        """Add another one."""
        self.loss_sum += other.loss_sum
        self.pixels += other.pixels
        self.confusion += other.confusion

    def of_all(self, ranks: Ranks) -> LossAndConfusion:
        """Return the sum of those of all processes."""
        if ranks.alone:
            return self
        own = [self.loss_sum, self.pixels, *self.confusion.ravel()]
        every = distributed.summed(ranks, torch.tensor(own, dtype=torch.float64))
        loss_sum, pixels, *counts = every.tolist()
        confusion = np.array(counts, np.int64).reshape(self.confusion.shape)
        return LossAndConfusion(
            classes=self.classes,
            loss_sum=loss_sum,
            pixels=int(pixels),
            confusion=confusion,
        )

    @property
    def loss(self) -> float:
        """Mean loss over the annotated pixels."""
        return self.loss_sum / max(self.pixels, 1)

    def summary(self, prefix: str, names: Sequence[str]) -> dict[str, float]:
        """Return loss, and precision and recall of each class; nan where undefined."""
        hits = np.diag(self.confusion).astype(float)
        with np.errstate(invalid="ignore"):
            precision = hits / self.confusion.sum(axis=0)
            recall = hits / self.confusion.sum(axis=1)
        values = {f"{prefix}_loss": self.loss}
        for i, name in enumerate(names):
            values[f"{prefix}_precision_{name}"] = float(precision[i])
            values[f"{prefix}_recall_{name}"] = float(recall[i])
        return values


def likeliest(logits: torch.Tensor) -> torch.Tensor:
    """Return the class of the greatest logit, NYX uint8, of NKYX; the first of equals.

    Class by class over whole planes: `argmax` along a short axis takes twice as long
    on a CPU.
    """
    best, *others = logits.unbind(dim=1)
    found = torch.zeros(best.shape, dtype=torch.uint8, device=best.device)
    for number, plane in enumerate(others, 1):
        greater = plane > best
        if number == 1:
            found = greater.to(torch.uint8)
        else:
            found.masked_fill_(greater, number)
        best = torch.maximum(best, plane)
    return found


@dataclass(kw_only=True)
class TrainState:
    """All that a run needs to go on."""

    network: UNet
    average: UNet
    best: UNet
    optimizer: torch.optim.Optimizer
    epoch: int = 0
    step: int = 0
    tally: LossAndConfusion
    history: list[dict[str, float]] = field(default_factory=list)
    best_loss: float = math.inf
    best_epoch: int = -1

    @property
    def epochs_without_gain(self) -> int:
        """Finished epochs since the lowest validation loss."""
        return self.epoch - 1 - self.best_epoch


def new_state(config: TrainConfig, device: torch.device) -> TrainState:
    """Return the state before the first step: weights drawn from the seed."""
    network = UNet(config.network)
    initialize(network, config.seed)
    return state_from(network, config, device)


def state_from(network: UNet, config: TrainConfig, device: torch.device) -> TrainState:
    """Return the state before the first step, from given weights."""
    network = moved(network, device)
    return TrainState(
        network=network,
        average=copy.deepcopy(network).requires_grad_(requires_grad=False).eval(),
        best=copy.deepcopy(network).requires_grad_(requires_grad=False).eval(),
        optimizer=_optimizer(network, config),
        tally=LossAndConfusion(classes=config.network.classes),
    )


def _optimizer(network: UNet, config: TrainConfig) -> torch.optim.Optimizer:
    if config.optimizer == "adam-amsgrad":
        return torch.optim.Adam(
            network.parameters(), config.learning_rate, amsgrad=True
        )
    return torch.optim.AdamW(
        network.parameters(), config.learning_rate, weight_decay=config.weight_decay
    )


class Trainer:
    """Takes the steps of a run.

    Parameters
    ----------
    training, validation
        Prepared images.
    config
        Everything that decides the weights.
    device
        Where to compute.
    ranks
        Which process this is; each of several is given the same images, takes its
        share of every batch and has the same state after every step.
    """

    def __init__(
        self,
        training: Sequence[Prepared],
        validation: Sequence[Prepared],
        config: TrainConfig,
        device: torch.device,
        ranks: Ranks = ALONE,
    ) -> None:
        # One thread keeps up with the CPU, which it would only take cores from.
        threads = torch.get_num_threads()
        crop_threads = 1 if device.type == "cpu" else min(threads, MOST_THREADS)
        self.sampler = CropSampler(training, config, ranks, crop_threads)
        self.ranks = ranks
        self._divided: tuple[UNet, torch.nn.Module] | None = None
        self.validation = validation
        self.config = config
        self.device = device
        self.loss = choose(LOSSES, config.loss, "loss")
        self.autocast = autocast_dtype(device, config.precision)
        self.steps_per_epoch = self.sampler.steps_per_epoch
        self.total_steps = self.steps_per_epoch * config.epochs

    def run(
        self,
        state: TrainState,
        *,
        should_stop: Callable[[], bool],
        on_step: Callable[[TrainState, float], None],
        on_epoch: Callable[[Mapping[str, float]], None] = lambda summary: None,
    ) -> bool:
        """Train until the end, an early stop, or `should_stop`.

        Parameters
        ----------
        state
            Changed in place; complete after every step.
        should_stop
            Asked after every step; true ends the run there.
        on_step
            Called after every step with the state and the step's loss.
        on_epoch
            Called after every validation with the epoch's numbers.

        Returns
        -------
        bool
            Whether the run is finished; False if it was stopped.
        """
        while state.epoch < self.config.epochs and not self._patience_is_over(state):
            # Closed here, whatever happens: a generator that is left to the garbage
            # collector may be closed by its own crop thread, which cannot join itself.
            with contextlib.closing(
                self.sampler.batches(state.epoch, state.step)
            ) as batches:
                for batch in batches:
                    loss = self.step(state, batch)
                    state.step += 1
                    on_step(state, loss)
                    if distributed.any_of(self.ranks, should_stop()):
                        return False
            tally = self.validate(self.kept(state), should_stop)
            if tally is None:
                return False
            self._end_epoch(state, tally)
            on_epoch(state.history[-1])
        return True

    def kept(self, state: TrainState) -> UNet:
        """Return the network that is validated: the average if one is kept."""
        return state.average if self.config.average_decay > 0 else state.network

    def result(self, state: TrainState) -> UNet:
        """Return the network that the run is for: the last or the best."""
        return state.best if self.config.keep == "best" else self.kept(state)

    def step(self, state: TrainState, batch: Batch) -> float:
        """Take one optimizer step and return the loss of the whole batch."""
        network = state.network.train()
        for group in state.optimizer.param_groups:
            group["lr"] = self.learning_rate(state)
        side = self.config.crop_px
        crops = f"A step of {self.config.batch} crops of {side} x {side} px"
        less = "Make batch or crop_px smaller (--config)"
        with within_memory(self.device, crops, less):
            batch = self._sent(batch)
            with distributed.telling_lost(self.ranks):
                with self._mixed_precision():
                    logits = self._computing(network)(batch.image)
                loss = self.loss(logits, batch.class_map, batch.weight_map)
                state.optimizer.zero_grad(set_to_none=True)
                self._weighed(loss, batch).backward()  # type: ignore[no-untyped-call]
            state.optimizer.step()
            self._update_average(state)
            own = LossAndConfusion(classes=self.config.network.classes)
            own.add(float(loss.detach()), logits.detach(), batch)
        whole = own.of_all(self.ranks)
        state.tally.merge(whole)
        return whole.loss

    def _computing(self, network: UNet) -> torch.nn.Module:
        """Return what computes a network in training: of several processes, shared."""
        if self.ranks.alone:
            return network
        if self._divided is None or self._divided[0] is not network:
            self._divided = network, distributed.divided(network, self.device)
        return self._divided[1]

    def _weighed(self, loss: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Return the loss of a share so that the mean over processes is the batch's.

        A loss is a mean over annotated pixels, of which shares hold more or fewer.
        """
        if self.ranks.alone:
            return loss
        own = (batch.weight_map > 0).sum().cpu().double()
        every = distributed.summed(self.ranks, own.clone())
        share = own.clamp(min=1) / every.clamp(min=1)
        return loss * float(share * self.ranks.size)

    def _sent(self, batch: Batch) -> Batch:
        """Return a batch on the device, its image with channels last."""
        image, *others = (sent(part, self.device) for part in batch)
        return Batch(image.to(memory_format=torch.channels_last), *others)

    def _mixed_precision(self) -> contextlib.AbstractContextManager[object]:
        # Not an autocast that is switched off: not every torch has one for MPS.
        if self.autocast is None:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, self.autocast)

    def learning_rate(self, state: TrainState) -> float:
        """Return the learning rate of the next step, a function of its number."""
        config = self.config
        step = state.epoch * self.steps_per_epoch + state.step
        if config.schedule == "constant":
            return config.learning_rate
        warmup = min(config.warmup_steps, self.total_steps // 10)
        if step < warmup:
            return config.learning_rate * (step + 1) / warmup
        part = (step - warmup) / max(self.total_steps - warmup, 1)
        return config.learning_rate * 0.5 * (1 + math.cos(math.pi * part))

    def _update_average(self, state: TrainState) -> None:
        decay = self.config.average_decay
        if decay == 0:
            return
        done = state.epoch * self.steps_per_epoch + state.step
        # Early on, an average over few steps: the first weights are of no worth.
        decay = min(decay, (1 + done) / (10 + done))
        with torch.no_grad():
            mine = [
                v for v in state.average.state_dict().values() if v.is_floating_point()
            ]
            new = [
                v for v in state.network.state_dict().values() if v.is_floating_point()
            ]
            torch._foreach_lerp_(mine, new, 1 - decay)

    def validate(
        self, network: UNet, should_stop: Callable[[], bool] = lambda: False
    ) -> LossAndConfusion | None:
        """Return loss and confusion over all validation images; None if stopped.

        Every window counts once, whatever the number of processes that share them.
        """
        own = LossAndConfusion(classes=self.config.network.classes)
        network.eval()
        with torch.inference_mode():
            for batch in self._own_windows():
                if batch is not None:
                    self._validate_batch(network, batch, own)
                if distributed.any_of(self.ranks, should_stop()):
                    return None
        return own.of_all(self.ranks)

    def _own_windows(self) -> Iterator[Batch | None]:
        """Yield this process's windows; None at the end, where others have one more."""
        first, size = self.ranks.rank, self.ranks.size
        before = 0
        for prepared in self.validation:
            start = (first - before) % size
            yield from _windows(prepared, self.config, start, size)
            before += _count(prepared, self.config)
        if 0 < before % size <= first:
            yield None

    def _validate_batch(
        self, network: UNet, batch: Batch, tally: LossAndConfusion
    ) -> None:
        height, width = batch.class_map.shape[-2:]
        window = f"A validation window of {height} x {width} px"
        less = "Validate on smaller images (--val DIR)"
        with within_memory(self.device, window, less):
            batch = self._sent(batch)
            with self._mixed_precision():
                logits = network(batch.image)
            loss = self.loss(logits, batch.class_map, batch.weight_map)
        tally.add(float(loss), logits, batch)

    def _end_epoch(self, state: TrainState, validation: LossAndConfusion) -> None:
        names = self.config.encoding.classes
        # Of the epoch's last step, whose rate the numbers belong to.
        state.step -= 1
        rate = self.learning_rate(state)
        row = {"epoch": float(state.epoch + 1), "learning_rate": rate}
        row |= state.tally.summary("train", names)
        row |= validation.summary("validation", names)
        state.history.append(row)
        if validation.loss < state.best_loss:
            state.best_loss, state.best_epoch = validation.loss, state.epoch
            state.best.load_state_dict(self.kept(state).state_dict())
        state.tally = LossAndConfusion(classes=self.config.network.classes)
        state.epoch, state.step = state.epoch + 1, 0

    def _patience_is_over(self, state: TrainState) -> bool:
        patience = self.config.patience_epochs
        return bool(patience and state.epoch and state.epochs_without_gain >= patience)


def _count(prepared: Prepared, config: TrainConfig) -> int:
    """Return how many windows an image has."""
    return len(network_plan(prepared.class_map.shape, config.network).blocks)


def _windows(
    prepared: Prepared, config: TrainConfig, start: int, step: int
) -> Iterator[Batch]:
    """Yield every `step`-th of an image's blocks, weighted in their cores alone."""
    plan = network_plan(prepared.class_map.shape, config.network)
    blocks = plan.blocks[start::step]
    if not blocks:
        return
    image = network_input(prepared.crop.image, config.normalization)
    for block in blocks:
        window, class_map = image[:, *block.window], prepared.class_map[block.window]
        short = [
            (0, length - have)
            for length, have in zip(plan.block_shape, class_map.shape, strict=True)
        ]
        weights = np.zeros(plan.block_shape, np.float32)
        weights[block.own] = prepared.weight_map[block.core]
        yield Batch(
            torch.from_numpy(np.pad(window, ((0, 0), *short), "symmetric")[None]),
            torch.from_numpy(np.pad(class_map, short)[None]),
            torch.from_numpy(weights[None]),
        )
