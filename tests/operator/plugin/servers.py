"""An API server that answers from a script, for what a real one does at the wrong moment only."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml

from g2rpo_operator.plugin.client import Client, connect
from g2rpo_operator.plugin.options import Where

Reply = tuple[int, dict[str, str], bytes]
"""Status, headers, body."""


def reply(content: Any, code: int = 200) -> Reply:
    """An object."""
    return code, {"Content-Type": "application/json"}, json.dumps(content).encode()


def changes(*events: tuple[str, Any]) -> Reply:
    """The answer to a watch, which ends after these events."""
    lines = [json.dumps({"type": kind, "object": content}) + "\n" for kind, content in events]
    return 200, {"Content-Type": "application/json"}, "".join(lines).encode()


EXPIRED = ("ERROR", {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version"})


class Server:
    """Answers requests from a script: (status, headers, body), the last one for ever."""

    def __init__(self, *answers: Reply) -> None:
        self.answers, self.asked = list(answers), list[str]()
        asked, queue = self.asked, self.answers

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append(f"{self.command} {self.path}")
                code, headers, body = queue.pop(0) if len(queue) > 1 else queue[0]
                self.send_response(code)
                for name, value in {"Content-Length": str(len(body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            do_PATCH = do_GET  # noqa: N815

            def log_message(self, *_: object) -> None:
                """Nothing."""

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http.server_port}"

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()


@contextmanager
def client_of(folder: Path, *answers: Reply) -> Iterator[tuple[Client, Server]]:
    """A client of a scripted server."""
    server = Server(*answers)
    try:
        yield connect(Where(kubeconfig=plain_config(folder, server.url))), server
    finally:
        server.close()


def plain_config(folder: Path, url: str) -> str:
    context: dict[str, Any] = {"cluster": "c", "user": "u"}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "x",
        "contexts": [{"name": "x", "context": context}],
        "clusters": [{"name": "c", "cluster": {"server": url}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
    }
    path = folder / "plain"
    path.write_text(yaml.safe_dump(config))
    return str(path)
