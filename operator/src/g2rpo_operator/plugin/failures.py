"""What ends a command, in the words that a person reads, and as kubectl would say it.

Who calls this: every module of the plugin raises these; `__main__` prints them and ends with exit code 1.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from g2rpo_api.errors import SpecError

NO_DEFINITION = (
    "error: the server doesn't have a resource type \"g2rpojobs\": install the operator's custom resource definition"
)


class PluginError(Exception):
    """A command cannot do what was asked; the text says why and what to do."""

    def __str__(self) -> str:
        return f"error: {super().__str__()}"


class MistakesError(PluginError):
    """Jobs that are not right, each with all that is wrong with it."""

    def __init__(self, mistakes: Sequence[SpecError]) -> None:
        super().__init__()
        self.mistakes = tuple(mistakes)

    def __str__(self) -> str:
        return "\n\n".join(map(str, self.mistakes))


class ServerError(PluginError):
    """The API server refused."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        """HTTP status."""
        self.reason = reason
        """In one word of Kubernetes': NotFound, Conflict, Invalid, …; empty when nothing was said."""
        self.message = message

    def __str__(self) -> str:
        reason = f" ({self.reason})" if self.reason else ""
        return f"Error from server{reason}: {self.message}"

    @property
    def not_found(self) -> bool:
        """Whether there is no such object."""
        return self.code == 404


class NoDefinitionError(PluginError):
    """The cluster does not know what a G2RPOJob is."""

    def __str__(self) -> str:
        return NO_DEFINITION


def server_error(code: int, body: bytes, path: str) -> PluginError:
    """The error that an answer stands for.

    Args:
        code: HTTP status, from 400.
        body: a Kubernetes Status, or anything.
        path: what was asked for.
    """
    status = _status(body)
    if code == 404 and not status.get("details") and path.startswith("/apis/"):
        return NoDefinitionError()
    text = body.decode(errors="replace").strip()
    return ServerError(code, str(status.get("reason") or ""), str(status.get("message") or text or f"status {code}"))


def _status(body: bytes) -> Mapping[str, Any]:
    try:
        found = json.loads(body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) and found.get("kind") == "Status" else {}
