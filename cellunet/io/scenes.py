"""Read files of several scenes: the interface of a container, and one scene of it.

A microscope's own file holds scenes: positions, series or tiles, each a stack of planes
with metadata of its own. A `Container` is such a file, open; `SceneSource` makes one of
its scenes a `cellunet.io.source.Source`, as `cellunet.io.tiff` does of a TIFF.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from cellunet.errors import ImageReadError
from cellunet.io.axes import (
    Stack,
    at_level,
    choose_image,
    level_note,
    note_on_others,
)
from cellunet.io.decoding import file_state
from cellunet.io.source import Damage, Origin, check_piece, memory_note, reading
from cellunet.io.stacks import StackSource

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from cellunet.io.metadata import PixelSize
    from cellunet.io.source import PlaneChoice, Region
    from cellunet.io.stacks import Span


class MissingPlaneError(ValueError):
    """A plane that the metadata name is not in the file."""


@dataclass(frozen=True, kw_only=True)
class Scene:
    """One image of a container."""

    name: str = ""
    """As the file calls it."""
    axes: str
    """Letters of T, Z and C in any order, then Y and X, then S of colors."""
    shape: tuple[int, ...]
    """Lengths of `axes`."""
    dtype: np.dtype[Any]
    """Type of its values."""
    channel_names: tuple[str, ...] = ()
    """Names of the channels as far as the file gives them."""
    pixel_size_um: PixelSize | None = None
    """Height and width of a pixel."""
    steps: tuple[float | None, float | None] = (None, None)
    """Micrometers along Z and seconds along T from one plane to the next."""
    acquired: str = ""
    """When it was taken, in the words of the file."""
    full_shape: tuple[int, int] | None = None
    """Height and width at full resolution, if this is the level asked for."""
    notes: tuple[str, ...] = ()
    """What to tell of it."""
    whole_bytes: int = 0
    """Bytes that are decoded at once for any part of a plane; 0: only that part."""
    refusal: str = ""
    """Why it cannot be read, to follow the name of the file; empty if it can be."""

    @property
    def plane_shape(self) -> tuple[int, int]:
        """Height and width."""
        rows = self.axes.index("YX")
        return self.shape[rows], self.shape[rows + 1]


class Container(Protocol):
    """An open file of one or more scenes."""

    @property
    def scenes(self) -> Sequence[Scene]:
        """All that it holds."""
        ...

    def read(
        self,
        scene: int,
        place: Mapping[str, int],
        rows: slice,
        columns: slice,
    ) -> npt.NDArray[Any]:
        """Return a rectangle of a plane, shape (height, width) or with samples behind.

        Parameters
        ----------
        scene
            Number of the scene.
        place
            Index along each leading axis of the scene.
        rows, columns
            What to read, within the plane.

        Raises
        ------
        MissingPlaneError
            If the file does not hold that plane.
        """
        ...

    def close(self) -> None:
        """Close the file."""
        ...


class SceneSource(StackSource):
    """One scene of a container as a `cellunet.io.source.Source`.

    Parameters
    ----------
    path
        The file.
    choice
        What the user wants of it.
    opener
        Opens it; its name is kept when this is pickled.
    size_from
        Where the size of a pixel stands, for people to read.
    """

    def __init__(
        self,
        path: Path,
        choice: PlaneChoice,
        opener: Callable[[Path], Container],
        size_from: str,
    ) -> None:
        super().__init__(path, choice)
        self._opener = opener
        self._container: Container | None = None
        self._whole: tuple[int, npt.NDArray[Any]] | None = None
        scenes = scenes_of(path, opener)
        images = [(scene.name, scene.plane_shape) for scene in scenes]
        if not any(min(s.shape) > 0 or s.refusal for s in scenes):
            raise ImageReadError(f"{path} holds no image.", hint="Export it again.")
        self._number = choose_image(path, choice.image, images)
        self._scene = scene = scenes[self._number]
        refusal = scene.refusal or ("" if min(scene.shape) else "it has no pixels")
        if refusal:
            raise ImageReadError(
                f"{path}: {refusal}.",
                hint="Export it as OME-TIFF, or choose another image of the file "
                "with --image.",
            )
        if choice.level and scene.full_shape is None:
            raise ImageReadError(
                f"{path}: of files of this kind no smaller level is read, only "
                f"full size, {' x '.join(map(str, scene.plane_shape))}.",
                hint="Leave out --level, and rescale with --scale.",
            )
        check_piece(path, scene.whole_bytes, choice.limit_bytes)
        try:
            self._take(self._axes(), scene.dtype)
        finally:
            self.close()
        self.pixel_size_um = scene.pixel_size_um
        self.z_step_um, self.time_step_s = scene.steps
        full_px = at_level(
            scene.full_shape or scene.plane_shape, scene.plane_shape, (1.0, 1.0)
        )
        told = (level_note(choice.level, full_px),) if choice.level else ()
        others = choice.image is None and len(images) > 1
        self.origin = Origin(
            pixel_size_from=size_from if scene.pixel_size_um else "",
            image=str(self._number) if len(images) > 1 else "",
            position=scene.name if len(images) > 1 else "",
            acquired=scene.acquired,
            notes=(
                *((note_on_others(images, self._number),) if others else ()),
                *scene.notes,
                *self._layout.notes,
                *told,
            ),
            full_px=full_px,
            pages=self._layout.pages,
            projected=self._layout.projected[0],
        )
        self.memory_note = memory_note(path, scene.whole_bytes, self.held_bytes(1))

    def _axes(self) -> Stack:
        scene = self._scene
        color = "S" in scene.axes and scene.shape[-1] >= 3
        return Stack(
            self.path,
            scene.axes,
            scene.shape,
            color=color,
            alpha=color and scene.shape[-1] == 4,
            channel_names=scene.channel_names,
        )

    def held_bytes(self, rows: int) -> int:
        """Return what reading holds; see `cellunet.io.source.Source`."""
        height, width = self.shape
        row = len(self._layout.parts) * width * self.dtype.itemsize
        if not self._scene.whole_bytes:
            return min(rows, height) * row
        return 2 * self._scene.whole_bytes + 2 * height * row

    def read(self, region: Region) -> npt.NDArray[Any]:
        """Return a region; see `cellunet.io.source.Source`."""
        region.check(self.shape, self._layout.planes)
        rows, columns = (region.y0, region.y1), (region.x0, region.x1)
        with reading(self.path):
            if not self._scene.whole_bytes:
                return self._pixels(region.plane, rows, columns)
            if self._whole is None or self._whole[0] != region.plane:
                # Two planes are not held at once.
                self._whole = None
                every = (0, self.shape[0]), (0, self.shape[1])
                self._whole = region.plane, self._pixels(region.plane, *every)
            return self._whole[1][:, slice(*rows), slice(*columns)].copy()

    def _stored(self, plane: int, rows: Span, columns: Span) -> npt.NDArray[Any]:
        scene = self._scene
        leading = scene.shape[: scene.axes.index("YX")]
        places = np.unravel_index(plane, leading) if leading else ()
        place = dict(zip(scene.axes, map(int, places), strict=False))
        part = slice(*rows), slice(*columns)
        try:
            return self._opened().read(self._number, place, *part)
        except MissingPlaneError as error:
            where = " ".join(f"{axis} {index}" for axis, index in place.items())
            reason = f"{where} is not in the file" if where else "it is not in the file"
            self._log.note(Damage(plane, *rows, *columns, "rows", reason), error)
            samples = scene.shape[-1:] if "S" in scene.axes else ()
            shape = rows[1] - rows[0], columns[1] - columns[0], *samples
            return np.zeros(shape, scene.dtype)

    def _opened(self) -> Container:
        if self._container is None:
            container = self._opener(self.path)
            scenes = container.scenes
            if len(scenes) <= self._number or scenes[self._number] != self._scene:
                container.close()
                # Where the state of the file does not tell that it is another one.
                _scenes.cache_clear()
                raise self._has_changed()
            self._container = container
        return self._container

    def close(self) -> None:
        """Close the file and forget what was decoded; `read` opens it again."""
        if self._container is not None:
            self._container.close()
        self._container = self._whole = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_container": None, "_whole": None}


def scenes_of(path: Path, opener: Callable[[Path], Container]) -> tuple[Scene, ...]:
    """Return the scenes of a file, which is opened for them while it is a new one."""
    return _scenes(path, opener, file_state(path))


# A batch lists the images of all its files before it opens the first.
@functools.lru_cache(maxsize=1024)
def _scenes(
    path: Path, opener: Callable[[Path], Container], state: str
) -> tuple[Scene, ...]:
    container = opener(path)
    try:
        return tuple(container.scenes)
    finally:
        container.close()


def unread(name: str, refusal: str) -> Scene:
    """Return a scene that cannot be read, and why."""
    return Scene(
        name=name, axes="YX", shape=(0, 0), dtype=np.dtype(np.uint8), refusal=refusal
    )
