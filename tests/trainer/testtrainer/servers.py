"""HTTP servers that say what they are told to, and remember what they were asked.

Who calls this: the tests of rewards that ask a service.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Asked:
    """A request that came in."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Reply:
    """What to answer."""

    status: int = 200
    body: bytes = b"{}"
    headers: Mapping[str, str] = field(default_factory=dict)
    hold: bool = False
    """Never answer, until the server closes."""
    cut: bool = False
    """Promise more bytes than are sent."""


def reply(content: Any, status: int = 200, **more: Any) -> Reply:
    return Reply(status, json.dumps(content).encode(), **more)


class Server:
    """A server on a free port of this machine; `answer` is called from several threads."""

    def __init__(self, answer: Callable[[Asked], Reply]) -> None:
        self.asked: list[Asked] = []
        self.closing = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                length = int(self.headers.get("Content-Length", 0))
                asked = Asked(self.command, self.path, dict(self.headers), self.rfile.read(length))
                outer.asked.append(asked)
                self._send(answer(asked))

            def do_POST(self) -> None:
                self.do_GET()

            def _send(self, said: Reply) -> None:
                if said.hold:
                    outer.closing.wait()
                    self.close_connection = True
                    return
                self.send_response(said.status)
                for name, value in said.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(said.body) + (10 if said.cut else 0)))
                self.end_headers()
                self.wfile.write(said.body)
                self.close_connection = said.cut

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def posts(self) -> list[Asked]:
        return [asked for asked in self.asked if asked.method == "POST"]


@contextmanager
def serving(answer: Callable[[Asked], Reply]) -> Iterator[Server]:
    server = Server(answer)
    try:
        yield server
    finally:
        server.close()


def script(*replies: Reply) -> Callable[[Asked], Reply]:
    """Answers GET well, and POSTs by turns; the last reply is repeated."""
    rest = list(replies)
    lock = threading.Lock()

    def answer(asked: Asked) -> Reply:
        if asked.method == "GET":
            return Reply()
        with lock:
            return rest.pop(0) if len(rest) > 1 else rest[0]

    return answer
