"""Vary training crops.

Flips and quarter turns move image, labels and border weight together. Scaling, turning
and stretching warp the LABELS, which are then encoded anew, so that a boundary keeps
its thickness. Intensities vary in the model's units, before the input channels
are made.
"""

from __future__ import annotations

import math
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from scipy import ndimage
from torch.nn import functional

from cellunet.imaging.targets import NO_SCRIBBLE

if TYPE_CHECKING:
    import numpy.typing as npt

    from cellunet.config import AugmentConfig


class TrainingCrop(NamedTuple):
    """A crop before encoding.

    `image` is CYX float32 in the model's units, `labels` YX, `annotated` YX bool: what
    counts, by its label or by a scribble. `border` YX float32: the border weight. It
    moves with the pixels, since it would take longer to make anew than all else of a
    crop. `scribbles` YX uint8, of `cellunet.annotations.pixels`; None where there are
    none.
    """

    image: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int32]
    annotated: npt.NDArray[np.bool_]
    border: npt.NDArray[np.float32]
    scribbles: npt.NDArray[np.uint8] | None = None

    @property
    def scored(self) -> npt.NDArray[np.bool_]:
        """What counts by its label (YX bool): what scores look at."""
        if self.scribbles is None:
            return self.annotated
        scored: npt.NDArray[np.bool_] = self.annotated & (self.scribbles == NO_SCRIBBLE)
        return scored


def flip(
    arrays: tuple[npt.NDArray[np.generic], ...], choice: int
) -> tuple[npt.NDArray[np.generic], ...]:
    """Return one of the eight flips and quarter turns of the last two axes.

    Parameters
    ----------
    arrays
        Any number of ...YX arrays, treated alike.
    choice
        0 to 7; 0 changes nothing.
    """
    turned = tuple(_quarter_turns(a, choice % 4) for a in arrays)
    if choice >= 4:
        turned = tuple(a[..., ::-1] for a in turned)
    return turned


def _quarter_turns(
    array: npt.NDArray[np.generic], count: int
) -> npt.NDArray[np.generic]:
    """Return what `np.rot90` does, for a tenth of its time."""
    if count % 2:
        array = array.swapaxes(-2, -1)
    if count in (1, 2):
        array = array[..., ::-1, :]
    return array[..., ::-1] if count in (2, 3) else array


def warp_grid(
    size: int, config: AugmentConfig, rng: np.random.Generator
) -> npt.NDArray[np.float32]:
    """Return where each pixel of a warped crop comes from.

    A magnification, drawn evenly in its logarithm, a turn by any angle, and a smooth
    elastic displacement.

    Parameters
    ----------
    size
        Side of the crop in pixels.
    config
        Ranges.
    rng
        Source of randomness.

    Returns
    -------
    ndarray
        (2, size, size) float32: y and x relative to the crop's center, in pixels of
        the source.
    """
    low, high = config.scale_range
    magnification = math.exp(rng.uniform(math.log(low), math.log(high)))
    angle = rng.uniform(0.0, 2.0 * math.pi)
    axis = np.arange(size, dtype=np.float32) - (size - 1) / 2
    cos, sin = (f(angle) / magnification for f in (math.cos, math.sin))
    along, across = np.float32(cos) * axis, np.float32(sin) * axis
    grid = np.empty((2, size, size), np.float32)
    np.subtract.outer(along, across, out=grid[0])
    np.add.outer(across, along, out=grid[1])
    if config.elastic_px > 0:
        # One random vector every 32 pixels or so, joined by cubics.
        knots = size // 32 + 3
        coarse = rng.normal(0.0, config.elastic_px, (1, 2, knots, knots))
        cubics = _cubics(size, knots)
        grid += cubics @ coarse[0].astype(np.float32) @ cubics.T
    return grid


@cache
def _cubics(size: int, knots: int) -> npt.NDArray[np.float32]:
    """Return the matrix (size, knots) that joins values at knots by cubics.

    Cubic interpolation is linear in the values: on one axis it is this matrix, on two
    a product with it from either side, for a tenth of the time of interpolating.
    """
    unit = torch.eye(knots)[None, None]
    matrix: npt.NDArray[np.float32] = functional.interpolate(
        unit, (size, knots), mode="bicubic"
    )[0, 0].numpy()
    matrix.flags.writeable = False
    return matrix


def warp(
    source: TrainingCrop, center: tuple[float, float], grid: npt.NDArray[np.float32]
) -> TrainingCrop:
    """Return the crop that `grid` describes around `center` of a whole image.

    Linear interpolation of image and border weight, nearest label and scribble; beyond
    the image nothing is annotated.
    """
    where = grid + np.array(center, np.float32)[:, np.newaxis, np.newaxis]
    height, width = source.labels.shape
    edge = np.array((height, width), np.float32)[:, np.newaxis, np.newaxis] - 0.5
    within = (where > -0.5) & (where < edge)
    inside = within[0] & within[1]
    nearest = [
        np.rint(np.clip(place, 0, length - 1)).astype(np.intp)
        for place, length in zip(where, (height, width), strict=True)
    ]
    pixel = nearest[0] * width + nearest[1]
    if not source.annotated.all():
        inside &= source.annotated.take(pixel)
    image, border = _smooth((source.image, source.border[np.newaxis]), where)
    scribbles = None if source.scribbles is None else source.scribbles.take(pixel)
    return TrainingCrop(image, source.labels.take(pixel), inside, border[0], scribbles)


def _smooth(
    parts: tuple[npt.NDArray[np.float32], ...], where: npt.NDArray[np.float32]
) -> list[npt.NDArray[np.float32]]:
    """Return CYX arrays at places (2YX, pixels) between pixels, mirrored beyond."""
    low, high = where.min(axis=(1, 2)), where.max(axis=(1, 2))
    corner = np.maximum(np.floor(low).astype(int) - 1, 0)
    end = np.ceil(high).astype(int) + 2
    view = np.s_[:, corner[0] : end[0], corner[1] : end[1]]
    shape = np.array(parts[0][view].shape[1:])
    # grid_sample counts from -1 to 1 between the centers of the outermost pixels.
    span = np.maximum(shape - 1, 1)
    points = np.empty((*where.shape[1:], 2), np.float32)
    for axis in (0, 1):
        scale, zero = 2.0 / span[axis], 2.0 * corner[axis] / span[axis] + 1.0
        np.multiply(where[axis], np.float32(scale), out=points[..., 1 - axis])
        points[..., 1 - axis] -= np.float32(zero)
    # Where nothing lies beyond, the mirrors need not be asked for.
    within = (low >= corner).all() and (high <= corner + shape - 1).all()
    padding = "border" if within else "reflection"
    return [
        functional.grid_sample(
            torch.from_numpy(part[view])[None],
            torch.from_numpy(points)[None],
            "bilinear",
            padding,
            align_corners=True,
        )[0].numpy()
        for part in parts
    ]


def vary_intensity(
    image: npt.NDArray[np.float32], config: AugmentConfig, rng: np.random.Generator
) -> npt.NDArray[np.float32]:
    """Return the image with random gamma, blur, offset, noise and gain.

    The gain comes last, so that a dimmed crop keeps its signal to noise.

    Parameters
    ----------
    image
        CYX float32 in the model's units; not changed.
    config
        Strengths.
    rng
        Source of randomness; noise is drawn from it only where there is noise.
    """
    gain = math.exp(rng.normal(0.0, 1.0) * config.gain_sigma)
    offset = rng.normal(0.0, 1.0) * config.offset_sigma
    gamma = math.exp(rng.normal(0.0, 1.0) * config.gamma_sigma)
    blur = rng.uniform(0.0, config.blur_sigma_px)
    noise = rng.uniform(0.0, config.noise_sigma)
    with_gamma, with_blur, with_noise = rng.random(3) < config.intensity_probability
    low, high = config.dim_range
    dim = math.exp(rng.uniform(math.log(low), math.log(high)))
    if rng.random() < config.dim_probability:
        gain *= dim
    varied = image.astype(np.float32)
    if with_gamma and config.gamma_sigma > 0:
        powers = np.abs(varied)
        np.power(powers, np.float32(gamma), out=powers)
        np.copysign(powers, varied, out=varied)
    if with_blur and blur > 0.2:
        # Below a fifth of a pixel the kernel is a single value.
        varied = ndimage.gaussian_filter(varied, (0, blur, blur))
    varied += np.float32(offset)
    if with_noise and noise > 0:
        drawn = rng.standard_normal(varied.shape, np.float32)
        drawn *= np.float32(noise)
        varied += drawn
    varied *= np.float32(gain)
    return varied


HALO_PX = 5.0
"""So far from an object its own light still lies over the background."""

DIMMEST = 0.08
"""Of the light of the objects around it: as mitotic beside resting, or S phase in a
field of apoptotic nuclei."""


def vary_appearance(
    image: npt.NDArray[np.float32],
    labels: npt.NDArray[np.int32],
    rng: np.random.Generator,
) -> npt.NDArray[np.float32]:
    """Return a crop as another sample or microscope might have shown it.

    Each with probability one half: objects dimmed one by one, their insides grained or
    spotted, light of the cells' bodies, light of cells out of focus, uneven light, blur
    of the objective, noise of photons and of the camera, and steps of brightness as few
    bits leave them. The outlines stay where they are.

    Parameters
    ----------
    image
        CYX float32 in the model's units; not changed.
    labels
        YX instance ids of the crop, 0 is background.
    rng
        Source of randomness.
    """
    dims, grains, bodies, hazes, shades, blurs, noises, steps = rng.random(8) < 0.5
    varied = image.astype(np.float32)
    if (dims or grains) and labels.any():
        varied = _relit(varied, labels, dims, grains, rng)
    if bodies and labels.any():
        varied += _cell_bodies(labels, rng)
    if hazes:
        # The same crop, turned and out of focus.
        sigma = rng.uniform(6, 24)
        away = np.maximum(image[..., ::-1, ::-1], 0.0)
        light = ndimage.gaussian_filter(away, (0, sigma, sigma))
        varied += np.float32(rng.uniform(0.1, 0.8)) * light
        varied += np.float32(rng.uniform(0.0, 0.15))
    if shades:
        uneven = _smooth_noise(labels.shape, rng.uniform(64, 192), rng)
        varied *= np.exp(np.float32(0.35) * uneven)
    if blurs:
        sigma = _log_uniform(0.5, 3.0, rng)
        varied = ndimage.gaussian_filter(varied, (0, sigma, sigma))
    if noises:
        varied += _noise(varied, rng)
    if steps:
        levels = np.float32(_log_uniform(12, 255, rng))
        varied = np.rint(varied * levels) / levels
    return varied.astype(np.float32, copy=False)


def _log_uniform(low: float, high: float, rng: np.random.Generator) -> float:
    return math.exp(rng.uniform(math.log(low), math.log(high)))


def _noise(
    image: npt.NDArray[np.float32], rng: np.random.Generator
) -> npt.NDArray[np.float32]:
    """Return noise of photons, which grows with the light, and of the camera."""
    photons, camera = _log_uniform(0.002, 0.08, rng), _log_uniform(0.002, 0.05, rng)
    spread = np.sqrt(camera**2 + photons**2 * np.maximum(image, 0.0))
    drawn = rng.standard_normal(image.shape, np.float32)
    grain = rng.uniform(0.0, 1.0) if rng.random() < 0.5 else 0.0
    if grain > 0.3:
        # As in an image that was enlarged.
        drawn = ndimage.gaussian_filter(drawn, (0, grain, grain))
        drawn /= max(float(drawn.std()), 1e-6)
    noise: npt.NDArray[np.float32] = drawn * spread.astype(np.float32)
    return noise


def _relit(
    image: npt.NDArray[np.float32],
    labels: npt.NDArray[np.int32],
    dims: bool,
    grains: bool,
    rng: np.random.Generator,
) -> npt.NDArray[np.float32]:
    """Return the crop with the light of each object changed, background as it was."""
    distance, nearest = ndimage.distance_transform_edt(labels == 0, return_indices=True)
    owner = labels[tuple(nearest)]
    reach = np.clip((HALO_PX - distance) / HALO_PX, 0.0, 1.0).astype(np.float32)
    away = (distance > 2).astype(np.float32)
    weight = ndimage.gaussian_filter(away, 12) + np.float32(1e-3)
    local = ndimage.gaussian_filter(image * away, (0, 12, 12))
    local += np.float32(1e-3) * image.min(axis=(1, 2), keepdims=True)
    local /= weight
    excess = image - local
    change = np.ones(labels.shape, np.float32)
    if dims:
        ids, place = np.unique(owner, return_inverse=True)
        # Some fields hold a few bright objects, others a few dim ones.
        share = rng.uniform(0.2, 0.9)
        gain = np.exp(rng.uniform(math.log(DIMMEST), 0.0, len(ids)))
        gain[rng.random(len(ids)) > share] = 1.0
        change *= ndimage.gaussian_filter(
            gain.astype(np.float32)[place.reshape(owner.shape)], 1.0
        )
    if grains:
        fine = _smooth_noise(labels.shape, rng.uniform(2, 8), rng)
        change *= np.exp(np.float32(rng.uniform(0.1, 0.7)) * fine)
    relit: npt.NDArray[np.float32] = image + excess * (change - 1) * reach
    return relit


def _cell_bodies(
    labels: npt.NDArray[np.int32], rng: np.random.Generator
) -> npt.NDArray[np.float32]:
    """Return light YX of the cells around objects: what shines and is no object.

    It ends somewhere around each object, here sharply and there softly, also far from
    it: bodies and tails of cells that take some of the stain, or shine by themselves.
    """
    distance = ndimage.distance_transform_edt(labels == 0).astype(np.float32)
    length = np.float32(_log_uniform(6, 40, rng))
    ragged = _smooth_noise(labels.shape, _log_uniform(12, 64, rng), rng)
    softness = np.float32(_log_uniform(0.03, 0.6, rng))
    depth = (np.float32(rng.uniform(0.5, 1.5)) - distance / length + ragged) / softness
    inside = 1 / (1 + np.exp(-np.clip(depth, -30, 30)))
    fine = _smooth_noise(labels.shape, _log_uniform(3, 24, rng), rng)
    bright = np.float32(_log_uniform(0.03, 0.4, rng))
    light: npt.NDArray[np.float32] = bright * inside * np.exp(np.float32(0.3) * fine)
    return light.astype(np.float32, copy=False)


def _smooth_noise(
    shape: tuple[int, ...], size_px: float, rng: np.random.Generator
) -> npt.NDArray[np.float32]:
    """Return noise YX of unit spread whose grains are so wide."""
    knots = [max(int(length / size_px), 1) + 3 for length in shape]
    coarse = rng.standard_normal(knots, np.float32)
    rows, columns = (_cubics(n, k) for n, k in zip(shape, knots, strict=True))
    return (rows @ coarse @ columns.T).astype(np.float32, copy=False)
