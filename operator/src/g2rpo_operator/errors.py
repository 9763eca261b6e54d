"""What a request to the API server can end with, sorted by what can be done about it. Pure.

Who calls this: `cluster.py` raises these; the work queue and whoever makes requests handles them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

MAX_MESSAGE = 2048
PASSING = ("exceeded quota", "status unknown for quota", "is being terminated")
"""In the message of a refusal that may not last."""


class ClusterError(Exception):
    """A request did not do what was asked. One of the kinds below; the text is the API server's."""


class TransientError(ClusterError):
    """Overload, a failure of the server or no answer: the same may succeed later, or even have succeeded."""

    def __init__(self, message: str, after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.after_seconds = after_seconds
        """How long the server asks to wait; None when it does not say."""


class ConflictError(ClusterError):
    """The object is not the one that was meant, or not this version of it any more: read again, decide again."""


class AlreadyExistsError(ClusterError):
    """There is an object of this name."""


class NotFoundError(ClusterError):
    """There is no such object, or no such namespace or kind."""


class ForbiddenError(ClusterError):
    """The operator is not known or not allowed to do this: its role lacks something."""


class RejectedError(ClusterError):
    """The request cannot be right as it is: invalid, against a policy, over a quota."""

    def __init__(self, message: str, *, permanent: bool = True) -> None:
        super().__init__(message)
        self.permanent = permanent
        """Whether the same request will be refused for ever; a quota may have room later."""


def error_of(code: int, body: bytes, retry_after: str | None = None) -> ClusterError:
    """The error that an answer stands for.

    Args:
        code: HTTP status, from 400.
        body: a Kubernetes Status, or anything.
        retry_after: header of this name.
    """
    status = _status(body)
    message = str(status.get("message") or body.decode(errors="replace") or "no text")[:MAX_MESSAGE]
    text = f"{message} ({code})"
    if code in (408, 410, 429) or code >= 500:
        return TransientError(text, _seconds(retry_after))
    if code == 409:
        return AlreadyExistsError(text) if status.get("reason") == "AlreadyExists" else ConflictError(text)
    if code == 404:
        return NotFoundError(text)
    if code == 401 or (code == 403 and 'User "' in message and '" cannot ' in message):
        return ForbiddenError(text)
    return RejectedError(text, permanent=not any(words in message for words in PASSING))


def unreachable(request: str, error: Exception) -> TransientError:
    """The error of a request that got no answer."""
    return TransientError(f"{request}: {str(error) or type(error).__name__}")


def _status(body: bytes) -> Mapping[str, Any]:
    try:
        found = json.loads(body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) and found.get("kind") == "Status" else {}


def _seconds(header: str | None) -> float | None:
    return float(header) if header is not None and header.isdecimal() else None
