"""The verdict: its noise margin against statistics, its rules as a table, its words."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from g2rpo_api.progress import StoppedReport
from g2rpo_trainer.journal import Spread
from g2rpo_trainer.reporting.history import Measurement
from g2rpo_trainer.reporting.verdict import Change, changes, digits, is_binary, noise_margin, standard_error, verdict

UP, DOWN, SAME = (0.3, 0.6), (0.6, 0.3), (0.4, 0.41)


def measured(values: np.ndarray) -> Measurement:
    spread = Spread(mean=values.mean(), std=values.std(), min=values.min(), max=values.max())
    return Measurement(0, len(values), spread)


@given(st.lists(st.sampled_from([0.0, 1.0]), min_size=1, max_size=60))
def test_hits_and_misses_are_recognised(values: list[float]) -> None:
    assert is_binary(measured(np.array(values)).spread)


@given(st.lists(st.sampled_from([0.0, 0.25, 0.9, 1.0]), min_size=2, max_size=60).filter(lambda v: {0.25, 0.9} & set(v)))
def test_other_scores_between_0_and_1_are_not(values: list[float]) -> None:
    assert not is_binary(measured(np.array(values)).spread)


def test_scores_beyond_1_are_not() -> None:
    assert not is_binary(Spread(mean=2.0, std=0.0, min=2.0, max=2.0))
    assert not is_binary(Spread(mean=0.5, std=0.5, min=-1.0, max=1.0))


def test_margin_of_scores_is_two_standard_errors_of_the_difference() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.uniform(0, 5, 40), rng.uniform(0, 3, 60)
    expected = 2 * math.sqrt(a.var(ddof=1) / 40 + b.var(ddof=1) / 60)
    assert noise_margin(measured(a), measured(b)) == pytest.approx(expected)
    assert standard_error(measured(a)) == pytest.approx(a.std(ddof=1) / math.sqrt(40))


def test_margin_of_shares_is_that_of_agresti_and_caffo(make: Any) -> None:
    first, last = Measurement(0, 50, make.hits(5, 50)), Measurement(9, 70, make.hits(20, 70))
    p, q = 6 / 52, 21 / 72
    assert noise_margin(first, last) == pytest.approx(2 * math.sqrt(p * (1 - p) / 52 + q * (1 - q) / 72))


def test_no_hit_at_all_has_a_margin_too(make: Any) -> None:
    nothing = Measurement(0, 64, make.hits(0, 64))
    one = Measurement(1, 64, make.hits(1, 64))
    assert noise_margin(nothing, one) > 1 / 64
    assert standard_error(nothing) > 0


def test_a_single_prompt_says_nothing() -> None:
    one = Measurement(0, 1, Spread(mean=0.3, std=0.0, min=0.3, max=0.3))
    assert noise_margin(one, one) == math.inf


@pytest.mark.parametrize("draw", [
    lambda rng, n: rng.beta(2, 3, n),
    lambda rng, n: (rng.random(n) < 0.15).astype(float),
])  # fmt: skip
def test_chance_exceeds_the_margin_one_time_in_twenty(draw: Any) -> None:
    rng = np.random.default_rng(11)
    pairs = [(measured(draw(rng, 64)), measured(draw(rng, 64))) for _ in range(2000)]
    exceeded = np.mean([abs(a.spread.mean - b.spread.mean) > noise_margin(a, b) for a, b in pairs])
    assert 0.025 < exceeded < 0.065


def table(make: Any, **series: tuple[float, float]) -> list[Any]:
    """Two evaluations on 80 prompts; a name ending in _unseen goes to the unseen split."""
    records = []
    for index, iteration in enumerate((0, 10)):
        seen = {name: make.spread(values[index]) for name, values in series.items() if not name.endswith("_unseen")}
        unseen = {name[:-7]: make.spread(values[index]) for name, values in series.items() if name.endswith("_unseen")}
        entries = [make.evaluation(80, **seen)] + ([make.evaluation(80, unseen=True, **unseen)] if unseen else [])
        names = [name for name in seen if not name.startswith("held")]
        rewards = [make.reward(name, 0.5, {}) for name in names] if iteration else []
        records.append(make.record(iteration, evaluation=entries, rewards=rewards))
    return records


@pytest.mark.parametrize(("series", "level", "words"), [
    ({"a": UP, "held": UP}, "good", "held-out judge agrees"),
    ({"a": UP, "held": SAME, "held_unseen": UP}, "good", "held-out judge agrees"),
    ({"a": UP, "held": DOWN}, "warning", "hacking"),
    ({"a": UP, "held": UP, "held2": DOWN}, "warning", "hacking"),
    ({"a": UP, "held": UP, "held_unseen": DOWN}, "warning", "hacking"),
    ({"a": UP, "b": DOWN, "held": DOWN}, "warning", "hacking"),
    ({"a": UP, "b": DOWN, "held": UP}, "warning", "others fell"),
    ({"a": SAME, "held": DOWN}, "warning", "held-out reward fell"),
    ({"a": UP, "a_unseen": DOWN, "held": UP}, "warning", "training prompts only"),
    ({"a": UP, "held": SAME}, "unclear", "did not follow"),
    ({"a": UP}, "unclear", "nothing independent"),
    ({"a": UP, "a_unseen": UP}, "unclear", "nothing independent"),
    ({"a": SAME, "held": UP}, "unclear", "No clear change"),
    ({"a": SAME}, "unclear", "No clear change"),
    ({"a": DOWN, "held": UP}, "bad", "trained reward fell"),
    ({"a": DOWN, "held": DOWN}, "bad", "trained reward fell"),
    ({"a": DOWN, "b": SAME}, "bad", "trained reward fell"),
])  # fmt: skip
def test_rules(make: Any, series: dict[str, tuple[float, float]], level: str, words: str) -> None:
    found = verdict(table(make, **series))
    assert found.level == level
    assert words in found.title


def test_a_verdict_waits_for_two_evaluations(make: Any) -> None:
    first = make.record(0, evaluation=[make.evaluation(ocr=make.spread(0.3))])
    assert "one so far" in verdict([first]).text
    assert verdict([first, make.record(1)]).level == "pending"
    assert "none so far" in verdict([make.record(1)]).text
    assert verdict([]).level == "pending"


@given(st.floats(0.05, 0.95), st.floats(0.05, 0.95), st.integers(2, 500))
def test_the_other_way_round_is_the_other_direction(first: float, last: float, prompts: int) -> None:
    a, b = (Measurement(0, prompts, Spread(mean=mean, std=0.2, min=0, max=1)) for mean in (first, last))
    there, back = Change("a", "train", "eval", a, b), Change("a", "train", "eval", b, a)
    opposite = {"rose": "fell", "fell": "rose", "level": "level"}
    assert back.direction == opposite[there.direction]
    assert back.margin == there.margin


@given(st.floats(0.0, 0.2), st.integers(2, 400))
def test_more_prompts_make_a_smaller_margin(std: float, prompts: int) -> None:
    def margin(count: int) -> float:
        one = Measurement(0, count, Spread(mean=0.5, std=std, min=0, max=1))
        return noise_margin(one, one)

    assert margin(4 * prompts) <= margin(prompts)


def test_a_change_of_exactly_nothing_is_no_change() -> None:
    same = Measurement(0, 50, Spread(mean=7.0, std=0.0, min=7.0, max=7.0))
    assert Change("a", "train", "eval", same, same).direction == "level"


def ends(make: Any, prompts: int, first: Spread, last: Spread) -> list[Any]:
    """Two evaluations of one reward `a`."""
    pairs = [(0, first), (9, last)]
    return [make.record(i, rewards=[], evaluation=[make.evaluation(prompts, a=spread)]) for i, spread in pairs]


def test_the_same_difference_on_fewer_prompts_is_noise(make: Any) -> None:
    first, last = make.spread(0.4, 0.3), make.spread(0.5, 0.3)
    assert verdict(ends(make, 200, first, last)).title == "The trained reward rose; nothing independent was watched"
    assert verdict(ends(make, 20, first, last)).title == "No clear change"


def test_words_carry_the_numbers(make: Any) -> None:
    records = make.rising_run()
    text = verdict(records).text
    assert "The trained reward ocr rose by 0.40 (0.30 → 0.70)." in text
    assert "The held-out reward reader rose by 30 points (10 % → 40 %)." in text
    assert "The trained reward ocr on unseen prompts rose by 0.30 (0.20 → 0.50)." in text
    assert text.endswith("No sign of reward hacking.")


def test_small_scales_get_the_digits_that_they_need(make: Any) -> None:
    records = ends(make, 400, make.spread(0.2810, 0.01), make.spread(0.2891, 0.01))
    assert "rose by 0.0081 (0.2810 → 0.2891)" in verdict(records).text


def test_a_peak_that_was_left_behind_is_named(make: Any) -> None:
    means = [(0, 8), (10, 48), (20, 26)]
    records = [
        make.record(i, evaluation=[make.evaluation(80, ocr=make.spread(0.3 + i / 50), reader=make.hits(count, 80))])
        for i, count in means
    ]
    found = verdict(records, {"ocr": "train", "reader": "heldout"})
    assert found.level == "good"
    assert "was at 60 % at iteration 10 and fell to 32 % since" in found.text


def test_declared_roles_count(make: Any) -> None:
    records = [make.record(i, evaluation=[make.evaluation(80, a=make.spread(0.3 + i / 50))]) for i in (0, 10)]
    assert [change.role for change in changes(records, {"a": "heldout"})] == ["heldout"]


@pytest.mark.parametrize(("difference", "expected"), [
    (0.31, 2), (-0.31, 2), (0.0081, 4), (35.0, 0), (1.5, 1), (0.1, 2), (1e-12, 6), (0.0, 2),
])  # fmt: skip
def test_digits_show_two_of_the_difference(difference: float, expected: int) -> None:
    assert digits(difference) == expected


@pytest.mark.parametrize(("records", "level"), [(41, "good"), (1, "pending")])
def test_an_early_end_is_named_with_its_reason_and_changes_nothing_else(make: Any, records: int, level: str) -> None:
    run = make.rising_run()[:records]
    whole = verdict(run)
    run[-1] = run[-1].model_copy(update={"stopped": StoppedReport(reason="Requested", message="No more money.")})
    early = verdict(run)
    assert (
        early.text == f"Training ended early after iteration {records - 1}, as requested: No more money. {whole.text}"
    )
    assert (early.level, early.title) == (whole.level, whole.title)
    assert early.level == level


def test_a_run_that_went_on_after_an_early_end_did_not_end_early(make: Any) -> None:
    run = make.rising_run()
    whole = verdict(run)
    run[7] = run[7].model_copy(update={"stopped": StoppedReport(reason="Requested", message="enough")})
    assert verdict(run) == whole
