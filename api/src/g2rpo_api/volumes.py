"""Where files come from and go to; names and meaning are Kubernetes' own.

Who calls this: `pods.py` and `job.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from g2rpo_api.base import Items, Model, Text
from g2rpo_api.contract import CACHE_DIR, CONFIG_DIR, RUNS_DIR
from g2rpo_api.notation import MAX_ITEMS, AbsolutePath, ObjectName, Quantity, RelativePath, VolumeName
from g2rpo_api.rules import Fault, Rule

RESERVED_PATHS = (RUNS_DIR, CACHE_DIR, CONFIG_DIR, "/dev", "/tmp")
"""Where the operator mounts something itself."""
RESERVED_VOLUMES = "g2rpo-"
"""What the names of the operator's own volumes begin with."""


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

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            f"!self.name.startsWith('{RESERVED_VOLUMES}')",
            f"must not begin with {RESERVED_VOLUMES}, as the operator's own volumes do; choose another name",
            ".name",
        ),
    )

    def faults(self) -> Iterator[Fault]:
        """A name that the operator may give to a volume of its own."""
        if self.name.startswith(RESERVED_VOLUMES):
            allowed = f"a name that does not begin with {RESERVED_VOLUMES}, as the operator's own volumes do"
            yield Fault(("name",), self.name, allowed, "choose another name")


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


Volumes = Annotated[Items[Volume], Field(max_length=MAX_ITEMS)]
VolumeMounts = Annotated[Items[VolumeMount], Field(max_length=MAX_ITEMS)]
