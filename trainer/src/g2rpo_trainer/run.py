"""What the loop turns: the parts of a run, and how often what is done with them.

Who calls this: build puts a `Run` together, the loop turns it. It names no algorithm, no model and no library.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from g2rpo_api.progress import StoppedReport
from g2rpo_trainer.checkpoint import CheckpointStore
from g2rpo_trainer.engine import Engine, World
from g2rpo_trainer.evaluation import Evaluator
from g2rpo_trainer.journal import IterationRecord
from g2rpo_trainer.policy import BoundPolicy, Model
from g2rpo_trainer.publish import Publisher, Silent
from g2rpo_trainer.records import Experience, Loss, PromptBatch
from g2rpo_trainer.rewards.scoring import Scorer
from g2rpo_trainer.summary import Constants
from g2rpo_trainer.timing import Meter, Stopwatch


class Algorithm(Protocol):
    """What distinguishes one method of the family from another."""

    def collect(self, policy: BoundPolicy, batch: PromptBatch, score: Scorer) -> Experience:
        """Sample and judge, without gradient."""
        ...

    def losses(self, policy: BoundPolicy, experience: Experience) -> Iterator[Loss]:
        """What to differentiate, in order, lazily."""
        ...


@dataclass(frozen=True)
class Plan:
    """How long, and how often what."""

    iterations: int
    checkpoint_every: int
    evaluate_every: int
    max_nonfinite_in_a_row: int
    keep_best: bool
    """Whether the checkpoint of the best evaluation is kept."""

    def checkpoint_due(self, iteration: int) -> bool:
        """After every N iterations and the last."""
        return iteration % self.checkpoint_every == 0 or iteration == self.iterations

    def evaluation_due(self, iteration: int) -> bool:
        """Before the first iteration, after every N and the last."""
        return iteration % self.evaluate_every == 0 or iteration == self.iterations


@dataclass(frozen=True)
class Run:
    """Everything that the loop turns."""

    world: World
    model: Model
    algorithm: Algorithm
    engine: Engine
    scorer: Scorer
    evaluator: Evaluator
    batch: Callable[[int], PromptBatch]
    plan: Plan
    constants: Constants
    store: CheckpointStore
    publisher: Publisher | Silent
    stopwatch: Stopwatch
    meter: Meter
    stop_requested: Callable[[], bool]
    """Whether this rank was told to save and leave, to go on later."""
    end_requested: Callable[[], StoppedReport | None]
    """Why to end for good, if this rank was told to."""
    end_by_rules: Callable[[Sequence[IterationRecord]], StoppedReport | None]
    """Why to end for good by what the records say."""
    learning_rate: Callable[[int], float]
    """By iteration."""
    history: list[IterationRecord]
    """Of all attempts; the loop adds to it. Empty where not even the untrained model was evaluated."""
