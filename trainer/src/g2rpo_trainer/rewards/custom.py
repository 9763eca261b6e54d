"""A reward by `module:Class`: a class of the user's own, in the trainer's process.

Who calls this: `rewards/registry.py`. What the class needs to have stands in `protocol.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import torch

from g2rpo_trainer.errors import RewardError
from g2rpo_trainer.rewards.foreign import told_as
from g2rpo_trainer.rewards.protocol import Reward


def load_custom(entry_point: str, arguments: Mapping[str, Any], batch_size: int, device: torch.device) -> Reward:
    """Make the reward: `Class(**arguments, batch_size=..., device=...)`.

    Args:
        entry_point: `module:Class`, importable from an installed package or a folder on PYTHONPATH.
        arguments: of the job.
        batch_size: pictures per call of its network, if it has one.
        device: where it works.

    Raises:
        RewardError: it cannot be imported or made, or cannot score.
    """
    made: Reward = _made(entry_point, arguments, batch_size, device)
    if not callable(getattr(made, "score", None)):
        raise RewardError(
            f"custom.entryPoint {entry_point!r} makes a {type(made).__name__} without a method score(images, prompts)"
        )
    return made


def _made(entry_point: str, arguments: Mapping[str, Any], batch_size: int, device: torch.device) -> Any:
    module, _, name = entry_point.partition(":")
    with told_as(  # importing runs it
        lambda why: (
            f"custom.entryPoint {entry_point!r} cannot be imported: {why}; install its package in the image, or put "
            "the folder that holds it on PYTHONPATH"
        )
    ):
        found = getattr(import_module(module), name)
    given = ", ".join([*arguments, "batch_size", "device"])
    with told_as(lambda why: f"custom.entryPoint {entry_point!r} cannot be made with {given}: {why}"):
        return found(**arguments, batch_size=batch_size, device=device)
