"""Variations of training crops.

Flips and quarter turns move image, classes and weights together. Scaling, turning and
stretching warp the LABELS, which are then encoded anew, so that a boundary keeps its
thickness. Intensities vary in the model's units, before the input channels are made.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from scipy import ndimage
from torch.nn import functional

if TYPE_CHECKING:
    import numpy.typing as npt

    from cellunet.config import AugmentConfig


class Crop(NamedTuple):
    """A crop before encoding.

    `image` is CYX float32 in the model's units, `labels` YX, `annotated` YX bool,
    `weights` 2YX float32: border weight, and gain of small objects. They move with the
    pixels, since they would take longer to make anew than all else of a crop.
    """

    image: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int32]
    annotated: npt.NDArray[np.bool_]
    weights: npt.NDArray[np.float32]


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
    turned = tuple(np.rot90(a, choice % 4, axes=(-2, -1)) for a in arrays)
    if choice >= 4:
        turned = tuple(a[..., ::-1] for a in turned)
    return turned


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
        (2, size, size) float32: y and x relative to the crop's centre, in pixels of
        the source.
    """
    low, high = config.scale_range
    magnification = math.exp(rng.uniform(math.log(low), math.log(high)))
    angle = rng.uniform(0.0, 2.0 * math.pi)
    axis = np.arange(size, dtype=np.float32) - (size - 1) / 2
    y, x = np.meshgrid(axis, axis, indexing="ij")
    cos, sin = math.cos(angle) / magnification, math.sin(angle) / magnification
    grid = np.stack((cos * y - sin * x, sin * y + cos * x)).astype(np.float32)
    if config.elastic_px > 0:
        # One random vector every 32 pixels or so, joined by cubics.
        knots = size // 32 + 3
        coarse = rng.normal(0.0, config.elastic_px, (1, 2, knots, knots))
        smooth = functional.interpolate(
            torch.from_numpy(coarse.astype(np.float32)), (size, size), mode="bicubic"
        )
        grid += smooth[0].numpy()
    return grid


def warp(
    source: Crop, centre: tuple[float, float], grid: npt.NDArray[np.float32]
) -> Crop:
    """Return the crop that `grid` describes around `centre` of a whole image.

    Linear interpolation of image and weights, nearest label; beyond the image nothing
    is annotated.
    """
    where = grid + np.array(centre, np.float32)[:, np.newaxis, np.newaxis]
    corner = np.maximum(np.floor(where.min(axis=(1, 2))).astype(int) - 1, 0)
    end = np.ceil(where.max(axis=(1, 2))).astype(int) + 2
    view = np.s_[corner[0] : end[0], corner[1] : end[1]]
    shape = np.array(source.labels[view].shape)
    # grid_sample counts from -1 to 1 between the centres of the outermost pixels.
    span = np.maximum(shape - 1, 1)
    place = 2.0 * (where - corner[:, None, None]) / span[:, None, None] - 1.0
    points = torch.from_numpy(place[::-1].astype(np.float32).transpose(1, 2, 0).copy())
    smooth = np.concatenate(
        [part[(slice(None), *view)] for part in (source.image, source.weights)]
    )
    smooth = _sample(smooth, points, "bilinear", "reflection")
    image, weights = smooth[:-2], smooth[-2:]
    # float32 holds every label up to 2^24.
    labels = _sample(source.labels[view][np.newaxis], points, "nearest", "border")
    annotated = _sample(source.annotated[view][np.newaxis], points, "nearest", "border")
    # Not by padding with zeros: where an image is one pixel wide, every point of
    # grid_sample lies on that pixel.
    edge = np.array(source.labels.shape)[:, None, None] - 0.5
    inside = ((where > -0.5) & (where < edge)).all(axis=0)
    return Crop(image, labels[0].astype(np.int32), (annotated[0] > 0) & inside, weights)


def _sample(
    array: npt.NDArray[np.generic], points: torch.Tensor, mode: str, padding: str
) -> npt.NDArray[np.float32]:
    source = torch.from_numpy(np.ascontiguousarray(array, np.float32))
    sampled = functional.grid_sample(
        source[None], points[None], mode, padding, align_corners=True
    )
    result: npt.NDArray[np.float32] = sampled[0].numpy()
    return result


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
    varied = image
    if with_gamma and config.gamma_sigma > 0:
        varied = np.sign(varied) * np.abs(varied) ** np.float32(gamma)
    if with_blur and blur > 0.2:
        # Below a fifth of a pixel the kernel is a single value.
        varied = ndimage.gaussian_filter(varied, (0, blur, blur))
    varied = varied + np.float32(offset)
    if with_noise and noise > 0:
        varied += np.float32(noise) * rng.standard_normal(varied.shape, np.float32)
    varied *= np.float32(gain)
    return varied.astype(np.float32, copy=False)
