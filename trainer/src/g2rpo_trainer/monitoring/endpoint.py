"""A small HTTP server for a few read-only documents, in a daemon thread.

Who calls this: `telemetry.py`. What the documents say is the routes' business.
"""

from __future__ import annotations

import socketserver
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

CLIENT_TIMEOUT_SECONDS = 10
"""How long a client may take over its request."""
PLAIN = "text/plain; charset=utf-8"


@dataclass(frozen=True)
class Answer:
    """What a route returns."""

    body: bytes
    content_type: str
    status: HTTPStatus = HTTPStatus.OK
    sent: Callable[[], None] = lambda: None
    """Called when a client has got the body."""


Route = Callable[[str], Answer]
"""From the request's Accept header to an answer; called from several threads."""


class Endpoint:
    """Serves routes until closed."""

    def __init__(self, routes: Mapping[str, Route], port: int, host: str) -> None:
        """Listen on host:port and answer; port 0 takes a free one.

        Raises:
            OSError: the port is taken or not allowed; the message names it and the remedy.
        """
        try:
            self._server = Server((host, port), handler(routes))
        except OSError as error:
            remedy = "stop what listens there, name another port, or use --port 0, which picks a free one"
            raise OSError(error.errno, f"port {port} of {host}: {error.strerror}; {remedy}") from error
        self._thread = threading.Thread(target=self._server.serve_forever, name="endpoint", daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self._server.server_address[1])

    def close(self) -> None:
        """Stop listening; requests under way are finished by their threads."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Server(socketserver.ThreadingTCPServer):
    """A thread per connection.

    Not http.server's own, which asks the name service for the host's full name before it listens.
    """

    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away before it has its answer, as a scraper does after its timeout, is no news."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


def handler(routes: Mapping[str, Route]) -> type[BaseHTTPRequestHandler]:
    """A request handler that knows these paths; others get 404 with the list of paths."""

    class Handler(BaseHTTPRequestHandler):
        timeout = CLIENT_TIMEOUT_SECONDS

        def do_GET(self) -> None:
            self._answer(with_body=True)

        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's name
            """Scrapes every few seconds are no news."""

        def _answer(self, with_body: bool) -> None:
            route = routes.get(self.path.partition("?")[0])
            answer = route(self.headers.get("Accept", "")) if route else _not_found(routes)
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.content_type)
            self.send_header("Content-Length", str(len(answer.body)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            if with_body:
                self.wfile.write(answer.body)
                answer.sent()

    return Handler


def file_route(path: Path, content_type: str) -> Route:
    """The file as it is when somebody asks; 404 before there is one."""

    def answer(_: str) -> Answer:
        try:
            return Answer(path.read_bytes(), content_type)
        except FileNotFoundError:
            return Answer(f"no {path.name} yet\n".encode(), PLAIN, HTTPStatus.NOT_FOUND)

    return answer


def _not_found(routes: Mapping[str, Route]) -> Answer:
    body = f"there is {', '.join(sorted(routes))}\n".encode()
    return Answer(body, PLAIN, HTTPStatus.NOT_FOUND)
