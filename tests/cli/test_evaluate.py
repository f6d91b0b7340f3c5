"""``cellunet evaluate``: two ways to call, tables, comparison, seen images apart."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pytest
import tifffile

from cellunet.command_config import BootstrapConfig, EvaluateConfig, PredictConfig
from cellunet.errors import InputError
from cellunet.tasks import evaluate as task
from cellunet.tasks.evaluate import Evaluation, Group, Scorable, score_pairs

if TYPE_CHECKING:
    from tests.cli.conftest import Run


def _squares(sizes_px: list[int]) -> npt.NDArray[np.uint16]:
    labels = np.zeros((16, 16 * len(sizes_px)), np.uint16)
    for i, size in enumerate(sizes_px):
        labels[2 : 2 + size, 16 * i + 2 : 16 * i + 2 + size] = i + 1
    return labels


TRUTH = _squares([10, 10, 3])


def _folder(folder: Path, labels: npt.NDArray[np.uint16], count: int = 2) -> Path:
    folder.mkdir()
    for i in range(count):
        tifffile.imwrite(folder / f"image ä{i}.tif", labels)
    return folder


@pytest.fixture
def truth(tmp_path: Path) -> Path:
    return _folder(tmp_path / "true [1]", TRUTH)


@pytest.fixture
def good(tmp_path: Path) -> Path:
    return _folder(tmp_path / "good", TRUTH)


@pytest.fixture
def poor(tmp_path: Path) -> Path:
    return _folder(tmp_path / "poor", _squares([10, 0, 0]))


class FakeEvaluation:
    """Stands in for the task: a perfect model, and which images it has seen."""

    def __init__(self) -> None:
        self.calls: list[tuple[Path, dict[str, Any]]] = []
        self.groups: tuple[Group, ...] = ("unseen", "chosen", "trained")

    def __call__(
        self, data: Path, *, config: EvaluateConfig, **options: Any
    ) -> Evaluation:
        self.calls.append((data, {"config": config, **options}))

        def pairs() -> Iterator[Scorable]:
            for i, group in enumerate(options["track"](self.groups, "Evaluating")):
                yield Scorable(
                    name=f"image{i}", labels=TRUTH, predicted=TRUTH, group=group
                )

        return score_pairs(pairs(), config=config)


@pytest.fixture
def evaluation(monkeypatch: pytest.MonkeyPatch) -> FakeEvaluation:
    fake = FakeEvaluation()
    monkeypatch.setattr(task, "evaluate_model", fake)
    return fake


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("", "Missing argument 'DATA'."),
        ("data --model m --pred p", "--model does not go with --pred"),
        ("d --model a --model b --model c", "--model can be given twice"),
        ("l --pred a --pred a", "--pred a is given twice."),
        ("l --pred a --gray", "--gray goes with a model, not with --pred."),
    ],
)
def test_the_two_ways_to_call_do_not_mix(run: Run, words: str, message: str) -> None:
    ran = run("evaluate", *words.split())
    assert ran.code == 2
    assert f"cellunet: error: {message}" in ran.err
    assert ran.err.endswith("See: cellunet evaluate --help\n")


def test_folders_of_labels_are_scored(run: Run, truth: Path, good: Path) -> None:
    ran = run("evaluate", truth, "--pred", good)
    assert (ran.code, ran.err) == (0, "")
    rows = {line.split("  ")[0]: line.split()[-3:] for line in ran.out.splitlines()}
    assert rows["F1 at IoU .50"] == ["1.000", "[1.000,", "1.000]"]
    assert rows["true objects"][-1] == "6"
    assert "95% bootstrap intervals" in ran.out
    assert "Over 2 images: mean AP 1.000 [1.000, 1.000]" in ran.out
    assert "WARNING" not in ran.out


def test_two_folders_are_compared_image_by_image(
    run: Run, truth: Path, good: Path, poor: Path
) -> None:
    words = ["evaluate", truth, "--pred", good, "--pred", poor]
    ran = run(*words, "--json")
    result = ran.document["result"]
    assert [e["name"] for e in result["evaluations"]] == [str(good), str(poor)]
    # One of three objects found: AP 1/3 at every threshold.
    assert result["differences"]["all"]["mean_ap"]["value"] == pytest.approx(2 / 3)
    assert f"Difference, {good} minus {poor}" in ran.err
    assert "+0.667 [+0.667, +0.667]" in ran.err


def test_images_annotated_in_part_are_compared(
    run: Run, tmp_path: Path, truth: Path
) -> None:
    labels, annotated = TRUTH.copy(), np.full(TRUTH.shape, 255, np.uint8)
    labels[:, 24:] = annotated[:, 24:] = 0
    for i in range(2):
        tifffile.imwrite(truth / f"image ä{i}.tif", labels)
        tifffile.imwrite(truth / f"image ä{i}_annotated.tif", annotated)
    # Of the second object, cut off at column 24, the rest is found in `over` alone.
    over = labels.copy()
    over[2:12, 18:40] = 2
    good, poor = _folder(tmp_path / "good", labels), _folder(tmp_path / "over", over)
    ran = run("evaluate", truth, "--pred", good, "--pred", poor, "--json")
    assert ran.code == 0, ran.err
    first, second = ran.document["result"]["evaluations"]
    assert first["headline"]["totals"]["true_objects"] == 4
    assert second["headline"]["totals"]["true_objects"] == 2
    assert ran.document["result"]["differences"]["all"]["mean_ap"]["value"] == 0


def test_scores_are_shown_where_a_comparison_fails(
    run: Run, tmp_path: Path, evaluation: FakeEvaluation, monkeypatch
) -> None:
    def refused(*_: Evaluation) -> None:
        raise InputError("Other images.")

    monkeypatch.setattr(task, "compare", refused)
    table = tmp_path / "scores.csv"
    ran = run("evaluate", "data", "--model", "a", "--model", "b", "--out", table)
    assert ran.code == 0
    assert "warning: not compared: Other images." in ran.err
    assert "mean AP" in ran.out
    assert table.exists()


def test_the_protocol_is_chosen_by_name(run: Run, truth: Path, good: Path) -> None:
    words = ["evaluate", truth, "--pred", good, "--protocol"]
    ran = run(*words, "caicedo2019", "--json")
    (one,) = ran.document["result"]["evaluations"]
    assert one["config"]["protocol"] == "caicedo2019"
    assert one["headline"]["totals"]["too_small"] == 2
    assert "dilated: predictions grow by a pixel first" in ran.err
    unknown = run(*words, "caicedo")
    assert unknown.code == 1
    assert "Did you mean 'caicedo2019'?" in unknown.err


def test_true_labels_are_read_as_the_kind_that_is_given(
    run: Run, tmp_path: Path
) -> None:
    box = np.zeros((40, 40), np.uint8)
    box[5:30, 5:30] = 255
    ring = box.copy()
    ring[6:29, 6:29] = 0
    for folder, pixels in (("truth", ring), ("filled", box)):
        (tmp_path / folder).mkdir()
        tifffile.imwrite(tmp_path / folder / "a.tif", pixels)
    words = ("evaluate", tmp_path / "truth", "--pred", tmp_path / "filled", "--json")
    refused = run(*words)
    assert refused.code == 1
    assert "--kind outlines fills closed lines" in refused.err
    (one,) = run(*words, "--kind", "outlines").document["result"]["evaluations"]
    assert one["headline"]["mean_ap"]["value"] == 1.0


def test_scores_of_each_image_go_to_a_csv_file(
    run: Run, truth: Path, good: Path, tmp_path: Path
) -> None:
    table = tmp_path / "new" / "scores ä.csv"
    words = ["evaluate", truth, "--pred", good, "--out", table, "--json"]
    assert run(*words).document["result"]["csv"] == str(table)
    with table.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    # As in every other table.
    assert b"\r" not in table.read_bytes()
    assert len(rows) == 2 * 3
    assert rows[0]["name"] == "image ä0"
    assert rows[0]["predictions"] == str(good)
    assert float(rows[0]["mean_ap"]) == 1.0


def test_a_model_is_scored_with_the_options_given(
    run: Run, evaluation: FakeEvaluation, toml
) -> None:
    words = (
        "evaluate data --model m --side validation --engine torch --device cpu "
        "--threads 2 --channel 1 --gray --protocol caicedo2019 --config"
    )
    settings = toml(
        "[predict]\nchannel = '0'\ndiameter_px = 9\nmin_area_px = 5\nedge = 0.3\n"
        "save = ['table']\n[evaluate.bootstrap]\nresamples = 7"
    )
    assert run(*words.split(), settings).code == 0
    ((data, options),) = evaluation.calls
    assert data == Path("data")
    assert options["config"] == EvaluateConfig(
        protocol="caicedo2019", bootstrap=BootstrapConfig(resamples=7)
    )
    assert options["predict_config"] == PredictConfig(
        channel="1",
        gray=True,
        diameter_px=9.0,
        min_area_px=5,
        edge=0.3,
    )
    assert (options["model"], options["side"]) == ("m", "validation")
    assert (options["engine"], options["device"]) == ("torch", "cpu")
    assert options["threads"] == 2


def test_the_shipped_model_is_scored_by_default(
    run: Run, evaluation: FakeEvaluation
) -> None:
    run("evaluate", "data")
    assert evaluation.calls[0][1]["model"] == "nuclei"
    assert evaluation.calls[0][1]["side"] == "all"


def test_images_that_the_model_knows_are_told_apart(
    run: Run, evaluation: FakeEvaluation
) -> None:
    err = run("evaluate", "data").out
    titles = [
        "Images that played no part in making the model",
        "Images that the constants of the model's decoding were chosen on",
        "Images that the model was trained on",
    ]
    assert [err.index(t) for t in titles] == sorted(err.index(t) for t in titles)
    assert "Over 1 unseen image: mean AP" in err
    assert "WARNING" not in err


def test_a_model_that_knows_every_image_is_warned_of_loudly(
    run: Run, evaluation: FakeEvaluation
) -> None:
    evaluation.groups = ("trained", "chosen")
    ran = run("evaluate", "data", "--model", "mine", "--json")
    assert ran.err.splitlines()[-1].startswith(
        "WARNING: mine was trained or chosen on every one of these images."
    )
    (one,) = ran.document["result"]["evaluations"]
    assert one["only_seen"] is True
    assert one["headline"] is None
    assert set(one["groups"]) == {"trained", "chosen"}


def test_two_models_that_know_every_image_are_not_compared(
    run: Run, evaluation: FakeEvaluation
) -> None:
    evaluation.groups = ("trained",)
    ran = run("evaluate", "data", "--model", "a", "--model", "b", "--json")
    assert ran.code == 0
    assert ran.document["result"]["differences"] is None
    assert ran.err.count("WARNING") == 2
