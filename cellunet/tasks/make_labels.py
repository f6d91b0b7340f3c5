"""Convert annotations to instance labels, class maps, weight maps and previews."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from cellunet.annotations.check import value_notes
from cellunet.annotations.coco import refuse_empty
from cellunet.annotations.pairs import find_annotations
from cellunet.annotations.read import ANNOTATIONS
from cellunet.bugs import telling_bugs
from cellunet.errors import (
    BugError,
    CellunetError,
    ConfigError,
    InputError,
    choose,
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
from cellunet.io.png import write_png
from cellunet.outputs.pictures import preview
from cellunet.progress import silent_track
from cellunet.tasks.check_labels import read_labels_with_image

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from cellunet.annotations.pairs import AnnotatedImage
    from cellunet.annotations.types import Annotation
    from cellunet.config import EncodingConfig, WeightConfig
    from cellunet.progress import Track


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
class _Recipe:
    """What to make of every annotation."""

    encoding: EncodingConfig
    weights: WeightConfig | None
    kind: str
    ignore_value: int | None
    through_centers: bool
    cells: bool
    folders: tuple[str, ...]


def make_labels(  # noqa: PLR0913
    source: Path,
    out: Path,
    *,
    encoding: EncodingConfig,
    weights: WeightConfig | None = None,
    kind: str = "auto",
    ignore_value: int | None = None,
    planes: str | None = None,
    through_centers: bool = False,
    cells: bool = False,
    allow_empty: bool = False,
    overwrite: bool = False,
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
    kind
        How the annotations were drawn: a name in
        `cellunet.annotations.read.ANNOTATIONS`.
    ignore_value
        Value of the pixels of label images that are not annotated.
    planes
        Planes of stacks, as `cellunet.annotations.pairs.find_pairs` takes them.
    through_centers
        Take outlines that go from pixel to pixel for those through the centers of the
        outermost pixels.
    cells
        Take the outer outlines of QuPath's cells, not their nuclei.
    allow_empty
        Whether a COCO file may list images and not one object.
    overwrite
        Whether to replace results that are there already.
    track
        Wraps the loop over annotations.

    Returns
    -------
    MadeLabels
        Counts per annotation; those that could not be decoded are in its failures.

    Raises
    ------
    ConfigError
        If `kind` is unknown, or `weights` is for another number of classes.
    InputError
        If there are no annotations, partners do not match, or a result would replace
        a file that exists or is read.
    BusyError
        If another process is writing one of the results.
    OutputError
        If `out` cannot be created.
    """
    choose(ANNOTATIONS, kind, "kind of annotation")
    _check_weights(encoding, weights)
    found = find_annotations(source, kind=kind, planes=planes)
    if not allow_empty:
        for path in {one.annotation for one in found.drawn if one.member}:
            refuse_empty(path)
    folders = tuple(f for f in SUFFIXES if f != "weights" or weights is not None)
    recipe = _Recipe(
        encoding=encoding,
        weights=weights,
        kind=kind,
        ignore_value=ignore_value,
        through_centers=through_centers,
        cells=cells,
        folders=folders,
    )
    _refuse_conflicts(found.drawn, out, recipe, overwrite=overwrite)
    for folder in (f for f in folders if f not in ("annotated", "scribbles")):
        # Makes the folder and a file in it, so that a folder that permits no writing
        # is one error before work, not one for each annotation.
        PendingFile(out / folder / "probe").abort()
    images, failures, bugs = [], [], 0
    results = _results(found.drawn, out, recipe)
    with at_work(out, {path.parent for path in results}):
        for one in track(found.drawn, "Making labels", total=len(found.drawn)):
            try:
                with telling_bugs(one.annotation):
                    images.append(_make(one, out, recipe))
            except CellunetError as error:
                failures.append((one.name, str(error)))
                bugs += isinstance(error, BugError)
    return MadeLabels(
        out=out,
        layout=found.layout,
        images=tuple(images),
        failures=tuple(failures),
        bugs=bugs,
        notes=found.notes,
    )


def _make(one: AnnotatedImage, out: Path, recipe: _Recipe) -> MadeImage:
    """Decode one annotation and write its results."""
    found = read_labels_with_image(
        one,
        kind=recipe.kind,
        ignore_value=recipe.ignore_value,
        through_centers=recipe.through_centers,
        cells=recipe.cells,
    )
    annotation, image = found.annotation, found.image
    labels = annotation.labels
    scribbles = annotation.scribbles
    class_map = add_scribbles(
        encode(labels, recipe.encoding), scribbles, recipe.encoding
    )
    weights = None
    if recipe.weights is not None:
        weights = weight_map(labels, class_map, recipe.weights)
    picture = preview(
        image, labels, annotated=annotation.annotated, scribbles=scribbles
    )
    paths = _outputs(one, out, recipe)
    write_labels(
        paths["labels"],
        annotation.labels,
        found.pixel_size_um,
        {"annotation": one.annotation.name, "kind": annotation.kind},
    )
    size = found.pixel_size_um
    write_plane(paths["classes"], class_map, "classes", size)
    if weights is not None:
        if annotation.annotated is not None:
            weights *= trainable_mask(annotation.annotated, scribbles)
        write_plane(paths["weights"], weights, "weights", size)
    write_png(paths["previews"], picture)
    annotated = annotation.annotated
    marked = None if annotated is None else annotated.astype(np.uint8) * 255
    for name, plane in (("annotated", marked), ("scribbles", scribbles)):
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
        annotated_share=_share(annotation),
        scribbled_px=scribbled_px(annotation.scribbles),
        notes=annotation.notes,
    )


def _share(annotation: Annotation) -> float:
    if annotation.annotated is None:
        return 1.0
    return float(annotation.annotated.mean())


def _outputs(one: AnnotatedImage, out: Path, recipe: _Recipe) -> dict[str, Path]:
    return {f: out / f / f"{one.name}{SUFFIXES[f]}" for f in recipe.folders}


def _results(drawn: Sequence[AnnotatedImage], out: Path, recipe: _Recipe) -> list[Path]:
    return [path for one in drawn for path in _outputs(one, out, recipe).values()]


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
    drawn: Sequence[AnnotatedImage], out: Path, recipe: _Recipe, *, overwrite: bool
) -> None:
    """Refuse, before any work, to replace what is read or what exists."""
    results = _results(drawn, out, recipe)
    read = {
        p.resolve()
        for one in drawn
        for p in (one.annotation, one.image, one.annotated, one.scribbles)
        if p
    }
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


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
