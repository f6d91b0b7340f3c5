"""Pair the files of two folders of label images, such as predictions and truth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cellunet.errors import InputError
from cellunet.imaging.file_names import (
    annotation_stem,
    bare_stem,
    is_companion,
    is_drawn_file,
    is_image_file,
)
from cellunet.imaging.layouts import DRAWN_FOLDERS
from cellunet.imaging.partners import annotated_parts, scribbled_parts

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from pathlib import Path

MAX_NAMED = 10


@dataclass(frozen=True, kw_only=True)
class LabelPair:
    """The predicted and the true label file of one image."""

    name: str
    """Path of the image below the folders, without suffix, ``/`` between folders."""
    predicted: Path
    """File of the predicted labels."""
    labels: Path
    """File of the true labels."""
    annotated: Path | None = None
    """The image that tells which part of it is annotated, if there is one."""
    scribbles: Path | None = None
    """Scribbles beside the true labels, if there are any."""


def pair_folders(
    predicted: Path, labels: Path, *, names: Collection[str] | None = None
) -> list[LabelPair]:
    """Pair the label files of two folders by name.

    Files are searched for in the folders and below them, and paired by their path
    without file suffix. A marker such as ``_masks`` or ``_labels`` at the end of a
    name is left out, unless both folders hold the name with it.

    Parameters
    ----------
    predicted, labels
        Folders of predicted and of true labels, TIFF or PNG; true ones also ROI sets,
        GeoJSON or labelme's JSON. What part of them is annotated is told by images
        ``NAME_annotated`` among them, or in a folder ``annotated`` beside them where
        theirs is called ``labels``, ``masks``, ``annotations`` or ``rois``.
    names
        Pair these alone, whatever else the folders hold; None: all.

    Returns
    -------
    list of LabelPair
        Sorted by name, one or more.

    Raises
    ------
    InputError
        If a folder is missing or holds no such file, both are the same, or partners
        are missing, left over or doubled: all of them named in one message.
    """
    if predicted.resolve() == labels.resolve():
        raise InputError(
            f"{predicted} is given as predicted and as true labels; two folders are "
            "expected."
        )
    found, true = _files(predicted), _files(labels, drawn=True)
    parts, scribbles = annotated_parts(labels), scribbled_parts(labels)
    if labels.resolve().name in DRAWN_FOLDERS:
        parts = annotated_parts(labels.resolve().parent) | parts
        scribbles = scribbled_parts(labels.resolve().parent) | scribbles
    as_is = {n for n, _ in found} & {n for n, _ in true}
    by_name = {
        "predicted": _grouped(found, as_is),
        "true": _grouped(true, as_is),
    }
    wanted = set(by_name["predicted"]) | set(by_name["true"])
    if names is not None:
        wanted = set(names)
    problems = _problems(wanted, by_name["predicted"], by_name["true"])
    if problems:
        raise InputError(
            f"The label files of {predicted} (predicted) and {labels} (true) do not "
            f"match: {'; '.join(problems)}.",
            hint="Files are matched by name; add, rename or remove these.",
        )
    if not wanted:
        raise InputError(
            "No image is named.", hint="Name one or more, or leave it out."
        )
    return [
        LabelPair(
            name=name,
            predicted=by_name["predicted"][name][0],
            labels=by_name["true"][name][0],
            annotated=parts.get(name),
            scribbles=scribbles.get(name),
        )
        for name in sorted(wanted)
    ]


def _files(folder: Path, *, drawn: bool = False) -> list[tuple[str, Path]]:
    """Return (name with its marker, file) of all label files below `folder`."""
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise InputError(f"{folder} {what}; a folder of label files is expected.")
    files = [
        (
            (path.relative_to(folder).parent / annotation_stem(path.name)).as_posix(),
            path,
        )
        for path in sorted(folder.rglob("*"))
        if (is_image_file(path) and not is_companion(path.name))
        or (drawn and is_drawn_file(path))
    ]
    if not files:
        raise InputError(f"{folder} holds no label file; TIFF or PNG are expected.")
    return files


def _grouped(
    files: Iterable[tuple[str, Path]], as_is: set[str]
) -> dict[str, tuple[Path, ...]]:
    groups: dict[str, tuple[Path, ...]] = {}
    for whole, path in files:
        folder, slash, last = whole.rpartition("/")
        name = whole if whole in as_is else folder + slash + bare_stem(last)
        groups[name] = (*groups.get(name, ()), path)
    return groups


def _problems(
    wanted: set[str],
    found: Mapping[str, tuple[Path, ...]],
    true: Mapping[str, tuple[Path, ...]],
) -> list[str]:
    """Return all that keeps the files from being pairs, each with its names."""
    kinds = {
        "in neither folder": wanted - set(found) - set(true),
        "no prediction for": (wanted & set(true)) - set(found),
        "no true labels for": (wanted & set(found)) - set(true),
        "several predictions for": {n for n in wanted if len(found.get(n, ())) > 1},
        "several true labels for": {n for n in wanted if len(true.get(n, ())) > 1},
    }
    return [f"{what} {_some(sorted(names))}" for what, names in kinds.items() if names]


def _some(names: list[str]) -> str:
    rest = len(names) - MAX_NAMED
    more = f" and {rest} more" if rest > 0 else ""
    return ", ".join(names[:MAX_NAMED]) + more
