"""Annotations to work on, with their images where there are any."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from cellunet.errors import InputError
from cellunet.imaging.drawn.coco import is_coco, read_coco
from cellunet.imaging.file_names import (
    DRAWN_FOLDERS,
    IMAGE_FOLDERS,
    annotation_files,
    bare_stem,
    image_files,
    is_companion,
    is_drawn_file,
    stem,
    subfolders,
    without_results,
)
from cellunet.imaging.layouts import detect
from cellunet.imaging.pairing import find_pairs, refuse_nested
from cellunet.imaging.partners import annotated_parts, scribbled_parts

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


@dataclass(frozen=True)
class Drawn:
    """One annotation.

    Parameters
    ----------
    name
        What its results are called.
    annotation
        A file, or the folder of its objects.
    image
        The image it was drawn on, if that is known.
    annotated
        The image that tells which part is annotated, if there is one.
    member
        What the image is called in a file of several.
    scribbles
        An image of scribbles beside the annotation, if there is one.
    """

    name: str
    annotation: Path
    image: Path | None = None
    annotated: Path | None = None
    member: str = ""
    scribbles: Path | None = None


@dataclass(frozen=True)
class AnnotationSource:
    """All annotations at a path.

    Parameters
    ----------
    drawn
        Sorted by name, one or more, no name twice.
    layout
        A layout of `cellunet.imaging.layouts.LAYOUTS`, or ``file``, ``files`` or
        ``objects`` for annotations without images.
    notes
        What was found and left out, in sentences.
    """

    drawn: tuple[Drawn, ...]
    layout: str
    notes: tuple[str, ...] = ()


def find_annotations(source: Path, *, kind: str = "auto") -> AnnotationSource:
    """Find what there is to decode at a path.

    Parameters
    ----------
    source
        A folder of pairs as `cellunet.imaging.pairing.find_pairs` understands it; one
        annotation file, whose images may lie beside it; a folder of annotation files,
        or with such files in ``labels``, ``masks``, ``annotations`` or ``rois``; or
        folders of one file per object: ``NAME/masks`` below it, or with `kind`
        ``objects`` the files in it.
    kind
        A name in `cellunet.imaging.annotations.ANNOTATIONS`.

    Raises
    ------
    InputError
        If there is nothing to decode, partners in a folder of pairs do not match, or
        two annotations would get one name.
    """
    if source.is_file():
        drawn: Iterable[Drawn] = _in_file(source)
        layout = "file"
    elif kind == "objects" and image_files(source):
        owner = source.absolute().parent if source.name == "masks" else source
        drawn, layout = (Drawn(owner.name, source),), "objects"
    elif source.is_dir() and detect(source) is None:
        drawn, layout = _without_images(source)
    else:
        pairs = find_pairs(source)
        drawn = (
            Drawn(p.name, p.annotation, p.image, p.annotated, p.member, p.scribbles)
            for p in pairs.pairs
        )
        return AnnotationSource(tuple(drawn), pairs.layout, pairs.notes)
    ordered = tuple(sorted(drawn, key=lambda one: one.name))
    _refuse_same_names(ordered)
    return AnnotationSource(ordered, layout)


def _in_file(source: Path) -> list[Drawn]:
    """Return what one file annotates; shapes with the images beside them."""
    if not is_drawn_file(source):
        return [Drawn(bare_stem(source.name), source)]
    above = source.parent, source.parent.parent
    folders = source.parent, *(p for at in above for p in subfolders(at, IMAGE_FOLDERS))
    beside = {
        stem(p.name): p
        for folder in folders[::-1]
        for p in image_files(folder)
        if not is_companion(p.name)
    }
    if source.name.lower().endswith(".json") and is_coco(source):
        members = {stem(name): name for name in read_coco(source).images}
        return [Drawn(n, source, beside.get(n), None, m) for n, m in members.items()]
    name = bare_stem(source.name)
    return [Drawn(name, source, beside.get(name))]


def _without_images(folder: Path) -> tuple[list[Drawn], str]:
    """Return the annotations of a folder that is no folder of pairs."""
    places = folder, *subfolders(folder, DRAWN_FOLDERS)
    files = without_results(next((f for f in map(annotation_files, places) if f), []))
    if files:
        parts = annotated_parts(folder)
        drawn = [one for path in files for one in _in_file(path)]
        said = scribbled_parts(folder)
        return [
            replace(one, annotated=parts.get(one.name), scribbles=said.get(one.name))
            for one in drawn
        ], "files"
    members = (p for p in folder.iterdir() if p.is_dir())
    objects = [Drawn(m.name, m / "masks") for m in members if image_files(m / "masks")]
    if objects:
        return objects, "objects"
    if not any(folder.iterdir()):
        raise InputError(f"{folder} is empty.", hint="Name a folder of annotations.")
    refuse_nested(folder)
    raise InputError(
        f"{folder} holds no annotation.",
        hint="Name a folder of annotations, or of images and annotations.",
    )


def _refuse_same_names(drawn: tuple[Drawn, ...]) -> None:
    by_name: dict[str, list[str]] = {}
    for one in drawn:
        by_name.setdefault(one.name.casefold(), []).append(one.annotation.name)
    same = [" and ".join(files) for files in by_name.values() if len(files) > 1]
    if same:
        raise InputError(
            f"Annotations would get the same name: {'; '.join(same[:10])}.",
            hint="Rename or remove one of each.",
        )
