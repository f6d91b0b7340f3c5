"""``cellunet predict``: options become one call; nuclei, failures, a stop are told."""

from __future__ import annotations

import dataclasses
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cellunet.command_config import PredictConfig
from cellunet.errors import ConfigError
from cellunet.io.source import Damage
from cellunet.tasks.predict import batch as task
from cellunet.tasks.predict import like
from cellunet.tasks.predict.inputs import ImageResult, Predictions
from cellunet.tasks.predict.like import EarlierRun
from cellunet.tasks.predict.outputs import OUTPUT_KINDS

if TYPE_CHECKING:
    from tests.cli.conftest import Run

NAME = str(Path("plate [1]") / "ä😀.tif")


def _done(name: str, objects: int, *, warnings: tuple[str, ...] = ()) -> ImageResult:
    return ImageResult(
        input=name,
        output=f"{name}.out",
        status="done",
        objects=objects,
        seconds=0.25,
        warnings=warnings,
        shape=(500, 1000),
    )


def _failed(name: str) -> ImageResult:
    return ImageResult(
        input=name, output=None, status="failed", message=f"{name} is 0 bytes. Copy it."
    )


class FakePrediction:
    """Stands in for the task: keeps the call, returns what it was given."""

    def __init__(self) -> None:
        self.calls: list[tuple[list[str], Path, dict[str, Any]]] = []
        self.images: tuple[ImageResult, ...] = (_done(NAME, 1234),)
        self.at: Callable[[int], None] = lambda index: None
        self.table: str | None = None
        self.notes: tuple[str, ...] = ()
        self.warnings: tuple[str, ...] = ()

    def __call__(self, inputs: list[str], out: Path, **options: Any) -> Predictions:
        self.calls.append((inputs, out, options))
        images: list[ImageResult] = []
        for index, image in enumerate(options["track"](self.images, "Segmenting")):
            self.at(index)
            if options["should_stop"]():
                break
            images.append(image)
        return Predictions(
            model={"name": "nuclei", "sha256": "ab12"},
            engine="onnxruntime 1.2 cpu",
            settings={"scale": 1.0},
            images=tuple(images),
            seconds=2.0,
            stopped=len(images) < len(self.images),
            table=self.table,
            notes=self.notes,
            warnings=self.warnings,
        )


@pytest.fixture
def prediction(monkeypatch: pytest.MonkeyPatch) -> FakePrediction:
    fake = FakePrediction()
    monkeypatch.setattr(task, "predict", fake)
    return fake


def test_without_options_the_shipped_model_is_applied_as_trained(
    run: Run, prediction: FakePrediction
) -> None:
    assert run("predict", NAME, "*.tif", "--out", "o").code == 0
    ((inputs, out, options),) = prediction.calls
    assert (inputs, out) == ([NAME, "*.tif"], Path("o"))
    assert options["config"] == PredictConfig()
    assert options["model"] == "nuclei"
    assert (options["engine"], options["device"]) == ("auto", "auto")
    assert (options["threads"], options["dry_run"]) == (0, False)
    assert options["stdin"] is None


def test_options_and_a_file_become_the_configuration(
    run: Run, prediction: FakePrediction, toml
) -> None:
    words = (
        "predict - --out o --model m --engine torch --device cuda:1 --threads 3 "
        "--channel 2 --gray --z max --min-area 7 --seed-threshold 0.25 --keep-going "
        "--exclude-border --save outlines --save table --save outlines "
        "--max-memory 900 --part 2/3 --overwrite --dry-run --config"
    )
    settings = toml(
        "[predict]\nscale = 0.5\nflips = true\ntable_format = 'parquet'\nlevel = 2\n"
        "tile_px = 256\ninclude = ['thumbs', 'labels']\nmin_area_px = 99\n"
        "z = 'keep'\nsave = ['rois']\nmeasure = 'all'"
    )
    run(*words.split(), settings)
    ((inputs, _, options),) = prediction.calls
    assert inputs == ["-"]
    assert options["stdin"] is sys.stdin
    assert options["config"] == PredictConfig(
        channel="2",
        gray=True,
        z="max",
        scale=0.5,
        min_area_px=7,
        seed_threshold=0.25,
        flips=True,
        level=2,
        include=("thumbs", "labels"),
        measure="all",
        keep_going=True,
        exclude_border=True,
        save=("outlines", "table"),
        table_format="parquet",
        tile_px=256,
        max_memory_mb=900,
        part=(2, 3),
        overwrite=True,
    )
    assert (options["model"], options["engine"]) == ("m", "torch")
    assert (options["device"], options["threads"]) == ("cuda:1", 3)
    assert options["dry_run"] is True


def test_what_was_left_out_is_told(run: Run, prediction: FakePrediction) -> None:
    prediction.notes = ("Left out: 2 thumbnails (a, b).",)
    prediction.warnings = ("Left out: 1 file of formats that are not read.",)
    outcome = run("predict", "plate", "--out", "o")
    assert outcome.code == 0
    assert prediction.notes[0] in outcome.out
    assert f"warning: {prediction.warnings[0]}" in outcome.err


def test_damage_is_exit_code_3_though_no_image_failed(
    run: Run, prediction: FakePrediction
) -> None:
    lost = Damage(0, 0, 256, 256, 512, "tile", "bad data")
    damaged = dataclasses.replace(_done(NAME, 2), damaged=(lost,))
    prediction.images = (damaged, _done("b.tif", 3))
    document = run("predict", "a", "--out", "o", "--json").document
    assert document["exit_code"] == 3
    assert document["error"]["type"] == "InputsDamaged"
    assert (
        f"1 of 2 images damaged, with zeros in place of what is lost; the first: {NAME}"
        in (document["error"]["message"])
    )
    assert document["result"]["images"][0]["damaged"] == [
        {
            "plane": 0,
            "y0": 0,
            "y1": 256,
            "x0": 256,
            "x1": 512,
            "what": "tile",
            "reason": "bad data",
        }
    ]
    assert document["result"]["images"][1]["damaged"] == []


def test_every_kind_of_file_can_be_asked_for(
    run: Run, prediction: FakePrediction
) -> None:
    asked = [word for kind in OUTPUT_KINDS for word in ("--save", kind)]
    assert run("predict", "a", "--out", "o", *asked).code == 0
    assert prediction.calls[0][2]["config"].save == tuple(OUTPUT_KINDS)


@pytest.mark.parametrize("part", ["2", "a/b", "0/3", "4/3", "-1/3", ""])
def test_a_part_is_i_of_n(part, run: Run, prediction: FakePrediction) -> None:
    found = run("predict", "a", "--out", "o", f"--part={part}")
    assert found.code == 1
    assert "For example --part 2/8" in found.err
    assert prediction.calls == []


def test_a_table_format_without_a_table_is_refused(
    run: Run, prediction: FakePrediction, toml
) -> None:
    settings = toml("[predict]\ntable_format = 'parquet'")
    found = run("predict", "a", "--out", "o", "--config", settings)
    assert found.code == 1
    assert "--save table" in found.err
    assert prediction.calls == []


def test_a_run_is_repeated_and_options_come_before(
    run: Run, prediction: FakePrediction, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    earlier = EarlierRun(
        label=Path("a.tif"),
        model="mine",
        engine="torch 2.1 cuda bfloat16, 4 flips",
        version="0.0.1",
        settings={"flips": True, "scale": 2.0, "channel": "DAPI"},
    )

    def earlier_run(label: Path, model: str | None) -> EarlierRun:
        asked.append((label, model))
        return earlier

    monkeypatch.setattr(like, "earlier_run", earlier_run)
    found = run("predict", "b", "--out", "o", "--like", "a.tif", "--diameter", "9")
    assert "a.tif was made by cellunet 0.0.1 (now" in found.out
    run("predict", "b", "--out", "o", "--like", "a.tif", "--model", "m", "--device=cpu")
    assert asked == [(Path("a.tif"), None), (Path("a.tif"), "m")]
    (_, _, first), (_, _, other) = prediction.calls
    assert first["config"] == PredictConfig(flips=True, channel="DAPI", diameter_px=9.0)
    assert (first["model"], first["engine"]) == ("mine", "torch-bfloat16")
    assert (first["device"], other["device"]) == ("cuda", "cpu")
    run("predict", "b", "--out", "o", "--like", "a.tif", "--plate-pattern", "incell")
    run("predict", "b", "--out", "o")
    kept = [options["keep_columns"] for _, _, options in prediction.calls]
    assert kept == [True, True, False, False]


def test_the_table_of_the_run_is_told(run: Run, prediction: FakePrediction) -> None:
    assert "Table" not in run("predict", "a", "--out", "o").out
    prediction.table = str(Path("o") / "table.csv")
    found = run("predict", "a", "--out", "o", "--json")
    assert found.document["result"]["table"] == prediction.table
    assert prediction.table in run("predict", "a", "--out", "o").out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--pixel-size 2 --diameter 9", "Both diameter and pixel size were given."),
        ("--pixel-size 2 --diameter model", "Give one of them: the scale follows"),
        ("--diameter big", "--diameter is 'big'"),
        ("--pixel-size 0", "pixel_size_um is 0; it must be 0.001 to 1000."),
        ("--seed-threshold 1", "seed_threshold is 1; it must be above 0 and below 1."),
        ("--diameter nan", "diameter_px is nan; it must be 2 to 2000."),
    ],
)
def test_settings_that_cannot_be_are_refused_before_work(
    run: Run, prediction: FakePrediction, words: str, message: str
) -> None:
    ran = run("predict", "a", "--out", "o", *words.split())
    assert ran.code == 1
    assert message in ran.err
    assert prediction.calls == []


def test_the_summary_tells_nuclei_per_image_and_in_all(
    run: Run, prediction: FakePrediction
) -> None:
    other = str(Path("plate [1]") / "deeper" / "b.tif")
    skipped = ImageResult(input="x.tif", output="o", status="skipped")
    prediction.images = (_done(NAME, 1234), _done(other, 6), skipped)
    ran = run("predict", "a", "--out", "out [2]")
    assert (ran.code, ran.err) == (0, "")
    lines = ran.out.splitlines()
    assert lines[0].split() == ["image", "nuclei", "time", "pixel", "size"]
    # Two images of 0.5 Mpx each in 2 s.
    assert lines[5] == (
        "1,240 nuclei in 2 images (1 more finished before); 2.0 s, 0.50 Mpx/s; "
        "onnxruntime 1.2 cpu, model nuclei."
    )
    assert lines[6] == "Label images: out [2]"
    assert "x.tif" in lines[3]
    assert lines[3].endswith("finished before")


def test_the_summary_tells_as_what_pages_without_a_name_were_read(
    run: Run, prediction: FakePrediction
) -> None:
    pages = "3 pages, read as T"
    skipped = ImageResult(input="x.tif", output="o", status="skipped", pages=pages)
    prediction.images = (replace(_done(NAME, 5), pages=pages), skipped)
    first, second = run("predict", "a", "--out", "o").out.splitlines()[1:3]
    assert first.endswith("  3 pages, read as T")
    assert second.endswith("  finished before, 3 pages, read as T")


def test_the_folder_that_all_inputs_share_is_not_repeated(
    run: Run, prediction: FakePrediction, tmp_path: Path
) -> None:
    prediction.images = tuple(
        _done(str(tmp_path / part), 1) for part in ("a.tif", "b/c.tif")
    )
    err = run("predict", "a", "--out", "o").out
    assert str(tmp_path) not in err
    assert str(Path("b") / "c.tif") in err


def test_a_call_that_finds_everything_done_says_so(
    run: Run, prediction: FakePrediction
) -> None:
    prediction.images = (ImageResult(input="a", output="o", status="skipped"),)
    err = run("predict", "a", "--out", "o").out
    assert "1 image finished before, nothing new.\n" in err


def test_files_that_were_added_are_told(run: Run, prediction: FakePrediction) -> None:
    skipped = ImageResult(input="a.tif", output="o", status="skipped")
    prediction.images = (skipped, replace(skipped, input="b.tif", added=("rois",)))
    out = run("predict", "a", "--out", "o").out
    assert "b.tif" in out
    assert "finished before, rois added\n" in out
    assert (
        "2 images finished before; rois added to 1 from the labels that were there.\n"
        in out
    )


def test_new_images_are_shown_where_many_were_finished_before(
    run: Run, prediction: FakePrediction
) -> None:
    before = [
        ImageResult(input=f"{i}.tif", output="o", status="skipped") for i in range(30)
    ]
    prediction.images = (*before, _done("new.tif", 7))
    out = run("predict", "a", "--out", "o").out
    assert out.splitlines()[1].startswith("new.tif")
    assert "0.tif" not in out
    assert "7 nuclei in 1 image (30 more finished before)" in out


def test_what_many_images_fail_by_is_told_once(
    run: Run, prediction: FakePrediction
) -> None:
    failed = [
        ImageResult(
            input=f"in/{i}.ome.tif",
            output=None,
            status="failed",
            message=f"out/{i}.tif exists and in/{i}.ome.tif has 3 channels. Try 1.",
        )
        for i in range(300)
    ]
    other = replace(failed[0], input="z.tif", message="z.tif is 0 bytes.")
    prediction.images = (*failed, other)
    ran = run("predict", "a", "--out", "o")
    assert ran.code == 3
    told = ran.err.splitlines()
    assert told[:3] == [
        "301 failed:",
        "  300 images by the same; the first: out/0.tif exists and "
        "in/0.ome.tif has 3 channels. Try 1.",
        "  z.tif is 0 bytes.",
    ]


def test_a_long_list_is_cut(run: Run, prediction: FakePrediction) -> None:
    prediction.images = tuple(_done(f"{i}.tif", 1) for i in range(25))
    err = run("predict", "a", "--out", "o").out
    assert "19.tif" in err
    assert "20.tif" not in err
    assert "and 5 more\n" in err


def test_failed_inputs_are_named_last_and_exit_3(
    run: Run, prediction: FakePrediction
) -> None:
    prediction.images = (_failed("bad [1].tif"), _done(NAME, 2), _failed("worse.tif"))
    ran = run("predict", "a", "--out", "o")
    assert ran.code == 3
    assert ran.err.endswith(
        "2 failed:\n  bad [1].tif is 0 bytes. Copy it.\n  worse.tif is 0 bytes. "
        "Copy it.\n"
    )


def test_failed_inputs_are_in_the_document_beside_the_others(
    run: Run, prediction: FakePrediction
) -> None:
    prediction.images = (_failed("bad [1].tif"), _done(NAME, 2))
    document = run("predict", "a", "--out", "o", "--json").document
    assert document["exit_code"] == 3
    assert document["error"]["type"] == "InputsFailed"
    assert document["error"]["message"] == (
        "1 of 2 images failed; the first: bad [1].tif is 0 bytes. Copy it."
    )
    failed, done = document["result"]["images"]
    assert (failed["status"], failed["objects"]) == ("failed", None)
    assert done == {
        "input": NAME,
        "output": f"{NAME}.out",
        "status": "done",
        "objects": 2,
        "seconds": 0.25,
        "message": "",
        "bug": False,
        "warnings": [],
        "shape": [500, 1000],
        "damaged": [],
        "size": None,
        "added": [],
        "notes": [],
        "pixel_size_um": None,
        "pixel_size_from": "",
        "image": "",
        "pages": "",
        "channels": [],
        "position": "",
        "acquired": "",
        "columns": {},
        "skipped_share": 0.0,
        "within": None,
    }


def test_a_failure_that_does_not_name_its_file_is_told_with_it(
    run: Run, prediction: FakePrediction
) -> None:
    prediction.images = (
        ImageResult(input="a.tif", output=None, status="failed", message="Odd."),
    )
    ran = run("predict", "a", "--out", "o", "--json")
    assert "  a.tif: Odd.\n" in ran.err
    assert ran.document["error"]["message"].endswith("the first: a.tif: Odd.")


def test_each_image_of_a_file_is_told_by_its_own_name(
    run: Run, prediction: FakePrediction
) -> None:
    prediction.images = (
        replace(_failed("p.lif"), image="0"),
        replace(_done("p.lif", 1, warnings=("Odd size.",)), image="1"),
        ImageResult(input="p.lif", output="o", status="skipped", image="2"),
    )
    ran = run("predict", "a", "--out", "o")
    assert "  p.lif (0): p.lif is 0 bytes." in ran.err
    assert "warning: p.lif (1): Odd size.\n" in ran.err
    prediction.images = prediction.images[2:]
    assert run("predict", "a", "--out", "o").out.splitlines()[1].split("  ")[0] == (
        "p.lif (2)"
    )


def test_warnings_are_told_and_many_of_them_cut(
    run: Run, prediction: FakePrediction
) -> None:
    prediction.images = tuple(
        _done(f"{i}.tif", 1, warnings=("Odd size.",)) for i in range(12)
    )
    err = run("predict", "a", "--out", "o").err
    assert err.count("Odd size.") == 10
    assert "warning: 9.tif: Odd size.\n" in err
    assert "and 2 more warnings" in err


def test_a_dry_run_tells_what_would_be_written(
    run: Run, prediction: FakePrediction
) -> None:
    prediction.images = (ImageResult(input="a", output="o/a.tif", status="planned"),)
    err = run("predict", "a", "--out", "o", "--dry-run").out
    assert "would write o/a.tif" in err
    assert "1 image to segment; nothing was written.\n" in err
    assert "Label images" not in err


def test_images_that_all_failed_are_not_told_as_a_dry_run(
    run: Run, prediction: FakePrediction
) -> None:
    prediction.images = (_failed("a.tif"), _failed("b.tif"))
    ran = run("predict", "a", "--out", "o")
    assert ran.out == "No image could be segmented.\n"
    assert "2 failed:" in ran.err


def test_a_signal_ends_after_the_image_and_says_how_to_continue(
    run: Run, prediction: FakePrediction
) -> None:
    prediction.images = tuple(_done(f"{i}.tif", 1) for i in range(5))
    prediction.at = lambda i: signal.raise_signal(signal.SIGTERM) if i == 2 else None
    ran = run("predict", "my images", "--out", "o", "--json")
    assert ran.code == 143
    document = ran.document
    assert document["error"]["message"] == "2 images finished."
    assert document["error"]["hint"] == (
        "Continue with: cellunet predict 'my images' --out o --json"
    )
    assert document["result"]["stopped"] is True
    assert len(document["result"]["images"]) == 2
    assert "\nContinue with: cellunet predict 'my images' --out o" in ran.err


def test_a_stopped_call_that_overwrites_says_that_it_would_begin_anew(
    run: Run, prediction: FakePrediction
) -> None:
    prediction.images = (_done("0.tif", 1), _done("1.tif", 1))
    prediction.at = lambda i: signal.raise_signal(signal.SIGTERM) if i == 1 else None
    ran = run("predict", "a", "--out", "o", "--overwrite", "--json")
    assert ran.document["error"]["hint"] == (
        "With --overwrite it would begin anew. To keep what is finished, and the older "
        "results of other settings: cellunet predict a --out o --json"
    )
    assert "Continue with" not in ran.err


def test_a_stopped_call_whose_settings_file_overwrites_names_the_file(
    run: Run, prediction: FakePrediction, tmp_path: Path
) -> None:
    prediction.images = (_done("0.tif", 1), _done("1.tif", 1))
    prediction.at = lambda i: signal.raise_signal(signal.SIGTERM) if i == 1 else None
    settings = tmp_path / "s.toml"
    settings.write_text("[predict]\noverwrite = true\n")
    ran = run("predict", "a", "--out", "o", "--config", str(settings), "--json")
    hint = ran.document["error"]["hint"]
    assert hint.endswith("leave overwrite out of the --config file")


def test_a_stop_before_the_first_image_is_not_told_as_a_dry_run(
    run: Run, prediction: FakePrediction
) -> None:
    prediction.images = (_done("0.tif", 1),)
    prediction.at = lambda i: signal.raise_signal(signal.SIGTERM)
    ran = run("predict", "a", "--out", "o")
    assert ran.code == 143
    assert "to segment" not in ran.out + ran.err
    assert "0 images finished." in ran.err


def test_a_list_without_paths_is_refused_by_the_task(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(inputs: list[str], out: Path, **options: Any) -> Predictions:
        raise ConfigError("No input.")

    monkeypatch.setattr(task, "predict", refuse)
    assert run("predict", "-", "--out", "o").err == "cellunet: error: No input.\n"


@pytest.mark.parametrize(
    ("word", "value"), [("auto", "auto"), ("model", "model"), ("42.5", 42.5)]
)
def test_the_diameter_is_a_word_or_a_number(
    run: Run, prediction: FakePrediction, word: str, value: str | float
) -> None:
    assert run("predict", "a", "--out", "o", "--diameter", word).code == 0
    assert prediction.calls[0][2]["config"].diameter_px == value


def test_sizes_that_were_found_are_in_the_table(
    run: Run, prediction: FakePrediction
) -> None:
    size = {"diameter_px": 96.2, "scale": 0.42, "added_scale": 1.0, "sure": True}
    prediction.images = (replace(_done(NAME, 3), size=size),)
    lines = run("predict", "a", "--out", "o").out.splitlines()
    assert lines[0].split() == ["image", "nuclei", "time", "size", "pixel", "size"]
    assert "objects of about 96 px, seen at 0.42 and 1" in lines[1]
