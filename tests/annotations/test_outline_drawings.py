"""Closed lines are filled, and lines are not guessed at."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from cellunet.annotations.pixels import fill_outlines, looks_like_outlines
from cellunet.annotations.read import read_annotation
from cellunet.errors import AnnotationError
from cellunet.outputs.pictures import outlines
from tests.conftest import read_labels

PATH = Path("lines.png")


def drawn(text):
    return np.array([[c == "#" for c in line] for line in text.split()])


def test_closed_lines_and_what_they_enclose_are_objects():
    labels = fill_outlines(
        drawn("""
            ............
            .####..####.
            .#..#..#..#.
            .#..#..#..#.
            .####..####.
            ............
        """),
        PATH,
    )
    assert labels.max() == 2
    assert (labels[1:5, 1:5] == 1).all()
    assert (labels[1:5, 7:11] == 2).all()
    assert np.count_nonzero(labels) == 32


def test_neighbors_share_the_line_between_them():
    labels = fill_outlines(
        drawn("""
            .........
            .#######.
            .#..#..#.
            .#..#..#.
            .#######.
            .........
        """),
        PATH,
    )
    assert labels.max() == 2
    assert np.count_nonzero(labels) == 4 * 7
    assert (labels[2, 2:4] == 1).all()
    assert (labels[2, 5:7] == 2).all()


def test_lines_across_corners_are_closed():
    labels = fill_outlines(
        drawn("""
            .......
            ...#...
            ..#.#..
            .#...#.
            ..#.#..
            ...#...
            .......
        """),
        PATH,
    )
    assert np.count_nonzero(labels) == 5 + 8


def test_open_lines_enclose_nothing():
    labels = fill_outlines(
        drawn("""
            ........
            .###....
            .#.#..#.
            .#.#..#.
            ......#.
            ........
        """),
        PATH,
    )
    assert not labels.any()


def test_objects_that_the_frame_cuts_are_objects():
    labels = fill_outlines(
        drawn("""
            ..#.....
            ..#.....
            ###.....
            ........
            ........
        """),
        PATH,
    )
    assert np.count_nonzero(labels) == 4 + 5
    assert not fill_outlines(np.zeros((4, 4), bool), PATH).any()


def test_a_line_along_the_whole_frame_leaves_no_background():
    frame = np.ones((6, 6), bool)
    frame[1:5, 1:5] = False
    assert (fill_outlines(frame, PATH) == 1).all()


def test_drawn_nuclei_come_back_from_their_outlines(nuclei_image):
    _, labels = nuclei_image((120, 120), 14, 5)
    lines = outlines(np.pad(labels, 2))
    found = fill_outlines(lines, PATH)[2:-2, 2:-2]
    for number in range(1, labels.max() + 1):
        mine = labels == number
        best = np.bincount(found[mine]).argmax()
        union = np.count_nonzero(mine | (found == best))
        assert best > 0
        assert np.count_nonzero(mine & (found == best)) / union > 0.7


def test_thick_areas_are_no_lines():
    with pytest.raises(AnnotationError, match="60 px thick"):
        fill_outlines(np.pad(np.ones((60, 60), bool), 5), PATH)


def test_outlines_must_be_declared(tmp_path):
    ring = np.zeros((30, 30), np.uint8)
    ring[4:26, 4:26], ring[5:25, 5:25] = 255, 0
    tifffile.imwrite(tmp_path / "a.tif", ring)
    with pytest.raises(AnnotationError, match="thin lines") as caught:
        read_labels(tmp_path / "a.tif")
    assert "--kind outlines fills closed lines" in caught.value.hint
    found = read_annotation(tmp_path / "a.tif", kind="outlines")
    assert (np.count_nonzero(found.labels), found.kind) == (22 * 22, "outlines")
    taken = read_labels(tmp_path / "a.tif", kind="binary")
    assert np.count_nonzero(taken) == 22 * 22 - 20 * 20


def test_filled_objects_are_not_taken_for_outlines(nuclei_image):
    assert not looks_like_outlines(nuclei_image((96, 96), 12, 1)[1] > 0)
    assert not looks_like_outlines(np.zeros((5, 5), bool))
