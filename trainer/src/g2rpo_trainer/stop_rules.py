"""The rules of spec.training.stop: what a run's records must say for it to end early. Pure.

Who calls this: the loop, after every iteration and before the first of an attempt. A rule sees records only, so
that a run that is taken up again is judged by all of its attempts. What an end consists of is the loop's business.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from g2rpo_api.progress import StoppedReport, StopReason
from g2rpo_api.training import TrainingSpec
from g2rpo_trainer.journal import IterationRecord
from g2rpo_trainer.reporting.history import Measurement, Records, measurements, trained, trained_reward
from g2rpo_trainer.reporting.series import finite_mean
from g2rpo_trainer.reporting.verdict import SPLITS, standard_error

HOUR = 3600.0
CHANCE = 2.0
"""Standard errors by which two means of the rollouts' reward may differ by chance."""


@dataclass(frozen=True)
class Rule:
    """A line of the table."""

    key: str
    """Below spec.training.stop."""
    reason: StopReason
    holds: Callable[[TrainingSpec, Records], str | None]
    """What the records say, for people, once they say that the run is to end; None before, and when it is off."""


def end_of(training: TrainingSpec, records: Records) -> StoppedReport | None:
    """The first rule of the table by which the run ends after these records."""
    for rule in RULES:
        message = rule.holds(training, records)
        if message is not None:
            return StoppedReport(reason=rule.reason, message=f"{message} (spec.training.stop.{rule.key})")
    return None


def _hacking(training: TrainingSpec, records: Records) -> str | None:
    """On the same prompts a trained reward rose and a held-out one fell, each more than chance explains."""
    rule = training.stop.hacking
    evaluated = [record for record in records if record.evaluation]
    if rule is None or len(evaluated) < rule.evaluations:
        return None
    ends = (evaluated[-rule.evaluations], evaluated[-1])
    for split in SPLITS:
        changes = {
            (reward.role, reward.name): change
            for reward in training.rewards
            if (change := _change([measurements([record], split, reward.name) for record in ends]))
        }
        rose = [n for (role, n), c in changes.items() if role == "Train" and c.sureness > rule.standard_errors]
        fell = [n for (role, n), c in changes.items() if role == "HeldOut" and c.sureness < -rule.standard_errors]
        if rose and fell:
            moves = [f"the trained reward {rose[0]} rose {changes['Train', rose[0]]}"]
            moves.append(f"the held-out reward {fell[0]} fell {changes['HeldOut', fell[0]]}")
            return f"from iteration {ends[0].iteration} to {ends[1].iteration} " + " and ".join(moves)
    return None


@dataclass(frozen=True)
class _Change:
    """Two measurements of one reward."""

    first: Measurement
    last: Measurement

    @property
    def sureness(self) -> float:
        """Difference of the means in standard errors; 0 where nothing is known of the error."""
        error = math.hypot(standard_error(self.first), standard_error(self.last))
        difference = self.last.spread.mean - self.first.spread.mean
        if error == 0:
            return math.copysign(math.inf, difference) if difference else 0.0
        return difference / error

    def __str__(self) -> str:
        return f"from {self.first.spread.mean:.3g} to {self.last.spread.mean:.3g}"


def _change(measured: Sequence[Sequence[Measurement]]) -> _Change | None:
    first, last = measured
    return _Change(first[0], last[0]) if first and last else None


def _reward_fell(training: TrainingSpec, records: Records) -> str | None:
    """The mean of now is surely less than what the best one of as many iterations leaves after the share."""
    rule, values = training.stop.collapse, _trained_rewards(records)
    if rule is None or rule.reward_drop == 1 or len(values) < 2 * rule.iterations:
        return None
    now, *before = _windows(values, rule.iterations)
    best = max(before, key=finite_mean)
    left = 1 - math.copysign(rule.reward_drop, finite_mean(best))
    chance = CHANCE * math.hypot(left * _error(best), _error(now))
    if finite_mean(now) + chance >= left * finite_mean(best):
        return None
    means = f"mean {finite_mean(now):.3g} over {rule.iterations} iterations, {finite_mean(best):.3g} at its best"
    return f"the trained reward fell by more than {rule.reward_drop:.0%}: {means}"


def _nothing_to_compare(training: TrainingSpec, records: Records) -> str | None:
    """Most groups score the same whatever was drawn: no advantage, no gradient."""
    rule, recent = training.stop.collapse, trained(records)
    if rule is None or rule.zero_variance == 1 or len(recent) < rule.iterations:
        return None
    recent = recent[-rule.iterations :]
    cells = sum(record.cells for record in recent)
    share = sum(record.zero_variance_groups for record in recent) / cells if cells else 0.0
    if share <= rule.zero_variance:
        return None
    return f"in {share:.0%} of the groups all members scored the same over {rule.iterations} iterations"


def _alike(training: TrainingSpec, records: Records) -> str | None:
    """The pictures of a prompt differ by a fraction only of what they did in the first iterations."""
    rule = training.stop.collapse
    known = [value for record in trained(records) if math.isfinite(value := _diversity(record))]
    if rule is None or rule.diversity_drop == 1 or len(known) < 2 * rule.iterations:
        return None
    start, now = finite_mean(known[: rule.iterations]), finite_mean(known[-rule.iterations :])
    if start - now <= rule.diversity_drop * start:
        return None
    return f"the diversity of a prompt's pictures fell from {start:.3g} to {now:.3g}, by more than the allowed share"


def _diversity(record: IterationRecord) -> float:
    return record.appearance.diversity if record.appearance else math.nan


def _target(training: TrainingSpec, records: Records) -> str | None:
    rule = training.stop.target
    if rule is None:
        return None
    measured = measurements(records, "unseen", rule.reward) or measurements(records, "eval", rule.reward)
    if not measured or measured[-1].spread.mean < rule.value:
        return None
    return f"{rule.reward} is {measured[-1].spread.mean:.4g} on average and was to reach {rule.value:g}"


def _plateau(training: TrainingSpec, records: Records) -> str | None:
    rule, values = training.stop.plateau, _trained_rewards(records)
    if rule is None or len(values) < 2 * rule.iterations:
        return None
    now, before = (finite_mean(values) for values in _windows(values, rule.iterations)[:2])
    if now - before > rule.min_delta:
        return None
    return f"the trained reward's mean is {now:.4g} over {rule.iterations} iterations and was {before:.4g} before"


def _hours(training: TrainingSpec, records: Records) -> str | None:
    limit = training.stop.max_hours
    return _spent(records[-1].spent.seconds, limit, "hours") if limit and records else None


def _gpu_hours(training: TrainingSpec, records: Records) -> str | None:
    limit = training.stop.max_gpu_hours
    return _spent(records[-1].spent.rank_seconds, limit, "GPU-hours") if limit and records else None


def _spent(seconds: float, limit: float, unit: str) -> str | None:
    if seconds < limit * HOUR:
        return None
    return f"all attempts together took {seconds / HOUR:.3g} {unit}, and {limit:g} were allowed"


def _trained_rewards(records: Records) -> list[float]:
    return [value for record in trained(records) if math.isfinite(value := trained_reward(record))]


def _windows(values: Sequence[float], length: int) -> list[Sequence[float]]:
    """Whole windows that do not overlap, from the last one back."""
    ends = range(len(values), length - 1, -length)
    return [values[end - length : end] for end in ends]


def _error(values: Sequence[float]) -> float:
    """Standard error of the mean of two or more values."""
    mean = finite_mean(values)
    return math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1) / len(values))


RULES: tuple[Rule, ...] = (
    Rule("hacking", "RewardHacking", _hacking),
    Rule("collapse.rewardDrop", "Collapse", _reward_fell),
    Rule("collapse.zeroVariance", "Collapse", _nothing_to_compare),
    Rule("collapse.diversityDrop", "Collapse", _alike),
    Rule("target", "Target", _target),
    Rule("plateau", "Plateau", _plateau),
    Rule("maxHours", "Budget", _hours),
    Rule("maxGpuHours", "Budget", _gpu_hours),
)
"""What is worst comes first: it is told when several hold."""
