"""Is the first step of an iteration what theory says? While no weight has changed every ratio is 1, and where pictures
were scored differently there is a gradient.

Who calls this: the loop, after every update. What breaks these two breaks training without a
sound: dropout, another guidance in training than in sampling, adapters that are not connected.
"""

from __future__ import annotations

import logging

from g2rpo_trainer.errors import DivergedError
from g2rpo_trainer.summary import UpdateStats

logger = logging.getLogger(__name__)

LARGEST_ROUNDING = 0.05
"""Of a ratio at unchanged weights; bfloat16 on the smallest pictures stays a hundred times below."""


def verify_first_step(update: UpdateStats, clip_range: float, warn: bool) -> None:
    """Raise a DivergedError where the first optimizer step of an iteration cannot have been right.

    Args:
        update: of the iteration; its first loss was taken with the weights that drew the pictures.
        clip_range: distance from 1 at which a ratio has no gradient any more.
        warn: whether to tell of rounding that reaches the clip range.
    """
    first = update.losses[0]
    off = float((first.ratio - 1).abs().max())
    if not off <= LARGEST_ROUNDING:
        raise DivergedError(
            f"the ratio of new to old likelihood is off by {off:.2g} where no weight has changed (allowed: "
            f"{LARGEST_ROUNDING:g}): the model computes otherwise with gradient than without. Look for dropout and for "
            "settings of a library that tell the two apart; spec.training.model.attention: Native and compile: false "
            "rule out two of them"
        )
    if warn and off > clip_range:
        logger.warning(
            "rounding moves a ratio by %.2g, more than the clip range of %.2g: part of the first gradient is cut; "
            "raise clipRange, or set model.precision: Float32",
            off,
            clip_range,
        )
    if bool((first.advantage != 0).any()) and update.grad_norms and update.grad_norms[0] == 0:
        raise DivergedError(
            "the gradient is exactly 0 although pictures were scored differently: no trained weight "
            "has a part in the velocity. Check spec.training.model.train, lora.targetModules above all"
        )
