"""Pair predicted and true label files by name."""

from __future__ import annotations

import filecmp
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cellunet.annotations.find import (
    ANNOTATED_FOLDER,
    SCRIBBLES_FOLDER,
    parts_below,
)
from cellunet.annotations.foreign import refuse_foreign
from cellunet.annotations.planes import ChosenPlanes
from cellunet.errors import InputError, some
from cellunet.io.paths import (
    DRAWN_FOLDERS,
    IMAGE_FOLDERS,
    annotation_stem,
    bare_stem,
    is_array_file,
    is_drawn_file,
    is_image_file,
    shared_stem,
    subfolders,
    without_results,
)
from cellunet.io.zarr_store import store_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from pathlib import Path


logger = logging.getLogger(__name__)

MAX_NAMED = 10

SEQUENCE = "SEG"
"""Folder of the true labels of one sequence of the Cell Tracking Challenge."""


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
    """The image that shows which part of it is annotated, if there is one."""
    scribbles: Path | None = None
    """Scribbles next to the true labels, if there are any."""
    plane: int | None = None
    """Which plane of a stack the true labels are; None: they are of one plane."""
    other_plane: int | None = None
    """The same plane of the predicted labels, whose axes may be in another order."""


def pair_folders(
    predicted: Path,
    labels: Path,
    *,
    names: Collection[str] | None = None,
    planes: str | None = None,
) -> list[LabelPair]:
    """Pair the label files of two folders by name.

    Files are searched for in the folders and below them, and paired by their path
    without file suffix. A marker such as ``_masks`` or ``_labels`` at the end of a
    name is left out, unless both folders hold the name with it.

    Parameters
    ----------
    predicted, labels
        Folders of predicted and of true labels, TIFF or PNG; true ones also as
        shapes. What part of them is annotated is shown by images ``NAME_annotated``
        among them, or in a folder ``annotated`` next to them where theirs is called
        ``labels``, ``masks``, ``annotations`` or ``rois``.
    names
        Pair these alone, whatever else the folders hold; None: all.
    planes
        Planes of stacks, as `cellunet.annotations.planes.ChosenPlanes` takes them;
        None: those on which an object is annotated.

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
    labels = _inner(labels)
    found, true = _files(_inner(predicted)), _files(labels, drawn=True)
    as_is = _same_names(dict(found), dict(true))
    truths = _grouped(true, as_is)
    by_name = {
        "predicted": _renamed(_grouped(found, as_is), truths),
        "true": truths,
    }
    wanted = set(by_name["predicted"]) | set(by_name["true"])
    if names is not None:
        wanted = set(names)
    elif labels.name == SEQUENCE and set(truths) & wanted:
        # Of a sequence of the Cell Tracking Challenge, some images are annotated.
        rest = len(wanted) - len(truths)
        wanted = set(truths)
        if rest:
            logger.warning("Not scored, as not in %s: %d predictions.", labels, rest)
    parts, scribbles = (
        {_bare(name): path for name, path in found.items()} | found
        for kind in (ANNOTATED_FOLDER, SCRIBBLES_FOLDER)
        for found in [parts_below(labels, kind)]
    )
    problems = _label_problems(wanted, by_name["predicted"], by_name["true"])
    known = {_bare(name) for name in truths}
    # An image may have scribbles alone; and beside the folder may lie other things.
    alone = {
        str(path)
        for name, path in parts.items()
        if _bare(name) not in known and path.parent != labels.parent
    }
    if alone:
        problems.append(f"no true labels for {some(sorted(alone), MAX_NAMED)}")
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
    pairs = [
        LabelPair(
            name=name,
            predicted=by_name["predicted"][name][0],
            labels=by_name["true"][name][0],
            annotated=parts.get(name, parts.get(_bare(name))),
            scribbles=scribbles.get(name, scribbles.get(_bare(name))),
        )
        for name in sorted(wanted)
    ]
    choice = ChosenPlanes(planes)
    taken = choice.of(pairs, [(p.labels, p.predicted) for p in pairs])
    for note in choice.notes if choice.empty else ():
        logger.warning("%s", note)
    return taken


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
        for path in without_results(sorted(folder.rglob("*")))
        # Nothing within a Zarr is a file of its own.
        if store_of(path) == path
        and (
            is_image_file(path)
            or is_array_file(path)
            or (drawn and is_drawn_file(path))
        )
    ]
    if not files:
        refuse_foreign(folder)
        raise InputError(f"{folder} holds no label file; TIFF or PNG are expected.")
    return files


def _inner(folder: Path) -> Path:
    """Return the one folder of labels that is all there is in a folder, images aside.

    That is what is meant where a folder of both is named, or the folder above; of what
    was predicted of a folder ``images``, the folder of that name.
    """
    if not folder.is_dir():
        return folder
    drawn = subfolders(folder, (*DRAWN_FOLDERS, SEQUENCE.lower()))
    images = subfolders(folder, IMAGE_FOLDERS)
    beside = ("tra", "report-data", ANNOTATED_FOLDER, SCRIBBLES_FOLDER)
    known = {*drawn, *images, *subfolders(folder, beside)}
    there = [p for p in folder.iterdir() if not p.name.startswith(".")]
    others = [p for p in there if p not in known and (p.is_dir() or is_image_file(p))]
    inside = drawn or images
    return inside[0] if len(inside) == 1 and not others else folder


def _same_names(found: Mapping[str, Path], true: Mapping[str, Path]) -> set[str]:
    """Return the names that both folders hold, marks included.

    Without the images that lie next to the labels in both, which are the same file.
    """
    shared = set(found) & set(true)
    bare = {name: _bare(name) for name in shared}
    images = {
        name
        for mark, name in bare.items()
        if name != mark
        and name in shared
        and found[name].is_file()
        and filecmp.cmp(found[name], true[name], shallow=False)
    }
    return {name for name in shared if bare[name] not in images}


def _bare(name: str) -> str:
    """Return a name without the mark of labels."""
    _, folder, last = _parts(name)
    return folder + bare_stem(last)


def _parts(name: str) -> tuple[str, str, str]:
    """Return a name, its folder with the slash, and what follows."""
    folder, slash, last = name.rpartition("/")
    return name, folder + slash, last


def _grouped(
    files: Iterable[tuple[str, Path]], as_is: set[str]
) -> dict[str, tuple[Path, ...]]:
    """Return the files of each name without mark, `as_is` with it.

    Of a file with mark and one without, the one with it holds the labels: the other
    is the image next to them.
    """
    groups: dict[str, tuple[Path, ...]] = {}
    marked: dict[str, tuple[Path, ...]] = {}
    for whole, path in files:
        name = whole if whole in as_is else _bare(whole)
        into = groups if name == whole else marked
        into[name] = (*into.get(name, ()), path)
    return groups | marked


def _renamed(
    found: Mapping[str, tuple[Path, ...]], true: Mapping[str, tuple[Path, ...]]
) -> dict[str, tuple[Path, ...]]:
    """Return what is found under the names of the true labels.

    What has no partner of its name belongs to the one left that has the same name but
    for the marks of images and labels.
    """
    names: dict[str, list[str]] = {}
    for name, folder, last in map(_parts, set(true) - set(found)):
        names.setdefault(folder + shared_stem(last), []).append(name)
    renamed: dict[str, tuple[Path, ...]] = {}
    for name, folder, last in map(_parts, found):
        fitting = names.get(folder + shared_stem(last), [])
        one = fitting[0] if name not in true and len(fitting) == 1 else name
        renamed[one] = (*renamed.get(one, ()), *found[name])
    return renamed


def _label_problems(
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
    return [
        f"{what} {some(sorted(names), MAX_NAMED)}"
        for what, names in kinds.items()
        if names
    ]
