"""What keeps a prediction from a perfect score: mean AP by cause.

Mistakes are mended one kind after another, and each kind is charged with the mean AP
that its mending adds. What is left at the end is nothing, so the shares add up to the
whole distance from the score to 1. The order is that of `CAUSES`: mistakes of number
before mistakes of place, since an outline can only be judged where object meets object.
"""

from collections.abc import Callable

import numpy as np

from cellunet.metrics.matching import SMALL_PX, score_image

LARGE_PX = 100
"""Objects of at least this many pixels are large."""
MATCH = 0.5
"""Least IoU of a true and a predicted object that are one."""
CAUSES = (
    "merged",
    "split",
    "missed, under 25 px",
    "missed, 25 to 99 px",
    "missed, 100 px or more",
    "false",
    "outline",
)


def causes(true: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """Return how much of one image's mean AP (IoU .50 to .95) each cause costs.

    Parameters
    ----------
    true, predicted
        YX, instance ids, 0 background.
    """
    mended = predicted.astype(np.int64)
    score = _mean_ap(true, mended)
    costs = {}
    for cause, mend in zip(CAUSES, _MENDS, strict=True):
        mended = mend(true, mended)
        better = _mean_ap(true, mended)
        costs[cause] = better - score
        score = better
    return costs


def _mean_ap(true: np.ndarray, predicted: np.ndarray) -> float:
    labels = np.unique(predicted, return_inverse=True)[1].reshape(predicted.shape)
    if predicted.min() > 0:
        labels = labels + 1
    return score_image(true, labels.astype(np.int32), name="image")["all"].mean_ap


def _common(true: np.ndarray, predicted: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return ids of both, the pixels that they share, and the areas of both."""
    true_ids, t = np.unique(true, return_inverse=True)
    ids, p = np.unique(predicted, return_inverse=True)
    shared = np.zeros((len(true_ids), len(ids)), np.int64)
    np.add.at(shared, (t.ravel(), p.ravel()), 1)
    areas, found = shared.sum(axis=1), shared.sum(axis=0)
    shared[true_ids == 0] = 0
    shared[:, ids == 0] = 0
    return true_ids, ids, shared, areas, found


def _ious(true: np.ndarray, predicted: np.ndarray) -> tuple[np.ndarray, ...]:
    true_ids, ids, shared, areas, found = _common(true, predicted)
    union = areas[:, None] + found[None] - shared
    return true_ids, ids, shared / np.maximum(union, 1), areas


def _put(
    true: np.ndarray, predicted: np.ndarray, wanted: np.ndarray, gone: np.ndarray
) -> np.ndarray:
    """Return the prediction without `gone` and with the true objects `wanted`."""
    out = np.where(np.isin(predicted, gone[gone > 0]), 0, predicted)
    chosen = np.isin(true, wanted[wanted > 0])
    # Numbers above all others, so that nothing is joined.
    out[chosen] = true[chosen].astype(np.int64) + out.max() + 1
    return out


def _merged(true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Put the true objects where one predicted object holds most of several."""
    true_ids, ids, shared, areas, _ = _common(true, predicted)
    held = 2 * shared > areas[:, None]
    guilty = held.sum(axis=0) > 1
    return _put(true, predicted, true_ids[held[:, guilty].any(axis=1)], ids[guilty])


def _split(true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Put the true object where it holds most of several predicted ones."""
    true_ids, ids, shared, _, found = _common(true, predicted)
    held = 2 * shared > found[None]
    torn = held.sum(axis=1) > 1
    return _put(true, predicted, true_ids[torn], ids[held[torn].any(axis=0)])


def _missed(low: int, high: float) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    def mend(true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
        """Put the true objects of some sizes that no predicted object matches."""
        true_ids, _, iou, areas = _ious(true, predicted)
        lost = ~(iou >= MATCH).any(axis=1) & (areas >= low) & (areas < high)
        return _put(true, predicted, true_ids[lost], np.array([], np.int64))

    return mend


def _false(true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Take the predicted objects away that match no true one."""
    _, ids, iou, _ = _ious(true, predicted)
    return np.where(np.isin(predicted, ids[(iou >= MATCH).any(axis=0)]), predicted, 0)


def _outline(true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Give every predicted object the outline of the true one that it matches."""
    del predicted
    return true.astype(np.int64)


_MENDS = (
    _merged,
    _split,
    _missed(0, SMALL_PX),
    _missed(SMALL_PX, LARGE_PX),
    _missed(LARGE_PX, np.inf),
    _false,
    _outline,
)
