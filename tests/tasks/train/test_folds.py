"""Folds: every image is scored once, and none that is like those trained on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch")

from cellunet.core.dataset import Sample
from cellunet.errors import ConfigError, InputError
from cellunet.tasks.train.folds import make_folds
from tests.networks import sample_of


def named(name: str, objects: int) -> Sample:
    return sample_of([list(range(objects + 1))], name=name)


def test_every_image_is_held_out_once_and_trained_on_otherwise() -> None:
    images = [named(str(i), i) for i in range(1, 8)]
    folds = make_folds(images, 3, seed=0)
    validation = [s.name for fold in folds for s in fold.validation]
    assert sorted(validation) == [s.name for s in images]
    for fold in folds:
        names = {s.name for s in fold.training}, {s.name for s in fold.validation}
        assert not names[0] & names[1]
        assert names[0] | names[1] == {s.name for s in images}


def test_crowded_and_sparse_images_are_dealt_in_turn() -> None:
    images = [named("a", 9), named("b", 8), named("c", 1), named("d", 2)]
    folds = make_folds(images, 2, seed=0)
    assert [[s.name for s in fold.validation] for fold in folds] == [
        ["a", "d"],
        ["b", "c"],
    ]


def from_each(origins: str) -> list[Sample]:
    """Return two images from each origin, a letter."""
    return [replace(named(f"{o}{k}", k + 1), origin=o) for o in origins for k in (0, 1)]


@pytest.mark.parametrize("origins", ["abc", "ab"])
def test_planes_of_a_stack_and_crops_of_a_field_are_in_one_fold(origins: str) -> None:
    folds = make_folds(from_each(origins), 3, seed=0)
    # There are no more folds than stacks and fields.
    assert sorted(f.validation[0].origin for f in folds) == list(origins)
    for fold in folds:
        assert [s.origin for s in fold.validation] == [fold.validation[0].origin] * 2


def test_parts_are_apart_where_all_objects_are_in_one_stack_or_field() -> None:
    one = [replace(image, origin="a") for image in from_each("abc")]
    assert [len(f.validation) for f in make_folds(one, 3, seed=0)] == [2, 2, 2]
    empty = replace(named("empty", 0), origin="b")
    assert len(make_folds([*one, empty], 3, seed=0)) == 3


def test_parts_of_an_image_are_in_one_fold() -> None:
    parts = [named(f"{i} ({k} of 3)", k) for i in "abcd" for k in (1, 2, 3)]
    for fold in make_folds(parts, 3, seed=0):
        sides = [{s.name[0] for s in side} for side in vars(fold).values()]
        assert not sides[0] & sides[1]


def test_the_deal_does_not_depend_on_the_order_of_images() -> None:
    images = [named(str(i), 1) for i in range(9)]
    one, other = make_folds(images, 3, seed=4), make_folds(images[::-1], 3, seed=4)
    assert [{s.name for s in f.validation} for f in one] == [
        {s.name for s in f.validation} for f in other
    ]


def test_a_single_image_is_cut_between_its_objects() -> None:
    # Along the longer side; objects at columns 0, 2, 5 and 9.
    image = sample_of([[1, 0, 2, 0, 0, 3, 0, 0, 0, 4], [0] * 10])
    folds = make_folds([image], 2, seed=0)
    # Half way between columns 2 and 5, rounded to even: 4.
    left = [[True] * 4 + [False] * 6] * 2
    assert folds[0].validation[0].annotated.tolist() == left
    assert folds[1].training[0].annotated.tolist() == left
    assert folds[0].training[0].annotated.tolist() == np.invert(left).tolist()
    assert folds[0].validation[0].name == "a, part 1"


def test_numbers_of_objects_may_be_as_large_as_their_type_allows() -> None:
    few, many = [1, 2], [2**31 - 2, 2**31 - 1]
    cuts = []
    for one, other in (few, many):
        image = sample_of([[one, one, 0, 0, 0, other, 0]])
        cuts.append(make_folds([image], 2, seed=0)[0].validation[0].annotated.tolist())
    # Half way between columns 0.5 and 5, rounded: 3.
    assert cuts == [[[True] * 3 + [False] * 4]] * 2


def test_strips_keep_to_what_is_annotated() -> None:
    annotated = [[False, True, True, True, True, False]]
    image = sample_of([[9, 1, 0, 0, 2, 8]], annotated=annotated)
    folds = make_folds([image], 2, seed=0)
    together = folds[0].validation[0].annotated | folds[1].validation[0].annotated
    assert together.tolist() == annotated


def test_more_folds_than_images_are_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"4 folds were asked for.*3 annotated"
    ) as found:
        make_folds([named(str(i), 2) for i in range(3)], 4, seed=0)
    assert found.value.hint == "Try: --folds 3."


def test_one_image_with_one_object_is_refused() -> None:
    with pytest.raises(InputError, match=r"a has 1 annotated object; .* at least 2"):
        make_folds([named("a", 1)], 2, seed=0)


def test_objects_in_one_image_alone_are_refused() -> None:
    with pytest.raises(InputError, match="All annotated objects are in one part"):
        make_folds([named("a", 3), named("b", 0)], 2, seed=0)


def test_what_cannot_be_scored_is_trained_on_in_every_fold() -> None:
    outlined = [named(f"o{i}", 4) for i in range(3)]
    alone = [
        sample_of([[0] * 4], name=f"s{i}", annotated=[[False] * 4]) for i in range(3)
    ]
    # Of this one a single object counts, nothing beside it.
    single = [[False, True, True, False]]
    alone.append(sample_of([[0, 7, 7, 0]], name="s3", annotated=single))
    found = make_folds([*alone, *outlined], 3, 0)
    assert sorted(s.name for f in found for s in f.validation) == ["o0", "o1", "o2"]
    for fold in found:
        assert {s.name for s in alone} < {s.name for s in fold.training}
    # Fewer outlined images than folds: as many as can be scored, or strips of one.
    assert len(make_folds([*alone, *outlined[:2]], 3, 0)) == 2
    strips = make_folds([*alone, outlined[0]], 3, 0)
    assert [f.validation[0].name for f in strips] == ["o0, part 1", "o0, part 2"]
    with pytest.raises(ConfigError, match="8 folds"):
        make_folds([*alone, *outlined], 8, 0)
