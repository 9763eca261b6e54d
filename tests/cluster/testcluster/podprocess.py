"""One pod as processes of this machine: start, SIGTERM, SIGKILL after the grace period, and what is to be reported.

Who calls this: processnode, with pods as the API returned them.
Its business ends with the text of a pod's status: it writes nothing to the API.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from testcluster import podspec
from testcluster.api import Object
from testcluster.nodes import now
from testcluster.pods import container_status, end, ended, readiness
from testcluster.podspec import TERMINATION_PATH, Place, UnsupportedError
from testcluster.podvolumes import Volumes
from testcluster.process import launch

INIT = Path(__file__).with_name("podinit.py")
START_ERROR = 128
REFRESH_SECONDS = 1.0
MESSAGE_BYTES, FALLBACK_BYTES = 4096, 2048


@dataclass(frozen=True)
class Container:
    """A container's process, where it logs and where its last word is read."""

    spec: Object
    process: subprocess.Popen[bytes]
    log: Path
    last_word: Path
    started: str

    def exit_code(self) -> int | None:
        """How it ended, 128 + signal if by one; None while it runs."""
        code = self.process.poll()
        return code if code is None or code >= 0 else 128 - code

    def status(self) -> Object:
        """Its status as the API wants it."""
        code = self.exit_code()
        if code is None:
            return container_status(self.spec, {"running": {"startedAt": self.started}})
        reason = "Error" if code else "Completed"
        return container_status(self.spec, end(code, reason, self.message(code), self.started))

    def message(self, code: int) -> str:
        """The termination message: what it wrote, or the end of its log if it failed and the pod asks for that."""
        written = self.last_word.read_bytes()[:MESSAGE_BYTES]
        if not written and code and self.spec.get("terminationMessagePolicy") == "FallbackToLogsOnError":
            written = self.log.read_bytes()[-FALLBACK_BYTES:]
        return written.decode(errors="replace")


class PodProcess:
    """A running pod. All of `containers` are started at once; none is ever started again."""

    def __init__(self, pod: Object, volumes: Volumes, ip: str, containers: list[Container]) -> None:
        self.pod, self.volumes, self.ip, self.containers = pod, volumes, ip, containers
        self.kill_at: float | None = None
        self.refreshed = time.monotonic()

    @property
    def running(self) -> bool:
        return any(container.process.poll() is None for container in self.containers)

    def terminate(self, grace_seconds: float) -> None:
        """SIGTERM to each program, once; `check` kills what outlives the grace period."""
        if self.kill_at is None:
            self.signal(signal.SIGTERM)
        self.kill_at = min(self.kill_at or float("inf"), time.monotonic() + grace_seconds)

    def check(self) -> None:
        """Kill the pod if its grace period is over."""
        if self.kill_at is not None and time.monotonic() >= self.kill_at:
            self.kill()

    def kill(self) -> None:
        """End everything that the pod runs, at once; podinit takes this signal as the order to do so."""
        self.signal(signal.SIGUSR1)
        for container in self.containers:
            container.process.wait()

    def signal(self, number: signal.Signals) -> None:
        for container in self.containers:
            container.process.send_signal(number)

    def status(self) -> Object:
        """The pod's status now."""
        statuses = [container.status() for container in self.containers]
        if not self.running:
            return ended(any(container.process.returncode for container in self.containers), statuses)
        return {
            "phase": "Running",
            "startTime": self.containers[0].started,
            "podIP": self.ip,
            "podIPs": [{"ip": self.ip}],
            "conditions": [*readiness("True"), {**readiness("True")[0], "type": "Initialized"}],
            "containerStatuses": statuses,
        }

    def refresh(self) -> None:
        """Bring mounted ConfigMaps and Secrets up to date, every second."""
        if time.monotonic() - self.refreshed >= REFRESH_SECONDS:
            self.refreshed = time.monotonic()
            self.volumes.refresh()

    def clean(self) -> None:
        """Remove its volumes; its logs stay."""
        shutil.rmtree(self.volumes.folder, ignore_errors=True)


def start(pod: Object, volumes: Volumes, place: Place, folder: Path) -> PodProcess:
    """Start a pod; UnsupportedError if it cannot run here, ApiError 404 while what it mounts does not exist."""
    if pod["spec"].get("initContainers"):
        raise UnsupportedError("init containers")
    folder.mkdir(parents=True, exist_ok=True)
    prepared = [prepare(spec, pod, volumes, place, folder) for spec in pod["spec"]["containers"]]
    containers = []
    for spec, command, variables, last_word in prepared:
        log = folder / f"{spec['name']}.log"
        guarded: list[str | Path] = [sys.executable, "-I", "-S", INIT, str(os.getpid()), *command]
        containers.append(Container(spec, launch(guarded, log, variables), log, last_word, now()))
    return PodProcess(pod, volumes, place.ip, containers)


def prepare(
    spec: Object, pod: Object, volumes: Volumes, place: Place, folder: Path
) -> tuple[Object, list[str], dict[str, str], Path]:
    """A container's specification, command line, environment and the file for its last word."""
    last_word = folder / f"{spec['name']}.termination"
    last_word.touch()
    mounted = {**volumes.folders(spec), spec.get("terminationMessagePath", TERMINATION_PATH): last_word}
    inside = Place(place.ip, place.node_ip, mounted, place.address_of)
    variables = podspec.environment(spec, pod, inside, base_environment(pod, folder, mounted), volumes.key_of)
    command = podspec.command(spec, variables, inside)
    program = shutil.which(command[0], path=variables["PATH"])
    if program is None:
        raise UnsupportedError(f'exec: "{command[0]}": executable file not found in $PATH')
    return spec, [program, *command[1:]], variables, last_word


def base_environment(pod: Object, folder: Path, mounted: Mapping[str, Path]) -> dict[str, str]:
    """What an image would bring: this machine's programs, those of this Python first, and a home of the pod's own."""
    path = f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}"
    base = {"PATH": path, "HOSTNAME": podspec.hostname(pod), "HOME": str(folder), "LANG": "C.UTF-8"}
    return {**base, "TMPDIR": str(mounted["/tmp"])} if "/tmp" in mounted else base
