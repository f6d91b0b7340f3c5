"""Prediction: the same labels however it is cut, and nothing lost or half there."""

from __future__ import annotations

import csv
import errno
import io
import itertools
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tifffile

from cellunet import store
from cellunet.command_config import PredictConfig
from cellunet.errors import (
    ConfigError,
    InputError,
    ModelNotFoundError,
    OutputError,
)
from cellunet.io.images import open_image
from cellunet.io.label_tiff import read_provenance
from cellunet.io.png_jpeg import write_png
from cellunet.tasks.predict import image as predict_image
from cellunet.tasks.predict import settings as recipe
from cellunet.tasks.predict.batch import predict
from cellunet.tasks.predict.inputs import ImageResult, Predictions

Run = Callable[..., Predictions]


@pytest.fixture
def run(tiny_model, tmp_path) -> Run:
    """``run(inputs, scale=2, engine="torch")``: predict into ``tmp_path / "out"``."""

    def call(*inputs: object, out: Path | None = None, **options: Any) -> Predictions:
        names = ("engine", "model", "dry_run", "stdin", "track", "on_image")
        names += ("should_stop",)
        other = {k: options.pop(k) for k in names if k in options}
        return predict(
            [str(text) for text in inputs],
            out or tmp_path / "out",
            threads=1,
            config=PredictConfig(**options),
            **{"model": str(tiny_model.folder), **other},
        )

    return call


@pytest.fixture
def field(tmp_path, nuclei_image) -> Path:
    """One image of 90 x 70 px."""
    path = tmp_path / "in" / "field.tif"
    path.parent.mkdir()
    tifffile.imwrite(path, nuclei_image((90, 70), 14, 40)[0])
    return path


@pytest.fixture
def three(tmp_path, nuclei_image) -> Path:
    """A folder of three images."""
    folder = tmp_path / "three"
    folder.mkdir()
    for number in range(3):
        tifffile.imwrite(
            folder / f"i{number}.tif", nuclei_image((64, 64), 8, number)[0]
        )
    return folder


def result(found: Predictions) -> npt.NDArray[Any]:
    """The labels of the only image."""
    (image,) = found.images
    assert image.status == "done", image.message
    assert image.output is not None
    return tifffile.imread(image.output)


def failure(found: Predictions) -> str:
    """Why the only image failed."""
    (image,) = found.images
    assert image.status == "failed"
    assert image.output is None
    return image.message


def left_in(folder: Path) -> list[str]:
    """Every file below, leftovers included."""
    found = [p for p in folder.rglob("*") if p.is_file()]
    return sorted(p.relative_to(folder).as_posix() for p in found)


def stop_at(call: int) -> Callable[[], bool]:
    calls = itertools.count(1)
    return lambda: next(calls) >= call


@pytest.mark.smoke
def test_most_drawn_nuclei_are_found(run, field) -> None:
    labels = result(run(field))
    assert labels.dtype == np.uint16
    assert labels.shape == (90, 70)
    assert 8 <= labels.max() <= 20
    assert set(np.unique(labels)) == set(range(labels.max() + 1))


@pytest.mark.smoke
def test_a_result_says_what_became_of_each_input(run, field, tmp_path) -> None:
    seen: list[ImageResult] = []
    found = run(field, on_image=seen.append)
    (image,) = found.images
    assert seen == [image]
    assert found.done == (image,)
    assert (found.skipped, found.failed, found.stopped) == ((), (), False)
    assert image.input == str(field)
    assert image.output == str(tmp_path / "out" / "field.tif")
    assert image.objects == result(found).max()
    assert image.shape == (90, 70)
    assert image.seconds > 0
    plain = found.to_dict()
    assert plain["images"][0]["shape"] == [90, 70]
    assert plain["images"][0]["warnings"] == []
    assert plain["model"]["name"] == "tiny"


def test_the_tile_changes_no_label(run, tmp_path, nuclei_image) -> None:
    tifffile.imwrite(tmp_path / "wide.tif", nuclei_image((150, 300), 60, 41)[0])
    first = result(run(tmp_path / "wide.tif"))
    for tile in (64, 100, 257):
        out = tmp_path / f"tile {tile}"
        again = result(run(tmp_path / "wide.tif", tile_px=tile, out=out))
        np.testing.assert_array_equal(again, first)
    # Nor is it what a result is known by.
    assert run(tmp_path / "wide.tif", tile_px=64).skipped


def test_a_plain_stack_says_how_its_pages_were_read(run, field, tmp_path) -> None:
    pages = np.stack([tifffile.imread(field)] * 2)
    pages[1] = pages[1].min()
    tifffile.imwrite(tmp_path / "plain.tif", pages, photometric="minisblack")
    (taken,) = run(tmp_path / "plain.tif").images
    assert (taken.pages, taken.shape) == ("2 pages, read as T", (2, 90, 70))
    assert "--pages channels" in taken.notes[0]
    assert taken.output is not None
    assert "pages" not in read_provenance(Path(taken.output))["settings"]
    out = tmp_path / "said"
    found = run(tmp_path / "plain.tif", out=out, pages="channels", channel="0")
    (said,) = found.images
    assert (said.pages, said.notes) == ("2 pages, read as C", ())
    np.testing.assert_array_equal(result(found), result(run(field)))
    assert said.output is not None
    assert read_provenance(Path(said.output))["settings"]["pages"] == "channels"


def test_min_area_counts_the_images_own_pixels(run, field, tiny_model) -> None:
    diameter = tiny_model_diameter(tiny_model)
    for size in ({}, {"scale": 1.5}, {"diameter_px": diameter / 1.5}):
        everything = result(run(field, min_area_px=0, overwrite=True, **size))
        areas = np.bincount(everything.ravel())[1:]
        kept = result(run(field, min_area_px=60, overwrite=True, **size))
        assert 0 < kept.max() < len(areas) or areas.min() >= 60
        assert kept.max() == (areas >= 60).sum()


def test_a_lower_foreground_threshold_draws_objects_larger_for_every_tile(
    run, tmp_path, nuclei_image
) -> None:
    path = tmp_path / "wide.tif"
    tifffile.imwrite(path, nuclei_image((150, 300), 60, 41)[0])
    areas = {}
    for threshold in (0.3, 0.5, 0.7):
        first, *others = (
            result(
                run(
                    path,
                    out=tmp_path / f"{threshold} {tile}",
                    tile_px=tile,
                    min_foreground=threshold,
                )
            )
            for tile in (64, 100, 1024)
        )
        for other in others:
            np.testing.assert_array_equal(first, other)
        areas[threshold] = (first > 0).sum()
    assert areas[0.3] > areas[0.5] > areas[0.7] > 0
    known = read_provenance(tmp_path / "0.3 64" / "wide.tif")
    assert known["settings"]["min_foreground"] == 0.3
    # What is left as it is leaves no trace.
    assert (
        "min_foreground"
        not in (read_provenance(tmp_path / "0.5 64" / "wide.tif")["settings"])
    )


def test_the_rows_of_a_large_image_are_told_as_the_network_goes(
    run, tmp_path, nuclei_image, monkeypatch
) -> None:
    monkeypatch.setattr(predict_image, "TOLD_PX", 300 * 90 * 2)
    image = nuclei_image((300, 90), 40, 7)[0]
    tifffile.imwrite(tmp_path / "small.tif", image)
    tifffile.imwrite(
        tmp_path / "tall.tif", np.stack([image] * 2), photometric="minisblack"
    )
    seen: dict[str, list[int]] = {}

    def track(items, label, total=None):
        seen[label] = [total]
        for number, item in enumerate(items):
            seen[label].append(number)
            yield item

    run(tmp_path / "small.tif", tmp_path / "tall.tif", track=track, diameter_px="model")
    assert seen.pop("Segmenting")[0] == 2
    # Both planes of 300 rows.
    assert seen == {"Rows of tall.tif": [600, *range(600)]}


def test_a_failure_in_a_large_image_ends_its_bar(run, field, monkeypatch) -> None:
    monkeypatch.setattr(predict_image, "TOLD_PX", 1)
    ended = []

    def track(items, label, total=None):
        try:
            yield from items
        finally:
            ended.append(label)

    def broken(*arguments: object, **options: object) -> None:
        raise OutputError("No room.")

    monkeypatch.setattr(predict_image, "segment", broken)
    assert "No room." in failure(run(field, track=track))
    assert ended == ["Rows of field.tif", "Segmenting"]


def test_large_and_unsure_objects_are_dropped_for_every_tile(
    run, tmp_path, nuclei_image
) -> None:
    path = tmp_path / "wide.tif"
    tifffile.imwrite(path, nuclei_image((150, 300), 60, 41)[0])
    whole = run(path, save=("table",), out=tmp_path / "all")
    labels, rows = result(whole), table_of(whole)
    areas = np.array([int(row["area_px"]) for row in rows])
    sure = np.array([float(row["confidence"]) for row in rows])
    # Between two objects: tables round.
    least = float(np.mean(np.sort(sure)[len(sure) // 3 :][:2]))
    most = int(np.sort(areas)[-4])
    for number, (asked, kept) in enumerate(
        (
            ({"max_area_px": most}, areas <= most),
            ({"min_confidence": least}, sure >= least),
            (
                {"max_area_px": most, "min_confidence": least},
                (areas <= most) & (sure >= least),
            ),
        )
    ):
        assert 0 < kept.sum() < len(kept)
        new = np.concatenate(([0], np.where(kept, np.cumsum(kept), 0)))
        for tile in (64, 100, 1024):
            out = tmp_path / f"{number} {tile}"
            found = run(path, save=("table",), out=out, tile_px=tile, **asked)
            np.testing.assert_array_equal(result(found), new[labels])
        cells = [row["confidence"] for row in table_of(found)]
        assert cells == [r["confidence"] for r, k in zip(rows, kept, strict=True) if k]
        (image,) = found.images
        assert image.objects == kept.sum()
        dropped_by = {
            "max_area_px": "--max-area",
            "min_confidence": "--min-confidence",
        }
        assert image.notes[0] == (
            f"dropped {(~kept).sum()} of {len(kept)} objects "
            f"({', '.join(dropped_by[name] for name in asked)})"
        )
        known = read_provenance(Path(str(image.output)))["settings"]
        assert {n: {**known, **known["decode"]}[n] for n in asked} == asked
    assert "max_area_px" not in whole.settings
    assert whole.settings["decode"]["min_confidence"] == 0
    (image,) = run(path, out=tmp_path / "none", min_confidence=1.0).images
    assert image.objects == 0
    assert not any("Nothing was found" in warning for warning in image.warnings)


def test_only_what_an_option_dropped_is_told_as_its_doing(
    run, tmp_path, nuclei_image, monkeypatch
) -> None:
    path = tmp_path / "wide.tif"
    tifffile.imwrite(path, nuclei_image((150, 300), 60, 41)[0])
    whole = run(path, save=("table",), out=tmp_path / "all")
    sure = np.sort([float(row["confidence"]) for row in table_of(whole)])
    own = recipe.settings_for

    def strict(model: Any, config: PredictConfig, *more: Any) -> Any:
        """As of a model whose own least confidence drops some."""
        found = own(model, config, *more)
        least = float(np.mean(sure[4:6]))
        return replace(found, decode=found.decode.replace(min_confidence=least))

    monkeypatch.setattr(recipe, "settings_for", strict)
    appearances = []
    warn = predict_image.quality_warnings

    def spy(seen: Any, *more: Any) -> tuple[str, ...]:
        appearances.append(seen)
        return warn(seen, *more)

    monkeypatch.setattr(predict_image, "quality_warnings", spy)
    options: dict[str, Any] = {"diameter_px": "model", "max_area_px": 1_000_000}
    [image] = run(path, out=tmp_path / "own", **options).images
    assert image.objects == len(sure) - 5
    assert not any("dropped" in note for note in image.notes)
    # Each of them counts once in what is warned of.
    assert appearances[-1].objects == len(sure)
    [image] = run(path, out=tmp_path / "none", max_area_px=1).images
    assert image.notes[0] == (
        f"dropped {len(sure)} of {len(sure)} objects (--max-area)"
    )
    assert appearances[-1].objects == len(sure)


def test_of_linked_planes_sections_are_dropped(run, tmp_path, nuclei_image) -> None:
    path = tmp_path / "stack.tif"
    planes = np.stack([nuclei_image((64, 72), 7, 1)[0]] * 3)
    tifffile.imwrite(path, planes, imagej=True, metadata={"axes": "ZYX"})
    [image] = run(path, link_planes=True, out=tmp_path / "all").images
    count = 3 * image.objects
    [image] = run(path, link_planes=True, max_area_px=1, out=tmp_path / "none").images
    note = f"dropped {count} of {count} sections, before they were linked (--max-area)"
    assert note in image.notes


def table_of(found: Predictions) -> list[dict[str, str]]:
    """The rows of the table of a run."""
    with Path(str(found.table)).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def tiny_model_diameter(tiny_model) -> float:
    return store.find_model(str(tiny_model.folder)).card.diameter_px[1]


def test_a_diameter_is_a_scale(run, field, tiny_model, tmp_path) -> None:
    diameter = tiny_model_diameter(tiny_model)
    by_scale = run(field, scale=1.25)
    by_diameter = run(field, diameter_px=diameter / 1.25, out=tmp_path / "other")
    assert by_diameter.settings["scale"] == pytest.approx(1.25)
    np.testing.assert_array_equal(result(by_diameter), result(by_scale))


def test_overwrite_computes_anew_what_is_there(run, field) -> None:
    labels = run(field).done[0].output
    assert run(field).skipped
    again = run(field, overwrite=True, save=("outlines",))
    assert again.done[0].added == ()
    before = Path(labels).read_bytes()
    assert run(field, save=("outlines",)).skipped
    assert run(field, overwrite=True).done
    assert Path(labels).read_bytes() == before


def test_an_area_that_is_asked_for_tells_results_apart(run, field) -> None:
    """As trained, it follows the scale at which each image is seen."""
    trained = run(field).settings["decode"]["min_area_px"]
    assert "with fixed min area none (now " in failure(run(field, min_area_px=trained))


def test_a_seed_threshold_is_applied_and_told(run, field) -> None:
    loose = run(field, seed_threshold=0.1)
    strict = run(field, seed_threshold=0.999, overwrite=True)
    assert strict.settings["decode"]["seed_threshold"] == 0.999
    assert strict.done[0].objects < loose.done[0].objects


def test_flips_are_part_of_the_settings_and_of_the_engine(run, field) -> None:
    once = run(field)
    flipped = run(field, flips=True, overwrite=True)
    assert (once.settings["flips"], flipped.settings["flips"]) == (False, True)
    assert flipped.engine == f"{once.engine}, 4 flips"
    assert flipped.done[0].objects > 0


def test_objects_at_the_edge_are_dropped_on_request(run, field) -> None:
    labels = result(run(field))
    inner = result(run(field, exclude_border=True, overwrite=True))
    edge = [labels[0], labels[-1], labels[:, 0], labels[:, -1]]
    at_edge = set(np.concatenate(edge)) - {0}
    assert at_edge
    assert inner.max() == labels.max() - len(at_edge)
    np.testing.assert_array_equal(inner > 0, ~np.isin(labels, [0, *at_edge]))


def test_every_plane_of_a_stack_is_segmented_by_itself(
    run, tmp_path, nuclei_image
) -> None:
    planes = [nuclei_image((64, 72), 7, seed)[0] for seed in range(6)]
    # Every plane in intensities of its own.
    stack = np.stack([p // (i + 1) for i, p in enumerate(planes)]).reshape(2, 3, 64, 72)
    tifffile.imwrite(tmp_path / "s.ome.tif", stack, metadata={"axes": "TZYX"})
    found = run(tmp_path / "s.ome.tif")
    labels = result(found)
    assert labels.shape == (2, 3, 64, 72)
    assert found.images[0].shape == (2, 3, 64, 72)
    assert found.images[0].objects == labels.max(axis=(2, 3)).sum()
    with open_image(tmp_path / "out" / "s.tif") as source:
        assert (source.plane_axes, source.plane_shape) == ("TZ", (2, 3))
    tifffile.imwrite(tmp_path / "one.tif", stack[1, 0])
    np.testing.assert_array_equal(result(run(tmp_path / "one.tif")), labels[1, 0])
    projected = result(run(tmp_path / "s.ome.tif", z="max", overwrite=True))
    assert projected.shape == (2, 64, 72)
    tifffile.imwrite(tmp_path / "max.tif", stack[0].max(axis=0))
    np.testing.assert_array_equal(result(run(tmp_path / "max.tif")), projected[0])


def test_a_color_image_needs_a_channel_or_gray(run, tmp_path, nuclei_image) -> None:
    image = (nuclei_image((64, 64), 8, 3)[0] // 16).clip(0, 255).astype(np.uint8)
    rgb = np.stack([image // 3, image, 255 - image], axis=-1)
    tifffile.imwrite(tmp_path / "rgb.tif", rgb, photometric="rgb")
    tifffile.imwrite(tmp_path / "green.tif", image)
    assert "--channel" in failure(run(tmp_path / "rgb.tif"))
    green = result(run(tmp_path / "rgb.tif", channel="green"))
    np.testing.assert_array_equal(green, result(run(tmp_path / "green.tif")))
    assert result(run(tmp_path / "rgb.tif", gray=True, overwrite=True)).shape == (
        64,
        64,
    )


def test_a_channel_is_chosen_by_number_or_name(run, tmp_path, nuclei_image) -> None:
    image = nuclei_image((64, 64), 8, 3)[0]
    tifffile.imwrite(
        tmp_path / "c.ome.tif",
        np.stack([image[::-1], image]),
        metadata={"axes": "CYX", "Channel": {"Name": ["GFP", "DAPI"]}},
    )
    tifffile.imwrite(tmp_path / "one.tif", image)
    expected = result(run(tmp_path / "one.tif"))
    for channel in ("DAPI", "1"):
        found = run(tmp_path / "c.ome.tif", channel=channel, overwrite=True)
        np.testing.assert_array_equal(result(found), expected)
    assert "DAPI" in failure(run(tmp_path / "c.ome.tif", overwrite=True))


def test_more_objects_than_uint16_holds_are_uint32(
    run, field, tmp_path, monkeypatch
) -> None:
    labels = result(run(field))
    monkeypatch.setattr(predict_image, "MOST_UINT16", int(labels.max()))
    assert result(run(field, out=tmp_path / "just")).dtype == np.uint16
    monkeypatch.setattr(predict_image, "MOST_UINT16", int(labels.max()) - 1)
    wide = result(run(field, out=tmp_path / "more"))
    assert wide.dtype == np.uint32
    np.testing.assert_array_equal(wide, labels)


def test_every_image_beside_has_the_pixel_size_and_the_time_step(
    run, tmp_path, nuclei_image
) -> None:
    image = np.stack([nuclei_image((48, 48), 5, 1)[0]] * 2)
    size = {"PhysicalSizeX": 0.65, "PhysicalSizeY": 0.325, "TimeIncrement": 30.0}
    tifffile.imwrite(tmp_path / "a.ome.tif", image, metadata={"axes": "TYX", **size})
    result(run(tmp_path / "a.ome.tif", save=("classes", "probabilities")))
    for name in ("a", "a_classes", "a_probabilities"):
        channel = "interior" if name == "a_probabilities" else None
        with open_image(tmp_path / "out" / f"{name}.tif", channel=channel) as source:
            assert source.pixel_size_um == pytest.approx((0.325, 0.65))
            assert (source.z_step_um, source.time_step_s) == (None, 30.0)


def test_provenance_says_what_made_the_result(run, field, tiny_model, tmp_path) -> None:
    found = run(field, scale=1.5)
    provenance = read_provenance(tmp_path / "out" / "field.tif")
    assert provenance is not None
    digest = store.find_model(str(tiny_model.folder)).sha256
    assert provenance["model"] == {"name": "tiny", "sha256": digest}
    assert provenance["engine"].startswith("onnxruntime ")
    assert provenance["settings"] == found.settings
    assert provenance["settings"]["scale"] == 1.5
    assert provenance["input"] == {
        "name": "field.tif",
        "bytes": field.stat().st_size,
        "modified_ns": field.stat().st_mtime_ns,
    }


def test_an_index_beside_a_finished_image_is_noticed(run, tmp_path, nuclei_image):
    folder = tmp_path / "in"
    folder.mkdir()
    pixels = nuclei_image((64, 64), 8, 1)[0]
    tifffile.imwrite(folder / "r01c01f01p01-ch1sk1fk1fl1.tiff", pixels)
    run(folder)
    entry = "<Image><URL>{}</URL><ImageResolutionX Unit='m'>3E-07</ImageResolutionX>"
    entry += "<ImageResolutionY Unit='m'>3E-07</ImageResolutionY></Image>"
    index = folder / "Index.idx.xml"
    index.write_text(f"<E>{entry.format('other.tiff')}</E>", encoding="utf-8")
    assert run(folder).skipped, "it says nothing of this image"
    own = entry.format("r01c01f01p01-ch1sk1fk1fl1.tiff")
    index.write_text(f"<E>{own}</E>", encoding="utf-8")
    message = failure(run(folder))
    assert "ch1sk1fk1fl1.tiff with another index of the microscope beside" in message
    (again,) = run(folder, overwrite=True).done
    assert again.pixel_size_um == pytest.approx((0.3, 0.3))
    assert run(folder).skipped


def test_a_rerun_skips_what_is_finished(run, three, tmp_path) -> None:
    run(three)
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").iterdir()}
    (tmp_path / "out" / "i1.tif").unlink()
    found = run(three)
    assert [i.status for i in found.images] == ["skipped", "done", "skipped"]
    after = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").iterdir()}
    assert {p for p in before if before[p] != after[p]} == {tmp_path / "out" / "i1.tif"}


def test_progress_and_its_time_are_of_what_a_rerun_has_still_to_do(
    run, three, tmp_path
) -> None:
    run(three)
    (tmp_path / "out" / "i1.tif").unlink()
    (tmp_path / "out" / "i2.tif").unlink()
    told = []

    def track(items: Any, label: str, total: int | None = None) -> Any:
        for item in items:
            told.append((Path(item.input).name, label, total))
            yield item

    found = run(three, track=track)
    assert told == [("i1.tif", "Segmenting", 2), ("i2.tif", "Segmenting", 2)]
    names = [Path(image.input).name for image in found.images]
    assert names == ["i0.tif", "i1.tif", "i2.tif"]


def test_other_settings_or_inputs_replace_only_on_request(run, field, tmp_path) -> None:
    before = result(run(field))
    message = failure(run(field, seed_threshold=0.9, flips=True))
    assert (
        "made with flips no (now yes), with seed threshold 0.4 (now 0.9). " in message
    )
    assert "--overwrite" in message
    # Constants that follow from the scale are not told beside it.
    message = failure(run(field, scale=2.0))
    assert "with scale none (now 2), with diameter auto (now none). Choose" in message
    os.utime(field, ns=(1, 1))
    assert "was made from field.tif before that was last modified. Choose" in failure(
        run(field)
    )
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "out/field.tif"), before)
    assert run(field, overwrite=True).done


@pytest.mark.parametrize("content", ["cut", "foreign", "empty", "text"])
def test_what_is_no_finished_result_is_not_replaced_unasked(
    content, run, field, tmp_path
) -> None:
    out = tmp_path / "out" / "field.tif"
    result(run(field))
    whole = out.read_bytes()
    if content == "foreign":
        tifffile.imwrite(out, np.zeros((4, 4), np.uint8))
    else:
        out.write_bytes({"cut": whole[:-9], "empty": b"", "text": b"notes"}[content])
    there = out.read_bytes()
    assert "--overwrite" in failure(run(field))
    assert out.read_bytes() == there
    assert run(field, overwrite=True).done
    assert out.read_bytes() == whole


def test_two_inputs_of_one_output_are_refused_before_any_work(
    run, field, tmp_path
) -> None:
    write_png(field.with_suffix(".png"), np.zeros((9, 9, 3), np.uint8))
    with pytest.raises(InputError, match="would both write"):
        run(field.parent)
    assert not (tmp_path / "out").exists()


def test_a_directory_named_like_an_output_is_refused(run, field, tmp_path) -> None:
    (tmp_path / "out" / "field.tif").mkdir(parents=True)
    with pytest.raises(InputError, match="is a folder"):
        run(field)


def test_bad_files_are_named_and_the_others_go_on(run, three, tmp_path) -> None:
    good = (three / "i0.tif").read_bytes()
    (three / "cut.tif").write_bytes(good[:-500])
    (three / "empty.tif").write_bytes(b"")
    (three / "photo.tif").write_bytes(b"\xff\xd8\xff\xe0\0\x10JFIF" + b"\0" * 90)
    tifffile.imwrite(three / "nan.tif", np.full((20, 20), np.nan, np.float32))
    claims = bytearray(good)
    with tifffile.TiffFile(three / "i0.tif") as tiff:
        for tag in ("ImageWidth", "ImageLength"):
            place = tiff.pages.first.tags[tag].offset
            claims[place + 2 : place + 12] = b"\4\0\1\0\0\0" + (10**6).to_bytes(
                4, "little"
            )
    (three / "huge.tif").write_bytes(bytes(claims))
    found = run(three, tmp_path / "gone.tif", "x" * 300 + ".tif")
    assert len(found.done) == 3
    assert {Path(i.input).stem[:9] for i in found.failed} == {
        "cut",
        "empty",
        "photo",
        "nan",
        "huge",
        "gone",
        "x" * 9,
    }
    assert all(i.message for i in found.failed)
    assert left_in(tmp_path / "out") == ["i0.tif", "i1.tif", "i2.tif"]


@pytest.fixture
def one_at_a_time(monkeypatch) -> None:
    """So that it is known which image comes second."""
    monkeypatch.setattr(recipe, "MOST_AT_ONCE", 1)


@pytest.mark.usefixtures("one_at_a_time")
def test_an_image_too_large_for_memory_fails_alone(
    run, three, tmp_path, monkeypatch
) -> None:
    segment_plane = predict_image.segment
    calls = itertools.count()

    def short_of_memory(*arguments, **options):
        if next(calls) == 1:
            raise MemoryError
        return segment_plane(*arguments, **options)

    monkeypatch.setattr(predict_image, "segment", short_of_memory)
    found = run(three)
    assert [i.status for i in found.images] == ["done", "failed", "done"]
    assert "--max-memory" in found.failed[0].message


@pytest.mark.usefixtures("one_at_a_time")
def test_a_full_disk_leaves_complete_files_only(
    run, three, tmp_path, monkeypatch
) -> None:
    calls = itertools.count()
    sync = os.fsync

    def fill(file: int) -> None:
        if next(calls) == 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(file)

    monkeypatch.setattr(os, "fsync", fill)
    found = run(three)
    assert [i.status for i in found.images] == ["done", "failed", "done"]
    assert "no room" in found.failed[0].message
    assert left_in(tmp_path / "out") == ["i0.tif", "i2.tif"]


def test_a_dry_run_says_what_would_be_done_and_writes_nothing(
    run, three, tmp_path
) -> None:
    found = run(three, dry_run=True)
    assert [i.status for i in found.images] == ["planned"] * 3
    assert found.images[0].output == str(tmp_path / "out" / "i0.tif")
    assert not (tmp_path / "out").exists()
    run(three / "i1.tif")
    found = run(three, dry_run=True)
    assert [i.status for i in found.images] == ["planned", "skipped", "planned"]
    found = run(three, dry_run=True, scale=2.0)
    assert [i.status for i in found.images] == ["planned", "failed", "planned"]


@pytest.mark.usefixtures("one_at_a_time")
@pytest.mark.parametrize(
    ("call", "finished"),
    [
        pytest.param(1, 0, id="before the first"),
        # Asked before an image, and at its statistics, network, growth, labels.
        pytest.param(2, 0, id="inside the first"),
        pytest.param(5, 0, id="at the labels of the first"),
        pytest.param(6, 1, id="between two"),
        pytest.param(7, 1, id="inside the second"),
    ],
)
def test_a_stop_leaves_complete_files_only(
    call, finished, run, three, tmp_path
) -> None:
    found = run(three, should_stop=stop_at(call), diameter_px="model")
    assert found.stopped
    told = [Path(i.output).name for i in found.images]
    assert told == left_in(tmp_path / "out") == ["i0.tif"][:finished]
    found = run(three, diameter_px="model")
    assert not found.stopped
    assert len(found.skipped) == finished
    assert left_in(tmp_path / "out") == ["i0.tif", "i1.tif", "i2.tif"]


def test_parts_together_do_what_one_call_does(run, three, tmp_path) -> None:
    counts = [len(run(three, part=(i, 2)).done) for i in (1, 2)]
    assert counts == [2, 1]
    parts = {p.name: p.read_bytes() for p in (tmp_path / "out").glob("*.tif")}
    run(three, out=tmp_path / "whole")
    assert parts == {p.name: p.read_bytes() for p in (tmp_path / "whole").iterdir()}
    assert len(run(three).skipped) == 3


def test_parts_leave_what_is_of_all_images_to_the_call_for_all(run, three) -> None:
    for i in (1, 2):
        found = run(three, part=(i, 2), save=("table", "report"))
        assert (found.table, found.report) == (None, None)
    found = run(three, save=("table", "report"))
    assert len(found.skipped) == 3
    assert len(Path(found.table).read_text("utf-8").splitlines()) > 3
    assert Path(found.report).is_file()


def test_a_bound_on_memory_changes_no_label(run, tmp_path, nuclei_image) -> None:
    tifffile.imwrite(tmp_path / "wide.tif", nuclei_image((150, 700), 80, 9)[0])
    whole = result(run(tmp_path / "wide.tif"))
    bound = run(tmp_path / "wide.tif", max_memory_mb=330, out=tmp_path / "bound")
    np.testing.assert_array_equal(result(bound), whole)
    none = run(tmp_path / "wide.tif", max_memory_mb=30, out=tmp_path / "none")
    assert "--max-memory" in none.failed[0].message


def test_classes_probabilities_and_outlines_are_saved(run, field, tmp_path) -> None:
    found = run(field, save=("classes", "probabilities", "outlines"), tile_px=64)
    labels, out = result(found), tmp_path / "out"
    probabilities = tifffile.imread(out / "field_probabilities.tif")
    assert probabilities.shape == (3, 90, 70)
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(axis=0), 1, atol=1e-5)
    classes = tifffile.imread(out / "field_classes.tif")
    assert classes.dtype == np.uint8
    np.testing.assert_array_equal(classes, probabilities.argmax(axis=0))
    # Objects grow from what is interior.
    assert (labels[probabilities[1] > 0.99] > 0).mean() > 0.9
    assert (out / "field_outlines.png").read_bytes().startswith(b"\x89PNG")
    assert len(left_in(out)) == 4
    # What lies beside a result changes none of its pixels.
    np.testing.assert_array_equal(result(run(field, out=tmp_path / "bare")), labels)


def test_what_is_missing_beside_a_result_is_made_again(run, field, tmp_path) -> None:
    save = ("classes", "outlines")
    run(field, save=save)
    assert run(field, save=save).skipped
    (tmp_path / "out" / "field_classes.tif").unlink()
    assert run(field, save=save).done
    assert len(left_in(tmp_path / "out")) == 3


def test_a_file_of_others_is_not_replaced_by_what_lies_beside(
    run, field, tmp_path
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "field_classes.tif").write_bytes(b"mine")
    message = failure(run(field, save=("classes",)))
    assert "field_classes.tif exists" in message
    assert "--overwrite" in message
    assert left_in(tmp_path / "out") == ["field_classes.tif"]


def test_empty_flat_and_odd_images_are_segmented(run, tmp_path, nuclei_image) -> None:
    folder = tmp_path / "odd"
    folder.mkdir()
    nan = nuclei_image((64, 64), 8, 5)[0].astype(np.float32)
    nan[:20] = np.nan
    nan[30, 30] = -np.inf
    images = {
        "black": np.zeros((40, 50), np.uint8),
        "flat": np.full((40, 50), 999, np.uint16),
        "nan": nan,
        "pixel": np.ones((1, 1), np.uint16),
        "row": np.arange(70, dtype=np.uint16)[None],
        "strip": nuclei_image((15, 4000), 30, 6)[0],
        "wide": nuclei_image((64, 64), 8, 5)[0].astype(np.uint32) * 70_000,
    }
    for name, pixels in images.items():
        tifffile.imwrite(folder / f"{name}.tif", pixels)
    found = run(folder)
    assert not found.failed, found.failed
    counts = {Path(i.input).stem: i.objects for i in found.images}
    assert (counts["black"], counts["flat"]) == (0, 0)
    assert 0 < counts["strip"] < 60
    assert 0 < counts["nan"] < counts["wide"] <= 12
    for name, pixels in images.items():
        assert tifffile.imread(tmp_path / "out" / f"{name}.tif").shape == pixels.shape
    assert tifffile.imread(tmp_path / "out" / "nan.tif")[:16].max() == 0


def test_any_path_will_do_and_the_tree_is_mirrored(run, field, tmp_path) -> None:
    folder = tmp_path / "my images" / "Zellkerne äöü" / "🔬"
    folder.mkdir(parents=True)
    shutil.copy(field, folder / "Bild 1 [a].tif")
    shutil.copy(field, tmp_path / "my images" / "b.tif")
    out = tmp_path / "out ü 🔬"
    assert len(run(tmp_path / "my images", out=out).done) == 2
    assert left_in(out) == ["Zellkerne äöü/🔬/Bild 1 [a].tif", "b.tif"]


def test_a_list_and_a_pattern_name_inputs(run, three) -> None:
    text = io.StringIO(f"{three / 'i0.tif'}\n{three / 'i2.tif'}\n")
    assert len(run("-", stdin=text).done) == 2
    found = run(three / "i*.tif")
    assert [i.status for i in found.images] == ["skipped", "done", "skipped"]


def test_results_are_not_taken_for_images_by_a_second_run(run, three) -> None:
    for _ in range(2):
        assert len(run(three, out=three / "out").images) == 3
        assert len(run(three / "**" / "*.tif", out=three / "out").images) == 3


def test_earlier_results_in_another_folder_are_left_out_and_counted(run, three) -> None:
    run(three, out=three / "before", save=("classes", "outlines"))
    found = run(three, dry_run=True)
    assert len(found.images) == 3
    (note,) = found.notes
    assert note.startswith("Left out: 9 label images or pictures of results")
    assert len(run(three, dry_run=True, include=("labels",)).images) == 12


def test_a_label_image_among_others_is_left_out_when_its_turn_comes(
    run, three, tmp_path
) -> None:
    run(three / "i0.tif", out=tmp_path / "before")
    label = (tmp_path / "before/i0.tif").rename(three / "zz.tif")
    found = run(three, dry_run=True)
    assert [Path(i.input).name for i in found.images] == ["i0.tif", "i1.tif", "i2.tif"]
    assert "1 label image or picture of results (three/zz.tif)" in found.notes[0]
    (taken,) = run(label, dry_run=True).images
    assert taken.status == "planned"


def test_formats_that_are_not_read_fail_where_they_are_named(run, field) -> None:
    other = field.with_name("a.zvi")
    other.write_bytes(b"\xd0\xcf\x11\xe0")
    folder = run(field.parent)
    assert [i.status for i in folder.images] == ["done"]
    assert "1 .zvi" in folder.warnings[0]
    named = run(field, other)
    assert [i.status for i in named.images] == ["skipped", "failed"]
    assert named.warnings == ()


def test_images_below_the_folder_of_results_are_found(run, three, monkeypatch) -> None:
    for _ in range(2):
        assert len(run(three, out=three.parent).images) == 3
    assert (three.parent / "i0.tif").is_file()
    monkeypatch.chdir(three)
    write_png(three / "extra.png", np.zeros((9, 9), np.uint8))
    for _ in range(2):
        (image,) = run("*.png", out=Path()).images
        assert image.status != "failed"


def test_a_folder_that_cannot_be_made_is_refused(run, field, tmp_path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written"):
        run(field, out=tmp_path / "file" / "out")


def test_torch_finds_the_same_and_stands_in_the_provenance(
    run, field, tmp_path
) -> None:
    labels = result(run(field))
    found = run(field, engine="torch", overwrite=True)
    assert found.engine.startswith("torch ")
    assert (result(found) != labels).mean() < 0.01
    provenance = read_provenance(tmp_path / "out" / "field.tif")
    assert provenance is not None
    assert provenance["engine"] == found.engine


def test_what_cannot_start_leaves_no_folder(run, field, tmp_path, tiny_model) -> None:
    with pytest.raises(ConfigError, match="engine"):
        run(field, engine="abacus")
    with pytest.raises(ModelNotFoundError):
        run(field, model="unknown")
    with pytest.raises(InputError, match="no image to work on"):
        run(tmp_path / "gone.tif")
    with pytest.raises(ConfigError, match="too far from"):
        run(field, diameter_px=2000.0)
    assert not (tmp_path / "out").exists()


def test_a_model_is_found_by_its_name(run, field, tiny_home) -> None:
    assert run(field, model="tiny").model["name"] == "tiny"


def test_objects_of_an_unknown_size_are_warned_of(run, tmp_path, nuclei_image) -> None:
    image = nuclei_image((64, 64), 8, 5)[0].repeat(3, axis=0).repeat(3, axis=1)
    tifffile.imwrite(tmp_path / "large.tif", image)
    small = run(tmp_path / "large.tif", scale=1 / 3)
    assert small.done[0].warnings == ()
    asked = {"diameter_px": "model", "min_area_px": 400}
    large = run(tmp_path / "large.tif", overwrite=True, **asked)
    (warning,) = [w for w in large.done[0].warnings if "px wide" in w]
    assert "--diameter" in warning


def test_a_rerun_says_again_what_was_said_of_an_image(run, tmp_path, rng) -> None:
    noise = rng.normal(500, 5, (64, 64)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "empty.tif", noise)
    (first,) = run(tmp_path / "empty.tif").images
    assert first.warnings[0].startswith("Hardly more than noise")
    for status, overwrite in (("skipped", False), ("done", True)):
        (again,) = run(tmp_path / "empty.tif", overwrite=overwrite).images
        assert again.status == status
        assert again.warnings == first.warnings


@pytest.fixture
def two_images(tmp_path, nuclei_image) -> Path:
    """A file of a large image and a small one."""
    path = tmp_path / "in" / "two.tif"
    path.parent.mkdir()
    with tifffile.TiffWriter(path) as tiff:
        for shape in ((90, 70), (64, 48)):
            pixels = nuclei_image(shape, 8, 40)[0]
            tiff.write(pixels, photometric="minisblack", metadata=None)
    return path


def test_of_a_file_of_several_images_the_largest_is_segmented(run, two_images):
    (image,) = run(two_images).images
    assert image.shape == (90, 70)
    assert "1 (48 x 64 px)" in image.notes[0]


def test_every_image_of_a_file_has_results_of_its_own(run, two_images, tmp_path):
    found = run(two_images, image="all", save=("table",))
    assert [image.shape for image in found.images] == [(90, 70), (64, 48)]
    assert [Path(image.output).name for image in found.images] == [
        "two_0.tif",
        "two_1.tif",
    ]
    assert all(image.notes == () for image in found.images)
    table = (tmp_path / "out" / "table.csv").read_text(encoding="utf-8")
    assert '"two.tif#0"' in table
    again = run(two_images, image="all", save=("table",))
    assert [image.status for image in again.images] == ["skipped", "skipped"]


def test_another_image_of_the_same_file_is_another_result(run, two_images):
    run(two_images)
    (other,) = run(two_images, image="1").images
    assert other.status == "failed"
    assert "was made with image none (now 1)" in other.message


def test_results_of_two_files_that_would_meet_are_refused(run, two_images):
    tifffile.imwrite(two_images.with_name("two_1.tif"), np.zeros((64, 64), np.uint8))
    with pytest.raises(InputError, match="both write"):
        run(two_images.parent, image="all")


def test_a_dry_run_fails_where_the_run_would(run, two_images):
    (two_images.parent / "a.tif").write_bytes(b"II*\0 no image")
    (two_images.parent / "b.tif").write_bytes(b"ZISRAWFILE")
    for dry_run in (True, False):
        found = run(two_images.parent, dry_run=dry_run)
        assert [Path(image.input).name for image in found.failed] == ["a.tif", "b.tif"]


def test_files_of_microscopes_in_a_folder_are_counted_and_named(run, field):
    for name in ("a.zvi", "b.zvi"):
        (field.parent / name).write_bytes(b"\xd0\xcf\x11\xe0" + bytes(100))
    (field.parent / "c.pic").write_bytes(b"a film")
    found = run(field.parent, dry_run=True)
    assert len(found.images) == 1
    (warning,) = found.warnings
    assert "3 files of formats that are not read (1 .pic, 2 .zvi)" in warning


def test_the_table_says_where_the_size_of_a_pixel_stands(run, tmp_path, nuclei_image):
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path,
        nuclei_image((90, 70), 14, 40)[0],
        resolution=(20_000, 20_000),
        resolutionunit="CENTIMETER",
    )
    found = run(path, save=("table",))
    (image,) = found.images
    assert image.pixel_size_um == pytest.approx((0.5, 0.5))
    assert image.pixel_size_from == "resolution tags"
    lines = Path(str(found.table)).read_text(encoding="utf-8").splitlines()
    assert lines[0].endswith('"pixel_size_from"')
    assert all(line.endswith('"resolution tags"') for line in lines[1:])
