"""What predict measures where it is asked for more."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import tifffile

from cellunet.cli.app import main
from cellunet.command_config import PredictConfig
from cellunet.errors import ConfigError


def rows(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def predict(tiny_home, tmp_path):
    def run(*words, code=0):
        out = tmp_path / "out"
        options = ["--out", str(out), "--model", "tiny", "--device", "cpu"]
        assert main(["predict", *map(str, words), *options, "--save", "table"]) == code
        return rows(out / "table.csv") if (out / "table.csv").exists() else []

    return run


@pytest.fixture
def field(nuclei_image):
    return nuclei_image((160, 130), 30, 5)[0]


def test_the_other_channels_files_are_measured_under_the_labels_of_one(
    predict, tmp_path, field, capsys
) -> None:
    folder = tmp_path / "plate"
    folder.mkdir()
    for site in ("A01", "A02"):
        tifffile.imwrite(folder / f"{site}_w1.tif", field)
        tifffile.imwrite(folder / f"{site}_w2.tif", field + 1000)
    tifffile.imwrite(folder / "A03_w2.tif", field)
    table = predict(folder, "--segment-channel", "w1", code=3)
    assert {row["image"] for row in table} == {"A01_w1.tif", "A02_w1.tif"}
    assert len(table) > 20
    for row in table:
        one, two = (float(row[f"intensity_min_w{k}"]) for k in (1, 2))
        assert two == one + 1000
    assert "A03_w2.tif" in capsys.readouterr().err


def test_all_channels_of_the_other_files_are_measured(predict, tmp_path, field) -> None:
    tifffile.imwrite(tmp_path / "a_w1.tif", field)
    both = np.stack([field, field + 7])
    names = {"axes": "CYX", "Channel": {"Name": ["GFP", "RFP"]}}
    tifffile.imwrite(tmp_path / "a_w2.tif", both, ome=True, metadata=names)
    for row in predict(tmp_path / "*_w?.tif", "--segment-channel", "w1"):
        mean = float(row["intensity_mean_w1"])
        assert float(row["intensity_mean_GFP"]) == pytest.approx(mean)
        assert float(row["intensity_mean_RFP"]) == pytest.approx(mean + 7)


def test_a_file_of_another_size_fails_alone(predict, tmp_path, field, capsys) -> None:
    tifffile.imwrite(tmp_path / "a_w1.tif", field)
    tifffile.imwrite(tmp_path / "a_w2.tif", field[:50])
    predict(tmp_path / "*_w?.tif", "--segment-channel", "w1", code=3)
    assert "50 x 130 px, but" in capsys.readouterr().err


def test_nuclei_of_several_planes_are_one_if_asked(predict, tmp_path, field) -> None:
    planes = np.stack([field, field // 2, field])
    size = {"axes": "ZYX", "spacing": 2.0, "unit": "um"}
    path = tmp_path / "z.tif"
    tifffile.imwrite(path, planes, imagej=True, metadata=size, resolution=(2, 2))
    every = predict(path)
    linked = predict(path, "--link-planes", "--overwrite")
    whole = [row for row in linked if row["planes"] == "3"]
    assert len(linked) < len(every) / 2
    assert len(whole) > 10
    assert len({row["id"] for row in linked}) == len(linked)
    labels = tifffile.imread(tmp_path / "out" / "z.tif")
    for row in whole:
        volume = np.count_nonzero(labels == int(row["id"]))
        assert int(row["volume_vx"]) == volume
        assert float(row["volume_um3"]) == pytest.approx(volume * 0.5)
    assert labels.max() == len(linked)


@pytest.mark.parametrize("tile", [64, 96])
def test_all_is_the_same_for_any_tile(predict, tmp_path, field, tile) -> None:
    tifffile.imwrite(tmp_path / "a.tif", field)
    settings = tmp_path / "a.toml"
    settings.write_text(f"[predict]\ntile_px = {tile}", encoding="utf-8")
    whole = predict(tmp_path / "a.tif", "--measure", "all")
    tiled = predict(
        tmp_path / "a.tif", "--measure", "all", "--config", settings, "--overwrite"
    )
    assert tiled == whole
    assert all(row["background"] and row["intensity_median"] for row in whole)


@pytest.mark.parametrize(
    "wrong",
    [
        {"measure": "all"},
        {"measure": "all", "save": ("rois",)},
        {"link_planes": True, "z": "max"},
        {"segment_channel": "w1", "image": "all"},
    ],
)
def test_what_contradicts_itself_is_refused(wrong) -> None:
    with pytest.raises(ConfigError):
        PredictConfig(**wrong)
