"""Metrics, progress and health as a scraper and a kubelet see them, over HTTP."""

from __future__ import annotations

import http.client
import json
import math
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from g2rpo_api.contract import PATH_CURVE_CSV, PATH_CURVE_SVG
from g2rpo_api.progress import CheckpointReport, StoppedReport
from g2rpo_trainer.journal import Spread
from g2rpo_trainer.monitoring.endpoint import Endpoint
from g2rpo_trainer.monitoring.names import PREFIX
from g2rpo_trainer.monitoring.progress import RunInfo
from g2rpo_trainer.monitoring.telemetry import Telemetry, Vitals
from g2rpo_trainer.timing import Pace, RankState, RewardCall

MADE_OF = {"method": "G2RPO", "model": "builtin:miniature", "version": "1.2.3"}
RUN = RunInfo("numbers", 40, 2, {"ocr": "train", "reader": "heldout"}, attempt=3, **MADE_OF)
STALL = 60.0
Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]
NAMES = {
    "info", "iteration", "iterations_planned", "eta_seconds", "last_step_timestamp_seconds", "learning_rate",
    "grad_norm", "loss", "reward_mean", "reward_std", "reward_min", "reward_max",
    "evaluation_prompts", "zero_std_group_ratio", "group_std_mean",
    "advantage_mean", "advantage_std", "advantage_absmax", "advantage_clipped_ratio", "ratio_mean", "ratio_std",
    "clip_ratio", "approx_kl", "step_reward_std", "step_clip_ratio", "step_loss", "step_ratio_absdev",
    "step_duration_seconds_bucket", "step_duration_seconds_count", "step_duration_seconds_sum",
    "phase_duration_seconds",
    "image_saturation", "image_brightness", "image_contrast", "image_lattice", "image_diversity",
    "images_total", "nfe_total", "nonfinite_steps_total", "restarts_total", "reward_calls_total",
    "reward_latency_seconds_bucket", "reward_latency_seconds_count", "reward_latency_seconds_sum",
    "checkpoint_last_success_timestamp_seconds", "checkpoint_duration_seconds",
    "beat_timestamp_seconds", "started_timestamp_seconds",
}  # fmt: skip


class Clock:
    """Seconds that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def telemetry(clock: Clock) -> Telemetry:
    return Telemetry(RUN, Vitals(STALL, clock))


@pytest.fixture
def curves(tmp_path: Path) -> dict[str, Path]:
    """Where the curve files will be."""
    return {PATH_CURVE_CSV: tmp_path / "curve.csv", PATH_CURVE_SVG: tmp_path / "curve.svg"}


@pytest.fixture
def endpoint(telemetry: Telemetry, curves: dict[str, Path]) -> Iterator[Endpoint]:
    served = telemetry.serve(0, "127.0.0.1", curves)
    yield served
    served.close()


def get(endpoint: Endpoint, path: str, accept: str = "*/*") -> tuple[int, str, str]:
    """Status, content type and text."""
    request = urllib.request.Request(f"http://127.0.0.1:{endpoint.port}{path}", headers={"Accept": accept})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.headers["Content-Type"], answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers["Content-Type"], error.read().decode()


def scrape(endpoint: Endpoint) -> Samples:
    """Every sample by name without prefix and by labels."""
    families = text_string_to_metric_families(get(endpoint, "/metrics")[2])
    return {
        (sample.name.removeprefix(PREFIX), tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def labels(**values: str) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(values.items()))


def test_names_are_those_that_dashboards_use(make: Any, telemetry: Telemetry, endpoint: Endpoint) -> None:
    for record in make.rising_run(10, 5):
        telemetry.observe(record, 1.0)
    telemetry.observe_checkpoint(10, 1.7e9, 0.5)
    text = get(endpoint, "/metrics")[2]
    assert {name for name, _ in scrape(endpoint)} == NAMES
    assert all(line.startswith((f"# HELP {PREFIX}", f"# TYPE {PREFIX}", PREFIX)) for line in text.splitlines())


def test_before_the_first_iteration_unknown_numbers_are_nan(endpoint: Endpoint) -> None:
    samples = scrape(endpoint)
    assert samples["iteration", ()] == 0
    assert samples["iterations_planned", ()] == 40
    assert samples["restarts_total", ()] == 2
    assert samples["info", labels(job_name="numbers", attempt="3", world_size="2", **MADE_OF)] == 1
    for name in ("grad_norm", "eta_seconds", "checkpoint_last_success_timestamp_seconds", "ratio_mean"):
        assert math.isnan(samples[name, ()])


STATES = [
    RankState(0, 0, Pace(compute=2.5, wait=0.0), {"resident": 100}),
    RankState(1, 0, Pace(compute=1.0, wait=1.5), {"resident": 200, "peak": 300}),
    RankState(2, 2, Pace(compute=2.0, wait=0.5), {"resident": 400}),
]
"""Two ranks of one machine, one of another."""


def test_ranks_are_told_apart_by_their_number_each_where_it_runs(telemetry: Telemetry, endpoint: Endpoint) -> None:
    telemetry.show_ranks(STATES)
    vitals = Vitals(STALL)
    vitals.show_ranks(2, STATES)
    other = vitals.serve(0, "127.0.0.1")
    first, second = (
        {key: value for key, value in scrape(where).items() if "rank" in dict(key[1])} for where in (endpoint, other)
    )
    other.close()
    assert first == {
        ("rank_compute_seconds", labels(rank="0")): 2.5,
        ("rank_compute_seconds", labels(rank="1")): 1.0,
        ("collective_wait_seconds", labels(rank="0")): 0.0,
        ("collective_wait_seconds", labels(rank="1")): 1.5,
        ("memory_bytes", labels(rank="0", kind="resident")): 100,
        ("memory_bytes", labels(rank="1", kind="resident")): 200,
        ("memory_bytes", labels(rank="1", kind="peak")): 300,
    }
    assert second == {
        ("rank_compute_seconds", labels(rank="2")): 2.0,
        ("collective_wait_seconds", labels(rank="2")): 0.5,
        ("memory_bytes", labels(rank="2", kind="resident")): 400,
    }


def test_calls_of_rewards_are_counted_from_0_and_timed(telemetry: Telemetry, endpoint: Endpoint) -> None:
    def counts() -> dict[tuple[str, str], float]:
        found = [(dict(key[1]), value) for key, value in scrape(endpoint).items() if key[0] == "reward_calls_total"]
        return {(of["reward"], of["result"]): value for of, value in found}

    results = ("ok", "unscored", "invalid", "failed")
    never = {(reward, result): 0.0 for reward in ("ocr", "reader") for result in results}
    assert counts() == never
    telemetry.observe_calls(
        [RewardCall("ocr", "ok", 0.02), RewardCall("ocr", "ok", 2.0), RewardCall("ocr", "failed", 61.0)]
    )
    assert counts() == never | {("ocr", "ok"): 2, ("ocr", "failed"): 1}
    samples = scrape(endpoint)
    buckets = {
        le: samples["reward_latency_seconds_bucket", labels(reward="ocr", le=le)]
        for le in ("0.03", "1.0", "30.0", "+Inf")
    }
    assert buckets == {"0.03": 1, "1.0": 1, "30.0": 2, "+Inf": 3}
    assert samples["reward_latency_seconds_sum", labels(reward="ocr")] == pytest.approx(63.02)
    assert samples["reward_latency_seconds_count", labels(reward="reader")] == 0


def test_utilisation_is_what_an_iteration_takes_at_full_speed_over_what_it_took(
    make: Any, telemetry: Telemetry, endpoint: Endpoint
) -> None:
    spent = {"rollout": 3.0, "decode": 1.0, "reward": 1.0, "train": 5.0, "eval": 100.0, "checkpoint": 50.0}
    telemetry.observe(make.record(1, seconds=spent), 1.0)
    assert not [key for key in scrape(endpoint) if key[0] == "mfu_ratio"], "the card is not known"
    telemetry.expect("a card", 4.0)
    telemetry.observe(make.record(2, seconds=spent), 1.0)
    assert {key: value for key, value in scrape(endpoint).items() if key[0] == "mfu_ratio"} == {
        ("mfu_ratio", labels(card="a card")): 4.0 / 10.0
    }


def test_an_iteration_is_reported(make: Any, telemetry: Telemetry, endpoint: Endpoint) -> None:
    record = make.record(
        7,
        groups=8, zero_variance_groups=4, step_seconds=2.0,
        policy=make.policy(k=2, clip_low=0.02, clip_high=0.03, grad_norm=0.7, loss=-0.2, kl_loss=0.1),
    )  # fmt: skip
    telemetry.observe(record, 66.0)
    samples = scrape(endpoint)
    expected = {
        ("iteration", ()): 7,
        ("eta_seconds", ()): 66.0,
        ("last_step_timestamp_seconds", ()): record.time,
        ("learning_rate", ()): 1e-4,
        ("grad_norm", ()): 0.7,
        ("loss", labels(term="surrogate")): -0.2,
        ("loss", labels(term="kl")): 0.1,
        ("clip_ratio", labels(side="low")): 0.02,
        ("clip_ratio", labels(side="high")): 0.03,
        ("approx_kl", ()): 1e-6,
        ("ratio_std", ()): 0.01,
        ("advantage_absmax", ()): 4.0,
        ("advantage_clipped_ratio", ()): 0.01,
        ("zero_std_group_ratio", ()): 4 / (8 * 4),
        ("group_std_mean", ()): pytest.approx((0.1 + 1.1) / 2),
        ("step_reward_std", labels(k="1")): 1.1,
        ("step_ratio_absdev", labels(k="0")): 0.001,
        ("step_clip_ratio", labels(k="0")): 0.2,
        ("step_loss", labels(k="1")): -0.1,
        ("phase_duration_seconds", labels(phase="rollout")): 1.0,
        ("phase_duration_seconds", labels(phase="eval")): 0.0,
    }
    assert {key: samples[key] for key in expected} == expected


def test_rewards_have_role_split_and_granularity(make: Any, telemetry: Telemetry, endpoint: Endpoint) -> None:
    telemetry.observe(make.rising_run(10, 5)[10], 0.0)
    samples = scrape(endpoint)
    means = {key[1]: value for key, value in samples.items() if key[0] == "reward_mean"}
    assert means == {
        labels(reward="ocr", role="train", split="anchor", granularity=""): pytest.approx(0.7),
        labels(reward="ocr", role="train", split="branch", granularity="1"): pytest.approx(0.68),
        labels(reward="ocr", role="train", split="branch", granularity="2"): pytest.approx(0.6),
        labels(reward="ocr", role="train", split="eval", granularity=""): pytest.approx(0.7),
        labels(reward="ocr", role="train", split="unseen", granularity=""): pytest.approx(0.5),
        labels(reward="reader", role="heldout", split="eval", granularity=""): pytest.approx(0.4),
        labels(reward="reader", role="heldout", split="unseen", granularity=""): pytest.approx(0.4),
    }
    anchor = {"reward": "ocr", "role": "train", "split": "anchor"}
    assert samples["reward_std", labels(**anchor, granularity="")] == 0.3
    assert [samples[f"reward_{name}", labels(**anchor)] for name in ("min", "max")] == [0.0, 1.0]
    ranges = {(dict(key[1])["reward"], dict(key[1])["split"]) for key in samples if key[0] == "reward_min"}
    assert ranges == {("ocr", "anchor"), ("ocr", "eval"), ("reader", "eval")}


def test_without_deterministic_pictures_the_range_is_that_of_all_granularities(
    make: Any, telemetry: Telemetry, endpoint: Endpoint
) -> None:
    (entry,) = make.record(1).rewards
    low, high = (Spread(mean=at, std=0.1, min=at - 0.2, max=at + 0.2) for at in (0.4, 0.5))
    unknown = Spread(**dict.fromkeys(("mean", "std", "min", "max"), math.nan))
    branches = {"1": unknown, "2": high, "3": low}
    telemetry.observe(make.record(1, rewards=[entry.model_copy(update={"anchor": None, "branch": branches})]), 1.0)
    samples, where = scrape(endpoint), labels(reward="ocr", role="train", split="branch")
    assert samples["reward_min", where] == pytest.approx(0.2)
    assert samples["reward_max", where] == pytest.approx(0.7)


def test_numbers_have_seven_digits_and_moments_all(make: Any, telemetry: Telemetry, endpoint: Endpoint) -> None:
    telemetry.observe(make.record(1, time=1764340000.123456, policy=make.policy(grad_norm=1 / 7)), 1.0)
    lines = get(endpoint, "/metrics")[2].splitlines()
    assert f"{PREFIX}grad_norm 0.1428571" in lines
    assert f"{PREFIX}last_step_timestamp_seconds 1.764340000123456e+09" in lines


def test_counters_add_up(make: Any, telemetry: Telemetry, endpoint: Endpoint) -> None:
    telemetry.observe(make.record(0, step_seconds=30.0), None)
    for i in (1, 2, 3):
        telemetry.observe(
            make.record(i, images=200, model_calls=1000, step_seconds=2.0, policy=make.policy(nonfinite_steps=i - 1)),
            1.0,
        )
    samples = scrape(endpoint)
    assert samples["images_total", ()] == 600
    assert samples["nfe_total", ()] == 3000
    assert samples["nonfinite_steps_total", ()] == 0 + 1 + 2
    assert samples["step_duration_seconds_count", ()] == 3
    assert samples["step_duration_seconds_sum", ()] == 6.0
    assert samples["step_duration_seconds_bucket", labels(le="1.0")] == 0
    assert samples["step_duration_seconds_bucket", labels(le="2.5")] == 3


def test_what_pictures_look_like_is_told_by_split(make: Any, telemetry: Telemetry, endpoint: Endpoint) -> None:
    telemetry.observe(make.record(4, evaluation=[make.evaluation(), make.evaluation(unseen=True)]), 1.0)
    samples = scrape(endpoint)
    for split, level in (("rollout", 0.2), ("eval", 0.5), ("unseen", 0.25)):
        found = [samples[f"image_{name}", labels(split=split)] for name in make.looks(level).model_dump()]
        assert found == pytest.approx(list(make.looks(level).model_dump().values()))


def test_phases_of_an_earlier_iteration_do_not_linger(make: Any, telemetry: Telemetry, endpoint: Endpoint) -> None:
    telemetry.observe(make.record(1, seconds={"rollout": 1.0, "eval": 9.0}), 1.0)
    telemetry.observe(make.record(2, seconds={"rollout": 1.0}), 1.0)
    assert scrape(endpoint)["phase_duration_seconds", labels(phase="eval")] == 0.0


def test_of_steps_ranks_and_granularities_only_the_first_have_series(
    make: Any, telemetry: Telemetry, endpoint: Endpoint
) -> None:
    (entry,) = make.record(1).rewards
    branch = {str(stride): entry.anchor for stride in (1, 2, 3, 5, 8, 13)}
    rewards = [entry.model_copy(update={"branch": branch})]
    telemetry.observe(make.record(1, policy=make.policy(k=40), rewards=rewards), 1.0)
    telemetry.show_ranks([RankState(rank, 0, Pace(1.0, 0.0), {"resident": 1}) for rank in range(40)])

    def values(name: str, label: str) -> set[str]:
        return {dict(key[1])[label] for key in scrape(endpoint) if key[0] == name} - {""}

    assert values("step_loss", "k") == {str(k) for k in range(16)}
    assert values("rank_compute_seconds", "rank") == values("memory_bytes", "rank") == {str(k) for k in range(16)}
    assert values("reward_mean", "granularity") == {"1", "2", "3", "5"}


def test_a_step_that_is_not_stochastic_any_more_has_no_value(
    make: Any, telemetry: Telemetry, endpoint: Endpoint
) -> None:
    """As where a window slides over the grid."""
    whole = make.policy(k=3)
    telemetry.observe(make.record(1, policy=whole.model_copy(update={"steps": whole.steps[:2]})), 1.0)
    telemetry.observe(make.record(2, policy=whole.model_copy(update={"steps": whole.steps[1:]})), 1.0)
    losses = {dict(key[1])["k"]: value for key, value in scrape(endpoint).items() if key[0] == "step_loss"}
    assert losses == {"0": pytest.approx(math.nan, nan_ok=True), "1": whole.steps[1].loss, "2": whole.steps[2].loss}


def test_a_gradient_that_is_no_number_is_told_as_such(make: Any, telemetry: Telemetry, endpoint: Endpoint) -> None:
    telemetry.observe(make.record(1, policy=make.policy(grad_norm=math.nan, ratio_mean=math.inf)), None)
    samples = scrape(endpoint)
    assert math.isnan(samples["grad_norm", ()])
    assert samples["ratio_mean", ()] == math.inf
    assert math.isnan(samples["eta_seconds", ()])


def test_checkpoints_are_reported(telemetry: Telemetry, endpoint: Endpoint) -> None:
    telemetry.observe_checkpoint(20, 1.7e9, 0.75)
    samples = scrape(endpoint)
    assert samples["checkpoint_last_success_timestamp_seconds", ()] == 1.7e9
    assert samples["checkpoint_duration_seconds", ()] == 0.75
    assert json.loads(get(endpoint, "/progress")[2])["checkpoint"] == {"iteration": 20, "time": 1.7e9}


def test_a_resumed_run_shows_where_it_stands_and_counts_anew(
    make: Any, telemetry: Telemetry, endpoint: Endpoint
) -> None:
    telemetry.resume(make.rising_run()[:21], CheckpointReport(iteration=20, time=1.6e9))
    samples = scrape(endpoint)
    assert samples["iteration", ()] == 20
    assert samples["images_total", ()] == 0
    assert samples["checkpoint_last_success_timestamp_seconds", ()] == 1.6e9, "how old it is matters from the start"
    progress = json.loads(get(endpoint, "/progress")[2])
    assert (progress["iteration"], progress["attempt"], len(progress["curve"])) == (20, 3, 20)
    assert progress["checkpoint"] == {"iteration": 20, "time": 1.6e9}
    assert progress["clipRatio"] == 0.05
    telemetry.observe(make.rising_run()[21], 1.0)
    assert scrape(endpoint)["images_total", ()] == 200


def test_a_fresh_run_resumes_from_nothing(telemetry: Telemetry, endpoint: Endpoint) -> None:
    telemetry.resume([])
    assert scrape(endpoint)["restarts_total", ()] == 2
    progress = json.loads(get(endpoint, "/progress")[2])
    assert (progress["iteration"], progress["checkpoint"], progress["clipRatio"]) == (0, None, None)


def test_scrapers_may_ask_for_openmetrics(make: Any, telemetry: Telemetry, endpoint: Endpoint) -> None:
    telemetry.observe(make.record(1), 1.0)
    status, content_type, text = get(endpoint, "/metrics", accept="application/openmetrics-text; version=1.0.0")
    assert status == 200
    assert content_type.startswith("application/openmetrics-text")
    assert PREFIX + "images" in {family.name for family in parse_openmetrics(text)}
    assert get(endpoint, "/metrics")[1].startswith("text/plain; version=")


def test_progress_is_json(make: Any, telemetry: Telemetry, endpoint: Endpoint) -> None:
    telemetry.enter("Training")
    for record in make.rising_run()[:31]:
        telemetry.observe(record, 20.0)
    status, content_type, text = get(endpoint, "/progress")
    content = json.loads(text)
    assert (status, content_type) == (200, "application/json")
    assert (content["job"], content["iteration"], content["etaSeconds"]) == ("numbers", 30, 20.0)
    assert (content["phase"], content["attempt"]) == ("Training", 3)
    assert [reward["name"] for reward in content["rewards"]] == ["ocr", "reader"]


def test_progress_and_metrics_tell_when_the_loop_was_last_alive(
    telemetry: Telemetry, endpoint: Endpoint, clock: Clock
) -> None:
    clock.now = 2000.0
    telemetry.enter("Evaluating")
    clock.now = 2500.0
    assert json.loads(get(endpoint, "/progress")[2])["beat"] == 2000.0
    assert scrape(endpoint)["beat_timestamp_seconds", ()] == 2000.0


def test_an_early_end_is_told_with_its_reason(telemetry: Telemetry, endpoint: Endpoint) -> None:
    telemetry.end_early(StoppedReport(reason="Requested", message="good enough"))
    progress = json.loads(get(endpoint, "/progress")[2])
    assert progress["stopped"] == {"reason": "Requested", "message": "good enough"}


def test_an_evaluation_that_came_later_is_shown_and_counts_nothing_twice(
    make: Any, telemetry: Telemetry, endpoint: Endpoint
) -> None:
    records = make.rising_run(10, 5)
    for record in records[:9]:
        telemetry.observe(record, 1.0)
    before = scrape(endpoint)
    telemetry.amend(records[8].model_copy(update={"evaluation": records[10].evaluation}))
    after = scrape(endpoint)
    eval_mean = ("reward_mean", labels(reward="ocr", role="train", split="eval", granularity=""))
    assert (before[eval_mean], after[eval_mean]) == (pytest.approx(0.5), pytest.approx(0.7))
    assert after["images_total", ()] == before["images_total", ()] == 8 * 200
    progress = json.loads(get(endpoint, "/progress")[2])
    assert (progress["iteration"], progress["rewards"][1]["mean"]) == (8, 0.4)


def test_curve_files_are_served_as_they_are_now(endpoint: Endpoint, curves: dict[str, Path]) -> None:
    assert get(endpoint, PATH_CURVE_CSV)[::2] == (404, "no curve.csv yet\n")
    curves[PATH_CURVE_CSV].write_text("iteration\n1\n")
    curves[PATH_CURVE_SVG].write_text("<svg/>")
    assert get(endpoint, PATH_CURVE_CSV) == (200, "text/csv; charset=utf-8", "iteration\n1\n")
    assert get(endpoint, PATH_CURVE_SVG) == (200, "image/svg+xml", "<svg/>")


def lingers(telemetry: Telemetry) -> threading.Thread:
    """A thread that waits for the last numbers to be fetched, for longer than any test."""
    thread = threading.Thread(target=lambda: telemetry.farewell.wait(60.0, lambda: False), daemon=True)
    thread.start()
    return thread


def test_a_finished_run_waits_until_its_last_numbers_were_fetched(telemetry: Telemetry, endpoint: Endpoint) -> None:
    for path in ("/progress", PATH_CURVE_CSV, PATH_CURVE_SVG):
        get(endpoint, path)
    telemetry.enter("Finished")
    waiting = lingers(telemetry)
    get(endpoint, PATH_CURVE_CSV)
    get(endpoint, PATH_CURVE_SVG)
    get(endpoint, "/metrics")
    asked = http.client.HTTPConnection("127.0.0.1", endpoint.port, timeout=10)
    asked.request("HEAD", "/progress")
    asked.getresponse().read()
    asked.close()
    assert not telemetry.farewell.complete, "before the end, in another order, or without a body does not count"
    get(endpoint, "/progress")
    get(endpoint, PATH_CURVE_SVG)
    assert not telemetry.farewell.complete
    assert waiting.is_alive()
    get(endpoint, PATH_CURVE_CSV)
    waiting.join(10)
    assert not waiting.is_alive()
    assert telemetry.farewell.complete


def test_nobody_is_waited_for_longer_than_asked_or_after_a_stop(telemetry: Telemetry) -> None:
    telemetry.enter("Finished")
    telemetry.farewell.wait(0.0, lambda: False)
    telemetry.farewell.wait(3600.0, lambda: True)
    assert not telemetry.farewell.complete


def test_health_follows_the_beat_of_the_loop(make: Any, telemetry: Telemetry, endpoint: Endpoint, clock: Clock) -> None:
    assert get(endpoint, "/healthz")[::2] == (200, "ok\n")
    telemetry.enter("Training")
    clock.now += STALL
    assert get(endpoint, "/healthz")[0] == 200
    clock.now += 1
    status, _, reason = get(endpoint, "/healthz")
    assert (status, reason) == (503, "no sign of life for 61 s while training; the limit is 60 s\n")
    for beat in (
        lambda: telemetry.observe_checkpoint(1, 1.7e9, 0.1),
        lambda: telemetry.observe(make.record(1), 1.0),
        lambda: telemetry.enter("Evaluating"),
    ):
        clock.now += 100 * STALL
        assert get(endpoint, "/healthz")[0] == 503
        beat()
        assert get(endpoint, "/healthz")[0] == 200


def test_a_finished_run_is_healthy(telemetry: Telemetry, endpoint: Endpoint, clock: Clock) -> None:
    telemetry.enter("Finished")
    clock.now += 100 * STALL
    assert get(endpoint, "/healthz")[0] == 200


def test_a_machine_that_does_not_lead_tells_that_it_lives_and_nothing_that_would_count_twice(clock: Clock) -> None:
    vitals = Vitals(STALL, clock)
    endpoint = vitals.serve(0, "127.0.0.1")
    clock.now += STALL + 1
    assert get(endpoint, "/healthz")[0] == 503
    vitals.beat()
    assert get(endpoint, "/healthz")[0] == 200
    assert scrape(endpoint) == {
        ("beat_timestamp_seconds", ()): clock.now,
        ("started_timestamp_seconds", ()): clock.now - STALL - 1,
    }
    assert get(endpoint, "/progress")[0] == 404
    endpoint.close()


def test_nothing_is_registered_globally(telemetry: Telemetry) -> None:
    telemetry.enter("Training")
    assert not [metric.name for metric in REGISTRY.collect() if metric.name.startswith(PREFIX)]


def test_a_taken_port_is_an_os_error(telemetry: Telemetry, endpoint: Endpoint, curves: dict[str, Path]) -> None:
    with pytest.raises(OSError, match=rf"port {endpoint.port} .*--port 0, which picks a free one"):
        telemetry.serve(endpoint.port, "127.0.0.1", curves)
