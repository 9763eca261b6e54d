"""docs/first-job.md as a newcomer walks it: three terminals, from nothing to a report, and nothing is left."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from testcluster.process import wait_until
from testdocuments.commands import ROOT, prepare, run, walk

GUIDE = ROOT / "docs/first-job.md"
ITERATIONS = 40
"""More than pass while the guide looks closer, so that there is something to pause."""
OPERATOR = {
    "G2RPO_OPERATOR_HOST": "127.0.0.1",
    "G2RPO_OPERATOR_PORT": "0",
    "G2RPO_OPERATOR_PROGRESS_INTERVAL_SECONDS": "1",
}
"""The usual port may be someone else's, and the sample's iterations are shorter than the usual interval."""


@contextmanager
def terminal(command: str, log: Path, environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A command that runs until the end of the block, when it is asked to end."""
    with log.open("wb") as output:
        shell = subprocess.Popen(
            ["bash", "-c", command],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            yield shell
        finally:
            shell.terminate()  # make hands it on, and waits for what it started
            try:
                shell.wait(60)
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(shell.pid, signal.SIGKILL)


def copied(log: Path, shell: subprocess.Popen[bytes]) -> dict[str, str]:
    """What the export lines set that a person copies from the first terminal."""
    wait_until(lambda: shell.poll() is not None or log.read_text().count("export ") == 2, "the cluster is there", 120)
    lines = [line for line in log.read_text().splitlines() if line.startswith("export ")]
    assert len(lines) == 2, log.read_text()
    shown = subprocess.run(["bash", "-c", "\n".join([*lines, "env -0"])], capture_output=True, text=True, check=True)
    both = dict(item.split("=", 1) for item in shown.stdout.split("\0") if "=" in item)
    return {key: both[key] for key in ("KUBECONFIG", "PATH")}


@pytest.mark.slow
@pytest.mark.timeout(1000)
def test_the_walk(tmp_path: Path) -> None:
    folder = tmp_path / "checkout"
    prepare(folder, ITERATIONS)
    plain = {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    first, second = tmp_path / "cluster.log", tmp_path / "operator.log"
    with ExitStack() as terminals:
        cluster = terminals.enter_context(terminal("make cluster", first, plain))
        here = plain | copied(first, cluster)
        terminals.enter_context(terminal("make operator", second, here | OPERATOR))
        wait_until(lambda: "created" in second.read_text(), "the definition is there", 60)
        told = run(walk(GUIDE), folder, 900, **here)
        kubeconfig = Path(here["KUBECONFIG"])
    assert re.search(rf"^miniature-g2rpo +Running +\d+/{ITERATIONS} +0\.\d+ +0\.\d+ ", told, re.MULTILINE), told
    assert "g2rpojob.g2rpo.dev/miniature-g2rpo condition met" in told
    _, curve = told.split("\niteration,time,")
    assert [int(number) for number in re.findall(r"^(\d+),", curve, re.MULTILINE)] == list(range(ITERATIONS + 1))
    assert (folder / "miniature-g2rpo-report.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    assert not kubeconfig.exists()
