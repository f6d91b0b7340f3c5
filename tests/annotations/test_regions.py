"""Regions hold the pixels that were drawn around, without an array of the image."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import roifile

from cellunet.annotations import regions as region_module
from cellunet.annotations.regions import Regions, read_regions
from cellunet.annotations.shapes import Oval, Polygons
from cellunet.errors import AnnotationError
from tests.annotations.polygons import fill

TRIANGLE = [[10.0, 5.0], [90.0, 20.0], [30.0, 70.0], [10.0, 5.0]]


def feature(ring: list[list[float]], name: str = "tissue", **more: Any) -> Any:
    properties = {"objectType": "annotation", "name": name} | more
    geometry = {"type": "Polygon", "coordinates": [ring]}
    return {"type": "Feature", "properties": properties, "geometry": geometry}


def saved(folder: Path, *features: Any, name: str = "r.geojson") -> Path:
    path = folder / name
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


def test_a_region_of_qupath_holds_the_pixels_whose_centers_lie_within(tmp_path) -> None:
    mask = read_regions(saved(tmp_path, feature(TRIANGLE))).mask((100, 120))
    expected = fill([np.array(TRIANGLE)], (100, 120))
    y, x = np.indices((100, 120))
    found = mask.holds(y.ravel().astype(float), x.ravel().astype(float))
    np.testing.assert_array_equal(found.reshape(100, 120), expected)
    assert mask.area_px == expected.sum()


def test_a_set_of_rois_is_read_as_well(tmp_path) -> None:
    path = tmp_path / "set.zip"
    box = roifile.ImagejRoi.frompoints([[10, 20], [30, 20], [30, 50], [10, 50]])
    roifile.roiwrite(path, [box])
    assert read_regions(path).mask((100, 100)).area_px == 20 * 30


@pytest.mark.parametrize("name", ["r.geojson", "r.json", "r.zip", "r.roi"])
def test_a_file_of_regions_is_opened_once(name, tmp_path, monkeypatch) -> None:
    path, opened, real = tmp_path / name, [], io.open
    if name.endswith("json"):
        saved(tmp_path, feature(TRIANGLE), name=name)
    else:
        roi = roifile.ImagejRoi.frompoints(TRIANGLE)
        roifile.roiwrite(path, roi if path.suffix == ".roi" else [roi])

    def counted(file: Any, *rest: Any, **more: Any) -> Any:
        opened.append(file)
        return real(file, *rest, **more)

    monkeypatch.setattr(io, "open", counted)
    assert len(read_regions(path).kept) == 1
    assert opened == [path]


def test_several_regions_are_one_and_what_is_ignored_is_cut_out(tmp_path) -> None:
    left = [[0.0, 0.0], [10.0, 0.0], [10.0, 10.0], [0.0, 10.0]]
    right = [[5.0, 0.0], [15.0, 0.0], [15.0, 10.0], [5.0, 10.0]]
    hole = [[2.0, 2.0], [4.0, 2.0], [4.0, 4.0], [2.0, 4.0]]
    path = saved(
        tmp_path, feature(left, "a"), feature(right, "b"), feature(hole, "ignore")
    )
    assert read_regions(path).mask((20, 20)).area_px == 15 * 10 - 4


def test_nuclei_that_lie_in_an_annotation_are_no_regions(tmp_path) -> None:
    small = [[20.0, 20.0], [25.0, 20.0], [25.0, 25.0], [20.0, 25.0]]
    path = saved(
        tmp_path,
        feature(TRIANGLE),
        feature(small, "nucleus", objectType="detection"),
    )
    assert [name for name, _ in read_regions(path).kept] == ["tissue"]


def test_coordinates_are_those_of_full_resolution(tmp_path) -> None:
    regions = read_regions(saved(tmp_path, feature(TRIANGLE)))
    half = regions.mask((50, 60), (2.0, 2.0))
    assert half.area_px == fill([np.array(TRIANGLE) / 2], (50, 60)).sum()


def test_squares_near_a_region_are_found_on_a_grid_of_any_step(tmp_path) -> None:
    box = [[32.0, 16.0], [48.0, 16.0], [48.0, 32.0], [32.0, 32.0]]
    mask = read_regions(saved(tmp_path, feature(box))).mask((64, 64))
    ends = np.array([(n, n + 8) for n in range(0, 64, 8)], float)
    near = mask.near(ends, ends)
    assert np.argwhere(near).tolist() == [[2, 4], [2, 5], [3, 4], [3, 5]]


def test_ovals_are_regions(tmp_path) -> None:
    regions = Regions(tmp_path, "", (("o", Oval(10, 10, 30, 40)),))
    assert regions.mask((64, 64)).area_px == pytest.approx(np.pi * 10 * 15, rel=0.02)


def test_a_region_that_crosses_itself_is_named(tmp_path) -> None:
    bow = [[0.0, 0.0], [20.0, 20.0], [20.0, 0.0], [0.0, 20.0], [0.0, 0.0]]
    mask = read_regions(saved(tmp_path, feature(bow, "bow"))).mask((32, 32))
    assert list(mask.crossing) == ["bow"]


def test_what_lies_outside_the_image_is_refused(tmp_path) -> None:
    far = [[500.0, 0.0], [600.0, 0.0], [600.0, 100.0]]
    regions = read_regions(saved(tmp_path, feature(far, "far")))
    with pytest.raises(AnnotationError, match=r"far.* holds a pixel .* 100 x 120"):
        regions.mask((100, 120))


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        ('{"type": "FeatureCollection", "features": []}', "a.geojson", "no region"),
        (
            '{"type": "Feature", "properties": {"name": "p"}, "geometry":'
            ' {"type": "Point", "coordinates": [3, 4]}}',
            "a.geojson",
            "no region: p .*enclose nothing",
        ),
        ("hello", "a.geojson", "is no JSON"),
        ("hello", "a.txt", "no file of regions"),
        ('{"version": "5.0", "shapes": [], "flags": {}}', "a.json", "labelme"),
        ("hello", "a.zip", "no complete zip"),
        (
            '{"type": "Polygon", "coordinates": [[["a", 1], [2, 2], [3, 1]]]}',
            "a.geojson",
            "A ring of feature 1 holds a point that is no pair",
        ),
    ],
)
def test_files_that_hold_no_region_are_told_in_one_line(
    content, name, message, tmp_path
) -> None:
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(AnnotationError, match=message) as raised:
        read_regions(path)
    assert name in str(raised.value)


@pytest.mark.parametrize("far", [1e9, 1e150])
def test_what_reaches_far_beyond_the_image_holds_all_of_it(far, tmp_path) -> None:
    box = [[-far, -far], [far, -far], [far, far], [-far, far]]
    assert read_regions(saved(tmp_path, feature(box))).mask((30, 40)).area_px == 1200


def test_what_is_beyond_all_bounds_is_refused(tmp_path) -> None:
    box = [[-1e300, -1e300], [1e300, -1e300], [1e300, 1e300]]
    with pytest.raises(AnnotationError, match=r"r\.geojson: .* beyond 1e\+150 pixels"):
        read_regions(saved(tmp_path, feature(box)))


def test_each_region_is_drawn_in_its_own_rows_alone(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(region_module, "BAND_PX", 16 * 40)
    drawn, whole = [], Polygons.fill

    def counted(self: Polygons, shape: tuple[int, int]) -> Any:
        drawn.append(shape)
        return whole(self, shape)

    monkeypatch.setattr(Polygons, "fill", counted)
    # Of a hundred bands of 16 rows, the two from row 96 to 128.
    box = [[10.0, 100.0], [20.0, 100.0], [20.0, 125.0], [10.0, 125.0]]
    mask = read_regions(saved(tmp_path, feature(box))).mask((1600, 40))
    assert mask.area_px == 10 * 25
    assert drawn == [(16, 40)] * 2


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e200])
def test_a_coordinate_that_is_no_place_is_refused_wherever_it_is(
    value, tmp_path
) -> None:
    ring = np.array([(2, 2), (9, 2), (9, value)])
    regions = Regions(
        tmp_path,
        "",
        (("good", Oval(1, 1, 9, 9)), ("bad", Polygons(((ring,),)))),
    )
    with pytest.raises(AnnotationError, match=r"bad: A coordinate is not a finite"):
        regions.mask((32, 32))
    below = Regions(tmp_path, "", (("bad", Oval(1, value, 9, value)),))
    with pytest.raises(AnnotationError, match=r"bad: A coordinate is not a finite"):
        below.mask((32, 32))


def test_polygons_may_have_holes(tmp_path) -> None:
    outer = np.array([(0, 0), (20, 0), (20, 20), (0, 20)], float)
    inner = np.array([(5, 5), (10, 5), (10, 10), (5, 10)], float)
    regions = Regions(tmp_path, "", (("p", Polygons(((outer, inner),))),))
    mask = regions.mask((32, 32))
    assert mask.area_px == 400 - 25
    assert mask.holds(np.array([7.0, 2.0]), np.array([7.0, 2.0])).tolist() == [
        False,
        True,
    ]
