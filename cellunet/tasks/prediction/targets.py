"""From image files to results: one a file, or one for each image in a file."""

from __future__ import annotations

import os
import re
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cellunet.config import ALL_IMAGES
from cellunet.errors import CellunetError, InputError
from cellunet.imaging.files import names_of_images
from cellunet.imaging.outputs import below, output_paths

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from cellunet.config import PredictConfig
    from cellunet.imaging.inputs import Inputs

MOST_NAME = 40
"""Characters of an image's name in the name of its result."""


@dataclass(frozen=True)
class Target:
    """One image to segment."""

    path: Path
    """Its file."""
    name: str
    """What tables call it: its path below the common folder of the run."""
    output: Path
    """Its label image."""
    image: str | None = None
    """Which image of the file; None: the largest."""


def find_targets(
    found: Inputs, files: Sequence[Path], out: Path, config: PredictConfig
) -> list[Target]:
    """Return what to segment.

    Parameters
    ----------
    found
        All inputs of the run.
    files
        Those of them that this call is to segment.
    out
        Folder of the results.
    config
        Which image of each file is meant: all of them have results of their own, named
        by number and name behind the name of the file.

    Raises
    ------
    InputError
        If two images would write one file.
    """
    outputs = output_paths(found.files, found.base, out)
    targets = []
    for path in files:
        name = below(path, found.base).as_posix()
        if config.image != ALL_IMAGES:
            targets.append(Target(path, name, outputs[path], config.image))
            continue
        try:
            names = names_of_images(path)
        except CellunetError:
            # It is told when the image is opened.
            names = [""]
        if len(names) < 2:
            targets.append(Target(path, name, outputs[path]))
            continue
        for number, own in enumerate(names):
            safe = re.sub(r"[^\w.-]+", "-", own).strip("-.")[:MOST_NAME]
            stem = f"{outputs[path].stem}_{number}" + (f"_{safe}" if safe else "")
            output = outputs[path].with_name(f"{stem}{outputs[path].suffix}")
            targets.append(Target(path, f"{name}#{number}", output, str(number)))
    _refuse_clashes(targets)
    return targets


def _refuse_clashes(targets: Sequence[Target]) -> None:
    inputs = {_key(target.path) for target in targets}
    taken: dict[str, Target] = {}
    for target in targets:
        other = taken.setdefault(_key(target.output), target)
        if other is not target or _key(target.output) in inputs:
            raise InputError(
                f"{other.path} and {target.path} would both write {target.output}.",
                hint="Rename one, or run on them one at a time with different --out.",
            )


def _key(path: Path) -> str:
    return unicodedata.normalize("NFC", os.path.realpath(path)).casefold()
