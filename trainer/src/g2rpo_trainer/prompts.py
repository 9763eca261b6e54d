"""Which prompts an iteration works on.

Who calls this: the loop, for the batch of an iteration. The order is a function of (seed, position), so a
resumed run or another world size meets the same prompts.
"""

from __future__ import annotations

from collections.abc import Sequence

from g2rpo_trainer import noise
from g2rpo_trainer.records import Prompt, PromptBatch


def iteration_batch(
    prompts: Sequence[Prompt], seed: int, iteration: int, per_iteration: int, rank: int, world_size: int
) -> PromptBatch:
    """This rank's share of the prompts of an iteration.

    The file is walked epoch by epoch, each in an order of its own; an iteration takes the next
    `per_iteration` prompts, and rank r works on the r-th equal run of them.

    Args:
        iteration: from 1.
        per_iteration: prompts over all ranks, a multiple of `world_size`.
    """
    share = per_iteration // world_size
    slots = range(rank * share, (rank + 1) * share)
    positions = [(iteration - 1) * per_iteration + slot for slot in slots]
    orders = {epoch: _order(seed, epoch, len(prompts)) for epoch in {p // len(prompts) for p in positions}}
    chosen = tuple(prompts[orders[p // len(prompts)][p % len(prompts)]] for p in positions)
    return PromptBatch(iteration, tuple(slots), chosen)


def met_prompts(prompts: Sequence[Prompt], seed: int, iterations: int, per_iteration: int) -> tuple[Prompt, ...]:
    """The prompts that `iteration_batch` takes in iterations 1 to `iterations`, over all ranks."""
    count = iterations * per_iteration
    if count >= len(prompts):
        return tuple(prompts)
    return tuple(prompts[i] for i in _order(seed, 0, len(prompts))[:count])


def _order(seed: int, epoch: int, count: int) -> list[int]:
    return [int(i) for i in noise.generator(seed, noise.PROMPT_ORDER, epoch).permutation(count)]
