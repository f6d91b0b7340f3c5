"""Look for what is wrong with annotations before anything is trained on them."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from cellunet.bugs import telling_bugs
from cellunet.config import CheckConfig
from cellunet.errors import BugError, CellunetError, InputError
from cellunet.imaging.annotation_sources import find_annotations
from cellunet.imaging.annotations import ANNOTATIONS
from cellunet.imaging.atomic import PendingFile, write_atomically
from cellunet.imaging.checks.fit_checks import better_partners
from cellunet.imaging.pairing import find_pairs
from cellunet.progress import silent_track
from cellunet.registry import choose
from cellunet.tasks.checked_labels import Checked, CheckedImage, Finding
from cellunet.tasks.checking.check_sheets import write_sheets
from cellunet.tasks.checking.look_at_labels import Looked, look_at

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from cellunet.imaging.annotation_sources import Drawn
    from cellunet.progress import Track

REPORT = "check.json"
PERCENTILES = (0, 1, 5, 25, 50, 75, 95, 99, 100)


@dataclass
class _Seen:
    """What is known of the images so far, to compare them with each other."""

    images: dict[str, CheckedImage] = field(default_factory=dict)
    prints: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    pictures: dict[tuple[int, ...], dict[str, Looked]] = field(
        default_factory=lambda: defaultdict(dict)
    )
    areas: list[int] = field(default_factory=list)


def check_labels(  # noqa: PLR0913
    source: Path,
    out: Path,
    *,
    validation: Path | None = None,
    kind: str = "auto",
    ignore_value: int | None = None,
    config: CheckConfig | None = None,
    track: Track = silent_track,
) -> Checked:
    """Check annotations, and write what was found and pictures to look at.

    Writes ``check.json`` and contact sheets ``check-1.png``, ... into `out`, in place
    of those of an earlier check.

    Parameters
    ----------
    source
        Annotations, with or without images, as
        `cellunet.imaging.annotation_sources.find_annotations` understands them.
    out
        Folder for the results.
    validation
        A folder of validation images, which may not hold a training image.
    kind
        How the annotations were drawn: a name in
        `cellunet.imaging.annotations.ANNOTATIONS`.
    ignore_value
        Value of the pixels of label images that are not annotated.
    config
        From when on something is odd.
    track
        Progress over images.

    Raises
    ------
    ConfigError
        If `kind` is unknown.
    InputError
        If there are no annotations, or partners do not match.
    OutputError
        If `out` cannot be written to.
    """
    choose(ANNOTATIONS, kind, "kind of annotation")
    config = config or CheckConfig()
    found = find_annotations(source, kind=kind)
    drawn = {one.name: one for one in found.drawn}
    notes = found.notes
    if validation is not None:
        held = find_annotations(validation, kind=kind)
        drawn |= {f"val/{one.name}": one for one in held.drawn}
        notes += held.notes
    PendingFile(out / REPORT).abort()
    seen = _Seen()
    for name, one in track(drawn.items(), "Checking labels", len(drawn)):
        _look(name, one, seen, kind, ignore_value, config)
    _compare(seen, _held(source, found.layout), config)
    checked = Checked(
        out=out,
        layout=found.layout,
        config=config,
        images=tuple(seen.images[name] for name in sorted(seen.images)),
        report=out / REPORT,
        notes=notes,
        areas_px=_percentiles(seen.areas),
    )
    shown = write_sheets(checked, drawn, kind, ignore_value, track)
    checked = replace(checked, sheets=shown.paths, shown=shown.names)
    with write_atomically(checked.report) as path:
        text = json.dumps(checked.to_dict(), indent=1, ensure_ascii=False)
        path.write_text(text + "\n", encoding="utf-8")
    return checked


def _look(
    name: str,
    one: Drawn,
    seen: _Seen,
    kind: str,
    ignore_value: int | None,
    config: CheckConfig,
) -> None:
    try:
        with telling_bugs(one.annotation):
            looked = look_at(one, kind, ignore_value, config)
    except CellunetError as error:
        what = "bug" if isinstance(error, BugError) else "unreadable"
        unreadable = Finding(kind=what, message=str(error))
        seen.images[name] = CheckedImage(name=name, findings=(unreadable,))
        return
    seen.images[name] = replace(looked.checked, name=name)
    seen.areas += looked.areas_px
    if looked.fingerprint:
        seen.prints[looked.fingerprint].append(name)
    if looked.bright is not None:
        seen.pictures[looked.shape][name] = replace(looked, areas_px=())


def _held(source: Path, layout: str) -> set[str]:
    """Return the names of the validation images by the folder's own lists."""
    if layout != "bbbc039":
        return set()
    try:
        return set(find_pairs(source).validation or ())
    except InputError:
        return set()


def _compare(seen: _Seen, held: set[str], config: CheckConfig) -> None:
    """Find images that come twice, and labels that fit another image better."""
    for names in seen.prints.values():
        for name in names if len(names) > 1 else ():
            others = ", ".join(_told(n, held) for n in names if n != name)
            message = f"The same image as {others}; this is {_told(name, held)}."
            _add(seen, name, Finding(kind="duplicate", message=message))
    for group in seen.pictures.values():
        images = {n: one.bright for n, one in group.items() if one.bright is not None}
        labels = {n: one.objects for n, one in group.items() if one.objects is not None}
        for name, other in better_partners(images, labels, config).items():
            message = f"The labels fit the image {other} better than their own."
            _add(seen, name, Finding(kind="other-image", message=message))


def _told(name: str, held: set[str]) -> str:
    if name.startswith("val/") or name in held:
        return f"{name} (validation)"
    return f"{name} (training)" if held else name


def _add(seen: _Seen, name: str, finding: Finding) -> None:
    image = seen.images[name]
    seen.images[name] = replace(image, findings=(*image.findings, finding))


def _percentiles(areas: list[int]) -> dict[str, float]:
    if not areas:
        return {}
    values: Any = np.percentile(areas, PERCENTILES)
    table: Mapping[str, float] = {
        str(p): float(v) for p, v in zip(PERCENTILES, values, strict=True)
    }
    return dict(table)
