"""Phase, conditions, usage and progress of a status."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from g2rpo_api.progress import CheckpointReport, CurvePoint, ProgressReport, RewardReport
from g2rpo_api.status import Condition, JobStatus, Reason
from g2rpo_operator import statuses
from g2rpo_operator.statuses import active_seconds, next_attempt, phase_of, progress_of, with_condition, with_usage
from testoperator.records import at, condition, job, report, running_status, status, time

PHASES = {
    "Pending": "Pending",
    "FailedCreate": "Pending",
    "Unschedulable": "Pending",
    "Queued": "Queued",
    "ImagePullFailed": "Starting",
    "ConfigMissing": "Starting",
    "ContainersStarting": "Starting",
    "Fault": "Restarting",
    "Disrupted": "Restarting",
    "ProgressStalled": "Restarting",
    "PodsLost": "Restarting",
    "Resumed": "Restarting",
}
"""Of a job that does not run, by the reason."""


def running_conditions() -> Iterator[tuple[str, Condition | None]]:
    """What the condition Running may say, with the phase of a job that nothing else is said of."""
    yield "Pending", None
    for reason in ("RanksStarting", "Training", "Stopping"):
        yield "Running", condition("Running", "True", reason)
    for reason, phase in PHASES.items():
        yield phase, condition("Running", "False", reason)


SUSPENSIONS = [
    (None, None),
    (None, condition("Suspended", "False", "NotSuspended")),
    ("Suspending", condition("Suspended", "False", "SuspendRequested")),
    ("Suspended", condition("Suspended", "True", "Suspended")),
]
ENDS = [
    (None, None),
    ("Succeeded", condition("Complete", "True", "Completed")),
    ("Failed", condition("Failed", "True", "RestartsExhausted")),
]


def test_the_phase_is_the_strongest_thing_that_the_conditions_say() -> None:
    for (runs, running), (pauses, suspended), (ends, end) in itertools.product(running_conditions(), SUSPENSIONS, ENDS):
        told = [each for each in (running, suspended, end) if each is not None]
        for order in itertools.permutations(told):
            assert phase_of(status(*order)) == (ends or pauses or runs)


def test_every_reason_to_restart_is_in_the_table_above() -> None:
    restarting = {r.value for r in Reason if phase_of(status(condition("Running", "False", r))) == "Restarting"}
    others = restarting - {reason for reason, phase in PHASES.items() if phase == "Restarting"}
    # The rest are reasons of the other conditions, or of ranks that run.
    assert others.isdisjoint(set(PHASES))
    assert set(PHASES) <= {reason.value for reason in Reason}


def test_a_condition_says_since_when_it_is_so() -> None:
    first = with_condition(status(), "Running", False, Reason.PENDING, "soon", at(0))
    again = with_condition(first, "Running", False, Reason.UNSCHEDULABLE, "no room", at(50))
    runs = with_condition(again, "Running", True, Reason.TRAINING, "", at(90))
    assert [s.conditions[0].last_transition_time for s in (first, again, runs)] == [time(0), time(0), time(90)]
    assert [s.conditions[0].reason for s in (first, again, runs)] == ["Pending", "Unschedulable", "Training"]
    assert [s.phase for s in (first, again, runs)] == ["Pending", "Pending", "Running"]


def test_a_condition_keeps_its_place_and_names_the_generation_that_it_is_about() -> None:
    both = status(condition("Suspended", "False", "NotSuspended"), condition("Running", "False", "Pending"))
    seen = both.model_copy(update={"observed_generation": 8})
    changed = with_condition(seen, "Suspended", True, Reason.SUSPENDED, "", at(50))
    assert [found.type for found in changed.conditions] == ["Suspended", "Running"]
    assert [found.observed_generation for found in changed.conditions] == [8, 1]


def test_saying_the_same_again_changes_nothing() -> None:
    once = with_condition(status(), "Running", False, Reason.PENDING, "soon", at(0))
    assert with_condition(once, "Running", False, Reason.PENDING, "soon", at(500)) == once


def test_a_long_complaint_is_cut() -> None:
    (told,) = with_condition(status(), "Running", False, Reason.UNSCHEDULABLE, "x" * 50_000, at(0)).conditions
    assert len(told.message) == 1024
    Condition.model_validate_json(told.model_dump_json())


def timeline() -> Iterator[tuple[float, JobStatus, float, float]]:
    """Moments at which a job of 4 ranks changes, its state from then on, active and GPU seconds up to then."""
    suspending = condition("Suspended", "False", "SuspendRequested"), condition("Running", "False", "SuspendRequested")
    suspended = condition("Suspended", "True", "Suspended"), condition("Running", "False", "Suspended")
    waiting, fault = condition("Running", "False", "ContainersStarting"), condition("Running", "False", "Fault")
    done = condition("Running", "False", "Finished"), condition("Complete", "True", "Completed")
    yield 0, status(condition("Running", "False", "Pending"), phase="Pending"), 0, 0
    yield 10, status(waiting, phase="Starting"), 10, 0
    yield 30, running_status(), 30, 0
    yield 630, running_status(), 630, 600 * 4
    yield 1000, status(*suspending, phase="Suspending"), 1000, 970 * 4
    yield 1060, status(*suspended, phase="Suspended"), 1000, 970 * 4
    yield 5000, status(condition("Running", "False", "Resumed"), phase="Restarting"), 1000, 970 * 4
    yield 5100, running_status(), 1100, 970 * 4
    yield 5400, status(fault, phase="Restarting"), 1400, 1270 * 4
    yield 5460, running_status(), 1460, 1270 * 4
    yield 6000, status(*done, phase="Succeeded"), 2000, 1810 * 4
    yield 9999, status(*done, phase="Succeeded"), 2000, 1810 * 4


def test_usage_adds_up_what_passed_in_each_state() -> None:
    spec = job(workers={"processesPerNode": 2}).spec
    now = JobStatus()
    for moment, following, active, gpu in timeline():
        now = with_usage(now, following, spec, at(moment))
        assert now.conditions == following.conditions
        assert (now.usage.active_seconds, now.usage.gpu_seconds) == (active, gpu), f"at {moment} s"
        assert now.usage.time == time(moment)
    assert now.usage.gpu_hours == pytest.approx(1810 * 4 / 3600, abs=0.005)


@given(st.lists(st.floats(0.05, 40), min_size=1, max_size=200))
def test_usage_does_not_depend_on_how_often_it_is_written(steps: list[float]) -> None:
    spec, now = job().spec, with_usage(JobStatus(), running_status(), job().spec, at(0))
    for moment in itertools.accumulate(steps):
        now = with_usage(now, running_status(), spec, at(moment))
    assert now.usage.active_seconds == pytest.approx(sum(steps), abs=1)
    assert now.usage.gpu_seconds == pytest.approx(2 * sum(steps), abs=2)


def test_time_since_the_last_write_counts_before_it_is_written() -> None:
    written = with_usage(JobStatus(), running_status(), job().spec, at(100))
    assert active_seconds(written, at(100)) == 0
    assert active_seconds(written, at(3700)) == 3600


def test_a_clock_that_runs_backwards_takes_nothing_away() -> None:
    used = with_usage(
        with_usage(JobStatus(), running_status(), job().spec, at(0)), running_status(), job().spec, at(60)
    )
    back = with_usage(used, running_status(), job().spec, at(50))
    assert back.usage.active_seconds == 60
    assert back.usage.gpu_seconds == 120


def test_the_next_attempt_is_due_at_once_or_after_a_pause() -> None:
    first = next_attempt(JobStatus(), at(5))
    assert (first.attempt, first.attempt_time, first.start_time, first.retry_time) == (1, time(5), time(5), None)
    second = next_attempt(running_status(start_time=time(5)), at(300), 20)
    assert (second.attempt, second.attempt_time, second.start_time) == (2, time(300), time(5))
    assert second.retry_time == time(320)
    assert (second.scheduled_time, second.running_time) == (None, None)
    assert next_attempt(second, at(330)).retry_time is None


def test_progress_of_a_trainer_is_told_with_four_digits() -> None:
    rewards = [
        RewardReport(name="ocr", role="Train", mean=0.123456, best=1234567.0, delta=-0.000123456),
        RewardReport(name="clip", role="Train", mean=0.9, best=None, delta=None),
        RewardReport(name="hps", role="HeldOut", mean=31.41592, best=None, delta=None),
    ]
    told = progress_of(
        report(
            40,
            beat=190,
            rewards=rewards,
            clip_ratio=0.0123456,
            images_per_second=12.34567,
            checkpoint=CheckpointReport(iteration=20, time=at(100.9).timestamp()),
            curve=[CurvePoint(iteration=1, reward=0.5)],
        )
    )
    assert (told.iteration, told.total, told.step, told.percent, told.eta_seconds) == (40, 100, "40/100", 40, 900)
    assert (told.reward, told.best, told.delta) == (0.1235, 1_235_000, -0.0001235)
    assert (told.held_out, told.clip_ratio, told.images_per_second) == (31.42, 0.01235, 12.35)
    assert [(reward.name, reward.mean) for reward in told.rewards] == [("ocr", 0.1235), ("clip", 0.9), ("hps", 31.42)]
    assert told.checkpoint is not None
    assert (told.checkpoint.iteration, told.checkpoint.time) == (20, time(100))
    assert (told.beat_time, told.attempt) == (time(190), 1)
    assert told.curve == (CurvePoint(iteration=1, reward=0.5),)


def test_progress_before_the_first_iteration_is_told_too() -> None:
    told = progress_of(report(0, phase="Starting", eta_seconds=None))
    assert (told.reward, told.best, told.delta, told.held_out, told.eta_seconds) == (None,) * 5
    assert told.checkpoint is None


numbers = st.floats(-1e300, 1e300)
counts = st.integers(0, 2**31 - 1)
rewards = st.builds(
    RewardReport,
    name=st.text(min_size=1),
    role=st.sampled_from(["Train", "HeldOut"]),
    mean=st.none() | numbers,
    best=st.none() | numbers,
    delta=st.none() | numbers,
)
moments = st.floats(0, 2**32, exclude_max=True)
reports = st.fixed_dictionaries(
    {
        "job": st.just("portrait"),
        "attempt": st.integers(1, 2**31 - 1),
        "phase": st.sampled_from(["Starting", "Training", "Evaluating", "Finished"]),
        "iteration": counts,
        "total": st.integers(1, 2**31 - 1),
        "percent": st.floats(0, 100),
        "eta_seconds": st.none() | st.floats(0, 1e300),
        "beat": moments,
        "images_per_second": st.none() | st.floats(0, 1e300),
        "rewards": st.lists(rewards, max_size=3, unique_by=lambda reward: reward.name),
        "curve": st.lists(st.builds(CurvePoint, iteration=counts, reward=numbers), max_size=3),
        "checkpoint": st.none() | st.builds(CheckpointReport, iteration=counts, time=moments),
    }
).map(lambda fields: ProgressReport(**fields))


@given(reports)
def test_whatever_a_trainer_may_tell_can_be_written_down(told: ProgressReport) -> None:
    written = status(progress=progress_of(told)).model_dump_json(by_alias=True, exclude_none=True)
    assert JobStatus.model_validate_json(written).progress == progress_of(told)


def test_two_rewards_of_one_name_are_refused_where_they_are_read() -> None:
    twice = RewardReport(name="ocr", role="Train", mean=None, best=None, delta=None)
    with pytest.raises(ValidationError, match="unique among the rewards"):
        report(rewards=(twice, twice))


@pytest.mark.parametrize("moment", [2.0**32, 1e18, math.inf, math.nan, -1.0])
def test_a_trainer_whose_clock_is_out_of_its_mind_is_not_believed(moment: float) -> None:
    with pytest.raises(ValidationError, match="beat"):
        ProgressReport.model_validate({**report().model_dump(), "beat": moment})


@given(numbers)
def test_four_digits_are_within_half_of_a_ten_thousandth(value: float) -> None:
    rounded = statuses.four(value)
    assert rounded is not None
    assert math.isclose(rounded, value, rel_tol=5.01e-4, abs_tol=5e-13)


def test_what_rounding_leaves_of_a_difference_is_nothing() -> None:
    assert statuses.four(0.1 + 0.2 - 0.3) == 0.0
