"""A service that answers JSON over HTTP: attempts, pauses, the token, and what went wrong in words.

Who calls this: the rewards that ask a server. Where its business ends: what is asked and what an answer means is the
reward's.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import urllib3

TRY_AGAIN = frozenset({429, *range(500, 600)})
"""Answers after which the same question may be answered."""
_FIRST_PAUSE, _LONGEST_PAUSE, _JITTER = 0.5, 60.0, 1.0
"""Seconds; urllib3 doubles the first from the second pause on, and asks again at once before that."""
_TOLD = 300
"""Characters of an unwelcome answer that go into the message."""


class ServiceError(OSError):
    """A service could not be reached, or answered something else than was asked for."""


@dataclass(frozen=True)
class Patience:
    """How long one waits for a service."""

    timeout_seconds: float
    """For the connection, and for the next bytes of an answer."""
    retries: int
    """Attempts after the first."""


class Service:
    """A service at a base URL; may be asked from several threads."""

    def __init__(self, url: str, token_from_env: str | None, patience: Patience, connections: int = 1) -> None:
        """Nothing is asked yet.

        Args:
            url: base, with or without a slash at its end.
            token_from_env: environment variable with the bearer token; None sends none.
            patience: how long to wait, how often to try.
            connections: kept open at most.

        Raises:
            ServiceError: the variable is not set.
        """
        self._url = url.rstrip("/")
        self._attempts = patience.retries + 1
        retry = urllib3.Retry(
            patience.retries,
            redirect=False,
            allowed_methods=None,
            status_forcelist=TRY_AGAIN,
            backoff_factor=_FIRST_PAUSE,
            backoff_max=_LONGEST_PAUSE,
            backoff_jitter=_JITTER,
            retry_after_max=int(_LONGEST_PAUSE),
            raise_on_status=False,
        )
        timeout = urllib3.Timeout(patience.timeout_seconds)
        self._pool = urllib3.PoolManager(maxsize=connections, block=True, retries=retry, timeout=timeout)
        self._headers = {"Accept": "application/json", **_authorization(token_from_env)}

    def get(self, path: str) -> None:
        """Ask for a path below the base, for the status alone.

        Raises:
            ServiceError: there is no answer 200.
        """
        self._ask("GET", path)

    def post(self, path: str, question: Mapping[str, Any]) -> Any:
        """Send a question as JSON to a path below the base; the answer, out of its JSON.

        Raises:
            ServiceError: there is no answer 200, or it is not JSON.
        """
        body = json.dumps(question, allow_nan=False).encode()
        answer = self._ask("POST", path, body)
        try:
            return json.loads(answer)
        except ValueError as error:
            raise ServiceError(f"{self._url}{path} answered something that is not JSON: {_start(answer)}") from error

    def _ask(self, method: str, path: str, body: bytes | None = None) -> bytes:
        url = self._url + path
        headers = self._headers if body is None else {**self._headers, "Content-Type": "application/json"}
        try:
            answer = self._pool.request(method, url, body=body, headers=headers)
        except urllib3.exceptions.HTTPError as error:
            reason = error.reason if isinstance(error, urllib3.exceptions.MaxRetryError) else error
            raise ServiceError(f"{url} does not answer ({self._attempts} attempts): {reason}") from error
        if answer.status != HTTPStatus.OK:
            raise ServiceError(f"{url} answered {answer.status} {answer.reason or ''}: {_start(answer.data)}")
        return answer.data


def _authorization(token_from_env: str | None) -> dict[str, str]:
    if token_from_env is None:
        return {}
    token = os.environ.get(token_from_env, "").strip()
    if not token:
        raise ServiceError(
            f"the environment variable {token_from_env}, which tokenFromEnv names, is not set or empty; set it, in a "
            "cluster by workers.env with valueFrom.secretKeyRef"
        )
    return {"Authorization": f"Bearer {token}"}


def _start(body: bytes) -> str:
    """What an unwelcome answer says: its `error`, as most JSON services have it, or its beginning, on one line."""
    text = " ".join(body.decode(errors="replace").split())
    with suppress(ValueError, LookupError, TypeError):
        error = json.loads(body)["error"]
        text = str.strip(error if isinstance(error, str) else error["message"])
    return text if len(text) <= _TOLD else f"{text[:_TOLD]}…"
