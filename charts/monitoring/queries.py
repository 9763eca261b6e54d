"""PromQL that all dashboards say alike: which series are meant, and what is aggregated away.

Who calls this: the modules of the dashboards.
A restart begins new pods, so `pod` and `attempt` differ before and after it. Every expression here aggregates them
away; what is left is one series that goes on.
"""

from __future__ import annotations

from dataclasses import dataclass

TRAINER = "g2rpo_trainer_"
OPERATOR = "g2rpo_operator_"
RUN = ("namespace", "job_name")
"""Labels that name a run. The scrape sets both; see docs/monitor.md."""


@dataclass(frozen=True)
class Query:
    """An expression, and what its series are called in the legend."""

    expr: str
    legend: str


def matchers(labels: dict[str, str]) -> str:
    """Label matchers; a value that begins with ~ is a regular expression."""
    return ",".join(
        f'{name}=~"{value[1:]}"' if value.startswith("~") else f'{name}="{value}"' for name, value in labels.items()
    )


def trainer(name: str, **labels: str) -> str:
    """Series of the chosen runs."""
    chosen = {"namespace": "~$namespace", "job_name": "~$job_name"}
    return f"{TRAINER}{name}{{{matchers(chosen | labels)}}}"


def job(name: str, **labels: str) -> str:
    """Series that the operator has of the chosen jobs."""
    chosen = {"namespace": "~$namespace", "name": "~$job_name"}
    return f"g2rpo_job_{name}{{{matchers(chosen | labels)}}}"


def over(how: str, by: tuple[str, ...], expr: str) -> str:
    """An aggregation."""
    return f"{how} by ({', '.join(by)}) ({expr})"


def latest(name: str, *by: str, **labels: str) -> str:
    """A gauge per run, and per `by`. Two attempts overlap for one scrape at most."""
    return over("max", (*RUN, *by), trainer(name, **labels))


def rate(name: str, *by: str, **labels: str) -> str:
    """How fast a counter grows, per run and per `by`. The rates of attempts add up, since only one runs."""
    return over("sum", (*RUN, *by), f"rate({trainer(name, **labels)}[$__rate_interval])")


def grown(name: str, *by: str, window: str = "$__range", **labels: str) -> str:
    """By how much a counter grew in the time shown, or another, per run and per `by`."""
    return over("sum", (*RUN, *by), f"increase({trainer(name, **labels)}[{window}])")


def per_second(name: str, *by: str, **labels: str) -> str:
    """A counter of what iterations do, over the seconds that they took; nothing where none ended.

    Counters of iterations jump when one ends: by the clock they would grow by nothing, then by a lot.
    """
    return f"{rate(name, *by, **labels)} / on ({', '.join(RUN)}) group_left () {ITERATION_SECONDS} >= 0"


def quantile(share: float, buckets: str, *by: str) -> str:
    """A quantile of a histogram, nothing where it got nothing; `buckets` is a selector of its `_bucket` series."""
    return f"histogram_quantile({share}, {over('sum', (*by, 'le'), f'rate({buckets}[$__rate_interval])')}) >= 0"


ITERATION_SECONDS = rate("step_duration_seconds_sum")
SECONDS_PER_ITERATION = f"{ITERATION_SECONDS} / {rate('step_duration_seconds_count')} >= 0"
"""Mean duration of the iterations that ended in a window; nothing where none did."""


def curve(*by: str, **labels: str) -> str:
    """Mean of a reward over an iteration's pictures: anchors where the algorithm draws them, else its samples."""
    anchors = latest("reward_mean", *by, split="anchor", **labels)
    samples = over("avg", (*RUN, *by), trainer("reward_mean", split="branch", **labels))
    return f"{anchors} or {samples}"


def evaluated(*by: str, **labels: str) -> str:
    """Mean of a reward at the last evaluation: of prompts that training never uses, where there are such."""
    unseen, known = (latest("reward_mean", *by, split=split, **labels) for split in ("unseen", "eval"))
    return f"{unseen} or {known}"


def above_mean(expr: str) -> str:
    """How far a value is above its mean over the time shown: positive while it rises."""
    return f"({expr}) - avg_over_time(({expr})[$__range:])"


def by_iteration(expr: str, *by: str) -> tuple[Query, Query]:
    """The values of `expr`, and for each of them the iteration of its run at that time, both with a label `run`.

    `expr` has the labels of RUN and `by`; `run` joins them, but for the namespace.
    """
    named = ", ".join(f'"{label}"' for label in ("job_name", *by))
    iteration = f"0 * ({expr}) + on ({', '.join(RUN)}) group_left () {latest('iteration')}"
    return (
        Query(f'label_join({expr}, "run", " ", {named})', "{{run}}"),
        Query(f'label_join({iteration}, "run", " ", {named})', "{{run}}"),
    )
