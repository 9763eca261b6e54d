"""The time shift that a model's scheduler has of its own: fixed, or by the size of the picture.

Who calls this: the families. The grid itself is `flow/schedule.py`'s business.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from g2rpo_trainer.errors import DataError

OTHER_GRIDS = (
    "use_karras_sigmas",
    "use_exponential_sigmas",
    "use_beta_sigmas",
    "shift_terminal",
    "invert_sigmas",
    "stochastic_sampling",
)
"""Settings of a scheduler with which its grid is not the uniform one with a shift."""


def scheduler_shift(config: Mapping[str, Any], tokens: int) -> float:
    """The shift s of a FlowMatchEulerDiscreteScheduler for pictures of this many tokens.

    With `use_dynamic_shifting` mu lies on a line through two sizes, and s is exp(mu) or, for the linear kind, mu.

    Raises:
        DataError: its grid is another one.
    """
    others = [name for name in OTHER_GRIDS if config.get(name)]
    if others:
        raise DataError(
            f"spec.training.sampling.shiftRule: the model's scheduler has {', '.join(others)}, which is not a shift of "
            "the uniform grid; set shiftRule: Fixed and a shift"
        )
    if not config["use_dynamic_shifting"]:
        return float(config["shift"])
    mu = _mu(config, tokens)
    return mu if config["time_shift_type"] == "linear" else math.exp(mu)


def _mu(config: Mapping[str, Any], tokens: int) -> float:
    least, most = config["base_image_seq_len"], config["max_image_seq_len"]
    low, high = config["base_shift"], config["max_shift"]
    return float(low + (tokens - least) * (high - low) / (most - least))
