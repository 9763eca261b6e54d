"""What rank 0 of a fake pod serves: a real HTTP server at the pod's own loopback address."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from g2rpo_api import contract

CSV = "iteration,reward\n1,0.25\n2,0.5\n"
POLL_SECONDS = 0.2
SVG = '<svg xmlns="http://www.w3.org/2000/svg"><path d="M0 0"/></svg>\n'


def report(job: str, attempt: int, iteration: int, total: int = 100, **more: Any) -> dict[str, Any]:
    """A document of /progress in which every number is told apart from every other."""
    train = {"name": "paddle-ocr", "role": "Train", "mean": 0.4321, "best": 0.5432, "delta": 0.1234}
    watched = {"name": "dddd-ocr", "role": "HeldOut", "mean": 0.2345, "best": 0.2345, "delta": 0.0123}
    return {
        "job": job,
        "attempt": attempt,
        "phase": "Training",
        "iteration": iteration,
        "total": total,
        "percent": 100.0 * iteration / total,
        "etaSeconds": 321.0,
        "beat": time.time(),
        "imagesPerSecond": 98.76,
        "clipRatio": 0.0625,
        "rewards": [train, watched],
        "curve": [{"iteration": 1, "reward": 0.25}, {"iteration": iteration, "reward": 0.4321}],
        "checkpoint": {"iteration": iteration, "time": time.time()},
        **more,
    }


def last_word(job: str, attempt: int, iteration: int, **more: Any) -> str:
    """What rank 0 leaves as its termination message when all went well."""
    told = report(job, attempt, iteration, phase="Finished", **more)
    return json.dumps({"exitCode": 0, "rank": 0, "message": "done", "progress": told | {"curve": []}})


@dataclass
class Trainer:
    """What rank 0 of one pod serves, and what it was asked for."""

    document: dict[str, Any]
    served: list[str] = field(default_factory=list)
    """Paths that were asked for."""

    def body(self, path: str) -> bytes:
        bodies = {
            contract.PATH_PROGRESS: json.dumps(self.document),
            contract.PATH_CURVE_CSV: CSV,
            contract.PATH_CURVE_SVG: SVG,
        }
        return bodies.get(path, "").encode()


class Server(ThreadingHTTPServer):
    """Listens at an address until it is closed, on behalf of one trainer after the other.

    A later pod of the address finds it listening: an address cannot be listened on anew while some process that is just
    being started still holds, from its fork to its exec, what this one has closed.
    """

    daemon_threads = True
    trainer: Trainer
    """Who answers."""

    def __init__(self, address: str, trainer: Trainer) -> None:
        self.trainer = trainer
        super().__init__((address, contract.DEFAULT_PORT), Handler)
        threading.Thread(target=self.serve_forever, args=(POLL_SECONDS,), daemon=True).start()

    def handle_error(self, *_: object) -> None:
        """Does not mind a client that goes away."""

    def close(self) -> None:
        self.shutdown()
        self.server_close()


class Handler(BaseHTTPRequestHandler):
    """One request to the trainer."""

    server: Server

    def do_GET(self) -> None:
        trainer = self.server.trainer
        trainer.served.append(self.path)
        body = trainer.body(self.path)
        self.send_response(200 if body else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass
