"""``cellunet train``: options become a request; what happens and came of it is told."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")


import math
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cellunet.annotations.pairs import Pair, Pairs
from cellunet.command_config import AnnotationConfig, SplitConfig
from cellunet.config import DecodeConfig
from cellunet.errors import DeviceError
from cellunet.metrics.fit import ExpectedScores
from cellunet.metrics.summary import Estimate
from cellunet.presets import PRESETS, for_target
from cellunet.tasks.train import request as suited
from cellunet.tasks.train import train as task
from cellunet.tasks.train.request import Hooks, RunInfo, Trained, TrainRequest

if TYPE_CHECKING:
    from tests.cli.conftest import Run


from typing import TYPE_CHECKING

import pytest

from cellunet.cli.train import sentence
from cellunet.metrics.fit import GainForecast, LearningCurvePoint
from cellunet.tasks import learning_curve as curve_task
from cellunet.tasks.learning_curve import LearningCurve

if TYPE_CHECKING:
    from tests.cli.conftest import Run

import dataclasses
import io

import pytest

from cellunet.cli.console import Console
from cellunet.cli.train import TrainingView, header_lines, row_line, sparkline

FOLDER = Path("runs") / "ä [1]"
DECODE = DecodeConfig(seed_threshold=0.3)
EXPECTED = ExpectedScores(
    mean_ap=Estimate(value=0.8125, low=0.79, high=0.83),
    f1_50=Estimate(value=0.956, low=0.95, high=0.96),
    f1_90=Estimate(value=0.75, low=0.7, high=0.8),
    gain=Estimate(value=0.0125, low=-0.001, high=0.02),
    pieces=8,
    quarters=True,
    of_one_image=False,
)


class FakeTraining:
    """Stands in for the task: keeps the request, takes a few steps."""

    def __init__(self) -> None:
        self.requests: list[TrainRequest] = []
        self.in_step: Callable[[int], None] = lambda step: None
        self.expected, self.kept_start = EXPECTED, False
        self.fold = self.folds = 1

    def __call__(self, request: TrainRequest, hooks: Hooks) -> Trained:
        self.requests.append(request)
        hooks.on_note("2 images have no annotation: [b].tif")
        assert list(hooks.track(range(2), "Reading images", 2)) == [0, 1]
        hooks.on_start(RunInfo(
            training_images=4, validation_images=1, device="cpu", threads=1, epochs=2,
            steps_per_epoch=2, parameters=10, folder=FOLDER, start="scratch", folds=1,
        ))  # fmt: skip
        history = []
        for step in range(1, 5):
            self.in_step(step)
            hooks.on_step(step, 4, 1.0)
            if hooks.should_stop():
                return self.result(request, tuple(history), finished=False)
            if step % 2 == 0:
                history.append(
                    {"epoch": step / 2, "learning_rate": 0.1, "train_loss": 0.5}
                    | {"validation_loss": 0.4, "validation_precision_interior": 0.9}
                    | {"validation_recall_interior": math.nan}
                )
                hooks.on_epoch(history[-1])
        return self.result(request, tuple(history), finished=True)

    def result(
        self,
        request: TrainRequest,
        history: tuple[dict[str, float], ...],
        *,
        finished: bool,
    ) -> Trained:
        return Trained(
            name=request.name,
            folder=FOLDER,
            finished=finished,
            epoch=len(history),
            epochs=2,
            history=history,
            fold=self.fold,
            folds=self.folds,
            scores={"mean_ap": 0.8125, "f1_50": 0.956} if finished else None,
            start="nuclei",
            expected=self.expected if finished else None,
            kept_start=self.kept_start,
            decode=DECODE if finished else None,
            notes=("a note",),
        )


@pytest.fixture
def training(monkeypatch: pytest.MonkeyPatch) -> FakeTraining:
    fake = FakeTraining()
    monkeypatch.setattr(task, "train", fake)
    pairs = tuple(Pair(Path(f"{i}.tif"), Path(f"{i}.png"), f"{i}") for i in range(30))
    monkeypatch.setattr(suited, "find_pairs", lambda *_: Pairs(pairs, "folders"))
    return fake


def test_without_options_the_default_preset_is_trained(
    run: Run, training: FakeTraining
) -> None:
    assert run("train", "data [1] ä", "--name", "cells").code == 0
    assert training.requests == [
        TrainRequest(
            data=(Path("data [1] ä"),),
            name="cells",
            config=PRESETS["default"],
            split=SplitConfig(),
        )
    ]


def test_a_file_and_options_change_single_settings_of_a_preset(
    run: Run, training: FakeTraining, toml
) -> None:
    settings = toml(
        "preset = 'few'\nseed = 7\nepochs = 9\nbatch = 5\ncrop_px = 64\n"
        "learning_rate = 0.5\nprecision = 'bfloat16'\n"
        "[encoding]\nboundary_px = 3\nboundary_side = 'outer'\n"
        "[weights]\nclass_weights = [1, 2, 4]\nborder_weight = 0\n"
        "border_sigma_px = 4"
    )
    words = (
        "train a b --name n --preset classic --from nuclei --val 0.3 --minutes 2.5 "
        "--epochs 3 --steps-per-epoch 4 --device cpu --threads 2 --resume --overwrite "
        "--channel DAPI --gray --kind outlines --ignore-value 9 --config"
    )
    run(*words.split(), settings)
    (request,) = training.requests
    classic = PRESETS["classic"]
    assert request.config == classic.replace(
        encoding=classic.encoding.replace(boundary_px=3, boundary_side="outer"),
        weights=classic.weights.replace(
            class_weights=(1.0, 2.0, 4.0), border_weight=0.0, border_sigma_px=4.0
        ),
        decode=classic.decode.replace(class_odds=(1.0, 2.0, 4.0)),
        seed=7,
        epochs=3,
        steps_per_epoch=4,
        batch=5,
        crop_px=64,
        learning_rate=0.5,
        precision="bfloat16",
    )
    assert request.data == (Path("a"), Path("b"))
    assert (request.start, request.validation) == ("nuclei", None)
    assert request.split == SplitConfig(validation_fraction=0.3)
    assert (request.device, request.threads) == ("cpu", 2)
    assert request.resume
    assert request.overwrite
    assert request.minutes == 2.5
    assert (request.channel, request.gray) == ("DAPI", True)
    assert request.annotations == AnnotationConfig(kind="outlines", ignore_value=9)


def test_the_boundary_target_brings_its_classes(
    run: Run, training: FakeTraining, toml
) -> None:
    boundary = toml("[encoding]\ntarget = 'boundary'")
    run("train", "a", "--name", "n", "--config", boundary)
    (request,) = training.requests
    assert request.config == for_target(PRESETS["default"], "boundary")
    assert request.config.network.classes == 2


@pytest.mark.parametrize(
    ("text", "words", "preset", "folds"),
    [
        ("", "", "few", 3),
        ("", "--from nuclei", "few", 3),
        ("", "--from scratch", "default", 0),
        ("", "--preset classic", "classic", 0),
        ("[network]\nchannels = [8, 16]", "", "default", 0),
        ("[normalization]\nkind = 'standard'", "", "default", 0),
        ("[encoding]\ntarget = 'boundary'", "", "default", 0),
        ("[network]\nchannels = [8, 16]", "--from nuclei", "few", 3),
        ("learning_rate = 0.01", "", "few", 3),
    ],
)
def test_few_images_take_the_short_preset_only_where_a_model_is_started_from(
    run: Run,
    training: FakeTraining,
    monkeypatch: pytest.MonkeyPatch,
    toml: Callable[[str], Path],
    text: str,
    words: str,
    preset: str,
    folds: int,
) -> None:
    pairs = tuple(Pair(Path(f"{i}.tif"), Path(f"{i}.png"), f"{i}") for i in range(5))
    monkeypatch.setattr(suited, "find_pairs", lambda *_: Pairs(pairs, "folders"))
    ran = run("train", "a", "--config", toml(text), *words.split())
    assert ran.code == 0, ran.err
    (request,) = training.requests
    assert (request.config.preset, request.split.folds) == (preset, folds)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--preset clasic", "Unknown preset 'clasic'. Did you mean 'classic'?"),
        ("--epochs 0", "epochs is 0; it must be at least 1."),
        ("--val 1", "validation_fraction is 1; it must be above 0 and below 1."),
        ("--config none.toml", "none.toml cannot be read: No such file or directory."),
    ],
)
def test_settings_that_cannot_be_are_refused_before_work(
    run: Run, training: FakeTraining, words: str, message: str
) -> None:
    ran = run("train", "a", "--name", "n", *words.split())
    assert ran.code == 1
    assert message in ran.err
    assert ran.err.count("\n") == 1
    assert training.requests == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("crop_px = 100", "The nearest that fits: crop_px = 96."),
        ("[weights]\nclass_weights = [1, 3]", "is for 2 classes; target three-class"),
        ("[encoding]\ntarget = 'boundary'\nboundary_side = 'outer'", "needs boundary_"),
        ("[weights]\nborder = 1", "train ä [1].toml: There is no setting weights.bord"),
    ],
)
def test_what_a_file_says_is_refused_before_work(
    run: Run, training: FakeTraining, toml, text: str, message: str
) -> None:
    ran = run("train", "a", "--config", toml(text))
    assert (ran.code, ran.err.count("\n")) == (1, 1)
    assert message in ran.err
    assert training.requests == []


@pytest.mark.parametrize("other", ["--val v", "--val 0.2"])
def test_folds_and_images_kept_out_exclude_each_other(
    run: Run, training: FakeTraining, other: str
) -> None:
    ran = run("train", "a", "--folds", "3", *other.split())
    assert ran.code == 2
    said = " ".join(ran.err.replace("│", " ").split())
    assert "does not go with --val; leave out one" in said
    assert run("train", "a", "--folds", "0", *other.split()).code == 0


def test_the_summary_tells_score_folder_and_what_to_do_next(
    run: Run, training: FakeTraining
) -> None:
    ran = run("train", "a", "--name", "cells")
    assert "2 images have no annotation: [b].tif" in ran.err
    assert "epoch 2/2: loss 0.5000, validation 0.4000" in ran.err
    assert (
        "Expected on such images: mean AP 0.812 [0.790, 0.830], F1 at IoU .50 0.956 "
        "[0.950, 0.960], at .90 0.750 [0.700, 0.800].\n(Of 8 quarters of the images "
        "that were not trained on; in brackets 95% intervals. Other images may differ "
        "more than these tell.)\nGain in mean AP over nuclei: +0.013 [-0.001, +0.020]."
    ) in ran.out
    assert f"Model cells is ready after 2 epochs: {FOLDER}" in ran.out
    assert "cellunet predict IMAGES --out DIR --model cells" in ran.out


def test_of_a_single_image_nothing_is_said_of_others(
    run: Run, training: FakeTraining
) -> None:
    training.expected = replace(EXPECTED, of_one_image=True)
    ran = run("train", "a", "--name", "cells")
    assert "Expected elsewhere in this image: mean AP 0.812" in ran.out
    assert "(Of 8 parts of the image that were not trained on" in ran.out
    assert "Other images may score far lower; a second one would tell.)" in ran.out


@pytest.mark.parametrize(("f1_50", "doubted"), [(0.15, True), (0.4, False)])
def test_annotations_are_doubted_where_hardly_any_object_is_found(
    run: Run, training: FakeTraining, f1_50, doubted
) -> None:
    estimate = Estimate(value=f1_50, low=0.0, high=0.5)
    training.expected = replace(EXPECTED, f1_50=estimate)
    ran = run("train", "a", "--name", "cells")
    said = ran.out.replace("\n", " ")
    assert ("do the annotations belong to these images" in said) == doubted


@pytest.mark.parametrize(
    ("gain", "words"),
    [
        (-0.01, "gained no mean AP over nuclei (-0.010 [-0.020, +0.030]), so its"),
        # Where most images are empty, each of which scores 1 if nothing is found.
        (0.01, "finds no object in any image, so the weights of nuclei are kept"),
    ],
)
def test_a_start_that_is_kept_is_said_with_the_reason(
    run: Run, training: FakeTraining, gain: float, words: str
) -> None:
    training.kept_start = True
    estimate = Estimate(value=gain, low=-0.02, high=0.03)
    training.expected = replace(EXPECTED, gain=estimate)
    ran = run("train", "a", "--name", "cells", "--json")
    assert words in " ".join(ran.err.split())
    result = ran.document["result"]
    assert (result["start"], result["kept_start"]) == ("nuclei", True)
    assert result["expected"]["gain"]["low"] == -0.02


@pytest.mark.parametrize(
    ("words", "images", "preset", "folds"),
    [
        ("", 30, "default", 0),
        ("", 20, "few", 3),
        ("", 2, "few", 2),
        ("", 1, "few", 2),
        ("--val v", 5, "few", 0),
        ("--val 0.5", 5, "few", 0),
        ("--folds 5", 30, "default", 5),
        ("--folds 0", 5, "few", 0),
        ("--preset default", 5, "default", 3),
        ("--from scratch", 5, "default", 0),
    ],
)
def test_few_images_take_their_preset_and_folds(
    run: Run, training: FakeTraining, monkeypatch, words, images, preset, folds
) -> None:
    pairs = tuple(Pair(Path("i"), Path("a"), f"{i}") for i in range(images))
    monkeypatch.setattr(suited, "find_pairs", lambda *_: Pairs(pairs, "folders"))
    run("train", "a", "--name", "cells", *words.split())
    (request,) = training.requests
    assert (request.config.preset, request.split.folds) == (preset, folds)


def test_images_with_a_list_need_no_folds(
    run: Run, training: FakeTraining, monkeypatch
) -> None:
    pairs = tuple(Pair(Path("i"), Path("a"), f"{i}") for i in range(9))
    listed = Pairs(pairs, "folders", train=("1", "2"), validation=("3",))
    monkeypatch.setattr(suited, "find_pairs", lambda *_: listed)
    run("train", "a", "--name", "cells")
    (request,) = training.requests
    assert (request.config.preset, request.split.folds) == ("few", 0)


def test_the_document_holds_history_scores_and_constants(
    run: Run, training: FakeTraining
) -> None:
    result = run("train", "a", "--name", "cells", "--json").document["result"]
    assert result["finished"] is True
    assert result["folder"] == str(FOLDER)
    assert result["scores"] == {"mean_ap": 0.8125, "f1_50": 0.956}
    assert result["decode"] == DECODE.to_dict()
    assert [row["epoch"] for row in result["history"]] == [1.0, 2.0]
    assert result["history"][0]["validation_recall_interior"] is None


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)]
)
def test_a_signal_stops_after_the_step_and_says_how_to_resume(
    run: Run, training: FakeTraining, number: signal.Signals, code: int
) -> None:
    training.in_step = lambda step: signal.raise_signal(number) if step == 3 else None
    ran = run("train", "my data", "--name", "cells", "--overwrite", "--json")
    assert ran.code == code
    document = ran.document
    assert document["error"]["type"] == "Stopped"
    assert document["error"]["hint"] == (
        "Go on with: cellunet train 'my data' --name cells --json --resume"
    )
    assert document["result"]["finished"] is False
    assert document["result"]["epoch"] == 1
    assert document["result"]["scores"] is None
    assert "1 of 2 epochs are done; every step is saved" in ran.err
    assert "\nGo on with: cellunet train 'my data' --name cells" in ran.err


def test_a_stop_names_the_fold_that_it_was_in(run: Run, training: FakeTraining) -> None:
    training.fold, training.folds = 2, 3
    training.in_step = lambda step: signal.raise_signal(signal.SIGINT)
    ran = run("train", "a", "--name", "cells", "--json")
    assert "In fold 2 of 3, 0 of 2 epochs are done" in ran.err.replace("\n", " ")
    result = ran.document["result"]
    assert (result["fold"], result["folds"]) == (2, 3)


def test_a_second_signal_ends_at_once(run: Run, training: FakeTraining) -> None:
    def twice(step: int) -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    training.in_step = twice
    ran = run("train", "a", "--name", "cells", "--json")
    assert ran.code == 130
    assert ran.document["result"] is None
    assert ran.document["error"]["message"] == "Stopped at once."
    assert "go on with: cellunet train a --name cells --json --resume" in ran.err


def test_a_device_that_is_not_there_is_refused(
    run: Run, training: FakeTraining, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(request: TrainRequest, hooks: Hooks) -> Trained:
        raise DeviceError(f"No {request.device}.", hint="Available: cpu.")

    monkeypatch.setattr(task, "train", refuse)
    ran = run("train", "a", "--name", "n", "--device", "cuda")
    assert (ran.code, ran.err) == (1, "cellunet: error: No cuda. Available: cpu.\n")


def test_quiet_leaves_results_and_takes_progress_away(
    run: Run, training: FakeTraining
) -> None:
    loud, quiet = (
        run("train", "a", "--name", "n"),
        run("train", "a", "--name", "n", "-q"),
    )
    assert loud.err
    assert (quiet.out, quiet.err) == (loud.out, "")


def test_what_equals_its_default_counts_as_given(
    run: Run, training: FakeTraining, toml
) -> None:
    first = toml("seed = 0\n[weights]\nborder_weight = 10\n[encoding]\nboundary_px = 2")
    run("train", "a", "--from", "nuclei", "--config", first)
    second = toml("crop_px = 192\n[weights]\nclass_weights = [1, 1, 3]")
    words = ("--folds", "0", "--preset", "default", "--epochs", "30")
    run("train", "a", "--config", second, *words)
    run("train", "a")
    assert [request.given for request in training.requests] == [
        {"weights.border_weight", "encoding.boundary_px", "seed"},
        {"weights.class_weights", "decode.class_odds", "crop_px", "folds", "preset"}
        | {"epochs"},
        set(),
    ]


def curve(
    value: float = 0.02, low: float = 0.01, *, finished: bool = True
) -> LearningCurve:
    estimate = Estimate(value=0.8, low=0.79, high=0.81)
    return LearningCurve(
        folder=Path("out"),
        start="nuclei",
        finished=finished,
        points=(
            LearningCurvePoint(images=0, objects=0.0, loss=0.25, mean_ap=estimate),
        ),
        outlook=GainForecast(more=20, gain=Estimate(value=value, low=low, high=0.03)),
    )


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch):
    requests: list[object] = []
    monkeypatch.setattr(
        curve_task, "learning_curve", lambda *given: requests.append(given) or curve()
    )
    pairs = tuple(Pair(Path("i"), Path("a"), f"{i}") for i in range(30))
    monkeypatch.setattr(suited, "find_pairs", lambda *_: Pairs(pairs, "folders"))
    return requests


def test_a_curve_keeps_the_share_of_images_out_that_is_asked_for(
    run: Run, asked
) -> None:
    assert run("train", "a", "--learning-curve", "--out", "o", "--val", "0.2").code == 0
    ((request, _, _),) = asked
    assert request.split == SplitConfig(folds=0, validation_fraction=0.2)


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


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("--minutes 5", "as long as --epochs says"),
        ("--resume", "without it the same command goes on"),
        (
            "--folds 5",
            "--folds 5 does not go with --learning-curve, which has 3 rounds",
        ),
    ],
)
def test_what_a_curve_has_no_use_for_is_refused(
    run: Run, asked, words: str, told: str
) -> None:
    line = "train a --learning-curve --out o"
    ran = run(*line.split(), *words.split())
    assert ran.code == 2
    assert told in " ".join(ran.err.replace("│", " ").split())
    assert not asked
    assert run(*line.split(), "--folds", "3").code == 0


def test_an_unsure_gain_is_said_to_be_unsure() -> None:
    assert "is not sure: +0.005 [-0.010, +0.030]" in sentence(curve(0.005, -0.01))


def test_a_stopped_curve_says_how_to_go_on(run: Run, asked, monkeypatch) -> None:
    monkeypatch.setattr(curve_task, "learning_curve", lambda *_: curve(finished=False))
    ran = run("train", "a", "--learning-curve", "--out", "out")
    assert "Go on with: cellunet train a --learning-curve --out out" in ran.err


INFO = RunInfo(
    training_images=100,
    validation_images=50,
    device="cpu",
    threads=2,
    epochs=3,
    steps_per_epoch=4,
    parameters=468_963,
    folder=Path("runs") / "[x] ä",
    start="nuclei",
    folds=1,
)


def _row(epoch: int, loss: float) -> dict[str, float]:
    row = {"epoch": float(epoch), "learning_rate": 1e-3, "train_loss": 0.5}
    row["validation_loss"] = loss
    for name in ("background", "interior", "boundary"):
        row[f"train_precision_{name}"] = row[f"train_recall_{name}"] = 0.1
        row[f"validation_precision_{name}"] = 0.9876
        row[f"validation_recall_{name}"] = math.nan
    return row


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def _watch(stream: io.StringIO, seconds_each: float = 1.0) -> str:
    clock = Clock()
    console = Console(stream)
    view = TrainingView(console, clock)
    view.start(INFO)
    for step in range(1, 9):
        clock.now += seconds_each
        view.step(step, 12, 2.0)
        if console.live:
            console.foot().refresh()
        if step % 4 == 0:
            view.epoch(_row(step // 4, 0.75 if step == 4 else 0.8))
    assert list(view.track([1, 2], "Choosing constants")) == [1, 2]
    view.close()
    return stream.getvalue()


def test_without_a_terminal_an_epoch_is_one_line() -> None:
    first, folder, *epochs = _watch(io.StringIO()).splitlines()
    assert first == (
        "Training on 100 images, 50 for validation, from model nuclei; 3 epochs of 4 "
        "steps; 468,963 weights; cpu, 2 threads."
    )
    assert folder == f"Run folder: {INFO.folder}"
    assert epochs == [
        f"epoch {n}/3: loss 0.5000, validation {loss}; precision/recall background "
        f".988/-, interior .988/-, boundary .988/-; {left} left"
        for n, loss, left in ((1, "0.7500", "8.0 s"), (2, "0.8000", "4.0 s"))
    ]


def test_without_a_terminal_a_long_epoch_tells_where_it_is() -> None:
    lines = _watch(io.StringIO(), seconds_each=50).splitlines()
    assert lines[2] == "epoch 1/3, step 3/4, loss 2.0000, 7 min 30 s left"
    assert len(lines) == 2 + 2 + 2


def test_on_a_terminal_epochs_make_a_table_and_the_best_are_marked(
    terminal: io.StringIO,
) -> None:
    shown = _watch(terminal)
    header, names = header_lines(_row(1, 0.75))
    assert header in shown
    assert names in shown
    assert row_line(_row(1, 0.75)) + "  best" in shown
    assert row_line(_row(2, 0.8)) + "  best" not in shown
    assert row_line(_row(2, 0.8)) in shown
    assert shown.count(header) == 1
    assert "epoch 2" in shown
    assert "loss 2.0000" in shown


def test_headers_stand_above_their_columns() -> None:
    first, second = header_lines(_row(1, 0.75))
    row = row_line(_row(1, 0.75))
    assert len(second) == len(row) <= 79
    assert second.index("valid.") + 6 == row.index("0.7500") + 6
    end = first.index("background") + len("background")
    assert row.index(".988") < end < row.index(".988") + 14


@pytest.mark.parametrize(
    ("values", "drawn"),
    [
        ([], ""),
        ([1.0], ""),
        ([1.0, math.nan], ""),
        ([1.0, 2.0], "▁█"),
        ([2.0, 2.0, math.inf], "▁▁"),
    ],
)
def test_sparklines(values: list[float], drawn: str) -> None:
    assert sparkline(values) == drawn


def test_no_block_characters_where_the_terminal_cannot_show_them(
    terminal: io.StringIO,
) -> None:
    terminal.encoding = "cp1252"  # type: ignore[misc]
    assert "█" not in _watch(terminal)


def test_a_device_that_is_not_a_cpu_has_no_threads() -> None:
    stream = io.StringIO()
    import dataclasses

    TrainingView(Console(stream)).start(dataclasses.replace(INFO, device="cuda:1"))
    assert "weights; cuda:1." in stream.getvalue()


def test_every_fold_begins_with_its_first_epoch() -> None:
    stream, clock = io.StringIO(), Clock()
    view = TrainingView(Console(stream), clock)
    view.start(dataclasses.replace(INFO, folds=2))
    clock.now = 1000.0
    # The first step of the second fold: 3 epochs of 4 steps are done.
    view.step(13, 24, 0.5)
    view.close()
    assert "in 2 folds, from model nuclei" in stream.getvalue()
    assert "epoch 1/3, step 1/4" in stream.getvalue()


def test_each_training_of_a_curve_has_a_time_of_its_own() -> None:
    stream, clock = io.StringIO(), Clock()
    view = TrainingView(Console(stream), clock)
    for _ in range(2):
        for step in (1, 2, 3):
            clock.now += 100.0
            view.step(step, 5, 0.5)
    view.close()
    # Of the second training: after 1 step of 100 s 3 are left.
    assert stream.getvalue().splitlines()[1:] == [
        "step 1, loss 0.5000",
        "step 3, loss 0.5000, 3 min 20 s left",
    ]
