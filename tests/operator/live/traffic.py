"""What a request to the Kubernetes API asks for, read off its method and path as the API server does."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

WRITES = ("create", "update", "patch", "delete")
ASIDE = ("leases", "events")
"""Written all the time, and without effect on any job."""
VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


@dataclass(frozen=True)
class Request:
    """One request."""

    verb: str
    """get, list, watch, create, update, patch or delete."""
    resource: str
    """Plural, with the subresource: g2rpojobs/status."""
    namespace: str
    name: str
    body: Any = None

    @property
    def write(self) -> bool:
        """Whether it changes something that matters."""
        return self.verb in WRITES and self.resource not in ASIDE

    def __str__(self) -> str:
        told = ""
        if self.resource == "g2rpojobs/status":
            told = f" {self.body['status']['phase']} {self.body['status']['attempt']}"
        return f"{self.verb} {self.resource} {self.name}{told}"


def request_of(method: str, path: str, query: Mapping[str, str], body: bytes) -> Request:
    """The request that HTTP speaks of."""
    parts = path.strip("/").split("/")
    # api/VERSION/..., apis/GROUP/VERSION/...
    rest = parts[2:] if parts[0] == "api" else parts[3:]
    namespace = ""
    if len(rest) > 2 and rest[0] == "namespaces":
        namespace, rest = rest[1], rest[2:]
    resource, name, *more = [*rest, "", ""][: max(2, len(rest))]
    content = json.loads(body) if body else None
    if method == "GET":
        verb = "get" if name else "list"
        verb = "watch" if query.get("watch") in ("1", "true") else verb
    else:
        verb = VERBS[method]
    if verb == "create" and not name:
        metadata = content["metadata"]
        name = metadata.get("name") or metadata["generateName"]
    return Request(verb, "/".join([resource, *more]), namespace, name, content)
