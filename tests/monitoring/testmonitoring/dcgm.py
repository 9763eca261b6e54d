"""Series of the shape of NVIDIA's DCGM exporter, for a machine without a GPU: names and labels are real, numbers not.

Who calls this: the recording of runs. A scrape of a real exporter has the same labels, but for the further ones that
no dashboard uses.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from testmonitoring.scraping import Pod

GAUGES = {
    "DCGM_FI_DEV_GPU_UTIL": 93,
    "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE": 0.41,
    "DCGM_FI_DEV_FB_USED": 61_440,
    "DCGM_FI_DEV_POWER_USAGE": 512.5,
    "DCGM_FI_DEV_GPU_TEMP": 63,
    "DCGM_FI_DEV_XID_ERRORS": 0,
}
GPUS = 2


def page(pods: Sequence[Pod]) -> str:
    """What the exporter of a node says; of the other pods' GPUs, too."""
    lines = []
    for name, value in GAUGES.items():
        lines.append(f"# TYPE {name} gauge")
        for pod in [*pods, Pod("", "somebody-else", 1)]:
            for gpu in range(GPUS):
                own = {"gpu": str(gpu), "UUID": f"GPU-{gpu}", "modelName": "NVIDIA H100", "Hostname": "node-1"}
                place = own | {"container": "trainer", "namespace": pod.namespace, "pod": pod.name}
                labels = ",".join(f'{label}="{text}"' for label, text in place.items())
                lines.append(f"{name}{{{labels}}} {value}")
    return "\n".join(lines) + "\n"


class Server(ThreadingHTTPServer):
    """Does not mind a scraper that gives up."""

    def handle_error(self, *_: object) -> None:
        pass


@contextmanager
def exporter(pods: Sequence[Pod]) -> Iterator[str]:
    """The address of such an exporter."""
    body = page(pods).encode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nobody reads it."""

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
