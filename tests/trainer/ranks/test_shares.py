"""Ranks that share the optimizer's state: any number of them goes on from what any other number saved."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from testtrainer.ranks import Weights, on_ranks, steps

STAGES = [0, 1, 2, 3]
NUMBERS = [0.3, 1.1, -0.7, 0.9, 1.7, -1.3]


def close(some: Weights, other: Weights) -> bool:
    return some.keys() == other.keys() and all(np.allclose(some[n], other[n], rtol=1e-5, atol=1e-6) for n in some)


@pytest.fixture(scope="module")
def whole() -> Weights:
    """All steps on one rank that keeps everything."""
    return on_ranks(1, steps, 0, NUMBERS, None, None)[0]


def test_steps_move_every_weight_but_frozen_ones(whole: Weights) -> None:
    before = on_ranks(1, steps, 0, [], None, None)[0]
    moved = {name: bool(np.all(before[name] != whole[name])) for name in whole}
    assert moved == {"a": True, "b": True, "c": True, "d": True, "frozen": False}


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize(("first", "then", "last"), [(2, 1, 4), (4, 2, 1)])
def test_another_number_of_ranks_goes_on(
    whole: Weights, tmp_path: Path, stage: int, first: int, then: int, last: int
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    on_ranks(first, steps, stage, NUMBERS[:2], None, one)
    on_ranks(then, steps, stage, NUMBERS[2:4], one, two)
    for ended in on_ranks(last, steps, stage, NUMBERS[4:], two, None):
        assert close(ended, whole)


def test_another_stage_goes_on(whole: Weights, tmp_path: Path) -> None:
    saved = None
    for stage, number, size in zip([3, 1, 0, 2, 3, 0], NUMBERS, [2, 2, 1, 2, 1, 1], strict=True):
        loaded, saved = saved, tmp_path / f"{stage}-{number}"
        ended = on_ranks(size, steps, stage, [number], loaded, saved)[0]
    assert close(ended, whole)


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_what_is_offloaded_is_the_same_on_two_ranks_and_goes_on_without(
    whole: Weights, tmp_path: Path, stage: int
) -> None:
    on_ranks(2, steps, stage, NUMBERS[:4], None, tmp_path / "saved", True)
    assert close(on_ranks(1, steps, 0, NUMBERS[4:], tmp_path / "saved", None)[0], whole)


@pytest.mark.parametrize("stage", STAGES)
def test_a_rank_saves_its_share_only(tmp_path: Path, stage: int) -> None:
    on_ranks(4, steps, stage, NUMBERS[:1], None, tmp_path / "saved")
    files = sorted((tmp_path / "saved").iterdir())
    assert len(files) == 4
    elements = 15 + 1 + 42 + 2
    state = 3 * 4 * elements  # a weight and two moments, float32
    sizes = [path.stat().st_size for path in files]
    assert state <= sum(sizes) <= state + 4 * 3000, "everything is there once, and names"
    if stage > 0:
        assert max(sizes) < 0.6 * state + 3000
