"""Class map and labels to the weight of each pixel in the loss."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from cellunet.errors import ConfigError

if TYPE_CHECKING:
    import numpy.typing as npt

    from cellunet.config import WeightConfig

NEGLIGIBLE = 1e-7
"""Border weights below this share of w0 are left at 0."""
GAIN_REACH_PX = 3
"""How far around a small object its gain reaches."""


def weight_map(
    labels: npt.NDArray[np.integer],
    class_map: npt.NDArray[np.uint8],
    config: WeightConfig,
) -> npt.NDArray[np.float32]:
    """Return w = g (class weight + w0 exp(-(d1 + d2)^2 / (2 sigma^2))) for each pixel.

    Ronneberger, Fischer and Brox (2015), "U-Net", equation 2, times the gain g of small
    objects (`object_gain`).

    Parameters
    ----------
    labels
        YX, instance ids, 0 background.
    class_map
        YX uint8, the class of each pixel.
    config
        Class weights, w0, sigma and the gain of small objects.

    Returns
    -------
    ndarray
        YX float32.

    Raises
    ------
    ConfigError
        If `class_map` holds a class that has no weight.
    """
    return combine(
        class_map, border_map(labels, config), object_gain(labels, config), config
    )


def combine(
    class_map: npt.NDArray[np.uint8],
    border: npt.NDArray[np.float32],
    gain: npt.NDArray[np.float32] | None,
    config: WeightConfig,
) -> npt.NDArray[np.float32]:
    """Return the weight map of its parts: gain * (class weight + border).

    Parameters
    ----------
    class_map
        YX uint8, the class of each pixel.
    border, gain
        YX float32, from `border_map` and `object_gain`; None for a gain of 1.
    config
        Class weights.

    Raises
    ------
    ConfigError
        If `class_map` holds a class that has no weight.
    """
    table = np.asarray(config.class_weights, np.float32)
    top = int(class_map.max(initial=0))
    if top >= len(table):
        raise ConfigError(
            f"The class map holds class {top}, but there are {len(table)} "
            "class weights."
        )
    weights: npt.NDArray[np.float32] = table.take(class_map)
    weights += border
    if gain is not None:
        weights *= gain
    return weights


def object_gain(
    labels: npt.NDArray[np.integer], config: WeightConfig
) -> npt.NDArray[np.float32]:
    """Return by how much each pixel counts for more because a small object is near.

    A loss that sums over pixels hears a nucleus of 600 pixels fifty times as loudly as
    a micronucleus of 12, while a score that counts objects hears both alike. So an
    object of fewer than `small_object_px` pixels, and what lies within 3 pixels of it,
    counts sqrt(small_object_px / area) times, `small_object_gain` times at most. The
    background around it is weighted as the object is, so its outline is not pushed
    outwards.

    Parameters
    ----------
    labels
        YX, instance ids, 0 background.
    config
        Size below which objects are small, and the largest gain.

    Returns
    -------
    ndarray
        YX float32, at least 1.
    """
    gain = np.ones(labels.shape, np.float32)
    ids, areas = np.unique(labels, return_counts=True)
    small = (ids > 0) & (areas < config.small_object_px)
    if small.any():
        gains = np.sqrt(config.small_object_px / areas[small])
        table = np.minimum(gains, config.small_object_gain).astype(np.float32)
        inside = np.isin(labels, ids[small])
        gain[inside] = table[np.searchsorted(ids[small], labels[inside])]
        gain = ndimage.maximum_filter(gain, 2 * GAIN_REACH_PX + 1, mode="nearest")
    return gain


def border_map(
    labels: npt.NDArray[np.integer], config: WeightConfig
) -> npt.NDArray[np.float32]:
    """Return w0 exp(-(d1 + d2)^2 / (2 sigma^2)), the border part of the weight.

    d1 and d2 are the Euclidean distances in pixels from a pixel's centre to the
    nearest pixel of the nearest and of the second nearest object; inside an object d1
    is 0. The map is 0 where there are fewer than two objects, and where it would be
    below 1e-7 w0. Memory is a few planes, whatever the number of objects.

    Parameters
    ----------
    labels
        YX, instance ids, 0 background.
    config
        w0 and sigma.

    Returns
    -------
    ndarray
        YX float32.
    """
    border = np.zeros(labels.shape, np.float32)
    if config.border_weight == 0:
        return border
    sigma = config.border_sigma_px
    reach = sigma * math.sqrt(-2.0 * math.log(NEGLIGIBLE))
    nearest = np.full(labels.shape, np.inf, np.float32)
    second = np.full(labels.shape, np.inf, np.float32)
    for window, mine in _objects_near_others(labels, math.ceil(reach)):
        distance = ndimage.distance_transform_edt(~mine).astype(np.float32)
        first = nearest[window]
        np.minimum(second[window], np.maximum(first, distance), out=second[window])
        np.minimum(first, distance, out=first)
    total = nearest + second
    close = total <= reach
    border[close] = config.border_weight * np.exp(
        -(total[close].astype(np.float64) ** 2) / (2.0 * sigma**2)
    )
    return border


def _objects_near_others(
    labels: npt.NDArray[np.integer], reach: int
) -> list[tuple[tuple[slice, slice], npt.NDArray[np.bool_]]]:
    """Return (window, object) of each object with another one within `reach`.

    The window is the object's box widened by `reach`: beyond it the object can be
    neither d1 nor d2 of a pixel whose border weight counts. An object alone in its
    window is left out, since a second one is needed for a weight.
    """
    ids, compact = np.unique(labels, return_inverse=True)
    compact = compact.reshape(labels.shape)
    if ids[0] != 0:
        compact = compact + 1
    found = []
    height, width = labels.shape
    for number, box in enumerate(ndimage.find_objects(compact.astype(np.int32)), 1):
        if box is None:
            continue
        rows = slice(max(box[0].start - reach, 0), min(box[0].stop + reach, height))
        columns = slice(max(box[1].start - reach, 0), min(box[1].stop + reach, width))
        view = compact[rows, columns]
        mine = view == number
        if np.any((view > 0) & ~mine):
            found.append(((rows, columns), mine))
    return found
