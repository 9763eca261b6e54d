"""Where a run is shown beside its own folder and port: TensorBoard, Weights & Biases.

Who calls this: `training.py`; the trainer's sinks, which obey it. Where its business ends: secrets are in the
environment, never here.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from g2rpo_api.base import Items, Model, Text


class WandbSpec(Model):
    """Weights & Biases. The key is read from the variable WANDB_API_KEY, the address of an own server from
    WANDB_BASE_URL."""

    project: Text = "g2rpo"
    """Project that the run is shown in."""
    entity: Text | None = None
    """User or team that owns the project; the key's own when empty."""
    mode: Literal["Online", "Offline"] = "Online"
    """`Online`: sent while the run goes on. `Offline`: written to wandb/ in the run folder, for `wandb sync`."""
    tags: Annotated[Items[Text], Field(max_length=64)] = ()
    """Words to find the run by."""


class TrackingSpec(Model):
    """Services that show the run, beside Prometheus and the report. They never end it: what fails is warned of
    once and left alone."""

    tensorboard: bool = False
    """Write event files to tensorboard/ in the run folder. Needs the extra `tensorboard` of the trainer."""
    wandb: WandbSpec | None = None
    """Send the run to Weights & Biases. Needs the extra `wandb` of the trainer."""
