"""What lies beside a result: written while labels pass by, complete or not at all."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import tifffile
from imagecodecs import png_decode

from cellunet.command_config import PredictConfig
from cellunet.errors import ConfigError, InputError
from cellunet.imaging.measure import pixel_confidence
from cellunet.io.images import open_image
from cellunet.io.paths import Inputs, output_paths
from cellunet.io.source import Statistics
from cellunet.tasks.predict import outputs as extra_kinds
from cellunet.tasks.predict.outputs import (
    IN_LABELS,
    OUTPUT_KINDS,
    OptionalOutputs,
    OutputContext,
    check_installed,
    optional_output_paths,
    refuse_clashes,
)
from cellunet.tasks.predict.plane import Segmented

# Beside a TIFF: a table in a Zarr has a test with Zarrs.
EVERYTHING = tuple(kind for kind in OUTPUT_KINDS if kind != IN_LABELS)
CLASSES = ("background", "interior", "boundary")


def saving(*save: str) -> PredictConfig:
    return PredictConfig(save=save)  # type: ignore[arg-type]


@pytest.fixture
def source(tmp_path):
    pixels = np.arange(2 * 40 * 30, dtype=np.uint16).reshape(2, 40, 30)
    tifffile.imwrite(tmp_path / "a.ome.tif", pixels, metadata={"axes": "TYX"})
    with open_image(tmp_path / "a.ome.tif") as opened:
        yield opened


def bands(seed: int) -> list[np.ndarray]:
    drawn = np.random.default_rng(seed).random((3, 40, 30)).astype(np.float32)
    drawn /= drawn.sum(axis=0)
    return [drawn[:, :25], drawn[:, 25:]]


def segmented(plane: int = 0) -> Segmented:
    sure = pixel_confidence(np.concatenate(bands(plane), axis=1))
    labels = np.zeros((40, 30), np.uint32)
    labels[5:9, 5:9] = 1
    return Segmented(
        count=1,
        bands=lambda: iter([labels[:25], labels[25:]]),
        areas=np.array([16]),
        statistics=Statistics(
            low=0.0, high=1000.0, mean=500.0, std=1.0, noise=1.0, count=1200
        ),
        evidence=lambda y0, y1: sure[y0:y1],
    )


def run(extras: OptionalOutputs) -> None:
    for plane in range(2):
        take = extras.on_band(plane)
        if take is not None:
            for y0, rows in zip((0, 25), bands(plane), strict=True):
                take(y0, rows)
    for plane in range(2):
        passed = np.concatenate(list(extras.labels(plane, segmented(plane))))
        assert passed.sum() == 16


def test_files_hold_all_planes_and_appear_at_commit(source, tmp_path) -> None:
    out = tmp_path / "x"
    with OptionalOutputs(
        out / "a.tif", source, "a.ome.tif", saving(*EVERYTHING), CLASSES
    ) as extras:
        run(extras)
        assert all(p.name.startswith(".") for p in out.iterdir())
        extras.commit()
    names = ["a.geojson", "a_classes.tif", "a_coco.json"]
    names += ["a_outlines.png", "a_outlines_1.png"]
    names += ["a_probabilities.tif", "a_rois.zip", "a_table.csv"]
    assert sorted(p.name for p in out.iterdir()) == names
    expected = np.stack([np.concatenate(bands(plane), axis=1) for plane in range(2)])
    with tifffile.TiffFile(out / "a_probabilities.tif") as tiff:
        assert tiff.series[0].axes == "TCYX"
        np.testing.assert_array_equal(tiff.asarray(), expected)
    with tifffile.TiffFile(out / "a_classes.tif") as tiff:
        assert tiff.series[0].axes == "TYX"
        np.testing.assert_array_equal(tiff.asarray(), expected.argmax(axis=1))
    picture = png_decode((out / "a_outlines.png").read_bytes())
    # Enlarged by a whole factor, in color.
    assert picture.shape[0] * 30 == picture.shape[1] * 40
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 2
    with (out / "a_table.csv").open(encoding="utf-8", newline="") as file:
        head, *rows = csv.reader(file)
    assert [row[:5] for row in rows] == [
        ["a.ome.tif", str(t), "", "1", "16"] for t in range(2)
    ]
    confidence = [float(row[head.index("confidence")]) for row in rows]
    tops = expected.max(axis=1)[:, 5:9, 5:9].mean(axis=(1, 2))
    assert confidence == pytest.approx(tops.tolist(), abs=1 / 255)


def test_what_fails_leaves_nothing_behind(source, tmp_path) -> None:
    def fail() -> None:
        with OptionalOutputs(
            tmp_path / "x" / "a.tif", source, "a", saving(*EVERYTHING), CLASSES
        ) as e:
            run(e)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert list((tmp_path / "x").iterdir()) == []


def test_what_cannot_begin_leaves_nothing_behind(source, tmp_path, monkeypatch) -> None:
    def refuse(self: object, context: OutputContext) -> None:
        raise MemoryError

    monkeypatch.setattr(extra_kinds.TableRows, "__init__", refuse)
    with pytest.raises(MemoryError):
        OptionalOutputs(
            tmp_path / "x" / "a.tif", source, "a", saving(*EVERYTHING), CLASSES
        )
    assert list((tmp_path / "x").iterdir()) == []


def test_nothing_is_kept_that_is_not_wanted(source, tmp_path) -> None:
    with OptionalOutputs(
        tmp_path / "x" / "a.tif", source, "a", saving(), CLASSES
    ) as extras:
        assert extras.on_band(0) is None
        run(extras)
        extras.commit()
    assert not (tmp_path / "x").exists()
    with OptionalOutputs(
        tmp_path / "a.tif", source, "a", saving("outlines"), 3
    ) as extras:
        assert extras.on_band(0) is None
    with OptionalOutputs(
        tmp_path / "a.tif", source, "a", saving("classes"), 3
    ) as extras:
        assert extras.on_band(0) is not None


def test_every_channel_of_the_file_is_measured(tmp_path) -> None:
    path = tmp_path / "c.ome.tif"
    pixels = np.stack([np.full((40, 30), v, np.uint8) for v in (3, 7)])
    names = {"axes": "CYX", "Channel": {"Name": ["DAPI", "GFP"]}}
    tifffile.imwrite(path, pixels, metadata=names)
    config = saving("table").replace(channel="GFP")
    with (
        open_image(path, channel="GFP") as source,
        OptionalOutputs(tmp_path / "x" / "c.tif", source, "c", config, 3) as extras,
    ):
        list(extras.labels(0, segmented()))
        extras.commit()
    head, row = (tmp_path / "x" / "c_table.csv").read_text("utf-8").splitlines()
    found = dict(zip(head.replace('"', "").split(","), row.split(","), strict=True))
    assert found["intensity_mean_DAPI"] == "3"
    assert found["intensity_sum_GFP"] == str(7 * 16)


def test_names_lie_beside_the_label_image() -> None:
    found = optional_output_paths(Path("x") / "a.b.tif", saving("table", "geojson"))
    assert found == {
        "table": Path("x") / "a.b_table.csv",
        "geojson": Path("x") / "a.b.geojson",
    }
    parquet = PredictConfig(save=("table",), table_format="parquet")
    assert (
        optional_output_paths(Path("a.tif"), parquet)["table"].name == "a_table.parquet"
    )


def clash(folder: Path, *names: str, save=EVERYTHING) -> None:
    files = [folder / "in" / name for name in names]
    found = Inputs(files, folder / "in")
    out = folder / "out"
    outputs = output_paths(files, folder / "in", out)
    refuse_clashes(found, outputs, out, saving(*save))


def test_an_extra_that_would_be_another_images_file_is_refused(tmp_path) -> None:
    clash(tmp_path, "a.tif", "b.tif", "c/a.tif")
    with pytest.raises(InputError, match=r"a_classes\.tif") as caught:
        clash(tmp_path, "a.tif", "A_Classes.png")
    assert "--save classes" in caught.value.hint
    clash(tmp_path, "a.tif", "a_classes.png", save=("outlines",))


def test_an_extra_that_would_replace_an_image_is_refused(tmp_path) -> None:
    files = [tmp_path / "a.png", tmp_path / "a_outlines.png"]
    found = Inputs(files, tmp_path)
    outputs = output_paths(files, tmp_path, tmp_path)
    with pytest.raises(InputError, match="replace the input"):
        refuse_clashes(found, outputs, tmp_path, saving("outlines"))


def test_a_library_that_is_missing_is_told_before_any_work(monkeypatch) -> None:
    def refuse(module: str, extra: str, purpose: str) -> None:
        raise ConfigError(f"{purpose} needs {module} of {extra}.")

    monkeypatch.setattr(extra_kinds, "optional", refuse)
    check_installed(("rois", "geojson", "table"), "csv")
    with pytest.raises(ConfigError, match="pyarrow"):
        check_installed(("table",), "parquet")


def test_planes_are_numbered_along_their_axes(source) -> None:
    context = OutputContext(
        path=Path("a"),
        image="a",
        source=source,
        classes=3,
        channels=("",),
        config=PredictConfig(),
    )
    assert [context.place(plane) for plane in range(2)] == [{"t": 0}, {"t": 1}]
