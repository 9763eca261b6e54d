from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from g2rpo_trainer.prompts import iteration_batch
from g2rpo_trainer.records import Prompt

PROMPTS = tuple(Prompt(i, f"prompt {i}", {}) for i in range(7))


@given(st.integers(0, 2**63 - 1), st.integers(1, 40), st.sampled_from([1, 2, 4]))
def test_ranks_share_an_iteration_without_overlap_and_any_world_size_meets_the_same_prompts(
    seed: int, iteration: int, world_size: int
) -> None:
    alone = iteration_batch(PROMPTS, seed, iteration, 4, 0, 1)
    shares = [iteration_batch(PROMPTS, seed, iteration, 4, rank, world_size) for rank in range(world_size)]
    assert tuple(slot for share in shares for slot in share.slots) == (0, 1, 2, 3) == alone.slots
    assert tuple(prompt for share in shares for prompt in share.prompts) == alone.prompts


@given(st.integers(0, 2**63 - 1))
def test_an_epoch_meets_every_prompt_once(seed: int) -> None:
    met = [iteration_batch(PROMPTS, seed, i, 1, 0, 1).prompts[0].index for i in range(1, 15)]
    assert Counter(met[:7]) == Counter(met[7:]) == Counter(range(7))


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        return [iteration_batch(PROMPTS, seed, epoch * 7 + i, 1, 0, 1).prompts[0].index for i in range(1, 8)]

    orders = {tuple(order(seed, epoch)) for seed in range(5) for epoch in range(5)}
    assert len(orders) > 20
