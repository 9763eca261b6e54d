"""The part of a kubelet's HTTPS server that `kubectl logs` needs: GET /containerLogs/NAMESPACE/POD/CONTAINER.

Who calls this: the API server, with the client certificate that it has for kubelets; processnode starts it.
Its business ends with reading log files.
"""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from testcluster.certificates import Pair

KUBELET_PORT = 10250
FOLLOW_SECONDS = 0.2


@dataclass(frozen=True)
class Log:
    """The log of a container, and whether it still grows."""

    path: Path
    grows: Callable[[], bool]


LogOf = Callable[[str, str, str], Log | None]
"""(namespace, pod, container) → its log; None if there is no such container."""


def serve(address: str, serving: Pair, authority: Path, log_of: LogOf) -> ThreadingHTTPServer:
    """A server in a thread of its own; whoever has a certificate of the cluster's authority may read."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            url = urlsplit(self.path)
            parts = url.path.strip("/").split("/")
            found = log_of(parts[1], parts[2], parts[3]) if parts[0] == "containerLogs" and len(parts) == 4 else None
            if found is None:
                self.send_error(HTTPStatus.NOT_FOUND)
                return
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", "text/plain; charset=utf-8")
            self.end_headers()
            wishes = {name: values[-1] for name, values in parse_qs(url.query).items()}
            for piece in pieces(found, wishes):
                self.wfile.write(piece)
                self.wfile.flush()

        def log_message(self, *_: object) -> None:
            """Requests are not told on the terminal."""

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(authority))
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(serving.certificate, serving.key)
    server = QuietServer((address, KUBELET_PORT), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, name="testcluster-kubelet-server", daemon=True).start()
    return server


class QuietServer(ThreadingHTTPServer):
    """A reader who goes away in the middle is nothing to tell."""

    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Nothing: the reader sees that its connection ended."""


def pieces(log: Log, wishes: dict[str, str]) -> Iterator[bytes]:
    """The log, or its last `tailLines`; with `follow`, what is added until the container has ended."""
    with log.path.open("rb") as file:
        content = file.read()
        lines = int(wishes.get("tailLines", -1))
        yield content if lines < 0 else b"".join(content.splitlines(keepends=True)[-lines:] if lines else [])
        following = wishes.get("follow") in ("true", "1")
        while following:
            following = log.grows()
            yield file.read()
            time.sleep(FOLLOW_SECONDS if following else 0)
