"""The parts of a pod that a job may settle itself; names and meaning are Kubernetes' own.

Who calls this: `job.py`. A few fields in place of a whole pod template: they fit into a small custom
resource definition, and nothing in them can break what the ranks need to find each other.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field

from g2rpo_api.base import MAX_INT64, WITHOUT_NULLS, Count, Items, Model, Positive, Text, spelled, whole
from g2rpo_api.contract import CACHE_DIR, CONFIG_DIR, RESERVED_ENV, RESERVED_ENV_PREFIXES, RUNS_DIR
from g2rpo_api.rules import Fault, Rule

QUANTITY = r"^\+?([0-9]+(\.[0-9]*)?|\.[0-9]+)([KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]+)?$"
"""Kubernetes' notation of amounts, without negative ones."""
QUALIFIED_NAME = r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$"
MAX_ITEMS = 64
RESERVED_PATHS = (RUNS_DIR, CACHE_DIR, CONFIG_DIR, "/dev", "/tmp")
"""Where the operator mounts something itself."""


def _text_of_number(value: Any) -> Any:
    number = whole(value)
    return str(number) if type(number) is int and abs(number) <= MAX_INT64 else value


Quantity = Annotated[
    str,
    spelled(QUANTITY, 32, "an amount such as 500m, 16Gi or 8", **{"x-kubernetes-int-or-string": True}),
    BeforeValidator(_text_of_number),
]
"""An amount as Kubernetes writes it: 500m, 16Gi, 8."""
ObjectName = Annotated[
    str, spelled(r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", 253, "lower-case letters and digits, - and . inside")
]
QualifiedName = Annotated[str, spelled(QUALIFIED_NAME, 317, "a name such as cpu or nvidia.com/gpu")]
AbsolutePath = Annotated[str, spelled(r"^/[^:]*$", 4096, "/ first, no colon")]
RelativePath = Annotated[str, spelled(r"^[^/].*$", 4096, "no / first")]
Key = Annotated[str, spelled(r"^[-._a-zA-Z0-9]+$", 253, "letters, digits, -, _ and .")]
VolumeName = Annotated[str, spelled(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", 40, "lower-case letters and digits, - inside")]
Amounts = Annotated[dict[str, Quantity], Field(max_length=16), WITHOUT_NULLS]
Texts = Annotated[dict[str, Annotated[str, Field(max_length=4096)]], Field(max_length=MAX_ITEMS), WITHOUT_NULLS]
LabelValues = Annotated[dict[str, Annotated[str, Field(max_length=63)]], Field(max_length=MAX_ITEMS), WITHOUT_NULLS]


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


class ClaimSource(Model):
    """A PersistentVolumeClaim."""

    claim_name: ObjectName
    """Name of the claim, in the job's namespace."""
    read_only: bool = False
    """Mount it read-only."""


class SecretSource(Model):
    """A Secret as files."""

    secret_name: ObjectName
    """Name of the Secret."""


class ConfigMapSource(Model):
    """A ConfigMap as files."""

    name: ObjectName
    """Name of the ConfigMap."""


class EmptyDirSource(Model):
    """An empty folder that lives as long as the pod."""

    medium: Literal["", "Memory"] = ""
    """Empty for the node's disk, `Memory` for RAM."""
    size_limit: Quantity | None = None
    """Largest size; the pod is evicted beyond it."""


class HostPathSource(Model):
    """A folder of the node."""

    path: AbsolutePath
    """The folder; the same on every node that the job may run on."""


class NFSSource(Model):
    """An NFS export."""

    server: Text
    """Host name or address of the server."""
    path: AbsolutePath
    """Exported path."""
    read_only: bool = False
    """Mount it read-only."""


class RunsVolume(Model):
    """What run folders are written to: one kind; an empty folder that dies with the pod when none is named."""

    at_most_one: ClassVar[tuple[str, ...]] = ("persistent_volume_claim", "nfs", "host_path", "empty_dir")

    persistent_volume_claim: ClaimSource | None = None
    """A claim in the job's namespace; with several nodes it must be ReadWriteMany."""
    nfs: NFSSource | None = None
    """An NFS export."""
    host_path: HostPathSource | None = None
    """A folder of the node; only with one node, or where all nodes share it."""
    empty_dir: EmptyDirSource | None = None
    """A folder that dies with the pod: a restart begins again at iteration 0."""
    sub_path: RelativePath | None = None
    """Folder inside the volume that holds the run folders."""

    @property
    def lasting(self) -> bool:
        """Whether checkpoints outlive the pods."""
        return not (self.empty_dir or not any(getattr(self, name) for name in self.at_most_one))


class Volume(Model):
    """A volume of the pods: a name and exactly one source."""

    exactly_one: ClassVar[tuple[str, ...]] = (
        "persistent_volume_claim", "secret", "config_map", "empty_dir", "host_path", "nfs",
    )  # fmt: skip

    name: VolumeName
    """Name, for volumeMounts."""
    persistent_volume_claim: ClaimSource | None = None
    """A claim in the job's namespace: data sets, model weights."""
    secret: SecretSource | None = None
    """A Secret as files."""
    config_map: ConfigMapSource | None = None
    """A ConfigMap as files: small prompt files."""
    empty_dir: EmptyDirSource | None = None
    """An empty folder."""
    host_path: HostPathSource | None = None
    """A folder of the node."""
    nfs: NFSSource | None = None
    """An NFS export."""


class VolumeMount(Model):
    """Where a volume appears in the trainer's container."""

    name: VolumeName
    """Name of a volume in workers.volumes."""
    mount_path: AbsolutePath
    """Path in the container."""
    sub_path: RelativePath | None = None
    """Folder inside the volume."""
    read_only: bool = False
    """Mount it read-only."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            f"{list(RESERVED_PATHS)}.all(p, self.mountPath != p && !self.mountPath.startsWith(p + '/'))",
            f"must be a path outside {', '.join(RESERVED_PATHS)}; choose another path",
            ".mountPath",
        ),
    )

    def faults(self) -> Iterator[Fault]:
        """A place where the operator mounts something itself."""
        if any(self.mount_path == path or self.mount_path.startswith(f"{path}/") for path in RESERVED_PATHS):
            allowed = f"a path outside {', '.join(RESERVED_PATHS)}"
            yield Fault(("mountPath",), self.mount_path, allowed, "choose another path")


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


Volumes = Annotated[Items[Volume], Field(max_length=MAX_ITEMS)]
VolumeMounts = Annotated[Items[VolumeMount], Field(max_length=MAX_ITEMS)]
Env = Annotated[Items[EnvVar], Field(max_length=MAX_ITEMS)]
Tolerations = Annotated[Items[Toleration], Field(max_length=MAX_ITEMS)]
