"""Granular-GRPO (arXiv 2510.01982): one random step per branch, finished at several granularities.

Estimator: a group of branches leaves the deterministic trajectory at step k, each by one stochastic
step with its own noise, and finishes deterministically; the reward differences within the group are
therefore due to that step alone, and its log-probability is what the loss moves. Each branch is
finished with several strides and the normalised advantages are added up, which averages out what a
single discretisation of the tail says about the step. It degenerates where all members of a group
score the same: such groups have A = 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from g2rpo_trainer import noise
from g2rpo_trainer.advantage import Advantages, Aggregate, integrate
from g2rpo_trainer.algorithms.surrogate import Policy, Score, UpdateSettings, losses
from g2rpo_trainer.flow.schedule import Grid
from g2rpo_trainer.flow.sde import LawName, stochastic_step
from g2rpo_trainer.flow.solver import Trajectory, finish, trajectory
from g2rpo_trainer.records import Experience, Loss, PromptBatch, Rollout, Scores, Transitions


@dataclass(frozen=True)
class G2RPO:
    """Singular stochastic sampling with multi-granularity advantage integration."""

    grid: Grid
    seed: int
    group_size: int
    """G."""
    steps: tuple[int, ...]
    """Stochastic steps k, noisiest first; each within 0 .. T - 2."""
    granularities: tuple[int, ...]
    """Strides lambda; one listed twice counts twice."""
    law: LawName
    eta: float
    weights: Tensor
    """Weight of each trained reward, [M]."""
    aggregate: Aggregate
    advantage_clip: float
    zero_variance_tolerance: float
    update: UpdateSettings

    @torch.no_grad()
    def collect(self, policy: Policy, batch: PromptBatch, score: Score) -> Experience:
        """Sample, branch, finish and score; costs 1 + G K random draws a prompt."""
        prompt = torch.arange(len(batch.prompts))
        z = torch.stack([noise.normal(policy.latent_shape, self.seed, batch.iteration, slot) for slot in batch.slots])
        anchor = trajectory(policy.velocity, self.grid, policy.to_device(z), prompt)
        branches = [self._branch(policy, anchor, batch, k) for k in self.steps]
        members = prompt.repeat_interleave(self.group_size)
        x_next = torch.stack([branch.x_next.flatten(0, 1) for branch in branches])
        ends = finish(policy.velocity, self.grid, x_next, self.steps, self.granularities, members)
        everyone = torch.cat([prompt, members.repeat(len(self.steps) * len(self.granularities))])
        scores = score(torch.cat([anchor.end, ends.flatten(0, 2)]), everyone, batch)
        return self._experience(branches, scores, len(prompt))

    def losses(self, policy: Policy, experience: Experience) -> Iterator[Loss]:
        """One forward of the shared state serves all members of a group."""
        return losses(policy, self.grid, experience.transitions, self.update)

    def _branch(self, policy: Policy, anchor: Trajectory, batch: PromptBatch, k: int) -> Transitions:
        """Step k of every member of every group, from the anchor's state and velocity; A still 0."""
        step = stochastic_step(self.law, self.grid, k, self.eta)
        x, v = anchor.states[k], anchor.velocities[k]
        xi = policy.to_device(self._members_noise(policy.latent_shape, batch, k))
        x_next = step.sample(x.unsqueeze(1), v.unsqueeze(1), xi)
        log_prob = step.log_prob(x_next, x.unsqueeze(1), v.unsqueeze(1), x.dim() - 1)
        prompt = torch.arange(len(x))
        return Transitions(k, step, x, x_next, prompt, log_prob, torch.zeros_like(log_prob))

    def _members_noise(self, shape: tuple[int, ...], batch: PromptBatch, k: int) -> Tensor:
        """xi of every member at step k, [P, G, ...]."""
        groups = [
            [noise.normal(shape, self.seed, batch.iteration, slot, i, k) for i in range(self.group_size)]
            for slot in batch.slots
        ]
        return torch.stack([torch.stack(group) for group in groups])

    def _experience(self, branches: list[Transitions], scores: Scores, prompts: int) -> Experience:
        """Scores of the anchors, then of [K, L, P, G] branches, become advantages of transitions."""
        shape = (len(self.steps), len(self.granularities), prompts, self.group_size)
        values = scores.values.cpu()
        rewards = values[:, prompts:].unflatten(1, shape).transpose(1, 2)
        valid = scores.valid.cpu()
        groups = valid[:prompts] & valid[prompts:].unflatten(0, shape).all(dim=3).all(dim=1).all(dim=0)
        result = self._integrate(rewards)
        a = torch.where(groups.unsqueeze(-1), result.values, 0.0)
        transitions = tuple(branch.with_advantage(a[i]) for i, branch in enumerate(branches))
        rollout = Rollout(
            anchor_rewards=values[:, :prompts],
            branch_rewards=rewards,
            advantages=a,
            clipped=result.clipped & groups.unsqueeze(-1),
            zero_variance=result.zero_variance & groups,
            valid=groups,
        )
        return Experience(transitions, rollout)

    def _integrate(self, rewards: Tensor) -> Advantages:
        return integrate(rewards, self.weights, self.aggregate, self.advantage_clip, self.zero_variance_tolerance)
