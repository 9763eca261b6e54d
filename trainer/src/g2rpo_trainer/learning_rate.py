"""The learning rate of an iteration, from the job alone: a run that is taken up again needs no memory of it. Pure.

Who calls this: the loop, before an iteration's optimizer steps, which all have the same rate.
"""

from __future__ import annotations

import math

from g2rpo_api.training import OptimizerSpec


def learning_rate(optimizer: OptimizerSpec, iterations: int, iteration: int) -> float:
    """Rate of `iteration`, from 1 to `iterations`: above 0, at most optimizer.learningRate.

    The warm-up reaches the full rate at its last iteration; what falls begins with it and would be 0 one iteration
    after the last.
    """
    warm = optimizer.warmup_iterations
    if iteration <= warm:
        return optimizer.learning_rate * (iteration / warm)
    done = (iteration - 1 - warm) / (iterations - warm)
    factor = {"Constant": 1.0, "Linear": 1 - done, "Cosine": (1 + math.cos(math.pi * done)) / 2}
    return optimizer.learning_rate * factor[optimizer.schedule]
