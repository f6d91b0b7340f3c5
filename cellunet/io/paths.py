"""From files, folders, patterns and lists to inputs and outputs.

Thumbnails and projections that a microscope's program exports, planes that it stores
several times, label images, and files of formats that are not read.

And from these to the result files, every clash found before any work is done.
"""

from __future__ import annotations

import contextlib
import filecmp
import fnmatch
import glob
import os
import re
import stat
import unicodedata
from collections import Counter
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import tifffile

from cellunet.errors import ImageReadError, InputError
from cellunet.io.images import FOLDERS, JPEGS, READERS, TIFFS, suffix_of
from cellunet.io.label_tiff import is_written_by_cellunet
from cellunet.io.microscopes import MAKERS, is_installed, what_to_install
from cellunet.io.source import reading
from cellunet.io.zarr_store import address, is_zarr, zarr_format

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
    from typing import TextIO

IMAGE_SUFFIXES = (".tiff", ".tif", ".btf", ".png", ".zarr")
"""Of pixels that programs for annotation read and write."""

OTHER_SUFFIXES = tuple(suffix for suffix in READERS if suffix not in IMAGE_SUFFIXES)
"""Of images alone: where one of `IMAGE_SUFFIXES` has the same name, that one counts."""

SHAPES_SUFFIXES = (".geojson.gz", ".geojson", ".json", ".roi", ".zip")
"""Of shapes rather than pixels."""

NAPARI_SUFFIX = ".csv"
"""Of a table that holds shapes of napari if it begins as `NAPARI_HEAD`."""

NAPARI_HEAD = b"index,shape-type,vertex-index,axis-0"

IMAGE_FOLDERS = ("images", "image", "imgs", "img", "jpegimages", "raw")
"""Folders of images beside one of `DRAWN_FOLDERS`, in any case."""

DRAWN_FOLDERS = (
    "labels",
    "label",
    "masks",
    "mask",
    "annotations",
    "annotation",
    "rois",
    "ground_truth",
    "gt",
    "segmentationobject",
)
"""Folders of annotations beside those of images, in any case; the last is CVAT's and
Pascal VOC's."""

MADE_FOLDERS = ("classes", "weights", "previews", "annotated", "scribbles")
"""Folders that make-labels writes beside ``labels``."""

TRAINING_SETS = ("train", "training")

VALIDATION_SETS = ("val", "valid", "validation", "test", "testing")

_ANNOTATION_END = re.compile(
    r"(?<=.)(?:_cp_masks|(?: - |[ _.-])(?:masks?|labels?|seg|segmentation|gt|rois"
    r"|roiset|shapes|annotations?|object identities|object predictions"
    r"|simple segmentation)(?: ?\[\d+\])?)$",
    re.IGNORECASE,
)
"""Ends of the names of annotations; napari proposes ``a - Labels [1]``, ilastik
``a_Object Identities``."""

_IMAGE_END = re.compile(r"(?<=.)[ _.-](?:imgs?|images?|raw)$", re.IGNORECASE)

_START = re.compile(
    r"^(?:t(?=\d+$)|(?:man_seg|man_track|masks?|labels?|seg|gt|imgs?|images?)"
    r"(?:[ _-]|(?=\d+$)))(?=.)",
    re.IGNORECASE,
)
"""Starts of the names of images and of annotations: ``t000`` and ``man_seg000`` (Cell
Tracking Challenge), ``img_01`` and ``mask_01``."""

ARRAY_SUFFIX = ".npy"
"""Of NumPy's arrays, which can be label images."""

CELLPOSE = "_seg.npy"
"""A pickled object, which is refused when it is read."""

COMPANIONS = (
    "_outlines_cp_masks",
    "_flows_cp_masks",
    "_cp_outlines",
    "_annotated",
    "_scribbles",
)
"""Ends of files beside images that are neither image nor labels: pictures that
Cellpose draws, which part of an image is annotated, and scribbles."""

RESULTS = re.compile(
    r"(?<=.)_(?:outlines_cp_masks|flows_cp_masks|cp_outlines|cp_flows|flows|classes"
    r"|probabilities|outlines(?:_\d+)?)$",
    re.IGNORECASE,
)
"""Ends of what cellunet and Cellpose write beside label images, never images."""

ONLY_SET = ("roiset", "shapes")
"""What Fiji's ROI Manager and napari call a file of shapes unless told otherwise."""


def is_image_file(path: Path) -> bool:
    """Return whether `path` is a visible file that is named like an image."""
    return _is_named(path, (*IMAGE_SUFFIXES, *OTHER_SUFFIXES))


def is_folder(path: Path) -> bool:
    """Return whether a path is a folder, and not one image as an OME-Zarr is."""
    return path.is_dir() and not is_image_file(path)


def is_drawn_file(path: Path) -> bool:
    """Return whether `path` is a visible file of drawn shapes, by name.

    A table is one by its content: those of measurements lie beside images, too.
    """
    if _is_named(path, (NAPARI_SUFFIX,)):
        with contextlib.suppress(OSError), path.open("rb") as file:
            return NAPARI_HEAD in file.read(len(NAPARI_HEAD) + 3)
    return _is_named(path, SHAPES_SUFFIXES)


def is_array_file(path: Path) -> bool:
    """Return whether `path` is a visible array of NumPy, and not Cellpose's pickle."""
    return _is_named(path, (ARRAY_SUFFIX,)) and not path.name.lower().endswith(CELLPOSE)


def is_annotation_file(path: Path) -> bool:
    """Return whether `path` is a visible file that can be an annotation."""
    return _is_named(path, (*IMAGE_SUFFIXES, ARRAY_SUFFIX)) or is_drawn_file(path)


def _is_named(path: Path, suffixes: tuple[str, ...]) -> bool:
    if path.name.startswith(".") or not path.name.lower().endswith(suffixes):
        return False
    return path.suffix.lower() in FOLDERS or path.is_file()


def stem(name: str) -> str:
    """Return a file name without image suffix, accents in composed form.

    macOS hands out decomposed accents, so that ``ü.tif`` and its partner can differ.

    Examples
    --------
    >>> stem("plate 3.w1.OME.TIF")
    'plate 3.w1'
    """
    suffixes = (*IMAGE_SUFFIXES, *OTHER_SUFFIXES)
    bare = _without(unicodedata.normalize("NFC", name), suffixes)
    return _without(bare, (".ome",))


def annotation_stem(name: str) -> str:
    """Return the name of an annotation file without its suffixes.

    QuPath and Fiji append to the whole name of an image.

    Examples
    --------
    >>> annotation_stem("a.tif.geojson"), annotation_stem("a_RoiSet.zip")
    ('a', 'a_RoiSet')
    """
    suffixes = (*SHAPES_SUFFIXES, ARRAY_SUFFIX, NAPARI_SUFFIX)
    bare = _without(unicodedata.normalize("NFC", name), suffixes)
    return stem(bare)


def bare_stem(name: str) -> str:
    """Return the `annotation_stem` without the suffix that marks an annotation.

    Examples
    --------
    >>> bare_stem("a_01_masks.png"), bare_stem("a_RoiSet.zip")
    ('a_01', 'a')
    >>> bare_stem("a.ome_cp_masks.png"), bare_stem("a - Labels.tif")
    ('a', 'a')
    """
    whole = annotation_stem(name)
    bare = _ANNOTATION_END.sub("", whole)
    return whole if bare == whole else stem(bare)


def shared_stem(name: str) -> str:
    """Return what is left of a name without the marks of images and of annotations.

    Examples
    --------
    >>> shared_stem("001_img.png"), shared_stem("001_masks.png")
    ('001', '001')
    >>> shared_stem("t003.tif"), shared_stem("man_seg003.tif")
    ('003', '003')
    """
    return _IMAGE_END.sub("", _START.sub("", bare_stem(name), count=1))


def starts_as_annotation(name: str) -> bool:
    """Return whether a name starts with the mark of an annotation, as ``mask_01``."""
    start = _START.match(annotation_stem(name))
    return start is not None and not start[0].lower().startswith(("t", "im"))


def is_companion(name: str) -> bool:
    """Return whether a file beside images is neither an image nor its labels."""
    return stem(name).lower().endswith(COMPANIONS)


def without_results(files: list[Path]) -> list[Path]:
    """Return files without the pictures and maps that lie beside label images.

    They count as such where the image or the label image that they belong to is among
    the files of their folder: an image may be called ``a_classes`` as well.
    """
    names = {(p.parent, bare_stem(p.name)) for p in files}

    def is_result(path: Path) -> bool:
        whole = stem(path.name)
        owner = RESULTS.sub("", whole)
        return owner != whole and (path.parent, bare_stem(owner)) in names

    return [p for p in files if not is_companion(p.name) and not is_result(p)]


def _without(name: str, suffixes: tuple[str, ...]) -> str:
    lower = name.lower()
    if lower.endswith(suffixes):
        for suffix in suffixes:
            if lower.endswith(suffix) and len(name) > len(suffix):
                return name[: -len(suffix)]
    return name


def subfolders(folder: Path, names: tuple[str, ...]) -> list[Path]:
    """Return the folders in `folder` of these names in any case, in their order."""
    if not folder.is_dir():
        return []
    found = [p for p in folder.iterdir() if p.name.lower() in names and p.is_dir()]
    return sorted(found, key=lambda p: (names.index(p.name.lower()), p.name))


def image_files(folder: Path) -> list[Path]:
    """Return the image files directly in `folder`, sorted; none if it is no folder."""
    if not folder.is_dir():
        return []
    found = [p for p in folder.iterdir() if is_image_file(p)]
    names = {stem(p.name) for p in found if p.name.lower().endswith(IMAGE_SUFFIXES)}
    return sorted(
        p
        for p in found
        if p.name.lower().endswith(IMAGE_SUFFIXES) or stem(p.name) not in names
    )


def annotation_files(folder: Path) -> list[Path]:
    """Return what can be annotations directly in `folder`, sorted."""
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if is_annotation_file(p))


def output_paths(
    files: Sequence[Path], base: Path, out: Path, suffix: str | None = None
) -> dict[Path, Path]:
    """Return the result file of every image: its tree below `base`, moved to `out`.

    Parameters
    ----------
    files
        Images below `base`.
    base
        Their common folder.
    out
        Folder of the results.
    suffix
        What takes the place of the images' suffix (``.ome.tif``, ``_table.csv``, ...);
        None: that of the label image.

    Returns
    -------
    dict
        Image to result, in the order of `files`.

    Raises
    ------
    InputError
        If two images would write one file (upper and lower case count as the same,
        because they are on Windows and macOS), if a result would replace an input, or
        if a folder is in the way.

    Examples
    --------
    >>> paths = output_paths([Path("/in/a/b.ome.tif")], Path("/in"), Path("/out"))
    >>> [p.parts[-2:] for p in paths.values()]
    [('a', 'b.tif')]
    """
    images = {file_key(path): path for path in files}
    taken: dict[str, Path] = {}
    results: dict[Path, Path] = {}
    for path in files:
        result = out / below(path, base).parent / _result_name(path, suffix)
        key = file_key(result)
        if key in taken:
            raise InputError(
                f"{taken[key]} and {path} would both write {result}.",
                hint="Rename one, or run on them one at a time with different --out.",
            )
        if key in images:
            raise InputError(
                f"The result of {path} would replace the input {images[key]}.",
                hint="Choose another folder with --out.",
            )
        taken[key] = path
        results[path] = result
    checked = {out.parent}
    for path, result in results.items():
        _check_way(path, result, taken, checked)
    return results


def _result_name(path: Path, suffix: str | None) -> str:
    if suffix is None:
        # Whose image is a folder wants its labels in one.
        suffix = suffix_of(path) if suffix_of(path) in FOLDERS else ".tif"
    return output_stem(path) + suffix


def output_stem(path: Path) -> str:
    """Return a file's name without its image suffix.

    Examples
    --------
    >>> output_stem(Path("well A1.v2.ome.tif")), output_stem(Path("a.b"))
    ('well A1.v2', 'a')
    """
    name = path.stem
    if (
        path.suffix.lower() in (*TIFFS, *FOLDERS)
        and name.lower().endswith(".ome")
        and len(name) > len(".ome")
    ):
        name = name[: -len(".ome")]
    return name


def below(path: Path, base: Path) -> Path:
    """Return a path relative to a folder that it lies in; of an address its name.

    Raises
    ------
    InputError
        If it does not.
    """
    if address(path):
        return Path(path.name)
    full = Path(os.path.abspath(path))  # noqa: PTH100 - links are not resolved
    try:
        return full.relative_to(os.path.abspath(base))  # noqa: PTH100
    except ValueError as error:
        raise InputError(
            f"{path} does not lie below {base}.", hint="Name another common folder."
        ) from error


def file_key(path: Path) -> str:
    """Return what two names of one file have in common on any file system."""
    return folded(os.path.realpath(path))


def folded(path: Path | str) -> str:
    """Return what two spellings of a path have in common on any file system."""
    return unicodedata.normalize("NFC", str(path)).casefold()


def _check_way(
    path: Path, result: Path, taken: dict[str, Path], checked: set[Path]
) -> None:
    """Refuse a folder in a result's place, or a file where a folder is needed."""
    # Path.is_dir and Path.exists may raise where a folder may not be entered; that is
    # for the writer to report.
    if os.path.isdir(result) and result.suffix.lower() not in FOLDERS:  # noqa: PTH112
        raise InputError(
            f"The result of {path} would be {result}, but that is a folder.",
            hint="Rename the folder, or choose another one with --out.",
        )
    for folder in result.parents:
        if folder in checked:
            break
        checked.add(folder)
        other = taken.get(file_key(folder))
        if other is not None:
            raise InputError(
                f"The results of {other} and {path} are in each other's way: {folder} "
                "would have to be a file and a folder.",
                hint="Rename one of the two.",
            )
        if os.path.isfile(folder):  # noqa: PTH113
            raise InputError(
                f"The result of {path} would go into {folder}, which is a file.",
                hint="Choose another folder with --out.",
            )


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
    "jpegs": ("JPEG picture", "JPEG pictures"),
    "exported": (
        "microscope's file or Zarr beside an image of its name",
        "microscopes' files or Zarrs beside images of their names",
    ),
}
"""What `PredictConfig.include` takes, and what one and several are called."""

MICROSCOPES = (
    *(".lifext", ".lof", ".xlef", ".zvi", ".nd", ".vsi", ".ets", ".ndpi", ".svs"),
    *(".scn", ".mrxs", ".bif", ".vms", ".sld", ".sldy", ".flex", ".c01", ".ics"),
    *(".ids", ".mvd2", ".pic", ".spe", ".n5"),
)
"""Formats of microscopes' programs, and of large images, that nothing here reads."""

PICTURES = (".jp2", ".j2k", ".bmp", ".gif", ".webp", ".heic")
"""Formats of pictures, most of which alter intensities."""

_OIF_FOLDER = ".oif.files"

_KNOWN = {*MICROSCOPES, *PICTURES}

_THUMB = re.compile(r"_thumb(?:[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})?$", re.I)

_WAVELENGTH = re.compile(r"_w\d+_thumb", re.I)

_GUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$", re.I)

_STEP = re.compile(r"zstep_(\d+)$", re.I)

_THUMB_MARK = b"HTSThumbHTS"

_SEQUENCE = re.compile(r"(\d+)_(?:GT|ST|RES|ERR_SEG)$")

_CERTAIN = re.compile(rf"(?<=.)_(?:cp_)?masks$|{RESULTS.pattern}", re.IGNORECASE)

_METADATA_BYTES = 2**16

NAMES_SHOWN = 3
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
        some = ", ".join("/".join(p.parts[-2:]) for p in list(paths)[:NAMES_SHOWN])
        more = ", ..." if len(paths) > NAMES_SHOWN else ""
        told.append(f"{len(paths):,} {KINDS[kind][len(paths) > 1]} ({some}{more})")
    return ", ".join(told)


def note_on(found: Mapping[str, Collection[Path]]) -> str:
    """Return one line that counts what was left out and says how to take it."""
    options = [f"--include {kind}" for kind in found if kind != "exported"]
    ways = [f"To include them anyway: {' '.join(options)}."] if options else []
    if "exported" in found:
        ways.append("To segment one of these instead, name it.")
    return f"Left out: {counted(found)}. {' '.join(ways)}"


def is_unread(name: str) -> bool:
    """Return whether a name is that of an image in a known format that is not read."""
    suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122 - of 100,000 names
    if suffix in MAKERS:
        return not is_readable(suffix)
    return suffix in _KNOWN


@lru_cache
def is_readable(suffix: str) -> bool:
    """Say whether files of a suffix are read, and what reads them is installed."""
    return suffix in READERS and (suffix not in MAKERS or is_installed(suffix))


def note_on_unread(suffixes: Mapping[str, int]) -> str:
    """Return one line that counts files of formats that are not read."""
    listed = ", ".join(f"{n:,} {suffix}" for suffix, n in sorted(suffixes.items()))
    count = sum(suffixes.values())
    return f"{count:,} file{'s'[: count > 1]} of formats that are not read ({listed})"


def way_out(suffixes: Iterable[str]) -> str:
    """Return what to do with files of formats that are not read."""
    known = set(suffixes)
    ways = []
    installs: dict[str, list[str]] = {}
    for suffix in sorted(known & set(MAKERS)):
        installs.setdefault(what_to_install(suffix), []).append(suffix)
    ways += [f"To read {', '.join(those)}: {how}." for how, those in installs.items()]
    if known & set(MICROSCOPES):
        ways.append(
            "Export a microscope's files as OME-TIFF, in its program, with bfconvert "
            "or in Fiji (File, Export, OME-TIFF)."
        )
    if known & set(PICTURES):
        ways.append(
            "Most picture formats alter intensities: export the originals as TIFF or "
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
        if at.name in MADE_FOLDERS and at.parent / "labels" in parents:
            return True
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


def _jpegs(files: Collection[Path], named: Collection[Path]) -> set[Path]:
    """Return pictures that have lost intensities, as people add to their images."""
    del named
    return {p for p in files if p.suffix.lower() in JPEGS}


def _exported(files: Collection[Path], named: Collection[Path]) -> set[Path]:
    """Return microscopes' files whose image was exported into the same folder.

    Both would write one result, or with a Zarr two of one image.
    """
    exports = [p for p in (*files, *named) if _is_named(p, IMAGE_SUFFIXES)]
    pixels = {_place(p) for p in exports}
    flat = {_place(p) for p in exports if p.suffix.lower() not in FOLDERS}
    return {
        p
        for p in files
        if (p.suffix.lower() in MAKERS and _place(p) in pixels)
        or (p.suffix.lower() in FOLDERS and _place(p) in flat)
    }


def _place(path: Path) -> tuple[Path, str]:
    return path.parent, output_stem(path)


_SEARCHES = {
    "thumbs": _thumbs,
    "projections": _projections,
    "labels": _labels,
    "jpegs": _jpegs,
    "exported": _exported,
}

SHOWN = 5
"""Most names listed in one message."""


@dataclass(frozen=True)
class Inputs:
    """The image files that were found."""

    files: list[Path]
    """In the order of the inputs, each folder and pattern in natural order, once."""
    base: Path
    """Their common folder, absolute: where the tree of results starts."""
    missing: list[tuple[str, str]] = field(default_factory=list)
    """What was named but not found or not readable, and why."""
    named: frozenset[Path] = frozenset()
    """Those of `files` that were named one by one."""
    left_out: dict[str, list[Path]] = field(default_factory=dict)
    """What lies in the folders and is no image, by its kind in
    `cellunet.io.paths.KINDS`."""
    warnings: tuple[str, ...] = ()
    """What to look at, in sentences."""
    with_labels: bool = False
    """Whether label images are wanted, too."""

    def is_missed(self, path: Path) -> bool:
        """Return whether a file is a label image of cellunet that nobody named.

        Listing looks into one file a folder; others are asked for before they are
        opened as images.
        """
        certain = self.with_labels or path in self.named
        return not certain and is_written_by_cellunet(path)

    def without(self, labels: Collection[Path]) -> Inputs:
        """Return the inputs without files that are label images after all."""
        if not labels:
            return self
        gone = set(labels)
        return replace(
            self,
            files=[path for path in self.files if path not in gone],
            left_out=self.left_out
            | {"labels": [*self.left_out.get("labels", ()), *labels]},
        )


def find_inputs(
    inputs: Sequence[str],
    stdin: TextIO | None = None,
    *,
    exclude: Path | None = None,
    include: Collection[str] = (),
) -> Inputs:
    """Find the image files that `inputs` name.

    Parameters
    ----------
    inputs
        Files; folders, of which all image files are taken, at any depth, hidden ones
        aside; patterns with ``*``, ``?``, ``[...]`` and ``**`` that the shell left;
        and ``-`` for a list of these on `stdin`, one a line, or separated by NUL.
    stdin
        The list for ``-``.
    exclude
        A folder that folders and patterns leave out: that of the results, so that a
        second run does not take the first one's results for images. What is searched
        for in it itself, is not left out.
    include
        Kinds of `cellunet.io.paths.KINDS` that are taken from folders and
        patterns as well; what is named itself always is.

    Returns
    -------
    Inputs
        What is missing is listed in it: one lost file must not stop the others.

    Raises
    ------
    InputError
        If there is no file at all, or if files have no common folder.
    """
    search = _Search(os.path.realpath(exclude) if exclude is not None else None)
    for text in _listed(inputs, stdin):
        search.add(text)
    named = [path for key, path in search.files.items() if key in search.named]
    others = [path for key, path in search.files.items() if key not in search.named]
    out = left_out(others, named, include)
    gone = {path for paths in out.values() for path in paths}
    files = [path for path in search.files.values() if path not in gone]
    if not files:
        raise _nothing(search, out)
    return Inputs(
        files,
        _common(search.anchors or {os.getcwd()}),  # noqa: PTH109 - a text
        search.missing,
        named=frozenset(named),
        left_out=out,
        warnings=tuple(_warnings(search.unread, left_out(named, (), include))),
        with_labels="labels" in include,
    )


def natural_key(path: str) -> list[tuple[int, int, str]]:
    """Return a sort key by which ``t2.tif`` comes before ``t10.tif``.

    Examples
    --------
    >>> sorted(["t10.tif", "t2.tif", "T1.tif"], key=natural_key)
    ['T1.tif', 't2.tif', 't10.tif']
    """
    parts = re.split(r"([0-9]+)", unicodedata.normalize("NFC", path))
    key = [
        (0, int(part), "") if k % 2 else (1, 0, part.casefold())
        for k, part in enumerate(parts)
    ]
    # Names that differ only in case or leading zeros still have one order.
    return [*key, (2, 0, path)]


def _listed(inputs: Sequence[str], stdin: TextIO | None) -> Iterator[str]:
    """Yield the inputs, ``-`` replaced by the lines of `stdin`."""
    for text in inputs:
        if text != "-":
            yield text
            continue
        if stdin is None:
            raise InputError(
                "The input '-' is a list on standard input, but there is none.",
                hint="Try: ls *.tif | cellunet predict - --out DIR.",
            )
        # Windows shells may put a byte order mark first. Only real line ends count:
        # file names may hold other characters that Unicode calls line breaks.
        content = stdin.read().removeprefix("\ufeff")
        lines = content.split("\0" if "\0" in content else "\n")
        yield from (line.rstrip("\r\n") for line in lines if line.strip())


class _Search:
    """Collects files, each once."""

    def __init__(self, exclude: str | None) -> None:
        self.files: dict[str, Path] = {}
        self.anchors: set[str] = set()
        self.missing: list[tuple[str, str]] = []
        self.named: set[str] = set()
        self.unread: Counter[str] = Counter()
        self._exclude = exclude

    def add(self, text: str) -> None:
        """Add what one input names."""
        path = Path(text)
        if address(text):
            self._add_address(text)
            return
        try:
            mode = path.stat().st_mode
        except (OSError, ValueError) as error:
            self._add_absent(text, error)
            return
        if stat.S_ISDIR(mode) and is_unread(path.name):
            self.missing.append((text, "an image in a format that is not read"))
        elif stat.S_ISDIR(mode) and not _is_one_image(path):
            self._add_folder(path, text)
        elif stat.S_ISDIR(mode) or stat.S_ISREG(mode):
            self.named.add(self._add_file(path, str(path.parent)))
        else:
            self.missing.append((text, "neither a file nor a folder"))

    def _add_address(self, text: str) -> None:
        """Add a store on a server, which is looked for when it is opened."""
        path = Path(address(text))
        if path.suffix.lower() in READERS and path.suffix.lower() not in FOLDERS:
            self.missing.append((text, "on a server; only OME-Zarr is read from there"))
        else:
            # Its results lie directly in the folder of all.
            key = address(path)
            self.files.setdefault(key, path)
            self.named.add(key)

    def _add_absent(self, text: str, error: OSError | ValueError) -> None:
        if glob.has_magic(text):
            self._add_pattern(text)
        elif not isinstance(error, FileNotFoundError | NotADirectoryError):
            reason = error.strerror if isinstance(error, OSError) else str(error)
            self.missing.append((text, reason or "unreadable"))
        elif Path(text).is_symlink():
            self.missing.append((text, "a link to a file that does not exist"))
        else:
            self.missing.append((text, "no such file or folder"))

    def _add_file(self, path: Path, anchor: str) -> str:
        key = os.path.normcase(os.path.realpath(path))
        self.files.setdefault(key, path)
        self.anchors.add(os.path.abspath(anchor))  # noqa: PTH100 - not resolved
        return key

    def _add_unread(self, names: list[str]) -> None:
        visible = (n for n in names if is_unread(n) and not n.startswith("."))
        self.unread.update(Path(name).suffix.lower() for name in visible)

    def _add_folder(self, folder: Path, text: str) -> None:
        told = len(self.missing)
        found = self._walk(folder, self._excluded_from(folder))
        for path in found:
            self._add_file(path, str(folder))
        if not found and len(self.missing) == told:
            reason = f"a folder without an image ({', '.join(READERS)})"
            self.missing.append((text, reason))

    def _add_pattern(self, text: str) -> None:
        found: list[Path] = []
        parts = Path(text).parts
        fixed = next(k for k, part in enumerate(parts) if glob.has_magic(part))
        root = Path(*parts[:fixed])
        out = self._excluded_from(root)
        for path in self._matches(text, fixed, out):
            if _lies_in(path.parent, out):
                continue
            if _is_folder_image(path.name):
                found.append(path)
            elif is_unread(path.name):
                self._add_unread([path.name])
            elif os.path.isdir(path):  # noqa: PTH112 - False if it may not be read
                found += self._walk(path, out)
            elif _is_image(path):
                found.append(path)
        for path in found:
            # Where the pattern begins, so that folders that come later move no result.
            self._add_file(path, str(root))
        if not found:
            self.missing.append((text, "no image fits this pattern"))

    def _matches(self, text: str, fixed: int, out: str | None) -> list[Path]:
        """Return the files and folders that fit a pattern, in natural order."""
        parts = Path(text).parts
        if "**" not in parts:
            names = glob.glob(text)  # noqa: PTH207 - which cannot be absolute
            return [Path(n) for n in sorted(names, key=natural_key)]
        # The standard library follows links in circles here; `_walk` does not.
        root = Path(*parts[:fixed])
        unread = Counter(self.unread)
        found = self._walk(root, out)
        if parts[-1] not in ("*", "**"):
            # What the pattern does not ask for is no one's loss.
            self.unread = unread
        return [p for p in found if _fits(p.relative_to(root).parts, parts[fixed:])]

    def _excluded_from(self, root: Path) -> str | None:
        """Return what a search that begins in `root` leaves out."""
        return None if _lies_in(root, self._exclude) else self._exclude

    def _walk(self, folder: Path, out: str | None) -> list[Path]:
        """Return the image files below `folder`, following links but no circles.

        A folder `out` is left out.
        """
        found: list[str] = []
        seen = {os.path.realpath(folder)}

        def unreadable(error: OSError) -> None:
            self.missing.append((str(error.filename), error.strerror or "unreadable"))

        for at, folders, names in os.walk(folder, onerror=unreadable, followlinks=True):
            if _lies_in(at, out):
                folders.clear()
                continue
            kept = []
            whole = [name for name in folders if _is_folder_image(name)]
            names += whole
            for name in sorted(set(folders) - set(whole), key=natural_key):
                real = os.path.realpath(os.path.join(at, name))  # noqa: PTH118
                if is_unread(name):
                    names.append(name)
                elif name.lower().endswith(_OIF_FOLDER):
                    # The planes of the OIF beside it.
                    continue
                elif not name.startswith(".") and real not in seen:
                    seen.add(real)
                    kept.append(name)
            folders[:] = kept
            found += [os.path.join(at, name) for name in names]  # noqa: PTH118
            self._add_unread(names)
        images = [p for p in map(Path, sorted(found, key=natural_key)) if _is_image(p)]
        return images


def _lies_in(path: Path | str, folder: str | None) -> bool:
    """Say whether a path is a folder, which is given without links, or lies in it."""
    if folder is None:
        return False
    real = os.path.realpath(path)
    return real == folder or real.startswith(folder.rstrip(os.sep) + os.sep)


def _fits(names: tuple[str, ...], parts: tuple[str, ...]) -> bool:
    """Say whether a relative path's names fit a pattern's parts, ``**`` among them."""
    if not parts or not names:
        return not names and all(part == "**" for part in parts)
    if parts[0] == "**":
        return _fits(names, parts[1:]) or _fits(names[1:], parts)
    return fnmatch.fnmatch(names[0], parts[0]) and _fits(names[1:], parts[1:])


def _is_image(path: Path) -> bool:
    """Say whether a name is not hidden and has an image's suffix."""
    return not path.name.startswith(".") and is_readable(path.suffix.lower())


def _is_folder_image(name: str) -> bool:
    """Say whether a folder of this name is one image, not a folder of images."""
    return not name.startswith(".") and Path(name).suffix.lower() in FOLDERS


def _is_one_image(path: Path) -> bool:
    """Say whether a folder that was named is an image: a Zarr, or a group in one."""
    return _is_folder_image(path.name) or (
        is_zarr(path.absolute()) or zarr_format(path) is not None
    )


def _warnings(unread: Counter[str], named: dict[str, list[Path]]) -> Iterator[str]:
    """Yield what to know of files that are not read, and of some that were named."""
    if unread:
        yield f"Left out: {note_on_unread(unread)}. {way_out(unread)}"
    if named:
        yield f"Taken because they were named one by one: {counted(named)}."


def _nothing(search: _Search, out: dict[str, list[Path]]) -> InputError:
    missing = [f"{text}: {why}" for text, why in search.missing]
    if out:
        missing.append(note_on(out))
    if not missing and not search.unread:
        return InputError(
            "No input was named.", hint="Name images, folders or patterns."
        )
    more = [f"and {len(missing) - SHOWN} more"] if len(missing) > SHOWN else []
    unread = [note_on_unread(search.unread)] if search.unread else []
    shown = "; ".join([*missing[:SHOWN], *more, *unread]).removesuffix(".")
    return InputError(
        f"There is no image to work on ({shown}).",
        hint=way_out(search.unread)
        or f"Name files that exist, or folders with images ({', '.join(READERS)}).",
    )


def _common(folders: set[str]) -> Path:
    try:
        return Path(os.path.commonpath(folders))
    except ValueError as error:
        drives = sorted({os.path.splitdrive(f)[0] for f in folders})
        raise InputError(
            f"The inputs lie on several drives ({', '.join(drives)}), so their results "
            "have no common folder.",
            hint="Run once for each drive.",
        ) from error
