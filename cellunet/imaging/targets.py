"""Encode labels as class maps and weight maps, and describe how to decode them.

A row of `TARGETS` holds what a target needs: how labels become classes, and how class
probabilities become seeds and the pixels that objects may grow into. What follows
(growth, holes, areas, numbers) is the same for all targets and lives in
`cellunet.imaging.decode`.

A scribble gives its own pixels a class. It is no object, says nothing of the pixels
around it, and takes no part in scores.

Prediction needs the seeds alone, so what encodes imports scipy when it is called.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy.typing as npt

    from cellunet.config import DecodeConfig, EncodingConfig, WeightConfig

    Bools = npt.NDArray[np.bool_]

NO_SCRIBBLE, SCRIBBLED_BACKGROUND, SCRIBBLED_INTERIOR = 0, 1, 2
"""Values of a plane of scribbles."""


def scribbled_px(scribbles: npt.NDArray[np.uint8] | None) -> tuple[int, int]:
    """Return how many pixels scribbles call background, and how many inside.

    Examples
    --------
    >>> scribbled_px(np.array([[0, 1, 1], [2, 0, 0]], np.uint8))
    (2, 1)
    """
    if scribbles is None:
        return 0, 0
    _, background, interior = np.bincount(scribbles.ravel(), minlength=3)
    return int(background), int(interior)


def has_background(labels: npt.NDArray[np.integer], annotated: Bools) -> bool:
    """Return whether labels show the background, so that they can be scored.

    Where outlined objects count alone, nothing that is found next to them would be an
    error, nor an outline too wide. Where all is annotated, what is no object is.

    Parameters
    ----------
    labels
        YX, 0 background.
    annotated
        YX, what of them counts.
    """
    return bool(annotated.all() or (annotated & (labels == 0)).any())


def trainable_mask(annotated: Bools, scribbles: npt.NDArray[np.uint8] | None) -> Bools:
    """Return the pixels that count in training: by their label or by a scribble."""
    return annotated if scribbles is None else annotated | (scribbles != NO_SCRIBBLE)


BACKGROUND, INTERIOR, BOUNDARY = 0, 1, 2
"""Classes of the three-class target."""

REST, EDGE = 0, 1
"""Classes of the boundary target."""


@dataclass(frozen=True, kw_only=True)
class LabelEncoding:
    """One way to write instance labels as classes, and to read them back."""

    encode: Callable[[npt.NDArray[np.integer], EncodingConfig], npt.NDArray[np.uint8]]
    """Instance labels (YX integer) to class map (YX uint8)."""
    inside: int
    """Class of the inside of objects, away from their edge."""
    seed: Callable[
        [npt.NDArray[np.float32], EncodingConfig, DecodeConfig, float],
        tuple[Bools, Bools],
    ]
    """Corrected class probabilities of a block (KYX), and the threshold of foreground,
    to its seeds and the pixels that objects may grow into, both YX; each of its own
    pixel alone."""
    seeds_include_background: bool
    """Whether the background makes seeds too, which the merge must tell apart."""


def encode(
    labels: npt.NDArray[np.integer], config: EncodingConfig
) -> npt.NDArray[np.uint8]:
    """Return the class map of instance labels.

    Pixels next to (4-neighbors) another label are boundary always. Every
    4-connected part of an object keeps a connected, non-empty core: where the boundary
    would cut or fill it, the boundary is made thinner there. The edge of the image is
    not a boundary.

    Parameters
    ----------
    labels
        YX, instance ids, 0 background.
    config
        Target, side and thickness of the boundary.

    Returns
    -------
    ndarray
        YX uint8 class numbers, in the order of ``config.classes``.

    Examples
    --------
    >>> import numpy as np
    >>> from cellunet.config import EncodingConfig
    >>> encode(np.array([[0, 5, 5, 5, 5, 5, 0]]), EncodingConfig(boundary_px=1))
    array([[0, 2, 1, 1, 1, 2, 0]], dtype=uint8)
    """
    return TARGETS[config.target].encode(labels, config)


def add_scribbles(
    class_map: npt.NDArray[np.uint8],
    scribbles: npt.NDArray[np.uint8] | None,
    config: EncodingConfig,
) -> npt.NDArray[np.uint8]:
    """Return a class map with the classes that scribbles give.

    Parameters
    ----------
    class_map
        YX, from `encode`; not changed.
    scribbles
        YX, of `cellunet.annotations.pixels`; None: there are none.
    config
        As for `encode`.

    Examples
    --------
    >>> import numpy as np
    >>> from cellunet.config import EncodingConfig
    >>> classes = np.array([[0, 2, 1, 0]], np.uint8)
    >>> add_scribbles(classes, np.array([[1, 0, 0, 2]], np.uint8), EncodingConfig())
    array([[0, 2, 1, 1]], dtype=uint8)
    """
    if scribbles is None:
        return class_map
    with_them = class_map.copy()
    # Where background is scribbled, labels make background or the outer boundary of an
    # object already.
    with_them[scribbles == SCRIBBLED_INTERIOR] = TARGETS[config.target].inside
    return with_them


def _encode_three_class(
    labels: npt.NDArray[np.integer], config: EncodingConfig
) -> npt.NDArray[np.uint8]:
    from scipy import ndimage

    from cellunet.imaging.cores import cores

    objects = labels > 0
    thickness = config.boundary_px if config.boundary_side == "inner" else 0
    class_map = np.zeros(labels.shape, np.uint8)
    class_map[objects] = BOUNDARY
    class_map[cores(labels, thickness)] = INTERIOR
    if config.boundary_side == "outer":
        around = objects
        for step in range(config.boundary_px):
            # 4 and 8 neighbors in turn make an octagon, nearer to a disc than either.
            octagon = ndimage.generate_binary_structure(2, 1 + step % 2)
            around = ndimage.binary_dilation(around, octagon)
        class_map[around & ~objects] = BOUNDARY
    return class_map


def _encode_boundary(
    labels: npt.NDArray[np.integer], config: EncodingConfig
) -> npt.NDArray[np.uint8]:
    from cellunet.imaging.cores import cores

    core = cores(labels, config.boundary_px)
    return np.where((labels > 0) & ~core, EDGE, REST).astype(np.uint8)


def _seed_three_class(
    probabilities: npt.NDArray[np.float32],
    encoding: EncodingConfig,
    decode: DecodeConfig,
    foreground: float,
) -> tuple[Bools, Bools]:
    interior = probabilities[INTERIOR]
    if encoding.boundary_side == "inner":
        allowed = probabilities[BACKGROUND] < 1 - foreground
        return allowed & (interior > decode.seed_threshold), allowed
    # Outside of the interior an outer boundary belongs to the background, except for
    # the two pixels between touching objects: one growth step, decided by `decoding`.
    return interior > max(decode.seed_threshold, foreground), interior > foreground


def _seed_boundary(
    probabilities: npt.NDArray[np.float32],
    encoding: EncodingConfig,
    decode: DecodeConfig,
    foreground: float,
) -> tuple[Bools, Bools]:
    # Its background makes seeds too: there is no class to set a threshold for.
    del encoding, foreground
    rest = probabilities[REST] > max(decode.seed_threshold, 0.5)
    return rest, ~rest


TARGETS = {
    "three-class": LabelEncoding(
        encode=_encode_three_class,
        inside=INTERIOR,
        seed=_seed_three_class,
        seeds_include_background=False,
    ),
    "boundary": LabelEncoding(
        encode=_encode_boundary,
        inside=REST,
        seed=_seed_boundary,
        seeds_include_background=True,
    ),
}

NEGLIGIBLE = 1e-7
"""Border weights below this share of w0 are left at 0."""


def weight_map(
    labels: npt.NDArray[np.integer],
    class_map: npt.NDArray[np.uint8],
    config: WeightConfig,
) -> npt.NDArray[np.float32]:
    """Return w = class weight + w0 exp(-(d1 + d2)^2 / (2 sigma^2)) for each pixel.

    Ronneberger, Fischer and Brox (2015), "U-Net", equation 2.

    Parameters
    ----------
    labels
        YX, instance ids, 0 background.
    class_map
        YX uint8, the class of each pixel.
    config
        Class weights, w0 and sigma.

    Returns
    -------
    ndarray
        YX float32.
    """
    return add_class_weights(border_map(labels, config), class_map, config)


def add_class_weights(
    border: npt.NDArray[np.float32],
    class_map: npt.NDArray[np.uint8],
    config: WeightConfig,
) -> npt.NDArray[np.float32]:
    """Return the weight map of its two parts; `border` is that of `border_map`."""
    table = np.asarray(config.class_weights, np.float32)
    weights: npt.NDArray[np.float32] = table.take(class_map)
    weights += border
    return weights


def border_map(
    labels: npt.NDArray[np.integer], config: WeightConfig
) -> npt.NDArray[np.float32]:
    """Return w0 exp(-(d1 + d2)^2 / (2 sigma^2)), the border part of the weight.

    d1 and d2 are the Euclidean distances in pixels from a pixel's center to the
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
    from scipy import ndimage

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
) -> Iterator[tuple[tuple[slice, slice], Bools]]:
    """Yield (window, object) of each object with another one within `reach`.

    The window is the object's box widened by `reach`: beyond it the object can be
    neither d1 nor d2 of a pixel whose border weight counts. An object alone in its
    window is left out, since a second one is needed for a weight.
    """
    from scipy import ndimage

    ids, compact = np.unique(labels, return_inverse=True)
    compact = compact.reshape(labels.shape)
    if ids[0] != 0:
        compact = compact + 1
    height, width = labels.shape
    for number, box in enumerate(ndimage.find_objects(compact.astype(np.int32)), 1):
        if box is None:
            continue
        rows = slice(max(box[0].start - reach, 0), min(box[0].stop + reach, height))
        columns = slice(max(box[1].start - reach, 0), min(box[1].stop + reach, width))
        view = compact[rows, columns]
        mine = view == number
        if np.any((view > 0) & ~mine):
            yield (rows, columns), mine
