"""A client of the Kubernetes API for scripts: JSON in, JSON out, one connection per request.

Who calls this: the modules beside it, tests and benchmarks. A connection is never reused, so that an API server that
was killed and started again is no special case.
Its business ends with requests: it knows paths and verbs, no kinds of objects.
"""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from testcluster.certificates import Pair

Object = dict[str, Any]
REQUEST_SECONDS = 30.0
JSON, MERGE_PATCH, STRATEGIC_PATCH, APPLY = (
    "application/json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
)


class ApiError(Exception):
    """The API server refused: `code` is the HTTP status, `reason` the machine's word (NotFound, Conflict, Invalid)."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(f"{code} {reason}: {message}")
        self.code, self.reason = code, reason


@dataclass(frozen=True)
class Api:
    """The API at https://`host`:`port`, as the user of a client certificate."""

    host: str
    port: int
    authority: Path
    client: Pair

    def connect(self, seconds: float) -> http.client.HTTPSConnection:
        context = ssl.create_default_context(cafile=str(self.authority))
        context.load_cert_chain(self.client.certificate, self.client.key)
        return http.client.HTTPSConnection(self.host, self.port, timeout=seconds, context=context)

    def request(self, method: str, path: str, body: object = None, content: str = JSON) -> Object:
        """One request; ApiError if it is refused, OSError if nobody answers."""
        connection = self.connect(REQUEST_SECONDS)
        try:
            payload = None if body is None else json.dumps(body)
            connection.request(method, path, payload, {"Content-Type": content, "Accept": JSON})
            response = connection.getresponse()
            return checked(response.status, response.read())
        finally:
            connection.close()

    def get(self, path: str) -> Object:
        return self.request("GET", path)

    def items(self, path: str, **query: str) -> list[Object]:
        """Objects of a collection; `labelSelector=` and `fieldSelector=` choose."""
        listing = self.get(f"{path}?{urlencode(query)}" if query else path)
        return list(listing["items"])

    def create(self, path: str, body: Object) -> Object:
        return self.request("POST", path, body)

    def merge(self, path: str, body: Object) -> Object:
        """Merge patch: null removes a key, a list replaces the whole list."""
        return self.request("PATCH", path, body, MERGE_PATCH)

    def patch(self, path: str, body: Object) -> Object:
        """Strategic merge patch, which knows that conditions are told apart by their type."""
        return self.request("PATCH", path, body, STRATEGIC_PATCH)

    def delete(self, path: str, **options: object) -> Object:
        """Delete; `gracePeriodSeconds=`, `propagationPolicy=` as in DeleteOptions."""
        return self.request("DELETE", path, {"kind": "DeleteOptions", "apiVersion": "v1", **options})

    def answers(self, path: str) -> bool:
        """Whether the path can be read now."""
        connection = self.connect(REQUEST_SECONDS)
        try:
            connection.request("GET", path)
            return connection.getresponse().status == http.client.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def watch(self, path: str, seconds: int, **query: str) -> Iterator[tuple[str, Object]]:
        """(ADDED | MODIFIED | DELETED | BOOKMARK | ERROR, object) from the server, for at most so many seconds."""
        connection = self.connect(seconds + REQUEST_SECONDS)
        try:
            query = {"watch": "1", "timeoutSeconds": str(seconds), **query}
            connection.request("GET", f"{path}?{urlencode(query)}", headers={"Accept": JSON})
            response = connection.getresponse()
            if response.status != http.client.OK:
                checked(response.status, response.read())
            for line in response:
                event = json.loads(line)
                yield event["type"], event["object"]
        finally:
            connection.close()


def checked(code: int, answer: bytes) -> Object:
    """The answer as an object; ApiError if the code says that the request was refused."""
    if code < http.client.BAD_REQUEST:
        return dict(json.loads(answer))
    try:
        status = dict(json.loads(answer))
    except json.JSONDecodeError:
        status = {"reason": "", "message": answer.decode(errors="replace").strip()}
    raise ApiError(code, status.get("reason") or "", status.get("message") or "")
