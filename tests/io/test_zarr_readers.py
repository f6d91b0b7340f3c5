"""What other programs read of the labels and tables that are written as OME-Zarr.

Viv runs in Node; ``VIV`` names the folder with a ``node_modules`` that holds
``@vivjs/loaders``.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import warnings
from pathlib import Path

import numpy as np
import pytest

from cellunet.command_config import PredictConfig
from cellunet.tasks.predict.batch import predict

pytest.importorskip("zarr", "3")

from tests.io.servers import Ranges
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


VIV = """
import { loadOmeZarr } from "@vivjs/loaders";
const { data } = await loadOmeZarr(process.argv[2], { type: "multiscales" });
const levels = [];
for (const level of data) {
  const selection = level.labels.slice(0, -2).map(() => 0);
  const { data: values, height, width } = await level.getRaster({ selection });
  levels.push({ dtype: level.dtype, shape: [height, width], values: [...values] });
}
console.log(JSON.stringify(levels));
"""


def test_viv_reads_labels_of_every_level(written, serve) -> None:
    folder = os.environ.get("VIV")
    if not folder or not shutil.which("node"):
        pytest.skip("VIV does not name a folder with @vivjs/loaders, or Node is absent")
    script = Path(folder, "read.mjs")
    script.write_text(VIV, encoding="utf-8")
    true = labels_in(written / "labels" / "nuclei")
    for path in ("a.zarr/labels/nuclei", "out/a.zarr"):
        command = ["node", script, f"{serve(Ranges)}/{path}"]
        read = subprocess.run(command, capture_output=True, text=True, check=True)
        whole, half = json.loads(read.stdout)
        assert whole["dtype"] == half["dtype"] == "Uint32"
        assert (np.reshape(whole["values"], whole["shape"]) == true).all()
        assert half["shape"] == [75, 150]
        assert set(half["values"]) <= set(true.ravel().tolist())
