"""Recognize files among images that are none to segment, by name first.

Thumbnails and projections that a microscope's program exports, planes that it stores
several times, label images, and files of formats that are not read.
"""

from __future__ import annotations

import contextlib
import filecmp
import os
import re
from collections import Counter
from typing import TYPE_CHECKING

import tifffile

from cellunet.errors import ImageReadError
from cellunet.imaging.file_names import (
    DRAWN_FOLDERS,
    IMAGE_FOLDERS,
    RESULTS,
    bare_stem,
    is_companion,
    shared_stem,
    starts_as_annotation,
    stem,
)
from cellunet.imaging.files import FOLDERS, READERS
from cellunet.imaging.provenance import is_written_by_cellunet
from cellunet.imaging.reading import reading

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping
    from pathlib import Path

KINDS = {
    "thumbs": ("thumbnail", "thumbnails"),
    "projections": (
        "projection or copy of a plane",
        "projections or copies of planes",
    ),
    "labels": (
        "label image or picture of results",
        "label images or pictures of results",
    ),
}
"""What ``--include`` takes all the same, and what one and several are called."""
MICROSCOPES = (
    *(".czi", ".nd2", ".lif", ".lifext", ".lof", ".xlef", ".oib", ".oif", ".oir"),
    *(".lsm", ".zvi", ".stk", ".nd", ".qptiff", ".dv", ".r3d", ".ims", ".vsi", ".ets"),
    *(".ndpi", ".svs", ".scn", ".mrxs", ".bif", ".vms", ".sld", ".sldy", ".flex"),
    *(".c01", ".ics", ".ids", ".mvd2", ".pic", ".spe", ".mrc", ".zarr", ".n5"),
)
"""Formats of microscopes' programs, and of large images."""
PICTURES = (".jpg", ".jpeg", ".jp2", ".j2k", ".bmp", ".gif", ".webp", ".heic")
"""Formats of pictures, most of which alter intensities."""
_KNOWN = {*MICROSCOPES, *PICTURES}
_THUMB = re.compile(r"_thumb(?:[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})?$", re.I)
_WAVELENGTH = re.compile(r"_w\d+_thumb", re.I)
_GUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$", re.I)
_STEP = re.compile(r"zstep_(\d+)$", re.I)
_THUMB_MARK = b"HTSThumbHTS"
_SEQUENCE = re.compile(r"(\d+)_(?:GT|ST|RES|ERR_SEG)$")
_CERTAIN = re.compile(rf"(?<=.)_(?:cp_)?masks$|{RESULTS.pattern}", re.IGNORECASE)
_METADATA_BYTES = 2**16
SHOWN = 3
"""Names that a note shows."""


def left_out(
    files: Collection[Path], named: Collection[Path], include: Collection[str]
) -> dict[str, list[Path]]:
    """Return those of `files` that are not to be segmented, by their kind in `KINDS`.

    Names decide. A file is opened only where its name leaves a doubt: one file per
    folder (written by cellunet?), planes of a wavelength that may be copies.

    Parameters
    ----------
    files
        What was found in folders.
    named
        What the user named one by one, which is never left out, but may be the image
        that a label image belongs to.
    include
        Kinds to take all the same.
    """
    found: dict[str, list[Path]] = {}
    rest = list(files)
    for kind, search in _SEARCHES.items():
        if kind not in include:
            out = search(rest, named)
            if out:
                found[kind] = [p for p in rest if p in out]
                rest = [p for p in rest if p not in out]
    return found


def counted(found: Mapping[str, Collection[Path]]) -> str:
    """Return how many files there are of each kind, and what some are called."""
    told = []
    for kind, paths in found.items():
        some = ", ".join("/".join(p.parts[-2:]) for p in list(paths)[:SHOWN])
        more = ", ..." if len(paths) > SHOWN else ""
        told.append(f"{len(paths):,} {KINDS[kind][len(paths) > 1]} ({some}{more})")
    return ", ".join(told)


def note_on(found: Mapping[str, Collection[Path]]) -> str:
    """Return one line that counts what was left out and says how to take it."""
    options = " ".join(f"--include {kind}" for kind in found)
    return f"Left out: {counted(found)}. To take them all the same: {options}."


def is_unread(name: str) -> bool:
    """Return whether a name is that of an image in a known format that is not read."""
    suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122 - of 100,000 names
    return suffix in _KNOWN and suffix not in READERS and suffix not in FOLDERS


def note_on_unread(suffixes: Mapping[str, int]) -> str:
    """Return one line that counts files of formats that are not read."""
    listed = ", ".join(f"{n:,} {suffix}" for suffix, n in sorted(suffixes.items()))
    count = sum(suffixes.values())
    return f"{count:,} file{'s'[: count > 1]} of formats that are not read ({listed})"


def way_out(suffixes: Iterable[str]) -> str:
    """Return what to do with files of formats that are not read."""
    known = set(suffixes)
    ways = []
    if known & set(MICROSCOPES):
        ways.append(
            "Export those of a microscope as OME-TIFF, in its program, with bfconvert "
            "or in Fiji (File, Export, OME-TIFF)."
        )
    if known & set(PICTURES):
        ways.append(
            "Of pictures (JPEG alters intensities), export the originals as TIFF or "
            "PNG."
        )
    return " ".join(ways)


def _thumbs(files: Collection[Path], named: Collection[Path]) -> set[Path]:
    """Return the small versions that ImageXpress stores beside its images."""
    doubtful = [p for p in files if "_thumb" in p.name.lower()]
    # Of 100,000 names, most are done with here.
    every = (*files, *named) if doubtful else ()
    names = {(p.parent, stem(p.name)) for p in every}
    found = set()
    for path in doubtful:
        name = stem(path.name)
        mark = _THUMB.search(name)
        if mark and (
            mark[0].lower() != "_thumb"
            or _WAVELENGTH.search(name)
            or (path.parent, name[: mark.start()]) in names
            or _holds(path, _THUMB_MARK)
        ):
            found.add(path)
    return found


def _projections(files: Collection[Path], named: Collection[Path]) -> set[Path]:
    """Return projections whose planes are there, and copies of a plane.

    ImageXpress stores planes in ``ZStep_1``, ``ZStep_2``, ..., projections in
    ``ZStep_0`` or in the folder above, and a wavelength that was taken in one plane in
    every ``ZStep``. A wavelength is copied in all fields or in none, so the first field
    decides whether the others are compared.
    """
    del named
    if not any(_STEP.match(p.parent.name) for p in files):
        return set()
    fields: dict[tuple[Path, str], list[tuple[int, Path]]] = {}
    for path in files:
        step = _STEP.match(path.parent.name)
        at = path.parent.parent if step else path.parent
        name = _GUID.sub("", stem(path.name)).casefold()
        number = int(step[1]) if step else 0
        fields.setdefault((at, name), []).append((number, path))
    found: set[Path] = set()
    copied: dict[tuple[Path, str], bool] = {}
    for (at, name), members in fields.items():
        planes = [p for k, p in sorted(members) if k]
        if planes:
            found |= {p for k, p in members if not k}
        if len(planes) > 1:
            wavelength = at, name.rpartition("_w")[2]
            if wavelength not in copied:
                copied[wavelength] = _same_pixels(planes[0], planes[1])
            if copied[wavelength]:
                found |= {p for p in planes[1:] if _same_pixels(planes[0], p)}
    return found


def _same_pixels(path: Path, other: Path) -> bool:
    """Return whether two TIFF files hold the same encoded pixels."""
    # What is wrong with a file is said when it is read as an image.
    with contextlib.suppress(ImageReadError), reading(path):
        return filecmp.cmp(path, other, shallow=False) or (
            _encoded(path) == _encoded(other)
        )
    return False


def _encoded(path: Path) -> list[bytes]:
    with tifffile.TiffFile(path, _multifile=False) as tiff:
        page, pieces = tiff.pages.first, []
        for start, size in zip(page.dataoffsets, page.databytecounts, strict=True):
            tiff.filehandle.seek(start)
            pieces.append(tiff.filehandle.read(size))
    return pieces


def _labels(files: Collection[Path], named: Collection[Path]) -> set[Path]:
    """Return label images, and the pictures and maps that come with them."""
    every = (*files, *named)
    folders = _label_folders(every)
    marked = [p for p in files if _is_marked(p.name)]
    # Of 100,000 names, most are done with here.
    others = (p for p in every if not _is_marked(p.name)) if marked else ()
    images = {
        (p.parent, key) for p in others for key in (stem(p.name), shared_stem(p.name))
    }
    found = {
        p
        for p in files
        if p.parent in folders
        or _CERTAIN.search(p.stem.removesuffix(".ome"))
        or is_companion(p.name)
    }
    for path in marked:
        beside = {bare_stem(path.name), shared_stem(path.name)}
        if any((path.parent, key) in images for key in beside):
            found.add(path)
    return found | set(_written_by_us([p for p in files if p not in found]))


def _is_marked(name: str) -> bool:
    return bare_stem(name) != stem(name) or starts_as_annotation(name)


def _label_folders(files: Iterable[Path]) -> set[Path]:
    """Return the folders of labels beside folders of the images, of `files`."""
    parents = {p.parent for p in files}
    above = {at for p in parents for at in (p, *p.parents)}
    images = {p.parent for p in above if p.name.lower() in IMAGE_FOLDERS}

    def holds_labels(at: Path) -> bool:
        if at.name.lower() in DRAWN_FOLDERS:
            return at.parent in images
        sequence = _SEQUENCE.match(at.name)
        return sequence is not None and at.parent / sequence[1] in parents

    return {p for p in parents if any(map(holds_labels, (p, *p.parents)))}


def _written_by_us(files: Iterable[Path]) -> Iterator[Path]:
    """Yield label images that cellunet wrote.

    One file per folder is looked into, all of a folder where that one is such, and all
    of one name but for the suffix.
    """
    folders: dict[Path, list[Path]] = {}
    for path in files:
        folders.setdefault(path.parent, []).append(path)
    for paths in folders.values():
        tiffs = [p for p in paths if p.suffix.lower() != ".png"]
        stems = Counter(stem(p.name) for p in paths)
        every = bool(tiffs) and is_written_by_cellunet(tiffs[0])
        for path in tiffs:
            if (every or stems[stem(path.name)] > 1) and is_written_by_cellunet(path):
                yield path


def _holds(path: Path, mark: bytes) -> bool:
    """Return whether a file holds a mark, which its metadata would at either end."""
    with contextlib.suppress(OSError), path.open("rb") as file:
        head = file.read(_METADATA_BYTES)
        file.seek(max(0, path.stat().st_size - _METADATA_BYTES))
        return mark in head or mark in file.read()
    return False


_SEARCHES = {"thumbs": _thumbs, "projections": _projections, "labels": _labels}
