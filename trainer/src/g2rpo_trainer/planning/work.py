"""What an iteration computes and sends on each rank, and how long a given card would take at best.

Who calls this: `benchmarks/paper.py`. Counts of calls come from the plan, operations of one call from a dry run of the
model's own code. Rewards are not counted: their networks are a hundredth of the model.
"""

from __future__ import annotations

from dataclasses import dataclass

from g2rpo_api.algorithm import G2RPOSettings
from g2rpo_trainer.planning.dryrun import flops_of
from g2rpo_trainer.planning.footprint import FLOAT_BYTES, FROZEN_BYTES, trained_parameters
from g2rpo_trainer.planning.memory import update_rows
from g2rpo_trainer.planning.model_files import parameters
from g2rpo_trainer.planning.plan import Plan
from g2rpo_trainer.planning.sketch import Sketch


@dataclass(frozen=True)
class CallCost:
    """Floating-point operations of one row or picture; a multiply-add is two."""

    forward: int
    forward_backward: int
    decode: int


@dataclass(frozen=True)
class Work:
    """Of one iteration on one rank."""

    forward_flops: int
    update_flops: int
    decode_flops: int
    sent_bytes: int
    """Sent to other ranks by ring algorithms; as much is received."""

    @property
    def flops(self) -> int:
        """All of them."""
        return self.forward_flops + self.update_flops + self.decode_flops

    def seconds(self, flops_per_second: float, utilisation: float, bytes_per_second: float) -> float:
        """What computing and sending take after each other, on a card that reaches this share of its speed."""
        return self.flops / (flops_per_second * utilisation) + self.sent_bytes / bytes_per_second


def call_cost(sketch: Sketch) -> CallCost:
    """Count the operations of single calls; gradient checkpointing and guidance included."""
    with sketch.mode:
        return CallCost(
            forward=flops_of(lambda: sketch.forward(1)),
            forward_backward=flops_of(lambda: sketch.forward_backward(1)),
            decode=flops_of(lambda: sketch.decode(1)),
        )


def work(sketch: Sketch, plan: Plan, cost: CallCost) -> Work:
    """Of the planned job's iteration."""
    group, prompts = plan.group, plan.prompts_per_rank
    return Work(
        forward_flops=prompts * (group.calls + group.reference_calls) * cost.forward,
        update_flops=prompts * group.forward_backwards * cost.forward_backward,
        decode_flops=prompts * group.images * cost.decode,
        sent_bytes=sent_bytes(sketch, plan),
    )


def sent_bytes(sketch: Sketch, plan: Plan) -> int:
    """What a rank sends in an iteration.

    Below stage 3: every optimizer step adds up the gradients, which takes two passes around the ring. Stage 3 adds
    them up in one, and gathers all weights for every batch of a rollout and twice for every chunk of an update.
    """
    training, ranks = sketch.training, plan.ranks
    trained = trained_parameters(training, sketch.files)
    gradients = plan.optimizer_steps * FLOAT_BYTES * trained
    passes = 2 * gradients
    if training.deepspeed.zero_stage == 3:
        weights = parameters(sketch.files.transformer) * FROZEN_BYTES[training.model.precision]
        passes = gradients + weights * (rollout_batches(sketch, plan) + 2 * update_chunks(sketch, plan))
    return passes * (ranks - 1) // ranks


def rollout_batches(sketch: Sketch, plan: Plan) -> int:
    """Batches without gradient of an iteration: the steps of the anchor one after the other, the rest well filled."""
    training, prompts = sketch.training, plan.prompts_per_rank
    steps = training.sampling.steps
    alone = steps if isinstance(training.algorithm.settings, G2RPOSettings) else 0
    rest = prompts * (plan.group.calls - alone)
    return alone * -(-prompts // training.sampling.max_batch) + -(-rest // training.sampling.max_batch)


def update_chunks(sketch: Sketch, plan: Plan) -> int:
    """Batches with gradient of an iteration: each transition's rows on their own."""
    training = sketch.training
    rows = update_rows(training, plan.ranks)
    transitions = plan.prompts_per_rank * plan.group.forward_backwards // rows
    return transitions * -(-rows // training.optimizer.max_batch)
