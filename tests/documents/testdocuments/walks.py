"""Which documents are walked: all their commands, but for the listed ones, are run in order as they stand.

Who calls this: the tests of this folder.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Walk:
    """How the commands of a document are run."""

    cluster: bool = False
    """Whether they need a cluster that knows G2RPOJob."""
    slow: bool = False
    """Whether they take more than twenty seconds."""
    iterations: int = 2
    """Of the jobs that they run."""


WALKS = {
    "README.md": Walk(slow=True),
    "docs/choose-your-settings.md": Walk(slow=True),
    "docs/first-job.md": Walk(cluster=True, slow=True),
    "docs/install.md": Walk(cluster=True),
    "docs/memory-and-cost.md": Walk(slow=True),
    "docs/models.md": Walk(slow=True),
    "docs/operate.md": Walk(cluster=True),
    "docs/out-of-memory.md": Walk(slow=True),
    "docs/plugin.md": Walk(cluster=True),
    "docs/prompts.md": Walk(),
    "docs/resume.md": Walk(slow=True, iterations=20),
    "docs/rewards.md": Walk(cluster=True),
    "docs/troubleshoot.md": Walk(cluster=True),
}
