"""Suggest which crops to annotate next, and write them with labels to correct."""

from __future__ import annotations

import contextlib
import csv
import shutil
from collections import Counter
from dataclasses import dataclass, replace
from itertools import count
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

from cellunet import store
from cellunet.bugs import telling_bugs
from cellunet.command_config import ENGINE, PredictConfig
from cellunet.errors import (
    BugError,
    CellunetError,
    ConfigError,
    ImageReadError,
    InputError,
    OutputError,
    some,
)
from cellunet.imaging.measure import Objects
from cellunet.io.files import partial_path, writing
from cellunet.io.images import write_labels
from cellunet.io.label_tiff import write_crop
from cellunet.io.microscopes import scene_paths
from cellunet.io.paths import below, counted, find_inputs, output_stem
from cellunet.io.scratch import Scratch
from cellunet.io.source import Region
from cellunet.outputs.shapes import GeoJson, RoiSet, StackPosition
from cellunet.outputs.tables import quoted, safe_path
from cellunet.progress import silent_track
from cellunet.tasks.predict.inputs import evenly
from cellunet.tasks.predict.settings import settings_for
from cellunet.tasks.suggest import choose
from cellunet.tasks.suggest.request import (
    TABLE,
    Suggested,
    SuggestedCrop,
    SuggestRequest,
    temporary_beside,
)

if TYPE_CHECKING:
    from collections.abc import (
        Callable,
        Hashable,
        Iterable,
        Iterator,
        Mapping,
        Sequence,
    )
    from pathlib import Path, PurePath

    import numpy.typing as npt

    from cellunet.imaging.measure import ObjectBatch
    from cellunet.io.crops import CropMetadata
    from cellunet.io.source import Source
    from cellunet.progress import Track
    from cellunet.store import Model
    from cellunet.tasks.predict.settings import InferenceSettings

MOST_NAMED = 5

MOST_WINDOWS = 4096
"""Windows that are compared with each other at most. Of more, only the most uncertain
of each neighborhood are."""


@dataclass(frozen=True, kw_only=True)
class _Run:
    """What is the same for every image."""

    request: SuggestRequest
    model: Model
    recipe: InferenceSettings
    keep: Scratch
    """Where the labels of windows wait."""


@dataclass(frozen=True, kw_only=True)
class _LookedAt:
    """What came of looking at all images."""

    found: list[choose.Candidate]
    images: int
    small: int
    failures: tuple[tuple[str, str], ...]
    bugs: int


def suggest(request: SuggestRequest, *, track: Track = silent_track) -> Suggested:
    """Choose crops of images to annotate next, and write them with the model's labels.

    Every image passes through prediction. Its windows are described and compared
    (`cellunet.tasks.suggest.choose`); the chosen ones are
    written to ``images`` and ``labels`` in the output folder, which is training data
    as it is, with a table of why. The same request gives the same files.

    Parameters
    ----------
    request
        What is asked for.
    track
        Progress over images.

    Raises
    ------
    CellunetError
        If nothing can be suggested: no such image, none large enough, none with
        anything in it, a model or an output folder that cannot be used.
    """
    _refuse_inside(request)
    refuse_taken(request.out, overwrite=request.overwrite)
    model = store.find_model(request.model)
    found = find_inputs(request.images, exclude=request.out)
    if found.missing:
        named = "; ".join(f"{n}: {why}" for n, why in found.missing[:MOST_NAMED])
        raise InputError(
            f"Not all images that were named are there ({named}).",
            hint="Check the paths.",
        )
    found = found.without([path for path in found.files if found.is_missed(path)])
    if not found.files:
        raise InputError(
            "There are only label images.",
            hint="Give the images that they were made from.",
        )
    _refuse_replaced(request, found.files)
    files = [scene for path in found.files for scene in scene_paths(path) or [path]]
    _refuse_misfit(request, model, files)
    recipe = settings_for(
        model,
        # How sure the network is matters everywhere.
        PredictConfig(no_skip=True),
        ENGINE,
        request.device,
        request.threads,
    )
    with writing(request.out):
        request.out.parent.mkdir(parents=True, exist_ok=True)
    known = choose.annotated(request, model, recipe)
    names = names_of(files, found.base)
    with Scratch(temporary_beside(request.out)) as keep:
        run = _Run(request=request, model=model, recipe=recipe, keep=keep)
        looked = _look(run, files, track)
        picked = _pick(request, looked, known)
        crops, channels = _write(run, picked, names)
    notes = (
        *([f"Left out: {counted(found.left_out)}."] if found.left_out else []),
        *found.warnings,
        *notes_of(request, small=looked.small, found=len(crops)),
    )
    return Suggested(
        out=request.out,
        model=model.name,
        sha256=model.sha256,
        images=looked.images,
        annotations=DRAWN[request.config.annotations].folder,
        crops=tuple(crops),
        channels=channels,
        failures=looked.failures,
        bugs=looked.bugs,
        notes=notes,
    )


def _refuse_inside(request: SuggestRequest) -> None:
    """Refuse crops that would lie in, or around, what is annotated."""
    out = request.out.resolve()
    for folder in request.data:
        if one_holds_other(out, folder.resolve()):
            raise ConfigError(
                f"The crops in {request.out} and the annotated images in {folder} "
                "would lie in each other.",
                hint="Choose a folder next to it for --out: crops count as annotated "
                "only when they are corrected.",
            )


def one_holds_other(first: PurePath, second: PurePath) -> bool:
    """Return whether one of two folders lies in the other, or is it."""
    return first.is_relative_to(second) or second.is_relative_to(first)


def _refuse_misfit(
    request: SuggestRequest, model: Model, files: Sequence[Path]
) -> None:
    """Refuse images that all lack the model's channels, before anything takes long.

    Whatever else is wrong with an image is reported when its turn comes.
    """
    for path in files:
        try:
            choose.opened(path, request, model).close()
        except ConfigError as error:
            misfit = error
        except CellunetError:
            return
        else:
            return
    raise misfit


def _look(run: _Run, files: Sequence[Path], track: Track) -> _LookedAt:
    """Return the windows of all images that show something."""
    request, side = run.request, run.request.config.side_px
    most = MOST_WINDOWS // len(files)
    every: list[choose.Candidate] = []
    failures, small, bugs = [], 0, 0
    for path in track(files, "Looking at images", len(files)):
        try:
            with (
                telling_bugs(path),
                choose.opened(path, request, run.model) as source,
            ):
                if min(source.shape) < side:
                    small += 1
                    continue
                windows = choose.candidates(source, request, run.recipe, most, run.keep)
                # Of a scene, its source names the whole file. All are found before any
                # is kept: a stack may fail at a later plane.
                every += [replace(window, path=path) for window in windows]
        except (CellunetError, MemoryError) as error:
            last = error if isinstance(error, CellunetError) else _too_large(path)
            failures.append((str(path), last.message))
            bugs += isinstance(last, BugError)
    images = len(files) - small - len(failures)
    if not images:
        if failures and not small:
            raise last
        raise InputError(
            f"None of the {len(files)} images is as large as a crop, {side} x "
            f"{side} pixels"
            + (f"; {len(failures)} cannot be read." if failures else "."),
            hint="Ask for smaller crops: side_px below [suggest] in a file for "
            "--config.",
        )
    return _LookedAt(
        found=every,
        images=images,
        small=small,
        failures=tuple(failures),
        bugs=bugs,
    )


def _too_large(path: Path) -> CellunetError:
    return ImageReadError(
        f"{path} does not fit into memory.",
        hint="Cut it into smaller images, or close other programs.",
    )


def _pick(
    request: SuggestRequest, looked: _LookedAt, known: choose.Annotated
) -> list[tuple[choose.Candidate, choose.ChosenWindow]]:
    """Return the windows to annotate, in the order of their worth."""
    if not looked.found:
        raise InputError(
            f"In none of the {looked.images} images the model finds, or suspects, an "
            "object.",
            hint="Are they of the right channel (--channel)? Another model may see "
            "more: --model NAME.",
        )
    free = [c for c in looked.found if not known.holds(c)]
    if not free:
        raise InputError(
            "All that the images show is annotated already.",
            hint="Name other images.",
        )
    free = evenly(free, MOST_WINDOWS)
    looks = np.array([c.seen.look for c in free])
    pool = choose.CandidateWindows(
        uncertainties=np.array([c.area * c.seen.uncertainty for c in free]),
        looks=looks,
        images=_numbers(c.path for c in free),
        fields=_numbers(c.field for c in free),
        corners=np.array([c.corner for c in free]),
        side=request.config.side_px,
        beside=np.array([known.lies_beside(c) for c in free]),
    )
    seen = np.array(known.looks).reshape(-1, looks.shape[1])
    return [(free[c.index], c) for c in choose.choose(pool, seen, request.config.crops)]


def _numbers(keys: Iterable[Hashable]) -> npt.NDArray[np.int64]:
    """Return a number for each key, from 0, the same for equal ones."""
    known: dict[Hashable, int] = {}
    return np.array([known.setdefault(key, len(known)) for key in keys])


def _write(
    run: _Run,
    picked: Sequence[tuple[choose.Candidate, choose.ChosenWindow]],
    names: dict[Path, str],
) -> tuple[list[SuggestedCrop], tuple[str, ...]]:
    """Write the folder; return what is in it, and of which channels, if of several."""
    crops, taken, request = [], {""}, run.request
    about = {"name": run.model.name, "sha256": run.model.sha256}
    with new_folder(request.out, overwrite=request.overwrite) as folder:
        for candidate, choice in picked:
            crop = described(request, candidate, choice, names[candidate.path])
            # Plane 1 of a.tif and the image a_p1.tif would be called the same.
            tried = (f"{crop.name}-{k}" if k > 1 else crop.name for k in count(1))
            name = next(name for name in tried if name.casefold() not in taken)
            taken.add(name.casefold())
            crop = replace(crop, name=name)
            with choose.opened(candidate.path, request, run.model) as source:
                drawn = CropLabels(
                    kind=request.config.annotations,
                    labels=without_gaps(run.keep.fetch(candidate.labels)),
                    pixel_size_um=source.pixel_size_um,
                    provenance={"suggested_by": about, "image": candidate.path.name},
                )
                cut = choose.cut_of(candidate, source, request.channel, run.recipe)
                at = candidate.plane, candidate.y, candidate.x
                write_pair(folder / crop.name, source, at, cut, drawn)
            crops.append(crop)
        write_table(folder, crops)
    return crops, cut.channel_names if len(cut.channels) > 1 else ()


NOVEL = 0.5
"""Novelty from which on a crop is reported as unlike what is annotated."""


def described(
    request: SuggestRequest,
    candidate: choose.Candidate,
    choice: choose.ChosenWindow,
    name: str,
) -> SuggestedCrop:
    """Return the description of a chosen window; `name` begins its files."""
    seen, side = candidate.seen, request.config.side_px
    plane = f"_p{candidate.plane}" if candidate.plane else ""
    return SuggestedCrop(
        name=f"{name}{plane}_y{candidate.y}_x{candidate.x}",
        image=str(candidate.path),
        plane=candidate.plane,
        y=candidate.y,
        x=candidate.x,
        height=side,
        width=side,
        uncertainty=seen.uncertainty,
        novelty=choice.novelty,
        share=choice.share,
        objects=seen.objects,
        unsure=seen.unsure,
        why=_why(candidate, choice),
    )


def _why(candidate: choose.Candidate, choice: choose.ChosenWindow) -> str:
    """Return in words why a window was chosen."""
    seen = candidate.seen
    if not seen.objects:
        first = "no object found, but something suspected"
    elif seen.unsure:
        first = f"unsure of {seen.unsure} of {seen.objects} objects"
    else:
        first = f"{seen.objects} objects, unsure of their edges"
    parts = [first, f"stands for {choice.share:.0%} of all uncertainty"]
    if choice.novelty >= NOVEL:
        parts.append("unlike what is annotated or listed above")
    return "; ".join(parts)


def notes_of(request: SuggestRequest, *, small: int, found: int) -> tuple[str, ...]:
    """Return what to know: of so many images too small, and so many crops found."""
    side, notes = request.config.side_px, []
    if small:
        notes.append(
            f"Left out, as smaller than {side} x {side} pixels: "
            + ("1 image." if small == 1 else f"{small} images.")
        )
    if found < request.config.crops:
        notes.append(
            f"Only {found} of {request.config.crops} crops were found that show "
            "something and do not overlap."
        )
    return tuple(notes)


@dataclass(frozen=True, kw_only=True)
class CropLabels:
    """What a model found in one crop."""

    kind: str
    """Name in `DRAWN`."""
    labels: npt.NDArray[np.uint32]
    """YX, 0 background, objects from 1 without gaps."""
    pixel_size_um: tuple[float, float] | None
    """Height and width of a pixel."""
    provenance: Mapping[str, Any]
    """The provenance that label images hold."""

    def objects(self) -> ObjectBatch:
        """Return the objects with their outlines."""
        areas = np.bincount(self.labels.ravel(), minlength=1)[1:]
        height, width = self.labels.shape
        found = Objects(0, (height, width), areas, pixel_size_um=self.pixel_size_um)
        return found.add(self.labels)


@dataclass(frozen=True)
class DrawnKind:
    """A way to write annotations."""

    folder: str
    """Below the folder of the crops: one in which annotations are looked for."""
    suffix: str
    """Of the file, behind the crop's name."""
    write: Callable[[Path, CropLabels], None]


def without_gaps(labels: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint32]:
    """Return labels numbered from 1 in their order.

    Examples
    --------
    >>> without_gaps(np.array([[0, 7], [3, 7]], np.uint32)).tolist()
    [[0, 2], [1, 2]]
    """
    ids = np.unique(labels[labels > 0])
    numbers = np.searchsorted(ids, labels) + 1
    return np.where(labels > 0, numbers, 0).astype(np.uint32)


def write_drawn_labels(path: Path, drawn: CropLabels) -> None:
    """Write a label image."""
    write_labels(path, drawn.labels, drawn.pixel_size_um, dict(drawn.provenance))


def write_rois(path: Path, drawn: CropLabels) -> None:
    """Write a ROI set of Fiji."""
    rois = RoiSet(path)
    try:
        rois.add(StackPosition(), drawn.objects())
        rois.commit()
    finally:
        rois.abort()


def write_geojson(path: Path, drawn: CropLabels) -> None:
    """Write GeoJSON of QuPath."""
    file = GeoJson(path, path.stem)
    try:
        file.add({}, drawn.objects())
        file.commit()
    finally:
        file.abort()


DRAWN = {
    "labels": DrawnKind("labels", ".tif", write_drawn_labels),
    "rois": DrawnKind("rois", ".zip", write_rois),
    "geojson": DrawnKind("annotations", ".geojson", write_geojson),
}
"""Name in `SuggestConfig.annotations` to kind."""

COLUMNS = (
    "file",
    "image",
    "plane",
    "y",
    "x",
    "uncertainty",
    "novelty",
    "share",
    "objects",
    "unsure",
    "why",
)
"""Of the table."""


def _refuse_replaced(request: SuggestRequest, files: Iterable[Path]) -> None:
    out = request.out.resolve()
    inside = next((p for p in files if p.resolve().is_relative_to(out)), None)
    if inside is not None and (request.out / TABLE).exists():
        raise OutputError(
            f"{inside} is read, and --overwrite would remove it with {request.out}.",
            hint="Choose another --out.",
        )


def refuse_taken(out: Path, *, overwrite: bool) -> None:
    """Refuse a folder that holds anything but crops that may be replaced.

    Raises
    ------
    OutputError
        If `out` is a file, or a folder that is not empty and is not to be replaced or
        was not made by this.
    """
    if out.is_file():
        raise OutputError(
            f"{out} is a file; a folder for the crops is needed.",
            hint="Choose another --out.",
        )
    if not out.is_dir() or not _members(out):
        return
    # A folder that holds more is not for this to empty.
    others = _others(out)
    ours = not others
    if ours and overwrite:
        return
    raise OutputError(
        f"{out} exists and holds "
        + (
            "crops that were suggested before."
            if ours
            else f"other files: {some(p.relative_to(out) for p in others)}."
        ),
        hint="Choose another --out"
        + (
            ", or replace them with --overwrite; corrected labels in it are lost then."
            if ours
            else "; only a folder of suggested crops can be replaced."
        ),
    )


def _others(out: Path) -> list[Path]:
    """Return what lies in a folder and is none of the crops that its table names."""
    try:
        with (out / TABLE).open(encoding="utf-8", newline="") as file:
            names = [PurePosixPath(row["file"]).stem for row in csv.DictReader(file)]
    except (OSError, ValueError, LookupError, TypeError, csv.Error):
        names = []
    places = {out / kind.folder: kind.suffix for kind in DRAWN.values()}
    places[out / "images"] = ".tif"
    known = {at / f"{name}{end}" for at, end in places.items() for name in names}
    known |= {*places, out / TABLE} if names else set()
    inside = (path for at in places if at.is_dir() for path in _members(at))
    return [path for path in (*_members(out), *inside) if path not in known]


def _members(folder: Path) -> list[Path]:
    """Return what lies in a folder, hidden files and folders left out."""
    return [path for path in folder.iterdir() if not path.name.startswith(".")]


@contextlib.contextmanager
def new_folder(out: Path, *, overwrite: bool) -> Iterator[Path]:
    """Yield a temporary folder whose members are moved to `out` once all went well.

    Raises
    ------
    OutputError
        In place of OSError, here and inside the block; and as of `refuse_taken`, if
        another process made the folder meanwhile.
    """
    temporary = partial_path(temporary_beside(out))
    try:
        # Not `out` itself, of which it would be said that it exists.
        with writing(out / TABLE):
            temporary.mkdir(parents=True)
            yield temporary
            refuse_taken(out, overwrite=overwrite)
            _move_to(out, temporary)
    except OutputError as error:
        # Nobody but this knows the folder by its first name.
        message = error.message.replace(str(temporary), str(out))
        raise OutputError(message, hint=error.hint) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _move_to(out: Path, folder: Path) -> None:
    """Put what is in a folder in the place of what is in another; or change nothing.

    A folder that is there stays itself: it may be a disk, or one that a shell is in.
    """
    if not out.exists():
        folder.rename(out)
        return
    old = partial_path(out / "old")
    old.mkdir()
    moved = []
    try:
        for source, target in ((out, old), (folder, out)):
            for path in _members(source):
                moved.append((path, path.rename(target / path.name)))
    except BaseException:
        for path, now in reversed(moved):
            now.rename(path)
        old.rmdir()
        raise
    shutil.rmtree(old, ignore_errors=True)


def write_pair(
    path: Path,
    source: Source,
    at: tuple[int, int, int],
    cut: CropMetadata,
    drawn: CropLabels,
) -> None:
    """Write one crop and what the model found in it.

    Parameters
    ----------
    path
        The folder of crops, and the name of both files without suffix.
    source
        The image that it is cut from.
    at
        Where: plane, first row, first column.
    cut
        What the crop is to remember of its image.
    drawn
        What the model found there.
    """
    folder, name = path.parent, path.name
    height, width = drawn.labels.shape
    plane, y, x = at
    pixels = source.read(Region(plane, y, y + height, x, x + width))
    pixels = pixels[0] if len(pixels) == 1 else pixels
    write_crop(folder / "images" / f"{name}.tif", pixels, cut, source.pixel_size_um)
    kind = DRAWN[drawn.kind]
    kind.write(folder / kind.folder / f"{name}{kind.suffix}", drawn)


def write_table(folder: Path, crops: Sequence[SuggestedCrop]) -> None:
    """Write the table of crops, in the order of their worth."""
    rows = [",".join(map(quoted, COLUMNS))]
    for crop in crops:
        texts = (f"images/{crop.name}.tif", safe_path(crop.image))
        numbers = (crop.plane, crop.y, crop.x)
        shares = (crop.uncertainty, crop.novelty, crop.share)
        cells = [*map(quoted, texts), *map(str, numbers)]
        cells += [f"{share:.4f}" for share in shares]
        cells += [str(crop.objects), str(crop.unsure), quoted(crop.why)]
        rows.append(",".join(cells))
    with writing(folder / TABLE):
        (folder / TABLE).write_text("\n".join(rows) + "\n", encoding="utf-8")


def names_of(files: Sequence[Path], base: Path) -> dict[Path, str]:
    """Return what the crops of each image begin with: its stem, if no other has it.

    Images of the same stem in several folders are distinguished by their path below
    `base`, with ``-`` between folders, and those that still share it by a number.
    """
    stems = {path: output_stem(path) for path in files}
    names: dict[Path, str] = {}
    times = Counter(name.casefold() for name in stems.values())
    taken: Counter[str] = Counter()
    for path, name in stems.items():
        if times[name.casefold()] > 1:
            folders = below(path, base).parent.parts
            name = "-".join((*folders, name))
        taken[name.casefold()] += 1
        again = taken[name.casefold()]
        names[path] = f"{name}-{again}" if again > 1 else name
    return names
