"""`spec.training.stop`: when a run ends before its last iteration. Each rule is off until it is given.

Who calls this: `training.py`; the trainer's stop rules, which obey it. None is on by default: an end is for
good, and what is worth ending depends on the scale of the reward and on the budget.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated

from pydantic import Field

from g2rpo_api.base import MAX_INT32, WHOLE, Model, NonNegativeFloat, PositiveFloat, Text
from g2rpo_api.rewards import Role
from g2rpo_api.rules import Fault, Rule

Share = Annotated[float, Field(gt=0, le=1)]
MAX_SCORE = 1e9
"""Largest absolute score that a target may ask for."""
Score = Annotated[float, Field(ge=-MAX_SCORE, le=MAX_SCORE)]


class TargetRule(Model):
    """Good enough: an evaluation reaches a score."""

    reward: Text
    """Name of one of the rewards, trained or held out."""
    value: Score
    """Mean score at which the run ends, or above; of the evaluation on unseen prompts where there is one."""


class PlateauRule(Model):
    """Nothing is gained any more: the trained reward stands still."""

    iterations: Annotated[int, Field(ge=2, le=MAX_INT32), WHOLE] = 50
    """The mean of the trained reward over so many iterations is compared with that over as many before them.
    More iterations even out differences between prompts."""
    min_delta: NonNegativeFloat = 0.0
    """Largest gain that ends the run, in units of the reward; 0 ends it only once the reward no longer rises."""


class CollapseRule(Model):
    """The policy broke: the reward falls, all pictures of a prompt score the same, or look the same."""

    iterations: Annotated[int, Field(ge=2, le=MAX_INT32), WHOLE] = 10
    """Iterations whose mean counts as now. More ignore longer dips."""
    reward_drop: Share = 0.5
    """Share of its best mean that the trained reward may lose, beyond what chance explains; 1 leaves this out.
    Lower it for rewards that never come near 0: 0.05 for HPSv2, which ranges from 0.2 to 0.35. Leave it out for those
    whose 0 means nothing, such as ImageReward."""
    zero_variance: Share = 0.9
    """Share of groups whose members all score the same; 1 leaves this out."""
    diversity_drop: Share = 0.8
    """Share of the diversity of the first iterations that the pictures of a prompt may lose; 1 leaves this out."""


class HackingRule(Model):
    """The reward is tricked: a trained reward rises while a held-out one falls."""

    evaluations: Annotated[int, Field(ge=2, le=MAX_INT32), WHOLE] = 3
    """Evaluations over which both must happen, from the first to the last of them."""
    standard_errors: PositiveFloat = 3.0
    """How many standard errors each change must exceed. 2 ends early and now and then wrongly; more prompts per
    evaluation show smaller changes."""


class StopSpec(Model):
    """Rules that end a run before its last iteration: evaluation, checkpoint, export, and exit code 0."""

    max_hours: PositiveFloat | None = None
    """Hours of all attempts together after which the run ends, loading included, waiting for a node not."""
    max_gpu_hours: PositiveFloat | None = None
    """The same times the number of ranks; a rank is a GPU, or a process where there are none."""
    target: TargetRule | None = None
    """End when a score is reached."""
    plateau: PlateauRule | None = None
    """End when the trained reward stands still."""
    collapse: CollapseRule | None = None
    """End when the policy broke."""
    hacking: HackingRule | None = None
    """End when the trained reward rises while a held-out one falls."""

    def reward_faults(self, roles: Mapping[str, Role]) -> Iterator[Fault]:
        """Rules about rewards that the job has not; `roles` are the job's rewards by name."""
        if self.target is not None and self.target.reward not in roles:
            hint = "name one of them"
            yield Fault(("target", "reward"), self.target.reward, f"a name of the rewards: {', '.join(roles)}", hint)
        if self.hacking is not None and "HeldOut" not in roles.values():
            yield Fault(("hacking",), self.hacking.model_dump(by_alias=True), _WITH_JUDGE, _ADD_JUDGE)


_WITH_JUDGE, _ADD_JUDGE = "absent without a reward of role HeldOut", "add such a reward, or remove the rule"


def stop_rules() -> tuple[Rule, ...]:
    """`reward_faults` for the API server; `self` is the training."""
    return (
        Rule(
            "!has(self.stop) || !has(self.stop.target) || self.rewards.exists(r, r.name == self.stop.target.reward)",
            "must be a name of the rewards; name one of them",
            ".stop.target.reward",
        ),
        Rule(
            "!has(self.stop) || !has(self.stop.hacking) || self.rewards.exists(r, has(r.role) && r.role == 'HeldOut')",
            f"must be {_WITH_JUDGE}; {_ADD_JUDGE}",
            ".stop.hacking",
            "FieldValueForbidden",
        ),
    )
