"""Commands that read annotated images take pages without a name as they are told to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from cellunet.config import EncodingConfig
from cellunet.errors import CellunetError
from cellunet.store import find_model
from cellunet.tasks.check_labels import check_labels
from cellunet.tasks.make_labels import make_labels
from cellunet.tasks.suggest.choose import opened
from cellunet.tasks.suggest.request import SuggestRequest
from cellunet.tasks.train.data import ChannelChoice


@pytest.fixture
def data(tmp_path, nuclei_image) -> Path:
    """An image of three pages, as imaging mass cytometry has them, and its labels."""
    folder = tmp_path / "data"
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
    image, labels = nuclei_image((64, 64), 8, 3)
    with tifffile.TiffWriter(folder / "images" / "a.tif") as tiff:
        for page in (image // 9, image, image // 5):
            tiff.write(page, contiguous=False, metadata=None)
    tifffile.imwrite(folder / "labels" / "a.tif", labels.astype(np.uint16))
    return folder


def test_labels_are_made_and_checked_of_pages_that_are_channels(data, tmp_path):
    (failure,) = make_labels(data, tmp_path / "t", encoding=EncodingConfig()).failures
    assert "3 planes" in failure[1]
    made = make_labels(
        data, tmp_path / "c", encoding=EncodingConfig(), pages="channels"
    )
    assert [image.objects for image in made.images] == [8]
    found = check_labels(data, tmp_path / "out", pages="channels", channel="1")
    assert [image.findings for image in found.images] == [()]


def test_training_reads_pages_as_channels(data):
    path = data / "images" / "a.tif"
    with ChannelChoice(channel="1", pages="channels").open(path) as source:
        assert (source.plane_shape, source.channel_names) == ((), ("1",))
    with pytest.raises(CellunetError, match="--pages channels"):
        ChannelChoice(channel="1").open(path)


def test_crops_are_suggested_of_pages_that_are_channels(data, tiny_model, tmp_path):
    request = SuggestRequest(
        images=("a",), out=tmp_path / "crops", channel="1", pages="channels"
    )
    model = find_model(str(tiny_model.folder))
    with opened(data / "images" / "a.tif", request, model) as source:
        assert source.plane_shape == ()
