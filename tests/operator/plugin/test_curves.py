"""The curve that the plugin reads out of curve.csv is the one that the trainer would tell."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from g2rpo_operator.plugin import curves
from g2rpo_operator.plugin.failures import PluginError
from g2rpo_trainer.journal import EvaluationEntry, IterationRecord, RewardEntry, Spread
from g2rpo_trainer.reporting.curves import write_curve_csv
from g2rpo_trainer.reporting.history import trained_reward
from plugin.scenes import told
from testoperator.records import running_status

SPEC = {
    "training": {
        "rewards": [
            {"name": "ocr", "type": "PaddleOCR"},
            {"name": "clip", "type": "PaddleOCR", "weight": 3.0, "role": "Train"},
            {"name": "reader", "type": "DdddOCR", "role": "HeldOut"},
        ]
    }
}
MEANS = st.floats(-10, 10) | st.just(math.nan)


def spread(mean: float) -> Spread:
    return Spread(mean=mean, std=0.1, min=mean - 1, max=mean + 1)


def record(iteration: int, ocr: float | None, clip: float, branches: tuple[float, ...] = ()) -> IterationRecord:
    branch = {str(index + 1): spread(mean) for index, mean in enumerate(branches)}
    rewards = [
        RewardEntry(name="ocr", role="train", weight=1.0, anchor=None if ocr is None else spread(ocr), branch=branch),
        RewardEntry(name="clip", role="train", weight=3.0, anchor=spread(clip), branch={}),
    ]
    return made(iteration, rewards)


def made(iteration: int, rewards: list[RewardEntry], held_out: float | None = None) -> IterationRecord:
    measured = (
        [EvaluationEntry(split="eval", prompts=4, rewards={"reader": spread(held_out)})] if held_out is not None else []
    )
    return IterationRecord(
        iteration=iteration,
        attempt=1,
        time=1.7e9 + iteration,
        world_size=1,
        images=8,
        model_calls=16,
        groups=1,
        skipped_groups=0,
        zero_variance_groups=0,
        step_seconds=1.0,
        seconds={},
        rewards=rewards,
        advantage=None,
        policy=None,
        evaluation=measured,
    )


def rows(folder: Path, records: list[IterationRecord]) -> list[curves.Row]:
    path = folder / "curve.csv"
    write_curve_csv(records, path)
    return curves.rows_of(path.read_text())


@given(ocr=st.lists(MEANS, min_size=1, max_size=8), clip=MEANS)
def test_the_trained_reward_is_the_trainers(
    tmp_path_factory: pytest.TempPathFactory, ocr: list[float], clip: float
) -> None:
    records = [record(number, mean, clip) for number, mean in enumerate(ocr, start=1)]
    expected = [(r.iteration, trained_reward(r)) for r in records if math.isfinite(trained_reward(r))]
    found = curves.trained(rows(tmp_path_factory.mktemp("run"), records), SPEC)
    assert [x for x, _ in found] == [x for x, _ in expected]
    assert [y for _, y in found] == pytest.approx([y for _, y in expected])


def test_rewards_without_an_anchor_are_told_by_their_branches(tmp_path: Path) -> None:
    records = [record(1, None, 0.0, branches=(0.2, 0.4))]
    ((_, value),) = curves.trained(rows(tmp_path, records), SPEC)
    assert value == pytest.approx((1 * 0.3 + 3 * 0.0) / 4)
    assert value == pytest.approx(trained_reward(records[0]))


def test_the_evaluation_before_training_is_no_point(tmp_path: Path) -> None:
    found = curves.trained(rows(tmp_path, [record(0, 0.9, 0.9), record(1, 0.5, 0.5)]), SPEC)
    assert found == [(1.0, 0.5)]


def test_one_reward_is_told_by_its_own_mean(tmp_path: Path) -> None:
    kept = rows(tmp_path, [record(1, 0.5, 0.1), record(2, 0.6, 0.2)])
    assert curves.of_reward(kept, "clip") == [(1.0, 0.1), (2.0, 0.2)]


def test_a_held_out_reward_is_told_by_its_evaluations(tmp_path: Path) -> None:
    kept = rows(tmp_path, [made(0, [], 0.1), made(1, []), made(2, [], 0.3)])
    assert curves.of_reward(kept, "reader") == [(0.0, 0.1), (2.0, 0.3)]


def test_an_unknown_reward_is_refused_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(PluginError, match="no reward 'orc' in the curve; there is clip, ocr"):
        curves.of_reward(rows(tmp_path, [record(1, 0.5, 0.1)]), "orc")
    with pytest.raises(PluginError, match="none yet"):
        curves.of_reward([], "ocr")


def test_the_status_has_the_shape_of_the_curve() -> None:
    assert curves.of_status(running_status()) == []
    assert curves.of_status(running_status(progress=told(3))) == [(1.0, 0.01), (2.0, 0.02), (3.0, 0.03)]


def test_what_is_newer_is_added_and_nothing_told_twice() -> None:
    full, newer = [(1.0, 0.1), (2.0, 0.2)], [(1.0, 9.0), (2.0, 9.0), (4.0, 0.4)]
    assert curves.joined(full, newer) == [(1.0, 0.1), (2.0, 0.2), (4.0, 0.4)]
    assert curves.joined([], newer) == newer
    assert curves.joined(full, []) == full


def test_csv_of_the_status_can_be_read_back() -> None:
    points = [(1.0, 0.1), (20.0, 1 / 3)]
    text = curves.to_csv(points)
    assert text.splitlines()[0] == "iteration,reward"
    assert [(float(row["iteration"]), float(row["reward"])) for row in curves.rows_of(text)] == points
