"""Disjoint sets."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from cellunet.imaging.decode import UnionFind, distinct_pairs


def test_a_set_is_named_by_its_least_member() -> None:
    union = UnionFind(6)
    union.join(5, 3)
    union.join(3, 4)
    union.join(1, 1)
    assert union.find(5) == 3
    assert union.roots().tolist() == [0, 1, 2, 3, 3, 3]
    union.join(5, 0)
    assert union.roots().tolist() == [0, 1, 2, 0, 0, 0]


def test_no_numbers_have_no_roots() -> None:
    assert UnionFind(0).roots().tolist() == []


@settings(max_examples=50)
@given(
    st.lists(st.tuples(st.integers(0, 19), st.integers(0, 19)), max_size=30),
    st.randoms(use_true_random=False),
)
def test_sets_are_the_connected_components_in_any_order(pairs, random) -> None:
    first, second = UnionFind(20), UnionFind(20)
    for a, b in pairs:
        first.join(a, b)
    for a, b in random.sample(pairs, len(pairs)):
        second.join(b, a)
    a, b = np.array(pairs, int).reshape(-1, 2).T
    graph = coo_matrix((np.ones(len(a)), (a, b)), (20, 20))
    _, component = connected_components(graph, directed=False)
    expected = [int(np.flatnonzero(component == c)[0]) for c in component]
    assert first.roots().tolist() == expected
    assert second.roots().tolist() == expected


@settings(max_examples=50)
@given(
    st.lists(st.tuples(*[st.integers(0, 4) | st.integers(2**31 - 3, 2**31)] * 2)),
)
def test_pairs_are_told_apart_by_both_numbers(pairs) -> None:
    first, second = np.array(pairs, np.int64).reshape(-1, 2).T
    found = distinct_pairs(first, second)
    assert found.dtype == np.int64
    assert found.shape == (len(set(pairs)), 2)
    assert [tuple(row) for row in found.tolist()] == sorted(set(pairs))
