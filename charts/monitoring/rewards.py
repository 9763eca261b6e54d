"""Dashboard "Rewards": how each is distributed, whether they agree, and what they cost.

Who calls this: `generate.py`.
"""

from __future__ import annotations

from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import units

from monitoring.board import About, Row, board, choice, run_choices
from monitoring.panels import PanelBuilder, dashes, lines
from monitoring.queries import RUN, Query, latest, over, trainer

ABOUT = About(
    "g2rpo-rewards",
    "G2RPO / Rewards",
    "How each reward is distributed, whether rewards agree, and what they cost.",
)


def dashboard() -> models.Dashboard:
    """All of it."""
    variables = [*run_choices(), choice("reward", "Reward", f"{trainer('reward_mean')}, reward")]
    rows = [
        Row("Distribution", [_distribution()]),
        Row("Agreement", _agreement()),
        Row("Granularities", _granularities()),
        Row("Time", _time()),
    ]
    return board(ABOUT, variables, rows)


def _pictures(name: str) -> str:
    """A statistic of each reward over the pictures of an iteration; of an evaluation where that is all there is."""
    samples = over("avg", (*RUN, "reward"), trainer(name, reward="~$reward", split="branch"))
    drawn, evaluated = (latest(name, "reward", reward="~$reward", split=split) for split in ("anchor", "eval"))
    return f"{drawn} or {samples} or {evaluated}"


def _distribution() -> PanelBuilder:
    """A panel for each of the chosen rewards."""
    mean, deviation = _pictures("reward_mean"), _pictures("reward_std")
    panel = lines(
        "$reward",
        "Mean, standard deviation around it, lowest and highest: over the pictures of an iteration, or of an "
        "evaluation for a reward that is held out.",
        units.NoUnit,
        Query(mean, "{{job_name}} mean"),
        Query(f"({mean}) + ({deviation})", "{{job_name}} + σ"),
        Query(f"({mean}) - ({deviation})", "{{job_name}} - σ"),
        Query(_pictures("reward_max"), "{{job_name}} highest"),
        Query(_pictures("reward_min"), "{{job_name}} lowest"),
    )
    panel = panel.override_by_regexp(".*σ", dashes(8, 6)).override_by_regexp(".*(highest|lowest)", dashes(1, 6))
    return panel.repeat("reward").repeat_direction("h").max_per_row(3)


def _agreement() -> list[PanelBuilder]:
    def each(title: str, text: str, split: str) -> PanelBuilder:
        query = Query(latest("reward_correlation", "pair", split=split), "{{job_name}} {{pair}}")
        return lines(title, text, units.NoUnit, query).min(-1).max(1).span(12)

    return [
        each(
            "Within groups",
            "Correlation of two trained rewards among the pictures of a prompt. Below 0 they pull against each other.",
            "branch",
        ),
        each(
            "At evaluations",
            "Correlation of a trained reward with a held-out one over the pictures of an evaluation. Where it falls, "
            "the trained one is being tricked.",
            "~eval|unseen",
        ),
    ]


def _granularities() -> list[PanelBuilder]:
    def each(title: str, text: str, name: str) -> PanelBuilder:
        found = latest(name, "reward", "granularity", split="branch", reward="~$reward")
        return lines(title, text, units.NoUnit, Query(found, "{{job_name}} {{reward}}, granularity {{granularity}}"))

    return [
        each("Mean", "Over the pictures that were finished at each granularity.", "reward_mean"),
        each("Spread", "Standard deviation over the same pictures.", "reward_std"),
        lines(
            "Signal",
            "Standard deviation of the weighted reward within a group: what the advantages are made of.",
            units.NoUnit,
            Query(latest("group_std_mean"), "{{job_name}}"),
        ),
    ]


def _time() -> list[PanelBuilder]:
    seconds = latest("phase_duration_seconds", phase="reward")
    whole = over("sum", RUN, latest("phase_duration_seconds", "phase"))
    return [
        lines(
            "Seconds",
            "Of the last iteration, for all rewards, on the first rank.",
            units.Seconds,
            Query(seconds, "{{job_name}}"),
        ).span(12),
        lines(
            "Share",
            "Of the last iteration's seconds that went into rewards. Where it is large, a server for them, or a larger "
            "one, is the next GPU to pay for.",
            units.PercentUnit,
            Query(f"{seconds} / {whole}", "{{job_name}}"),
        )
        .min(0)
        .max(1)
        .span(12),
    ]
