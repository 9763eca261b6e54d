"""Metrics as a scrape sees them, read back by prometheus_client's parsers."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from g2rpo_api.status import Cause
from g2rpo_operator.errors import ConflictError, TransientError
from g2rpo_operator.metrics import Metrics
from g2rpo_operator.world import Summary
from testoperator.records import at, condition, running_status, status, time

OPENMETRICS = "application/openmetrics-text; version=1.0.0"
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def scrape(metrics: Metrics) -> Samples:
    """Every sample by name and labels."""
    body, content_type = metrics.page("")
    assert content_type.startswith("text/plain")
    families = parse_text(body.decode())
    return {(one.name, frozenset(one.labels.items())): one.value for family in families for one in family.samples}


def value(metrics: Metrics, name: str, /, **labels: str) -> float | None:
    return scrape(metrics).get((name, frozenset(labels.items())))


def summary(name: str = "portrait", **fields: Any) -> Summary:
    known = {"namespace": "team", "phase": "Running", "attempt": 2, "image": "trainer:1", "gpu_seconds": 7200.0}
    return Summary(**{"name": name, "iteration": 40, "rewards": (), **known, **fields})


def test_looks_are_counted_by_result_and_timed() -> None:
    metrics = Metrics()
    for error in (None, None, ConflictError("changed"), TransientError("slow"), ZeroDivisionError("oops")):
        metrics.count_look(0.3, 0.02, error)
    assert value(metrics, "g2rpo_operator_reconcile_total", result="ok") == 2
    assert value(metrics, "g2rpo_operator_reconcile_total", result="error") == 3
    errors = {name: value(metrics, "g2rpo_operator_reconcile_errors_total", reason=name) for name in ERRORS}
    assert errors == {"ConflictError": 1, "TransientError": 1, "ZeroDivisionError": 1}
    assert value(metrics, "g2rpo_operator_reconcile_duration_seconds_sum") == pytest.approx(0.1)
    assert value(metrics, "g2rpo_operator_queue_wait_seconds_bucket", le="0.25") == 0
    assert value(metrics, "g2rpo_operator_queue_wait_seconds_bucket", le="0.5") == 5


ERRORS = ("ConflictError", "TransientError", "ZeroDivisionError")


def test_requests_are_counted_by_verb_resource_and_code() -> None:
    metrics = Metrics()
    metrics.count_request("create", "jobs", "201")
    metrics.count_request("create", "jobs", "201")
    metrics.count_request("update", "g2rpojobs/status", "409")
    name = "g2rpo_operator_api_requests_total"
    assert value(metrics, name, verb="create", resource="jobs", code="201") == 2
    assert value(metrics, name, verb="update", resource="g2rpojobs/status", code="409") == 1


def test_questions_to_trainers_are_counted_by_result() -> None:
    metrics = Metrics()
    for result in ("ok", "failed", "ok"):
        metrics.count_poll(result)
    assert value(metrics, "g2rpo_operator_progress_polls_total", result="ok") == 2
    assert value(metrics, "g2rpo_operator_progress_polls_total", result="failed") == 1


def starting(attempt: int, **fields: Any) -> Any:
    waits = condition("Running", "False", "ContainersStarting")
    return status(waits, **{"attempt": attempt, "attempt_time": time(0), "start_time": time(0), **fields})


def failure(attempt: int, seconds: float, reason: str = "OutOfMemory") -> dict[str, Any]:
    return {"last_failure": {"attempt": attempt, "reason": reason, "time": time(seconds)}}


def test_the_way_from_the_first_attempt_to_running_pods_is_timed() -> None:
    metrics = Metrics()
    metrics.observe_change(starting(1), running_status(since=42), at(42))
    assert value(metrics, "g2rpo_operator_job_start_seconds_sum") == 42
    assert value(metrics, "g2rpo_operator_job_start_seconds_count") == 1
    metrics.observe_change(running_status(since=42), running_status(since=42), at(60))
    assert value(metrics, "g2rpo_operator_job_start_seconds_count") == 1
    assert value(metrics, "g2rpo_operator_restart_recovery_seconds_count") == 0


def test_the_way_from_a_failure_to_running_again_is_timed_and_counted_by_cause() -> None:
    metrics = Metrics()
    failed = failure(1, 100)
    restarting = starting(2, restarts=1, **failed)
    metrics.observe_change(running_status(), restarting, at(101))
    assert value(metrics, "g2rpo_operator_restarts_total", reason="OutOfMemory") == 1
    metrics.observe_change(restarting, running_status(since=130, attempt=2, restarts=1, **failed), at(130))
    assert value(metrics, "g2rpo_operator_restarts_total", reason="OutOfMemory") == 1
    assert value(metrics, "g2rpo_operator_restart_recovery_seconds_sum") == 30
    assert value(metrics, "g2rpo_operator_job_start_seconds_count") == 0


def test_a_disruption_is_a_restart_with_a_cause_of_its_own() -> None:
    metrics = Metrics()
    metrics.observe_change(running_status(), starting(2, disruptions=1, **failure(1, 9, "Disrupted")), at(10))
    assert value(metrics, "g2rpo_operator_restarts_total", reason="Disrupted") == 1


def test_the_last_failure_of_a_job_is_no_restart() -> None:
    metrics = Metrics()
    ended = status(condition("Failed", "True", "RestartsExhausted"), restarts=3, **failure(4, 100))
    metrics.observe_change(running_status(attempt=4, restarts=3), ended, at(101))
    assert not any(count for (name, _), count in scrape(metrics).items() if name == "g2rpo_operator_restarts_total")


def test_every_cause_of_a_restart_is_counted_from_0() -> None:
    found = scrape(Metrics()).items()
    counts = {dict(labels)["reason"]: count for (name, labels), count in found if name.endswith("restarts_total")}
    assert counts == dict.fromkeys(Cause, 0)


def test_a_resumed_job_did_not_recover_from_its_old_failure() -> None:
    metrics = Metrics()
    before = starting(3, restarts=1, **failure(1, 100))
    after = running_status(since=5000, attempt=3, restarts=1, **failure(1, 100))
    metrics.observe_change(before, after, at(5000))
    assert value(metrics, "g2rpo_operator_restart_recovery_seconds_count") == 0


def test_a_job_has_its_series_as_long_as_it_is_there() -> None:
    jobs = [summary(rewards=(("ocr", "Train", 0.5), ("clip", "HeldOut", 0.25)))]
    metrics = Metrics(lambda: jobs)
    place = {"namespace": "team", "name": "portrait"}
    assert value(metrics, "g2rpo_job_info", **place, attempt="2", image="trainer:1") == 1
    assert value(metrics, "g2rpo_job_phase", **place, phase="Running") == 1
    assert value(metrics, "g2rpo_job_iteration", **place) == 40
    assert value(metrics, "g2rpo_job_gpu_seconds_total", **place) == 7200
    assert value(metrics, "g2rpo_job_reward", **place, reward="ocr", role="Train") == 0.5
    assert value(metrics, "g2rpo_job_reward", **place, reward="clip", role="HeldOut") == 0.25
    jobs.clear()
    assert not [labels for name, labels in scrape(metrics) if name.startswith("g2rpo_job_")]


def test_a_job_is_in_one_phase_at_a_time() -> None:
    jobs = [summary(phase="Pending")]
    metrics = Metrics(lambda: jobs)

    def phases() -> list[str]:
        return [dict(labels)["phase"] for name, labels in scrape(metrics) if name == "g2rpo_job_phase"]

    assert phases() == ["Pending"]
    jobs[:] = [summary(phase="Succeeded")]
    assert phases() == ["Succeeded"]


def test_what_a_job_has_not_reached_yet_is_no_series() -> None:
    metrics = Metrics(lambda: [summary(iteration=None)])
    assert not [name for name, _ in scrape(metrics) if name in ("g2rpo_job_iteration", "g2rpo_job_reward")]


def test_jobs_are_counted_by_every_phase() -> None:
    metrics = Metrics(lambda: [summary("a"), summary("b"), summary("c", phase="Queued")])
    counts = {
        dict(labels)["phase"]: v for (name, labels), v in scrape(metrics).items() if name == "g2rpo_operator_jobs"
    }
    assert {phase: count for phase, count in counts.items() if count} == {"Running": 2, "Queued": 1}
    assert len(counts) == 9


def full() -> Metrics:
    """Metrics in which everything has happened once."""
    metrics = Metrics(lambda: [summary(rewards=(("ocr", "Train", 0.5),))])
    metrics.count_look(0.1, 0.1, ConflictError("x"))
    metrics.count_request("get", "pods", "200")
    metrics.count_poll("ok")
    metrics.observe_change(running_status(), starting(2, restarts=1, **failure(1, 9)), at(10))
    metrics.watch_silent_seconds.labels("Pod").set(1)
    return metrics


def families(metrics: Metrics) -> Iterable[Any]:
    body, content_type = metrics.page(OPENMETRICS)
    assert content_type.startswith("application/openmetrics-text")
    return parse_openmetrics(body.decode())


def test_openmetrics_is_spoken_to_those_who_ask_for_it() -> None:
    found = {family.name: family.type for family in families(full())}
    assert found["g2rpo_operator_reconcile"] == "counter"
    assert found["g2rpo_job_gpu_seconds"] == "counter"
    assert found["g2rpo_job"] == "info"


def test_names_and_units_follow_prometheus_and_everything_is_explained() -> None:
    for family in families(full()):
        assert re.fullmatch(r"g2rpo_(operator|job)(_[a-z0-9]+)*", family.name)
        assert family.documentation.endswith("."), family.name
        assert not re.search(r"_(ms|minutes|hours|total|count)$", family.name)


def test_counters_and_histograms_of_the_operator_name_no_job() -> None:
    for family in families(full()):
        if family.name.startswith("g2rpo_operator_"):
            labels = {label for sample in family.samples for label in sample.labels}
            assert not labels & {"name", "namespace", "job", "pod"}, family.name


def test_gauges_are_asked_at_each_scrape() -> None:
    metrics, depth = Metrics(), [3]
    metrics.queue_depth.set_function(lambda: depth[0])
    metrics.leader.set(1)
    assert (value(metrics, "g2rpo_operator_queue_depth"), value(metrics, "g2rpo_operator_leader")) == (3, 1)
    depth[0] = 5
    assert value(metrics, "g2rpo_operator_queue_depth") == 5


def test_two_sets_of_metrics_do_not_mix() -> None:
    first, second = Metrics(), Metrics()
    first.count_poll("ok")
    assert value(second, "g2rpo_operator_progress_polls_total", result="ok") is None
