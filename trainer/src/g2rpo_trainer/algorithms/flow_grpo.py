"""Flow-GRPO (arXiv 2505.05470): whole random trajectories, one advantage for all their steps.

Estimator: every member of a group walks its own trajectory with a stochastic step wherever the
window is open; the group-normalised reward of its end weighs every one of those steps alike, however
little a step had to do with it. DanceGRPO (arXiv 2505.07818) is the same with its own noise law, one
initial noise for the group and a random share of the transitions trained; MixGRPO (arXiv 2507.21802)
is the same with a short window that slides from the noise to the data. It degenerates where all
members of a group score the same: such groups have A = 0.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from g2rpo_trainer import noise
from g2rpo_trainer.advantage import integrate
from g2rpo_trainer.algorithms.surrogate import Policy, Score, UpdateSettings, losses
from g2rpo_trainer.flow.schedule import Grid
from g2rpo_trainer.flow.sde import LawName, stochastic_step
from g2rpo_trainer.records import Experience, Loss, PromptBatch, Rollout, Scores, Transitions


@dataclass(frozen=True)
class SlidingWindow:
    """Which steps are stochastic at an iteration: `size` steps, moved on now and then (MixGRPO)."""

    size: int
    stride: int
    """Steps by which the window moves towards the data."""
    move_every_iterations: int

    def steps(self, iteration: int, grid_steps: int) -> tuple[int, ...]:
        """Stochastic steps at `iteration` (from 1); the window stays where it reaches the last usable step."""
        moves = (iteration - 1) // self.move_every_iterations
        left = max(0, min(moves * self.stride, grid_steps - 1 - self.size))
        return tuple(range(left, min(left + self.size, grid_steps - 1)))


@dataclass(frozen=True)
class FlowGRPO:
    """Group-relative policy optimisation over stochastic trajectories."""

    grid: Grid
    seed: int
    group_size: int
    """G."""
    shared_start: bool
    """Whether the members of a group start from one initial noise."""
    window: SlidingWindow | None
    """None: every step but the last is stochastic."""
    train_fraction: float
    """Share of the stochastic transitions trained, drawn anew each iteration; 1 keeps their order."""
    law: LawName
    eta: float
    weights: Tensor
    """Weight of each trained reward, [M]."""
    advantage_clip: float
    zero_variance_tolerance: float
    update: UpdateSettings

    @torch.no_grad()
    def collect(self, policy: Policy, batch: PromptBatch, score: Score) -> Experience:
        """Walk all members down the grid and score where they end; T rows of model calls a member."""
        prompt = torch.arange(len(batch.prompts)).repeat_interleave(self.group_size)
        x = policy.to_device(self._start(policy.latent_shape, batch))
        stochastic = self._stochastic_steps(batch.iteration)
        walked: list[Transitions] = []
        for i in range(self.grid.steps):
            v = policy.velocity(x, self.grid.at([i] * len(x), x), prompt)
            if i in stochastic:
                xi = policy.to_device(self._noise(policy.latent_shape, batch, i))
                walked.append(self._transition(i, x, v, xi, prompt))
                x = walked[-1].x_next[:, 0]
            else:
                x = x + self.grid.delta(i, i + 1) * v
        chosen = [walked[i] for i in self._trained(batch.iteration, len(walked))]
        return self._experience(chosen, score(x, prompt, batch), len(batch.prompts))

    def losses(self, policy: Policy, experience: Experience) -> Iterator[Loss]:
        """One forward per member and trained transition."""
        return losses(policy, self.grid, experience.transitions, self.update)

    def _stochastic_steps(self, iteration: int) -> tuple[int, ...]:
        if self.window is None:
            return tuple(range(self.grid.steps - 1))
        return self.window.steps(iteration, self.grid.steps)

    def _start(self, shape: tuple[int, ...], batch: PromptBatch) -> Tensor:
        """Initial noise of every member, [P G, ...]."""
        members = [noise.GROUP] * self.group_size if self.shared_start else list(range(self.group_size))
        return torch.stack(
            [noise.normal(shape, self.seed, batch.iteration, slot, i) for slot in batch.slots for i in members]
        )

    def _noise(self, shape: tuple[int, ...], batch: PromptBatch, k: int) -> Tensor:
        """xi of every member at step k, [P G, ...]."""
        members = range(self.group_size)
        return torch.stack(
            [noise.normal(shape, self.seed, batch.iteration, slot, i, k) for slot in batch.slots for i in members]
        )

    def _transition(self, k: int, x: Tensor, v: Tensor, xi: Tensor, prompt: Tensor) -> Transitions:
        step = stochastic_step(self.law, self.grid, k, self.eta)
        x_next = step.sample(x, v, xi).unsqueeze(1)
        log_prob = step.log_prob(x_next, x.unsqueeze(1), v.unsqueeze(1), x.dim() - 1)
        return Transitions(k, step, x, x_next, prompt, log_prob, torch.zeros_like(log_prob))

    def _trained(self, iteration: int, transitions: int) -> list[int]:
        """Positions of the transitions to train; the same on every rank."""
        if self.train_fraction == 1:
            return list(range(transitions))
        count = max(1, math.floor(self.train_fraction * transitions + 0.5))
        choice = noise.generator(self.seed, iteration, 0, step=noise.TRANSITION_CHOICE)
        return [int(i) for i in choice.permutation(transitions)[:count]]

    def _experience(self, chosen: list[Transitions], scores: Scores, prompts: int) -> Experience:
        """Scores of [P, G] members become one advantage for all transitions of a member."""
        rewards = scores.values.cpu().unflatten(1, (prompts, self.group_size)).unsqueeze(1)
        result = integrate(rewards, self.weights, "Sum", self.advantage_clip, self.zero_variance_tolerance)
        groups = scores.valid.cpu().unflatten(0, (prompts, self.group_size)).all(dim=1)
        a = torch.where(groups.unsqueeze(-1), result.values, 0.0)
        transitions = tuple(t.with_advantage(a.flatten().unsqueeze(1)) for t in chosen)
        rollout = Rollout(
            anchor_rewards=None,
            branch_rewards=rewards.unsqueeze(2),
            advantages=a.unsqueeze(0),
            clipped=(result.clipped & groups.unsqueeze(-1)).unsqueeze(0),
            zero_variance=(result.zero_variance & groups).unsqueeze(2),
            valid=groups,
        )
        return Experience(transitions, rollout)
