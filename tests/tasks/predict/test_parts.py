"""Parts of a batch: joined they are the whole, and what is missing is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tifffile

from cellunet.command_config import PredictConfig
from cellunet.errors import BusyError, InputError
from cellunet.io.files import at_work
from cellunet.io.images import names_of_images
from cellunet.tasks.predict import inputs as predict_inputs
from cellunet.tasks.predict.batch import predict
from cellunet.tasks.predict.parts import FOLDER, join
from tests.io.microscope_files import write_lif

SAVE = ("table", "coco", "report")


@pytest.fixture
def images(tmp_path, nuclei_image) -> Path:
    """Three images, the middle one in a folder of its own."""
    folder = tmp_path / "images"
    (folder / "inner").mkdir(parents=True)
    for number, name in enumerate(("a.tif", "inner/b.tif", "z.tif")):
        tifffile.imwrite(folder / name, nuclei_image((64, 64), 8, number)[0])
    return folder


@pytest.fixture
def part(tiny_model, tmp_path, images):
    """``part(1, 2)``: segment the first of two parts; ``part()``: all images."""

    def call(
        number=None, count=None, *, inputs=images, out="out", should_stop=None, **config
    ):
        return predict(
            [str(inputs)],
            tmp_path / out,
            model=str(tiny_model.folder),
            threads=1,
            config=PredictConfig(
                part=count and (number, count), **{"save": ("table",), **config}
            ),
            should_stop=should_stop or (lambda: False),
        )

    return call


def test_joined_parts_are_what_one_call_writes(part, tmp_path) -> None:
    for number in (2, 1):
        assert (found := part(number, 2, save=SAVE)).table is found.report is None
    joined, whole = join(tmp_path / "out"), part(out="whole", save=SAVE)
    for name in ("table.csv", "coco.json"):
        ours, theirs = (tmp_path / folder / name for folder in ("out", "whole"))
        assert ours.read_bytes() == theirs.read_bytes()
    inputs = [image.input for image in joined.images]
    assert inputs == [image.input for image in whole.images]
    assert [Path(name).name for name in inputs] == ["a.tif", "b.tif", "z.tif"]
    assert joined.engine == whole.engine
    assert joined.settings == json.loads(json.dumps(whole.settings))
    page = Path(joined.report).read_text("utf-8")
    assert "in 3 images" in page
    assert " s in 2 parts" in page


def test_neither_images_nor_model_nor_the_place_of_the_results_are_needed(
    part, images, tmp_path, monkeypatch
) -> None:
    for number in (1, 2):
        part(number, 2)
    whole = part(out="whole")
    for path in images.rglob("*.tif"):
        path.unlink()
    monkeypatch.setenv("CELLUNET_HOME", str(tmp_path / "nowhere"))
    monkeypatch.chdir((tmp_path / "out").rename(tmp_path / "moved").parent)
    found = join(Path("moved"))
    assert len(found.done) == 3
    assert Path("moved/table.csv").read_bytes() == Path(whole.table).read_bytes()


def test_missing_and_stopped_parts_are_named(part, tmp_path) -> None:
    out = tmp_path / "out"
    with pytest.raises(InputError, match="holds no finished part"):
        join(out)
    part(1, 4)
    part(3, 4, should_stop=lambda: True)
    with pytest.raises(InputError) as refused:
        join(out)
    assert refused.value.message == (
        f"3 of the 4 parts in {out} are not finished: 2 (missing), 4 (missing), "
        "3 (stopped after 0 images)."
    )
    assert not (out / "table.csv").exists()


def test_one_part_that_is_stopped_after_one_image_is_named(part, tmp_path) -> None:
    part(1, 1, should_stop=(tmp_path / "out" / "a.tif").exists)
    with pytest.raises(InputError) as refused:
        join(tmp_path / "out")
    assert refused.value.message == (
        f"1 of the 1 parts in {tmp_path / 'out'} is not finished: "
        "1 (stopped after 1 image)."
    )


def test_a_part_that_begins_again_is_missing_until_it_has_ended(
    part, images, tmp_path, monkeypatch
) -> None:
    for number in (1, 2):
        part(number, 2)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("cellunet.tasks.predict.image.ImageJob.image", killed)
        with pytest.raises(KeyboardInterrupt):
            part(2, 2, overwrite=True)
    with pytest.raises(InputError, match=r"1 of the 2 parts .* 2 \(missing\)"):
        join(tmp_path / "out")


def test_a_part_at_work_is_named(part, tmp_path) -> None:
    part(1, 2)
    with (
        at_work(tmp_path / "out", part=(2, 2)),
        pytest.raises(BusyError, match=r"is being written by process \d+ on"),
    ):
        join(tmp_path / "out")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"scale": 2.0}, "another settings than part 1"),
        ({"save": ("table", "rois")}, "another settings than part 1"),
    ],
)
def test_parts_of_other_settings_do_not_join(change, match, part, tmp_path) -> None:
    part(1, 2)
    part(2, 2, **change)
    with pytest.raises(InputError, match=match):
        join(tmp_path / "out")


def test_parts_of_other_images_do_not_join(part, images, tmp_path) -> None:
    part(1, 2)
    (images / "z.tif").unlink()
    part(2, 2)
    with pytest.raises(InputError, match="another list of images than part 1"):
        join(tmp_path / "out")


def test_of_two_divisions_the_complete_one_counts(part, tmp_path) -> None:
    part(1, 3)
    for number in (1, 2):
        part(number, 2)
    part(2, 3)
    assert len(join(tmp_path / "out").images) == 3


def test_a_call_for_all_leaves_no_record_of_parts(part, tmp_path) -> None:
    part(1, 2)
    assert (tmp_path / "out" / FOLDER / "1-of-2.json").is_file()
    assert len(part().skipped) == 2
    assert not (tmp_path / "out" / FOLDER).exists()


def test_failed_and_removed_images_are_named_among_the_others(
    part, images, tmp_path
) -> None:
    (images / "z.tif").write_bytes(b"no image")
    for number in (1, 2):
        part(number, 2)
    (tmp_path / "out" / "inner" / "b.tif").unlink()
    found = join(tmp_path / "out")
    assert [image.status for image in found.images] == ["done", "failed", "failed"]
    assert "was removed" in found.images[1].message
    assert "z.tif" in found.images[2].message


def test_a_record_that_is_cut_off_is_named(part, tmp_path) -> None:
    part(1, 1)
    path = tmp_path / "out" / FOLDER / "1-of-1.json"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InputError, match=r"1-of-1\.json cannot be read"):
        join(tmp_path / "out")


@pytest.fixture
def sheet(tmp_path):
    """``sheet("x")``: all three images were given this drug."""

    def write(drug: str) -> dict[str, str]:
        path = tmp_path / "sheet.csv"
        rows = "".join(f"{name},{drug}\n" for name in "abz")
        path.write_text(f"file,drug\n{rows}", encoding="utf-8")
        return {"samples": str(path)}

    return write


def test_finished_images_have_the_columns_of_a_changed_sheet(
    part, sheet, tmp_path
) -> None:
    for drug in ("old", "new"):
        for number in (1, 2):
            found = part(number, 2, save=SAVE, **sheet(drug))
    assert len(found.skipped) == 1
    joined, whole = join(tmp_path / "out"), part(out="whole", save=SAVE, **sheet("new"))
    assert Path(joined.table).read_bytes() == Path(whole.table).read_bytes()


def test_parts_of_other_sheets_do_not_join(part, sheet, tmp_path) -> None:
    part(1, 2, **sheet("old"))
    for change in (sheet("new"), {}):
        part(2, 2, **change)
        with pytest.raises(InputError, match="another plate pattern or sheet of sampl"):
            join(tmp_path / "out")


@pytest.mark.parametrize("change", ["settings", "sheet"])
def test_an_old_division_does_not_join_once_a_newer_one_replaced_results(
    change, part, sheet, tmp_path
) -> None:
    for number in (1, 2):
        part(number, 2, **sheet("old"))
    if change == "sheet":
        part(1, 3, **sheet("new"))
    else:
        part(1, 3, scale=2.0, overwrite=True, **sheet("old"))
    with pytest.raises(InputError, match=r"2 of the 3 parts .* 2 \(missing\), 3"):
        join(tmp_path / "out")


def test_a_call_for_a_few_images_leaves_the_records_of_parts(
    part, images, tmp_path
) -> None:
    for number in (1, 2):
        part(number, 2)
    kept = part(inputs=images / "inner")
    assert len(kept.images) == 1
    (images / "c.tif").write_bytes((images / "a.tif").read_bytes())
    part(inputs=images / "c.tif", scale=2.0)
    assert len(join(tmp_path / "out").images) == 3
    part(inputs=images / "a.tif", scale=2.0, overwrite=True)
    with pytest.raises(InputError, match=r"1 of the 2 parts .* 1 \(missing\)"):
        join(tmp_path / "out")


@pytest.fixture
def opened(monkeypatch) -> list[str]:
    """Names of the files whose images are listed."""
    names: list[str] = []

    def listed(path: Path) -> list[str]:
        names.append(path.name)
        return names_of_images(path)

    monkeypatch.setattr(predict_inputs, "names_of_images", listed)
    return names


@pytest.fixture
def lifs(tmp_path, nuclei_image):
    """``lifs("a", "b")``: a folder of LIF with two images each."""
    pytest.importorskip("liffile")
    folder = tmp_path / "lifs"
    folder.mkdir()

    def write(*stems: str) -> Path:
        pixels = [nuclei_image((64, 64), 8, number)[0] for number in range(2)]
        for stem in stems:
            path = folder / f"{stem}.lif"
            write_lif(path, {"one": pixels[0], "0_one": pixels[1]})
        return folder

    return write


def test_a_part_opens_its_own_files_and_those_in_each_others_way(
    part, lifs, opened
) -> None:
    files = lifs("a", "b", "b_1x", "c", "d_c")
    assert [Path(i.output).name for i in part(1, 5, inputs=files).images] == [
        "a_0_one.tif",
        "a_1_0_one.tif",
    ]
    assert opened == ["a.lif", "b.lif", "b_1x.lif"]


def test_parts_of_files_of_several_images_join_to_the_whole(
    part, lifs, tmp_path
) -> None:
    files = lifs("a", "b", "c")
    for number in (1, 2):
        part(number, 2, inputs=files, save=SAVE)
    joined = join(tmp_path / "out")
    whole = part(inputs=files, out="whole", save=SAVE)
    assert len(joined.images) == 6
    assert Path(joined.table).read_bytes() == Path(whole.table).read_bytes()


def test_parts_without_a_file_of_their_own_have_images_of_others(
    part, lifs, tmp_path
) -> None:
    files = lifs("a", "b")
    found = {n: part(n, 5, inputs=files, save=SAVE) for n in (5, 1, 3, 2, 4)}
    assert [len(found[n].images) for n in range(1, 6)] == [1, 1, 1, 1, 0]
    (note,) = found[5].notes
    assert "5 parts of 4 images: parts from 5 on have nothing to do" in note
    joined = join(tmp_path / "out")
    assert joined.notes == (note,)
    whole = part(inputs=files, out="whole", save=SAVE)
    assert [i.image for i in joined.images] == [i.image for i in whole.images]
    for name in ("table.csv", "coco.json"):
        ours, theirs = (tmp_path / folder / name for folder in ("out", "whole"))
        assert ours.read_bytes() == theirs.read_bytes()


@pytest.mark.parametrize("number", [1, 2, 3])
def test_images_of_two_parts_that_would_write_one_file_are_refused_by_each(
    number, part, lifs
) -> None:
    # The second image of a.lif is a_1_0_one, as is the first of a_1.lif.
    with pytest.raises(InputError, match=r"would both write .*a_1_0_one\.tif"):
        part(number, 3, inputs=lifs("a", "a_1", "z"))


def test_with_a_sheet_a_part_knows_the_images_of_all_files(
    part, lifs, opened, tmp_path
) -> None:
    sheet = tmp_path / "sheet.csv"
    sheet.write_text("file,drug\na.lif,x\nb.lif,y\n", encoding="utf-8")
    part(1, 2, inputs=lifs("a", "b"), samples=str(sheet))
    assert opened == ["a.lif", "b.lif"]


def test_records_of_an_earlier_version_are_refused(part, tmp_path) -> None:
    part(1, 1)
    (record,) = (tmp_path / "out" / FOLDER).iterdir()
    values = json.loads(record.read_text("utf-8"))
    for number, image in enumerate(values["images"]):
        image["number"] = number
    record.write_text(json.dumps(values | {"format": 3}), "utf-8")
    with pytest.raises(InputError, match="is of another version"):
        join(tmp_path / "out")
