"""The document: plain values, no NaN, and every key described in docs/json.md."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from cellunet.cli.session import SCHEMA, Failure, Outcome, document, plain
from cellunet.config import EvaluateConfig
from cellunet.errors import DeviceError
from cellunet.metrics.matching import ClassScores, ImageScores, MatchRule
from cellunet.metrics.summary import Estimate, Paired, Summary, Totals
from cellunet.tasks.evaluate import GROUPS
from cellunet.tasks.make_labels import MadeImage, MadeLabels
from cellunet.tasks.models import ModelInfo
from cellunet.tasks.predict.inputs import ImageResult, Predictions
from cellunet.tasks.train.request import Trained

PAGE = Path(__file__).parents[2] / "docs" / "json.md"


def test_what_is_not_finite_becomes_null() -> None:
    values = {"a": float("nan"), "b": [float("inf"), -float("inf")], "c": 1.5}
    assert plain(values) == {"a": None, "b": [None, None], "c": 1.5}


def test_values_of_numpy_and_paths_become_plain() -> None:
    values = (np.float32("nan"), np.float64(0.5), np.int64(3), np.bool_(True))
    assert plain(values) == [None, 0.5, 3, True]
    assert plain({1: Path("ä")}) == {"1": "ä"}


def test_other_types_are_refused() -> None:
    with pytest.raises(TypeError, match="set has no form in JSON"):
        plain({"names": {1}})


def test_a_failure_is_told_as_message_and_hint() -> None:
    failure = Failure.of(DeviceError("No cuda.", hint="Try: --device cpu."))
    assert failure.type == "DeviceError"
    assert str(failure) == "No cuda. Try: --device cpu."


def test_a_document_says_who_wrote_it_and_how_it_ended() -> None:
    failure = Failure(type="Stopped", message="m")
    text = document("train", Outcome(code=130, result={"x": (1,)}, failure=failure))
    values = json.loads(text)
    assert list(values) == [
        "schema", "cellunet", "command", "ok", "exit_code", "error", "result",
    ]  # fmt: skip
    assert values["schema"] == SCHEMA
    assert values["ok"] is False
    assert values["error"] == {"type": "Stopped", "message": "m", "hint": ""}
    assert values["result"] == {"x": [1]}


def test_the_page_describes_the_schema_and_every_key_of_a_document() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert f"schema `{SCHEMA}`" in page
    values = json.loads(document(None, Outcome()))
    assert all(f"`{key}`" in page for key in values)


@pytest.mark.parametrize(
    "kind",
    [
        Trained, Predictions, ImageResult, ModelInfo, MadeLabels, MadeImage, Summary,
        Paired, Totals, Estimate, ClassScores, EvaluateConfig,
    ],
)  # fmt: skip
def test_the_page_describes_every_field_of_a_result(kind: type) -> None:
    page = PAGE.read_text(encoding="utf-8")
    names = [field.name for field in dataclasses.fields(kind)]
    assert [name for name in names if f"`{name}`" not in page] == []


def test_the_page_describes_the_scores_of_an_image_and_the_groups() -> None:
    page = PAGE.read_text(encoding="utf-8")
    scores = ImageScores(
        name="a",
        rule=MatchRule(),
        tp=(0,) * 10,
        true_objects=0,
        predicted_objects=0,
        merges=0,
        splits=0,
        matched_iou_sum=0.0,
    )
    keys = {*scores.to_dict(), *MatchRule().to_dict(), *GROUPS}
    assert {key for key in keys if f"`{key}`" not in page} == set()
