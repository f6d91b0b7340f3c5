"""Layers of napari and planes of pixels: which are meant, and where labels lie."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from cellunet.errors import CellunetError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    Index = tuple[int, ...]
    Table = dict[str, npt.NDArray[Any]]


PLANE = "cellunet_plane"
"""Under this, the metadata of a labels layer hold the index of its only plane."""


@dataclass(frozen=True, kw_only=True)
class LayerChoice:
    """What of an image layer is to be segmented."""

    every_plane: bool = False
    """All planes, or the one that is shown."""
    channel_axis: int | None = None
    """Axis along which there are channels, of an image that holds several."""
    channels: tuple[int, ...] = (0,)
    """Which of them the model looks at."""


class LayerPlanes:
    """The planes of an image layer.

    Parameters
    ----------
    layer
        An image layer of at least two axes; the last two are rows and columns.
    choice
        What of it is meant.
    shown
        Where the viewer's sliders are, in world coordinates.

    Raises
    ------
    CellunetError
        If it is an RGB picture, or has no such channel.
    """

    def __init__(self, layer: Any, choice: LayerChoice, shown: Sequence[float]) -> None:  # noqa: ANN401
        if layer.rgb:
            raise CellunetError(
                f"{layer.name} is an RGB picture.",
                hint="Right-click the layer, choose Split RGB, and take one channel.",
            )
        self.layer, self.choice = layer, choice
        self.data = layer.data[0] if layer.multiscale else layer.data
        axis = choice.channel_axis
        if axis is not None:
            count = self.data.shape[axis]
            wrong = [c for c in choice.channels if not 0 <= c < count]
            if wrong:
                raise CellunetError(
                    f"Axis {axis} of {layer.name} has channels 0 to {count - 1}, not "
                    f"{', '.join(map(str, wrong))}.",
                    hint="Choose another channel or channel axis.",
                )
        self.kept = [i for i in range(self.data.ndim) if i != axis]
        self.shape: Index = tuple(self.data.shape[i] for i in self.kept)
        """Of the labels: the image's without its channels."""
        place = np.rint(layer.world_to_data(shown)).astype(int)
        inside = np.clip(place, 0, np.array(self.data.shape) - 1)
        self.shown: Index = tuple(int(inside[i]) for i in self.kept[:-2])
        """Index of the plane that is shown."""
        self.first: Index = (0,) * len(self.shown) if choice.every_plane else self.shown
        """Index of the first plane that is meant."""
        meant = self.shape[:-2] if choice.every_plane else (1,) * len(self.shown)
        self.labels_shape: Index = (*meant, *self.shape[-2:])
        """Of labels of what is meant: of one plane, 1 along the other axes."""

    def indices(self) -> list[Index]:
        """Return the index of each plane that is meant."""
        if not self.choice.every_plane:
            return [self.shown]
        return list(itertools.product(*map(range, self.shape[:-2])))

    def read(self, index: Index) -> npt.NDArray[Any]:
        """Return a plane, YX, or CYX of several channels."""
        axis = self.choice.channel_axis
        if axis is None:
            return np.asarray(self.data[index])
        found = [
            np.asarray(self.data[(*index[:axis], channel, *index[axis:])])
            for channel in self.choice.channels
        ]
        return np.stack(found) if len(found) > 1 else found[0]

    def pixel_size_um(self) -> tuple[float, float] | None:
        """Return height and width of a pixel, if the layer has a unit of length."""
        try:
            height, width = (
                float((1 * unit).to("micrometer").magnitude) * float(scale)
                for unit, scale in zip(
                    self.layer.units[-2:], self.layer.scale[-2:], strict=True
                )
            )
        except TypeError:
            # Pixels are no length.
            return None
        return height, width

    def place(self) -> dict[str, Any]:
        """Return where labels of what is meant lie: scale and all else of the image's.

        Of the plane shown, ``metadata`` tells which it is.
        """
        layer, kept = self.layer, self.kept
        # napari's own selection of axes (`Affine.set_slice`) loses the shear.
        shear = np.asarray(layer.shear)
        if shear.ndim == 1:
            upper = np.eye(layer.ndim)
            upper[np.triu_indices(layer.ndim, 1)] = shear
            shear = upper
        rotate, shear = (matrix[np.ix_(kept, kept)] for matrix in (layer.rotate, shear))
        corner = layer.scale[kept] * (*self.first, 0, 0)
        return {
            "scale": layer.scale[kept],
            "translate": layer.translate[kept] + rotate @ shear @ corner,
            "rotate": rotate,
            "shear": shear,
            "metadata": {} if self.choice.every_plane else {PLANE: self.first},
            "affine": layer.affine.set_slice(kept),
            "units": tuple(layer.units[i] for i in kept),
            "axis_labels": tuple(layer.axis_labels[i] for i in kept),
        }


@dataclass(frozen=True)
class Result:
    """Labels of an image layer and the table of its objects."""

    labels: npt.NDArray[np.uint32]
    features: pd.DataFrame
    """One row an object; ``index`` is its label."""


class JoinedPlanes:
    """Labels and tables of planes, joined: every object has a number of its own."""

    def __init__(self, planes: LayerPlanes) -> None:
        self._first = planes.first
        self._labels = np.zeros(planes.labels_shape, np.uint32)
        self._tables: list[pd.DataFrame] = []
        self._count = 0

    def add(self, index: Index, labels: npt.NDArray[np.uint32], table: Table) -> None:
        """Take a plane."""
        place = tuple(i - first for i, first in zip(index, self._first, strict=True))
        self._labels[place] = np.where(labels, labels + np.uint32(self._count), 0)
        rows = pd.DataFrame(table)
        rows.insert(0, "index", rows.pop("id") + self._count)
        for axis, number in enumerate(index):
            rows.insert(1 + axis, f"axis_{axis}", number)
        self._tables.append(rows)
        self._count += len(rows)

    def result(self) -> Result:
        """Return all of them."""
        return Result(self._labels, pd.concat(self._tables, ignore_index=True))


def training_pairs(
    planes: LayerPlanes,
    labels: Any,  # noqa: ANN401
) -> dict[str, tuple[npt.NDArray[Any], npt.NDArray[Any]]]:
    """Return the planes of an image on which objects are labeled, with their labels.

    Parameters
    ----------
    planes
        The image.
    labels
        A labels layer of the image's shape, or of one plane: that which it was made
        of, else that which is shown.

    Raises
    ------
    CellunetError
        If the labels are of another shape or empty.
    """
    name = planes.layer.name
    data = labels.data[0] if labels.multiscale else labels.data
    every = list(itertools.product(*map(range, planes.shape[:-2])))
    only = labels.metadata.get(PLANE, planes.shown)
    one_plane = (1,) * len(planes.shown) + planes.shape[-2:]
    if tuple(data.shape) == planes.shape:
        places: dict[Index, Any] = {index: index for index in every}
    elif tuple(data.shape) == planes.shape[-2:]:
        places = {planes.shown: ...}
    elif tuple(data.shape) == one_plane and only in every:
        places = {only: (0,) * len(only)}
    else:
        raise CellunetError(
            f"{labels.name} is of shape {tuple(data.shape)}, {name} of {planes.shape}.",
            hint="Choose the labels that belong to this image.",
        )
    # One after the other: a layer may be larger than memory, its drawn planes not.
    read = ((index, np.asarray(data[place])) for index, place in places.items())
    chosen = {index: plane for index, plane in read if plane.any()}
    if not chosen:
        raise CellunetError(
            f"{labels.name} is empty.",
            hint="Segment the image and correct the labels, or paint all nuclei.",
        )
    return {
        " ".join((name, *map(str, index))): (planes.read(index), plane)
        for index, plane in chosen.items()
    }
