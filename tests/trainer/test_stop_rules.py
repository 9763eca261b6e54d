"""Each stop rule on series of which it is known what they say: it fires on those, and on nothing else."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from functools import cache
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from g2rpo_api.parse import parse_job
from g2rpo_api.progress import StoppedReport
from g2rpo_api.training import TrainingSpec
from g2rpo_trainer.journal import (
    AppearanceEntry,
    EvaluationEntry,
    IterationRecord,
    RewardEntry,
    SpentEntry,
    Spread,
)
from g2rpo_trainer.stop_rules import RULES, end_of

CELLS = 40
STOPS: dict[str, dict[str, Any]] = {
    "hacking": {"hacking": {}},
    "collapse": {"collapse": {}},
    "target": {"target": {"reward": "ocr", "value": 0.8}},
    "plateau": {"plateau": {"iterations": 20, "minDelta": 0.01}},
    "maxHours": {"maxHours": 2},
    "maxGpuHours": {"maxGpuHours": 8},
}
EVERYTHING = {key: value for stop in STOPS.values() for key, value in stop.items()}


@cache
def training(stop: str) -> TrainingSpec:
    """A job with two rewards to train on, one that is held out, and these rules."""
    job = {
        "apiVersion": "g2rpo.dev/v1alpha1",
        "kind": "G2RPOJob",
        "metadata": {"name": "job"},
        "spec": {
            "training": {
                "iterations": 1000,
                "model": {"family": "SD3", "path": "org/model", "train": {"type": "LoRA"}},
                "prompts": {"path": "prompts.txt"},
                "sampling": {"height": 64, "width": 64},
                "algorithm": {"type": "G2RPO"},
                "rewards": [
                    {"name": "ocr", "type": "PaddleOCR"},
                    {"name": "reader", "type": "DdddOCR", "role": "HeldOut"},
                ],
                "stop": json.loads(stop),
            }
        },
    }
    return parse_job(job).spec.training


def spread(mean: float, std: float = 0.3) -> Spread:
    return Spread(mean=mean, std=std, min=mean - std, max=mean + std)


def shares(hits: int, of: int) -> Spread:
    """Of `of` pictures that are right or wrong."""
    p = hits / of
    return Spread(mean=p, std=math.sqrt(p * (1 - p)), min=float(hits == of), max=float(hits > 0))


def record(
    iteration: int,
    reward: float = 0.5,
    evaluation: Sequence[EvaluationEntry] = (),
    zero: int = 0,
    diversity: float = 0.1,
    hours: float = 0.0,
) -> IterationRecord:
    return IterationRecord(
        iteration=iteration,
        time=1e9 + iteration,
        attempt=1,
        world_size=4,
        rewards=[RewardEntry(name="ocr", role="train", weight=1.0, anchor=spread(reward), branch={})],
        evaluation=list(evaluation),
        advantage=None,
        policy=None,
        groups=8,
        zero_variance_groups=zero,
        cells=CELLS,
        skipped_groups=0,
        seconds={},
        step_seconds=1.0,
        model_calls=1,
        images=1,
        appearance=AppearanceEntry(saturation=0.1, brightness=0.5, contrast=0.2, lattice=0.1, diversity=diversity),
        spent=SpentEntry(seconds=hours * 3600, rank_seconds=4 * hours * 3600),
    )


def scored(prompts: int = 80, unseen: bool = False, **rewards: Spread) -> EvaluationEntry:
    return EvaluationEntry(split="unseen" if unseen else "eval", prompts=prompts, rewards=rewards)


def told(stop: dict[str, Any], records: Sequence[IterationRecord]) -> StoppedReport | None:
    return end_of(training(json.dumps(stop)), records)


def reason(stop: dict[str, Any], records: Sequence[IterationRecord]) -> str | None:
    report = told(stop, records)
    return report and report.reason


def curve(*rewards: float) -> list[IterationRecord]:
    """A run whose trained reward takes these values."""
    return [record(i, value) for i, value in enumerate(rewards, start=1)]


def evaluated(*pairs: tuple[float, float], prompts: int = 80, unseen: bool = False) -> list[IterationRecord]:
    """A run with evaluations of (trained, held-out) means, ten iterations apart."""
    records = []
    for i, (trained, held_out) in enumerate(pairs):
        entry = scored(prompts, unseen, ocr=spread(trained), reader=spread(held_out))
        records += [record(10 * i, evaluation=[entry]), record(10 * i + 1)]
    return records


def noisy(means: Sequence[float], std: float, seed: int) -> list[IterationRecord]:
    """Such a run with the noise that few prompts make."""
    random = Random(seed)
    return curve(*(random.gauss(mean, std) for mean in means))


def rising(count: int, start: float = 0.3, end: float = 0.9) -> list[float]:
    return [start + (end - start) * i / (count - 1) for i in range(count)]


def prefixes(records: list[IterationRecord]) -> list[list[IterationRecord]]:
    """The run as it stood after each iteration."""
    return [records[: i + 1] for i in range(len(records))]


def test_without_rules_nothing_ends_a_run() -> None:
    worst = [record(i, 1 / i, zero=CELLS, diversity=0.0, hours=1e4) for i in range(1, 200)]
    assert told({}, worst) is None


@pytest.mark.parametrize("stop", STOPS.values(), ids=STOPS)
def test_no_rule_fires_before_the_first_record_nor_after_it(stop: dict[str, Any]) -> None:
    assert told(stop, []) is None
    assert told(stop, [record(0)]) is None


def test_every_key_of_the_schema_has_a_rule() -> None:
    assert {rule.key.partition(".")[0] for rule in RULES} == set(EVERYTHING)


def test_the_message_names_the_key() -> None:
    report = told({"maxHours": 2}, [record(7, hours=2.5)])
    assert report is not None
    assert report.message == ("all attempts together took 2.5 hours, and 2 were allowed (spec.training.stop.maxHours)")


def test_the_worst_is_told_when_several_hold() -> None:
    records = evaluated((0.2, 0.6), (0.5, 0.4), (0.8, 0.1))
    over_time = records[-1].model_copy(update={"spent": SpentEntry(seconds=1e9, rank_seconds=1e9)})
    assert reason(EVERYTHING, [*records[:-1], over_time]) == "RewardHacking"


# hours and GPU-hours


@pytest.mark.parametrize(("hours", "expected"), [(1.999, None), (2.0, "Budget"), (3.0, "Budget")])
def test_hours_are_those_of_all_attempts(hours: float, expected: str | None) -> None:
    assert reason({"maxHours": 2}, [record(1, hours=0.5), record(2, hours=hours)]) == expected


@pytest.mark.parametrize(("hours", "expected"), [(1.999, None), (2.0, "Budget")])
def test_gpu_hours_are_hours_times_ranks(hours: float, expected: str | None) -> None:
    assert reason({"maxGpuHours": 8}, [record(1, hours=hours)]) == expected


# target


@pytest.mark.parametrize(("mean", "expected"), [(0.79, None), (0.8, "Target"), (0.95, "Target")])
def test_a_target_is_reached_by_an_evaluation(mean: float, expected: str | None) -> None:
    assert reason(STOPS["target"], evaluated((0.1, 0.1), (mean, 0.1))) == expected


def test_rollouts_reach_no_target() -> None:
    assert told(STOPS["target"], curve(*[0.99] * 50)) is None


def test_where_there_are_unseen_prompts_they_count() -> None:
    def run(seen: float, unseen: float) -> list[IterationRecord]:
        return [record(5, evaluation=[scored(ocr=spread(seen)), scored(20, True, ocr=spread(unseen))])]

    assert reason(STOPS["target"], run(0.99, 0.5)) is None
    assert reason(STOPS["target"], run(0.5, 0.99)) == "Target"


def test_a_target_may_be_one_of_a_held_out_reward_and_below_zero() -> None:
    stop = {"target": {"reward": "reader", "value": -2.5}}
    assert reason(stop, evaluated((0.1, -2.6))) is None
    assert reason(stop, evaluated((0.1, -2.4))) == "Target"


# plateau


def test_a_curve_that_levels_out_is_a_plateau_once_it_was_level_for_twice_the_iterations() -> None:
    records = curve(*rising(60), *[0.9] * 60)
    fired = [bool(told(STOPS["plateau"], prefix)) for prefix in prefixes(records)]
    # the gain of the last 20 over the 20 before them falls below 0.01 shortly before all 40 are level
    assert not any(fired[:90])
    assert all(fired[99:])


@settings(max_examples=40)
@given(seed=st.integers(0, 10**6))
def test_noise_does_not_hide_a_plateau_for_ever(seed: int) -> None:
    records = noisy([0.6] * 200, 0.05, seed)
    assert any(told(STOPS["plateau"], prefix) for prefix in prefixes(records)[39:])


@settings(max_examples=40)
@given(seed=st.integers(0, 10**6), std=st.floats(0, 0.05))
def test_a_reward_that_rises_is_no_plateau(seed: int, std: float) -> None:
    """0.01 an iteration is 0.2 in 20; its error is at most 0.05 sqrt(2 / 20) = 0.016."""
    records = noisy(rising(90, 0.0, 0.9), std, seed)
    assert not any(told(STOPS["plateau"], prefix) for prefix in prefixes(records))


def test_a_reward_that_does_not_move_at_all_is_a_plateau_without_a_least_gain() -> None:
    assert reason({"plateau": {"iterations": 2}}, curve(0.5, 0.5, 0.5, 0.5)) == "Plateau"
    assert reason({"plateau": {"iterations": 2}}, curve(0.5, 0.5, 0.5, 0.51)) is None


# collapse


def test_a_reward_that_loses_half_of_its_best_has_collapsed() -> None:
    high = rising(40)
    assert reason(STOPS["collapse"], curve(*high, *[0.8] * 20)) is None
    assert reason(STOPS["collapse"], curve(*high, *[0.2] * 20)) == "Collapse"


def test_below_zero_it_falls_as_far() -> None:
    stop = {"collapse": {"iterations": 5, "rewardDrop": 0.2}}
    assert reason(stop, curve(*[-10.0] * 10, *[-11.9] * 5)) is None
    assert reason(stop, curve(*[-10.0] * 10, *[-12.1] * 5)) == "Collapse"


def test_an_early_collapse_shows_in_spite_of_the_noise_before_it() -> None:
    """As few prompts show it: 0.25 with an error of 0.06, then nothing."""
    records = curve(0.42, 0.1, 0.38, 0.15, 0.2, *[0.01] * 5)
    assert reason({"collapse": {"iterations": 5}}, records) == "Collapse"


def test_a_dip_shorter_than_the_iterations_is_no_collapse() -> None:
    records = curve(*[0.8] * 20, 0.1, 0.1, *[0.8] * 20)
    assert not any(told(STOPS["collapse"], prefix) for prefix in prefixes(records))


@settings(max_examples=40)
@given(seed=st.integers(0, 10**6), std=st.floats(0, 0.15))
def test_noise_is_no_collapse(seed: int, std: float) -> None:
    """As much noise as few prompts make, on a level curve and on a rising one."""
    for means in ([0.4] * 150, rising(150)):
        records = noisy(means, std, seed)
        assert not any(told({"collapse": {}}, prefix) for prefix in prefixes(records))


@settings(max_examples=40)
@given(seed=st.integers(0, 10**6), std=st.floats(0, 0.15))
def test_noise_hides_no_collapse(seed: int, std: float) -> None:
    records = noisy([*rising(40), *[0.05] * 30], std, seed)
    assert reason(STOPS["collapse"], records) == "Collapse"


@pytest.mark.parametrize(("zero", "expected"), [(CELLS * 9 // 10, None), (CELLS, "Collapse")])
def test_groups_without_differences_are_a_collapse(zero: int, expected: str | None) -> None:
    records = [*curve(*[0.5] * 20), *[record(i, zero=zero) for i in range(21, 31)]]
    report = told(STOPS["collapse"], records)
    assert (report and report.reason) == expected
    assert report is None or report.message.startswith("in 100% of the groups all members scored the same")


def test_one_iteration_without_differences_is_none() -> None:
    records = [*curve(*[0.5] * 20), record(21, zero=CELLS)]
    assert told(STOPS["collapse"], records) is None


@pytest.mark.parametrize(("diversity", "expected"), [(0.021, None), (0.019, "Collapse")])
def test_pictures_that_all_look_the_same_are_a_collapse(diversity: float, expected: str | None) -> None:
    records = [*curve(*[0.5] * 10), *[record(i, diversity=diversity) for i in range(11, 21)]]
    assert reason(STOPS["collapse"], records) == expected


def test_diversity_that_is_not_known_says_nothing() -> None:
    records = [*curve(*[0.5] * 10), *[record(i, diversity=math.nan) for i in range(11, 31)]]
    assert told(STOPS["collapse"], records) is None


@pytest.mark.parametrize("part", ["rewardDrop", "zeroVariance", "diversityDrop"])
def test_each_part_of_the_collapse_can_be_left_out(part: str) -> None:
    broken = {
        "rewardDrop": curve(*[0.8] * 20, *[0.1] * 10),
        "zeroVariance": [record(i, zero=CELLS) for i in range(1, 30)],
        "diversityDrop": [*curve(*[0.5] * 10), *[record(i, diversity=0.0) for i in range(11, 31)]],
    }
    for name, records in broken.items():
        assert reason({"collapse": {part: 1}}, records) == (None if name == part else "Collapse")


# hacking


def test_a_reward_that_rises_while_the_judge_falls_is_tricked() -> None:
    report = told(STOPS["hacking"], evaluated((0.2, 0.6), (0.5, 0.4), (0.8, 0.2)))
    assert report == StoppedReport(
        reason="RewardHacking",
        message="from iteration 0 to 20 the trained reward ocr rose from 0.2 to 0.8 and the held-out reward reader "
        "fell from 0.6 to 0.2 (spec.training.stop.hacking)",
    )


@pytest.mark.parametrize(
    "pairs",
    [
        [(0.2, 0.2), (0.5, 0.4), (0.8, 0.6)],
        [(0.8, 0.6), (0.5, 0.4), (0.2, 0.2)],
        [(0.2, 0.4), (0.5, 0.4), (0.8, 0.4)],
        [(0.5, 0.6), (0.5, 0.4), (0.5, 0.2)],
        [(0.2, 0.6), (0.8, 0.2)],
    ],
    ids=["both rise", "both fall", "the judge stays", "nothing is gained", "too few evaluations"],
)
def test_anything_else_is_no_trick(pairs: list[tuple[float, float]]) -> None:
    assert told(STOPS["hacking"], evaluated(*pairs)) is None


def test_only_the_last_evaluations_count() -> None:
    pairs = [(0.2, 0.6), (0.8, 0.2), (0.8, 0.2), (0.8, 0.2)]
    assert told(STOPS["hacking"], evaluated(*pairs)) is None
    assert reason({"hacking": {"evaluations": 4}}, evaluated(*pairs)) == "RewardHacking"


@pytest.mark.parametrize(("prompts", "expected"), [(8, None), (2000, "RewardHacking")])
def test_small_changes_show_on_many_prompts(prompts: int, expected: str | None) -> None:
    """0.06 at a standard deviation of 0.3: 3 standard errors of the difference want 450 prompts."""
    pairs = [(0.50, 0.50), (0.53, 0.47), (0.56, 0.44)]
    assert reason(STOPS["hacking"], evaluated(*pairs, prompts=prompts)) == expected


def test_both_must_happen_on_the_same_prompts() -> None:
    def entries(seen: tuple[float, float], unseen: tuple[float, float]) -> list[EvaluationEntry]:
        return [
            scored(80, ocr=spread(seen[0]), reader=spread(seen[1])),
            scored(80, True, ocr=spread(unseen[0]), reader=spread(unseen[1])),
        ]

    stop = {"hacking": {"evaluations": 2}}
    apart = [
        record(0, evaluation=entries((0.2, 0.5), (0.5, 0.8))),
        record(9, evaluation=entries((0.8, 0.5), (0.5, 0.2))),
    ]
    assert told(stop, apart) is None
    together = [
        record(0, evaluation=entries((0.5, 0.5), (0.2, 0.8))),
        record(9, evaluation=entries((0.5, 0.5), (0.8, 0.2))),
    ]
    assert reason(stop, together) == "RewardHacking"


def test_a_single_prompt_proves_nothing() -> None:
    assert told(STOPS["hacking"], evaluated((0.2, 0.9), (0.5, 0.5), (0.9, 0.1), prompts=1)) is None


def test_a_judge_without_any_spread_is_believed() -> None:
    def entry(trained: float, held_out: float) -> EvaluationEntry:
        return scored(ocr=spread(trained, 0.0), reader=spread(held_out, 0.0))

    records = [record(i, evaluation=[entry(0.1 * i, -0.1 * i)]) for i in range(4)]
    assert reason(STOPS["hacking"], records) == "RewardHacking"
    assert told(STOPS["hacking"], [record(i, evaluation=[entry(0.5, 0.5)]) for i in range(4)]) is None


@settings(max_examples=40)
@given(seed=st.integers(0, 10**6), level=st.floats(0.1, 0.9))
def test_the_chance_of_few_prompts_is_no_trick(seed: int, level: float) -> None:
    """A judge that reads each of 64 prompts with the same chance throughout, while the trained reward rises."""
    random, records = Random(seed), []
    for i in range(20):
        hits = sum(random.random() < level for _ in range(64))
        records.append(record(i, evaluation=[scored(64, ocr=spread(0.2 + 0.03 * i), reader=shares(hits, 64))]))
    found = [bool(told(STOPS["hacking"], prefix)) for prefix in prefixes(records)]
    assert sum(found) <= 1, "3 standard errors are exceeded once in some 700 looks"
