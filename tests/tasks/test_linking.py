"""Objects of Z planes become objects of the stack."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from cellunet.imaging.measure import measure_labels
from cellunet.tasks.linking import VolumeRows, frames_of, link_planes


def plane(labels, rows=2):
    areas = np.bincount(labels.ravel())[1:]
    return SimpleNamespace(
        areas=areas,
        bands=lambda: (labels[y : y + rows] for y in range(0, len(labels), rows)),
    )


def boxes(*places):
    labels = np.zeros((12, 30), np.uint32)
    for number, (x, width) in enumerate(places, 1):
        labels[2:8, x : x + width] = number
    return labels


def numbers(*planes):
    found = link_planes([plane(p) for p in planes], [range(len(planes))])
    return [own[1:].tolist() for own in found]


def test_what_lies_on_another_is_the_same_object() -> None:
    assert numbers(boxes((1, 5), (20, 5)), boxes((21, 5), (2, 4))) == [[1, 2], [2, 1]]


def test_half_of_the_smaller_is_not_enough() -> None:
    assert numbers(boxes((0, 4)), boxes((2, 4))) == [[1], [2]]
    assert numbers(boxes((0, 4)), boxes((1, 4))) == [[1], [1]]


def test_two_on_one_are_parted_and_the_larger_overlap_goes_on() -> None:
    assert numbers(boxes((0, 12)), boxes((0, 4), (5, 7))) == [[1], [2, 1]]
    # As much of both: the first.
    assert numbers(boxes((0, 12)), boxes((0, 5), (6, 5))) == [[1], [1, 2]]


def test_a_plane_without_it_ends_an_object() -> None:
    empty = np.zeros((12, 30), np.uint32)
    assert numbers(boxes((1, 5)), empty, boxes((1, 5))) == [[1], [], [2]]


def test_numbers_begin_anew_in_each_stack_and_have_no_gaps() -> None:
    planes = [plane(boxes((1, 5))), plane(boxes((1, 5), (20, 3)))] * 2
    found = link_planes(planes, [[0, 1], [2, 3]])
    assert [own[1:].tolist() for own in found] == [[1], [1, 2]] * 2


@pytest.mark.parametrize(
    ("axes", "shape", "frames"),
    [
        ("", (), [[0]]),
        ("T", (3,), [[0], [1], [2]]),
        ("TZ", (2, 3), [[0, 1, 2], [3, 4, 5]]),
        ("ZT", (2, 3), [[0, 3], [1, 4], [2, 5]]),
    ],
)
def test_stacks_follow_from_the_axes(axes, shape, frames) -> None:
    assert frames_of(SimpleNamespace(plane_axes=axes, plane_shape=shape)) == frames


def test_rows_are_of_the_volume(rng) -> None:
    sections = [boxes((1, 4), (20, 3)), boxes((1, 6)), boxes((1, 5))]
    images = [rng.integers(0, 900, (12, 30)) for _ in sections]
    rows = VolumeRows((), 0.5)
    for z, (labels, image) in enumerate(zip(sections, images, strict=True)):
        sure = np.full(labels.shape, 255 - 85 * z, np.uint8)
        table = measure_labels(labels, [image], evidence=sure, detail=True)
        rows.add(z, table.pop("id"), table)
    ids, z, found = rows.joined()
    row = {name: values[0] for name, values in found.items()}
    voxels = np.concatenate([i[s == 1] for i, s in zip(images, sections, strict=True)])
    assert (ids.tolist(), z.tolist()) == ([1, 2], [1, 0])
    expected = {
        "area_px": 36,
        "volume_vx": 24 + 36 + 30,
        "volume_um3": 45,
        "planes": 3,
        "z_first": 0,
        "z_last": 2,
        "z_mean": (36 + 60) / 90,
        "intensity_mean": voxels.mean(),
        "intensity_min": voxels.min(),
        "intensity_max": voxels.max(),
        "intensity_sum": voxels.sum(),
        "intensity_std": voxels.std(ddof=1),
        "intensity_median": np.median(images[1][sections[1] == 1]),
        "confidence": (24 + 36 * 2 / 3 + 30 / 3) / 90,
    }
    assert {name: row[name] for name in expected} == pytest.approx(expected)
    assert VolumeRows((), 0.5).joined()[0].tolist() == []


def sections(ids) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Ids and the least of a table: sections of 4 px."""
    names = [f"intensity_{end}" for end in ("mean", "min", "max", "sum")]
    ones = np.ones(len(ids))
    return np.array(ids), dict.fromkeys([*names, "confidence"], ones) | {
        "area_px": np.full(len(ids), 4)
    }


def test_rows_of_many_planes_are_not_joined_anew_with_every_plane(monkeypatch) -> None:
    joined, seen = VolumeRows._joined, []

    def spy(self, rows):
        seen.append(len(rows["id"]))
        return joined(self, rows)

    monkeypatch.setattr(VolumeRows, "_joined", spy)
    rows = VolumeRows((), 1.0)
    for z in range(100):
        # In two parts, each object in two planes.
        rows.add(z, *sections(range(10 * z + 1, 10 * z + 11)))
        rows.add(z, *sections(range(10 * z + 11, 10 * z + 21)))
    ids, _, found = rows.joined()
    assert ids.tolist() == list(range(1, 1011))
    assert set(found["planes"][10:-10]) == {2}
    assert sum(seen) <= 3 * 2000


def test_objects_with_gaps_are_one_row() -> None:
    rows = VolumeRows((), 1.0)
    for z, own in enumerate(([1, 2], [2], [2], [1, 3])):
        rows.add(z, *sections(own))
    ids, z, found = rows.joined()
    assert (ids.tolist(), z.tolist()) == ([1, 2, 3], [0, 0, 3])
    assert found["planes"].tolist() == [2, 3, 1]
    assert found["z_last"].tolist() == [3, 2, 3]
