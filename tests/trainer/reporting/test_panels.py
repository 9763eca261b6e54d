"""The charts of a report: the numbers of the records, at the right height, in the right chart."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest

from g2rpo_trainer.journal import AdvantageEntry
from g2rpo_trainer.reporting.charts import HEIGHT, MARGINS, Chart
from g2rpo_trainer.reporting.panels import health_charts, reward_charts, time_charts
from g2rpo_trainer.reporting.picture_charts import appearance_charts

DECLARED = {"ocr": "train", "reader": "heldout"}


def by_name(charts: list[Chart]) -> dict[str, Chart]:
    return {chart.name: chart for chart in charts}


def group(chart: Chart, gid: str) -> str:
    """The markup of one curve."""
    start = chart.svg.index(f'id="{chart.name}-{gid}"')
    depth, end = 1, start
    for tag in re.finditer(r"<g\b|</g>", chart.svg[start:]):
        depth += 1 if tag.group() == "<g" else -1
        end = start + tag.start()
        if depth == 0:
            break
    return chart.svg[start:end]


def corners(chart: Chart, gid: str) -> list[tuple[float, float]]:
    path = re.search(r'<path d="([^"]+)"', group(chart, gid))
    assert path is not None
    return [(float(x), float(y)) for x, y in re.findall(r"[ML] ([\d.-]+) ([\d.-]+)", path.group(1))]


def markers(chart: Chart, gid: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r'<use [^>]*x="([\d.-]+)" y="([\d.-]+)"', group(chart, gid))]


def same_shape(units: list[float], values: list[float]) -> bool:
    """Whether the units are one linear map of the values, read upwards."""
    low, high = values.index(min(values)), values.index(max(values))
    scale = (units[high] - units[low]) / (values[high] - values[low])
    return scale < 0 and all(
        unit == pytest.approx(units[low] + scale * (value - values[low]), abs=2e-3)
        for unit, value in zip(units, values, strict=True)
    )


def test_every_reward_has_its_chart_and_trained_ones_their_branches(make: Any) -> None:
    charts = reward_charts(make.rising_run(), DECLARED)
    assert [chart.name for chart in charts] == ["reward-ocr", "reward-reader", "branches-ocr"]
    assert [chart.title for chart in charts] == ["ocr (trained)", "reader (held out)", "ocr by granularity"]


def test_legends_name_what_is_drawn(make: Any) -> None:
    charts = by_name(reward_charts(make.rising_run(), DECLARED))
    assert [entry.label for entry in charts["reward-ocr"].legend] == [
        "rollout pictures, smoothed", "evaluation, fixed prompts", "evaluation, unseen prompts",
    ]  # fmt: skip
    assert [entry.label for entry in charts["reward-reader"].legend] == [
        "evaluation, fixed prompts", "evaluation, unseen prompts",
    ]  # fmt: skip
    assert [entry.label for entry in charts["branches-ocr"].legend] == ["granularity 1", "granularity 2"]


def test_evaluations_are_drawn_at_their_scores(make: Any) -> None:
    records = make.rising_run()
    evaluated = [record for record in records if record.evaluation]
    chart = by_name(reward_charts(records, DECLARED))["reward-reader"]
    units = [y for gid in ("eval", "unseen") for _, y in markers(chart, gid)]
    values = [r.evaluation[split].rewards["reader"].mean for split in (0, 1) for r in evaluated]
    assert same_shape(units, values)


def test_hits_and_misses_have_percentages_and_scores_do_not(make: Any) -> None:
    charts = by_name(reward_charts(make.rising_run(), DECLARED))
    assert re.search(r">20 %</text>", charts["reward-reader"].svg)
    assert "%" not in charts["reward-ocr"].svg


def test_a_smoothed_straight_rise_is_that_rise(make: Any) -> None:
    records = make.rising_run()
    chart = by_name(reward_charts(records, DECLARED))["branches-ocr"]
    first, second = (dict(markers(chart, f"g{stride}-raw")) for stride in (1, 2))
    assert len(first) == 40
    for gid, raw in (("g1", first), ("g2", second)):
        (x0, y0), *_, (x1, y1) = corners(chart, gid)
        assert (raw[x0], raw[x1]) == (pytest.approx(y0, abs=1e-3), pytest.approx(y1, abs=1e-3))


def test_granularities_are_in_the_order_of_numbers(make: Any) -> None:
    branch = {"10": 0.1, "2": 0.2, "1": 0.3}
    records = [make.record(i, rewards=[make.reward("ocr", None, branch)]) for i in (1, 2)]
    labels = [entry.label for entry in by_name(reward_charts(records, {}))["branches-ocr"].legend]
    assert labels == ["granularity 1", "granularity 2", "granularity 10"]


def test_later_attempts_are_marked_on_every_chart(make: Any) -> None:
    records = make.rising_run()
    charts = [*reward_charts(records, DECLARED), *health_charts(records), *time_charts(records)]
    for chart in charts:
        assert f'id="{chart.name}-attempt-2"' in chart.svg
        assert ">attempt 2</text>" in chart.svg


def test_an_attempt_begins_between_two_iterations(make: Any) -> None:
    records = make.rising_run()
    chart = by_name(reward_charts(records, DECLARED))["branches-ocr"]
    at = {round(x): None for x, _ in markers(chart, "g1-raw")}
    line = corners(chart, "attempt-2")[0][0]
    before, after = sorted(at)[23], sorted(at)[24]
    assert before < line < after


def test_health_needs_an_update(make: Any) -> None:
    assert health_charts([make.record(0)]) == []
    names = [chart.name for chart in health_charts([make.record(0), make.record(1)])]
    assert names == ["ratio", "drift", "clip", "kl", "gradient", "signal", "advantage", "incidents"]


def test_each_step_has_a_line_at_its_drift(make: Any) -> None:
    records = [make.record(i, policy=make.policy(k=3)) for i in range(1, 9)]
    chart = by_name(health_charts(records))["drift"]
    assert [entry.label for entry in chart.legend] == ["k = 0", "k = 1", "k = 2"]
    assert same_shape([corners(chart, f"k{k}")[0][1] for k in range(3)], [0.001, 0.004, 0.009])
    signal = by_name(health_charts(records))["signal"]
    assert same_shape([corners(signal, f"k{k}")[0][1] for k in range(3)], [0.1, 1.1, 2.1])


@pytest.mark.parametrize(("chart", "gid", "field"), [
    ("clip", "low-raw", "clip_low"), ("clip", "high-raw", "clip_high"), ("gradient", "norm-raw", "grad_norm"),
])  # fmt: skip
def test_health_is_drawn_at_its_numbers(make: Any, chart: str, gid: str, field: str) -> None:
    values = [0.1, 0.4, 0.2, 0.3]
    records = [make.record(i, policy=make.policy(**{field: value})) for i, value in enumerate(values, 1)]
    assert same_shape([y for _, y in markers(by_name(health_charts(records))[chart], gid)], values)


def test_the_divergence_is_a_line_above_zero(make: Any) -> None:
    values = [1e-6, 4e-6, 2e-6]
    records = [make.record(i, policy=make.policy(approx_kl=value)) for i, value in enumerate(values, 1)]
    chart = by_name(health_charts(records))["kl"]
    units = [y for _, y in corners(chart, "kl")]
    assert same_shape(units, values)
    ground = HEIGHT - MARGINS[2]
    assert (ground - units[1]) / (ground - units[0]) == pytest.approx(4, rel=1e-3)


def test_clamped_advantages_and_flat_cells_are_drawn(make: Any) -> None:
    clipped, flat = [0.0, 0.04, 0.01], [3, 0, 6]
    records = [
        make.record(
            i, zero_variance_groups=cells, advantage=AdvantageEntry(mean=0, std=1, absmax=5, clipped_ratio=share)
        )
        for i, (share, cells) in enumerate(zip(clipped, flat, strict=True), 1)
    ]
    charts = by_name(health_charts(records))
    assert same_shape([y for _, y in markers(charts["advantage"], "clipped-raw")], clipped)
    assert same_shape([y for _, y in corners(charts["incidents"], "zero")], [float(cells) for cells in flat])


def test_a_lost_gradient_leaves_a_gap(make: Any) -> None:
    values = [0.1, math.nan, 0.3]
    records = [make.record(i, policy=make.policy(grad_norm=value)) for i, value in enumerate(values, 1)]
    assert len(markers(by_name(health_charts(records))["gradient"], "norm-raw")) == 2


def test_a_learning_rate_is_drawn_where_it_changes(make: Any) -> None:
    rates = [1e-4, 2e-4, 1.5e-4, 0.5e-4]
    records = [make.record(i, policy=make.policy(learning_rate=rate)) for i, rate in enumerate(rates, 1)]
    chart = by_name(health_charts(records))["rate"]
    assert same_shape([y for _, y in corners(chart, "rate")], rates)
    assert "rate" not in by_name(health_charts([make.record(1), make.record(2)]))


def test_error_bars_are_one_standard_error_long(make: Any) -> None:
    entries = {0: make.spread(0.2, 0.3), 10: make.spread(0.6, 0.3)}
    records = [make.record(i, evaluation=[make.evaluation(37, ocr=spread)]) for i, spread in entries.items()]
    chart = reward_charts(records, {})[0]
    points = markers(chart, "eval")
    per_unit = (points[0][1] - points[1][1]) / (0.6 - 0.2)
    x = f"{points[0][0]:g}"
    bars = re.findall(rf"M {x}[\d.]* ([\d.]+) ?\nL {x}[\d.]* ([\d.]+)", chart.svg)
    lengths = [abs(float(a) - float(b)) / per_unit for a, b in bars]
    assert any(length == pytest.approx(2 * 0.3 / 6, rel=1e-3) for length in lengths)


def test_ratios_are_drawn_as_distance_from_1_with_their_spread(make: Any) -> None:
    means = [1.0, 1.002, 0.999, 1.001]
    records = [make.record(i, policy=make.policy(ratio_mean=mean, ratio_std=0.003)) for i, mean in enumerate(means, 1)]
    chart = by_name(health_charts(records))["ratio"]
    line = [y for _, y in corners(chart, "mean")]
    outline = re.search(r' d="([^"]+)"', group(chart, "band"))
    assert outline is not None
    (_, shift), *_ = markers(chart, "band")
    band = [shift + float(y) for y in re.findall(r"[ML] [\d.-]+ ([\d.-]+)", outline.group(1))]
    assert same_shape([*line, min(band), max(band)], [mean - 1 for mean in means] + [0.002 + 0.003, -0.001 - 0.003])


@pytest.mark.parametrize(("changes", "labels"), [
    ({}, ["cells without variance"]),
    ({"skipped_groups": 2}, ["cells without variance", "groups skipped: a reward failed"]),
])  # fmt: skip
def test_incidents_are_listed_when_there_are_any(make: Any, changes: dict[str, int], labels: list[str]) -> None:
    chart = by_name(health_charts([make.record(1), make.record(2, **changes)]))["incidents"]
    assert [entry.label for entry in chart.legend] == labels


def test_skipped_steps_are_incidents(make: Any) -> None:
    chart = by_name(health_charts([make.record(1), make.record(2, policy=make.policy(nonfinite_steps=1))]))["incidents"]
    assert chart.legend[-1].label == "steps skipped: not finite"


def bars(chart: Chart) -> list[tuple[float, float]]:
    """Lower and upper end of the bars in the chart, in units above its ground, in the order of drawing."""
    ground = HEIGHT - MARGINS[2]
    outlines = re.findall(r'<path d="M ([^"]+) \nz\n"|<path d="M ([^"]+)z\n"', chart.svg)
    ends = []
    for outline in outlines:
        y = [float(corner.split()[1]) for corner in "".join(outline).strip().split("\nL ")]
        ends.append((ground - max(y), ground - min(y)))
    return [(low, high) for low, high in ends if 0 < high - low < 150]


def test_bars_are_the_seconds_of_the_phases_on_top_of_each_other(make: Any) -> None:
    seconds = [{"rollout": 1.0, "reward": 0.5, "train": 0.25}, {"rollout": 2.0, "reward": 0.5, "eval": 3.0}]
    records = [make.record(i, seconds=s, step_seconds=sum(s.values()) + 0.25) for i, s in enumerate(seconds, 1)]
    chart = by_name(time_charts(records))["seconds"]
    assert [entry.label for entry in chart.legend] == ["rollout (model)", "reward", "update", "evaluation", "other"]
    drawn = bars(chart)
    per_second = drawn[0][1]
    expected = [(0, 1), (0, 2), (1, 1.5), (2, 2.5), (1.5, 1.75), (2.5, 5.5), (1.75, 2), (5.5, 5.75)]
    for (low, high), (begin, end) in zip(drawn, expected, strict=True):
        assert (low / per_second, high / per_second) == (pytest.approx(begin, abs=1e-3), pytest.approx(end, abs=1e-3))


def test_bars_of_a_long_run_are_means_of_neighbours(make: Any) -> None:
    records = [make.record(i, seconds={"rollout": float(i % 2)}, step_seconds=float(i % 2)) for i in range(1, 81)]
    drawn = bars(by_name(time_charts(records))["seconds"])
    assert len(drawn) == 40
    assert len({round(high - low, 3) for low, high in drawn}) == 1


def test_speed_charts_need_an_iteration(make: Any) -> None:
    assert time_charts([make.record(0)]) == []
    charts = by_name(time_charts([make.record(1, images=200), make.record(2, images=300), make.record(3, images=400)]))
    assert same_shape([y for _, y in markers(charts["speed-images"], "rate-raw")], [200 / 2, 300 / 2, 400 / 2])
    assert "speed-calls" in charts


def test_a_run_without_any_score_has_no_reward_chart(make: Any) -> None:
    assert reward_charts([make.record(0)], {"ocr": "train"}) == []


STATISTICS = ("saturation", "brightness", "contrast", "lattice", "diversity")


def test_every_statistic_of_the_pictures_has_its_chart(make: Any) -> None:
    charts = appearance_charts(make.rising_run())
    assert [chart.name for chart in charts] == [f"picture-{name}" for name in STATISTICS]
    labels = ["rollout pictures, smoothed", "evaluation, fixed prompts", "evaluation, unseen prompts"]
    assert all([entry.label for entry in chart.legend] == labels for chart in charts)


@pytest.mark.parametrize("statistic", STATISTICS)
def test_pictures_are_drawn_at_their_statistics(make: Any, statistic: str) -> None:
    levels = {0: 0.2, 10: 0.9, 20: 0.4}
    records = [
        make.record(i, evaluation=[make.evaluation().model_copy(update={"appearance": make.looks(level)})])
        for i, level in levels.items()
    ]
    chart = by_name(appearance_charts(records))[f"picture-{statistic}"]
    values = [getattr(make.looks(level), statistic) for level in levels.values()]
    assert same_shape([y for _, y in markers(chart, "eval")], values)


def test_a_diversity_that_is_not_known_is_not_drawn(make: Any) -> None:
    alone = make.looks(0.5).model_copy(update={"diversity": math.nan})
    entry = make.evaluation().model_copy(update={"appearance": alone})
    charts = by_name(appearance_charts([make.record(0, evaluation=[entry]), make.record(1, appearance=alone)]))
    assert set(charts) == {f"picture-{name}" for name in STATISTICS[:-1]}


def test_a_diary_without_statistics_has_no_such_chart(make: Any) -> None:
    assert appearance_charts([make.record(1, appearance=None)]) == []
