"""Which objects go, and which are kept to be looked at."""

from __future__ import annotations

from dataclasses import replace

import pytest

from g2rpo_operator import cleanup
from g2rpo_operator.world import ChildJob, Part, Pod, Target, View
from testoperator.records import attempt_of, child, config_map, ended_pod, job, later, pod, time, view

GRACE_OVER = 100


def job_target(attempt: int) -> Target:
    return Target("Job", child(attempt).name, child(attempt).uid)


def map_target(attempt: int) -> Target:
    return Target("ConfigMap", config_map(attempt).name, config_map(attempt).uid)


def history(*jobs: ChildJob, keep: int = 2, maps: tuple[Part, ...] = (), pods: tuple[Pod, ...] = ()) -> View:
    """A job in its ninth attempt, with what is left of earlier ones; those that failed have a pod that tells why."""
    pods += tuple(ended_pod(1, attempt=old.attempt) for old in jobs if old.failed or old.failing)
    now = attempt_of(pod(0, 9), number=9, older_jobs=jobs, older_config_maps=maps, older_pods=pods)
    return view(job(policy={"keepFailedAttempts": keep}), attempt=now)


def leaving(index: int = 0, attempt: int = 1) -> Pod:
    """A pod whose grace is over at `GRACE_OVER`."""
    return pod(index, attempt, deletion_time=time(GRACE_OVER))


def test_jobs_that_have_not_ended_are_stopped() -> None:
    seen = view(attempt=attempt_of(job=child(2), number=2, older_jobs=(child(1),)))
    assert set(cleanup.still_running(seen)) == {job_target(1), job_target(2)}


@pytest.mark.parametrize("ended", [{"complete": True}, {"failed": True}, {"deleting": True}])
def test_jobs_that_ended_or_go_already_are_left(ended: dict[str, bool]) -> None:
    assert cleanup.still_running(view(attempt=attempt_of(job=child(1, **ended)))) == ()
    assert cleanup.still_running(view(attempt=attempt_of(job=None))) == ()


@pytest.mark.parametrize(("keep", "gone"), [(0, {5, 6, 7, 8}), (1, {5, 6, 7}), (2, {5, 6}), (4, set()), (10, set())])
def test_the_newest_failed_attempts_are_kept(keep: int, gone: set[int]) -> None:
    jobs = [child(number, failed=True) for number in (6, 8, 5, 7)]
    maps = tuple(config_map(number) for number in (5, 6, 7, 8))
    expected = {job_target(number) for number in gone} | {map_target(number) for number in gone}
    assert set(cleanup.older(history(*jobs, keep=keep, maps=maps))) == expected


def test_an_attempt_without_a_pod_to_look_at_takes_no_place() -> None:
    lost = attempt_of(
        pod(0, 9),
        number=9,
        older_jobs=(child(6, failed=True), child(8, failed=True, failing=True)),
        older_pods=(ended_pod(1, attempt=6),),
    )
    seen = view(job(policy={"keepFailedAttempts": 1}), attempt=lost)
    assert cleanup.older(seen) == (job_target(8),)


def test_attempts_that_did_not_fail_are_not_worth_keeping() -> None:
    found = cleanup.older(history(child(6, failed=True), child(7), child(8, complete=True)))
    assert set(found) == {job_target(7), job_target(8)}


def test_an_attempt_whose_failure_the_job_controller_has_not_written_down_yet_is_kept() -> None:
    assert cleanup.older(history(child(8, failing=True))) == ()
    assert cleanup.older(history(child(8, failing=True), keep=0)) == (job_target(8),)


def test_of_an_attempt_that_is_kept_only_the_pods_that_run_are_ended() -> None:
    pods = pod(1, 8), pod(2, 8, deletion_time=time(500))
    ending = (Target("Pod", pod(1, 8).name, pod(1, 8).uid),)
    seen = history(child(8, failing=True), pods=pods)
    assert cleanup.older(seen) == ending
    assert cleanup.still_running(replace(seen, attempt=replace(seen.attempt, job=None))) == ending
    assert cleanup.older(history(child(8, failing=True), pods=pods, keep=0)) == (job_target(8),)


def test_a_config_map_goes_with_its_job() -> None:
    found = cleanup.older(history(child(8, failed=True), maps=(config_map(7), config_map(8))))
    assert found == (map_target(7),)


def test_what_goes_already_is_not_deleted_again() -> None:
    assert cleanup.older(history(child(8, deleting=True))) == ()


def test_a_job_on_its_way_out_keeps_no_younger_one_from_being_kept() -> None:
    jobs = (
        child(6, failed=True),
        child(7, failed=True),
        child(8, failed=True, deleting=True),
    )
    assert job_target(7) not in cleanup.older(history(*jobs, keep=2))


def test_a_pod_may_linger_for_a_minute_after_its_grace() -> None:
    seen = view(now=GRACE_OVER, attempt=attempt_of(leaving(0), pod(1)))
    forced = (Target("Pod", leaving().name, leaving().uid, force=True),)
    assert cleanup.stuck(later(seen, 59)) == ()
    assert cleanup.stuck(later(seen, 60)) == forced
    assert cleanup.still_running(later(seen, 3600))[-1:] == forced


def test_pods_of_older_attempts_do_not_block_the_next_for_ever() -> None:
    seen = history(pods=(leaving(attempt=8),))
    assert Target("Pod", leaving(0, 8).name, leaving(0, 8).uid, force=True) in cleanup.older(later(seen, 3600))


def test_a_pod_that_has_ended_or_is_not_being_deleted_is_never_forced() -> None:
    ended = ended_pod(75, 1, deletion_time=time(GRACE_OVER))
    assert cleanup.stuck(later(view(attempt=attempt_of(pod(0), ended)), 10_000)) == ()


def test_patience_lasts_until_the_first_pod_counts_as_stuck() -> None:
    other = pod(1, deletion_time=time(GRACE_OVER + 30))
    seen = view(now=GRACE_OVER, attempt=attempt_of(leaving(0), other))
    assert cleanup.patience(seen) == 60
    assert cleanup.patience(later(seen, 45)) == 15
    assert cleanup.patience(view(attempt=attempt_of(pod(0), pod(1)))) is None


def test_a_forced_deletion_is_tried_again_but_not_in_a_tight_loop() -> None:
    seen = view(now=GRACE_OVER + 500, attempt=attempt_of(leaving(0)))
    assert cleanup.patience(seen) == 1


def test_pods_that_outlive_their_job_are_ended_by_nobody_else() -> None:
    alone = pod(0, 8, job_uid="")
    ended, going = ended_pod(0, 1, attempt=8, job_uid=""), pod(2, 8, job_uid="", deletion_time=time(500))
    seen = history(pods=(alone, ended, going, pod(3, 8)))
    assert cleanup.older(seen) == cleanup.still_running(replace(seen, attempt=replace(seen.attempt, job=None)))
    assert cleanup.older(seen) == (Target("Pod", alone.name, alone.uid),)
