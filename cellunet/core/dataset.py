"""Prepare images for training, and draw crops from them.

What is drawn for sample `index` of epoch `epoch` is a pure function of (seed, epoch,
index): neither the number of workers nor an interruption changes it. For images that
are annotated everywhere two numbers are drawn, one an axis, so that adding a partly
annotated image changes nothing for the others.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from cellunet.core.augment import (
    TrainingCrop,
    flip,
    vary_appearance,
    vary_intensity,
    warp,
    warp_grid,
)
from cellunet.imaging.normalize import measure_channels, network_input, rescale_channels
from cellunet.imaging.sizes import looked_up, magnified
from cellunet.imaging.targets import (
    add_class_weights,
    add_scribbles,
    border_map,
    encode,
    trainable_mask,
)
from cellunet.ranks import ALONE

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    import numpy.typing as npt

    from cellunet.config import NormalizationConfig, TrainConfig
    from cellunet.io.source import Statistics
    from cellunet.ranks import Ranks

    Measured = Callable[[NormalizationConfig], Sequence[Statistics]]


def crop_corner(
    annotated: npt.NDArray[np.bool_], size: int, rng: np.random.Generator
) -> tuple[int, int]:
    """Return the upper left corner of a crop within an image.

    Parameters
    ----------
    annotated
        YX, what is annotated. Where that is not all, an annotated pixel is drawn, and
        then one of the crops that hold it.
    size
        Side of the crop in pixels.
    rng
        Source of randomness.
    """
    lasts = [max(length - size, 0) for length in annotated.shape]
    if annotated.all():
        y, x = (int(rng.integers(last + 1)) for last in lasts)
        return y, x
    place = _annotated_pixel(annotated, rng)
    y, x = (
        int(rng.integers(max(p - size + 1, 0), min(p, last) + 1))
        if last
        else int(rng.integers(1))
        for p, last in zip(place, lasts, strict=True)
    )
    return y, x


def crop_center(
    annotated: npt.NDArray[np.bool_], rng: np.random.Generator
) -> tuple[float, float]:
    """Return a point of an image, one that is annotated if not all of it is."""
    if annotated.all():
        y, x = (rng.uniform(0, length - 1) for length in annotated.shape)
        return y, x
    row, column = _annotated_pixel(annotated, rng)
    return float(row), float(column)


def _annotated_pixel(
    annotated: npt.NDArray[np.bool_], rng: np.random.Generator
) -> tuple[int, int]:
    up_to = np.count_nonzero(annotated, axis=1).cumsum()
    if not up_to[-1]:
        # Nothing there weighs anything, wherever the crop is taken.
        row, column = divmod(int(rng.integers(annotated.size)), annotated.shape[1])
        return row, column
    # A list of all annotated pixels would take eight bytes for each, in each thread.
    number = int(rng.integers(up_to[-1]))
    row = int(up_to.searchsorted(number, side="right"))
    return row, int(np.flatnonzero(annotated[row])[number - up_to[row]])


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One annotated image.

    `image` is CYX in its own units, `labels` YX instance ids (0 background),
    `annotated` YX bool: what is not annotated is no one's error in the metrics and has
    weight 0 in the loss, unless `scribbles` (YX uint8, of
    `cellunet.annotations.pixels`) give the class there. `measured` returns the
    statistics of the whole image by channel, where this is a part of it; None: it is
    whole. `channels` are their names in the file. `kind` is how the labels were drawn,
    `origin` the stack that this is a plane of, or the field that it was cut from,
    `notes` what to know of how the labels were drawn.
    """

    name: str
    image: npt.NDArray[np.generic]
    labels: npt.NDArray[np.int32]
    annotated: npt.NDArray[np.bool_]
    scribbles: npt.NDArray[np.uint8] | None = None
    measured: Measured | None = None
    channels: tuple[str, ...] = ()
    kind: str = "labels"
    origin: str = ""
    notes: tuple[str, ...] = ()

    def statistics_for(self, config: NormalizationConfig) -> Sequence[Statistics]:
        """Return with which statistics each channel is scaled: of the whole image."""
        if self.measured is not None:
            return self.measured(config)
        return measure_channels(lambda: [self.image], config)


class Prepared(NamedTuple):
    """A sample ready for cropping: `crop` in the model's units, classes, weights."""

    name: str
    crop: TrainingCrop
    class_map: npt.NDArray[np.uint8]
    weight_map: npt.NDArray[np.float32]


class _CropWithTargets(NamedTuple):
    """A crop with its targets: CYX in the model's units, and three times YX."""

    image: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int32]
    class_map: npt.NDArray[np.uint8]
    weight_map: npt.NDArray[np.float32]


class Batch(NamedTuple):
    """Crops of one step: NCYX float32, NYX uint8, NYX float32."""

    image: torch.Tensor
    class_map: torch.Tensor
    weight_map: torch.Tensor


def prepare(sample: Sample, config: TrainConfig) -> Prepared:
    """Normalize, magnify, encode and weigh one sample.

    The weight map is made once and kept. What is returned is what the network sees:
    magnified by ``config.scale``, the labels too.
    """
    statistics = sample.statistics_for(config.normalization)
    image = rescale_channels(sample.image, statistics, config.normalization)
    labels, scribbles = sample.labels, sample.scribbles
    counted = trainable_mask(sample.annotated, scribbles)
    if config.scale != 1.0:
        image = magnified(image, config.scale)
        labels = looked_up(labels, config.scale)
        counted = looked_up(counted, config.scale)
        scribbles = None if scribbles is None else looked_up(scribbles, config.scale)
    border = border_map(labels, config.weights)
    crop = TrainingCrop(image, labels, counted, border, scribbles)
    class_map, weights = _encode(crop, config)
    return Prepared(sample.name, crop, class_map, weights)


def _encode(
    crop: TrainingCrop, config: TrainConfig
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
    labeled = encode(crop.labels, config.encoding)
    class_map = add_scribbles(labeled, crop.scribbles, config.encoding)
    weights = add_class_weights(crop.border, class_map, config.weights)
    weights *= crop.annotated
    return class_map, weights


def steps_per_epoch(config: TrainConfig, images: int) -> int:
    """Return the optimizer steps of one epoch over so many images."""
    return config.steps_per_epoch or -(-images // config.batch)


class CropSampler:
    """Draws the crops of any step of any epoch.

    Parameters
    ----------
    images
        Prepared training images.
    config
        Crop size, batch, augmentation, seed and how images are chosen.
    ranks
        Which process this is: of every batch it draws its share, so that the shares of
        all are the batch that one process would draw.
    threads
        Batches in work at once; they are the same for any number.
    """

    def __init__(
        self,
        images: Sequence[Prepared],
        config: TrainConfig,
        ranks: Ranks = ALONE,
        threads: int = 1,
    ) -> None:
        self.images = images
        self._share = ranks.share(config.batch)
        self.config = config
        self.threads = threads
        self.steps_per_epoch = steps_per_epoch(config, len(images))
        areas = [
            max(int(np.count_nonzero(i.crop.annotated)), config.crop_px**2)
            if config.sampling == "area"
            else 1
            for i in images
        ]
        # As `Generator.choice` draws, which adds up and checks the shares every time.
        self._shares_up_to = np.cumsum(np.array(areas) / sum(areas))
        self._shares_up_to /= self._shares_up_to[-1]

    def batches(self, epoch: int, first_step: int) -> Generator[Batch]:
        """Yield the batches of an epoch from `first_step` on, made ahead of use."""
        steps = range(first_step, self.steps_per_epoch)
        early = 2 * self.threads
        with ThreadPoolExecutor(self.threads, "cellunet-crops") as pool:
            ahead = deque(pool.submit(self.batch, epoch, s) for s in steps[:early])
            for step in steps:
                ready = ahead.popleft()
                if step + early < steps.stop:
                    ahead.append(pool.submit(self.batch, epoch, step + early))
                yield ready.result()

    def batch(self, epoch: int, step: int) -> Batch:
        """Return the batch of one step, or this process's share of it."""
        first = step * self.config.batch
        crops = [self.crop(epoch, first + i) for i in self._share]
        # Turned views are copied once, into the batch.
        parts = (np.stack(part) for part in zip(*crops, strict=True))
        return Batch(*(torch.from_numpy(np.ascontiguousarray(p)) for p in parts))

    def crop(self, epoch: int, index: int) -> tuple[npt.NDArray[np.generic], ...]:
        """Return (network input CYX, class map YX, weight map YX) of one sample."""
        config = self.config
        rng = np.random.default_rng((config.seed, epoch, index))
        prepared = self.images[self._choose(epoch, index, rng)]
        if rng.random() < config.augment.warp_probability:
            image, labels, class_map, weights = self._warped(prepared, rng)
        else:
            image, labels, class_map, weights = self._cut(prepared, rng)
        varied = config.augment.appearance_probability
        # Nothing is drawn where nothing is varied: crops stay as they were.
        if varied > 0 and rng.random() < varied:
            image = vary_appearance(image, labels, rng)
        image = vary_intensity(image, config.augment, rng)
        arrays = (network_input(image, config.normalization), class_map, weights)
        return flip(arrays, int(rng.integers(8)) if config.augment.flips else 0)

    def _choose(self, epoch: int, index: int, rng: np.random.Generator) -> int:
        if self.config.sampling == "area":
            return int(self._shares_up_to.searchsorted(rng.random(), side="right"))
        # Every image once before any comes again.
        turn, place = divmod(index, len(self.images))
        order = np.random.default_rng((self.config.seed, epoch, turn, 1))
        return int(order.permutation(len(self.images))[place])

    def _warped(self, prepared: Prepared, rng: np.random.Generator) -> _CropWithTargets:
        grid = warp_grid(self.config.crop_px, self.config.augment, rng)
        height, width = prepared.class_map.shape
        center = crop_center(prepared.crop.annotated, rng)
        crop = warp(prepared.crop, _inside(center, grid, (height, width)), grid)
        return _CropWithTargets(crop.image, crop.labels, *_encode(crop, self.config))

    def _cut(self, prepared: Prepared, rng: np.random.Generator) -> _CropWithTargets:
        size = self.config.crop_px
        y, x = crop_corner(prepared.crop.annotated, size, rng)
        view = np.s_[..., y : y + size, x : x + size]
        image, class_map = prepared.crop.image[view], prepared.class_map[view]
        labels, weights = prepared.crop.labels[view], prepared.weight_map[view]
        short = tuple((0, size - length) for length in class_map.shape)
        if not any(missing for _, missing in short):
            return _CropWithTargets(image, labels, class_map, weights)
        # What is beyond a small image is mirrored for the eye of the network and
        # weighs nothing.
        return _CropWithTargets(
            np.pad(image, ((0, 0), *short), "symmetric"),
            np.pad(labels, short),
            np.pad(class_map, short),
            np.pad(weights, short),
        )


def _inside(
    center: tuple[float, float],
    grid: npt.NDArray[np.float32],
    shape: tuple[int, int],
) -> tuple[float, float]:
    """Move a center so that the warped crop stays within the image where it fits."""
    moved = []
    for place, offsets, length in zip(center, grid, shape, strict=True):
        low, high = -float(offsets.min()), length - 1 - float(offsets.max())
        moved.append(min(max(place, low), high) if low <= high else (length - 1) / 2)
    return moved[0], moved[1]
