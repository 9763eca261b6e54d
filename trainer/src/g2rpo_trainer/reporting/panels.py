"""Which charts a report shows, and how to read each.

Who calls this: `report.py`, late, because of matplotlib. How a chart looks is `charts.py`'s business.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from g2rpo_trainer.journal import IterationRecord, PolicyEntry, Role, StepEntry
from g2rpo_trainer.reporting.charts import (
    MAX_POINTS,
    PLACEHOLDERS,
    SERIES,
    Canvas,
    Chart,
    LegendEntry,
    placeholder,
    ramp,
)
from g2rpo_trainer.reporting.history import (
    PHASES,
    Measurement,
    Records,
    attempt_starts,
    images_per_second,
    measurements,
    model_calls_per_second,
    other_seconds,
    reward_curve,
    roles,
    trained,
)
from g2rpo_trainer.reporting.series import Point, bins, evenly, finite_mean
from g2rpo_trainer.reporting.verdict import is_binary, standard_error

MAX_BARS = 40


def reward_charts(records: Records, declared: dict[str, Role]) -> list[Chart]:
    """One chart per reward, then the branches of each trained reward that has any."""
    charts = [_reward(records, name, role) for name, role in roles(records, declared).items()]
    names = [name for name, role in roles(records, declared).items() if role == "train"]
    branches = [_branches(records, name) for name in names if _granularities(records, name)]
    return [chart for chart in charts + branches if chart.legend]


def health_charts(records: Records) -> list[Chart]:
    """What the update does to the policy; empty before the first update."""
    if not any(record.policy for record in records):
        return []
    return [_drift(records), _drift_by_step(records), _clipped(records), _kl(records), _gradient(records),
            *_rate(records), _signal(records), _advantages(records), _useless(records)]  # fmt: skip


def time_charts(records: Records) -> list[Chart]:
    """Where the seconds go, and how fast it is; empty before the first iteration."""
    if not trained(records):
        return []
    return [_seconds(records), _speed(records, "images", "Pictures a second", images_per_second),
            _speed(records, "calls", "Model calls a second", model_calls_per_second)]  # fmt: skip


def _reward(records: Records, name: str, role: Role) -> Chart:
    canvas = canvas_of(f"reward-{name}", records)
    canvas.smooth(reward_curve(records, name), LegendEntry("rollout pictures, smoothed", "s1"), "rollout")
    _evaluations(canvas, measurements(records, "eval", name), LegendEntry("evaluation, fixed prompts", "s2"), "eval")
    unseen = LegendEntry("evaluation, unseen prompts", "s3", "dashed")
    _evaluations(canvas, measurements(records, "unseen", name), unseen, "unseen")
    shown = measurements(records, "eval", name) + measurements(records, "unseen", name)
    if shown and all(is_binary(m.spread) for m in shown):
        canvas.percent()
    if role == "train":
        return canvas.chart(f"{name} (trained)", "What the policy is trained to raise. Bars: ± 1 standard error.")
    note = "Only watched: it should rise with the trained rewards. Bars: ± 1 standard error."
    return canvas.chart(f"{name} (held out)", note)


def _evaluations(canvas: Canvas, measured: list[Measurement], entry: LegendEntry, gid: str) -> None:
    points = [(float(m.iteration), m.spread.mean) for m in measured]
    canvas.points(points, [standard_error(m) for m in measured], entry, gid)


def _branches(records: Records, name: str) -> Chart:
    canvas = canvas_of(f"branches-{name}", records)
    for index, granularity in enumerate(_granularities(records, name)):
        points = [
            (float(record.iteration), entry.branch[granularity].mean)
            for record in records
            for entry in record.rewards
            if entry.name == name and granularity in entry.branch
        ]
        canvas.smooth(points, LegendEntry(f"granularity {granularity}", SERIES[index % len(SERIES)]), f"g{granularity}")
    note = (
        "Mean score of the pictures that the loss learns from, by the stride with which they were finished. "
        "They stay below the rollout curve where random steps and coarse finishes cost quality."
    )
    return canvas.chart(f"{name} by granularity", note)


def _granularities(records: Records, name: str) -> list[str]:
    found = {key for record in records for entry in record.rewards if entry.name == name for key in entry.branch}
    return sorted(found, key=lambda key: (len(key), key))


def _drift(records: Records) -> Chart:
    canvas = canvas_of("ratio", records)
    means, stds = _policy(records, lambda p: p.ratio_mean - 1), _policy(records, lambda p: p.ratio_std)
    some = evenly(len(means), MAX_POINTS)
    x, low, high = zip(*[(means[i][0], means[i][1] - stds[i][1], means[i][1] + stds[i][1]) for i in some], strict=True)
    canvas.axes.fill_between(x, low, high, color=placeholder("s1"), alpha=0.18, linewidth=0, gid="band")
    canvas.line(means, LegendEntry("mean of r − 1", "s1"), "mean")
    canvas.legend.append(LegendEntry("± 1 standard deviation", "s1", "area"))
    note = "r compares how likely the policy finds its own samples now and when it drew them. Near 0 is on-policy."
    return canvas.chart("Importance ratio", note)


def _drift_by_step(records: Records) -> Chart:
    note = "How far each stochastic step's ratio strays from 1; later steps see more updates first."
    return _by_step(records, "drift", "|r − 1| by step", note, lambda step: step.ratio_absdev)


def _signal(records: Records) -> Chart:
    note = "Standard deviation of the reward within a group, by step: no spread, nothing to learn."
    return _by_step(records, "signal", "Reward spread by step", note, lambda step: step.reward_std)


def _by_step(records: Records, name: str, title: str, note: str, value: Callable[[StepEntry], float]) -> Chart:
    """One line per stochastic step, coloured in their order."""
    canvas = canvas_of(name, records)
    numbers = sorted({step.k for record in records if record.policy for step in record.policy.steps})
    for index, k in enumerate(numbers):
        points = [
            (float(record.iteration), value(step))
            for record in records
            for step in (record.policy.steps if record.policy else [])
            if step.k == k
        ]
        canvas.line(points, LegendEntry(f"k = {k}", ramp(index, len(numbers))), f"k{k}", width=1.4)
    return canvas.chart(title, note)


def _clipped(records: Records) -> Chart:
    canvas = canvas_of("clip", records)
    canvas.smooth(_policy(records, lambda p: p.clip_low), LegendEntry("below 1 − ε, bad samples", "s2"), "low")
    canvas.smooth(_policy(records, lambda p: p.clip_high), LegendEntry("above 1 + ε, good samples", "s1"), "high")
    canvas.percent()
    note = "Share of transitions whose gradient the trust region cuts. Well above 20 %: steps are too large."
    return canvas.chart("Clip fraction", note)


def _kl(records: Records) -> Chart:
    canvas = canvas_of("kl", records)
    canvas.line(_policy(records, lambda p: p.approx_kl), LegendEntry("(r − 1) − ln r", "s4"), "kl")
    canvas.from_zero()
    return canvas.chart("Approximate KL per update", "How far one iteration moves the policy, nats per element.")


def _gradient(records: Records) -> Chart:
    canvas = canvas_of("gradient", records)
    canvas.smooth(_policy(records, lambda p: p.grad_norm), LegendEntry("norm before clipping", "s5"), "norm")
    return canvas.chart("Gradient norm", "Mean over the iteration's optimizer steps. A steady climb is a warning.")


def _rate(records: Records) -> list[Chart]:
    """The learning rate, where it changes."""
    points = _policy(records, lambda p: p.learning_rate)
    if len({rate for _, rate in points}) == 1:
        return []
    canvas = canvas_of("rate", records)
    canvas.line(points, LegendEntry("learning rate", "s7"), "rate")
    canvas.from_zero()
    return [canvas.chart("Learning rate", "By optimizer.schedule, after the warm-up.")]


def _advantages(records: Records) -> Chart:
    canvas = canvas_of("advantage", records)
    points = [(float(r.iteration), r.advantage.clipped_ratio) for r in records if r.advantage]
    canvas.smooth(points, LegendEntry("share cut by the clamp", "s6"), "clipped")
    canvas.percent()
    return canvas.chart("Advantages clamped", "Above a few percent, raise advantageClip or aggregate by Mean.")


def _useless(records: Records) -> Chart:
    canvas = canvas_of("incidents", records)
    count = Callable[[IterationRecord], int]
    kinds: tuple[tuple[str, str, str, count], ...] = (
        ("zero", "cells without variance", "s7", lambda r: r.zero_variance_groups),
        ("skipped", "groups skipped: a reward failed", "s6", lambda r: r.skipped_groups),
        ("nonfinite", "steps skipped: not finite", "s4", lambda r: r.policy.nonfinite_steps if r.policy else 0),
    )
    for gid, label, color, value in kinds:
        points = [(float(record.iteration), float(value(record))) for record in trained(records)]
        if gid == "zero" or any(y for _, y in points):
            canvas.line(points, LegendEntry(label, color), gid)
    canvas.counts()
    return canvas.chart(
        "Lost samples",
        "Counts per iteration. A cell is one group at one step and granularity; if its members all score the same, "
        "they teach nothing.",
    )


def _seconds(records: Records) -> Chart:
    """Stacked bars of seconds by phase, each the mean of neighbouring iterations."""
    canvas = canvas_of("seconds", records)
    done = trained(records)
    groups = [[done[i] for i in span] for span in bins(len(done), MAX_BARS)]
    x = [finite_mean([record.iteration for record in group]) for group in groups]
    bottom = [0.0] * len(groups)
    width = 0.85 * max(len(group) for group in groups)
    for index, (label, heights) in enumerate(_stack(groups)):
        if any(height > 0 for height in heights):
            color = SERIES[index]
            canvas.axes.bar(x, heights, width, bottom, color=placeholder(color), linewidth=0)
            canvas.legend.append(LegendEntry(label, color, "area"))
            bottom = [low + height for low, height in zip(bottom, heights, strict=True)]
    return canvas.chart("Seconds per iteration", "Where the wall time of an iteration goes.")


def _stack(groups: list[list[IterationRecord]]) -> Iterator[tuple[str, list[float]]]:
    """Mean seconds of each phase in each group, and what no phase claims."""
    for phase, label in PHASES:
        yield label, [finite_mean([record.seconds.get(phase, 0.0) for record in group]) for group in groups]
    yield "other", [finite_mean([other_seconds(record) for record in group]) for group in groups]


def _speed(records: Records, name: str, title: str, rate: Callable[[Records], float]) -> Chart:
    canvas = canvas_of(f"speed-{name}", records)
    points = [(float(record.iteration), rate([record])) for record in trained(records)]
    canvas.smooth(points, LegendEntry("per second of training, smoothed", "s3"), "rate")
    canvas.from_zero()
    return canvas.chart(title, "Over all ranks; evaluations left out.")


def _policy(records: Records, value: Callable[[PolicyEntry], float]) -> list[Point]:
    return [(float(record.iteration), value(record.policy)) for record in records if record.policy]


def canvas_of(name: str, records: Records) -> Canvas:
    """Empty axes over the iterations, with a line where each later attempt took over."""
    canvas = Canvas.blank(name)
    canvas.axes.set_xlabel("iteration", fontsize=12, color=PLACEHOLDERS["muted"], labelpad=1)
    canvas.attempts(attempt_starts(records), span=records[-1].iteration if records else 0)
    return canvas
