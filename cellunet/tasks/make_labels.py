"""Convert annotations to instance labels, class maps, weight maps and previews."""

from __future__ import annotations

import dataclasses
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from cellunet.annotations.check import value_notes
from cellunet.annotations.coco import refuse_empty
from cellunet.annotations.pairs import find_annotations
from cellunet.bugs import telling_bugs
from cellunet.command_config import THREADS, AnnotationConfig
from cellunet.engine.threads import threads_for
from cellunet.errors import (
    BugError,
    CellunetError,
    ConfigError,
    InputError,
    some,
)
from cellunet.imaging.targets import (
    add_scribbles,
    encode,
    scribbled_px,
    trainable_mask,
    weight_map,
)
from cellunet.io.files import PendingFile, at_work, writing
from cellunet.io.images import write_labels, write_plane
from cellunet.io.png_jpeg import write_png
from cellunet.outputs.pictures import preview
from cellunet.progress import silent_track
from cellunet.tasks.check_labels import annotated_share, read_labels_with_image
from cellunet.tasks.scheduling import ConcurrencyGate, in_order

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt

    from cellunet.annotations.pairs import AnnotatedImage
    from cellunet.annotations.types import Annotation
    from cellunet.config import EncodingConfig, WeightConfig
    from cellunet.io.source import Pages
    from cellunet.progress import Track
    from cellunet.tasks.check_labels import LabelsWithImage


FULL = (
    "No pixel is background. Is one value of the labels the background? It should be 0."
)
"""Note on an annotation."""


@dataclass(frozen=True, kw_only=True)
class MadeImage:
    """What one annotation came out as."""

    name: str
    """Name of its files below the output folder, without suffix."""
    kind: str
    """How it was drawn: a name in `cellunet.annotations.read.ANNOTATIONS`."""
    height_px: int
    """Rows."""
    width_px: int
    """Columns."""
    objects: int
    """Objects that have a pixel."""
    median_area_px: float | None
    """Median of their areas; None without objects."""
    overlap_px: int
    """Pixels of several objects; they went to the smallest."""
    hidden: int
    """Objects without a pixel of their own, which were left out."""
    outside: int = 0
    """Objects outside the image, which were left out."""
    annotated_share: float = 1.0
    """Share of the image's pixels that is annotated, scribbles aside."""
    scribbled_px: tuple[int, int] = (0, 0)
    """Pixels that are known by scribbles alone: background, and inside an object."""
    notes: tuple[str, ...] = ()
    """What to know about the drawing, in sentences."""


@dataclass(frozen=True, kw_only=True)
class MadeLabels:
    """What `make_labels` wrote, and what it could not."""

    out: Path
    """The output folder."""
    layout: str
    """How the annotations were arranged."""
    images: tuple[MadeImage, ...]
    """One for each annotation that was decoded."""
    failures: tuple[tuple[str, str], ...]
    """Name and message of each annotation that was not."""
    notes: tuple[str, ...]
    """What was found and left out, in sentences."""
    bugs: int = 0
    """How many of the failures are faults of cellunet's or of a library."""

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain dictionaries, lists, text and numbers."""
        return {
            "out": str(self.out),
            "layout": self.layout,
            "images": [
                dataclasses.asdict(image)
                | {
                    "notes": list(image.notes),
                    "scribbled_px": list(image.scribbled_px),
                }
                for image in self.images
            ],
            "failures": [{"name": n, "message": m} for n, m in self.failures],
            "bugs": self.bugs,
            "notes": list(self.notes),
            "objects": sum(image.objects for image in self.images),
        }


MAX_NAMED = 10

SMALL_PX = 2**20
"""Maps of larger images are made one at a time, so that memory does not add up."""

SUFFIXES = {
    "labels": ".tif",
    "classes": ".tif",
    "weights": ".tif",
    "previews": ".png",
    "annotated": ".tif",
    "scribbles": ".tif",
}
"""Folder of each result below the output folder, and how its files end."""


@dataclass(frozen=True, kw_only=True)
class _Conversion:
    """What to make of every annotation, and where."""

    out: Path
    encoding: EncodingConfig
    weights: WeightConfig | None
    annotations: AnnotationConfig

    def paths(self, one: AnnotatedImage) -> dict[str, Path]:
        """Return the file of each result by its folder's name."""
        return {
            folder: self.out / folder / f"{one.name}{suffix}"
            for folder, suffix in SUFFIXES.items()
        }


def make_labels(  # noqa: PLR0913
    source: Path,
    out: Path,
    *,
    encoding: EncodingConfig,
    weights: WeightConfig | None = None,
    annotations: AnnotationConfig | None = None,
    allow_empty: bool = False,
    pages: Pages | None = None,
    overwrite: bool = False,
    threads: int = THREADS,
    track: Track = silent_track,
) -> MadeLabels:
    """Decode annotations and write what a network would be trained on.

    For each annotation ``NAME``: ``labels/NAME.tif`` (instance labels, uint16 or,
    past 65,535, uint32), ``classes/NAME.tif`` (class map, uint8),
    ``weights/NAME.tif`` (weight map, float32; with `weights` only),
    ``previews/NAME.png``; where not all of the image is annotated,
    ``annotated/NAME.tif`` (uint8, 255 where it is), and where there are scribbles
    ``scribbles/NAME.tif`` (uint8, 1 background, 2 inside an object). Nothing is
    written for an annotation that cannot be decoded or does not fit its image.

    Parameters
    ----------
    source
        Annotations, with or without images, as
        `cellunet.annotations.pairs.find_annotations` understands them.
    out
        Folder for the results.
    encoding
        Target and boundary of the class map.
    weights
        Class and border weights of the weight map; None writes none.
    annotations
        How annotations are read.
    allow_empty
        Whether a COCO file may list images and not one object.
    pages
        What the pages of images are that do not say so.
    overwrite
        Whether to replace results that are there already.
    threads
        Annotations in work at once; 0: as many as this process may use cores.
    track
        Wraps the loop over annotations.

    Returns
    -------
    MadeLabels
        Counts per annotation; those that could not be decoded are in its failures.

    Raises
    ------
    ConfigError
        If `weights` is for another number of classes.
    InputError
        If there are no annotations, partners do not match, or a result would replace
        a file that exists or is read.
    BusyError
        If another process is writing one of the results.
    OutputError
        If `out` cannot be created.
    """
    annotations = annotations or AnnotationConfig()
    _check_weights(encoding, weights)
    found = find_annotations(source, kind=annotations.kind, planes=annotations.planes)
    if not allow_empty:
        for path in {one.annotation for one in found.drawn if one.member}:
            refuse_empty(path)
    recipe = _Conversion(
        out=out, encoding=encoding, weights=weights, annotations=annotations
    )
    paths = [recipe.paths(one) for one in found.drawn]
    results = [path for row in paths for path in row.values()]
    _refuse_conflicts(found.drawn, results, overwrite=overwrite)
    unsure = {"annotated", "scribbles"} | ({"weights"} if weights is None else set())
    for folder in SUFFIXES.keys() - unsure:
        # Makes the folder and a file in it, so that a folder that permits no writing
        # is one error before work, not one for each annotation.
        PendingFile(out / folder / "probe").abort()
    workers = threads_for(threads)
    gate = ConcurrencyGate(workers)

    def make(one: AnnotatedImage) -> MadeImage | tuple[str, CellunetError]:
        try:
            with telling_bugs(one.annotation):
                found = read_labels_with_image(
                    one, annotations=annotations, pages=pages
                )
                large = found.annotation.labels.size > SMALL_PX
                with gate.passing(large=large):
                    return _make(one, found, recipe)
        except CellunetError as error:
            return one.name, error

    with (
        at_work(out, {path.parent for path in results}),
        closing(in_order(make, found.drawn, workers)) as making,
    ):
        made = list(track(making, "Making labels", total=len(found.drawn)))
    failures = [one for one in made if isinstance(one, tuple)]
    return MadeLabels(
        out=out,
        layout=found.layout,
        images=tuple(one for one in made if isinstance(one, MadeImage)),
        failures=tuple((name, str(error)) for name, error in failures),
        bugs=sum(isinstance(error, BugError) for _, error in failures),
        notes=found.notes,
    )


def _make(
    one: AnnotatedImage, found: LabelsWithImage, recipe: _Conversion
) -> MadeImage:
    """Write what follows from one annotation."""
    annotation, size = found.annotation, found.pixel_size_um
    labels, annotated = annotation.labels, annotation.annotated
    scribbles = annotation.scribbles
    class_map = add_scribbles(
        encode(labels, recipe.encoding), scribbles, recipe.encoding
    )
    planes: dict[str, npt.NDArray[Any] | None] = {
        "classes": class_map,
        "weights": None,
        "annotated": None if annotated is None else annotated.astype(np.uint8) * 255,
        "scribbles": scribbles,
    }
    if recipe.weights is not None:
        weights = weight_map(labels, class_map, recipe.weights)
        if annotated is not None:
            weights *= trainable_mask(annotated, scribbles)
        planes["weights"] = weights
    picture = preview(found.image, labels, annotated=annotated, scribbles=scribbles)
    paths = recipe.paths(one)
    about = {"annotation": one.annotation.name, "kind": annotation.kind}
    write_labels(paths["labels"], labels, size, about)
    write_png(paths["previews"], picture)
    for name, plane in planes.items():
        if plane is not None:
            write_plane(paths[name], plane, name, size)
        else:
            # Leave no file of an earlier call.
            with writing(paths[name]):
                paths[name].unlink(missing_ok=True)
    notes = list(value_notes({one.name: labels}) if annotation.kind == "labels" else ())
    if labels.min() > 0:
        notes.append(FULL)
    return _summary(one.name, replace(annotation, notes=(*annotation.notes, *notes)))


def _summary(name: str, annotation: Annotation) -> MadeImage:
    labels = annotation.labels
    areas = np.unique(labels[labels > 0], return_counts=True)[1]
    return MadeImage(
        name=name,
        kind=annotation.kind,
        height_px=labels.shape[0],
        width_px=labels.shape[1],
        objects=areas.size,
        median_area_px=float(np.median(areas)) if areas.size else None,
        overlap_px=annotation.overlap_px,
        hidden=annotation.hidden,
        outside=annotation.outside,
        annotated_share=annotated_share(annotation),
        scribbled_px=scribbled_px(annotation.scribbles),
        notes=annotation.notes,
    )


def _check_weights(encoding: EncodingConfig, weights: WeightConfig | None) -> None:
    if weights is None or len(weights.class_weights) == len(encoding.classes):
        return
    raise ConfigError(
        f"There are {len(weights.class_weights)} class weights; target "
        f"{encoding.target} has {len(encoding.classes)} classes: "
        f"{', '.join(encoding.classes)}.",
        hint="Give one weight per class.",
    )


def _refuse_conflicts(
    drawn: Sequence[AnnotatedImage], results: Sequence[Path], *, overwrite: bool
) -> None:
    """Refuse, before any work, to replace what is read or what exists."""
    read = {path.resolve() for one in drawn for path in one.files}
    own = [p for p in results if p.resolve() in read]
    if own:
        raise InputError(
            f"Results would replace what they are made from: {some(own, MAX_NAMED)}.",
            hint="Try: another --out.",
        )
    there = [p for p in results if p.exists()]
    if there and not overwrite:
        raise InputError(
            f"Results exist already ({len(there)}): {some(there, MAX_NAMED)}.",
            hint="Try: --overwrite, or another --out.",
        )
