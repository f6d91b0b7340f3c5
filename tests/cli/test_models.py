"""``cellunet models``: the list, one model, removal."""

from __future__ import annotations

import inspect
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("torch")

from cellunet import store
from cellunet.config import TrainConfig
from cellunet.config_file import read_settings
from cellunet.errors import ModelNotFoundError
from cellunet.presets import PRESETS, configure
from cellunet.store import home
from cellunet.tasks import fit_model as fitting
from cellunet.tasks import models as task
from cellunet.tasks import quantize as calibration
from cellunet.tasks.fit_model import FittedModel, FittedSettings
from cellunet.tasks.models import ModelInfo
from cellunet.tasks.quantize import CalibratedModel

if TYPE_CHECKING:
    from tests.cli.conftest import Run

READY = ModelInfo(
    name="cells",
    path=Path("home") / "ä [1]",
    shipped=False,
    status="ready",
    bytes=3_840_000,
    target="three-class",
    trained_on="bbbc039 (100)",
    training_images=100,
    copy_of="nuclei",
    score={"mean_ap": 0.8125},
    sha256="ab" * 32,
    created_with="0.1.0",
    card={"diameter_px": [10.0, 20.0, 30.4]},
)
BROKEN = ModelInfo(
    name="bad", path=Path("b"), shipped=False, status="broken", problem="Cut off."
)
SHIPPED = ModelInfo(name="nuclei", path=Path("n"), shipped=True, status="ready")


@pytest.fixture(autouse=True)
def _models(monkeypatch: pytest.MonkeyPatch) -> None:
    def show(name: str) -> ModelInfo:
        found = {m.name: m for m in (READY, BROKEN, SHIPPED)}
        if name not in found:
            raise ModelNotFoundError(f"There is no model {name!r}.")
        return found[name]

    monkeypatch.setattr(task, "list_models", lambda: (READY, BROKEN, SHIPPED))
    monkeypatch.setattr(task, "show_model", show)


def test_the_list_shows_size_images_and_what_is_a_copy(run: Run) -> None:
    ran = run("models")
    assert (ran.code, ran.err) == (0, "")
    lines = [" ".join(line.split()) for line in ran.out.splitlines()]
    assert lines[1] == "cells three-class bbbc039 (100) 3.8 MB copy of nuclei"
    assert lines[2] == "bad 0 B broken"
    assert lines[3] == "nuclei 0 B ships with cellunet"
    assert lines[-1] == f"Your models live in {home() / 'models'}"


def test_what_was_calibrated_alone_is_told_as_that(run: Run, monkeypatch) -> None:
    fitted = replace(READY, copy_of="", calibrated_from="nuclei")
    monkeypatch.setattr(task, "list_models", lambda: (fitted,))
    assert "calibrated from nuclei" in run("models").out


def test_the_list_is_a_document(run: Run) -> None:
    result = run("models", "--json").document["result"]
    (first, *_) = result["models"]
    assert result["folder"].endswith("models")
    assert first == READY.to_dict()
    assert first["path"] == str(READY.path)


def test_one_model_is_shown_with_what_is_known(run: Run) -> None:
    ran = run("models", "show", "cells", "--json")
    assert ran.document["command"] == "models show"
    assert ran.document["result"] == READY.to_dict()
    assert str(READY.path) in ran.err
    assert "10 to 30 px wide, median 20 px" in ran.err
    assert "ab" * 32 in ran.err
    assert "problem" not in ran.err


def test_what_a_model_can_warn_of_is_shown(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "unusual sizes alone; the card holds no statistics" in (
        run("models", "show", "cells").out
    )
    known = {"contrast": [1.0] * 9, "diameter_px": [1.0] * 9}
    told = replace(READY, card=READY.card | {"training_statistics": known})
    monkeypatch.setattr(task, "show_model", lambda name: told)
    assert "unusual contrast, sizes" in run("models", "show", "cells").out


def test_a_broken_model_is_shown_with_its_problem(run: Run) -> None:
    assert "Cut off." in run("models", "show", "bad").out


def test_removal_without_yes_tells_what_it_would_do(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "remove", pytest.fail)
    folder = home() / "models" / "cells"
    folder.mkdir(parents=True)
    (folder / store.WEIGHTS_FILE).write_bytes(b"?" * 3_840_000)
    ran = run("models", "remove", "cells")
    assert ran.code == 1
    assert ran.err == (
        f"cellunet: error: This would remove {folder} (3.8 MB), for good. To do "
        "so: cellunet models remove cells --yes\n"
    )


def test_removal_without_yes_promises_nothing_that_it_will_refuse(run: Run) -> None:
    for words in (("nuclei",), ("nuclei", "--yes")):
        ran = run("models", "remove", *words)
        assert (ran.code, ran.err) == (
            1,
            "cellunet: error: nuclei ships with cellunet and cannot be removed.\n",
        )


def test_removal_with_yes_removes(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "remove", lambda name: Path("gone") / name)
    ran = run("models", "remove", "cells", "--yes", "--json")
    assert ran.document["command"] == "models remove"
    gone = str(Path("gone") / "cells")
    assert ran.document["result"] == {"name": "cells", "removed": gone}
    assert ran.err == f"Removed {gone}\n"


def test_calibration_tells_what_was_made_and_what_was_left_out(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {}

    def made(name: str, inputs: list[str], **options: object) -> CalibratedModel:
        asked.update(options, name=name, inputs=inputs)
        return CalibratedModel(
            model=name,
            path=Path("h") / "model.safetensors",
            images=11,
            skipped=("bad.tif is cut off.",),
        )

    monkeypatch.setattr(calibration, "calibrate", made)
    ran = run("models", "calibrate", "cells", "a", "b", "--channel", "1", "--json")
    assert (asked["name"], asked["inputs"]) == ("cells", ["a", "b"])
    assert asked["channel"] == "1"
    path = str(Path("h") / "model.safetensors")
    told = f"Calibrated cells on 11 images ({path})"
    assert ran.err == f"Skipped: bad.tif is cut off.\n{told}\n"
    assert ran.document["command"] == "models calibrate"
    assert ran.document["result"] == {
        "model": "cells",
        "path": path,
        "images": 11,
        "skipped": ["bad.tif is cut off."],
    }


@pytest.mark.parametrize("command", ["show", "remove"])
def test_an_unknown_model_is_refused(run: Run, command: str) -> None:
    ran = run("models", command, "cell")
    assert ran.code == 1
    assert ran.err.startswith("cellunet: error: There is no model 'cell'.")


def test_the_channels_of_a_model_of_several_are_shown(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    for channels in ([], ["DAPI", "GFP"]):
        info = replace(READY, card=READY.card | {"channels": channels})
        monkeypatch.setattr(task, "show_model", lambda name, info=info: info)
        ran = run("models", "show", "cells")
        assert ("looks at" in ran.out) == bool(channels)
    assert "DAPI, GFP" in ran.out


def test_a_fit_tells_what_it_took_over_and_what_that_gains(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {}
    taken = inspect.signature(fitting.fit_model)

    def made(name: str, data: Path, new: str, **options: object) -> FittedModel:
        taken.bind(name, data, new, **options)
        asked.update(options, name=name, data=data, new=new)
        return FittedModel(
            name=new,
            path=Path("h") / new,
            start=name,
            images=1,
            pieces=4,
            setting=FittedSettings(edge=0.3),
            before={"mean_ap": 0.6, "f1_50": 0.9},
            after={"mean_ap": 0.65, "f1_50": 0.91},
            notes=("Edge: 0.3, mean AP +0.050.",),
        )

    monkeypatch.setattr(fitting, "fit_model", made)
    words = ("data", "--name", "ours", "--pages", "z", "--json")
    ran = run("models", "calibrate", "cells", *words)
    assert asked["pages"] == "z"
    assert (asked["name"], asked["data"]) == ("cells", Path("data"))
    assert asked["new"] == "ours"
    assert ran.err == (
        "Edge: 0.3, mean AP +0.050.\n"
        "On 4 parts of images that were not chosen on: mean AP 0.600 to 0.650, F1 at "
        ".50 0.900 to 0.910.\n"
        "Use it: cellunet predict IMAGES --out DIR --model ours\n"
    )
    assert ran.document["result"]["setting"]["edge"] == 0.3
    ran = run("models", "calibrate", "cells", "a", "b", "--name", "ours")
    assert ran.code == 1
    assert "2 folders were given" in ran.err


def test_settings_of_a_model_are_shown_as_a_file_for_training(
    run: Run, monkeypatch: pytest.MonkeyPatch, toml
) -> None:
    config = PRESETS["few"]
    info = replace(READY, card=READY.card | {"config": config.to_dict()})
    monkeypatch.setattr(task, "show_model", lambda name: info)
    text = run("models", "show", "cells", "--toml").out
    assert configure(read_settings(toml(text))[TrainConfig]) == config
    found = run("models", "show", "cells", "--toml", "--json")
    assert found.document["result"]["toml"] == text


def test_an_unfinished_training_has_no_settings_to_show(run: Run) -> None:
    ran = run("models", "show", "bad", "--toml")
    assert ran.code == 1
    assert "Model 'bad' is broken, so its settings are not known." in ran.err


def test_a_model_goes_out_and_comes_in(run: Run, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("CELLUNET_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    words = ("--to", "bioimageio", "--author", "A B", "--license", "CC0-1.0")
    ran = run("models", "export", "nuclei", *words)
    assert ran.code == 0
    assert ran.out.splitlines() == [
        "Exported nuclei to nuclei.bioimageio.zip (2.0 MB)",
        "In another cellunet: cellunet models add nuclei.bioimageio.zip",
    ]
    ran = run("models", "add", "nuclei.bioimageio.zip", "--name", "theirs")
    assert ran.code == 0
    lines = ran.out.splitlines()
    assert lines[0] == f"Added theirs: {tmp_path / 'home' / 'models' / 'theirs'}"
    assert lines[1] == f"sha256 {store.find_model('nuclei').sha256}"
    assert lines[2] == "Its files have the hashes that came with them."


def test_what_cannot_go_out_or_come_in_is_one_line(
    run: Run, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setenv("CELLUNET_HOME", str(tmp_path / "home"))
    ran = run("models", "export", "nuclei", "--to", "keras", "--json")
    assert ran.code == 1
    assert ran.document["command"] == "models export"
    assert "Known: bioimageio, onnx" in ran.document["error"]["hint"]
    ran = run("models", "add", str(tmp_path / "none.zip"))
    assert (ran.code, len(ran.err.splitlines())) == (1, 1)
    assert run("models", "export", "nuclei").code == 2


@pytest.mark.parametrize("words", [("--author", "A B"), ("--license", "CC0-1.0")])
def test_who_made_a_model_is_not_asked_for_where_it_cannot_be_written(
    run: Run, tmp_path: Path, words: tuple[str, str]
) -> None:
    out = tmp_path / "n.onnx"
    ran = run("models", "export", "nuclei", "--to", "onnx", "--out", str(out), *words)
    assert ran.code == 2
    assert f"{words[0]} goes with --to bioimageio." in ran.err
    assert not out.exists()
