"""What `predict` writes beside the labels, while they pass by in bands of rows."""

from __future__ import annotations

import contextlib
import unicodedata
from typing import TYPE_CHECKING, Self

from cellunet.errors import InputError
from cellunet.imaging.files import Region
from cellunet.imaging.inputs import output_paths
from cellunet.imaging.objects.stream import Objects
from cellunet.tasks.prediction.extra_kinds import KINDS, Context
from cellunet.tasks.prediction.read_notes import open_as

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path
    from types import TracebackType

    import numpy as np
    import numpy.typing as npt

    from cellunet.config import PredictConfig
    from cellunet.imaging.damage import Damage
    from cellunet.imaging.files import Source
    from cellunet.imaging.inputs import Inputs
    from cellunet.tasks.prediction.extra_kinds import Extra
    from cellunet.tasks.prediction.segment import OnBand, Segmented


def suffix(kind: str, config: PredictConfig) -> str:
    """Return the end of the name of a kind of file beside ``STEM.tif``."""
    return KINDS[kind].suffix.format(format=config.table_format)


def beside(config: PredictConfig) -> tuple[str, ...]:
    """Return the kinds of files beside each label image: all but the one report."""
    return tuple(kind for kind in config.save if kind in KINDS)


def read_through(source: Source, config: PredictConfig) -> int:
    """Return through how many sources an image is read at once.

    That is itself, and each of its channels if there are some and they are measured.
    """
    measured = any(KINDS[kind].make.wants_objects for kind in beside(config))
    channels = len(source.file_channels)
    return 1 + channels if measured and not config.gray and channels > 1 else 1


def extra_paths(output: Path, config: PredictConfig) -> dict[str, Path]:
    """Return the path of each file that is to lie beside a label image."""
    return {
        kind: output.with_name(output.stem + suffix(kind, config))
        for kind in beside(config)
    }


def refuse_clashes(
    found: Inputs, outputs: Mapping[Path, Path], out: Path, config: PredictConfig
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
    config
        What is to be saved.

    Raises
    ------
    InputError
        If two images would write one file, or a file would replace an image.
    """
    taken = {_key(path): image for image, path in outputs.items()}
    for kind in beside(config):
        extras = output_paths(found.files, found.base, out, suffix(kind, config))
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
    """The files of one image beside its labels, while they are written.

    As a context manager it leaves nothing half done behind.

    Parameters
    ----------
    output
        Path of the label image.
    source
        The image.
    image
        Its path below the common folder of the run, with ``/`` between folders.
    config
        What is to be saved.
    classes
        Classes of the model.
    """

    def __init__(
        self,
        output: Path,
        source: Source,
        image: str,
        config: PredictConfig,
        classes: tuple[str, ...],
    ) -> None:
        self._source = source
        self._stack = contextlib.ExitStack()
        kinds = extra_paths(output, config)
        self._measures = any(KINDS[k].make.wants_objects for k in kinds)
        self._extras: list[Extra] = []
        with self._stack:
            self._channels = self._open_channels(config)
            self._names = tuple(c.channel_names[0] for c in self._channels)
            for kind, path in kinds.items():
                context = Context(
                    path=path,
                    image=image,
                    source=source,
                    classes=classes,
                    channels=self._names,
                    table_format=config.table_format,
                )
                self._extras.append(KINDS[kind].make(context))
                self._stack.callback(self._extras[-1].abort)
            # All went well: what was opened stays open until `__exit__`.
            self._stack = self._stack.pop_all()

    def _open_channels(self, config: PredictConfig) -> list[Source]:
        """Return a source for each channel that is measured."""
        names = self._source.file_channels
        if not self._measures:
            return []
        if config.gray or len(names) == 1:
            return [self._source]
        return [
            self._stack.enter_context(
                open_as(
                    self._source.path,
                    config,
                    channel=str(number),
                    image=self._source.origin.image or None,
                )
            )
            for number in range(len(names))
        ]

    def on_band(self, plane: int) -> OnBand | None:
        """Return what takes the bands of probabilities of a plane, if any does."""
        takers = [e for e in self._extras if e.wants_probabilities]
        if not takers:
            return None

        def take(y0: int, probabilities: npt.NDArray[np.float32]) -> None:
            for extra in takers:
                extra.on_band(plane, y0, probabilities)

        return take

    def labels(
        self, plane: int, segmented: Segmented
    ) -> Iterator[npt.NDArray[np.uint32]]:
        """Pass the labels of a plane on, and write what follows from them.

        Planes come in the order of their bands of probabilities.
        """
        for extra in self._extras:
            extra.on_plane(plane, segmented.statistics)
        objects = None
        if self._measures:
            objects = Objects(
                plane,
                self._source.shape,
                segmented.areas,
                channels=self._names,
                pixel_size_um=self._source.pixel_size_um,
            )
        y0 = 0
        for labels in segmented.bands():
            yield labels
            region = Region(plane, y0, y0 + len(labels), 0, self._source.shape[1])
            self._on_rows(region, labels)
            if objects is not None:
                evidence = segmented.evidence(region.y0, region.y1)
                images = [channel.read(region)[0] for channel in self._channels]
                batch = objects.add(labels, images, evidence)
                for extra in self._extras:
                    extra.on_objects(batch)
            y0 += len(labels)

    def _on_rows(self, region: Region, labels: npt.NDArray[np.uint32]) -> None:
        takers = [e for e in self._extras if e.wants_rows]
        if takers:
            image = self._source.read(region)[0]
            for extra in takers:
                extra.on_rows(image, labels)

    @property
    def damaged(self) -> tuple[Damage, ...]:
        """What could not be read of any channel so far."""
        sources = (self._source, *self._channels)
        return tuple(sorted({d for s in sources for d in s.damaged}))

    def commit(self) -> None:
        """Make the files appear, each only when it is complete."""
        for extra in self._extras:
            extra.commit()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()
