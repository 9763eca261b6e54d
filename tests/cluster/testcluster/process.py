"""Programs that end with the Python process that started them, and can be stopped and started one by one.

Who calls this: controlplane and kwok for their programs, processnode for what pods run.
Its business ends with processes: it does not know what they serve.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

DEATHSIG = Path(__file__).with_name("deathsig.py")
START_SECONDS = 60.0
STOP_SECONDS = 5.0
POLL_SECONDS = 0.02

# The kernel's signal comes when the *thread* that forked ends, so all programs are started by one that never ends.
_STARTER = ThreadPoolExecutor(max_workers=1, thread_name_prefix="testcluster-starter")


def wait_until(condition: Callable[[], object], what: str, seconds: float = 60.0, poll: float = 0.05) -> None:
    """Return as soon as `condition()` is true; TimeoutError naming `what` after so many seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"after {seconds:g} s still not so: {what}")
        time.sleep(poll)


def launch(command: Sequence[str | Path], log: Path, env: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start a program in a session of its own (no Ctrl-C of the terminal), which the kernel kills when we end."""
    guarded = [sys.executable, "-I", "-S", str(DEATHSIG), str(os.getpid()), *map(str, command)]
    with log.open("ab") as output:
        started = _STARTER.submit(
            subprocess.Popen,
            guarded,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=dict(env),
            start_new_session=True,
        )
        return started.result()


@dataclass
class Component:
    """One program: `command` and the check that says it serves. Its output is appended to `log`."""

    name: str
    command: Sequence[str | Path]
    log: Path
    ready: Callable[[], bool]
    env: Mapping[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def pid(self) -> int:
        """Process id; RuntimeError if it was not started."""
        if self.process is None:
            raise RuntimeError(f"{self.name} was not started")
        return self.process.pid

    def launch(self) -> None:
        """Start without waiting; does nothing while it runs."""
        if not self.running:
            self.process = launch(self.command, self.log, {"PATH": os.defpath, **self.env})

    def wait_ready(self, seconds: float = START_SECONDS) -> None:
        """Wait until it serves; RuntimeError with the end of its log if it ends instead, TimeoutError if neither."""

        def settled() -> bool:
            return not self.running or self.ready()

        wait_until(settled, f"{self.name} serves (its log: {self.log})", seconds, POLL_SECONDS)
        if not self.running:
            raise RuntimeError(f"{self.name} ended while starting:\n{tail(self.log)}")

    def start(self) -> None:
        """Start and wait until it serves."""
        self.launch()
        self.wait_ready()

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def stop(self, seconds: float = STOP_SECONDS) -> None:
        """SIGTERM, then SIGKILL if it has not ended after so many seconds."""
        if self.process is None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()

    def restart(self) -> None:
        """Stop, start with the same command (so on the same port) and wait until it serves."""
        self.stop()
        self.start()


def tail(log: Path, lines: int = 15) -> str:
    """The last lines of a log."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
