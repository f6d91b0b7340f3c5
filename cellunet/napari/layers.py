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
        """Return where labels lie: scale and all that napari knows of the image's."""
        layer, kept = self.layer, self.kept
        # napari's own selection of axes (`Affine.set_slice`) loses the shear.
        shear = np.asarray(layer.shear)
        if shear.ndim == 1:
            upper = np.eye(layer.ndim)
            upper[np.triu_indices(layer.ndim, 1)] = shear
            shear = upper
        return {
            "scale": layer.scale[kept],
            "translate": layer.translate[kept],
            "rotate": layer.rotate[np.ix_(kept, kept)],
            "shear": shear[np.ix_(kept, kept)],
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

    def __init__(self, shape: Index) -> None:
        # Pages that no plane writes to take no memory.
        self._labels = np.zeros(shape, np.uint32)
        self._tables: list[pd.DataFrame] = []
        self._count = 0

    def add(self, index: Index, labels: npt.NDArray[np.uint32], table: Table) -> None:
        """Take a plane."""
        self._labels[index] = np.where(labels, labels + np.uint32(self._count), 0)
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
        A labels layer of the image's shape, or of one plane: that which is shown.

    Raises
    ------
    CellunetError
        If the labels are of another shape or empty.
    """
    name = planes.layer.name
    data = labels.data[0] if labels.multiscale else labels.data
    if tuple(data.shape) == planes.shape[-2:]:
        places: dict[tuple[int, ...], Any] = {planes.shown: ...}
    elif tuple(data.shape) == planes.shape:
        places = {i: i for i in itertools.product(*map(range, planes.shape[:-2]))}
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
