"""What crosses a boundary inside the trainer: frozen records with a shape and a unit per field.

Letters used in shapes: P prompts of this rank, G members of a group, K stochastic steps, L
granularities, M rewards, N rows of a batch, B members that share a row, C x H x W a latent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Prompt:
    """One line of a prompt file."""

    index: int
    """Line number in the file, from 0."""
    text: str
    metadata: Mapping[str, str]
    """Other keys of a jsonl line; rewards that need a target text read `target`."""
