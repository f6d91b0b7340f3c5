"""Parts of a batch (``--part I/N``): what each leaves, and the one table of all.

A part ends with a record: its images, what became of each, and with what they were
made. Whoever joins the parts needs neither the images nor the model.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cellunet.command_config import PredictConfig
from cellunet.errors import InputError, some
from cellunet.io.files import at_work, write_atomically, writing
from cellunet.io.source import Damage
from cellunet.io.zarr_store import address
from cellunet.tasks.predict import outputs
from cellunet.tasks.predict.inputs import (
    ImageResult,
    ImageTarget,
    Predictions,
    common_folder,
    or_lost,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from cellunet.outputs.report import RunSummary
    from cellunet.tasks.predict.places import ImageColumns

    Part = tuple[int, int]

FOLDER = "parts-data"
"""Folder in that of the results that holds a record of each part."""

FORMAT = 4

SAME = {
    "model": "model",
    "engine": "engine",
    "settings": "settings",
    "batch": "list of images",
    "columns": "plate pattern or sheet of samples",
}
"""What parts that belong together have in common, in a record and in words."""

NAME = re.compile(r"(\d+)-of-(\d+)\.json")

AGAIN = (
    "Run these again, each with its --part, or the command without --part, which also "
    "segments what is missing."
)


def made_with(
    files: Sequence[Path],
    columns: Mapping[str, ImageColumns],
    *,
    model: Mapping[str, str],
    engine: str,
    settings: Mapping[str, Any],
) -> dict[str, Any]:
    """Return what a record says of a batch: `SAME`, as it is read again.

    Parameters
    ----------
    files
        Those of the whole batch.
    columns
        Image to its columns; what tells nothing may be missing.
    model, engine, settings
        As in `Predictions`.
    """
    names = _names(files)
    made = {
        "model": model,
        "engine": engine,
        "settings": settings,
        "batch": {"images": len(names), "sha256": _digest(names)},
        "columns": _digest(
            json.dumps((name, own))
            for name, own in columns.items()
            if {*own.values()} - {""}
        ),
    }
    plain: dict[str, Any] = json.loads(json.dumps(made))
    return plain


def begin(
    out: Path,
    part: Part | None,
    made: Mapping[str, Any],
    columns: Mapping[str, ImageColumns],
) -> None:
    """Remove the records that are out of date once a part or a whole batch begins.

    What is killed from now on leaves none, and is missed.

    Parameters
    ----------
    out
        Folder of the results.
    part
        The part that begins, if it is one.
    made
        From `made_with`.
    columns
        Label image to columns of what this call segments.

    Raises
    ------
    OutputError
        If one cannot be removed.
    """
    own = {_below(labels, out): json.dumps(told) for labels, told in columns.items()}
    for number, path in _records(out).items():
        # The parts of one division share no images, so they need no look.
        peer = part is not None and number[1] == part[1]
        if number == part or (
            not peer and _is_outdated(path, made, own, whole=part is None)
        ):
            with writing(path):
                path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        (out / FOLDER).rmdir()


def _is_outdated(
    path: Path,
    made: Mapping[str, Any],
    own: Mapping[str | None, str],
    *,
    whole: bool,
) -> bool:
    """Say whether the record of another part does not hold after this call.

    It is one of the same batch as a whole call, or shares images with this one that
    have other columns from now on, or may be made anew in another way.
    """
    try:
        record = _read(path)
    except InputError:
        # Whoever joins the parts is told.
        return whole
    if whole and record["batch"] == made["batch"]:
        return True
    theirs = {i["output"]: json.dumps(i["columns"]) for i in record["images"]}
    shared = theirs.keys() & own.keys()
    otherwise = any(record[n] != made[n] for n in ("model", "engine", "settings"))
    return any(otherwise or theirs[name] != own[name] for name in shared)


def finish(
    out: Path,
    config: PredictConfig,
    found: Predictions,
    beside: Sequence[ImageResult],
    run: RunSummary | None,
) -> Predictions:
    """Write the tables and the report of a whole batch.

    Parameters
    ----------
    out
        Folder of the results.
    config
        What is saved there.
    found
        What became of all images.
    beside
        The same by what their further files are named after.
    run
        What the report says of it, if one is asked for.

    Raises
    ------
    OutputError
        If there is no room or no permission.
    """
    report, reporter = None, outputs.reporter_for(out, config)
    if reporter is not None and run is not None:
        own = {i.output: o.output for i, o in zip(beside, found.images, strict=True)}
        report = reporter.write(run, beside, own)
    there = [i for i in beside if i.status in ("done", "skipped")]
    labels = [Path(i.output) for i in there if i.output]
    paths = outputs.joined_paths(out, config)
    written = outputs.write_joined(paths, labels, config)
    return replace(
        found, table=written.get("table"), coco=written.get("coco"), report=report
    )


def keep(
    part: Part,
    out: Path,
    made: Mapping[str, Any],
    targets: Iterable[ImageTarget],
    found: Predictions,
    beside: Sequence[ImageResult],
) -> None:
    """Write the record of a part, from which `join` makes what `finish` does.

    Parameters
    ----------
    part
        Its number, and how many there are.
    out
        Folder of the results.
    made
        From `made_with`, with the configuration and what the report says of the run.
    targets
        Images of the whole batch, in its order.
    found, beside
        What became of those of the part, as for `finish`.

    Raises
    ------
    OutputError
        If there is no room or no permission.
    """
    place = _places(targets)
    values = {
        "format": FORMAT,
        **made,
        "seconds": found.seconds,
        "stopped": found.stopped,
        "notes": found.notes,
        "warnings": found.warnings,
        "images": [
            {
                **vars(result),
                "damaged": [vars(damage) for damage in result.damaged],
                "output": _below(result.output, out),
                "beside": _below(own.output, out),
                # What is not there at all comes first, as in a whole batch.
                "number": place.get(own.output or _key(result.input, result.image))
                or (-1, 0),
            }
            for result, own in zip(found.images, beside, strict=True)
        ],
    }
    with write_atomically(_record(out, part)) as path:
        path.write_text(json.dumps(values), encoding="utf-8")


def _places(targets: Iterable[ImageTarget]) -> dict[str, tuple[int, int]]:
    """Return places in the batch by result, and by image for what has none.

    What other parts do may be one target a file, whatever is in it.
    """
    files: dict[Path, int] = {}
    found = {}
    for number, target in enumerate(targets):
        place = files.setdefault(target.path, len(files)), number
        name = address(target.path) or str(target.path)
        found[_key(name, target.image or "")] = found[str(target.output)] = place
    return found


def _key(name: str, image: str) -> str:
    return f"{name}\0{image}"


def join(out: Path) -> Predictions:
    """Make the table, the COCO file and the report of all parts of a batch.

    Parameters
    ----------
    out
        Folder of the results.

    Returns
    -------
    Predictions
        As of a call for all images; the seconds are those of all parts together.

    Raises
    ------
    InputError
        If parts are missing, were stopped, or do not belong together.
    BusyError
        If a part is being written.
    OutputError
        If there is no room or no permission.
    """
    if not out.is_dir() or not _records(out):
        raise InputError(
            f"{out} holds no finished part of a batch.",
            hint="Parts are made by: cellunet predict INPUTS --out DIR --part I/N.",
        )
    with at_work(out):
        parts = _read_all(out)
        images = sorted(
            (image for part in parts for image in part["images"]),
            key=lambda image: tuple(map(int, image["number"])),
        )
        results = [or_lost(_result(image, out)) for image in images]
        beside = [
            replace(result, output=result.output and _within(image["beside"], out))
            for result, image in zip(results, images, strict=True)
        ]
        first, seconds = parts[0], sum(part["seconds"] for part in parts)
        found = Predictions(
            model=first["model"],
            engine=first["engine"],
            settings=first["settings"],
            images=tuple(results),
            seconds=seconds,
            notes=_once(note for part in parts for note in part["notes"]),
            warnings=_once(text for part in parts for text in part["warnings"]),
        )
        config = PredictConfig.from_dict(first["config"]).replace(part=None)
        run = _run_of_all([part["run"] for part in parts], found, out)
        return finish(out, config, found, beside, run)


def _run_of_all(
    runs: Sequence[Mapping[str, Any] | None], found: Predictions, out: Path
) -> RunSummary | None:
    """Return what the report says of all parts, by what it would say of the first."""
    known = [run for run in runs if run is not None]
    if not known:
        return None
    # Here, because most runs make no report.
    from cellunet.outputs.report import RunSummary

    # Records of earlier versions hold the time of each part, too.
    run = RunSummary(**{k: v for k, v in known[0].items() if k != "seconds"})
    timed = {"Time of this run": f"{found.seconds:.1f} s in {len(runs)} parts"}
    return replace(
        run,
        created=max(run["created"] for run in known),
        folder=common_folder(found.images) or run.folder,
        results=str(out),
        settings={**run.settings, **timed},
    )


def _read_all(out: Path) -> list[dict[str, Any]]:
    """Return the records of a complete set of parts, in their order."""
    sets: dict[int, dict[int, Path]] = defaultdict(dict)
    for (number, count), path in _records(out).items():
        sets[count][number] = path
    # Where a batch was divided anew, the division that is complete, else the last.
    count = max(sets, key=lambda n: (len(sets[n]) == n, _newest(sets[n].values())))
    parts = {number: _read(path) for number, path in sorted(sets[count].items())}
    missing = [f"{i} (missing)" for i in range(1, count + 1) if i not in parts]
    stopped = [
        f"{i} (stopped after {len(part['images']):,} image"
        f"{'s'[: len(part['images']) != 1]})"
        for i, part in parts.items()
        if part["stopped"]
    ]
    left = [*missing, *stopped]
    if left:
        are = "is" if len(left) == 1 else "are"
        raise InputError(
            f"{len(left)} of the {count} parts in {out} {are} not finished: "
            f"{some(left, 10)}.",
            hint=AGAIN,
        )
    base, *others = parts.items()
    for number, part in others:
        differ = [name for name in SAME if part[name] != base[1][name]]
        if differ:
            raise InputError(
                f"Part {number} of {count} in {out} was made with another "
                f"{SAME[differ[0]]} than part {base[0]}.",
                hint="Run the parts that are out of date again, with --overwrite if "
                "their results are to be replaced.",
            )
    return list(parts.values())


def _read(path: Path) -> dict[str, Any]:
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        known = values["format"] == FORMAT
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise InputError(f"{path} cannot be read ({error}).", hint=AGAIN) from error
    if not known:
        raise InputError(f"{path} is of another version of cellunet.", hint=AGAIN)
    return values


def _records(out: Path) -> dict[Part, Path]:
    """Return the records in a folder of results by part and number of parts."""
    found = {}
    for path in (out / FOLDER).glob("*-of-*.json"):
        name = NAME.fullmatch(path.name)
        if name:
            found[int(name[1]), int(name[2])] = path
    return found


def _record(out: Path, part: Part) -> Path:
    return out / FOLDER / f"{part[0]}-of-{part[1]}.json"


def _newest(paths: Iterable[Path]) -> float:
    return max(path.stat().st_mtime for path in paths)


def _names(files: Iterable[Path]) -> list[str]:
    return [address(path) or str(path) for path in files]


def _digest(names: Iterable[str]) -> str:
    return hashlib.sha256("\0".join(names).encode("utf-8", "surrogatepass")).hexdigest()


def _below(output: str | None, out: Path) -> str | None:
    """Return a result as it is found again wherever the folder is seen from."""
    if output is None:
        return None
    path = Path(output)
    if path.is_relative_to(out):
        return path.relative_to(out).as_posix()
    return str(path.absolute())


def _within(output: str | None, out: Path) -> str | None:
    return output and str(out / output)


def _result(image: Mapping[str, Any], out: Path) -> ImageResult:
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in image.items()
        if name not in ("number", "beside")
    }
    values["damaged"] = tuple(Damage(**damage) for damage in image["damaged"])
    values["output"] = _within(image["output"], out)
    return ImageResult(**values)


def _once(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(texts))
