"""The parts of a pod that a job may settle itself; names and meaning are Kubernetes' own.

Who calls this: `job.py`. A few fields in place of a whole pod template: they fit into a small custom
resource definition, and nothing in them can break what the ranks need to find each other.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from g2rpo_api.base import Count, Items, Model, Positive
from g2rpo_api.contract import RESERVED_ENV, RESERVED_ENV_PREFIXES
from g2rpo_api.notation import (
    MAX_ITEMS,
    RESOURCE_KEY,
    Amounts,
    EnvName,
    ExtendedResource,
    Key,
    LabelKey,
    LabelValue,
    ObjectName,
)
from g2rpo_api.rules import Fault, Rule, Spelling


class ResourcesSpec(Model):
    """Compute resources of one pod, beside the accelerators."""

    requests: Amounts = Field(default_factory=dict)
    """What the scheduler reserves: `cpu`, `memory`, `ephemeral-storage`, other extended resources."""
    limits: Amounts = Field(default_factory=dict)
    """What the pod may use at most. A memory limit also sizes /dev/shm."""

    free_keys: ClassVar[dict[str, Spelling]] = {"requests": RESOURCE_KEY, "limits": RESOURCE_KEY}


class Toleration(Model):
    """A taint that the pods put up with."""

    key: LabelKey | None = None
    """Taint's key; every key when left out, with operator Exists."""
    operator: Literal["Exists", "Equal"] = "Equal"
    """`Equal` compares the value, `Exists` does not."""
    value: LabelValue | None = None
    """Taint's value, for Equal."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """Taint's effect; every effect when empty."""
    toleration_seconds: Count | None = None
    """How long a NoExecute taint is put up with; for ever when empty."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "has(self.key) || self.operator == 'Exists'",
            "must be Exists when key is left out; set it, or name a key",
            ".operator",
        ),
        Rule(
            "self.operator != 'Exists' || !has(self.value) || self.value == ''",
            "must be absent when operator is Exists; remove it, or set operator: Equal",
            ".value",
            "FieldValueForbidden",
        ),
        Rule(
            "!has(self.tolerationSeconds) || has(self.effect) && self.effect == 'NoExecute'",
            "must be absent unless effect is NoExecute; remove it, or set effect: NoExecute",
            ".tolerationSeconds",
            "FieldValueForbidden",
        ),
    )

    def faults(self) -> Iterator[Fault]:
        """What Kubernetes takes no toleration for."""
        if self.key is None and self.operator == "Equal":
            yield Fault(("operator",), self.operator, "Exists when key is left out", "set it, or name a key")
        if self.operator == "Exists" and self.value:
            hint = "remove it, or set operator: Equal"
            yield Fault(("value",), self.value, "absent when operator is Exists", hint)
        if self.toleration_seconds is not None and self.effect != "NoExecute":
            hint = "remove it, or set effect: NoExecute"
            yield Fault(("tolerationSeconds",), self.toleration_seconds, "absent unless effect is NoExecute", hint)


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

    name: EnvName
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

    resource_name: ExtendedResource
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
