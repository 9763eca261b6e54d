"""One source, many views: whatever the records say, all views take it and tell the same."""

from __future__ import annotations

import csv
import io
import json
import math
import threading
import urllib.request
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from g2rpo_api.progress import ProgressReport
from g2rpo_trainer.journal import (
    AdvantageEntry,
    EvaluationEntry,
    IterationRecord,
    PolicyEntry,
    RewardEntry,
    Spread,
    StepEntry,
)
from g2rpo_trainer.monitoring.console import format_line
from g2rpo_trainer.monitoring.names import PREFIX
from g2rpo_trainer.monitoring.progress import RunInfo, State, document
from g2rpo_trainer.monitoring.telemetry import CURVE_TYPES, Telemetry, Vitals
from g2rpo_trainer.reporting.curves import read_records, write_curve_csv, write_curve_svg
from g2rpo_trainer.reporting.history import eta_seconds
from g2rpo_trainer.reporting.report import render

ROLES = {"ocr": "train", "clip": "train", "reader": "heldout"}
NUMBER = st.one_of(st.floats(-1e6, 1e6), st.sampled_from([0.0, 1.0, math.nan, math.inf]))
SHARE = st.floats(0, 1)
SECONDS = st.floats(0, 1e5)
COUNT = st.integers(0, 10**9)
SPREADS = st.builds(Spread, mean=NUMBER, std=st.one_of(st.floats(0, 1e6), st.just(math.nan)), min=NUMBER, max=NUMBER)
REWARDS = st.builds(
    RewardEntry,
    name=st.sampled_from(["ocr", "clip"]),
    role=st.just("train"),
    weight=st.floats(0.01, 10),
    anchor=st.none() | SPREADS,
    branch=st.dictionaries(st.sampled_from(["1", "2", "3"]), SPREADS),
)
EVALUATIONS = st.builds(
    EvaluationEntry,
    split=st.sampled_from(["eval", "unseen"]),
    prompts=st.integers(1, 500),
    rewards=st.dictionaries(st.sampled_from(list(ROLES)), SPREADS),
)
STEPS = st.builds(
    StepEntry, k=st.integers(0, 20), reward_std=NUMBER, clip_ratio=SHARE, loss=NUMBER, ratio_absdev=NUMBER
)
POLICIES = st.builds(
    PolicyEntry, ratio_mean=NUMBER, ratio_std=NUMBER, clip_low=SHARE, clip_high=SHARE, approx_kl=NUMBER, loss=NUMBER,
    kl_loss=NUMBER, grad_norm=NUMBER, learning_rate=SHARE, optimizer_steps=COUNT, nonfinite_steps=COUNT,
    steps=st.lists(STEPS, max_size=3, unique_by=lambda step: step.k),
)  # fmt: skip
ADVANTAGES = st.builds(AdvantageEntry, mean=NUMBER, std=NUMBER, absmax=NUMBER, clipped_ratio=SHARE)
PHASES = st.dictionaries(st.sampled_from(["rollout", "decode", "reward", "train", "checkpoint", "eval"]), SECONDS)


@st.composite
def runs(draw: st.DrawFn) -> list[IterationRecord]:
    """Records that the journal lets through, however odd, in the order of their iterations."""
    return [
        IterationRecord(
            iteration=iteration,
            time=1.7e9 + iteration,
            attempt=draw(st.integers(1, 3)),
            world_size=2,
            rewards=draw(st.lists(REWARDS, max_size=2, unique_by=lambda entry: entry.name)) if iteration else [],
            evaluation=draw(st.lists(EVALUATIONS, max_size=2, unique_by=lambda entry: entry.split)),
            advantage=draw(st.none() | ADVANTAGES) if iteration else None,
            policy=draw(st.none() | POLICIES) if iteration else None,
            groups=draw(st.integers(0, 8)),
            zero_variance_groups=draw(COUNT),
            skipped_groups=draw(COUNT),
            seconds=draw(PHASES),
            step_seconds=draw(SECONDS),
            model_calls=draw(COUNT),
            images=draw(COUNT),
        )
        for iteration in range(draw(st.integers(0, 1)), draw(st.integers(2, 5)))
    ]


def telemetry(total: int) -> Telemetry:
    return Telemetry(RunInfo("numbers", total, 2, ROLES), Vitals(60.0))  # type: ignore[arg-type]


def write_metrics(folder: Path, records: list[IterationRecord]) -> None:
    lines = "".join(record.model_dump_json() + "\n" for record in records)
    (folder / "metrics.jsonl").write_text(lines)


def same(a: IterationRecord, b: IterationRecord) -> bool:
    """Equal, where NaN equals NaN."""
    return a.model_dump_json() == b.model_dump_json()


@given(runs())
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_machines_can_read_every_run(tmp_path: Path, records: list[IterationRecord]) -> None:
    write_metrics(tmp_path, records)
    back = read_records(tmp_path / "metrics.jsonl")
    assert all(same(a, b) for a, b in zip(back, records, strict=True))
    write_curve_csv(records, tmp_path / "curve.csv")
    rows = list(csv.DictReader(io.StringIO((tmp_path / "curve.csv").read_text())))
    assert [int(row["iteration"]) for row in rows] == [record.iteration for record in records]
    assert all(cell == "" or math.isfinite(float(cell)) for row in rows for cell in row.values())
    run = RunInfo("numbers", 10, 2, ROLES)  # type: ignore[arg-type]
    told = document(run, State(1.7e9, records, "Training", eta_seconds(records, 10)))
    assert ProgressReport.model_validate_json(told.model_dump_json(by_alias=True)) == told
    line = format_line(records, 10)
    assert "nan" not in line
    assert "\n" not in line


@given(runs())
@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_people_can_read_every_run(tmp_path: Path, records: list[IterationRecord]) -> None:
    write_metrics(tmp_path, records)
    page = render(tmp_path)
    parser = HTMLParser()
    parser.feed(page)
    parser.close()
    assert "No verdict yet" in page or "<table>" in page
    write_curve_svg(records, tmp_path / "curve.svg")


@given(runs())
@settings(max_examples=60)
def test_scrapers_can_read_every_run(records: list[IterationRecord]) -> None:
    observed = telemetry(10)
    for record in records:
        observed.observe(record, eta_seconds(records, 10))
    text = generate_latest(observed._vitals.registry).decode()
    assert observed.progress().iteration == records[-1].iteration
    values = {s.name: s.value for f in text_string_to_metric_families(text) for s in f.samples if not s.labels}
    assert values[PREFIX + "iteration"] == records[-1].iteration
    assert values[PREFIX + "images_total"] == sum(record.images for record in records)


def test_all_views_tell_the_same_numbers(make: Any, tmp_path: Path) -> None:
    records = make.rising_run()
    run = RunInfo("numbers", 40, 2, {"ocr": "train", "reader": "heldout"})
    rewards = {reward.name: reward for reward in document(run, State(1.7e9, records, "Finished")).rewards}
    line = format_line(records, 40)
    page = render(make.folder(tmp_path, records))
    write_curve_csv(records, tmp_path / "curve.csv")
    last = list(csv.DictReader(io.StringIO((tmp_path / "curve.csv").read_text())))[-1]
    assert f"reward {rewards['ocr'].mean:.3f} " in line
    assert f"held-out reader {100 * rewards['reader'].mean:.0f} % (+{100 * rewards['reader'].delta:.0f})" in line
    assert float(last["reader.eval_mean"]) == rewards["reader"].mean
    assert f"→ {100 * float(last['reader.eval_mean']):.0f} %)" in page
    assert f"→ {float(last['ocr.eval_mean']):.2f})" in page


def test_a_scrape_at_any_moment_is_whole(make: Any, tmp_path: Path) -> None:
    """Scrapers ask without pause while iterations go by; no answer mixes two of them."""
    records = make.rising_run(120, 10)
    observed = telemetry(120)
    endpoint = observed.serve(0, "127.0.0.1", dict.fromkeys(CURVE_TYPES, tmp_path / "none"))
    answers: list[dict[str, Any]] = []
    done = threading.Event()

    def ask(path: str) -> bytes:
        with urllib.request.urlopen(f"http://127.0.0.1:{endpoint.port}{path}", timeout=20) as answer:
            return bytes(answer.read())

    def scrape() -> None:
        while not done.is_set():
            answers.append(json.loads(ask("/progress")))
            list(text_string_to_metric_families(ask("/metrics").decode()))

    scrapers = [threading.Thread(target=scrape) for _ in range(2)]
    for scraper in scrapers:
        scraper.start()
    for record in records:
        observed.observe(record, 1.0)
    done.set()
    for scraper in scrapers:
        scraper.join(30)
    answers.append(json.loads(ask("/progress")))
    endpoint.close()
    assert answers[-1]["iteration"] == 120
    for answer in answers:
        curve = answer["curve"]
        assert (curve[-1]["iteration"] if curve else 0) == answer["iteration"]


@pytest.mark.parametrize("count", [1, 2, 7, 41])
def test_pace_and_speed_agree_with_the_clock(make: Any, count: int) -> None:
    records = [make.record(i, step_seconds=2.5, images=500) for i in range(count)]
    line = format_line(records, 41)
    left = (41 - (count - 1)) * 2.5
    if count == 1:
        assert "ETA" not in line
        assert "images/s" not in line
    else:
        assert "200 images/s" in line
        assert eta_seconds(records, 41) == left
