"""What is asked of the records: roles, the headline reward, pace, speed."""

from __future__ import annotations

import math
from statistics import median
from typing import Any

import pytest

from g2rpo_trainer.reporting.history import (
    attempt_starts,
    eta_seconds,
    images_per_second,
    measurements,
    model_calls_per_second,
    other_seconds,
    outline,
    reward_curve,
    roles,
    trained,
    trained_reward,
)


def test_rewards_that_are_only_evaluated_are_held_out(make: Any) -> None:
    first = make.record(0, evaluation=[make.evaluation(reader=make.spread(0.1), ocr=make.spread(0.3))])
    assert roles([first, make.record(1)]) == {"ocr": "train", "reader": "heldout"}
    assert list(roles([first, make.record(1)])) == ["ocr", "reader"]


def test_before_training_nothing_can_be_told_from_roles_but_what_the_job_declares(make: Any) -> None:
    first = make.record(0, evaluation=[make.evaluation(reader=make.spread(0.1), ocr=make.spread(0.3))])
    assert set(roles([first]).values()) == {"train"}
    assert roles([first], {"ocr": "train", "reader": "heldout"}) == {"ocr": "train", "reader": "heldout"}


def test_a_declared_reward_without_any_score_is_listed(make: Any) -> None:
    assert roles([], {"later": "heldout"}) == {"later": "heldout"}


def test_the_headline_is_weighted_by_the_rewards(make: Any) -> None:
    both = [make.reward("a", 0.2, {}, weight=1.0), make.reward("b", 0.8, {}, weight=3.0)]
    assert trained_reward(make.record(1, rewards=both)) == pytest.approx((0.2 + 3 * 0.8) / 4)


def test_without_anchor_the_branches_count(make: Any) -> None:
    only_branches = [make.reward("a", None, {"1": 0.2, "2": 0.6})]
    assert trained_reward(make.record(1, rewards=only_branches)) == pytest.approx(0.4)


def test_a_reward_that_failed_everywhere_does_not_hide_the_others(make: Any) -> None:
    both = [make.reward("a", math.nan, {}), make.reward("b", 0.8, {})]
    assert trained_reward(make.record(1, rewards=both)) == 0.8
    assert math.isnan(trained_reward(make.record(0)))


def test_the_pace_is_the_median_of_recent_iterations(make: Any) -> None:
    seconds = [9.0, 1.0, 2.0, 60.0, 3.0]
    records = [make.record(0, step_seconds=500.0)]
    records += [make.record(i + 1, step_seconds=s) for i, s in enumerate(seconds)]
    assert eta_seconds(records, 25) == 20 * median(seconds)


def test_old_iterations_do_not_slow_the_pace(make: Any) -> None:
    records = [make.record(i, step_seconds=100.0 if i <= 30 else 2.0) for i in range(1, 61)]
    assert eta_seconds(records, 70) == 10 * 2.0


def test_no_time_is_left_after_the_end_and_unknown_before_the_start(make: Any) -> None:
    assert eta_seconds([make.record(1)], 1) == 0.0
    assert eta_seconds([make.record(0)], 10) is None
    assert eta_seconds([], 10) is None


def test_speed_leaves_evaluations_out(make: Any) -> None:
    plain = make.record(1, images=300, model_calls=1000, step_seconds=2.0)
    evaluated = make.record(2, images=300, model_calls=1000, step_seconds=10.0, seconds={"rollout": 1.5, "eval": 8.0})
    assert images_per_second([make.record(0), plain, evaluated]) == 600 / 4
    assert model_calls_per_second([plain, evaluated]) == 2000 / 4
    assert math.isnan(images_per_second([make.record(0)]))


def test_time_that_no_phase_claims(make: Any) -> None:
    seconds = {"rollout": 1.0, "train": 0.5, "checkpoint": 7.0}
    assert other_seconds(make.record(1, seconds=seconds, step_seconds=2.0)) == pytest.approx(0.5)
    assert other_seconds(make.record(1, seconds=seconds, step_seconds=1.4)) == 0.0


def test_later_attempts_are_found_where_they_begin(make: Any) -> None:
    attempts = [1, 1, 2, 2, 5, 5]
    records = [make.record(i, attempt=attempt) for i, attempt in enumerate(attempts)]
    assert attempt_starts(records) == [(2, 2), (4, 5)]
    assert attempt_starts([]) == []


def test_measurements_leave_out_what_is_no_number(make: Any) -> None:
    both = [make.evaluation(50, ocr=make.spread(0.4)), make.evaluation(9, unseen=True, ocr=make.spread(0.2))]
    records = [
        make.record(0, evaluation=[make.evaluation(50, ocr=make.spread(0.3))]),
        make.record(1),
        make.record(2, evaluation=[make.evaluation(50, ocr=make.spread(math.nan))]),
        make.record(3, evaluation=both),
    ]
    found = measurements(records, "eval", "ocr")
    assert [(m.iteration, m.prompts, m.spread.mean) for m in found] == [(0, 50, 0.3), (3, 50, 0.4)]
    assert [m.prompts for m in measurements(records, "unseen", "ocr")] == [9]
    assert measurements(records, "eval", "other") == []


def test_curves_follow_one_reward(make: Any) -> None:
    both = [make.reward("a", 0.2, {}), make.reward("b", 0.8, {})]
    assert reward_curve([make.record(0), make.record(1, rewards=both)], "b") == [(1, 0.8)]


def test_outlines_answer_the_same_questions(make: Any) -> None:
    records = make.rising_run()
    short = [outline(record) for record in records]
    assert [trained_reward(r) for r in trained(short)] == [trained_reward(r) for r in trained(records)]
    assert measurements(short, "eval", "reader") == measurements(records, "eval", "reader")
    assert eta_seconds(short, 99) == eta_seconds(records, 99)
    assert all(
        len(r.model_dump_json()) < len(full.model_dump_json()) for r, full in zip(short[1:], records[1:], strict=True)
    )
