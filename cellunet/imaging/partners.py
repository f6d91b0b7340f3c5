"""Which image an annotation file belongs to, by their names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cellunet.imaging.file_names import (
    CELLPOSE,
    ROI_SET,
    annotation_stem,
    bare_stem,
    image_files,
    shared_stem,
    stem,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

ANNOTATED_FOLDER = "annotated"
"""Folder of images that are 0 where nothing is annotated."""
SCRIBBLES_FOLDER = "scribbles"
"""Folder of images of scribbles: `cellunet.imaging.drawn.scribbles`."""


def by_image(
    files: Iterable[Path], images: set[str], anything: tuple[str, ...]
) -> dict[str, tuple[Path, ...]]:
    """Return annotation files by the name of their image.

    Files that end as in `anything` may be of any content and count only where they
    have an image; one that Cellpose pickled counts only where nothing else was drawn.
    """
    shared: dict[str, list[str]] = {}
    for name in images:
        shared.setdefault(shared_stem(name), []).append(name)
    only = {key: names[0] for key, names in shared.items() if len(names) == 1}
    found = grouped((_partner(p, images, only), p) for p in files)
    kept = {}
    for name, paths in found.items():
        known = tuple(
            p for p in paths if name in images or p.suffix.lower() not in anything
        )
        others = tuple(p for p in known if not p.name.lower().endswith(CELLPOSE))
        if known:
            kept[name] = others or known
    return kept


def annotated_parts(folder: Path) -> dict[str, Path]:
    """Return, by the names of their images, files that tell what is annotated.

    They lie in ``annotated`` under the name of the image, or beside the image as
    ``NAME_annotated``.
    """
    return _beside(folder, ANNOTATED_FOLDER)


def scribbled_parts(folder: Path) -> dict[str, Path]:
    """Return images of scribbles by the names of their images, kept alike."""
    return _beside(folder, SCRIBBLES_FOLDER)


def is_scribbles(path: Path) -> bool:
    """Return whether the name of an image or its folder says that it is scribbles."""
    return path.parent.name == SCRIBBLES_FOLDER or stem(path.name).endswith(
        f"_{SCRIBBLES_FOLDER}"
    )


def _beside(folder: Path, kind: str) -> dict[str, Path]:
    """Return images in a folder `kind`, and those beside images called NAME_kind."""
    end = f"_{kind}"
    beside = {
        stem(p.name).removesuffix(end): p
        for p in image_files(folder)
        if stem(p.name).endswith(end)
    }
    return beside | {stem(p.name): p for p in image_files(folder / kind)}


def grouped(named: Iterable[tuple[str, Path]]) -> dict[str, tuple[Path, ...]]:
    """Return all paths of each name, in their order."""
    groups: dict[str, tuple[Path, ...]] = {}
    for name, path in named:
        groups[name] = (*groups.get(name, ()), path)
    return groups


def _partner(annotation: Path, images: set[str], shared: Mapping[str, str]) -> str:
    """Return the name an annotation belongs to: its own stem, or without suffix.

    Else the one image that has the same name but for the marks of both.
    """
    whole = annotation_stem(annotation.name)
    bare = bare_stem(annotation.name)
    if len(images) == 1 and whole.lower() == ROI_SET:
        return next(iter(images))
    if whole in images or bare in images:
        return whole if whole in images else bare
    return shared.get(shared_stem(annotation.name), whole)
