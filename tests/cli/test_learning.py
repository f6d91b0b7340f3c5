"""``cellunet train --learning-curve``: what is told."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("torch")


from cellunet.annotations.pairs import Pair, Pairs
from cellunet.cli.train import sentence
from cellunet.metrics.fit import Outlook, Point
from cellunet.metrics.summary import Estimate
from cellunet.tasks import learning_curve as task
from cellunet.tasks.learning_curve import LearningCurve
from cellunet.tasks.train import request as suited

if TYPE_CHECKING:
    from tests.cli.conftest import Run


def curve(
    value: float = 0.02, low: float = 0.01, *, finished: bool = True
) -> LearningCurve:
    estimate = Estimate(value=0.8, low=0.79, high=0.81)
    return LearningCurve(
        folder=Path("out"),
        start="nuclei",
        finished=finished,
        points=(Point(images=0, objects=0.0, loss=0.25, mean_ap=estimate),),
        outlook=Outlook(more=20, gain=Estimate(value=value, low=low, high=0.03)),
    )


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch):
    requests: list[object] = []
    monkeypatch.setattr(
        task, "learning_curve", lambda *given: requests.append(given) or curve()
    )
    pairs = tuple(Pair(Path("i"), Path("a"), f"{i}") for i in range(30))
    monkeypatch.setattr(suited, "find_pairs", lambda *_: Pairs(pairs, "folders"))
    return requests


def test_the_table_and_the_sentence_are_told(run: Run, asked) -> None:
    ran = run("train", "a", "--learning-curve", "--out", "out", "--json")
    assert ran.code == 0
    assert "0 (nuclei)" in ran.err
    assert "20 more images would give about +0.020 [+0.010, +0.030] mean AP" in ran.err
    assert ran.document["result"]["outlook"]["more"] == 20
    ((request, out, _),) = asked
    assert out == Path("out")
    assert (request.config.preset, request.split.folds) == ("few", 3)


def test_without_a_folder_it_is_a_usage_error(run: Run, asked) -> None:
    ran = run("train", "a", "--learning-curve")
    assert ran.code == 2
    assert "--out" in ran.err
    assert not asked


def test_an_unsure_gain_is_said_to_be_unsure() -> None:
    assert "is not sure: +0.005 [-0.010, +0.030]" in sentence(curve(0.005, -0.01))


def test_a_stopped_curve_says_how_to_go_on(run: Run, asked, monkeypatch) -> None:
    monkeypatch.setattr(task, "learning_curve", lambda *_: curve(finished=False))
    ran = run("train", "a", "--learning-curve", "--out", "out")
    assert "Go on with: cellunet train a --learning-curve --out out" in ran.err
