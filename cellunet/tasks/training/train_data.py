"""Annotated folders to samples: found, split, read, checked, all problems in one go."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from cellunet.errors import (
    AnnotationError,
    BugError,
    CellunetError,
    ImageReadError,
    InputError,
)
from cellunet.imaging.annotations import read_annotation
from cellunet.imaging.drawn.scribbles import scribbled_px
from cellunet.imaging.files import Region, open_image
from cellunet.imaging.pairing import (
    find_pairs,
    image_print,
    listed,
    refuse_shared,
    split,
)
from cellunet.tasks.training.copies import refuse_copies
from cellunet.tasks.training.field_parts import (
    ReadImage,
    cut,
    measured_in,
    partly_annotated,
)
from cellunet.tasks.training.one_sided import refuse_one_sided
from cellunet.tasks.training.uncorrected import uncorrected

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt

    from cellunet.config import SplitConfig
    from cellunet.core.dataset import Sample
    from cellunet.imaging.annotations import Annotation
    from cellunet.imaging.files import Source
    from cellunet.imaging.pairing import Pair
    from cellunet.progress import Track

logger = logging.getLogger(__name__)
MAX_NAMED = 10


@dataclass(frozen=True, kw_only=True)
class TrainingData:
    """Samples of both sides, their fingerprints, and what was left out."""

    training: tuple[Sample, ...]
    validation: tuple[Sample, ...]
    training_prints: dict[str, str]
    validation_prints: dict[str, str]
    notes: tuple[str, ...]

    @property
    def samples(self) -> tuple[Sample, ...]:
        """Those of both sides."""
        return (*self.training, *self.validation)


@dataclass(frozen=True, kw_only=True)
class ChannelChoice:
    """Which channels of the images, as in `open_image`, and which labels are meant."""

    channel: str | None = None
    gray: bool = False
    ignore_value: int | None = None
    """Value of the pixels of label images that are not annotated."""
    known: tuple[str, ...] = ()
    """Names of the channels that the model to start from looks at, if it is several."""

    def open(self, path: Path) -> Source:
        """Open the channels of an image."""
        return open_image(path, channel=self.channel, gray=self.gray, known=self.known)


def load(
    folders: Sequence[Path],
    validation: Path | None,
    config: SplitConfig,
    *,
    seed: int,
    channel: ChannelChoice,
    track: Track,
) -> TrainingData:
    """Find, split and read annotated images.

    Parameters
    ----------
    folders
        Annotated folders in any layout; with more than one, the names of images get
        their folder's name in front, or as much of its path as tells them apart.
    validation
        A folder of validation images; without it each folder is split by its own
        lists, or by `config`: with folds, nothing is kept out here.
    config
        The split.
    seed
        Seed of the split.
    channel
        Which channel of the images is meant.
    track
        Progress over images.

    Raises
    ------
    InputError
        If partners are missing, a folder is named twice, an image is on both sides or,
        with folds, comes twice, or images cannot be used: all are named in one message.
    """
    training: list[Pair] = []
    held: list[Pair] = []
    notes: list[str] = []
    for folder, prefix in zip(folders, _prefixes(folders), strict=True):
        pairs = find_pairs(folder)
        notes += pairs.notes
        if config.folds and pairs.validation is not None:
            notes.append(f"No folds: {folder} lists its validation images.")
        kept: tuple[Pair, ...]
        out: tuple[Pair, ...] = ()
        if validation is None and config.folds and pairs.validation is None:
            kept = listed(pairs)
        elif validation is None:
            kept, out = split(
                pairs,
                validation_fraction=config.validation_fraction,
                seed=seed,
                stratum=partial(_size, channel=channel),
            )
        else:
            kept = pairs.pairs
        training += [replace(p, name=prefix + p.name) for p in kept]
        held += [replace(p, name=prefix + p.name) for p in out]
    if validation is not None:
        pairs = find_pairs(validation)
        notes += pairs.notes
        held += pairs.pairs
    read = _read_all([*training, *held], channel, track)
    notes += partly_annotated(read) + uncorrected([*training, *held])
    notes += _ignored_nowhere(read, channel.ignore_value)
    sides = read[: len(training)], read[len(training) :]
    prints = [{s.name: one.print_ for one in side for s in one.parts} for side in sides]
    refuse_shared(*prints)
    if config.folds and not held:
        refuse_copies(prints[0])
    samples = [tuple(s for one in side for s in one.parts) for side in sides]
    refuse_one_sided(samples[0])
    return TrainingData(
        training=samples[0],
        validation=samples[1],
        training_prints=prints[0],
        validation_prints=prints[1],
        notes=tuple(notes),
    )


def _ignored_nowhere(images: Sequence[ReadImage], value: int | None) -> list[str]:
    """Say that a value which is not to count is in no image."""
    if value is None or any(image.annotated_share < 1 for image in images):
        return []
    return [
        f"No label image holds the value {value} of --ignore-value: every pixel "
        "counts. Is it another value?"
    ]


def _size(pair: Pair, channel: ChannelChoice) -> tuple[int, ...]:
    """Return the height and width of an image; nothing if it cannot be read.

    Images of one microscope and magnification mostly share their size, so a split that
    takes its share of each size takes its share of each kind of image. What is wrong
    with a file is said when it is read whole.
    """
    try:
        with channel.open(pair.image) as source:
            return source.shape
    except CellunetError:
        return ()


def _prefixes(folders: Sequence[Path]) -> list[str]:
    """Return what the names of each folder's images begin with; '' for one folder."""
    if len(folders) == 1:
        return [""]
    full = [folder.resolve() for folder in folders]
    twice = next((f for f in full if full.count(f) > 1), None)
    if twice is not None:
        raise InputError(f"{twice} is named twice.", hint="Name each folder once.")
    for count in range(1, max(len(f.parts) for f in full) + 1):
        names = ["/".join(f.parts[-count:]) for f in full]
        if len(set(names)) == len(names):
            break
    return [f"{name}/" for name in names]


def _read_all(
    pairs: Sequence[Pair], channel: ChannelChoice, track: Track
) -> list[ReadImage]:
    read, problems, kinds = [], [], []
    for pair in track(pairs, "Reading images", len(pairs)):
        try:
            read.append(_read(pair, channel))
        except CellunetError as error:
            problems.append(error.message)
            kinds.append(error)
    bugs = [error for error in kinds if isinstance(error, BugError)]
    if bugs or len(problems) == 1:
        raise (bugs or kinds)[0]
    if problems:
        more = len(problems) - MAX_NAMED
        listed = " ".join(problems[:MAX_NAMED])
        raise InputError(
            f"{len(problems)} images cannot be used: {listed}"
            + (f" And {more} more." if more > 0 else ""),
            hint=kinds[0].hint,
        )
    return read


def _read(pair: Pair, choice: ChannelChoice) -> ReadImage:
    """Read one image, and keep what there is to train on."""
    sample = read_sample(pair, choice)
    measured = measured_in(
        pair.image, choice.channel, gray=choice.gray, known=choice.known
    )
    parts = cut(sample, measured)
    return ReadImage(
        parts=tuple(parts),
        reduced=parts[0] is not sample,
        print_=image_print(sample.image),
        annotated_share=float(sample.annotated.mean()),
        scribbled_px=scribbled_px(sample.scribbles),
    )


def read_sample(pair: Pair, channel: ChannelChoice) -> Sample:
    """Read one image with its annotation.

    Raises
    ------
    ImageReadError
        If the image cannot be read.
    AnnotationError
        If the annotation cannot be read, or its shape is not the image's.
    InputError
        If the image holds several planes.
    """
    # Here, because this brings torch, which those who only read labels do not need.
    from cellunet.core.dataset import Sample

    with channel.open(pair.image) as source:
        planes = int(np.prod(source.plane_shape, dtype=int))
        if planes != 1:
            raise InputError(
                f"{pair.image} holds {planes} planes ({source.plane_axes}); one is "
                "needed for training.",
                hint="Save the annotated planes as single images; if they are "
                "channels, save the file as OME-TIFF or ImageJ hyperstack.",
            )
        height, width = source.shape
        image = source.read(Region(plane=0, y0=0, y1=height, x0=0, x1=width))
        cut_from, names = source.cut_from, source.channel_names
    found = read_annotated(pair, (height, width), channel.ignore_value)
    labels = found.labels
    if labels.shape != (height, width):
        raise AnnotationError(
            f"{pair.annotation} has {labels.shape[0]} x {labels.shape[1]} pixels, but "
            f"{pair.image.name} has {height} x {width}.",
            hint="Image and annotation need the same shape; are they partners?",
        )
    if image.dtype.kind == "f" and not np.isfinite(image).any(axis=(1, 2)).all():
        raise ImageReadError(
            f"{pair.image} has no finite pixel (all are NaN or infinite).",
            hint="Export it again, or leave it out.",
        )
    return Sample(
        name=pair.name,
        image=image,
        labels=labels,
        annotated=(
            np.ones(labels.shape, bool) if found.annotated is None else found.annotated
        ),
        scribbles=found.scribbles,
        measured=None if cut_from is None else cut_from.by_channel,
        channels=names,
    )


def read_annotated(
    pair: Pair, shape: tuple[int, int] | None = None, ignore_value: int | None = None
) -> Annotation:
    """Return the annotation of a pair; `shape` is its image's, if that is known."""
    found = read_annotation(
        pair.annotation,
        shape=shape,
        member=pair.member,
        ignore_value=ignore_value,
        annotated=pair.annotated,
        scribbles=pair.scribbles,
    )
    for note in found.notes:
        logger.warning("%s: %s", pair.annotation, note)
    return found


def has_objects(samples: Sequence[Sample]) -> bool:
    """Return whether any object is outlined, in what counts or beside it."""
    return any(bool((s.labels > 0).any()) for s in samples)


def object_diameters_px(samples: Sequence[Sample]) -> tuple[float, float, float]:
    """Return the equivalent diameter of all objects: 5th percentile, median, 95th.

    The diameter of the circle of an object's area, 2 sqrt(area / pi). At least one
    object is needed (`has_objects`).
    """
    areas: list[npt.NDArray[Any]] = []
    for sample in samples:
        _, counts = np.unique(sample.labels[sample.labels > 0], return_counts=True)
        areas.append(counts)
    every = np.concatenate(areas)
    low, middle, high = np.percentile(2 * np.sqrt(every / np.pi), (5, 50, 95))
    return float(low), float(middle), float(high)
