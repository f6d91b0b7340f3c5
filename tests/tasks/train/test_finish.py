"""What a training leaves for people."""

from __future__ import annotations

import csv
import errno
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from imagecodecs import png_decode

from cellunet.config import EncodingConfig
from cellunet.core.dataset import Sample
from cellunet.errors import OutputError
from cellunet.imaging.targets import encode
from cellunet.metrics.fit import Truth
from cellunet.tasks.train.finish import PICTURES, write_history, write_pictures
from tests.networks import sample_of

ROWS = [
    {"epoch": 1.0, "train_loss": 0.5, "validation_loss": 0.75},
    {"epoch": 2.0, "train_loss": 0.25, "validation_loss": float("nan")},
]


def test_history_is_a_table_with_a_row_an_epoch(tmp_path) -> None:
    write_history(tmp_path, ROWS[:1], ["rest", "boundary"])
    write_history(tmp_path, ROWS, ["rest", "boundary"])
    text = (tmp_path / "history.csv").read_bytes().decode()
    assert text.splitlines()[0] == "epoch,train_loss,validation_loss"
    assert "\r" not in text
    rows = list(csv.DictReader(text.splitlines()))
    assert [float(row["train_loss"]) for row in rows] == [0.5, 0.25]
    assert "<svg" in (tmp_path / "curves.svg").read_text(encoding="utf-8")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["curves.svg", "history.csv"]


def samples(nuclei_image, count: int) -> list[Sample]:
    drawn = [nuclei_image((48, 64), 6, number) for number in range(count)]
    return [
        sample_of(labels, image, name=f"set/n {number}")
        for number, (image, labels) in enumerate(drawn)
    ]


def truths(found: list[Sample]) -> list[Truth]:
    """What a network without a doubt would say of them."""
    made = []
    for sample in found:
        class_map = encode(sample.labels, EncodingConfig())
        one_hot = np.stack([class_map == c for c in range(3)]).astype(np.float16)
        made.append(
            Truth(
                name=sample.name,
                probabilities=one_hot,
                labels=sample.labels,
                annotated=sample.annotated,
            )
        )
    return made


def test_some_validation_images_are_drawn_and_old_ones_removed(
    tmp_path, tiny_model, nuclei_image
) -> None:
    config = tiny_model.config.replace(decode=tiny_model.trained.decode)
    found = samples(nuclei_image, PICTURES + 2)
    (tmp_path / "validation").mkdir()
    (tmp_path / "validation" / "old.png").touch()
    write_pictures(tmp_path, truths(found), [s.image[0] for s in found], config)
    names = sorted(p.name for p in (tmp_path / "validation").iterdir())
    assert names == ["set_n 0.png", "set_n 1.png", "set_n 3.png", "set_n 5.png"]
    picture = png_decode((tmp_path / "validation" / names[0]).read_bytes())
    # Enlarged by a whole factor.
    assert picture.shape[0] * 64 == picture.shape[1] * 48
    assert picture.shape[2] == 3


def test_a_picture_that_cannot_be_written_is_an_output_error(
    tmp_path, tiny_model, nuclei_image, monkeypatch
) -> None:
    config = tiny_model.config
    found = samples(nuclei_image, 1)

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "mkdir", full)
    with pytest.raises(OutputError, match="no room"):
        write_pictures(tmp_path, truths(found), [s.image[0] for s in found], config)
