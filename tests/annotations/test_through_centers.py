"""Outlines through the centers of the outermost pixels: told, and read if asked for."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from cellunet.annotations.shapes import (
    THROUGH_CENTERS,
    DrawnShape,
    OutermostPixels,
    Oval,
    Polygons,
    paint,
    runs_through_centers,
)
from cellunet.cli.app import main
from cellunet.imaging.outlines import outlines


def diamond(x, y, r=3, step=1):
    """The outermost pixels of a diamond, one after the other."""
    corners = [(x + r, y), (x, y + r), (x - r, y), (x, y - r)]
    return np.concatenate(
        [
            np.linspace(a, b, r // step, endpoint=False)
            for a, b in zip(corners, [*corners[1:], corners[0]], strict=True)
        ]
    )


def drawn(*rings, **what):
    return [DrawnShape(str(k), Polygons(((r,),)), **what) for k, r in enumerate(rings)]


def filled(drawings, **how):
    return paint(drawings, (30, 40), Path("a"), "rois", **how)


@pytest.mark.parametrize("at", [0.0, 0.5])
@pytest.mark.parametrize("step", [1, 3])
def test_what_was_traced_comes_back_if_it_is_asked_for(at, step) -> None:
    drawings = drawn(diamond(8 + at, 9 + at, 3, step), diamond(20 + at, 12 + at, 6))
    assert runs_through_centers(drawings)
    by_letter, meant = filled(drawings), filled(drawings, through_centers=True)
    assert by_letter.notes == (THROUGH_CENTERS,)
    assert np.bincount(meant.labels.ravel())[1:].tolist() == [25, 85]
    assert np.bincount(by_letter.labels.ravel())[1:].tolist() < [25, 85]
    assert meant.notes == ()
    y, x = np.nonzero(meant.labels == 1)
    assert (np.abs(y - 9) + np.abs(x - 8)).max() == 3


def test_time_and_memory_are_those_of_the_object_not_of_the_image() -> None:
    figure = OutermostPixels(Polygons(((diamond(8, 9),),)))
    tracemalloc.start()
    found = figure.fill((30_000, 30_000))
    assert tracemalloc.get_traced_memory()[1] < 1e5
    tracemalloc.stop()
    assert found.inside.sum() == 25
    assert found.window == np.s_[6:13, 5:12]


def test_an_outline_that_leaves_the_image_is_cut() -> None:
    meant = filled(drawn(diamond(0, 9), diamond(20, 9)), through_centers=True)
    assert np.bincount(meant.labels.ravel())[1:].tolist() == [16, 25]


def test_one_outline_that_goes_elsewhere_says_that_all_were_drawn() -> None:
    free = np.array([(5, 5), (9, 6), (7, 9)])
    for other in (
        *drawn(free),
        *drawn(diamond(30.25, 9)),
        DrawnShape("oval", Oval(1, 1, 9, 9)),
    ):
        drawings = [*drawn(diamond(8, 9)), other]
        assert not runs_through_centers(drawings)
        assert filled(drawings, through_centers=True).labels.max() == 2


def test_outlines_of_pixel_edges_are_none(nuclei_image) -> None:
    labels = nuclei_image((60, 60), 8, 1)[1]
    found = outlines(labels)
    drawings = [
        DrawnShape(str(n), Polygons(tuple(tuple(p) for p in outline)))
        for n, outline in found.items()
    ]
    assert not runs_through_centers(drawings)


def test_regions_of_the_image_do_not_count() -> None:
    box = np.array([(1, 1), (38, 1.5), (38, 28)])
    assert runs_through_centers(drawn(diamond(8, 9)) + drawn(box, role="region"))
    assert not runs_through_centers(drawn(diamond(8, 9), role="ignore"))


def test_make_labels_says_it_and_does_it(tmp_path, capsys) -> None:
    document = {
        "images": [{"id": 1, "file_name": "a.png", "height": 30, "width": 40}],
        "annotations": [
            {
                "id": 1,
                "image_id": 1,
                "category_id": 1,
                "segmentation": [diamond(8, 9).ravel().tolist()],
            }
        ],
    }
    (tmp_path / "coco.json").write_text(json.dumps(document))
    words = ["make-labels", str(tmp_path / "coco.json"), "--out"]
    assert main([*words, str(tmp_path / "o")]) == 0
    assert "--through-centers" in capsys.readouterr().out
    settings = tmp_path / "a.toml"
    settings.write_text("[annotations]\nthrough_centers = true")
    assert main([*words, str(tmp_path / "p"), "--config", str(settings)]) == 0
    told = capsys.readouterr().out
    assert "through_centers" not in told
    assert "25 px" in told
