"""The tables: numbers of the records, settings of the job, in words for people."""

from __future__ import annotations

import math
from typing import Any

import pytest
import yaml

from g2rpo_trainer.reporting.tables import (
    duration,
    phase_rows,
    score_rows,
    setting_groups,
    setting_text,
    single_rows,
    totals,
)


def test_scores_from_first_to_last(make: Any) -> None:
    rows = {(row.reward, row.split): row for row in score_rows(make.rising_run(), {})}
    assert len(rows) == 4
    ocr, reader = rows["ocr", "training prompts"], rows["reader", "training prompts"]
    assert (ocr.role, ocr.prompts, ocr.before, ocr.after, ocr.change) == ("trained", 80, "0.30", "0.70", "+0.40")
    margin = 2 * math.sqrt(2 * 0.3**2 / 79)
    assert ocr.margin == f"± {margin:.2f}"
    assert ocr.reading == "rose"
    assert (reader.role, reader.before, reader.after, reader.change) == ("held out", "10 %", "40 %", "+30 points")
    assert reader.margin.endswith(" points")
    assert rows["reader", "unseen prompts"].prompts == 20


def test_the_best_evaluation_is_named(make: Any) -> None:
    means = {0: 0.3, 10: 0.8, 20: 0.5}
    records = [make.record(i, evaluation=[make.evaluation(400, ocr=make.spread(mean))]) for i, mean in means.items()]
    assert score_rows(records, {})[0].best == "0.80 at iteration 10"


def test_a_fall_is_read_as_a_fall(make: Any) -> None:
    ends = {0: 0.8, 10: 0.3}
    records = [make.record(i, evaluation=[make.evaluation(400, ocr=make.spread(mean))]) for i, mean in ends.items()]
    row = score_rows(records, {})[0]
    assert (row.change, row.reading) == ("−0.50", "fell")


def test_one_prompt_has_no_margin(make: Any) -> None:
    records = [make.record(i, evaluation=[make.evaluation(1, ocr=make.spread(0.3 + i, 0.0, -9, 9))]) for i in (0, 1)]
    row = score_rows(records, {})[0]
    assert (row.margin, row.reading) == ("unknown", "no clear change")


def test_a_single_evaluation_is_listed(make: Any) -> None:
    first = make.record(0, evaluation=[make.evaluation(80, ocr=make.spread(0.3456, 0.21))])
    assert score_rows([first], {}) == []
    assert single_rows([first], {"ocr": "train"}) == [("ocr", "trained", "training prompts", "80", "0.346 ± 0.21")]


def test_phases_add_up(make: Any) -> None:
    seconds = {"rollout": 30.0, "reward": 15.0, "train": 3.0, "checkpoint": 2.0}
    records = [
        make.record(0, seconds={"eval": 5.0}, step_seconds=5.0),
        make.record(1, seconds=seconds, step_seconds=50.0),
    ]
    assert phase_rows(records) == [
        ("rollout (model)", "30.0 s", f"{100 * 30 / 57:.1f} %"),
        ("reward", "15.0 s", f"{100 * 15 / 57:.1f} %"),
        ("update", "3.0 s", f"{100 * 3 / 57:.1f} %"),
        ("evaluation", "5.0 s", f"{100 * 5 / 57:.1f} %"),
        ("checkpoint", "2.0 s", f"{100 * 2 / 57:.1f} %"),
        ("other", "2.0 s", f"{100 * 2 / 57:.1f} %"),
    ]


def test_no_time_has_no_shares(make: Any) -> None:
    assert phase_rows([make.record(0, step_seconds=0.0)]) == [("other", "0.0 s", "")]


def test_totals_count_training_only(make: Any) -> None:
    records = make.rising_run()
    found = dict(totals(records))
    assert found["iterations"] == "40"
    assert found["attempts"] == "2"
    assert found["pictures trained on"] == "8,000"
    assert found["model calls (rows)"] == "40,000"
    assert found["optimizer steps"] == "80"
    assert found["wall time"] == duration(41 * 2.0)
    assert found["pictures a second"] == "100"
    assert "pictures a second" not in dict(totals(records[:1]))


@pytest.mark.parametrize(("seconds", "text"), [
    (0.0, "0.0 s"), (12.34, "12.3 s"), (59.94, "59.9 s"), (60.0, "1 min 00 s"), (245.4, "4 min 05 s"),
    (3599.4, "59 min 59 s"), (3600.0, "1 h 00 min"), (12_000.0, "3 h 20 min"), (2 * 86_400 + 4 * 3600, "2 d 4 h"),
])  # fmt: skip
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize("seconds", [59.96, 59.999, 3599.6, 172_799.9])
def test_durations_carry_over(seconds: float) -> None:
    assert not duration(seconds).startswith(("60", "60 min", "48 h"))


def test_settings_by_part_of_the_spec(make: Any) -> None:
    groups = {group.title: dict(group.rows) for group in setting_groups(yaml.safe_load(make.job))}
    assert list(groups) == ["general", "model", "algorithm", "rewards", "workers"]
    assert groups["general"] == {"seed": "7", "iterations": "40"}
    assert groups["model"] == {"family": "SD3", "path": "builtin:miniature", "train.type": "Full"}
    assert groups["algorithm"]["g2rpo.granularities"] == "1, 2"
    assert groups["algorithm"]["g2rpo.clipRange"] == "0.001"
    assert groups["rewards"]["reader.role"] == "HeldOut"
    assert groups["workers"] == {"nodes": "1", "processesPerNode": "2"}


@pytest.mark.parametrize(
    "job", [{}, {"spec": None}, {"spec": []}, {"spec": {"training": 3}}, {"spec": {"training": {"x": None}}}]
)
def test_jobs_without_settings(job: dict[str, Any]) -> None:
    assert setting_groups(job) == []


@pytest.mark.parametrize(("value", "text"), [
    (True, "true"), (False, "false"), (1e-4, "0.0001"), (1e-8, "1e-08"), (0.1, "0.1"), (3, "3"), ("a, b", "a, b"),
    ([1, 2.5, "x"], "1, 2.5, x"), ([], ""),
])  # fmt: skip
def test_values_as_text(value: Any, text: str) -> None:
    assert setting_text(value) == text
