"""The learning rate against torch's own schedulers."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim.lr_scheduler import ConstantLR, CosineAnnealingLR, LinearLR, LRScheduler, PolynomialLR, SequentialLR

from g2rpo_api.training import OptimizerSpec
from g2rpo_trainer.learning_rate import learning_rate

FULL = 2e-4
SCHEDULES = ("Constant", "Linear", "Cosine")


def by_torch(schedule: str, warm: int, iterations: int) -> list[float]:
    """Rates of all iterations, stepped one after the other."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=FULL)
    rest = iterations - warm
    makers = {
        "Constant": lambda: ConstantLR(optimizer, factor=1.0),
        "Linear": lambda: PolynomialLR(optimizer, total_iters=rest, power=1.0),
        "Cosine": lambda: CosineAnnealingLR(optimizer, T_max=rest),
    }
    parts: list[LRScheduler] = [makers[schedule]()]
    if warm:
        parts.insert(0, LinearLR(optimizer, start_factor=1 / warm, total_iters=max(1, warm - 1)))
    scheduler = SequentialLR(optimizer, parts, milestones=[warm] if warm else [])
    rates = []
    for _ in range(iterations):
        rates.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    return rates


@pytest.mark.parametrize("warm", [0, 2, 7])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_schedule_is_that_of_torch(schedule: str, warm: int) -> None:
    iterations = 40
    spec = OptimizerSpec(learning_rate=FULL, warmup_iterations=warm, schedule=schedule)
    found = [learning_rate(spec, iterations, i) for i in range(1, iterations + 1)]
    assert found == pytest.approx(by_torch(schedule, warm, iterations), rel=1e-6)


@given(schedule=st.sampled_from(SCHEDULES), iterations=st.integers(1, 300), share=st.floats(0, 1))
def test_it_rises_to_the_full_rate_then_never_rises_again_and_is_never_zero(
    schedule: str, iterations: int, share: float
) -> None:
    warm = int(share * iterations)
    spec = OptimizerSpec(learning_rate=FULL, warmup_iterations=warm, schedule=schedule)
    rates = [learning_rate(spec, iterations, i) for i in range(1, iterations + 1)]
    assert all(0 < rate <= FULL for rate in rates)
    assert max(rates) == pytest.approx(FULL)
    assert rates[: warm + 1] == sorted(rates[: warm + 1])
    assert rates[warm:] == sorted(rates[warm:], reverse=True)


def test_without_a_schedule_it_is_the_one_of_the_job() -> None:
    assert {learning_rate(OptimizerSpec(learning_rate=FULL), 9, i) for i in range(1, 10)} == {FULL}
