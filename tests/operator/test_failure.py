"""How an attempt ended: who failed first, why, and whether it counts."""

from __future__ import annotations

import itertools
import json

import pytest

from g2rpo_api.contract import ExitCode
from g2rpo_api.status import Cause
from g2rpo_operator.failure import cause_of, classify, kind_of, last_lines, last_word
from g2rpo_operator.world import Pod
from testoperator.records import at, attempt_of, child, ended_pod, pod, report, time

SIGTERM, SIGKILL = 143, 137


def told(exit_code: int, message: str, rank: int = 0) -> str:
    """A trainer's last word."""
    return json.dumps({"exitCode": exit_code, "rank": rank, "message": message})


def verdict_on(*pods: Pod, message: str = "") -> tuple[str, Cause, str | None]:
    """What an attempt with these pods counts as, why, and who is named."""
    found = classify(attempt_of(*pods, job=child(failed=True, message=message)), at(200))
    return found.kind, Cause(found.failure.reason), found.failure.pod


@pytest.mark.parametrize(
    ("exit_code", "cause", "kind"),
    [
        (1, Cause.BUG, "Fault"),
        (2, Cause.INVALID_SPEC, "Permanent"),
        (3, Cause.MISSING_DATA, "Fault"),
        (4, Cause.REWARD_FAILED, "Fault"),
        (5, Cause.DIVERGED, "Permanent"),
        (6, Cause.STORAGE, "Fault"),
        (7, Cause.PEER_LOST, "Fault"),
        (8, Cause.OUT_OF_MEMORY, "Fault"),
        (75, Cause.DISRUPTED, "Disruption"),
        (SIGTERM, Cause.DISRUPTED, "Disruption"),
        (SIGKILL, Cause.KILLED, "Fault"),
        (128 + 11, Cause.KILLED, "Fault"),
        (128 + 6, Cause.KILLED, "Fault"),
        (99, Cause.BUG, "Fault"),
        (127, Cause.BUG, "Fault"),
        (255, Cause.KILLED, "Fault"),
        (None, Cause.PODS_LOST, "Disruption"),
    ],
)
def test_every_end_of_a_pod_has_a_cause_that_counts_as_something(exit_code: int, cause: Cause, kind: str) -> None:
    assert cause_of(ended_pod(exit_code)) == cause
    assert verdict_on(ended_pod(exit_code), ended_pod(0, 1))[:2] == (kind, cause)


def test_every_exit_code_of_the_contract_is_in_the_table_above() -> None:
    tabled = {1, 2, 3, 4, 5, 6, 7, 8, 75}
    assert {code.value for code in ExitCode} - {ExitCode.OK} == tabled


@pytest.mark.parametrize(
    ("other", "kind", "cause"),
    [(75, "Disruption", Cause.DISRUPTED), (SIGKILL, "Fault", Cause.KILLED), (4, "Fault", Cause.REWARD_FAILED)],
)
def test_a_rank_that_only_lost_another_is_never_the_cause(other: int, kind: str, cause: Cause) -> None:
    lost, culprit = ended_pod(7, 0, ended=90), ended_pod(other, 1, ended=100)
    assert verdict_on(lost, culprit) == (kind, cause, culprit.name)


def test_ranks_that_lost_each_other_point_to_the_network() -> None:
    first, second = ended_pod(7, 1, ended=90), ended_pod(7, 0, ended=91)
    assert verdict_on(second, first) == ("Fault", Cause.PEER_LOST, first.name)


def test_every_cause_counts_as_one_of_three_things() -> None:
    permanent = {cause for cause in Cause if kind_of(cause) == "Permanent"}
    disruptions = {cause for cause in Cause if kind_of(cause) == "Disruption"}
    assert permanent == {Cause.INVALID_SPEC, Cause.DIVERGED, Cause.IMAGE}
    assert disruptions == {Cause.DISRUPTED, Cause.PODS_LOST}
    assert {kind_of(cause) for cause in set(Cause) - permanent - disruptions} == {"Fault"}


def test_a_rank_that_the_kernel_killed_for_memory_is_told_from_one_that_somebody_killed() -> None:
    pods = ended_pod(SIGKILL, terminated_reason="OOMKilled"), ended_pod(SIGTERM, 1, 130)
    assert verdict_on(*pods)[:2] == ("Fault", Cause.OUT_OF_MEMORY)
    # A child of the trainer that was killed for memory leaves the trainer's own exit code.
    assert cause_of(ended_pod(1, terminated_reason="OOMKilled")) == Cause.OUT_OF_MEMORY


@pytest.mark.parametrize(
    "reason",
    [
        "PreemptionByScheduler",
        "DeletionByTaintManager",
        "EvictionByEvictionAPI",
        "TerminationByKubelet",
        "Evicted",
        "NodeLost",
        "NodeShutdown",
    ],
)
@pytest.mark.parametrize("exit_code", [None, 1, 75, SIGTERM, SIGKILL])
def test_a_disrupted_pod_is_a_disruption_whatever_its_exit_code(reason: str, exit_code: int | None) -> None:
    assert verdict_on(ended_pod(exit_code, disruption=reason), pod(1))[:2] == ("Disruption", Cause.DISRUPTED)


def test_a_pod_that_is_being_disrupted_speaks_while_it_still_runs() -> None:
    leaving = pod(1, disruption="PreemptionByScheduler", message="preempted by another pod")
    found = classify(attempt_of(pod(0), leaving), at(200))
    assert found.kind == "Disruption"
    assert found.failure.exit_code is None
    assert "PreemptionByScheduler" in found.failure.message
    assert "preempted by another pod" in found.failure.message


@pytest.mark.parametrize("later", [75, SIGTERM, SIGKILL])
@pytest.mark.parametrize("first", [1, 3, 4, 6, 99, 139])
def test_the_rank_that_failed_first_speaks_for_those_that_were_stopped_after_it(first: int, later: int) -> None:
    culprit = ended_pod(first, index=1, ended=100)
    for order in itertools.permutations([culprit, ended_pod(later, 0, 101), ended_pod(later, 2, 430)]):
        assert verdict_on(*order) == ("Fault", cause_of(culprit), culprit.name)


@pytest.mark.parametrize("stopped", [75, SIGTERM])
def test_ranks_that_saved_on_sigterm_never_hide_the_fault_even_where_clocks_differ(stopped: int) -> None:
    culprit = ended_pod(1, index=1, ended=100)
    assert verdict_on(ended_pod(stopped, 0, ended=98), culprit) == ("Fault", Cause.BUG, culprit.name)


def test_of_two_that_failed_in_the_same_second_the_lower_index_speaks() -> None:
    first, second = ended_pod(1, 0, 100), ended_pod(3, 1, 100)
    assert verdict_on(second, first) == ("Fault", Cause.BUG, first.name)


def test_ranks_that_all_saved_on_sigterm_were_disrupted() -> None:
    assert verdict_on(ended_pod(75), ended_pod(SIGTERM, 1))[:2] == ("Disruption", Cause.DISRUPTED)


@pytest.mark.parametrize("peer", [1, 3, SIGKILL, 134])
def test_a_disrupted_rank_speaks_though_its_peers_crash_first(peer: int) -> None:
    victim = ended_pod(SIGKILL, 1, ended=150, disruption="DeletionByTaintManager")
    assert verdict_on(ended_pod(peer, 0, 100), victim) == ("Disruption", Cause.DISRUPTED, victim.name)
    silent = pod(1, disruption="DeletionByTaintManager")
    assert verdict_on(ended_pod(peer, 0, 100), silent) == ("Disruption", Cause.DISRUPTED, silent.name)


@pytest.mark.parametrize("code", [2, 5])
def test_what_another_attempt_cannot_mend_wins_over_everything(code: int) -> None:
    hopeless = ended_pod(code, 2, ended=300)
    others = [ended_pod(1, 0, 100), ended_pod(75, 1, 90, disruption="EvictionByEvictionAPI")]
    assert verdict_on(*others, hopeless) == ("Permanent", cause_of(hopeless), hopeless.name)
    disrupted_too = ended_pod(code, disruption="EvictionByEvictionAPI")
    assert verdict_on(disrupted_too)[0] == "Permanent"


def test_pods_that_vanished_leave_what_the_job_controller_said() -> None:
    assert verdict_on(message="Job has reached the specified backoff limit") == ("Disruption", Cause.PODS_LOST, None)
    found = classify(attempt_of(job=child(failed=True, message="Job has reached the limit")), at(200))
    assert "Job has reached the limit" in found.failure.message
    assert classify(attempt_of(job=None), at(200)).failure.message


def test_a_pod_that_failed_without_running_says_why() -> None:
    refused = ended_pod(None, message="Pod was rejected: Node didn't have enough resource: cpu")
    found = classify(attempt_of(refused), at(200)).failure
    assert "enough resource: cpu" in found.message
    assert found.exit_code is None


def test_the_failure_tells_where_to_look() -> None:
    text = "Traceback …\nRuntimeError: CUDA error: an illegal memory access was encountered"
    culprit = ended_pod(1, 1, node="gpu-7", last_word=told(1, text))
    failure = classify(attempt_of(ended_pod(75), culprit, number=4), at(200)).failure
    assert (failure.attempt, failure.pod, failure.node, failure.exit_code) == (4, culprit.name, "gpu-7", 1)
    assert failure.time == time(200)
    assert failure.last_lines == text
    assert failure.message.endswith("RuntimeError: CUDA error: an illegal memory access was encountered")
    assert culprit.name in failure.message
    assert "gpu-7" in failure.message
    assert "exit code 1" in failure.message


def test_a_signal_is_named_by_its_number() -> None:
    assert "signal 11" in classify(attempt_of(ended_pod(139)), at(200)).failure.message
    assert "out of memory" in classify(attempt_of(ended_pod(137, terminated_reason="OOMKilled")), at(0)).failure.message


def test_the_last_word_is_the_trainers_report() -> None:
    word = json.dumps({"exitCode": 0, "rank": 0, "message": "done", "progress": json.loads(
        report(100).model_dump_json(by_alias=True))})  # fmt: skip
    found = last_word(ended_pod(0, last_word=word))
    assert found is not None
    assert found.progress == report(100)


@pytest.mark.parametrize(
    "text", ["", "Killed", "{", "[]", "{}", '{"exitCode": 1}', told(256, "x"), told(1, "x", rank=-1)]
)
def test_a_log_that_kubernetes_fell_back_to_is_no_report(text: str) -> None:
    ended = ended_pod(1, last_word=f"{text}\n")
    assert last_word(ended) is None
    assert last_lines(ended) == text


def test_of_a_long_log_the_end_is_kept() -> None:
    log = "\n".join(f"line {number}" for number in range(2000))
    kept = last_lines(ended_pod(1, last_word=log))
    assert kept.endswith("line 1999")
    assert 1000 < len(kept) <= 4096
    assert log.endswith(kept)


def test_no_text_is_too_long_for_the_status() -> None:
    huge = "x" * 100_000
    failure = classify(attempt_of(ended_pod(1, last_word=huge, message=huge)), at(200)).failure
    disrupted = classify(attempt_of(pod(0, disruption="Evicted", message=huge)), at(200)).failure
    assert len(failure.message) <= 1024
    assert len(failure.last_lines) <= 4096
    assert len(disrupted.message) <= 1024


def test_a_signal_from_outside_is_not_put_down_to_what_was_logged_last() -> None:
    failure = classify(attempt_of(ended_pod(137, last_word="33/100 · reward 0.622")), at(200)).failure
    assert failure.message.endswith("killed by signal 9")
    assert failure.last_lines == "33/100 · reward 0.622"


def test_what_a_trainer_says_of_a_spec_is_told_with_its_key() -> None:
    text = "job.json: 1 problem\n\nspec.training.seed\n  found    8\n  hint     set it back"
    word = json.dumps({"exitCode": 2, "rank": 0, "message": text, "progress": None})
    failure = classify(attempt_of(ended_pod(2, last_word=word)), at(200)).failure
    assert failure.message.endswith("exit code 2: job.json: 1 problem spec.training.seed found 8 hint set it back")
