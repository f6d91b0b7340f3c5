"""``cellunet suggest``: options to a request, a summary, a document."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

pytest.importorskip("torch")
import tifffile

from cellunet.annotations.pairs import find_pairs
from cellunet.command_config import AnnotationConfig, SuggestConfig
from cellunet.tasks.suggest import suggest as task
from cellunet.tasks.suggest.request import Suggested, SuggestedCrop, SuggestRequest

if TYPE_CHECKING:
    from cellunet.progress import Track
    from tests.cli.conftest import Run

CROP = SuggestedCrop(
    name="a [1]_y0_x64",
    image="in/a [1].tif",
    plane=0,
    y=0,
    x=64,
    height=256,
    width=256,
    uncertainty=0.25,
    novelty=1.0,
    share=0.5,
    objects=10,
    unsure=3,
    why="unsure of 3 of 10 objects; stands for 50% of all uncertainty",
)


class FakeSuggesting:
    """Stands in for the task: keeps the request."""

    def __init__(self) -> None:
        self.requests: list[SuggestRequest] = []
        self.failures: tuple[tuple[str, str], ...] = ()
        self.channels: tuple[str, ...] = ()

    def __call__(self, request: SuggestRequest, *, track: Track) -> Suggested:
        self.requests.append(request)
        del track
        return Suggested(
            out=request.out,
            model=request.model,
            sha256="ab" * 32,
            images=2,
            annotations="labels",
            crops=(CROP,),
            channels=self.channels,
            failures=self.failures,
            notes=("A note [b].",),
        )


@pytest.fixture
def suggesting(monkeypatch: pytest.MonkeyPatch) -> FakeSuggesting:
    fake = FakeSuggesting()
    monkeypatch.setattr(task, "suggest", fake)
    return fake


def test_without_options_the_shipped_model_suggests_eight_crops(
    run: Run, suggesting: FakeSuggesting
) -> None:
    assert run("suggest", "in", "--out", "new").code == 0
    assert suggesting.requests == [
        SuggestRequest(
            images=("in",), out=Path("new"), model="nuclei", config=SuggestConfig()
        )
    ]


def test_options_and_annotated_folders_reach_the_task(
    run: Run, suggesting: FakeSuggesting, toml
) -> None:
    words = (
        "suggest in x.tif --data a --data b --out new -m mine --crops 3 --kind rois "
        "--annotations rois --channel DAPI --ignore-value 255 --device cpu "
        "--threads 2 --overwrite --config"
    )
    assert run(*words.split(), toml("[suggest]\nside_px = 128")).code == 0
    assert suggesting.requests == [
        SuggestRequest(
            images=("in", "x.tif"),
            out=Path("new"),
            data=(Path("a"), Path("b")),
            model="mine",
            config=SuggestConfig(crops=3, side_px=128, annotations="rois"),
            channel="DAPI",
            annotations=AnnotationConfig(ignore_value=255, kind="rois"),
            device="cpu",
            threads=2,
            overwrite=True,
        )
    ]


def test_a_file_that_lets_predict_replace_results_replaces_no_corrections(
    run: Run, suggesting: FakeSuggesting, toml
) -> None:
    file = toml("[predict]\noverwrite = true")
    assert run("suggest", "in", "--out", "new", "--config", file).code == 0
    run("suggest", "in", "--out", "new", "--config", file, "--overwrite")
    assert [r.overwrite for r in suggesting.requests] == [False, True]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--out b", "Missing argument 'IMAGES'."),
        ("a", "Missing option '--out'"),
        ("a --out b --epochs 3", "No such option: --epochs"),
        ("a --out b --annotations masks", "'masks' is not one of"),
    ],
)
def test_words_that_mean_nothing_are_wrong_usage(
    run: Run, suggesting: FakeSuggesting, words: str, message: str
) -> None:
    ran = run("suggest", *words.split())
    assert ran.code == 2
    assert message in ran.err
    assert suggesting.requests == []


def test_the_summary_tells_each_crop_and_what_to_do(
    run: Run, suggesting: FakeSuggesting
) -> None:
    ran = run("suggest", "in", "--data", "my data", "--out", "new")
    assert "a [1]_y0_x64.tif" in ran.out
    assert "unsure of 3 of 10 objects" in ran.out
    assert "1 crop of 2 images, with labels of model nuclei: new" in ran.out
    assert f"Correct what is in {Path('new') / 'labels'}, then:" in ran.out
    assert "cellunet train 'my data' new" in ran.out


def test_the_document_holds_crops_and_what_failed(
    run: Run, suggesting: FakeSuggesting
) -> None:
    suggesting.failures = (("in/b.tif", "in/b.tif is no TIFF."),)
    ran = run("suggest", "in", "--out", "new", "--json")
    assert ran.code == 3
    document = ran.document
    assert document["error"]["type"] == "InputsFailed"
    assert "1 of 3 images could not be looked at" in document["error"]["message"]
    result = document["result"]
    assert result["crops"] == [vars(CROP)]
    assert result["model"] == {"name": "nuclei", "sha256": "ab" * 32}
    assert result["table"] == str(Path("new") / "suggested.csv")
    assert result["images"] == 2
    assert result["annotations"] == str(Path("new") / "labels")
    assert result["failures"] == [
        {"input": "in/b.tif", "message": "in/b.tif is no TIFF."}
    ]
    assert result["notes"] == ["A note [b]."]


def test_the_command_writes_training_data_from_end_to_end(
    run: Run, tmp_path: Path, nuclei_image, toml
) -> None:
    image, _ = nuclei_image((100, 100), 14, 3)
    tifffile.imwrite(tmp_path / "a.tif", image)
    out = tmp_path / "new"
    words = (
        tmp_path / "a.tif",
        "--out",
        out,
        "--config",
        toml("[suggest]\nside_px = 64"),
    )
    ran = run("suggest", *words, "--crops", "1", "--threads", "1", "--json")
    assert ran.code == 0
    (crop,) = ran.document["result"]["crops"]
    (pair,) = find_pairs(out).pairs
    assert pair.name == crop["name"]
    cut = image[crop["y"] : crop["y"] + 64, crop["x"] : crop["x"] + 64]
    np.testing.assert_array_equal(tifffile.imread(pair.image), cut)
    assert tifffile.imread(pair.annotation).max() == crop["objects"]
    again = run("suggest", *words)
    assert again.code == 1
    assert "exists and holds crops that were suggested before" in again.err


def test_crops_of_several_channels_are_trained_on_by_these(
    run: Run, suggesting: FakeSuggesting
) -> None:
    suggesting.channels = ("DAPI", "GFP")
    ran = run("suggest", "in", "--out", "new", "--channel", "DAPI,GFP")
    assert suggesting.requests[0].channel == "DAPI,GFP"
    assert "cellunet train new --channel DAPI,GFP" in ran.out


def test_the_line_to_train_by_reads_annotations_as_they_were_read(
    run: Run, suggesting: FakeSuggesting
) -> None:
    words = (
        "--channel DAPI --gray --pages z --kind rois --annotations rois "
        "--ignore-value 255 --through-centers --cells --planes 0-9"
    )
    ran = run("suggest", "in", "--data", "old", "--out", "new", *words.split())
    told = " ".join(ran.out.split())
    assert (
        "cellunet train old new --channel DAPI --gray --pages z --kind rois "
        "--ignore-value 255 --through-centers --cells --planes 0-9"
    ) in told
    assert "make-labels" not in told
    # Crops alone hold one channel, one plane and labels as every command reads them.
    alone = run("suggest", "in", "--out", "new", *words.split())
    assert alone.out.rstrip().endswith("cellunet train new")


def test_drawings_of_another_kind_than_the_crops_are_made_label_images_first(
    run: Run, suggesting: FakeSuggesting
) -> None:
    words = "--data old --out new --kind outlines"
    told = " ".join(run("suggest", "in", *words.split()).out.split())
    assert "cellunet train old new It reads" in told
    assert "first (cellunet make-labels --kind outlines)." in told
