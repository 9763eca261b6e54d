"""The document behind /progress."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from g2rpo_trainer.monitoring.progress import MAX_CURVE_POINTS, CheckpointInfo, RunInfo, curve, document, number

RUN = RunInfo("numbers", 40, 2, {"ocr": "train", "reader": "heldout"}, cells_per_group=4, attempt=3)
KEYS = {
    "job", "iteration", "total", "percent", "etaSeconds", "phase", "attempt", "rewards", "curve", "checkpoint",
    "lastStepTime",
}  # fmt: skip


def test_before_the_first_record_everything_is_known_but_the_numbers() -> None:
    content = document(RUN, [], "starting", None, None)
    assert set(content) == KEYS
    assert (content["job"], content["iteration"], content["total"], content["percent"]) == ("numbers", 0, 40, 0.0)
    assert (content["phase"], content["attempt"], content["etaSeconds"]) == ("starting", 3, None)
    assert (content["curve"], content["checkpoint"], content["lastStepTime"]) == ([], None, None)
    assert content["rewards"] == [
        {"name": "ocr", "role": "train", "mean": None, "best": None, "delta": None},
        {"name": "reader", "role": "heldout", "mean": None, "best": None, "delta": None},
    ]


def test_in_the_middle(make: Any) -> None:
    records = make.rising_run()[:31]
    content = document(RUN, records, "training", 20.04, CheckpointInfo(30, 1234.5))
    assert set(content) == KEYS
    assert (content["iteration"], content["percent"], content["etaSeconds"]) == (30, 75.0, 20.04)
    assert content["checkpoint"] == {"iteration": 30, "time": 1234.5}
    assert content["lastStepTime"] == records[-1].time
    means = [0.3 + 0.4 * i / 40 for i in range(1, 31)]
    smoothed = [sum(means[i - 5 : i]) / 5 for i in range(5, 31)]
    trained, held_out = content["rewards"]
    assert trained["mean"] == pytest.approx(smoothed[-1])
    assert trained["best"] == pytest.approx(max(smoothed))
    assert trained["delta"] == pytest.approx(smoothed[-1] - smoothed[0])
    assert held_out == {"name": "reader", "role": "heldout", "mean": 0.325, "best": 0.325, "delta": 0.225}


def test_the_best_may_lie_behind(make: Any) -> None:
    means = [0.1] * 5 + [0.9] * 5 + [0.5] * 5
    records = [make.record(i, rewards=[make.reward("ocr", mean, {})]) for i, mean in enumerate(means, 1)]
    reward = document(RUN, records, "training", None, None)["rewards"][0]
    assert reward == {"name": "ocr", "role": "train", "mean": 0.5, "best": 0.9, "delta": 0.4}


def test_a_loss_is_a_negative_delta(make: Any) -> None:
    means = [0.5] * 5 + [0.1] * 5 + [0.3] * 5
    records = [make.record(i, rewards=[make.reward("ocr", mean, {})]) for i, mean in enumerate(means, 1)]
    reward = document(RUN, records, "training", None, None)["rewards"][0]
    assert reward == {"name": "ocr", "role": "train", "mean": 0.3, "best": 0.5, "delta": -0.2}


def test_the_first_iterations_have_the_mean_so_far(make: Any) -> None:
    records = [make.record(i, rewards=[make.reward("ocr", i / 10, {})]) for i in (1, 2, 3)]
    reward = document(RUN, records, "training", None, None)["rewards"][0]
    assert reward == {"name": "ocr", "role": "train", "mean": 0.2, "best": 0.2, "delta": 0.0}


def test_the_curve_is_short_and_has_both_ends(make: Any) -> None:
    records = [make.record(i, rewards=[make.reward("ocr", math.sin(i / 30), {})]) for i in range(1, 1001)]
    points = curve(records)
    assert len(points) == MAX_CURVE_POINTS
    assert points[0] == [1, pytest.approx(math.sin(1 / 30), rel=1e-5)]
    assert points[-1] == [1000, pytest.approx(math.sin(1000 / 30), rel=1e-5)]
    assert all(y == pytest.approx(math.sin(i / 30), rel=1e-5) for i, y in points)
    assert len(curve(records[:10])) == 10


def test_what_is_no_number_is_null(make: Any) -> None:
    records = [make.record(i, rewards=[make.reward("ocr", math.nan, {})]) for i in (1, 2)]
    content = document(RUN, records, "training", math.inf, None)
    assert content["etaSeconds"] is None
    assert content["curve"] == []
    assert content["rewards"][0]["mean"] is None
    json.dumps(content, allow_nan=False)


def test_the_largest_document_fits_64_kib(make: Any) -> None:
    names = [
        f"{'reward-with-the-longest-name-that-is-allowed-for-a-reward':<60}{i:03}".replace(" ", "-") for i in range(64)
    ]
    assert {len(name) for name in names} == {63}
    run = RunInfo("j" * 52, 10**6, 512, dict.fromkeys(names, "train"), cells_per_group=1)
    rewards = [make.reward(name, -0.123456789, {}) for name in names]
    records = [make.record(10**6 + i, rewards=rewards) for i in range(100)]
    content = document(run, records, "evaluating", 1234567.89, CheckpointInfo(10**6, 1.7e9))
    assert len(json.dumps(content)) < 64 * 1024


@pytest.mark.parametrize(
    ("value", "expected"), [(0.123456789, 0.123457), (math.nan, None), (-math.inf, None), (0, 0.0)]
)
def test_numbers_have_six_digits(value: float, expected: float | None) -> None:
    assert number(value) == expected
