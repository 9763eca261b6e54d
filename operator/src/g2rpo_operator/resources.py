"""How the API's paths name what the operator works with, and what is sent there. Pure.

Who calls this: `cluster.py` sends it; the others name resources.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from g2rpo_api import contract

Verb = Literal["get", "list", "create", "update", "patch", "delete"]
MAX_EVENT_MESSAGE = 1024
METHODS: dict[Verb, str] = {
    "get": "GET",
    "list": "GET",
    "create": "POST",
    "update": "PUT",
    "patch": "PATCH",
    "delete": "DELETE",
}


@dataclass(frozen=True)
class Resource:
    """A kind of object, as the API's paths name it."""

    group: str
    """Empty for the core group."""
    version: str
    plural: str

    def path(self, namespace: str | None, name: str = "", part: str = "") -> str:
        """Of one object, of a part of it such as status, or of all; None stands for all namespaces."""
        root = ("apis", self.group) if self.group else ("api",)
        place = ("namespaces", namespace) if namespace else ()
        return "/" + "/".join(filter(None, (*root, self.version, *place, self.plural, name, part)))


JOBS = Resource(contract.GROUP, contract.VERSION, contract.PLURAL)
CHILD_JOBS = Resource("batch", "v1", "jobs")
PODS = Resource("", "v1", "pods")
SERVICES = Resource("", "v1", "services")
CONFIG_MAPS = Resource("", "v1", "configmaps")
EVENTS = Resource("", "v1", "events")
LEASES = Resource("coordination.k8s.io", "v1", "leases")


@dataclass(frozen=True)
class Call:
    """One request."""

    verb: Verb
    resource: str
    """For counting: the plural, and the part of the object if it is not all of it."""
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    body: Any = None

    @property
    def headers(self) -> dict[str, str]:
        """Which kind of patch a patch is; that the events of a watch are not packed, since each would be alone."""
        kind = "application/merge-patch+json" if self.verb == "patch" else "application/json"
        plain = {"Accept-Encoding": "identity"} if "watch" in self.query else {}
        return {"Accept": "application/json", "Content-Type": kind, **plain}


def event_about(
    job: Mapping[str, Any], kind: str, reason: str, message: str, now: datetime, instance: str
) -> dict[str, Any]:
    """An event about a job, of the kind and with the fields that kubectl shows.

    Args:
        job: manifest of a G2RPOJob.
        kind: Normal or Warning.
        reason: in one word.
        message: for people; cut at 1,024 characters.
        now: when it happened.
        instance: name of the replica that tells it.
    """
    metadata, time = job["metadata"], now.strftime("%Y-%m-%dT%H:%M:%SZ")
    about = {key: metadata[key] for key in ("namespace", "name", "uid", "resourceVersion")}
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"namespace": metadata["namespace"], "generateName": f"{metadata['name'][:200]}-"},
        "involvedObject": {"apiVersion": contract.API_VERSION, "kind": contract.KIND, **about},
        "reason": reason,
        "message": message[:MAX_EVENT_MESSAGE],
        "type": kind,
        "count": 1,
        "firstTimestamp": time,
        "lastTimestamp": time,
        "source": {"component": contract.MANAGER},
        "reportingComponent": contract.MANAGER,
        "reportingInstance": instance,
    }
