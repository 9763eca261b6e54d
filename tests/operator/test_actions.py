"""What each rule does: the status that follows, and what is created, deleted and asked for."""

from __future__ import annotations

from dataclasses import replace

import pytest

from g2rpo_api.job import G2RPOJob
from g2rpo_api.progress import CheckpointReport, RewardReport, StoppedReport
from g2rpo_api.status import Condition, JobStatus
from g2rpo_operator.decide import decide
from g2rpo_operator.reconcile import same_news, urgent
from g2rpo_operator.world import Decision, Target, View
from testoperator.records import (
    DEFAULT_IMAGE,
    attempt_of,
    child,
    condition,
    config_map,
    ended_pod,
    job,
    later,
    pending_pod,
    pod,
    report,
    running_status,
    status,
    time,
    view,
)

THIS_JOB = Target("Job", child().name, child().uid)


def said(decision: Decision, kind: str) -> tuple[str, str]:
    """Status and reason of a condition."""
    found = decision.status.condition(kind)  # type: ignore[arg-type]
    assert found is not None
    return found.status, found.reason


def message(decision: Decision, kind: str = "Running") -> str:
    found = decision.status.condition(kind)  # type: ignore[arg-type]
    assert found is not None
    return found.message


def fresh(of: G2RPOJob | None = None, **fields: object) -> View:
    """A job that was just created."""
    nothing = attempt_of(number=0, job=None, config_map=None, service=None)
    return view(of, status=JobStatus(), attempt=nothing, **fields)


def crashed(exit_code: int = 1, of: G2RPOJob | None = None, **fields: object) -> View:
    """A job of which an attempt ended by this exit code."""
    ended = attempt_of(ended_pod(exit_code), ended_pod(75, 1), job=child(failed=True))
    return view(of, status=running_status(**fields), attempt=ended)


def preempted(of: G2RPOJob | None = None, **fields: object) -> View:
    leaving = pod(1, disruption="PreemptionByScheduler", deletion_time=time(500))
    return view(of, status=running_status(**fields), attempt=attempt_of(pod(0), leaving))


def over(kind: str = "Failed", ended: float = 100, **fields: object) -> JobStatus:
    end = condition(kind, "True", "Completed"), condition("Running", "False", "Finished")
    phase = "Failed" if kind == "Failed" else "Succeeded"
    return status(*end, phase=phase, completion_time=time(ended), **fields)


# The beginning


def test_a_new_job_gets_its_first_attempt_before_anything_is_created() -> None:
    decision = decide(fresh())
    told = decision.status
    assert (told.phase, told.attempt, told.start_time, told.attempt_time) == ("Pending", 1, time(200), time(200))
    assert said(decision, "Running") == ("False", "Pending")
    assert (decision.create, decision.delete, told.restarts, told.disruptions) == ((), (), 0, 0)


def test_what_the_attempt_runs_is_written_down_with_it() -> None:
    told = decide(fresh(job(image="registry.example/mine:2"))).status
    assert (told.image, told.seed) == ("registry.example/mine:2", 7)
    assert decide(fresh()).status.image == DEFAULT_IMAGE
    same, other = decide(fresh()).status.spec_hash, decide(fresh(job(training={"seed": 8}))).status.spec_hash
    assert told.spec_hash == same
    assert same != other


@pytest.mark.parametrize("absent", [("ConfigMap", "Service", "Job"), ("Service", "Job"), ("Job",)])
def test_exactly_what_is_missing_is_created_the_job_last(absent: tuple[str, ...]) -> None:
    parts = {"ConfigMap": "config_map", "Service": "service", "Job": "job"}
    told = status(condition("Running", "False", "Pending"))
    seen = view(status=told, attempt=attempt_of(**{parts[kind]: None for kind in absent}))
    decision = decide(seen)
    assert decision.create == absent
    assert decision.delete == ()
    assert (decision.status.phase, decision.status.attempt) == ("Pending", 1)


def test_an_image_that_was_mended_during_the_pause_is_the_one_that_is_told() -> None:
    told = status(condition("Running", "False", "Fault"), attempt=2, image="registry.example/old:1")
    seen = view(job(image="registry.example/new:1"), status=told, attempt=attempt_of(number=2, job=None))
    decision = decide(seen)
    assert decision.status.image == "registry.example/new:1"
    assert urgent(told, decision.status), "no later look would know which image it was"


def told_at_once(told: JobStatus, seen: View) -> bool:
    return urgent(told, decide(seen).status)


@pytest.mark.parametrize(("reason", "phase"), [("Pending", "Pending"), ("Fault", "Restarting")])
def test_a_start_that_goes_well_is_not_told_for_a_minute_and_one_that_does_not_at_once(reason: str, phase: str) -> None:
    told = status(condition("Running", "False", reason, message="as it was"), phase=phase)
    waits = attempt_of(pod(0, phase="Pending"), pod(1, phase="Pending"), job=child(start_time=time(200)))
    fresh = view(status=told, attempt=waits)
    assert same_news(told, decide(later(fresh, 59)).status)
    assert decide(later(fresh, 59)).look_again_seconds == 1
    assert told_at_once(told, later(fresh, 60))
    assert said(decide(later(fresh, 60)), "Running") == ("False", "ContainersStarting")
    unplaced = attempt_of(pending_pod(unschedulable="0/4 nodes"), pending_pod(1))
    assert told_at_once(told, view(status=told, attempt=unplaced))
    assert told_at_once(told, view(status=told)), "all pods run"


def test_that_what_held_a_start_is_gone_is_told_at_once() -> None:
    held = status(condition("Running", "False", "Unschedulable"), phase="Pending")
    waits = attempt_of(pod(0, phase="Pending"), pod(1, phase="Pending"), job=child(start_time=time(200)))
    assert told_at_once(held, view(status=held, attempt=waits)), "people wait for this"


def test_progress_waits_for_an_interval() -> None:
    told = running_status()
    assert not told_at_once(told, view(status=told, progress=report(7)))


def test_pods_were_scheduled_when_the_scheduler_says_so_whoever_looks_whenever() -> None:
    told = status(condition("Running", "False", "ContainersStarting"), phase="Starting")
    placed = [pod(0, phase="Pending", scheduled_at=time(110)), pod(1, phase="Pending", scheduled_at=time(120))]
    seen = view(job(policy={"startTimeoutSeconds": 300}), status=told, attempt=attempt_of(*placed))
    assert decide(seen).status.scheduled_time == decide(later(seen, 99)).status.scheduled_time == time(120)
    assert decide(seen).look_again_seconds == 120 + 300 - 200
    assert decide(later(seen, 219)).status.phase == "Starting"
    assert said(decide(later(seen, 220)), "Failed") == ("True", "StartTimeout")


def test_that_pods_were_scheduled_is_not_worth_a_write_of_its_own() -> None:
    told = status(condition("Running", "False", "ContainersStarting"), phase="Starting")
    assert same_news(told, told.model_copy(update={"scheduled_time": time(5)}))
    assert not same_news(told, told.model_copy(update={"running_time": time(5)}))


def test_someone_looks_again_when_pods_should_have_been_created() -> None:
    told = status(condition("Running", "False", "ContainersStarting"), phase="Starting")
    seen = view(status=told, now=120, attempt=attempt_of(job=child(start_time=time(100))))
    assert decide(seen).look_again_seconds == 40


def test_mending_a_running_attempts_config_map_does_not_touch_its_image() -> None:
    seen = view(
        job(image="registry.example/new:1"),
        status=running_status(image="registry.example/old:1"),
        attempt=attempt_of(pod(0), pod(1), config_map=None),
    )
    decision = decide(seen)
    assert (decision.create, decision.status.image) == (("ConfigMap",), "registry.example/old:1")


# Following


def test_the_moments_of_scheduling_and_running_are_written_down_once() -> None:
    starting = status(condition("Running", "False", "ContainersStarting"))
    unplaced = decide(view(status=starting, attempt=attempt_of(pod(0), pending_pod(1)))).status
    assert (unplaced.scheduled_time, unplaced.running_time) == (None, None)
    placed = decide(view(status=starting, attempt=attempt_of(pod(0), pod(1, phase="Pending")))).status
    assert (placed.scheduled_time, placed.running_time, placed.phase) == (time(200), None, "Starting")
    runs = decide(view(status=placed, now=230)).status
    assert (runs.scheduled_time, runs.running_time, runs.phase) == (time(200), time(230), "Running")
    assert decide(view(status=runs, now=999)).status == runs


def test_kueue_takes_the_moments_back() -> None:
    queued = decide(view(status=running_status(), attempt=attempt_of(job=child(suspended=True)))).status
    assert (queued.scheduled_time, queued.running_time, queued.phase) == (None, None, "Queued")


def test_the_end_of_the_pause_is_forgotten_once_the_attempt_is_there() -> None:
    told = status(condition("Running", "False", "Fault"), retry_time=time(150))
    assert decide(view(status=told)).status.retry_time is None


def test_a_wish_to_end_early_is_handed_on_once() -> None:
    wish = job(stop=True)
    decision = decide(view(wish))
    assert decision.request_stop
    assert said(decision, "Running") == ("True", "Stopping")
    assert not decide(view(wish, attempt=attempt_of(pod(0), pod(1), config_map=config_map(stop=True)))).request_stop
    assert not decide(view()).request_stop


def test_the_next_look_is_due_when_time_alone_may_change_something() -> None:
    assert decide(view(progress=None)).look_again_seconds is None
    silent = view(job(policy={"progressTimeoutSeconds": 100}), progress=report(beat=150))
    assert decide(silent).look_again_seconds == 50
    limited = job(policy={"activeDeadlineSeconds": 1000})
    used = running_status().usage.model_copy(update={"active_seconds": 300.0, "time": time(150)})
    assert decide(view(limited, status=running_status(usage=used))).look_again_seconds == 1000 - 300 - 50
    leaving = pod(1, deletion_time=time(500))
    assert decide(view(attempt=attempt_of(pod(0), leaving))).look_again_seconds == 500 + 60 - 200
    starting = status(condition("Running", "False", "ContainersStarting"), scheduled_time=time(100))
    loading = attempt_of(pod(0), pod(1, phase="Pending"))
    assert decide(view(job(policy={"startTimeoutSeconds": 300}), status=starting, attempt=loading)
                  ).look_again_seconds == 200  # fmt: skip


def test_the_earliest_of_several_times_counts() -> None:
    both = job(policy={"progressTimeoutSeconds": 100, "activeDeadlineSeconds": 30})
    assert decide(view(both, progress=report(beat=150))).look_again_seconds == 30


def test_a_limit_that_begins_with_a_look_is_timed_by_the_same_look() -> None:
    starting = status(condition("Running", "False", "ContainersStarting"))
    pulling = attempt_of(pod(0, phase="Pending"), pod(1, phase="Pending"))
    decision = decide(view(job(policy={"startTimeoutSeconds": 300}), status=starting, attempt=pulling, now=200))
    assert (decision.status.scheduled_time, decision.look_again_seconds) == (time(200), 300)


def test_old_attempts_go_while_the_new_one_runs() -> None:
    kept = [child(number, failed=True) for number in (1, 2, 3)]
    ended = tuple(ended_pod(1, attempt=number) for number in (1, 2, 3))
    now = attempt_of(pod(0, 4), pod(1, 4), number=4, older_jobs=tuple(kept), older_pods=ended)
    decision = decide(view(status=running_status(attempt=4), attempt=now))
    assert decision.delete == (Target("Job", kept[0].name, kept[0].uid),)


# Suspension


LASTING = {"runs": {"persistentVolumeClaim": {"claimName": "runs"}}}


@pytest.mark.parametrize(
    ("storage", "said_of"),
    [({}, "begins again at iteration 0"), (LASTING, "goes on from the newest checkpoint, of iteration 20")],
)
def test_where_training_goes_on_is_told_before_and_after(storage: dict[str, object], said_of: str) -> None:
    told = decide(view(progress=report(20, checkpoint=CheckpointReport(iteration=20, time=0.0)))).status.progress
    nothing = attempt_of(number=2, job=None, config_map=None)
    waits = status(condition("Suspended", "False", "SuspendRequested"), attempt=2, progress=told)
    rests = decide(view(job(suspend=True, storage=storage), status=waits, attempt=nothing))
    assert said_of in message(rests, "Suspended")
    again = decide(view(job(storage=storage), status=rests.status, attempt=nothing))
    assert said(again, "Running") == ("False", "Resumed")
    assert said_of in message(again)


def test_suspending_gives_the_attempt_up_and_stops_its_pods() -> None:
    decision = decide(view(job(suspend=True)))
    assert decision.status.phase == "Suspending"
    assert decision.delete == (THIS_JOB,)
    assert (decision.status.attempt, decision.status.restarts, decision.status.disruptions) == (2, 0, 0)
    assert said(decision, "Running") == ("False", "SuspendRequested")
    assert said(decision, "Suspended") == ("False", "SuspendRequested")
    assert decision.create == ()


def test_a_job_is_suspended_when_its_last_pod_has_ended() -> None:
    told = decide(view(job(suspend=True))).status
    leaving = pod(0, deletion_time=time(500))
    gone = attempt_of(number=2, job=None, config_map=None)
    waiting = decide(view(job(suspend=True), status=told, attempt=replace(gone, older_pods=(leaving,))))
    assert waiting.status == told
    assert waiting.look_again_seconds == 360
    done = decide(view(job(suspend=True), status=told, attempt=replace(gone, older_pods=(ended_pod(75),)), now=260))
    assert done.status.phase == "Suspended"
    assert said(done, "Suspended") == ("True", "Suspended")
    assert (done.status.attempt, done.delete) == (2, ())


def test_what_an_attempt_left_before_it_began_is_not_used_after_a_suspension() -> None:
    # Workers may change while the job is suspended, and the ConfigMap tells the trainer how many there are.
    half = attempt_of(job=None)
    decision = decide(view(job(suspend=True), status=status(condition("Running", "False", "Pending")), attempt=half))
    assert decision.status.attempt == 2


def test_a_job_may_be_suspended_before_it_begins() -> None:
    decision = decide(fresh(job(suspend=True)))
    assert (decision.status.phase, decision.status.attempt, decision.create) == ("Suspended", 0, ())
    awake = decide(replace(fresh(), status=decision.status))
    assert (awake.status.phase, awake.status.attempt) == ("Pending", 1)
    assert said(awake, "Suspended") == ("False", "NotSuspended")


def test_resuming_goes_on_with_the_attempt_that_suspending_made_due() -> None:
    stopped = status(condition("Suspended", "True", "Suspended"), condition("Running", "False", "Suspended"), attempt=2)
    decision = decide(view(status=stopped, attempt=attempt_of(number=2, job=None, config_map=None)))
    assert (decision.status.phase, decision.status.attempt) == ("Restarting", 2)
    assert said(decision, "Suspended") == ("False", "NotSuspended")
    assert said(decision, "Running") == ("False", "Resumed")
    assert [note.reason for note in decision.notes] == ["Resumed"]


def test_a_change_of_mind_before_the_pods_are_gone_waits_for_them() -> None:
    told = decide(view(job(suspend=True))).status
    leaving = attempt_of(number=2, job=None, config_map=None, older_pods=(pod(0, deletion_time=time(500)),))
    resumed = decide(view(status=told, attempt=leaving))
    assert resumed.rule == "suspension over"
    waiting = decide(view(status=resumed.status, attempt=leaving))
    assert (waiting.rule, waiting.create, waiting.status) == ("older attempt alive", (), resumed.status)


# Restarts


@pytest.mark.parametrize(("restarts", "pause"), [(0, 10), (1, 20), (2, 40), (5, 320), (6, 600), (40, 600)])
def test_the_pause_before_a_restart_doubles_up_to_ten_minutes(restarts: int, pause: int) -> None:
    decision = decide(crashed(of=job(policy={"maxRestarts": 100}), restarts=restarts))
    told = decision.status
    assert (told.phase, told.attempt, told.restarts, told.disruptions) == ("Restarting", 2, restarts + 1, 0)
    assert told.retry_time == time(200 + pause)
    assert said(decision, "Running") == ("False", "Fault")
    assert (decision.create, told.scheduled_time, told.running_time) == ((), None, None)


def test_a_longer_pause_than_ten_minutes_is_taken_as_it_is() -> None:
    slow = job(policy={"maxRestarts": 100, "restartBackoffSeconds": 3600})
    assert [decide(crashed(of=slow, restarts=used)).status.retry_time for used in (0, 9)] == [time(3800)] * 2


def test_without_a_back_off_the_next_attempt_is_due_at_once() -> None:
    assert decide(crashed(of=job(policy={"restartBackoffSeconds": 0}))).status.retry_time is None


def test_a_disruption_is_no_restart_and_needs_no_pause() -> None:
    decision = decide(preempted(restarts=3, disruptions=4))
    told = decision.status
    assert (told.attempt, told.restarts, told.disruptions, told.retry_time) == (2, 3, 5, None)
    assert said(decision, "Running") == ("False", "Disrupted")


def test_the_first_failing_rank_stands_in_the_status() -> None:
    failure = decide(crashed(3)).status.last_failure
    assert failure is not None
    assert (failure.attempt, failure.reason, failure.exit_code) == (1, "MissingData", 3)
    assert (failure.pod, failure.time) == (ended_pod(3).name, time(200))


def test_faults_beyond_the_limit_end_the_job() -> None:
    limit = job(policy={"maxRestarts": 3})
    assert decide(crashed(of=limit, restarts=2)).status.phase == "Restarting"
    decision = decide(crashed(of=limit, restarts=3))
    assert (decision.status.phase, decision.status.attempt, decision.status.restarts) == ("Failed", 1, 3)
    assert said(decision, "Failed") == ("True", "RestartsExhausted")
    assert said(decision, "Running") == ("False", "Finished")
    assert "policy.maxRestarts = 3" in message(decision, "Failed")
    assert ended_pod(1).name in message(decision, "Failed")
    assert decision.status.completion_time == time(200)
    assert decision.status.last_failure is not None


def test_disruptions_beyond_their_own_limit_end_the_job() -> None:
    limit = job(policy={"maxRestarts": 0, "maxDisruptions": 1})
    assert decide(preempted(limit)).status.phase == "Restarting"
    decision = decide(preempted(limit, disruptions=1))
    assert said(decision, "Failed") == ("True", "DisruptionsExhausted")
    assert "policy.maxDisruptions = 1" in message(decision, "Failed")


@pytest.mark.parametrize(("exit_code", "reason"), [(2, "InvalidSpec"), (5, "Diverged")])
def test_what_another_attempt_cannot_mend_ends_the_job_at_once(exit_code: int, reason: str) -> None:
    decision = decide(crashed(exit_code))
    assert said(decision, "Failed") == ("True", reason)
    assert (decision.status.attempt, decision.status.restarts) == (1, 0)


def test_a_job_that_someone_deleted_is_replaced_and_counts_as_a_disruption() -> None:
    decision = decide(view(attempt=attempt_of(pod(0), pod(1), job=None)))
    assert (decision.status.attempt, decision.status.disruptions, decision.status.restarts) == (2, 1, 0)
    assert said(decision, "Running") == ("False", "PodsLost")


def test_a_hung_attempt_counts_as_a_fault() -> None:
    silent = view(job(policy={"progressTimeoutSeconds": 60}), progress=report(beat=100))
    decision = decide(silent)
    assert (decision.status.attempt, decision.status.restarts, decision.status.retry_time) == (2, 1, time(210))
    assert said(decision, "Running") == ("False", "ProgressStalled")
    assert "progressTimeoutSeconds = 60" in message(decision)


def test_pods_of_an_attempt_that_was_given_up_are_stopped_before_the_next_begins() -> None:
    told = decide(preempted()).status
    before = attempt_of(number=2, job=None, config_map=None, older_jobs=(child(),), older_pods=(pod(0), pod(1)))
    decision = decide(view(status=told, attempt=before))
    assert (decision.delete, decision.create, decision.status) == ((THIS_JOB,), (), told)


def test_while_it_pauses_a_job_drops_what_is_not_worth_keeping() -> None:
    told = decide(crashed(of=job(policy={"keepFailedAttempts": 0}))).status
    old = attempt_of(number=2, job=None, config_map=None, older_jobs=(child(failed=True),))
    decision = decide(view(job(policy={"keepFailedAttempts": 0}), status=told, attempt=old))
    assert (decision.rule, decision.delete) == ("pausing", (THIS_JOB,))
    assert decision.look_again_seconds == 10


def test_a_deadline_within_the_pause_is_not_slept_through() -> None:
    limited = job(policy={"activeDeadlineSeconds": 205, "restartBackoffSeconds": 600})
    told = decide(crashed(of=limited)).status
    told = told.model_copy(update={"usage": told.usage.model_copy(update={"active_seconds": 200.0, "time": time(200)})})
    waiting = view(limited, status=told, attempt=attempt_of(number=2, job=None, config_map=None))
    assert decide(waiting).rule == "pausing"
    assert decide(waiting).look_again_seconds == 5
    assert decide(later(waiting, 5)).rule == "deadline over"


def test_a_deadline_is_not_slept_through_while_older_pods_do_not_go() -> None:
    limited = job(policy={"activeDeadlineSeconds": 260})
    used = running_status().usage.model_copy(update={"active_seconds": 200.0, "time": time(200)})
    told = status(condition("Running", "False", "Disrupted"), attempt=2, usage=used)
    left = attempt_of(number=2, job=None, config_map=None, older_pods=(pod(0),))
    waiting = view(limited, status=told, attempt=left)
    assert (decide(waiting).rule, decide(waiting).look_again_seconds) == ("older attempt alive", 60)


# The end


def finished_ranks(**fields: object) -> View:
    return view(attempt=attempt_of(ended_pod(0), ended_pod(0, 1), job=child(complete=True)), **fields)


def test_a_job_succeeds_when_every_rank_did() -> None:
    rewards = [RewardReport(name="ocr", role="Train", mean=0.75, best=0.8, delta=0.25)]
    decision = decide(finished_ranks(progress=report(100, rewards=rewards)))
    assert (decision.status.phase, decision.status.completion_time) == ("Succeeded", time(200))
    assert said(decision, "Complete") == ("True", "Completed")
    assert said(decision, "Running") == ("False", "Finished")
    assert message(decision, "Complete") == "100 of 100 iterations; ocr 0.5 -> 0.75"


def test_a_job_may_succeed_without_ever_having_been_heard() -> None:
    assert said(decide(finished_ranks()), "Complete") == ("True", "Completed")


def test_an_early_end_says_which_rule_asked_for_it() -> None:
    stopped = StoppedReport(reason="Plateau", message="no gain in 50 iterations")
    decision = decide(finished_ranks(progress=report(60, stopped=stopped)))
    assert said(decision, "Complete") == ("True", "Stopped")
    for part in ("Plateau", "no gain in 50 iterations", "60 of 100"):
        assert part in message(decision, "Complete")


def test_the_deadline_ends_a_job_and_then_its_pods() -> None:
    limited = job(policy={"activeDeadlineSeconds": 100})
    used = running_status().usage.model_copy(update={"active_seconds": 60.0, "time": time(160)})
    decision = decide(view(limited, status=running_status(usage=used)))
    assert said(decision, "Failed") == ("True", "DeadlineExceeded")
    assert "activeDeadlineSeconds = 100" in message(decision, "Failed")
    assert decide(view(limited, status=decision.status)).delete == (THIS_JOB,)


def test_suspended_time_does_not_count_against_the_deadline() -> None:
    limited = job(policy={"activeDeadlineSeconds": 100})
    asleep = condition("Suspended", "True", "Suspended"), condition("Running", "False", "Suspended")
    used = running_status().usage.model_copy(update={"active_seconds": 90.0, "time": time(0)})
    told = status(*asleep, attempt=2, usage=used, phase="Suspended")
    awake = view(limited, status=told, attempt=attempt_of(number=2, job=None, config_map=None), now=100_000)
    assert decide(awake).rule == "suspension over"


def test_an_image_that_can_have_no_such_name_ends_the_job_though_another_pod_has_no_room() -> None:
    held = pod(0, phase="Pending", waiting_reason="InvalidImageName", waiting_message='couldn\'t parse "a b"')
    crowded = pending_pod(1, unschedulable="0/4 nodes are available")
    told = status(condition("Running", "False", "Unschedulable"))
    decision = decide(view(status=told, attempt=attempt_of(held, crowded)))
    assert said(decision, "Failed") == ("True", "ImagePullFailed")
    assert 'couldn\'t parse "a b"' in message(decision, "Failed")
    assert decision.status.last_failure is not None
    assert decision.status.last_failure.reason == "Image"


def test_a_start_that_takes_too_long_says_what_the_pods_waited_for() -> None:
    held = pod(1, phase="Pending", waiting_reason="ImagePullBackOff", waiting_message="not found")
    told = status(condition("Running", "False", "ImagePullFailed"), scheduled_time=time(0))
    limited = job(policy={"startTimeoutSeconds": 200})
    decision = decide(view(limited, status=told, attempt=attempt_of(pod(0), held)))
    assert said(decision, "Failed") == ("True", "StartTimeout")
    for part in ("200", held.name, "ImagePullBackOff", "not found"):
        assert part in message(decision, "Failed")


def test_of_a_finished_job_nothing_runs_on_and_nothing_else_is_touched() -> None:
    ended = over(attempt=1)
    decision = decide(view(status=ended))
    assert (decision.delete, decision.status, decision.delete_self) == ((THIS_JOB,), ended, False)
    kept = decide(view(status=ended, attempt=attempt_of(ended_pod(1), job=child(failed=True))))
    assert (kept.delete, kept.look_again_seconds) == ((), None)


def test_a_finished_job_is_deleted_when_its_time_to_live_is_over() -> None:
    short = job(policy={"ttlSecondsAfterFinished": 60})
    gone = attempt_of(ended_pod(0), ended_pod(0, 1), job=child(complete=True))
    seen = view(short, status=over("Complete", ended=190), attempt=gone)
    assert (decide(seen).delete_self, decide(seen).look_again_seconds) == (False, 50)
    assert decide(later(seen, 49)).delete_self is False
    assert decide(later(seen, 50)).delete_self is True
    at_once = job(policy={"ttlSecondsAfterFinished": 0})
    assert decide(replace(seen, job=at_once)).delete_self is True
    assert decide(later(replace(seen, job=job()), 1e9)).delete_self is False


def test_every_status_that_is_written_can_be_read_back() -> None:
    for seen in (fresh(), view(), crashed(), preempted(), finished_ranks(progress=report()), view(job(suspend=True))):
        told = decide(seen).status
        assert JobStatus.model_validate_json(told.model_dump_json(by_alias=True, exclude_none=True)) == told
        assert all(isinstance(found, Condition) for found in told.conditions)
