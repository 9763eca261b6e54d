"""Progress on a job's page: bar, time left, curve, vital signs, rewards."""

from __future__ import annotations

import pytest

from g2rpo_api.status import Condition, JobStatus, Phase
from plugin.scenes import read_page, told
from testoperator.records import condition, running_status, status


def line_of(text: str, name: str) -> str:
    return next(line for line in text.splitlines() if line.startswith(name))


@pytest.mark.parametrize(("iteration", "full"), [(0, 0), (1, 0), (50, 15), (99, 29), (100, 30)])
def test_the_bar_is_full_at_the_end_only(iteration: int, full: int) -> None:
    bar = line_of(read_page(running_status(progress=told(iteration))), "Progress")
    assert bar.count("█") == full
    assert bar.count("█") + bar.count("░") == 30
    assert f"{iteration} %  {iteration}/100" in bar


def test_the_time_left_counts_from_the_moment_at_which_it_was_told() -> None:
    # Told at 12:03:10 that 900 s are left, so the end is at 12:18:10.
    bar = line_of(read_page(running_status(progress=told(beat=190, etaSeconds=900)), now=790), "Progress")
    assert bar.endswith("ETA 5m (2026-03-01 12:18 UTC)")


def test_the_time_left_is_never_negative() -> None:
    late = read_page(running_status(progress=told(beat=190, etaSeconds=60)), now=10_000)
    assert "ETA 0s" in late


@pytest.mark.parametrize(
    "waiting",
    [
        status(condition("Running", "False", "Fault"), phase="Restarting", progress=told()),
        running_status(attempt=2, progress=told()),
        running_status(progress=told(etaSeconds=None)),
    ],
)
def test_a_job_that_does_not_train_has_no_time_left(waiting: JobStatus) -> None:
    assert "ETA" not in read_page(waiting)


def test_the_reward_has_its_curve_its_best_and_its_change() -> None:
    reward = line_of(read_page(running_status(progress=told(64))), "Reward")
    assert reward.split() == [
        "Reward", "0.6021", reward.split()[2], "best", "0.6114", "+0.2893", "since", "the", "first", "iterations",
    ]  # fmt: skip
    spark = reward.split()[2]
    assert spark[0] == "▁"
    assert spark[-1] == "█"
    assert list(spark) == sorted(spark), "the curve rises"


def test_before_the_first_reward_there_is_no_curve() -> None:
    text = read_page(running_status(progress=told(0, reward=None, best=None, delta=None, curve=[], rewards=[])))
    assert "Reward " not in text
    assert "REWARD" not in text
    assert "Progress" in text


def test_vital_signs_say_when_it_was_last_alive_and_saved() -> None:
    saved = {"iteration": 38, "time": "2026-03-01T12:01:00Z"}
    signs = told(checkpoint=saved, imagesPerSecond=12.3456, clipRatio=0.125, phase="Evaluating")
    text = line_of(read_page(running_status(progress=signs), now=250), "Trainer")
    assert text == (
        "Trainer   evaluating (attempt 1), last sign of life 60s ago, checkpoint of iteration 38 3m10s ago, "
        "12.35 images/s, 12.5 % clipped"
    )


@pytest.mark.parametrize(
    ("told_by", "phase"),
    [
        (condition("Complete", "True", "Completed"), "Succeeded"),
        (condition("Suspended", "True", "Suspended"), "Suspended"),
    ],
)
def test_a_job_that_does_not_run_shows_no_sign_of_life(told_by: Condition, phase: Phase) -> None:
    text = read_page(status(told_by, phase=phase, progress=told(99, imagesPerSecond=2.0)))
    assert "last sign of life" not in text
    assert "training (attempt" not in text
    assert "2 images/s" in text


def test_rewards_stand_in_a_table_with_their_roles() -> None:
    lines = read_page(running_status(progress=told())).splitlines()
    start = next(number for number, line in enumerate(lines) if "REWARD" in line)
    assert [line.split() for line in lines[start : start + 3]] == [
        ["REWARD", "ROLE", "MEAN", "BEST", "Δ"],
        ["ocr", "Train", "0.6021", "0.6114", "+0.2893"],
        ["reader", "HeldOut", "0.43", "0.45", "-0.02"],
    ]


def test_a_reward_that_was_not_measured_has_dashes() -> None:
    unknown = [{"name": "ocr", "role": "Train", "mean": None, "best": None, "delta": None}]
    lines = read_page(running_status(progress=told(rewards=unknown))).splitlines()
    assert next(line.split() for line in lines if " ocr " in line) == ["ocr", "Train", "-", "-", "-"]
