"""The document behind /progress."""

from __future__ import annotations

import math
from typing import Any

import pytest

from g2rpo_api.contract import MAX_PROGRESS_BYTES
from g2rpo_api.progress import (
    MAX_CURVE_POINTS,
    MAX_REWARDS,
    CheckpointReport,
    ProgressReport,
    RewardReport,
    StoppedReport,
)
from g2rpo_trainer.monitoring.progress import RunInfo, State, curve, document, number
from g2rpo_trainer.stopping import LONGEST_REASON

RUN = RunInfo("numbers", 40, 2, {"ocr": "train", "reader": "heldout"}, attempt=3)
BEAT = 1_700_000_000.5


def told(report: ProgressReport) -> ProgressReport:
    """As the operator reads it; strict, so that a wrong type or a number that JSON lacks is noticed."""
    return ProgressReport.model_validate_json(report.model_dump_json(by_alias=True))


def test_before_the_first_record_everything_is_known_but_the_numbers() -> None:
    report = told(document(RUN, State(BEAT)))
    assert (report.job, report.iteration, report.total, report.percent) == ("numbers", 0, 40, 0.0)
    assert (report.phase, report.attempt, report.eta_seconds, report.beat) == ("Starting", 3, None, BEAT)
    assert (report.curve, report.checkpoint, report.stopped) == ((), None, None)
    assert (report.images_per_second, report.clip_ratio) == (None, None)
    assert [(reward.name, reward.role, reward.mean) for reward in report.rewards] == [
        ("ocr", "Train", None),
        ("reader", "HeldOut", None),
    ]


def test_in_the_middle(make: Any) -> None:
    checkpoint = CheckpointReport(iteration=30, time=1234.5)
    report = told(document(RUN, State(BEAT, make.rising_run()[:31], "Training", 20.04, 0.05, checkpoint)))
    assert (report.iteration, report.percent, report.eta_seconds) == (30, 75.0, 20.04)
    assert (report.phase, report.checkpoint, report.clip_ratio) == ("Training", checkpoint, 0.05)
    assert report.images_per_second == 200 / 2.0
    means = [0.3 + 0.4 * i / 40 for i in range(1, 31)]
    smoothed = [sum(means[i - 5 : i]) / 5 for i in range(5, 31)]
    trained, held_out = report.rewards
    assert trained.mean == pytest.approx(smoothed[-1])
    assert trained.best == pytest.approx(max(smoothed))
    assert trained.delta == pytest.approx(smoothed[-1] - smoothed[0])
    assert held_out == RewardReport(name="reader", role="HeldOut", mean=0.325, best=0.325, delta=0.225)


def test_speed_is_that_of_the_last_iterations(make: Any) -> None:
    slow = [make.record(i, step_seconds=10.0, images=100) for i in range(1, 6)]
    fast = [make.record(i, step_seconds=1.0, images=100) for i in range(6, 11)]
    assert document(RUN, State(BEAT, slow)).images_per_second == 10.0
    assert document(RUN, State(BEAT, slow + fast)).images_per_second == 100.0


def reward_of(make: Any, means: list[float]) -> RewardReport:
    records = [make.record(i, rewards=[make.reward("ocr", mean, {})]) for i, mean in enumerate(means, 1)]
    return document(RUN, State(BEAT, records)).rewards[0]


@pytest.mark.parametrize(
    ("means", "mean", "best", "delta"),
    [
        ([0.1] * 5 + [0.9] * 5 + [0.5] * 5, 0.5, 0.9, 0.4),
        ([0.5] * 5 + [0.1] * 5 + [0.3] * 5, 0.3, 0.5, -0.2),
        ([0.1, 0.2, 0.3], 0.2, 0.2, 0.0),
    ],
    ids=["the best may lie behind", "a loss is a negative delta", "the first iterations have the mean so far"],
)
def test_a_reward_is_told_by_where_it_is_its_best_and_its_change(
    make: Any, means: list[float], mean: float, best: float, delta: float
) -> None:
    assert reward_of(make, means) == RewardReport(name="ocr", role="Train", mean=mean, best=best, delta=delta)


def test_the_curve_is_short_and_has_both_ends(make: Any) -> None:
    records = [make.record(i, rewards=[make.reward("ocr", math.sin(i / 30), {})]) for i in range(1, 1001)]
    points = curve(records)
    assert len(points) == MAX_CURVE_POINTS
    assert (points[0].iteration, points[-1].iteration) == (1, 1000)
    assert all(point.reward == pytest.approx(math.sin(point.iteration / 30), rel=1e-5) for point in points)
    assert len(curve(records[:10])) == 10


def test_what_is_no_number_is_null(make: Any) -> None:
    records = [make.record(i, rewards=[make.reward("ocr", math.nan, {})]) for i in (1, 2)]
    report = told(document(RUN, State(BEAT, records, "Training", math.inf, math.nan)))
    assert (report.eta_seconds, report.clip_ratio, report.curve, report.rewards[0].mean) == (None, None, (), None)


def test_a_job_that_now_asks_for_fewer_iterations_than_are_done_is_done(make: Any) -> None:
    run = RunInfo("numbers", 4, 1, {"ocr": "train"})
    assert told(document(run, State(BEAT, [make.record(i) for i in range(1, 9)]))).percent == 100.0


def test_the_largest_document_fits_64_kib(make: Any) -> None:
    names = [
        f"{'reward-with-the-longest-name-that-is-allowed-for-a-reward':<60}{i:03}".replace(" ", "-") for i in range(64)
    ]
    assert {len(name) for name in names} == {63}
    run = RunInfo("j" * 52, 10**6, 512, dict.fromkeys(names, "train"))
    rewards = [make.reward(name, -0.123456789, {}) for name in names]
    records = [make.record(10**6 + i, rewards=rewards) for i in range(100)]
    stopped = StoppedReport(reason="Requested", message="\u0001" * LONGEST_REASON)
    checkpoint = CheckpointReport(iteration=10**6, time=1.7e9)
    report = document(run, State(BEAT, records, "Evaluating", 1234567.89, 0.123456789, checkpoint, stopped))
    assert len(report.rewards) == MAX_REWARDS
    assert len(report.model_dump_json(by_alias=True).encode()) < MAX_PROGRESS_BYTES


@pytest.mark.parametrize(
    ("value", "expected"), [(0.123456789, 0.123457), (math.nan, None), (-math.inf, None), (0, 0.0), (None, None)]
)
def test_numbers_have_six_digits(value: float | None, expected: float | None) -> None:
    assert number(value) == expected
