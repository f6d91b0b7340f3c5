"""What a training leaves for people: history, learning curves, pictures."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

import numpy as np

from cellunet.imaging.atomic import writing
from cellunet.imaging.decode.decoding import decode_plane
from cellunet.imaging.files import write_atomically, write_png
from cellunet.imaging.overlay import draw
from cellunet.imaging.scoring.curves import learning_curves

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from cellunet.config import TrainConfig
    from cellunet.imaging.scoring.fitting import Truth

PICTURES_FOLDER = "validation"
PICTURES = 4
"""Validation images that are drawn with truth and prediction."""


def write_history(
    folder: Path, history: Sequence[Mapping[str, float]], classes: Sequence[str]
) -> None:
    """Write ``history.csv`` and ``curves.svg`` of the epochs so far."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(history[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    with write_atomically(folder / "history.csv") as path:
        path.write_text(text.getvalue(), encoding="utf-8", newline="\n")
    with write_atomically(folder / "curves.svg") as path:
        path.write_text(
            learning_curves(history, classes), encoding="utf-8", newline="\n"
        )


def write_pictures(
    folder: Path,
    truths: Sequence[Truth],
    images: Sequence[npt.NDArray[np.float32]],
    config: TrainConfig,
) -> None:
    """Write a few validation images with truth and prediction outlined.

    Parameters
    ----------
    folder
        The run's folder; the pictures go into ``validation`` in it.
    truths, images
        Validation images with their probabilities, and what the network sees of each,
        YX, in the same order.
    config
        As trained, with the decode constants that were chosen.

    Raises
    ------
    OutputError
        If they cannot be written.
    """
    pictures = folder / PICTURES_FOLDER
    with writing(pictures):
        pictures.mkdir(exist_ok=True)
        # Those of a run that this one replaces.
        for old in pictures.glob("*.png"):
            old.unlink()
    picked = np.unique(np.linspace(0, len(images) - 1, PICTURES).astype(int))
    for index in picked:
        truth = truths[index]
        probabilities = truth.probabilities.astype(np.float32)
        labels = decode_plane(probabilities, config.encoding, config.decode)
        picture = draw(images[index], truth.labels, other=labels)
        name = truth.name.replace("/", "_")
        write_png(pictures / f"{name}.png", picture)
