"""The reward server's HTTP: who may ask, how much, and what is said when something is wrong.

Who calls this: `__main__.py`. The words are those of `rewards/wire.py`; scores come from `batching.py`.
"""

from __future__ import annotations

import hmac
import json
import logging
import math
import sys
import threading
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import Any

from torch import Tensor

from g2rpo_trainer.monitoring.endpoint import PLAIN, Answer, Server
from g2rpo_trainer.rewards import wire
from g2rpo_trainer.rewards.foreign import said
from g2rpo_trainer.rewards.protocol import Reward
from g2rpo_trainer.rewardserver.batching import Batcher, BusyError, by_size
from g2rpo_trainer.rewardserver.metrics import Metrics

logger = logging.getLogger(__name__)

CLIENT_TIMEOUT_SECONDS = 60
"""How long a client may be silent, between requests or within one."""
_LOOK_SECONDS = 0.05
"""How often the listener looks whether it shall close."""
_CHUNK = 2**20
_DIGITS = 18
"""Of a request's length at most."""
_UNWELL = HTTPStatus.SERVICE_UNAVAILABLE
_PATHS = f"there is POST {wire.SCORE}, GET {wire.HEALTH} and GET {wire.METRICS}"


@dataclass(frozen=True)
class Limits:
    """How requests are collected, and how large one may be."""

    batch_pictures: int
    wait_seconds: float
    max_request_bytes: int


class RefusedError(Exception):
    """A request that gets an error for an answer."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        """The status, and what to tell."""
        super().__init__(message)
        self.status = status


class RewardServer:
    """Serves a reward until closed."""

    def __init__(self, reward: Reward, token: str | None, limits: Limits, host: str, port: int) -> None:
        """Listen and answer.

        Args:
            reward: asked from one thread only.
            token: what `Authorization: Bearer` must carry; None lets everybody ask.
            limits: how requests are collected, and how large one may be.
            host: name or address to listen on.
            port: 0 takes a free one.

        Raises:
            OSError: the port is taken or not allowed.
        """
        self.metrics = Metrics()
        self.batcher = Batcher(self.metrics.watched(by_size(reward)), limits.batch_pictures, limits.wait_seconds)
        self.token = token
        self.limits = limits
        self._server = _Listener((host, port), self)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(_LOOK_SECONDS,), name="reward-server", daemon=True
        )
        self._thread.start()

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self._server.server_address[1])

    def close(self) -> None:
        """Stop listening, answer what waits."""
        self._server.shutdown()
        self._thread.join()
        self.batcher.close()
        self._server.server_close()

    def health(self) -> Answer:
        """Well as long as requests are answered."""
        if self.batcher.alive:
            return Answer(b"ok\n", PLAIN)
        return Answer(b"the thread that scores has ended; start the server again\n", PLAIN, _UNWELL)

    def admit(self, path: str, authorization: str, length: int) -> None:
        """Let a request for scores in.

        Raises:
            RefusedError: it is for another path, its sender may not ask, or it is too large.
        """
        if path != wire.SCORE:
            raise RefusedError(HTTPStatus.NOT_FOUND, _PATHS)
        if self.token is not None and not hmac.compare_digest(authorization.encode(), f"Bearer {self.token}".encode()):
            raise RefusedError(HTTPStatus.UNAUTHORIZED, "the token in Authorization: Bearer is missing or wrong")
        most = self.limits.max_request_bytes
        if length > most:
            reason = f"{length:,} bytes, at most {most:,} (--max-request-mib); send fewer pictures at a time"
            raise RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, reason)

    def score(self, body: bytes) -> Answer:
        """Answer to a request for scores.

        Raises:
            RefusedError: it cannot be answered.
        """
        try:
            scores = self.batcher.submit(*wire.read_question(body)).result()
        except wire.QuestionError as error:
            raise RefusedError(HTTPStatus.BAD_REQUEST, str(error)) from error
        except BusyError as error:
            raise RefusedError(_UNWELL, str(error)) from error
        except ValueError as error:
            raise RefusedError(HTTPStatus.UNPROCESSABLE_ENTITY, f"the reward refuses: {error}") from error
        except Exception as error:  # a reward is anybody's code
            logger.exception("the reward failed")
            raise RefusedError(HTTPStatus.INTERNAL_SERVER_ERROR, f"the reward failed: {said(error)}") from error
        return _json(HTTPStatus.OK, {"scores": _plain(scores)})


class _Listener(Server):
    def __init__(self, address: tuple[str, int], answers: RewardServer) -> None:
        super().__init__(address, _Handler)
        self.answers = answers

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is no news."""
        logger.info("a request of %s broke off: %s", client_address, sys.exception())


def _plain(scores: Tensor) -> list[float | None]:
    """Numbers, and null where there is none."""
    return [value if math.isfinite(value) else None for value in scores.tolist()]


def _json(status: HTTPStatus, content: Any) -> Answer:
    return Answer(json.dumps(content, allow_nan=False).encode() + b"\n", "application/json", status)


def _error(status: HTTPStatus, message: str) -> Answer:
    return _json(status, {"error": message})


class _Handler(BaseHTTPRequestHandler):
    server: _Listener
    protocol_version = "HTTP/1.1"
    timeout = CLIENT_TIMEOUT_SECONDS

    def do_GET(self) -> None:
        if self.path == wire.HEALTH:
            self._send(self.server.answers.health())
        elif self.path == wire.METRICS:
            self._send(self.server.answers.metrics.page(self.headers.get("Accept", "")))
        else:
            self._send(_error(HTTPStatus.NOT_FOUND, _PATHS))

    def do_POST(self) -> None:
        try:
            answer = self.server.answers.score(self._body())
        except RefusedError as error:
            answer = _error(error.status, str(error))
        self.server.answers.metrics.answered(answer.status)
        self._send(answer)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's name
        """The metrics tell."""

    def _body(self) -> bytes:
        """The request's body, if its sender may ask; otherwise what there is of it is read and dropped."""
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or len(length) > _DIGITS:
            self.close_connection = True
            raise RefusedError(HTTPStatus.LENGTH_REQUIRED, "send Content-Length, in bytes")
        try:
            self.server.answers.admit(self.path, self.headers.get("Authorization", ""), int(length))
        except RefusedError:
            self._drop(min(int(length), self.server.answers.limits.max_request_bytes))
            raise
        return self.rfile.read(int(length))

    def _drop(self, length: int) -> None:
        """A connection that is closed with bytes unread may lose the answer on its way."""
        self.close_connection = True
        while length > 0 and (part := self.rfile.read(min(length, _CHUNK))):
            length -= len(part)

    def _send(self, answer: Answer) -> None:
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(answer.body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(answer.body)
