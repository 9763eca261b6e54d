"""Counter-based noise: every draw is a function of its name, never of what was drawn before.

A draw is named by (seed, iteration, prompt, member, step), so the world size, a restart or the order
of work cannot change it. Philox's 128-bit key holds seed and iteration; the upper three words of its
256-bit counter hold prompt, member and step; the lowest word counts within the draw.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.random import Generator, Philox
from torch import Tensor

GROUP = -1
"""As `member`: the draw belongs to the whole group."""
START = -1
"""As `step`: the initial noise."""
EVALUATION = 2**63
"""As `iteration`: fixed noise, the same at every evaluation of a run."""
PROMPT_ORDER = 2**63 + 1
"""As `iteration`: the order of the prompts; `prompt` is then the epoch."""
TRANSITION_CHOICE = 2**63 + 2
"""As `step`: which transitions of an iteration are trained, and in which order."""


def generator(seed: int, iteration: int, prompt: int, member: int = GROUP, step: int = START) -> Generator:
    """NumPy generator of the draw with this name (seed >= 0, prompt >= 0, the rest >= -1)."""
    counter = np.array([0, prompt, member + 1, step + 1], dtype=np.uint64)
    return Generator(Philox(key=np.array([seed, iteration], dtype=np.uint64), counter=counter))


def normal(
    shape: Sequence[int], seed: int, iteration: int, prompt: int, member: int = GROUP, step: int = START
) -> Tensor:
    """Standard normal float32 tensor of `shape` on the CPU, named by its key."""
    draw = generator(seed, iteration, prompt, member, step).standard_normal(tuple(shape), dtype=np.float32)
    return torch.from_numpy(draw)
