"""Instance labels to class map and back: both halves of one idea.

A row of `TARGETS` holds what a target needs: how labels become classes, and how class
probabilities become seeds and the pixels that objects may grow into. What follows
(growth, holes, areas, numbers) is the same for all targets and lives in
`cellunet.imaging.decode.decoding`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from scipy import ndimage

from cellunet.imaging.decode.cores import cores
from cellunet.imaging.drawn.scribbles import INTERIOR as INSIDE

if TYPE_CHECKING:
    import numpy.typing as npt

    from cellunet.config import DecodeConfig, EncodingConfig

BACKGROUND, INTERIOR, BOUNDARY = 0, 1, 2
"""Classes of the three-class target."""
REST, EDGE = 0, 1
"""Classes of the boundary target."""


class Encode(Protocol):
    """Instance labels (YX integer) to class map (YX uint8)."""

    def __call__(
        self, labels: npt.NDArray[np.integer], config: EncodingConfig
    ) -> npt.NDArray[np.uint8]:
        """Return the class of each pixel."""


class Seed(Protocol):
    """Corrected class probabilities of a block to its seeds and its foreground."""

    def __call__(
        self,
        probabilities: npt.NDArray[np.float32],
        encoding: EncodingConfig,
        decode: DecodeConfig,
    ) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
        """Return (seeds, pixels that objects may grow into), both YX bool.

        Each depends on its own pixel and its direct neighbours alone.
        """


@dataclass(frozen=True, kw_only=True)
class Target:
    """One way to write instance labels as classes, and to read them back."""

    encode: Encode
    inside: int
    """Class of the inside of objects, away from their edge."""
    seed: Seed
    seeds_include_background: bool
    """Whether the background makes seeds too, which the merge must tell apart."""


def encode(
    labels: npt.NDArray[np.integer], config: EncodingConfig
) -> npt.NDArray[np.uint8]:
    """Return the class map of instance labels.

    Pixels next to (4-neighbours) another label are boundary always. Every
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
    """Return a class map with the classes that scribbles tell.

    Parameters
    ----------
    class_map
        YX, from `encode`; not changed.
    scribbles
        YX, of `cellunet.imaging.drawn.scribbles`; None: there are none.
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
    told = class_map.copy()
    # Where background is scribbled, labels make background or the outer boundary of an
    # object already.
    told[scribbles == INSIDE] = TARGETS[config.target].inside
    return told


def correct(
    probabilities: npt.NDArray[np.float32], class_odds: tuple[float, ...]
) -> npt.NDArray[np.float32]:
    """Undo the tilt that a weighted loss gives to probabilities.

    A loss that weights class c by a_c is least at q_c proportional to a_c p_c, so p_c
    is proportional to q_c / a_c.

    Parameters
    ----------
    probabilities
        KYX float32, q.
    class_odds
        a, one value per class.

    Returns
    -------
    ndarray
        KYX float32, p, which sums to 1 over K.
    """
    scale = (1.0 / np.asarray(class_odds, np.float32)).astype(np.float32)
    corrected = probabilities * scale[:, np.newaxis, np.newaxis]
    corrected /= corrected.sum(axis=0)
    return corrected


def _encode_three_class(
    labels: npt.NDArray[np.integer], config: EncodingConfig
) -> npt.NDArray[np.uint8]:
    objects = labels > 0
    thickness = config.boundary_px if config.boundary_side == "inner" else 0
    class_map = np.zeros(labels.shape, np.uint8)
    class_map[objects] = BOUNDARY
    class_map[cores(labels, thickness)] = INTERIOR
    if config.boundary_side == "outer":
        around = objects
        for step in range(config.boundary_px):
            around = ndimage.binary_dilation(around, _neighbours(step))
        class_map[around & ~objects] = BOUNDARY
    return class_map


def _encode_boundary(
    labels: npt.NDArray[np.integer], config: EncodingConfig
) -> npt.NDArray[np.uint8]:
    core = cores(labels, config.boundary_px)
    return np.where((labels > 0) & ~core, EDGE, REST).astype(np.uint8)


def _seed_three_class(
    probabilities: npt.NDArray[np.float32],
    encoding: EncodingConfig,
    decode: DecodeConfig,
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    interior = probabilities[INTERIOR]
    if encoding.boundary_side == "inner":
        foreground = probabilities[BACKGROUND] < 0.5
        return foreground & (interior > decode.seed_threshold), foreground
    # Outside of the interior an outer boundary belongs to the background, except for
    # the two pixels between touching objects: one growth step, decided by `decoding`.
    return interior > max(decode.seed_threshold, 0.5), interior > 0.5


def _seed_boundary(
    probabilities: npt.NDArray[np.float32],
    encoding: EncodingConfig,
    decode: DecodeConfig,
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    del encoding
    rest = probabilities[REST] > max(decode.seed_threshold, 0.5)
    return rest, ~rest


def _neighbours(step: int) -> npt.NDArray[np.bool_]:
    """Return the structuring element of a step: 4 and 8 neighbours in turn.

    In turn they make an octagon, nearer to a disc than either alone.
    """
    octagon: npt.NDArray[np.bool_] = ndimage.generate_binary_structure(2, 1 + step % 2)
    return octagon


TARGETS = {
    "three-class": Target(
        encode=_encode_three_class,
        inside=INTERIOR,
        seed=_seed_three_class,
        seeds_include_background=False,
    ),
    "boundary": Target(
        encode=_encode_boundary,
        inside=REST,
        seed=_seed_boundary,
        seeds_include_background=True,
    ),
}
