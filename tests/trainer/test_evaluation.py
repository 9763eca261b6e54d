from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from g2rpo_trainer.evaluation import share


@given(st.integers(1, 50), st.integers(1, 8))
def test_ranks_get_equally_many_and_together_everything_in_order(count: int, world_size: int) -> None:
    items = list(range(count))
    shares = [share(items, rank, world_size) for rank in range(world_size)]
    assert len({len(part) for part in shares}) == 1
    # as the evaluator gathers them: item i of every rank, then i + 1, cut to the number of prompts
    together = [part[i] for i in range(len(shares[0])) for part in shares]
    assert together[:count] == items
