"""Which nodes a tail visits, and what sharing saves."""

from __future__ import annotations

from itertools import pairwise
from math import ceil
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from g2rpo_trainer.flow.tails import following, shared_calls, tail_nodes

grids = st.integers(2, 40)
strides = st.integers(1, 45)


@st.composite
def grids_and_steps(draw: st.DrawFn) -> tuple[int, int]:
    steps = draw(grids)
    return steps, draw(st.integers(0, steps - 2))


def distinct_prefixes(tails: list[list[int]]) -> int:
    """Nodes of the tree that the tails form, by growing it node by node."""
    tree: dict[Any, Any] = {}
    for tail in tails:
        place = tree
        for node in tail:
            place = place.setdefault(node, {})

    def size(place: dict[Any, Any]) -> int:
        return sum(1 + size(child) for child in place.values())

    return size(tree)


def test_the_example_of_stride_two_from_step_one_visits_its_published_nodes() -> None:
    assert tail_nodes(16, 1, 2) == (2, 3, 5, 7, 9, 11, 13)


@given(grids_and_steps(), strides)
def test_a_tail_visits_every_stride_th_node_and_lands_from_the_last_but_one_listed(
    kit: Any, place: tuple[int, int], stride: int
) -> None:
    assert list(tail_nodes(*place, stride)) == kit.paper.tail(*place, stride)


@given(grids_and_steps(), strides)
def test_a_tail_evaluates_the_velocity_the_stated_number_of_times(place: tuple[int, int], stride: int) -> None:
    steps, k = place
    assert len(tail_nodes(steps, k, stride)) == ceil((steps - 1 - k) / stride)


@given(grids_and_steps(), strides)
def test_the_first_step_of_a_tail_is_fine_and_the_last_one_as_long_as_it_takes(
    place: tuple[int, int], stride: int
) -> None:
    steps, k = place
    nodes = [*tail_nodes(steps, k, stride), steps]
    jumps = [b - a for a, b in pairwise(nodes)]
    assert nodes[0] == k + 1
    assert all(jump == stride for jump in jumps[1:-1])
    if len(jumps) > 1:
        assert jumps[0] == 1
        assert stride <= jumps[-1] < 2 * stride


@given(grids_and_steps())
def test_stride_one_is_the_plain_grid(place: tuple[int, int]) -> None:
    steps, k = place
    assert tail_nodes(steps, k, 1) == tuple(range(k + 1, steps))


@pytest.mark.parametrize(("stride", "calls"), [(1, 92), (2, 48), (3, 33)])
def test_the_tails_of_the_published_steps_cost_the_published_calls(stride: int, calls: int) -> None:
    assert sum(len(tail_nodes(16, k, stride)) for k in range(8)) == calls


@given(grids_and_steps(), st.lists(strides, min_size=1, max_size=5))
def test_shared_calls_are_the_nodes_of_the_tree_of_tails(kit: Any, place: tuple[int, int], strides: list[int]) -> None:
    assert shared_calls(*place, strides) == distinct_prefixes([kit.paper.tail(*place, stride) for stride in strides])


@pytest.mark.parametrize(("strides", "calls"), [((1,), 1120), ((1, 2), 1504), ((1, 2, 3), 1708)])
def test_a_group_costs_the_published_calls(strides: tuple[int, ...], calls: int) -> None:
    assert 16 + 12 * sum(shared_calls(16, k, strides) for k in range(8)) == calls


@given(grids_and_steps(), strides, st.data())
def test_after_each_node_comes_the_next_and_after_the_last_the_data(
    kit: Any, place: tuple[int, int], stride: int, data: st.DataObject
) -> None:
    nodes = [*kit.paper.tail(*place, stride), place[0]]
    depth = data.draw(st.integers(0, len(nodes) - 2))
    assert following(tail_nodes(*place, stride), depth, place[0]) == nodes[depth + 1]


@pytest.mark.parametrize("k", [-1, 15, 16])
def test_a_step_that_leaves_no_tail_is_refused(k: int) -> None:
    with pytest.raises(ValueError, match=r"0\.\.14"):
        tail_nodes(16, k, 1)


@pytest.mark.parametrize("stride", [0, -2])
def test_a_stride_that_is_not_positive_is_refused(stride: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        tail_nodes(16, 0, stride)
