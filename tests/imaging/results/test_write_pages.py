"""Pages that grow together: what is written is what is read, at any cut."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from cellunet.imaging.results.write_pages import PageTiff


@settings(max_examples=20)
@given(cuts=st.sets(st.integers(1, 599)), width=st.sampled_from([1, 30, 300]))
def test_pages_of_any_bands_are_read_back(cuts, width, tmp_path_factory) -> None:
    path = tmp_path_factory.mktemp("pages") / "a.tif"
    pixels = np.random.default_rng(0).random((2, 3, 600, width)).astype(np.float32)
    pages = PageTiff(path, pixels.shape, "TCYX", pixels.dtype)
    edges = [0, *sorted(cuts), 600]
    for plane in range(2):
        for y0, y1 in pairwise(edges):
            for channel in range(3):
                rows = pixels[plane, channel, y0:y1]
                pages.write(3 * plane + channel, rows)
    assert not path.exists()
    pages.commit()
    with tifffile.TiffFile(path) as tiff:
        assert tiff.series[0].axes == "TCYX"
        np.testing.assert_array_equal(tiff.asarray(), pixels)
    assert [p.name for p in path.parent.iterdir()] == ["a.tif"]


def test_missing_rows_are_a_bug_and_leave_nothing(tmp_path) -> None:
    pages = PageTiff(tmp_path / "a.tif", (2, 4, 4), "TYX", np.dtype(np.uint8))
    pages.write(0, np.zeros((4, 4), np.uint8))
    with pytest.raises(ValueError, match="expected 2 x 4"):
        pages.commit()
    assert list(tmp_path.iterdir()) == []


def test_a_stack_is_held_compressed(tmp_path) -> None:
    pages = PageTiff(tmp_path / "a.tif", (1, 2000, 64), "CYX", np.dtype(np.float32))
    for _ in range(20):
        pages.write(0, np.zeros((100, 64), np.float32))
        assert sum(len(rows) for kept in pages._waiting.values() for rows in kept) < 256
    pages.abort()
    assert list(tmp_path.iterdir()) == []
