"""What other programs read of the labels and tables that are written as OME-Zarr.

Viv is not among them: it is a library of web pages, and nothing here runs Node.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest

from cellunet.command_config import PredictConfig
from cellunet.tasks.predict.batch import predict

pytest.importorskip("zarr", "3")

from tests.io.zarr_stores import labels_in, write_store

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


def needs(module: str) -> None:
    """Skip where a program is not installed, or not made for what is."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip(
            module, reason=f"{module} is not installed", exc_type=ImportError
        )


@pytest.fixture(params=["0.4", "0.5"])
def written(request, tiny_model, tmp_path, nuclei_image) -> Path:
    """Return an image with labels and a table within."""
    pixels = np.stack([nuclei_image((150, 300), 40, k)[0] for k in range(2)])
    units = dict.fromkeys("yx", "micrometer")
    path = write_store(
        tmp_path / "a.zarr",
        pixels,
        "cyx",
        version=request.param,
        channels=("DAPI", "GFP"),
        scale={"y": 0.5, "x": 0.5},
        units=units,
        levels=2,
    )
    for into in ("nuclei", None):
        found = predict(
            [str(path)],
            tmp_path / "out",
            model=str(tiny_model.folder),
            threads=1,
            config=PredictConfig(
                channel="DAPI", into_source=into, save=("zarr-table",)
            ),
        )
        assert found.done
    return path


def test_ngio_reads_labels_and_table(written) -> None:
    needs("ngio")
    from ngio import open_ome_zarr_container

    image = open_ome_zarr_container(written)
    assert image.list_labels() == ["nuclei"]
    read = image.get_label("nuclei").get_as_numpy().squeeze()
    assert (read == labels_in(written / "labels" / "nuclei")).all()
    table = image.get_table("nuclei")
    assert table.reference_label == "nuclei"
    assert table.dataframe.index.tolist() == [*range(1, read.max() + 1)]
    assert table.dataframe["area_px"].tolist() == np.bincount(read.ravel())[1:].tolist()
    alone = open_ome_zarr_container(written.parent / "out" / "a.zarr")
    assert (alone.get_image().get_as_numpy().squeeze() == read).all()
    assert len(alone.get_table("objects").dataframe) == read.max()


def test_ome_zarr_py_reads_labels_of_every_level(written) -> None:
    needs("ome_zarr")
    from ome_zarr.io import parse_url
    from ome_zarr.reader import Reader

    for path in (written, written.parent / "out" / "a.zarr"):
        nodes = list(Reader(parse_url(path))())
        assert [d.shape for d in nodes[-1].data] == [(150, 300), (75, 150)]
        true = labels_in(written / "labels" / "nuclei")
        assert (np.asarray(nodes[-1].data[0]) == true).all()
        assert len(nodes[-1].metadata["color"]) == true.max()


def test_naparis_reader_gives_labels_on_the_scale_of_the_image(written) -> None:
    needs("napari_ome_zarr")
    from napari_ome_zarr import napari_get_reader

    image, labels = napari_get_reader(str(written))(str(written))
    assert (image[2], labels[2]) == ("image", "labels")
    assert image[1]["scale"] == labels[1]["scale"] == [0.5, 0.5]
    true = labels_in(written / "labels" / "nuclei")
    assert (np.asarray(labels[0][0]) == true).all()
