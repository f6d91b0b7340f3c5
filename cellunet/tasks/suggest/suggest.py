"""Suggest which crops to annotate next."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cellunet import store
from cellunet.bugs import telling_bugs
from cellunet.config import PredictConfig
from cellunet.errors import BugError, CellunetError, ConfigError, InputError
from cellunet.io.files import writing
from cellunet.io.paths import counted, find_inputs
from cellunet.io.scratch import Scratch
from cellunet.tasks.predict.settings import settings_for
from cellunet.tasks.suggest.choose import (
    Candidate,
    CandidateWindows,
    annotated,
    candidates,
    choose,
    cut_of,
    opened,
)
from cellunet.tasks.suggest.crops import (
    DRAWN,
    CropLabels,
    names_of,
    new_folder,
    refuse_taken,
    without_gaps,
    write_pair,
    write_table,
)
from cellunet.tasks.suggest.request import (
    Hooks,
    Suggested,
    SuggestedCrop,
    SuggestRequest,
    described,
    notes_of,
)
from cellunet.tasks.train.checks import evenly

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from cellunet.store import Model
    from cellunet.tasks.predict.settings import InferenceSettings
    from cellunet.tasks.suggest.choose import Annotated, ChosenWindow

__all__ = ["Hooks", "SuggestRequest", "Suggested", "suggest"]

MOST_NAMED = 5

MOST_WINDOWS = 4096
"""Windows that are compared with each other at most. Of more, only the most doubtful of
each neighborhood are."""


@dataclass(frozen=True, kw_only=True)
class _Run:
    """What is the same for every image."""

    request: SuggestRequest
    model: Model
    recipe: InferenceSettings
    keep: Scratch
    """Where the labels of windows wait."""


@dataclass(frozen=True, kw_only=True)
class _Looked:
    """What came of looking at all images."""

    found: list[Candidate]
    images: int
    small: int
    failures: tuple[tuple[str, str], ...]
    bugs: int


def suggest(request: SuggestRequest, hooks: Hooks | None = None) -> Suggested:
    """Choose crops of images to annotate next, and write them with the model's labels.

    Every image passes through prediction. Its windows are described and compared
    (`cellunet.tasks.suggest.choose`); the chosen ones are
    written to ``images`` and ``labels`` in the output folder, which is training data
    as it is, with a table of why. The same request gives the same files.

    Parameters
    ----------
    request
        What is asked for.
    hooks
        Callbacks for notes, progress and stopping.

    Raises
    ------
    CellunetError
        If nothing can be suggested: no such image, none large enough, none with
        anything in it, a model or an output folder that cannot be used.
    """
    hooks = hooks or Hooks()
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
    _refuse_misfit(request, model, found.files)
    recipe = settings_for(
        model, PredictConfig(), request.engine, request.device, request.threads
    )
    with writing(request.out):
        request.out.parent.mkdir(parents=True, exist_ok=True)
    known = annotated(request, model, recipe)
    names = names_of(found.files, found.base)
    with Scratch(request.out) as keep:
        run = _Run(request=request, model=model, recipe=recipe, keep=keep)
        looked = _look(run, found.files, hooks)
        picked = _pick(request, looked, known)
        crops, channels = _write(run, picked, names)
    notes = (
        *([f"Left out: {counted(found.left_out)}."] if found.left_out else []),
        *found.warnings,
        *notes_of(request, small=looked.small, found=len(crops)),
    )
    for note in notes:
        hooks.on_note(note)
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
    out = os.path.realpath(request.out)
    for folder in request.data:
        data = os.path.realpath(folder)
        if os.path.commonpath([out, data]) in (out, data):
            raise ConfigError(
                f"The crops in {request.out} and the annotated images in {folder} "
                "would lie in each other.",
                hint="Choose a folder next to it for --out: crops count as annotated "
                "only when they are corrected.",
            )


def _refuse_misfit(
    request: SuggestRequest, model: Model, files: Sequence[Path]
) -> None:
    """Refuse images that all lack the model's channels, before anything takes long.

    Whatever else is wrong with an image is reported when its turn comes.
    """
    for path in files:
        try:
            opened(path, request, model).close()
        except ConfigError as error:
            misfit = error
        except CellunetError:
            return
        else:
            return
    raise misfit


def _look(run: _Run, files: Sequence[Path], hooks: Hooks) -> _Looked:
    """Return the windows of all images that show something."""
    request, side = run.request, run.request.config.side_px
    most = MOST_WINDOWS // len(files)
    every: list[Candidate] = []
    failures, small, bugs = [], 0, 0
    for path in hooks.track(files, "Looking at images", len(files)):
        try:
            with (
                telling_bugs(path),
                opened(path, request, run.model) as source,
            ):
                if min(source.shape) < side:
                    small += 1
                    continue
                every += candidates(source, request, run.recipe, most, run.keep)
        except CellunetError as error:
            failures.append((str(path), error.message))
            bugs += isinstance(error, BugError)
            last = error
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
    return _Looked(
        found=every,
        images=images,
        small=small,
        failures=tuple(failures),
        bugs=bugs,
    )


def _pick(
    request: SuggestRequest, looked: _Looked, known: Annotated
) -> list[tuple[Candidate, ChosenWindow]]:
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
    numbers = {path: n for n, path in enumerate(dict.fromkeys(c.path for c in free))}
    looks = np.array([c.seen.look for c in free])
    pool = CandidateWindows(
        doubts=np.array([c.area * c.seen.doubt for c in free]),
        looks=looks,
        images=np.array([numbers[c.path] for c in free]),
        corners=np.array([(c.y, c.x) for c in free]),
        side=request.config.side_px,
    )
    seen = np.array(known.looks).reshape(-1, looks.shape[1])
    return [(free[c.index], c) for c in choose(pool, seen, request.config.crops)]


def _write(
    run: _Run, picked: Sequence[tuple[Candidate, ChosenWindow]], names: dict[Path, str]
) -> tuple[list[SuggestedCrop], tuple[str, ...]]:
    """Write the folder; return what is in it, and of which channels, if of several."""
    crops, request = [], run.request
    about = {"name": run.model.name, "sha256": run.model.sha256}
    with new_folder(request.out, overwrite=request.overwrite) as folder:
        for candidate, choice in picked:
            crop = described(request, candidate, choice, names[candidate.path])
            with opened(candidate.path, request, run.model) as source:
                drawn = CropLabels(
                    kind=request.config.annotations,
                    labels=without_gaps(run.keep.fetch(candidate.labels)),
                    pixel_size_um=source.pixel_size_um,
                    provenance={"suggested_by": about, "image": candidate.path.name},
                )
                cut = cut_of(candidate, source, request.channel, run.recipe)
                at = candidate.plane, candidate.y, candidate.x
                write_pair(folder / crop.name, source, at, cut, drawn)
            crops.append(crop)
        write_table(folder, crops)
    return crops, cut.channel_names if cut.further else ()
