"""Find, read and split annotated folders.

A large image of which little is annotated is cut to its annotated boxes before anything
is prepared, so that neither memory nor time of a training grow with the rest of it. Its
intensity statistics and its content hash stay those of the whole image.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections import defaultdict
from dataclasses import dataclass, field, replace
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

from cellunet.annotations.pairs import (
    content_hash,
    find_pairs,
    fingerprint,
    listed,
    refuse_shared,
    split,
)
from cellunet.annotations.read import read_annotation
from cellunet.command_config import AnnotationConfig
from cellunet.errors import (
    AnnotationError,
    BugError,
    CellunetError,
    ImageReadError,
    InputError,
    some,
)
from cellunet.imaging.measure import equivalent_diameters
from cellunet.imaging.normalize import measure_channels
from cellunet.imaging.targets import has_background, scribbled_px, trainable_mask
from cellunet.io.images import open_image
from cellunet.io.label_tiff import read_provenance
from cellunet.io.source import Region, one_plane

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path, PurePath

    import numpy.typing as npt

    from cellunet.annotations.pairs import Pair
    from cellunet.annotations.types import Annotation
    from cellunet.command_config import SplitConfig
    from cellunet.config import NormalizationConfig
    from cellunet.core.dataset import Measured, Sample
    from cellunet.io.crops import CropMetadata
    from cellunet.io.source import Pages, Source, Statistics
    from cellunet.progress import Track

    Box = tuple[slice, slice]

logger = logging.getLogger(__name__)

MAX_NAMED = 10

MARGIN_PX = 256
"""What is kept around annotated pixels: more than a crop of 192 px that holds one of
them at its corner, scaled and turned, and than the network sees (48 px)."""

BLOCK_PX = 64
"""Side of the blocks in which annotated pixels are looked for."""

LARGEST_SHARE = 0.5
"""A field is cut only if its parts together are at most this share of it."""

BAND_PX = 512
"""Rows of a field that are read at once."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ReadImage:
    """One annotated image that was read."""

    parts: tuple[Sample, ...]
    """The image, or the parts of it that are annotated."""
    reduced: bool
    """Whether it is parts that are kept."""
    print_: str
    """Fingerprint of the whole image."""
    annotated_share: float
    """Share of the image's pixels that its labels annotate."""
    scribbled_px: tuple[int, int]
    """Pixels that scribbles call background, and inside of objects."""


def partly_annotated(images: Sequence[ReadImage]) -> list[str]:
    """Say of how many images only a part counts, and of how many parts are kept."""
    notes = []
    shares = [i.annotated_share for i in images if 0 < i.annotated_share < 1]
    if shares:
        mean = float(np.mean(shares))
        share = f"{mean:.0%}" if mean > 0.01 else "less than 1%"
        share = share if mean < 0.99 else "more than 99%"
        notes.append(
            f"Annotated in part: {len(shares)} of {len(images)} images (on average "
            f"{share}); the rest does not count."
        )
    scribbled = [i for i in images if any(i.scribbled_px)]
    if scribbled:
        background, inside = np.sum([i.scribbled_px for i in scribbled], axis=0)
        alone = sum(not i.annotated_share for i in scribbled)
        notes.append(
            f"With scribbles: {len(scribbled)} of {len(images)} images"
            + (f", {alone} with nothing else" if alone else "")
            + f": {background:,} px of background and {inside:,} px inside objects."
        )
    fields = [i.parts for i in images if i.reduced]
    if fields:
        pixels = sum(s.labels.size for parts in fields for s in parts)
        notes.append(
            f"Large images: {len(fields)}; of them annotated parts with {MARGIN_PX} px "
            f"around are kept ({sum(map(len, fields))}, {pixels / 1e6:.1f} Mpx in all)."
        )
    return notes


def whole_name(name: str) -> str:
    """Return the name of the image that a part belongs to.

    Examples
    --------
    >>> whole_name("field (2 of 3)"), whole_name("field (2)")
    ('field', 'field (2)')
    >>> whole_name("field, part 2"), whole_name("field (2 of 3), part 1")
    ('field', 'field')
    """
    return re.sub(r"( \(\d+ of \d+\))?(, part \d+)?$", "", name)


def annotated_boxes(
    counted: npt.NDArray[np.bool_],
) -> list[tuple[Box, npt.NDArray[np.bool_]]]:
    """Return the annotated parts of a field with their surroundings.

    Parameters
    ----------
    counted
        YX, what counts.

    Returns
    -------
    list
        Rows and columns of each part, and what counts in it, of its shape. Every
        pixel that counts does so in one part. Parts whose surroundings meet are one.
    """
    blocks = _any_in_blocks(counted)
    reach = -(-MARGIN_PX // BLOCK_PX)
    near = ndimage.maximum_filter(blocks, 2 * reach + 1, mode="constant")
    numbers, _ = ndimage.label(near, np.ones((3, 3)))
    mine = np.where(blocks, numbers, 0)
    found = []
    for number, box in enumerate(ndimage.find_objects(mine), 1):
        if box is None:
            continue
        wide = [
            slice(
                max(side.start * BLOCK_PX - MARGIN_PX, 0),
                min(side.stop * BLOCK_PX + MARGIN_PX, length),
            )
            for side, length in zip(box, counted.shape, strict=True)
        ]
        view = (wide[0], wide[1])
        # The box of another part may reach into this one's.
        places = [np.arange(side.start, side.stop) // BLOCK_PX for side in view]
        found.append((view, counted[view] & (mine[np.ix_(*places)] == number)))
    return found


def _any_in_blocks(counted: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Return which blocks hold a pixel that counts; the last ones may be cut."""
    found = counted
    for axis in (0, 1):
        starts = np.arange(0, counted.shape[axis], BLOCK_PX)
        found = np.logical_or.reduceat(found, starts, axis=axis)
    return found


def cut(sample: Sample, measured: Measured) -> list[Sample]:
    """Return the parts of a sample to train on; the sample itself if that is as well.

    Parameters
    ----------
    sample
        A whole image.
    measured
        Returns the statistics of the whole image, which parts are normalized by; if
        the sample is a crop itself, its field's stay.
    """
    counted = trainable_mask(sample.annotated, sample.scribbles)
    if counted.all():
        return [sample]
    boxes = annotated_boxes(counted)
    area = sum(own.size for _, own in boxes)
    if not boxes or area > LARGEST_SHARE * counted.size:
        return [sample]
    return [
        replace(
            sample,
            name=sample.name + (f" ({i} of {len(boxes)})" if len(boxes) > 1 else ""),
            # Copies, so that nothing holds the whole field.
            image=sample.image[:, *view].copy(),
            labels=sample.labels[view].copy(),
            annotated=sample.annotated[view] & own,
            scribbles=_scribbles(sample, view, own),
            measured=sample.measured or measured,
        )
        for i, (view, own) in enumerate(boxes, 1)
    ]


def _scribbles(
    sample: Sample, view: Box, own: npt.NDArray[np.bool_]
) -> npt.NDArray[np.uint8] | None:
    return None if sample.scribbles is None else sample.scribbles[view] * own


def measured_in(
    path: Path, choice: ChannelChoice, plane: int | None = None
) -> Measured:
    """Return a function that measures the channels of an image, read band by band."""

    @cache
    def statistics(config: NormalizationConfig) -> tuple[Statistics, ...]:
        with one_plane(choice.open(path), plane) as source:
            height, width = source.shape

            def bands() -> Iterator[npt.NDArray[np.generic]]:
                for y0 in range(0, height, BAND_PX):
                    y1 = min(y0 + BAND_PX, height)
                    yield source.read(Region(0, y0, y1, 0, width))

            return measure_channels(bands, config)

    return statistics


def copies(prints: Mapping[str, str]) -> list[str]:
    """Return the names of each image that comes more than once, with ``=`` between.

    Parameters
    ----------
    prints
        Name of each image, or part of one, to the fingerprint of all of it; parts of
        one image are no copies.

    Examples
    --------
    >>> copies({"a": "1", "b": "2", "c": "1", "d (1 of 2)": "3", "d (2 of 2)": "3"})
    ['a = c']
    """
    names: dict[str, set[str]] = defaultdict(set)
    for name, print_ in prints.items():
        names[print_].add(whole_name(name))
    return [" = ".join(sorted(found)) for found in names.values() if len(found) > 1]


def refuse_copies(prints: Mapping[str, str]) -> None:
    """Refuse copies among images that are trained on and scored in turn.

    Parameters
    ----------
    prints
        As for `copies`.

    Raises
    ------
    InputError
        If there are any.
    """
    same = copies(prints)
    if same:
        raise InputError(
            f"The same image comes more than once: {some(same)}. With folds one copy "
            "would be trained on where another is scored.",
            hint="Keep one of each, or keep images to score apart: --val DIR.",
        )


def require_both_classes(samples: Sequence[Sample]) -> None:
    """Refuse training images of which no pixel counts as object, or as background.

    Raises
    ------
    InputError
        If that is so.
    """
    if not any(_shows_object(sample) for sample in samples):
        raise InputError(
            f"{_lack(samples, 'an', _object(samples))}.", hint=_what_next(samples)
        )
    if not any(_shows_background(sample) for sample in samples):
        what = _lack(samples, "a", "pixel that is annotated as background")
        raise InputError(
            f"{what}: the model would find objects everywhere.",
            hint="Draw some lines or areas named 'background', or a region around "
            "objects that are all outlined.",
        )


def _lack(samples: Sequence[Sample], article: str, what: str) -> str:
    names = sorted({whole_name(sample.name) for sample in samples})
    if len(names) > 1:
        return f"None of the {len(names)} training images has {article} {what}"
    return f"{names[0]}, the only training image, has no {what}"


def _shows_object(sample: Sample) -> bool:
    outlined = bool((sample.annotated & (sample.labels > 0)).any())
    return outlined or scribbled_px(sample.scribbles)[1] > 0


def _shows_background(sample: Sample) -> bool:
    background = has_background(sample.labels, sample.annotated)
    return background or scribbled_px(sample.scribbles)[0] > 0


def _object(samples: Sequence[Sample]) -> str:
    if any(sample.scribbles is not None for sample in samples):
        return "outlined object or click inside one, only background"
    if all(sample.annotated.all() for sample in samples):
        return "annotated object"
    return "object in the part that is annotated"


def _what_next(samples: Sequence[Sample]) -> str:
    if any(sample.scribbles is not None for sample in samples):
        return "Outline some objects, or click into some: points named 'interior'."
    if all(sample.annotated.all() for sample in samples):
        return "Do they belong to these images? Try: cellunet make-labels."
    return "Outline every object in the region or box, also those that it cuts."


MODELS = {"model", "suggested_by"}
"""Keys of the provenance of label images that `predict` and `suggest` wrote."""


def uncorrected(pairs: Sequence[Pair]) -> list[str]:
    """Say of how many images the labels are a model's own, as it wrote them.

    A program in which labels are corrected saves them without their provenance.

    Parameters
    ----------
    pairs
        Images with annotations that can be read.
    """
    names = [pair.name for pair in pairs if _is_a_models(pair.annotation)]
    if not names:
        return []
    return [
        f"Labels as a model wrote them: {len(names)} of {len(pairs)} images "
        f"({some(names)}). If nobody has looked at them, a model learns its own "
        "mistakes, and the score to expect is of no worth: correct them, or leave "
        "them out."
    ]


def _is_a_models(path: Path) -> bool:
    found = read_provenance(path) if path.exists() else None
    return found is not None and not MODELS.isdisjoint(found)


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

    def annotations_print(self) -> str:
        """Return a fingerprint of what is outlined, scribbled and counts of all.

        It does not depend on the order of the images.
        """
        drawn = [(s.labels, s.annotated, s.scribbles) for s in self.samples]
        rows = sorted(
            [s.name, *("" if a is None else fingerprint(a) for a in arrays)]
            for s, arrays in zip(self.samples, drawn, strict=True)
        )
        return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]


@dataclass(frozen=True, kw_only=True)
class ChannelChoice:
    """Which channels of the images, as in `open_image`, and how labels are read."""

    channel: str | None = None
    gray: bool = False
    pages: Pages | None = None
    annotations: AnnotationConfig = field(default_factory=AnnotationConfig)
    known: tuple[str, ...] = ()
    """Names of the channels that the model to start from looks at, if it is several."""

    def open(self, path: Path) -> Source:
        """Open the channels of an image."""
        return open_image(
            path,
            channel=self.channel,
            gray=self.gray,
            known=self.known,
            pages=self.pages,
        )


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
        their folder's name in front, or as much of its path as makes them unique.
    validation
        A folder of validation images, with ``val/`` before their names if training
        images have the same; without it each folder is split by its own lists, or by
        `config`: with folds, nothing is kept out here.
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
    kept_out: list[Pair] = []
    notes: list[str] = []
    look = cache(partial(_looked_at, channel=channel))
    decided: dict[str, bool] = {}
    for folder, prefix in zip(folders, _prefixes(folders), strict=True):
        pairs = find_pairs(folder, channel.annotations.planes)
        notes += pairs.notes
        if config.folds and pairs.validation is not None:
            notes.append(f"No folds: {folder} lists its validation images.")
        kept: tuple[Pair, ...] = pairs.pairs
        out: tuple[Pair, ...] = ()
        if validation is None and config.folds and pairs.validation is None:
            kept = listed(pairs)
        elif validation is None:
            kept, out = split(
                pairs,
                validation_fraction=config.validation_fraction,
                seed=seed,
                stratum=lambda pair: look(pair)[0],
                origin=lambda pair: look(pair)[1],
            )
            if pairs.validation is None:
                # Crops of one image may lie in several folders: the first decides.
                held = {p: decided.get(look(p)[1], p in out) for p in (*kept, *out)}
                kept = tuple(p for p in held if not held[p])
                out = tuple(p for p in held if held[p])
                decided = {look(p)[1]: held[p] for p in held} | decided
        training += [replace(p, name=prefix + p.name) for p in kept]
        kept_out += [replace(p, name=prefix + p.name) for p in out]
    if validation is not None:
        pairs = find_pairs(validation, channel.annotations.planes)
        notes += pairs.notes
        # As `check` names them, where a name says not which image is meant.
        names = {pair.name for pair in training}
        clash = any(pair.name in names for pair in pairs.pairs)
        side = "val/" if clash else ""
        kept_out += [replace(p, name=side + p.name) for p in pairs.pairs]
    read = _read_all([*training, *kept_out], channel, track)
    notes += partly_annotated(read) + uncorrected([*training, *kept_out])
    notes += _ignored_nowhere(read, channel.annotations.ignore_value)
    notes += _of_drawings(read)
    sides = read[: len(training)], read[len(training) :]
    prints = [{s.name: one.print_ for one in side for s in one.parts} for side in sides]
    refuse_shared(*prints)
    if config.folds and not kept_out:
        refuse_copies(prints[0])
    samples = [tuple(s for one in side for s in one.parts) for side in sides]
    notes += _of_one_origin(*samples)
    require_both_classes(samples[0])
    return TrainingData(
        training=samples[0],
        validation=samples[1],
        training_prints=prints[0],
        validation_prints=prints[1],
        notes=tuple(notes),
    )


def _of_drawings(images: Sequence[ReadImage]) -> list[str]:
    """Say what to know of how labels were drawn, once for all images."""
    names: dict[str, list[str]] = {}
    for image in images:
        for note in image.parts[0].notes:
            names.setdefault(note, []).append(whole_name(image.parts[0].name))
    return [f"{some(told)}: {note}" for note, told in names.items()]


def _of_one_origin(training: Sequence[Sample], kept_out: Sequence[Sample]) -> list[str]:
    """Say that parts of one stack or field are trained on and scored on."""
    ours, theirs = (
        {s.origin or whole_name(s.name) for s in side} for side in (training, kept_out)
    )
    both = ours & theirs if kept_out else ours if len(ours) == 1 else set()
    if both.isdisjoint({s.origin for s in training}):
        return []
    return [
        "Planes of one stack, or crops of one image, are trained on and scored on: "
        "they are alike, and other images may score lower. Annotate more stacks or "
        "images to know."
    ]


def _ignored_nowhere(images: Sequence[ReadImage], value: int | None) -> list[str]:
    """Say that a value which is not to count is in no image."""
    if value is None or any(image.annotated_share < 1 for image in images):
        return []
    return [
        f"No label image holds the value {value} of --ignore-value: every pixel "
        "counts. Is it another value?"
    ]


def _looked_at(pair: Pair, channel: ChannelChoice) -> tuple[tuple[int, ...], str]:
    """Return height and width of an image, and what it is a part of, or its path.

    Images of one microscope and magnification mostly share their size, so a split that
    takes its share of each size takes its share of each kind of image. What is wrong
    with a file is reported when it is read whole.
    """
    try:
        with channel.open(pair.image) as source:
            return source.shape, _origin(pair, source.cut_from) or str(pair.image)
    except CellunetError:
        return (), str(pair.image)


def _origin(pair: Pair, cut_from: CropMetadata | None) -> str | None:
    """Return what an image is alike to others of: its field, or its stack."""
    if cut_from is not None:
        return cut_from.origin
    return None if pair.plane is None else str(pair.image)


def _prefixes(folders: Sequence[Path]) -> list[str]:
    """Return what the names of each folder's images begin with; '' for one folder."""
    if len(folders) == 1:
        return [""]
    full = [folder.resolve() for folder in folders]
    twice = next((f for f in full if full.count(f) > 1), None)
    if twice is not None:
        raise InputError(f"{twice} is named twice.", hint="Name each folder once.")
    return [f"{name}/" for name in distinct_names(full)]


def distinct_names(folders: Sequence[PurePath]) -> list[str]:
    """Return the last parts of each folder, as many as tell them apart.

    Examples
    --------
    >>> from pathlib import PureWindowsPath
    >>> distinct_names([PureWindowsPath("C:/data"), PureWindowsPath("D:/data")])
    ['C/data', 'D/data']
    """
    # A drive is a part like others, without what makes a path begin anew.
    parts = [(*re.findall(r"[^\\/:]+", f.anchor), *f.parts[1:]) for f in folders]
    for count in range(1, max(map(len, parts)) + 1):
        names = ["/".join(of_one[-count:]) for of_one in parts]
        if len(set(names)) == len(names):
            break
    return names


def _read_all(
    pairs: Sequence[Pair], channel: ChannelChoice, track: Track
) -> list[ReadImage]:
    read, errors = [], []
    for pair in track(pairs, "Reading images", len(pairs)):
        try:
            read.append(_read(pair, channel))
        except CellunetError as error:
            errors.append(error)
    for found in errors:
        if isinstance(found, BugError) or len(errors) == 1:
            raise found
    if errors:
        more = len(errors) - MAX_NAMED
        listed = " ".join(error.message for error in errors[:MAX_NAMED])
        raise InputError(
            f"{len(errors)} images cannot be used: {listed}"
            + (f" And {more} more." if more > 0 else ""),
            hint=errors[0].hint,
        )
    return read


def _read(pair: Pair, choice: ChannelChoice) -> ReadImage:
    """Read one image, and keep what there is to train on."""
    sample = read_sample(pair, choice)
    parts = cut(sample, measured_in(pair.image, choice, pair.other_plane))
    return ReadImage(
        parts=tuple(parts),
        reduced=parts[0] is not sample,
        print_=content_hash(sample.image),
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

    with one_plane(channel.open(pair.image), pair.other_plane) as source:
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
        channels = len(source.file_channels)
    found = read_annotated(
        pair, (height, width), channel.annotations, channels=channels, tell=False
    )
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
        kind=found.kind,
        notes=found.notes,
        origin=_origin(pair, cut_from) or "",
    )


def read_annotated(
    pair: Pair,
    shape: tuple[int, int] | None = None,
    annotations: AnnotationConfig = AnnotationConfig(),  # noqa: B008
    *,
    channels: int = 1,
    tell: bool = True,
) -> Annotation:
    """Return the annotation of a pair; `shape` is its image's, if that is known.

    With `tell`, notes on it are logged.
    """
    found = read_annotation(
        pair.annotation,
        shape=shape,
        channels=channels,
        plane=pair.plane,
        member=pair.member,
        annotated=pair.annotated,
        scribbles=pair.scribbles,
        **annotations.of_one_image(),
    )
    for note in found.notes if tell else ():
        logger.warning("%s: %s", pair.annotation, note)
    return found


def has_objects(samples: Sequence[Sample]) -> bool:
    """Return whether any object is outlined, in what counts or next to it."""
    return any(bool((s.labels > 0).any()) for s in samples)


def object_diameters_px(samples: Sequence[Sample]) -> tuple[float, float, float]:
    """Return the equivalent diameter of all objects: 5th percentile, median, 95th.

    At least one object is needed (`has_objects`).
    """
    areas: list[npt.NDArray[Any]] = []
    for sample in samples:
        _, counts = np.unique(sample.labels[sample.labels > 0], return_counts=True)
        areas.append(counts)
    every = np.concatenate(areas)
    low, middle, high = np.percentile(equivalent_diameters(every), (5, 50, 95))
    return float(low), float(middle), float(high)
