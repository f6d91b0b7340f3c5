"""Read Nikon ND2 by `nd2`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from cellunet.io.metadata import pixel_size, step
from cellunet.io.scenes import MissingPlaneError, Scene
from cellunet.io.source import array_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy.typing as npt

    from cellunet.io.metadata import PixelSize

_ND2_LOOPS = {"TimeLoop": "T", "NETimeLoop": "T", "XYPosLoop": "P", "ZStackLoop": "Z"}


class Nd2:
    """Nikon ND2 by ``nd2``: a scene a position.

    Frames hold all channels of a plane, as they are in the file or deflated.
    """

    def __init__(self, path: Path) -> None:
        import nd2

        self._file = nd2.ND2File(path)
        try:
            self._loops = [
                (_ND2_LOOPS.get(loop.type, "?"), loop.count)
                for loop in self._file.experiment
            ]
            self.scenes = self._scenes()
        except BaseException:
            self._file.close()
            raise

    def _scenes(self) -> list[Scene]:
        file, loops = self._file, self._loops
        sizes = file.sizes
        samples = {"S": sizes["S"]} if "S" in sizes else {}
        leading = [(a, n) for a, n in loops if a != "P"] + [("C", sizes.get("C", 1))]
        axes = "".join(a for a, _ in leading) + "YX" + "".join(samples)
        plane = sizes["Y"], sizes["X"]
        shape = (*(n for _, n in leading), *plane, *samples.values())
        letters = [a for a, _ in loops]
        one = Scene(
            axes=axes,
            shape=shape,
            dtype=file.dtype,
            channel_names=tuple(c.channel.name for c in file.metadata.channels or ()),
            pixel_size_um=self._pixel_size(),
            steps=self._steps(),
            acquired=(file.text_info or {}).get("date", ""),
            whole_bytes=array_bytes(shape[len(leading) - 1 :], file.dtype)
            if file.attributes.compressionType or file.is_legacy
            else 0,
            refusal="its frames are in loops of a kind that cellunet does not know"
            if "?" in letters or len(set(letters)) < len(letters)
            else "",
        )
        points = [
            loop.parameters.points
            for loop in file.experiment
            if loop.type == "XYPosLoop"
        ]
        names = [point.name or "" for point in points[0]] if points else [""]
        count = dict(loops).get("P", 1)
        names += [""] * (count - len(names))
        return [replace(one, name=name) for name in names[:count]]

    def _pixel_size(self) -> PixelSize | None:
        for channel in (self._file.metadata.channels or ())[:1]:
            x, y, _ = channel.volume.axesCalibration
            if all(channel.volume.axesCalibrated[:2]):
                return pixel_size(y, x)
        return None

    def _steps(self) -> tuple[float | None, float | None]:
        z = t = None
        for loop in self._file.experiment:
            if loop.type == "ZStackLoop":
                z = step(loop.parameters.stepUm)
            if loop.type == "TimeLoop":
                t = step(loop.parameters.periodMs / 1000)
        return z, t

    def read(
        self, scene: int, place: Mapping[str, int], rows: slice, columns: slice
    ) -> npt.NDArray[Any]:
        """Return a part of a plane; see `cellunet.io.scenes.Container`."""
        index = 0
        for axis, length in self._loops:
            index = index * length + (scene if axis == "P" else place[axis])
        if index >= (self._file.attributes.sequenceCount or 0):
            raise MissingPlaneError(f"frame {index}")
        frame = self._file.read_frame(index)
        if frame.flags.writeable and not frame.any():
            # Of the file a frame is a view, or decoded if it is JPEG 2000; of one that
            # is not there, zeros.
            raise MissingPlaneError(f"frame {index}")
        # Axes of length 1 are gone.
        described = self.scenes[scene]
        samples = described.shape[-1:] if described.axes.endswith("S") else ()
        frame = frame.reshape(-1, *described.plane_shape, *samples)
        return np.asarray(frame[place["C"], rows, columns])

    def close(self) -> None:
        """Close the file."""
        self._file.close()
