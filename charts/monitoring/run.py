"""Dashboard "Run": is it learning, is it honest, is it fast, is it healthy; then the curves behind the answers.

Who calls this: `generate.py`.
"""

from __future__ import annotations

from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import units

from monitoring.board import About, Row, board, choice, run_choices
from monitoring.panels import (
    GREEN,
    ORANGE,
    RED,
    TEXT,
    PanelBuilder,
    dashes,
    lines,
    numbers,
    properties,
    shares,
    steps,
    trends,
)
from monitoring.queries import (
    RUN,
    SECONDS_PER_ITERATION,
    Query,
    above_mean,
    by_iteration,
    curve,
    evaluated,
    grown,
    latest,
    over,
    per_second,
    trainer,
)

ABOUT = About(
    "g2rpo-run",
    "G2RPO / Run",
    "One run, or several beside each other: is it learning, is it honest, is it fast, is it healthy?",
)
QUESTIONS = "Is it learning, is it honest, is it fast, is it healthy?"
EVALUATED = "~eval|unseen"
ATTEMPT = over("count", (*RUN, "attempt"), trainer("iteration"))
BEGINS = Query(f"{ATTEMPT} unless {over('count', (*RUN, 'attempt'), trainer('iteration') + ' offset 1m')}", "")
HELD_OUT = ".*held out.*"
RISING = properties(("thresholds", steps((None, RED), (0, TEXT)).build()))


def dashboard() -> models.Dashboard:
    """All of it."""
    variables = [*run_choices(), choice("reward", "Reward", f"{trainer('reward_mean')}, reward")]
    rows = [
        Row(QUESTIONS, [_learning(), _honest(), _fast(), _healthy()]),
        Row("Rewards", _rewards()),
        Row("Runs by iteration", _compared()),
        Row("Policy by stochastic step", _by_step()),
        Row("Policy", _policy()),
        Row("Pictures", _pictures()),
    ]
    return board(ABOUT, variables, rows, mark=BEGINS)


def _learning() -> PanelBuilder:
    text = (
        "Trained rewards of the last iteration, and how far they are above their mean over the time shown: red where "
        "they fall."
    )
    now = curve("reward", role="train")
    panel = numbers(
        "Is it learning?",
        text,
        units.NoUnit,
        Query(now, "{{job_name}} {{reward}}"),
        Query(above_mean(now), "{{job_name}} {{reward}}, above its mean"),
    )
    return panel.decimals(3).override_by_query("B", RISING)


def _honest() -> PanelBuilder:
    text = (
        "What training does not ask for, at the last evaluation: held-out rewards, and trained ones on unseen prompts; "
        "how far the former are above their mean over the time shown. Where they fall while trained rewards rise, the "
        "rewards are being tricked."
    )
    held_out = evaluated("reward", role="heldout")
    unseen = latest("reward_mean", "reward", role="train", split="unseen")
    panel = numbers(
        "Is it honest?",
        text,
        units.NoUnit,
        Query(held_out, "{{job_name}} {{reward}}, held out"),
        Query(above_mean(held_out), "{{job_name}} {{reward}}, above its mean"),
        Query(unseen, "{{job_name}} {{reward}}, unseen prompts"),
    )
    return panel.decimals(3).override_by_query("B", RISING)


def _fast() -> PanelBuilder:
    text = "Seconds per iteration, pictures per second, and the time left at this speed."
    panel = numbers(
        "Is it fast?",
        text,
        units.Seconds,
        Query(SECONDS_PER_ITERATION, "{{job_name}} per iteration"),
        Query(per_second("images_total"), "{{job_name}} pictures per second"),
        Query(latest("eta_seconds"), "{{job_name}} left"),
    )
    return panel.override_by_query("B", properties(("unit", units.NoUnit), ("decimals", 1)))


def _healthy() -> PanelBuilder:
    text = (
        "Time since the loop was last seen alive, optimizer steps that were skipped because a number was not finite, "
        "and attempts in the time shown: 1 is a run without a restart."
    )
    attempts = over("count", RUN, over("count", (*RUN, "attempt"), f"last_over_time({trainer('iteration')}[$__range])"))
    panel = numbers(
        "Is it healthy?",
        text,
        units.NoUnit,
        Query(f"time() - {latest('beat_timestamp_seconds')}", "{{job_name}} since the last sign of life"),
        Query(grown("nonfinite_steps_total"), "{{job_name}} skipped steps"),
        Query(attempts, "{{job_name}} attempts"),
    )
    late = properties(("unit", units.Seconds), ("thresholds", steps((None, GREEN), (600, ORANGE), (1800, RED)).build()))
    skipped = properties(("decimals", 0), ("thresholds", steps((None, GREEN), (0.5, RED)).build()))
    again = properties(("decimals", 0), ("thresholds", steps((None, GREEN), (1.5, ORANGE)).build()))
    return panel.override_by_query("A", late).override_by_query("B", skipped).override_by_query("C", again)


def _rewards() -> list[PanelBuilder]:
    trained = Query(curve("reward", role="train", reward="~$reward"), "{{job_name}} {{reward}}")
    known = latest("reward_mean", "reward", "split", role="train", split=EVALUATED, reward="~$reward")
    held_out = latest("reward_mean", "reward", "split", role="heldout", split=EVALUATED)
    branches = latest("reward_mean", "reward", "granularity", split="branch", reward="~$reward")
    beside = lines(
        "Held out against trained",
        "Evaluations on fixed prompts: what is trained (solid) and what is held out (dashed). Each value stays until "
        "the next evaluation.",
        units.NoUnit,
        Query(known, "{{job_name}} {{reward}}, {{split}}"),
        Query(held_out, "{{job_name}} {{reward}}, {{split}}, held out"),
    )
    return [
        lines(
            "Trained rewards",
            "Mean over the pictures of an iteration: the deterministic ones where the algorithm draws them.",
            units.NoUnit,
            trained,
        ),
        beside.override_by_regexp(HELD_OUT, dashes(8, 6)),
        lines(
            "By granularity",
            "Mean over the stochastic pictures that were finished at each granularity, which is steps at once.",
            units.NoUnit,
            Query(branches, "{{job_name}} {{reward}}, granularity {{granularity}}"),
        ),
    ]


def _compared() -> list[PanelBuilder]:
    return [
        trends(
            "Trained rewards by iteration",
            "The same curves over iterations instead of time: choose several jobs to compare them, whenever they ran.",
            units.NoUnit,
            by_iteration(curve("reward", role="train", reward="~$reward"), "reward"),
        ),
        trends(
            "Evaluations by iteration",
            "Evaluations of trained and held-out rewards over iterations, on unseen prompts where there are such. Each "
            "value stays until the next evaluation.",
            units.NoUnit,
            by_iteration(evaluated("reward", "role", reward="~$reward"), "reward", "role"),
        ),
    ]


def _by_step() -> list[PanelBuilder]:
    def each(title: str, text: str, unit: str, name: str) -> PanelBuilder:
        return lines(title, text, unit, Query(latest(name, "k"), "{{job_name}} step {{k}}")).span(6)

    return [
        each(
            "Spread of rewards",
            "Standard deviation of the reward within a group: what a step has to learn from. 0 teaches nothing.",
            units.NoUnit,
            "step_reward_std",
        ),
        shares(
            "Clipped",
            "Share of transitions whose gradient is cut.",
            Query(latest("step_clip_ratio", "k"), "{{job_name}} step {{k}}"),
        ).span(6),
        each("Drift", "Mean distance of the importance ratio from 1.", units.NoUnit, "step_ratio_absdev"),
        each("Loss", "Surrogate loss.", units.NoUnit, "step_loss"),
    ]


def _policy() -> list[PanelBuilder]:
    return [
        lines(
            "Distance from the sampling policy",
            "Approximate KL divergence and the spread of the importance ratio, after the iteration's updates.",
            units.NoUnit,
            Query(latest("approx_kl"), "{{job_name}} KL"),
            Query(latest("ratio_std"), "{{job_name}} σ of the ratio"),
        ),
        shares(
            "Clipped, by side",
            "Share of transitions whose gradient is cut because the ratio is already too low, or too high.",
            Query(latest("clip_ratio", "side"), "{{job_name}} {{side}}"),
        ),
        lines(
            "Gradient",
            "Norm before clipping.",
            units.NoUnit,
            Query(latest("grad_norm"), "{{job_name}}"),
        ),
        lines(
            "Advantages",
            "Standard deviation and largest absolute value.",
            units.NoUnit,
            Query(latest("advantage_std"), "{{job_name}} σ"),
            Query(latest("advantage_absmax"), "{{job_name}} largest"),
        ),
        shares(
            "Groups without a difference",
            "Share of groups whose members all scored the same, and of advantages that the clamp cut.",
            Query(latest("zero_std_group_ratio"), "{{job_name}} all the same"),
            Query(latest("advantage_clipped_ratio"), "{{job_name}} clamped"),
        ),
        lines(
            "Learning rate",
            "Of the last update.",
            units.ScientificNotation,
            Query(latest("learning_rate"), "{{job_name}}"),
        ),
    ]


def _pictures() -> list[PanelBuilder]:
    def each(title: str, text: str, *names: str) -> PanelBuilder:
        found = [Query(latest(f"image_{name}", "split"), f"{{{{job_name}}}} {name}, {{{{split}}}}") for name in names]
        return lines(title, text, units.PercentUnit, *found).min(0).span(6)

    return [
        each("Colour", "Colourfulness, 0 to 1: what tricks a reward is often garish.", "saturation"),
        each(
            "Light",
            "Mean brightness, and its standard deviation within a picture.",
            "brightness",
            "contrast",
        ),
        each(
            "Lattice",
            "Share of the contrast that repeats from patch to patch: artefacts that rewards overlook.",
            "lattice",
        ),
        each("Diversity", "Mean distance between pictures; near 0 they are all the same.", "diversity"),
    ]
