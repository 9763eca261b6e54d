"""The rule table: which rule decides in which view, and which of two that both match."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace

import pytest

from g2rpo_api.job import G2RPOJob
from g2rpo_api.progress import CheckpointReport
from g2rpo_api.status import JobStatus
from g2rpo_operator.decide import RULES, decide
from g2rpo_operator.observe import observe
from g2rpo_operator.world import Children, Pod, Target, View
from testoperator.records import (
    at,
    attempt_of,
    child,
    condition,
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

Change = Callable[[View], View]


def with_spec(seen: View, **spec: object) -> View:
    """The view of a job whose spec differs."""
    return replace(seen, job=G2RPOJob.model_validate(seen.job.model_copy(
        update={"spec": seen.job.spec.model_copy(update=spec)})))  # fmt: skip


def with_policy(seen: View, **policy: object) -> View:
    return with_spec(seen, policy=seen.job.spec.policy.model_copy(update=policy))


def with_status(seen: View, **fields: object) -> View:
    return replace(seen, status=seen.status.model_copy(update=fields))


def with_condition(seen: View, kind: str, value: str, reason: str) -> View:
    others = [known for known in seen.status.conditions if known.type != kind]
    return with_status(seen, conditions=(*others, condition(kind, value, reason)))


def with_attempt(seen: View, **fields: object) -> View:
    return replace(seen, attempt=replace(seen.attempt, **fields))


def finished(seen: View) -> View:
    return with_condition(seen, "Failed", "True", "RestartsExhausted")


def succeeded(seen: View) -> View:
    return with_attempt(seen, job=child(complete=True))


def suspended(seen: View) -> View:
    return with_spec(seen, suspend=True)


def deadline_over(seen: View) -> View:
    used = seen.status.usage.model_copy(update={"active_seconds": 100.0, "time": time(0)})
    return with_policy(with_status(seen, usage=used), active_deadline_seconds=100)


def suspension_over(seen: View) -> View:
    return with_condition(seen, "Suspended", "True", "Suspended")


def not_begun(seen: View) -> View:
    return with_status(seen, attempt=0)


def older_alive(seen: View) -> View:
    return with_attempt(seen, older_jobs=(child(0),))


def failed(seen: View) -> View:
    return with_attempt(seen, job=child(failed=True), pods=(ended_pod(1), ended_pod(75, 1)))


def lost(seen: View) -> View:
    return with_attempt(seen, job=child(deleting=True))


def hopeless(seen: View) -> View:
    held = pod(1, phase="Pending", waiting_reason="InvalidImageName")
    return with_attempt(seen, pods=(*seen.attempt.pods[:1], held))


def start_too_long(seen: View) -> View:
    loading = with_status(seen, scheduled_time=time(0), running_time=None)
    pods = tuple(replace(each, phase="Pending") for each in seen.attempt.pods)
    return with_policy(with_attempt(loading, pods=pods), start_timeout_seconds=200)


def stalled(seen: View) -> View:
    return with_policy(replace(seen, progress=report(beat=100)), progress_timeout_seconds=100)


def pausing(seen: View) -> View:
    return with_status(seen, retry_time=time(201))


def pods_without_job(seen: View) -> View:
    return with_attempt(with_condition(seen, "Running", "False", "Pending"), job=None)


def missing(seen: View) -> View:
    return with_attempt(seen, config_map=None)


TABLE: list[tuple[str, Change]] = [
    ("finished", finished),
    ("succeeded", succeeded),
    ("suspended", suspended),
    ("deadline over", deadline_over),
    ("suspension over", suspension_over),
    ("not begun", not_begun),
    ("older attempt alive", older_alive),
    ("attempt failed", failed),
    ("attempt lost", lost),
    ("start is hopeless", hopeless),
    ("start took too long", start_too_long),
    ("stalled", stalled),
    ("pausing", pausing),
    ("pods without a Job", pods_without_job),
    ("objects missing", missing),
]
"""In the order in which they must be asked, each with the smallest change of a quiet view that calls for it."""
CONTRADICTIONS = {
    frozenset(pair)
    for pair in (
        ("succeeded", "attempt failed"),
        ("succeeded", "attempt lost"),
        ("succeeded", "pods without a Job"),
        ("attempt failed", "attempt lost"),
        ("attempt failed", "start is hopeless"),
        ("attempt failed", "start took too long"),
        ("attempt failed", "pods without a Job"),
        ("attempt lost", "pods without a Job"),
        ("start took too long", "stalled"),
        ("stalled", "pods without a Job"),
    )
}
"""What cannot be at once: a Job that is complete and gone, ranks that run and are still to start."""


def quiet() -> View:
    """Nothing is to be done."""
    return view(progress=report(beat=190))


def matching(seen: View) -> set[str]:
    """Every rule that would match."""
    return {rule.name for rule in RULES if rule.when(seen)}


def test_a_job_in_the_middle_of_its_training_is_only_followed() -> None:
    assert matching(quiet()) == {"otherwise"}
    decision = decide(quiet())
    assert (decision.rule, decision.create, decision.delete) == ("otherwise", (), ())


def test_the_table_is_asked_in_this_order() -> None:
    assert [rule.name for rule in RULES] == [name for name, _ in TABLE] + ["otherwise"]


@pytest.mark.parametrize(("name", "change"), TABLE)
def test_each_rule_decides_in_its_own_view(name: str, change: Change) -> None:
    seen = change(quiet())
    assert name in matching(seen)
    assert decide(seen).rule == name


def test_of_two_rules_that_match_the_earlier_one_decides() -> None:
    for (first, one), (second, other) in itertools.combinations(TABLE, 2):
        if frozenset((first, second)) in CONTRADICTIONS:
            continue
        both = [seen for seen in (other(one(quiet())), one(other(quiet()))) if {first, second} <= matching(seen)]
        assert both, f"no view for {first} and {second}"
        for seen in both:
            winners = [name for name, _ in TABLE if name in matching(seen)]
            assert decide(seen).rule == winners[0]
            if winners[:2] == [first, second]:
                assert decide(seen).rule == first


@pytest.mark.parametrize("end", ["Complete", "Failed"])
def test_a_job_that_ended_never_runs_again_whatever_happens(end: str) -> None:
    for _, change in TABLE:
        seen = with_condition(change(quiet()), end, "True", "Completed")
        decision = decide(seen)
        assert decision.rule == "finished"
        assert decision.create == ()
        assert decision.status.finished


def test_one_failed_rank_is_not_the_end_while_others_notice() -> None:
    seen = with_attempt(quiet(), job=child(failing=True), pods=(ended_pod(1, ended=100), pod(1)))
    others_run = replace(seen, now=at(129))
    assert (decide(others_run).rule, decide(others_run).look_again_seconds) == ("otherwise", 1)
    all_over = with_attempt(others_run, pods=(ended_pod(1), ended_pod(75, 1)))
    assert decide(all_over).rule == "attempt failed"


def test_a_pod_that_its_job_does_not_count_as_failed_is_no_failure() -> None:
    """Kueue suspends a Job to take its place, and its pods end with 75."""
    for pods in ((ended_pod(75), pod(1)), (ended_pod(75), ended_pod(75, 1))):
        assert decide(with_attempt(quiet(), pods=pods)).rule == "otherwise"


def test_without_a_word_of_the_pod_that_failed_nobody_waits_for_the_others() -> None:
    alone = with_attempt(quiet(), pods=(pod(1),))
    assert decide(alone).rule == "otherwise"
    assert decide(with_attempt(alone, job=child(failing=True))).rule == "attempt failed"


def test_ranks_that_do_not_notice_are_ended_and_the_failed_pod_stays() -> None:
    failing, pods = child(failing=True), (ended_pod(1, ended=100), pod(1))
    seen = replace(with_attempt(quiet(), job=failing, pods=pods), now=at(130))
    judged = decide(seen)
    assert (judged.rule, judged.status.attempt, judged.delete) == ("attempt failed", 2, ())
    after = replace(seen, status=judged.status, attempt=observe(2, Children((failing,), pods)))
    ending = decide(after)
    assert (ending.rule, ending.delete) == ("older attempt alive", (Target("Pod", pod(1).name, pod(1).uid),))


def test_a_failed_job_keeps_the_pod_that_tells_why() -> None:
    failing = with_attempt(quiet(), job=child(failing=True), pods=(ended_pod(1, ended=100), pod(1)))
    last = replace(failing, now=at(130), job=job(policy={"maxRestarts": 0}))
    judged = decide(last)
    assert judged.status.phase == "Failed"
    cleaned = decide(replace(last, status=judged.status))
    assert (cleaned.rule, cleaned.delete) == ("finished", (Target("Pod", pod(1).name, pod(1).uid),))


def test_one_disrupted_rank_dooms_the_attempt_at_once() -> None:
    leaving = pod(1, disruption="EvictionByEvictionAPI", deletion_time=time(500))
    assert decide(with_attempt(quiet(), pods=(pod(0), leaving))).rule == "attempt failed"


FOLLOWED = ("ContainersStarting", "FailedCreate", "Unschedulable", "ImagePullFailed", "ConfigMissing", "Queued")
RUNNING = ("RanksStarting", "Training", "Stopping")


@pytest.mark.parametrize("reason", FOLLOWED + RUNNING)
def test_a_job_that_was_there_and_is_gone_is_lost(reason: str) -> None:
    told = status(condition("Running", "True" if reason in RUNNING else "False", reason))
    assert decide(view(status=told, attempt=attempt_of(job=None))).rule == "attempt lost"


@pytest.mark.parametrize("reason", ["Pending", "Fault", "Disrupted", "ProgressStalled", "PodsLost", "Resumed"])
def test_a_job_that_was_never_there_is_created(reason: str) -> None:
    told = status(condition("Running", "False", reason))
    decision = decide(view(status=told, attempt=attempt_of(job=None)))
    assert (decision.rule, decision.create) == ("objects missing", ("Job",))


@pytest.mark.parametrize("ended", [{"complete": True}, {"failed": True}])
def test_a_job_that_ended_before_it_was_deleted_is_not_lost(ended: dict[str, bool]) -> None:
    gone = with_attempt(quiet(), job=child(deleting=True, **ended), pods=())
    assert decide(gone).rule == ("succeeded" if "complete" in ended else "attempt failed")


def test_a_job_is_not_created_again_while_pods_of_the_deleted_one_run() -> None:
    orphaned = pods_without_job(quiet())
    assert decide(orphaned).create == ()
    over = with_attempt(orphaned, pods=(ended_pod(75), ended_pod(75, 1)))
    assert decide(over).create == ("Job",)


def test_the_timeout_of_the_start_counts_from_scheduling_and_not_for_ranks_that_run() -> None:
    loading = pod(1, phase="Pending")
    told = status(condition("Running", "False", "ContainersStarting"), scheduled_time=time(0))
    seen = view(job(policy={"startTimeoutSeconds": 300}), status=told, attempt=attempt_of(pod(0), loading))
    assert decide(replace(seen, now=later(seen, 99).now)).rule == "otherwise"
    late = later(seen, 100)
    assert decide(late).rule == "start took too long"
    assert decide(with_status(late, scheduled_time=None)).rule == "otherwise"
    assert decide(with_status(late, running_time=time(50))).rule == "otherwise"
    assert decide(with_policy(late, start_timeout_seconds=None)).rule == "otherwise"


def test_pods_that_began_to_run_while_nobody_looked_have_started_in_time() -> None:
    told = status(condition("Running", "False", "ContainersStarting"), scheduled_time=time(0))
    assert decide(view(status=told, now=100_000)).rule == "otherwise"
    done = attempt_of(ended_pod(0), pod(1))
    assert decide(view(status=told, now=100_000, attempt=done)).rule == "otherwise"


def test_waiting_for_room_in_the_cluster_does_not_count_as_starting() -> None:
    told = status(condition("Running", "False", "Unschedulable"))
    crowded = attempt_of(pod(0), pending_pod(1, unschedulable="0/4 nodes"))
    assert decide(view(status=told, now=1_000_000, attempt=crowded)).rule == "otherwise"
    requeued = attempt_of(job=child(suspended=True))
    assert decide(view(status=told.model_copy(update={"scheduled_time": time(0)}), now=1_000_000, attempt=requeued)
                  ).rule == "otherwise"  # fmt: skip


def test_silence_counts_from_the_last_sign_of_life_and_from_the_start_of_the_ranks() -> None:
    limit = job(policy={"progressTimeoutSeconds": 60})
    silent = view(limit, progress=report(beat=140), now=199.5)
    assert decide(silent).rule == "otherwise"
    assert decide(later(silent, 1)).rule == "stalled"
    restarted = with_status(silent, running_time=time(150))
    assert decide(later(restarted, 9)).rule == "otherwise"
    assert decide(later(restarted, 11)).rule == "stalled"
    assert decide(later(with_policy(silent, progress_timeout_seconds=None), 9999)).rule == "otherwise"


def test_what_cannot_be_read_is_only_silent_since_someone_listens() -> None:
    limit = job(policy={"progressTimeoutSeconds": 60})
    unread = view(limit, progress=report(beat=100), now=229.5, progress_error="timed out", listening_since=at(170))
    assert decide(unread).rule == "otherwise"
    assert decide(later(unread, 1)).rule == "stalled"
    assert decide(replace(unread, progress_error="")).rule == "stalled", "it answers, and has not moved since"


def test_who_can_read_no_job_at_all_waits_four_times_as_long() -> None:
    limit = job(policy={"progressTimeoutSeconds": 60})
    blind = view(limit, progress=report(beat=140), now=379.5, progress_error="timed out", blind=True)
    assert decide(blind).rule == "otherwise"
    assert decide(later(blind, 1)).rule == "stalled"
    assert decide(replace(blind, blind=False)).rule == "stalled"


def test_ranks_that_were_never_heard_are_not_called_hung() -> None:
    assert decide(view(now=1_000_000, progress=None)).rule == "otherwise"
    assert decide(view(now=1_000_000, progress=report(attempt=7))).rule == "otherwise"


def test_an_operator_that_was_away_listens_before_it_calls_ranks_hung() -> None:
    told = decide(quiet()).status
    assert told.progress is not None
    back = view(status=told, progress=None, now=1_000_000)
    assert decide(back).rule == "otherwise"
    assert decide(replace(back, progress=report(beat=999_990))).rule == "otherwise"
    assert decide(replace(back, progress=report(beat=190))).rule == "stalled"


def test_a_queued_job_is_not_hung() -> None:
    evicted = with_attempt(stalled(quiet()), job=child(suspended=True), pods=())
    assert decide(evicted).rule == "otherwise"


def test_the_pause_ends_on_time() -> None:
    waiting = view(status=status(condition("Running", "False", "Fault"), attempt=2, retry_time=time(200)),
                   attempt=attempt_of(number=2, job=None, config_map=None))  # fmt: skip
    early = replace(waiting, now=later(waiting, -1).now)
    assert (decide(early).rule, decide(early).look_again_seconds) == ("pausing", 1)
    assert decide(waiting).rule == "objects missing"


def test_the_phase_and_the_observed_generation_are_those_of_the_decision() -> None:
    fresh = view(status=JobStatus(observed_generation=5), attempt=attempt_of(number=0, job=None, config_map=None))
    decision = decide(fresh)
    assert (decision.status.phase, decision.status.observed_generation) == ("Pending", 5)
    assert decide(suspended(quiet())).status.phase == "Suspending"
    assert decide(failed(quiet())).status.phase == "Restarting"


def test_news_of_the_trainer_reach_the_status_with_any_rule() -> None:
    for _, change in TABLE[1:]:
        seen = change(quiet())
        if seen.status.attempt != 1:
            continue
        told = decide(seen).status.progress
        assert told is not None
        assert told.iteration == 10


def test_the_last_word_of_the_first_rank_beats_what_was_read_before() -> None:
    final = report(100, phase="Finished").model_dump_json(by_alias=True)
    word = f'{{"exitCode": 0, "rank": 0, "message": "done", "progress": {final}}}'
    over = attempt_of(ended_pod(0, last_word=word), ended_pod(0, 1), job=child(complete=True))
    told = decide(view(progress=report(99), attempt=over)).status.progress
    assert told is not None
    assert told.step == "100/100"
    still_runs = attempt_of(pod(0, last_word=word), pod(1))
    told = decide(view(progress=report(99), attempt=still_runs)).status.progress
    assert told is not None
    assert told.step == "99/100"


def farewell(iteration: int, beat: float, attempt: int = 1) -> Pod:
    """A first rank that was told to end and saved a checkpoint."""
    saved = CheckpointReport(iteration=iteration, time=at(beat).timestamp())
    last = report(iteration, beat=beat, attempt=attempt, checkpoint=saved).model_dump_json(by_alias=True)
    word = f'{{"exitCode": 75, "rank": 0, "message": "saved", "progress": {last}}}'
    return ended_pod(75, attempt=attempt, last_word=word)


@pytest.mark.parametrize("gone", [False, True])
def test_the_checkpoint_that_a_suspended_attempt_saved_at_its_end_is_told(gone: bool) -> None:
    read = decide(view(progress=report(12, beat=150))).status.progress
    told = status(condition("Suspended", "False", "SuspendRequested"), attempt=2, progress=read)
    word = farewell(17, beat=170)
    left = {"parted" if gone else "older_pods": (word,)}
    nothing = attempt_of(number=2, job=None, config_map=None, **left)
    decision = decide(view(job(suspend=True), status=told, attempt=nothing))
    progress = decision.status.progress
    assert progress is not None
    assert progress.checkpoint is not None
    assert (decision.status.phase, progress.attempt, progress.checkpoint.iteration) == ("Suspended", 1, 17)


def test_the_past_is_not_told_again_once_there_is_news() -> None:
    news = decide(view(status=running_status(attempt=2), attempt=attempt_of(pod(0, 2), pod(1, 2), number=2),
                       progress=report(18, beat=180, attempt=2))).status.progress  # fmt: skip
    told = status(condition("Suspended", "False", "SuspendRequested"), attempt=3, progress=news)
    nothing = attempt_of(number=3, job=None, config_map=None, parted=(farewell(17, beat=170),))
    assert decide(view(job(suspend=True), status=told, attempt=nothing)).status.progress == news


def test_what_another_attempt_told_is_not_taken_for_this_ones() -> None:
    before = decide(quiet()).status.progress
    told = running_status(progress=before, attempt=2)
    decision = decide(view(status=told, attempt=attempt_of(pod(0, 2), pod(1, 2), number=2), progress=report(50)))
    assert decision.status.progress == before
    assert decision.status.condition("Running").reason == "RanksStarting"  # type: ignore[union-attr]


def test_each_decision_says_which_change_is_an_event() -> None:
    assert [note.reason for note in decide(failed(quiet())).notes] == ["Fault"]
    assert decide(quiet()).notes == ()
