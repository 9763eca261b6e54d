"""The G2RPOJob: one YAML that a cluster gets and that `g2rpo-train` runs without one.

Who calls this: `parse.py`, the operator and the trainer.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from g2rpo_api.base import Fault, Model, Positive
from g2rpo_api.training import TrainingSpec

MAX_NAME = 52
"""Longest job name: pods and services add their suffixes and stay within 63 characters."""


class Metadata(Model):
    """The part of Kubernetes' ObjectMeta that matters here; the API server's other keys are let pass."""

    model_config = ConfigDict(extra="ignore")

    name: Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=MAX_NAME)]
    """Name of the job, and of its run folder: lower-case letters, digits and dashes."""
    namespace: str | None = None
    """Namespace on a cluster."""
    labels: dict[str, str] = Field(default_factory=dict)
    """Labels, for selecting."""
    annotations: dict[str, str] = Field(default_factory=dict)
    """Annotations, for tools."""


class WorkersSpec(Model):
    """The processes that train together; one process is one rank."""

    nodes: Positive = 1
    """Machines, one pod each on a cluster."""
    processes_per_node: Positive = 1
    """Training processes on each machine: one per GPU, or one per two cores or so on a CPU."""

    @property
    def ranks(self) -> int:
        """Processes in all, the world size."""
        return self.nodes * self.processes_per_node


class JobSpec(Model):
    """What to train, and on how many processes."""

    workers: WorkersSpec = WorkersSpec()
    """The processes that train together."""
    training: TrainingSpec
    """What is trained, on what, by which rules."""

    def faults(self) -> Iterator[Fault]:
        """Ranks that would get unequal numbers of prompts."""
        ranks, prompts = self.workers.ranks, self.training.prompts.per_iteration
        if prompts % ranks:
            workers = (
                f"workers.nodes x workers.processesPerNode = {self.workers.nodes} x {self.workers.processes_per_node}"
            )
            nearest = max(1, round(prompts / ranks)) * ranks
            hint = f"every rank gets the same number of prompts: set it to {nearest}, or change the workers"
            allowed = f"a multiple of {ranks}, the number of ranks ({workers})"
            yield Fault(("training", "prompts", "perIteration"), prompts, allowed, hint)


class G2RPOJob(Model):
    """A training run of a flow-matching image model against rewards."""

    api_version: Literal["g2rpo.dev/v1alpha1"]
    """Version of this definition."""
    kind: Literal["G2RPOJob"]
    """Kind of object."""
    metadata: Metadata
    """Name and labels."""
    spec: JobSpec
    """What to train, and on how many processes."""
