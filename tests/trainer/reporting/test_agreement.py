"""Correlations of rewards on their way to the report and to Prometheus."""

from __future__ import annotations

import math
from itertools import combinations, product
from typing import Any

import pytest

from g2rpo_trainer.journal import CorrelationEntry, EvaluationEntry, IterationRecord, Spread
from g2rpo_trainer.monitoring.names import PREFIX
from g2rpo_trainer.monitoring.progress import RunInfo
from g2rpo_trainer.monitoring.telemetry import Telemetry, Vitals
from g2rpo_trainer.reporting.agreement_charts import agreement_charts

ONE = Spread(mean=0.5, std=0.1, min=0.0, max=1.0)


def agree(first: str, second: str, value: float) -> CorrelationEntry:
    return CorrelationEntry(first=first, second=second, value=value)


def evaluated(split: str, value: float) -> EvaluationEntry:
    found = [agree("ocr", "reader", value)]
    return EvaluationEntry(split=split, prompts=8, rewards={"ocr": ONE, "reader": ONE}, correlations=found)


def run(make: Any) -> list[IterationRecord]:
    """Two trained rewards that part slowly; an evaluation at both ends."""
    records = [make.record(0, evaluation=[evaluated("eval", 0.9), evaluated("unseen", 0.7)])]
    for i in range(1, 5):
        pair = agree("ocr", "look", math.nan if i == 2 else 0.8 - 0.3 * i)
        records.append(make.record(i, correlations=[pair], evaluation=[evaluated("eval", -0.2)] if i == 4 else []))
    return records


def test_the_report_shows_each_pair_while_training_and_in_evaluations(make: Any) -> None:
    rollout, evaluation = agreement_charts(run(make))
    assert [entry.label for entry in rollout.legend] == ["ocr/look"]
    assert [entry.label for entry in evaluation.legend] == ["ocr/reader"]


def test_with_a_single_reward_there_is_no_such_chart(make: Any) -> None:
    assert agreement_charts(make.rising_run()) == []


def test_prometheus_gets_the_newest_of_each_pair_and_split(make: Any) -> None:
    info = RunInfo("numbers", 40, 2, {"ocr": "train", "look": "train", "reader": "heldout"}, attempt=1)
    vitals = Vitals(60.0, lambda: 0.0)
    telemetry = Telemetry(info, vitals)
    for record in run(make):
        telemetry.observe(record, None)

    def value(pair: str, split: str) -> float | None:
        return vitals.registry.get_sample_value(f"{PREFIX}reward_correlation", {"pair": pair, "split": split})

    assert value("ocr/look", "branch") == pytest.approx(0.8 - 0.3 * 4)
    assert value("ocr/reader", "eval") == -0.2
    assert value("ocr/reader", "unseen") == 0.7


def test_prometheus_gets_what_tells_whether_the_trained_go_with_the_held_out(make: Any) -> None:
    """Trained ones are compared within groups already; of many the first six of each role are compared."""
    trained, held_out = [f"t{i}" for i in range(10)], [f"h{i}" for i in range(10)]
    roles = {**dict.fromkeys(trained, "train"), **dict.fromkeys(held_out, "heldout")}
    vitals = Vitals(60.0, lambda: 0.0)
    found = [agree(a, b, 0.5) for a, b in combinations(roles, 2)]
    within = [agree(a, b, 0.5) for a, b in combinations(trained, 2)]
    evaluation = EvaluationEntry(split="eval", prompts=8, rewards=dict.fromkeys(roles, ONE), correlations=found)
    Telemetry(RunInfo("numbers", 40, 2, roles, attempt=1), vitals).observe(
        make.record(1, correlations=within, evaluation=[evaluation]), None
    )
    (family,) = [each for each in vitals.registry.collect() if each.name == f"{PREFIX}reward_correlation"]
    shown = {
        split: {s.labels["pair"] for s in family.samples if s.labels["split"] == split} for split in ("branch", "eval")
    }
    assert shown["branch"] == {f"{a}/{b}" for a, b in combinations(trained[:6], 2)}
    assert shown["eval"] == {f"{a}/{b}" for a, b in product(trained[:6], held_out[:6])}


def test_a_line_of_the_diary_keeps_them(make: Any) -> None:
    record = run(make)[4]
    again = IterationRecord.model_validate_json(record.model_dump_json())
    assert again == record
    assert again.correlations[0].pair == "ocr/look"
