"""The parts of a pod that a job may settle itself; names and meaning are Kubernetes' own.

Who calls this: `job.py`. A few fields in place of a whole pod template: they fit into a small custom
resource definition, and nothing in them can break what the ranks need to find each other.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from g2rpo_api.base import Count, Items, Model, Positive, spelled
from g2rpo_api.contract import RESERVED_ENV, RESERVED_ENV_PREFIXES
from g2rpo_api.notation import MAX_ITEMS, Amounts, Key, ObjectName, QualifiedName
from g2rpo_api.rules import Fault, Rule


class ResourcesSpec(Model):
    """Compute resources of one pod, beside the accelerators."""

    requests: Amounts = Field(default_factory=dict)
    """What the scheduler reserves: `cpu`, `memory`, `ephemeral-storage`, other extended resources."""
    limits: Amounts = Field(default_factory=dict)
    """What the pod may use at most. A memory limit also sizes /dev/shm."""


class Toleration(Model):
    """A taint that the pods put up with."""

    key: Annotated[str, Field(max_length=317)] | None = None
    """Taint's key; every key when empty, with operator Exists."""
    operator: Literal["Exists", "Equal"] = "Equal"
    """`Equal` compares the value, `Exists` does not."""
    value: Annotated[str, Field(max_length=63)] | None = None
    """Taint's value, for Equal."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """Taint's effect; every effect when empty."""
    toleration_seconds: Count | None = None
    """How long a NoExecute taint is put up with; for ever when empty."""


class KeySelector(Model):
    """A key of a Secret or a ConfigMap in the job's namespace."""

    name: ObjectName
    """Name of the object."""
    key: Key
    """Key in it."""
    optional: bool = False
    """Start without it when it is not there."""


class EnvSource(Model):
    """Where a variable's value comes from: exactly one of these."""

    exactly_one: ClassVar[tuple[str, ...]] = ("secret_key_ref", "config_map_key_ref")

    secret_key_ref: KeySelector | None = None
    """A key of a Secret: the place for tokens."""
    config_map_key_ref: KeySelector | None = None
    """A key of a ConfigMap."""


class EnvVar(Model):
    """An environment variable of the trainer."""

    name: Annotated[str, spelled(r"^[A-Za-z_][A-Za-z0-9_]*$", 253, "letters, digits and _, no digit first")]
    """Name. What tells ranks their place (MASTER_ADDR, RANK, G2RPO_…) is set by the operator and refused here."""
    value: Annotated[str, Field(max_length=32768)] | None = None
    """Value in plain text; no place for a token."""
    value_from: EnvSource | None = None
    """A Secret or ConfigMap that holds the value."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            f"!(self.name in {list(RESERVED_ENV)}) && "
            f"{list(RESERVED_ENV_PREFIXES)}.all(prefix, !self.name.startsWith(prefix))",
            f"must be none of {', '.join(RESERVED_ENV)}, and not begin with {', '.join(RESERVED_ENV_PREFIXES)}; remove "
            "it: the operator sets it for every rank",
            ".name",
        ),
        Rule(
            "!has(self.value) || !has(self.valueFrom)",
            "must be absent when value is given; remove one of them",
            ".valueFrom",
            "FieldValueForbidden",
        ),
    )

    def faults(self) -> Iterator[Fault]:
        """A name that the operator sets, or two values."""
        if self.name in RESERVED_ENV or self.name.startswith(RESERVED_ENV_PREFIXES):
            prefixes = ", ".join(RESERVED_ENV_PREFIXES)
            allowed = f"a name other than {', '.join(RESERVED_ENV)}, and none that begins with {prefixes}"
            yield Fault(("name",), self.name, allowed, "remove it: the operator sets it for every rank")
        if self.value is not None and self.value_from is not None:
            yield Fault(("valueFrom",), "a source beside value", "absent when value is given", "remove one of them")


class LocalObject(Model):
    """An object in the job's namespace."""

    name: ObjectName
    """Its name."""


class RDMASpec(Model):
    """A fast network beside the pod network."""

    resource_name: QualifiedName
    """Extended resource of the device plugin, such as rdma/hca."""
    count: Positive = 1
    """Devices per pod."""


class SecurityContext(Model):
    """Who the trainer is to the file system. Everything else of the pods meets the restricted Pod Security Standard."""

    run_as_user: Positive = 65532
    """User id; never root."""
    run_as_group: Positive = 65532
    """Group id."""
    fs_group: Positive | None = 65532
    """Group that mounted volumes are made writable for; empty leaves their ownership alone."""


Env = Annotated[Items[EnvVar], Field(max_length=MAX_ITEMS)]
Tolerations = Annotated[Items[Toleration], Field(max_length=MAX_ITEMS)]
