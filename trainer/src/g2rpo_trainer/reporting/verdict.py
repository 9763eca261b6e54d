"""What a run's evaluations say, in plain language. Pure.

Who calls this: the report. The rules compare the first evaluation with the last one, reward by reward,
and call a change clear when it exceeds two standard errors of the difference.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from g2rpo_trainer.journal import Role, Spread
from g2rpo_trainer.reporting.history import Measurement, Records, Split, measurements, roles

Level = Literal["good", "unclear", "warning", "bad", "pending"]
Direction = Literal["rose", "fell", "level"]
SPLITS: tuple[Split, ...] = ("eval", "unseen")
STANDARD_ERRORS = 2.0
"""A difference of this many standard errors is no chance, 95 times in 100."""


@dataclass(frozen=True)
class Change:
    """One reward on one split: its first and its last evaluation."""

    reward: str
    role: Role
    split: Split
    first: Measurement
    last: Measurement

    @property
    def difference(self) -> float:
        """Last mean minus first mean."""
        return self.last.spread.mean - self.first.spread.mean

    @property
    def margin(self) -> float:
        """How large a difference chance alone may make; infinite where a single prompt was evaluated."""
        return noise_margin(self.first, self.last)

    @property
    def direction(self) -> Direction:
        """Whether the difference exceeds the margin."""
        if abs(self.difference) <= self.margin:
            return "level"
        return "rose" if self.difference > 0 else "fell"

    @property
    def shares(self) -> bool:
        """Whether the scores are hits and misses, so that means are shares of pictures."""
        return is_binary(self.first.spread) and is_binary(self.last.spread)


@dataclass(frozen=True)
class Verdict:
    """What to tell someone who asks how the run went."""

    level: Level
    title: str
    """A few words."""
    text: str
    """Sentences with the numbers behind it."""


def verdict(records: Records, declared: Mapping[str, Role] | None = None) -> Verdict:
    """The first rule that holds, with the changes that make it hold."""
    found, ended = changes(records, declared), _early_end(records)
    if not found:
        return Verdict("pending", "No verdict yet", " ".join([*ended, _missing(records)]))
    level, title, advice = _rule(found)
    text = " ".join([*ended, *_sentences(found), *_past_peaks(records, found), advice])
    return Verdict(level, title, text.strip())


def changes(records: Records, declared: Mapping[str, Role] | None = None) -> list[Change]:
    """Every reward and split that was evaluated at least twice, trained rewards first."""
    known = roles(records, declared)
    return [
        Change(name, role, split, series[0], series[-1])
        for name, role in known.items()
        for split in SPLITS
        if len(series := measurements(records, split, name)) > 1
    ]


def is_binary(spread: Spread) -> bool:
    """Whether scores within [0, 1] are all 0 or 1: only then is their variance p (1 - p)."""
    within = spread.min >= 0 and spread.max <= 1
    return within and math.isclose(spread.std**2, spread.mean * (1 - spread.mean), rel_tol=1e-6, abs_tol=1e-9)


def noise_margin(first: Measurement, last: Measurement) -> float:
    """Two standard errors of the difference of two means.

    Hits and misses: one hit and one miss are added to each sample (Agresti and Caffo 2000), so that 0
    of n has an error, too. Both evaluations use the same prompts and noise, which makes the true error
    smaller: the margin is on the safe side.
    """
    shares = is_binary(first.spread) and is_binary(last.spread)
    variances = [_share_variance(m) if shares else _mean_variance(m) for m in (first, last)]
    return STANDARD_ERRORS * math.sqrt(sum(variances))


def standard_error(measured: Measurement) -> float:
    """Standard error of a mean; infinite where a single prompt was evaluated."""
    return math.sqrt(_share_variance(measured) if is_binary(measured.spread) else _mean_variance(measured))


def _share_variance(measured: Measurement) -> float:
    count = measured.prompts + 2
    p = (measured.spread.mean * measured.prompts + 1) / count
    return p * (1 - p) / count


def _mean_variance(measured: Measurement) -> float:
    """Variance of the mean; the spread's std has ddof 0."""
    return measured.spread.std**2 / (measured.prompts - 1) if measured.prompts > 1 else math.inf


def _rule(found: Sequence[Change]) -> tuple[Level, str, str]:
    """Level, title and advice: an ordered table, the first match counts."""
    at_work = _directions(found, "train", ("eval",))
    unseen = _directions(found, "train", ("unseen",))
    judges = _directions(found, "heldout", SPLITS)
    rose, fell = "rose" in at_work, "fell" in at_work
    table: tuple[tuple[bool, Level, str, str], ...] = (
        (fell and not rose, "bad", "The trained reward fell", _COLLAPSED),
        (rose and "fell" in judges, "warning", "Reward hacking suspected", _HACKED),
        (fell, "warning", "Some trained rewards rose, others fell", _TRADED),
        ("fell" in judges, "warning", "A held-out reward fell", _HARMED),
        (rose and "fell" in unseen, "warning", "Better on the training prompts only", _OVERFIT),
        (rose and "rose" in judges, "good", "It worked, and the held-out judge agrees", "No sign of reward hacking."),
        (rose and bool(judges), "unclear", "The trained reward rose; the held-out one did not follow", _UNCONFIRMED),
        (rose, "unclear", "The trained reward rose; nothing independent was watched", _UNWATCHED),
        (True, "unclear", "No clear change", _UNCHANGED),
    )
    return next((level, title, advice) for holds, level, title, advice in table if holds)


_COLLAPSED = "Lower the learning rate or the gradient clip, and look at the clip fraction and |r - 1| below."
_HACKED = (
    "The policy may exploit weaknesses of the reward that it is trained on: look at the pictures, "
    "and take a checkpoint from before the held-out reward fell."
)
_TRADED = "The rewards are in conflict: change their weights."
_HARMED = "What is trained does not carry over to what is watched: look at the pictures before going on."
_OVERFIT = "The policy learns these prompts by heart: train on more of them."
_UNCONFIRMED = (
    "Either the evaluation is too small to show it (more prompts would tell) or the gain is specific to the "
    "trained reward: look at the pictures."
)
_UNWATCHED = "Add a reward with role HeldOut to learn whether the pictures got better or only the score."
_UNCHANGED = "Train longer, raise the learning rate, or evaluate on more prompts."


def _directions(found: Sequence[Change], role: Role, splits: Sequence[Split]) -> set[Direction]:
    return {change.direction for change in found if change.role == role and change.split in splits}


def _missing(records: Records) -> str:
    evaluated = sum(bool(record.evaluation) for record in records)
    so_far = "one so far" if evaluated == 1 else "none so far"
    return f"A verdict compares two evaluations with scores of the same reward; there is {so_far}."


def _early_end(records: Records) -> list[str]:
    """A sentence where the run ended before its last iteration."""
    stopped = records[-1].stopped if records else None
    if stopped is None:
        return []
    why = "as requested" if stopped.reason == "Requested" else stopped.reason
    return [f"Training ended early after iteration {records[-1].iteration}, {why}: {stopped.message.rstrip('.')}."]


def _sentences(found: Sequence[Change]) -> list[str]:
    """One sentence per change, trained ones first."""
    return [f"{_subject(change)} {_movement(change)}." for change in found]


def _subject(change: Change) -> str:
    role = "trained" if change.role == "train" else "held-out"
    where = " on unseen prompts" if change.split == "unseen" else ""
    return f"The {role} reward {change.reward}{where}"


def _movement(change: Change) -> str:
    before, after = format_pair(change)
    if change.direction == "level":
        return f"did not change clearly ({before} → {after})"
    return f"{change.direction} by {format_distance(abs(change.difference), change)} ({before} → {after})"


def format_pair(change: Change) -> tuple[str, str]:
    """Both means, with as many digits as their difference deserves."""
    return format_value(change.first.spread.mean, change), format_value(change.last.spread.mean, change)


def format_value(value: float, change: Change) -> str:
    """A score: a percentage for hits and misses, else with two digits of what changed."""
    if change.shares:
        return f"{100 * value:.0f} %"
    return f"{value:.{digits(change.difference)}f}"


def format_difference(change: Change) -> str:
    """Last minus first mean with its sign; of percentages, the points."""
    sign = "−" if change.difference < 0 else "+"
    return f"{sign}{format_distance(abs(change.difference), change)}"


def format_distance(value: float, change: Change) -> str:
    """A difference between scores, without sign; of percentages, the points."""
    return f"{100 * value:.0f} points" if change.shares else format_value(value, change)


def digits(difference: float) -> int:
    """Decimals that show two digits of a difference: 2 for 0.31, 4 for 0.0081, 0 for 35; 2 for none."""
    if difference == 0:
        return 2
    return min(6, max(0, 1 - math.floor(math.log10(abs(difference)))))


def _past_peaks(records: Records, found: Sequence[Change]) -> list[str]:
    """Rewards whose best evaluation lies clearly above the last one."""
    notes = []
    for change in found:
        best = max(measurements(records, change.split, change.reward), key=lambda m: m.spread.mean)
        back = Change(change.reward, change.role, change.split, best, change.last)
        if back.direction == "fell" and best.iteration != change.first.iteration:
            before, after = format_pair(back)
            notes.append(f"{_subject(back)} was at {before} at iteration {best.iteration} and fell to {after} since.")
    return notes
