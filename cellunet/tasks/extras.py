"""What `predict` writes beside the labels: classes, probabilities, outlines."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING, Any

import numpy as np
import tifffile

from cellunet.errors import InputError
from cellunet.imaging.files import Region, write_atomically, write_png
from cellunet.imaging.inputs import output_paths
from cellunet.imaging.overlay import draw

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from cellunet.imaging.files import Source
    from cellunet.imaging.inputs import Inputs

SUFFIXES = {
    "classes": "_classes.tif",
    "probabilities": "_probabilities.tif",
    "outlines": "_outlines.png",
}
"""What may be saved, and the end of its file name beside ``STEM.tif``."""


def refuse_clashes(
    found: Inputs, outputs: Mapping[Path, Path], out: Path, save: Sequence[str]
) -> None:
    """Refuse inputs of which one's extra would be a file of another.

    Parameters
    ----------
    found
        The images.
    outputs
        Image to label image.
    out
        Folder of the results.
    save
        Names in `SUFFIXES`.

    Raises
    ------
    InputError
        If two images would write one file, or a file would replace an image.
    """
    taken = {_key(path): image for image, path in outputs.items()}
    for kind in save:
        extras = output_paths(found.files, found.base, out, SUFFIXES[kind])
        for image, path in extras.items():
            other = taken.setdefault(_key(path), image)
            if other != image:
                raise InputError(
                    f"{other} and {image} would both write {path}.",
                    hint=f"Rename one, or leave out --save {kind}.",
                )


def _key(path: Path) -> str:
    return unicodedata.normalize("NFC", str(path)).casefold()


class Extras:
    """The files of one image that were asked for beside its labels.

    Parameters
    ----------
    output
        Path of the label image.
    save
        Names in `SUFFIXES`.
    source
        The image, where something is to be written.
    """

    def __init__(
        self, output: Path, save: Sequence[str], source: Source | None = None
    ) -> None:
        self.paths = {
            kind: output.with_name(output.stem + SUFFIXES[kind]) for kind in save
        }
        self._source = source
        self._planes: list[list[npt.NDArray[np.float32]]] = []
        self._labels: list[npt.NDArray[np.uint32]] = []

    @property
    def keep_bands(self) -> bool:
        """Whether bands of probabilities are wanted."""
        return bool({"classes", "probabilities"} & set(self.paths))

    def there(self) -> list[Path]:
        """Return those of the files that exist."""
        return [path for path in self.paths.values() if path.exists()]

    def begin(self, plane: int) -> None:
        """Take note that the bands of `plane` follow."""
        if plane != len(self._planes):
            raise ValueError(f"plane {plane} begun after {len(self._planes)} others")
        self._planes.append([])

    def on_band(self, y0: int, probabilities: npt.NDArray[np.float32]) -> None:
        """Keep rows of probabilities."""
        del y0
        self._planes[-1].append(probabilities)

    def labels(
        self, plane: int, bands: Iterator[npt.NDArray[np.uint32]]
    ) -> Iterator[npt.NDArray[np.uint32]]:
        """Pass the bands on and keep them if outlines are to be drawn."""
        del plane
        if "outlines" not in self.paths:
            yield from bands
            return
        kept = list(bands)
        self._labels.append(np.concatenate(kept))
        yield from kept

    def commit(self) -> None:
        """Write the files; each appears only when it is complete."""
        stacks = [np.concatenate(bands, axis=1) for bands in self._planes if bands]
        if "probabilities" in self.paths:
            self._write_tiff(
                "probabilities", np.stack(stacks).astype(np.float32), "CYX"
            )
        if "classes" in self.paths:
            classes = np.stack([s.argmax(axis=0) for s in stacks]).astype(np.uint8)
            self._write_tiff("classes", classes, "YX")
        if "outlines" in self.paths:
            self._write_outlines()

    def _write_tiff(self, kind: str, planes: npt.NDArray[Any], axes: str) -> None:
        source = self._the_source()
        shape = (*source.plane_shape, *planes.shape[1:])
        with write_atomically(self.paths[kind]) as path:
            tifffile.imwrite(
                path,
                planes.reshape(shape),
                compression="zlib",
                photometric="minisblack",
                metadata={"axes": source.plane_axes + axes},
            )

    def _write_outlines(self) -> None:
        source = self._the_source()
        height, width = source.shape
        for plane, labels in enumerate(self._labels):
            image = source.read(Region(plane, 0, height, 0, width))[0]
            path = self.paths["outlines"]
            if plane:
                # The first plane's picture stands for the stack in `paths`.
                path = path.with_name(f"{path.stem}_{plane}{path.suffix}")
            write_png(path, draw(image, labels))

    def _the_source(self) -> Source:
        if self._source is None:
            raise ValueError("nothing can be written without the image")
        return self._source
