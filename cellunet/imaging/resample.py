"""Magnify or reduce a plane, any part of it alike.

Linear interpolation along each axis; when reducing, a triangle as wide as a target
pixel, so that no source pixel is skipped. Every target pixel is a weighted sum of
source pixels that depends on its place alone, so parts computed separately fit together
exactly.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np
from scipy import sparse

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

T = TypeVar("T", bound=np.generic)


def target_length(length: int, scale: float) -> int:
    """Return how many pixels `length` pixels become, at least 1."""
    return max(round(length * scale), 1)


def axis_weights(
    length: int, target: int, start: int, stop: int
) -> tuple[int, int, sparse.csr_array]:
    """Return the weights by which target pixels follow from source pixels.

    Parameters
    ----------
    length, target
        Pixels of the whole axis before and after.
    start, stop
        The target pixels wanted.

    Returns
    -------
    first, last, weights
        The source pixels needed, first <= i < last, and a matrix of shape
        (stop - start, last - first) whose rows sum to 1.
    """
    step = length / target
    reach = max(step, 1.0)
    center = (np.arange(start, stop) + 0.5) * step - 0.5
    low = np.ceil(center - reach).astype(int)
    offsets = np.arange(int(2 * np.ceil(reach)) + 2)
    source = low[:, None] + offsets
    weight = np.maximum(1.0 - np.abs(source - center[:, None]) / reach, 0.0)
    weight *= (source >= 0) & (source < length)
    weight /= weight.sum(axis=1, keepdims=True)
    source = np.clip(source, 0, length - 1)
    first, last = int(source.min()), int(source.max()) + 1
    rows = np.repeat(np.arange(stop - start), len(offsets))
    matrix = sparse.csr_array(
        (weight.ravel().astype(np.float32), (rows, (source - first).ravel())),
        shape=(stop - start, last - first),
    )
    return first, last, matrix


def resampled(
    read: Callable[[int, int, int, int], npt.NDArray[np.float32]],
    shape: tuple[int, int],
    target: tuple[int, int],
) -> Callable[[int, int, int, int], npt.NDArray[np.float32]]:
    """Return a reader of the resampled plane.

    Parameters
    ----------
    read
        ``read(y0, y1, x0, x1)`` gives a part of the source, CYX float32.
    shape, target
        Height and width before and after.

    Returns
    -------
    callable
        As `read`, in target pixels.
    """

    def read_target(y0: int, y1: int, x0: int, x1: int) -> npt.NDArray[np.float32]:
        top, bottom, rows = axis_weights(shape[0], target[0], y0, y1)
        left, right, columns = axis_weights(shape[1], target[1], x0, x1)
        part = read(top, bottom, left, right)
        return np.stack([(columns @ (rows @ plane).T).T for plane in part])

    return read_target


def magnified(planes: npt.NDArray[np.float32], scale: float) -> npt.NDArray[np.float32]:
    """Return whole planes (CYX float32) resampled by `scale`."""
    height, width = planes.shape[1:]
    target = target_length(height, scale), target_length(width, scale)

    def read(y0: int, y1: int, x0: int, x1: int) -> npt.NDArray[np.float32]:
        return planes[:, y0:y1, x0:x1]

    return resampled(read, (height, width), target)(0, target[0], 0, target[1])


def looked_up(plane: npt.NDArray[T], scale: float) -> npt.NDArray[T]:
    """Return a plane of labels (YX) at the size that `magnified` gives.

    Every target pixel takes the label at its center; none is mixed.
    """
    rows, columns = (
        np.minimum(((np.arange(n) + 0.5) * length / n).astype(int), length - 1)
        for length, n in ((m, target_length(m, scale)) for m in plane.shape)
    )
    return plane[np.ix_(rows, columns)]
