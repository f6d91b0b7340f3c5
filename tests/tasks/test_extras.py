"""What lies beside a result."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from imagecodecs import png_decode

from cellunet.errors import InputError
from cellunet.imaging.files import open_image
from cellunet.imaging.inputs import Inputs, output_paths
from cellunet.tasks.extras import SUFFIXES, Extras, refuse_clashes

EVERYTHING = tuple(SUFFIXES)


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


def test_files_hold_all_planes_and_appear_at_commit(source, tmp_path) -> None:
    extras = Extras(tmp_path / "x" / "a.tif", EVERYTHING, source)
    labels = np.zeros((40, 30), np.uint32)
    labels[5:9, 5:9] = 1
    for plane in range(2):
        extras.begin(plane)
        for y0, rows in zip((0, 25), bands(plane), strict=True):
            extras.on_band(y0, rows)
    for plane in range(2):
        passed = list(extras.labels(plane, iter([labels[:9], labels[9:]])))
        np.testing.assert_array_equal(np.concatenate(passed), labels)
    assert extras.there() == []
    extras.commit()
    names = ["a_classes.tif", "a_outlines.png", "a_outlines_1.png"]
    left = sorted(p.name for p in (tmp_path / "x").iterdir())
    assert left == [*names, "a_probabilities.tif"]
    assert extras.there() == list(extras.paths.values())
    expected = np.stack([np.concatenate(bands(plane), axis=1) for plane in range(2)])
    with tifffile.TiffFile(tmp_path / "x" / "a_probabilities.tif") as tiff:
        assert tiff.series[0].axes == "TCYX"
        np.testing.assert_array_equal(tiff.asarray(), expected)
    with tifffile.TiffFile(tmp_path / "x" / "a_classes.tif") as tiff:
        assert tiff.series[0].axes == "TYX"
        np.testing.assert_array_equal(tiff.asarray(), expected.argmax(axis=1))
    picture = png_decode((tmp_path / "x" / "a_outlines.png").read_bytes())
    # Enlarged by a whole factor, in colour.
    assert picture.shape[0] * 30 == picture.shape[1] * 40
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 2


def test_nothing_is_kept_that_is_not_wanted(tmp_path) -> None:
    extras = Extras(tmp_path / "a.tif", ())
    assert not extras.keep_bands
    assert list(extras.labels(0, iter([np.zeros((1, 1), np.uint32)])))
    extras.commit()
    assert list(tmp_path.iterdir()) == []
    assert not Extras(tmp_path / "a.tif", ("outlines",)).keep_bands
    assert Extras(tmp_path / "a.tif", ("classes",)).keep_bands


def test_there_names_the_files_that_exist(tmp_path) -> None:
    (tmp_path / "a.b_classes.tif").touch()
    extras = Extras(tmp_path / "a.b.tif", EVERYTHING)
    assert extras.there() == [tmp_path / "a.b_classes.tif"]


def test_planes_out_of_order_and_no_image_are_bugs(tmp_path) -> None:
    extras = Extras(tmp_path / "a.tif", ("outlines",))
    with pytest.raises(ValueError, match="plane 1 begun after 0"):
        extras.begin(1)
    list(extras.labels(0, iter([np.zeros((2, 2), np.uint32)])))
    with pytest.raises(ValueError, match="without the image"):
        extras.commit()


def clash(folder: Path, *names: str, save=EVERYTHING) -> None:
    files = [folder / "in" / name for name in names]
    found = Inputs(files, folder / "in")
    out = folder / "out"
    refuse_clashes(found, output_paths(files, folder / "in", out), out, save)


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
        refuse_clashes(found, outputs, tmp_path, ("outlines",))
