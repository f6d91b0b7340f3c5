"""Which images label images are of: by names, folders, scenes and provenance."""

from __future__ import annotations

import contextlib
import os
import re
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cellunet.annotations.pixels import PICTURE_PIECE_PX
from cellunet.errors import CellunetError, InputError
from cellunet.imaging.components import components
from cellunet.io.file_names import ChannelFile, PlatePattern, channel_file, marker_of
from cellunet.io.images import names_of_images, open_image
from cellunet.io.label_tiff import is_written_by_cellunet, read_provenance
from cellunet.io.microscopes import image_stem
from cellunet.io.paths import (
    bare_stem,
    below,
    folded,
    output_stem,
    shared_stem,
    stem,
    without_results,
)
from cellunet.io.source import Region

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import numpy.typing as npt

    from cellunet.io.file_names import Columns
    from cellunet.io.paths import Inputs

    Made = tuple[str, Mapping[str, Any]]
    """The file that labels are of, and the settings by which it was read."""

MOST_NAMED = 3
"""Files that an error names."""

LOOKED_PX = 1024
"""Side of the corner that tells whether an image is one of labels."""


def label_files(found: Inputs) -> tuple[list[Path], list[Path]]:
    """Return label images, and the images in their folders that are left out.

    Where labels are marked, as ``a_masks.tif``, and lie beside their images, files that
    are neither marked nor named one by one are images.
    """
    files = without_results(found.files)
    marked = {p for p in files if bare_stem(p.name) != stem(p.name)}
    of = {(path.parent, shared_stem(path.name)) for path in marked}
    others = [p for p in files if p not in marked and p not in found.named]
    mixed = {p.parent for p in others if (p.parent, shared_stem(p.name)) in of}
    beside = [p for p in others if p.parent in mixed]
    return [path for path in files if path not in set(beside)], beside


def refuse_more_labels(files: Sequence[Path], given: Inputs) -> None:
    """Refuse label images beside an only one that were named as its images.

    A shell makes so of a pattern without quotes.

    Raises
    ------
    InputError
        If there is one.
    """
    if len(files) != 1:
        return
    label, keys = files[0].absolute(), set(_keys(files[0], [()]))
    beside = [p for p in given.named if p.absolute().parent == label.parent]
    if label in {p.absolute() for p in beside}:
        return
    for path in sorted(beside):
        marked = bare_stem(path.name) != stem(path.name)
        other = keys.isdisjoint(_keys(path, [()])) and _looks_labelled(path)
        if marked or other or is_written_by_cellunet(path):
            raise InputError(
                f"{path} is a label image, but is given as an image of {files[0]}.",
                hint="LABELS is one argument: a folder, or a pattern in quotes, as in "
                f"cellunet measure '{files[0].with_name('*' + label.suffix)}' IMAGES. "
                "Where labels are to be measured on labels, keep them in another "
                "folder.",
            )


def _looks_labelled(path: Path) -> bool:
    """Return whether a corner of an image holds objects of one value each."""
    pixels: npt.NDArray[Any] = np.zeros((1, 1))
    with contextlib.suppress(CellunetError), open_image(path) as source:
        height, width = (min(side, LOOKED_PX) for side in source.shape)
        pixels = source.read(Region(0, 0, height, 0, width))[0]
    if pixels.dtype.kind not in "iu":
        return False
    ids, pieces = np.unique(pixels[pixels > 0]).size, components(pixels).count
    drawn = int(np.count_nonzero(pixels))
    return 1 < ids <= pieces < min(2 * ids, drawn / PICTURE_PIECE_PX)


def _near(
    labels: Mapping[Path, Path],
    images: Mapping[Path, Path],
    pattern: PlatePattern | None,
) -> dict[Path, list[object]]:
    """Return what labels and their image have in common by folders, the nearest first.

    Both are given with the folder that they were found below. Names of folders that
    stand above labels and above images are of places (plates, times, ...), which are
    never mixed.
    """
    named: dict[Path, tuple[str, ...]] = {}
    for path in (*labels, *images):
        found = pattern.read(path) if pattern else None
        channel = folded(found.channel.mark) if found and found.channel else None
        names = map(folded, _folders(path))
        named[path] = tuple(name for name in names if name != channel)
    own = {named[path] for path in labels}
    # What lies beside label images is known by that.
    others = {named[path] for path in images} - own
    both = {n for names in own for n in names} & {n for names in others for n in names}
    near: dict[Path, list[object]] = {}
    for path, base in (*images.items(), *labels.items()):
        whole = named[path]
        places = frozenset(both & set(whole))
        inner = map(folded, below(path, base).parent.parts)
        near[path] = [whole, (tuple(n for n in inner if n in whole), places), places]
    return near


def images_of(
    found: Inputs,
    made: dict[Path, Made],
    given: Inputs | None,
    pattern: PlatePattern | None,
) -> tuple[dict[Path, list[ChannelFile]], list[Path]]:
    """Return the images of each label image, and those that belong to none.

    Labels that are known by their name to be of one of several images in a file are so
    in `made` afterwards.

    Raises
    ------
    InputError
        If an image might belong to several, or those of one are of several places.
    """
    if given is None:
        return {}, []
    own = {os.path.realpath(path) for path in made}
    images = [path for path in given.files if os.path.realpath(path) not in own]
    near = _near(
        dict.fromkeys(made, found.base), dict.fromkeys(images, given.base), pattern
    )
    belong = _of_several(made, images, near)
    seen = {path for files in belong.values() for path in files}
    labels = [path for path in made if path not in belong]
    belong |= _of_names(labels, [path for path in images if path not in seen], near)
    if not belong and len(made) == 1 and images:
        keys = set(_keys(labels[0], [()]))
        if all(keys.isdisjoint(_keys(path, [()])) for path in images):
            return {labels[0]: [_channel(path, pattern) for path in images]}, []
    taken = {path for files in belong.values() for path in files}
    channels = {p: _channels(p, files, pattern) for p, files in belong.items()}
    return channels, [path for path in images if path not in taken]


def _of_names(
    labels: Sequence[Path],
    images: Sequence[Path],
    near: Mapping[Path, Sequence[object]],
) -> dict[Path, list[Path]]:
    """Return the images of each label image by names and folders.

    Raises
    ------
    InputError
        If an image might belong to several.
    """
    by_key: dict[object, list[Path]] = defaultdict(list)
    for path in labels:
        for _, key in _keys(path, near[path]):
            by_key[key].append(path)
    ranked: dict[Path, list[tuple[int, Path]]] = defaultdict(list)
    for path in images:
        hits = [(n, by_key[k]) for n, k in _keys(path, near[path]) if k in by_key]
        if not hits:
            continue
        rank, own = hits[0]
        if len(own) > 1:
            named = ", ".join(map(str, own[:MOST_NAMED]))
            raise InputError(
                f"{path} might belong to {len(own)} label images: {named}.",
                hint="Measure one folder at a time.",
            )
        ranked[own[0]].append((rank, path))
    found = {}
    for path, files in ranked.items():
        nearest = min(rank for rank, _ in files)
        found[path] = [image for rank, image in files if rank == nearest]
    return found


def _of_several(
    made: dict[Path, Made],
    images: Sequence[Path],
    near: Mapping[Path, Sequence[object]],
) -> dict[Path, list[Path]]:
    """Return the image of each label image of one of several images in a file.

    Raises
    ------
    InputError
        If it might be of several files.
    """
    belong: dict[Path, list[Path]] = {}
    by_name: dict[str, list[Path]] = defaultdict(list)
    by_stem: dict[str, list[Path]] = defaultdict(list)
    for path in images:
        by_name[path.name].append(path)
        by_stem[stem(path.name)].append(path)
    for path, (name, settings) in made.items():
        known: dict[Path, str] = {}
        if "image" in settings:
            known = dict.fromkeys(by_name[name], str(settings["image"]))
        elif not name:
            known = _by_scene(path, by_stem)
        for key in range(len(near[path])):
            files = [p for p in known if near[p][key] == near[path][key]]
            if len(files) > 1:
                raise InputError(
                    f"{path} might be of {files[0]} or of {files[1]}.",
                    hint="Measure one folder at a time.",
                )
            if files:
                belong[path] = files
                made[path] = files[0].name, {**settings, "image": known[files[0]]}
                break
    return belong


def _by_scene(path: Path, by_stem: Mapping[str, Sequence[Path]]) -> dict[Path, str]:
    """Return the files of which predict would call an image so, and its number."""
    found: dict[Path, str] = {}
    for own in dict.fromkeys((stem(path.name), bare_stem(path.name))):
        for mark in re.finditer(r"_(\d+)(?=_|$)", own):
            for image in by_stem.get(own[: mark.start()], ()):
                names, number = [], int(mark[1])
                with contextlib.suppress(CellunetError):
                    # It is told when the image is opened.
                    names = names_of_images(image)
                title = names[number] if number < len(names) > 1 else None
                before = own[: mark.start()]
                if title is not None and image_stem(before, number, title) == own:
                    found[image] = str(number)
    return found


def made_of(path: Path) -> Made:
    """Return what is known of labels; nothing if the file cannot be read."""
    with contextlib.suppress(CellunetError):
        made = read_provenance(path) or {}
        settings = made.get("settings", {})
        known = {k: v for k, v in settings.items() if v is not None}
        return str(made.get("input", {}).get("name", "")), known
    return "", {}


def _keys(path: Path, near: Sequence[object]) -> Iterator[tuple[int, object]]:
    """Yield what labels and their images have in common, the surest first.

    Each with the number of that among `near` which it holds.
    """
    stem = shared_stem(path.name)
    names: list[object] = [stem]
    found = channel_file(path.with_name(stem + ".tif"))
    if found is not None:
        _, front, back = found.site
        names += [(front, back), (front + back).rstrip(" _-.")]
    else:
        names.append(output_stem(path))
    for number, where in enumerate(near):
        for name in dict.fromkeys(names):
            yield number, (number, where, name)


def _channel(path: Path, pattern: PlatePattern | None) -> ChannelFile:
    named = output_stem(path)
    known = marker_of(pattern)(path)
    return known or ChannelFile(path, (path.parent, named, ""), named)


def _channels(
    labels: Path, files: Sequence[Path], pattern: PlatePattern | None
) -> list[ChannelFile]:
    """Return the files of the channels of a label image.

    Where they lie in several folders, those are the channels unless names of the files
    tell them.

    Raises
    ------
    InputError
        If the folders are plates, times, ...
    """
    images = [_channel(path, pattern) for path in files]
    if len({path.parent for path in files}) == 1:
        return images
    places = [_place(path, pattern) for path in files]
    for path, place in zip(files, places, strict=True):
        if place != places[0]:
            raise InputError(
                f"{files[0]} and {path} might both be the image of {labels}, but are "
                "no channels of one place.",
                hint="Name the folder of images that the labels belong to, or keep "
                "labels in folders of the same names; folders of channels need a group "
                "in --plate-pattern: (?P<channel>...).",
            )
    marks = {image.name or image.mark for image in images}
    named = any(image.mark == output_stem(image.path) for image in images)
    if len(marks) == len(images) and not named:
        return images
    shared = set.intersection(*(set(_folders(path)) for path in files))
    own = [[n for n in f if n not in shared] or f[-1:] for f in map(_folders, files)]
    apart = ["_".join(names) for names in own]
    return [
        replace(image, name=folder)
        if apart.count(folder) == 1
        else replace(image, name=f"{folder}_{image.name or image.mark}")
        for image, folder in zip(images, apart, strict=True)
    ]


def _folders(path: Path) -> tuple[str, ...]:
    return Path(os.path.abspath(path)).parent.parts  # noqa: PTH100 - links stay


def _place(path: Path, pattern: PlatePattern | None) -> Columns:
    """Return where on a plate an image is; without a pattern, what folders tell."""
    found = (pattern or PlatePattern("imagexpress")).read(path)
    columns = found.columns if found else {}
    return {k: v for k, v in columns.items() if pattern or k in ("time", "plane")}
