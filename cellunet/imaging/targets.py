"""Encode labels as class maps and weight maps, and describe how to decode them.

A row of `TARGETS` holds what a target needs: how labels become classes, and how class
probabilities become seeds and the pixels that objects may grow into. What follows
(growth, holes, areas, numbers) is the same for all targets and lives in
`cellunet.imaging.decode`.

A scribble gives its own pixels a class. It is no object, says nothing of the pixels
around it, and takes no part in scores.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from cellunet.errors import ConfigError
from cellunet.imaging.growth import grow

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from cellunet.config import DecodeConfig, EncodingConfig, WeightConfig

    Bools = npt.NDArray[np.bool_]
    Pair = tuple[tuple[slice, slice], tuple[slice, slice]]
    """Views of all pixels with a neighbor on one side, and of those neighbors."""

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
class Target:
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
    pixel and direct neighbors alone."""
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
    objects = labels > 0
    thickness = config.boundary_px if config.boundary_side == "inner" else 0
    class_map = np.zeros(labels.shape, np.uint8)
    class_map[objects] = BOUNDARY
    class_map[cores(labels, thickness)] = INTERIOR
    if config.boundary_side == "outer":
        around = objects
        for step in range(config.boundary_px):
            around = ndimage.binary_dilation(around, _neighbors(step))
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


def _neighbors(step: int) -> Bools:
    """Return the structuring element of a step: 4 and 8 neighbors in turn.

    In turn they make an octagon, nearer to a disc than either alone.
    """
    octagon: Bools = ndimage.generate_binary_structure(2, 1 + step % 2)
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

    Raises
    ------
    ConfigError
        If `class_map` holds a class that has no weight.
    """
    return add_class_weights(border_map(labels, config), class_map, config)


def add_class_weights(
    border: npt.NDArray[np.float32],
    class_map: npt.NDArray[np.uint8],
    config: WeightConfig,
) -> npt.NDArray[np.float32]:
    """Return the weight map of its two parts; `border` is that of `border_map`.

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
) -> list[tuple[tuple[slice, slice], Bools]]:
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


GROWTH_STEPS = 10
"""Levels of growth when a core is tried: as many as the decoder takes by default."""

CROSS = ndimage.generate_binary_structure(2, 1)
"""Handed to `ndimage.label`, which makes it anew otherwise: half of a small call."""

ALL, FIRST, LAST = slice(None), slice(None, -1), slice(1, None)

SIDES: tuple[Pair, ...] = (((ALL, FIRST), (ALL, LAST)), ((FIRST, ALL), (LAST, ALL)))

CORNERS: tuple[Pair, ...] = (
    ((FIRST, FIRST), (LAST, LAST)),
    ((FIRST, LAST), (LAST, FIRST)),
)


def cores(labels: npt.NDArray[np.integer], thickness: int) -> Bools:
    """Return the pixels of objects that lie deeper than a boundary.

    Every 4-connected part of an object keeps one 4-connected, non-empty core from which
    it can be grown back. Where a boundary of `thickness` would cut the core in pieces,
    leave none, or let a neighbor grow into the part (so that less than 9 tenths of it
    came back), the part gets a thinner one. Between two parts the thinner of their
    boundaries counts on both sides, so that both grow back to where they meet.

    Parameters
    ----------
    labels
        YX, instance ids, 0 background.
    thickness
        Boundary thickness in pixels, counted in octagonal steps (4 and 8 neighbors
        in turn); 0 leaves out only the pixels next to another label.

    Returns
    -------
    ndarray
        YX bool. Pixels with a 4-neighbor of another label are no core, unless the
        part would have none at all: then its deepest pixel is.
    """
    from skimage.measure import label

    if not labels.any():
        return np.zeros(labels.shape, bool)
    parts = label(labels, background=0, connectivity=1).astype(np.int32)
    edges = _Edges(parts)
    thick = np.full(int(parts.max()) + 1, thickness, np.uint8)
    core = _connected(edges, edges.depths(thickness)[-1], thick)
    for _ in range(thickness):
        lost = _lost(parts, core)
        if not (lost & (thick > 0)).any():
            break
        touching = _touching(parts, lost)
        thick[lost & (thick > 0)] -= 1
        thick[touching & (thick > 1)] -= 1
        core = _connected(edges, edges.eroded(thick), thick)
    return core


class _Edges:
    """Where parts end: what every boundary starts from, whatever its thickness.

    Bytes, not numbers of parts, are what is compared and joined from here on.
    """

    def __init__(self, parts: npt.NDArray[np.int32]) -> None:
        self.parts = parts
        self.inside = parts > 0
        self.differ = [(pair, parts[pair[0]] != parts[pair[1]]) for pair in SIDES]
        self.contact = self._touching(
            [d & self.inside[a] & self.inside[b] for (a, b), d in self.differ]
        )
        self._same: dict[int, list[tuple[Pair, Bools]]] = {}

    def _touching(self, marked: list[Bools]) -> Bools:
        both = np.zeros(self.parts.shape, bool)
        for (here, there), mark in zip(SIDES, marked, strict=True):
            both[here] |= mark
            both[there] |= mark
        return both

    def same(self, step: int) -> list[tuple[Pair, Bools]]:
        """Return pairs of 4 or 8 neighbors, and which of them are one part."""
        if step % 2 not in self._same:
            pairs = [(pair, ~differ) for pair, differ in self.differ]
            if step % 2:
                pairs += [(p, self.parts[p[0]] == self.parts[p[1]]) for p in CORNERS]
            self._same[step % 2] = pairs
        return self._same[step % 2]

    def depths(self, thickness: int) -> list[Bools]:
        """Return the parts without their boundaries, 0 to `thickness` steps deep."""
        left = [self.inside & ~self.contact]
        edge = self._touching([differ for _, differ in self.differ])
        for step in range(1, thickness + 1):
            if step > 1:
                before = edge.copy()
                for (here, there), same in self.same(step - 1):
                    edge[here] |= same & before[there]
                    edge[there] |= same & before[here]
            left.append(self.inside & ~edge)
        return left

    def eroded(self, thick: npt.NDArray[np.uint8]) -> Bools:
        """Return the parts without their boundaries, `thick` steps deep each."""
        mine = thick.take(self.parts)
        # How many steps a boundary that starts at a pixel still reaches inwards: the
        # fewer of both sides, except from the background.
        reach = np.zeros(self.parts.shape, np.uint8)
        deep = np.where(self.inside, mine, np.uint8(255))
        for (here, there), differ in self.differ:
            fewer = differ * np.minimum(deep[here], deep[there])
            reach[here] = np.maximum(reach[here], fewer)
            reach[there] = np.maximum(reach[there], fewer)
        for step in range(1, int(thick.max(initial=0))):
            before = reach * (reach > step)
            for (here, there), same in self.same(step):
                reach[here] = np.maximum(reach[here], same * before[there])
                reach[there] = np.maximum(reach[there], same * before[here])
        core: Bools = self.inside & (reach == 0) & ~self.contact
        return core


def _connected(edges: _Edges, core: Bools, thick: npt.NDArray[np.uint8]) -> Bools:
    """Mend the core of every part that has none or more than one piece."""
    parts = edges.parts
    pieces, count = ndimage.label(core, CROSS)
    # One pixel of each run in a row is enough to know a piece's part.
    begins = core.copy()
    begins[:, 1:] &= ~core[:, :-1]
    where = np.flatnonzero(begins)
    owner = np.zeros(count + 1, np.int64)
    owner[pieces.take(where)] = parts.take(where)
    pieces_per_part = np.bincount(owner[1:], minlength=len(thick))
    wrong = np.flatnonzero(pieces_per_part != 1)
    boxes = ndimage.find_objects(parts) if (wrong > 0).any() else ()
    for number in wrong[wrong > 0]:
        # One pixel wider, so that only the frame of the image ends the view early.
        rows, columns = (
            slice(max(b.start - 1, 0), b.stop + 1) for b in boxes[number - 1]
        )
        part = parts[rows, columns] == number
        view = core[rows, columns]
        contact = edges.contact[rows, columns] & part
        whole = _whole_core(part, contact, int(thick[number]))
        if not whole.any():
            whole = _forced_core(part, ndimage.binary_dilation(view & ~part))
        view[part] = whole[part]
    return core


def _lost(parts: npt.NDArray[np.int32], core: Bools) -> Bools:
    """Return which parts grow back from their cores with an IoU below .9."""
    grown = grow(parts * core, parts > 0, GROWTH_STEPS)
    areas = np.bincount(parts.ravel())
    # All but a few pixels come back as they were.
    other = np.flatnonzero(grown != parts)
    count = len(areas)
    gone = np.bincount(parts.take(other), minlength=count)
    gained = np.bincount(grown.take(other), minlength=count)
    lost: Bools = (areas - gone) * 10 < (areas + gained) * 9
    lost[0] = False
    return lost


def _touching(parts: npt.NDArray[np.int32], chosen: Bools) -> Bools:
    """Return the parts that touch a chosen one, by an edge or a corner."""
    there = np.pad(chosen.take(parts), 1)
    # Three rows, and then three columns.
    there = there[:-2] | there[1:-1] | there[2:]
    there = there[:, :-2] | there[:, 1:-1] | there[:, 2:]
    touching = np.zeros(len(chosen), bool)
    touching[parts[there]] = True
    touching[0] = False
    return touching & ~chosen


def _whole_core(part: Bools, contact: Bools, thickness: int) -> Bools:
    """Return one connected core of a part, as deep as it can be; or none."""
    edges = _Edges(part.astype(np.int32))
    depths = [depth & ~contact for depth in edges.depths(thickness)]
    whole = next((d for d in depths[::-1] if ndimage.label(d, CROSS)[1] == 1), None)
    if whole is None:
        return _largest_piece(depths[0])
    deepest = depths[-1]
    if deepest.any():
        bridged = deepest | _bridges(whole, deepest)
        if ndimage.label(bridged, CROSS)[1] == 1:
            return bridged
    return whole


def _largest_piece(core: Bools) -> Bools:
    pieces, count = ndimage.label(core, CROSS)
    if count < 2:
        return core
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    return np.asarray(pieces == np.argmax(sizes))


def _forced_core(part: Bools, beside_core: Bools) -> Bools:
    """Return a core of a part of which every pixel touches another label.

    Its upper left pixels, since growth from below and from the right gives way where
    two fronts meet: so the part's neighbors keep their own pixels. Pixels that would
    join another part's core are left out where that leaves any.
    """
    framed = np.pad(part, 1)
    above_own, left_of_own = framed[2:, 1:-1], framed[1:-1, 2:]
    for core in (part & above_own & left_of_own, part & left_of_own, part & above_own):
        if (core & ~beside_core).any():
            return _largest_piece(core & ~beside_core)
    first = np.zeros(part.shape, bool)
    first[np.unravel_index(np.argmax(part), part.shape)] = True
    return first


def _bridges(whole: Bools, pieces: Bools) -> Bools:
    """Return the thin paths through `whole` that join the pieces of a core."""
    from skimage.morphology import skeletonize

    paths, count = ndimage.label(skeletonize(whole) & ~pieces, np.ones((3, 3)))
    numbers, _ = ndimage.label(pieces, CROSS)
    bridges = np.zeros(whole.shape, bool)
    for path in range(1, count + 1):
        # One step wider than the skeleton, which is connected by corners only.
        wide = ndimage.binary_dilation(paths == path, np.ones((3, 3))) & whole
        touched = np.unique(numbers[ndimage.binary_dilation(wide) & pieces])
        if len(touched) > 1:
            bridges |= wide
    return bridges
