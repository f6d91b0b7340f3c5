"""OME-Zarr as images and as labels of annotated data, like TIFFs of the same pixels."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile

from cellunet.annotations.label_pairs import pair_folders
from cellunet.annotations.pairs import find_pairs
from cellunet.errors import AnnotationError
from tests.conftest import read_labels

pytest.importorskip("zarr", "3")

from tests.io.zarr_stores import write_store

LABELS = np.kron(np.array([[1, 0], [2, 3]], np.uint32), np.ones((5, 6), np.uint32))


def test_images_and_labels_of_a_folder_of_pairs_may_be_zarr(tmp_path) -> None:
    write_store(tmp_path / "images" / "a.zarr", LABELS.astype(np.uint16))
    write_store(tmp_path / "images" / "b.zarr", LABELS.astype(np.uint16))
    write_store(tmp_path / "labels" / "a.zarr", LABELS)
    tifffile.imwrite(tmp_path / "labels" / "b.tif", LABELS.astype(np.uint16))
    pairs = find_pairs(tmp_path).pairs
    assert [(p.name, p.image.name, p.annotation.name) for p in pairs] == [
        ("a", "a.zarr", "a.zarr"),
        ("b", "b.zarr", "b.tif"),
    ]
    for pair in pairs:
        assert (read_labels(pair.annotation) == LABELS).all()


def test_a_stack_of_labels_is_paired_plane_by_plane(tmp_path) -> None:
    stack = np.stack([LABELS, 2 * LABELS])
    write_store(tmp_path / "images" / "a.zarr", stack.astype(np.uint16), "zyx")
    write_store(tmp_path / "labels" / "a.zarr", stack, "zyx")
    pairs = find_pairs(tmp_path).pairs
    assert [p.plane for p in pairs] == [0, 1]
    with pytest.raises(AnnotationError, match="holds 2 planes"):
        read_labels(tmp_path / "labels" / "a.zarr")


def test_folders_of_label_stores_are_matched_by_name(tmp_path) -> None:
    for side in ("true", "found"):
        write_store(tmp_path / side / "a.zarr", LABELS)
        # As tables within a store are.
        (tmp_path / side / "a.zarr" / "tables").mkdir()
        (tmp_path / side / "a.zarr" / "tables" / "x.json").write_text("{}")
    pairs = pair_folders(tmp_path / "found", tmp_path / "true")
    assert [p.name for p in pairs] == ["a"]
