"""What an estimate of memory says, in numbers. Pure, and without torch.

Who calls this: `memory.py` makes it, the plan and the checks tell it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

TOLERANCE = 0.15
"""How far an estimate may be from what is measured, as a share of it."""


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes on a rank."""

    resident: Mapping[str, int]
    """What stays while training goes on, by part."""
    phases: Mapping[str, int]
    """What each phase needs beside it, at its worst moment."""
    encoding: int
    """What the text encoders need, before anything else is there."""

    @property
    def total(self) -> int:
        """The most at any moment."""
        return max(self.encoding, sum(self.resident.values()) + max(self.phases.values()))

    @property
    def worst(self) -> str:
        """The phase with the most."""
        return max(self.phases, key=lambda name: self.phases[name])
