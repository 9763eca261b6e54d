"""A node leaves nothing behind, however its run ends."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from testcluster.process import wait_until
from testnode import able
from testnode.able import obstacles
from testnode.facts import INSIDE, PAUSE_IMAGE, PLACES
from testnode.inside import groups

WITH_A_POD = """
import os, signal
from testnode.facts import INSIDE, PAUSE_IMAGE
from testnode.node import Node
signal.signal(signal.SIGINT, signal.default_int_handler)
with Node.started() as node:
    node.kubectl("run", "held", f"--image={PAUSE_IMAGE}", "--restart=Never")
    node.kubectl("wait", "--for=condition=Ready", "pod/held", "--timeout=300s")
    print("UP", os.readlink("/proc/self/ns/pid"), os.environ[INSIDE], node.folder, flush=True)
    signal.pause()
"""
RUN = [sys.executable, "-m", "testnode", "run", "--", sys.executable]


@pytest.fixture
def run() -> Iterator[subprocess.Popen[str]]:
    """A run whose node has a pod, in a process group of its own as a terminal gives it."""
    with subprocess.Popen([*RUN, "-c", WITH_A_POD], stdout=subprocess.PIPE, text=True, start_new_session=True) as begun:
        try:
            yield begun
        finally:
            begun.kill()


def processes(namespace: str, group: str) -> set[str]:
    """Programs in a namespace of processes, and those of pods, which have one each and are in the node's cgroup."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if str((folder / "ns/pid").readlink()) == namespace or f"/{group}/" in (folder / "cgroup").read_text():
                found.add((folder / "comm").read_text().strip())
    return found


def entries() -> set[Path]:
    """What is in the folders that every node of a machine would write to."""
    return {path for place in PLACES if Path(place).is_dir() for path in Path(place).iterdir()}


def ctrl_c(run: subprocess.Popen[str]) -> None:
    os.killpg(run.pid, signal.SIGINT)


@pytest.mark.parametrize("end", [ctrl_c, subprocess.Popen.terminate, subprocess.Popen.kill])
def test_nothing_is_left_of_a_run_that_is_ended(run: subprocess.Popen[str], end: object) -> None:
    before = entries()
    assert run.stdout is not None
    said = re.fullmatch(r"UP (\S+) (\S+) (\S+)\n", run.stdout.readline())
    assert said is not None
    namespace, group, folder = said.groups()
    assert {"containerd", "kubelet", "etcd", "pause"} <= processes(namespace, group)
    assert any(path.is_dir() for path in groups(group))
    assert callable(end)
    end(run)
    run.wait(60)
    wait_until(lambda: not processes(namespace, group), "no process of the run is left", 60)
    if end is subprocess.Popen.kill:
        subprocess.run([*RUN, "-c", ""], check=True)
    assert not [path for path in groups(group) if path.exists()]
    assert not Path(folder).exists()
    assert folder not in Path("/proc/mounts").read_text()
    assert entries() <= before


def test_the_exit_code_is_that_of_the_command() -> None:
    assert subprocess.run([*RUN, "-c", "raise SystemExit(7)"], check=False).returncode == 7


def test_a_machine_that_lacks_something_is_told_what(monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(obstacles()) == []
    monkeypatch.setitem(able.PACKAGES, "a-program-that-nobody-has", "its-package")
    assert list(obstacles()) == [
        "programs are missing: apt-get install its-package (or python -m testnode prepare)",
    ]
    monkeypatch.undo()
    monkeypatch.setattr(able, "DISK_GIB", 1_000_000)
    (obstacle,) = obstacles()
    assert re.search(r"images want 10000\d\d: ", obstacle)


def test_a_shell_gets_into_a_node_that_stays_up(tmp_path: Path) -> None:
    """Where it was called, among the node's processes, with its API and its images."""
    outside = {name: value for name, value in os.environ.items() if name != INSIDE}
    up = [sys.executable, "-m", "testnode", "up"]
    with subprocess.Popen(up, stdout=subprocess.PIPE, text=True, env=outside, start_new_session=True) as begun:
        try:
            assert begun.stdout is not None
            told = re.fullmatch(r"a node is up; in another terminal: sh (\S+)\n", begun.stdout.readline())
            assert told is not None
            asked = (
                "pwd; readlink -e /proc/self >&2 && kubectl get nodes,persistentvolumes -o name && ctr images list -q"
            )
            shell = ["sh", told[1], "-c", asked]
            said = subprocess.run(shell, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True).stdout
        finally:
            begun.terminate()
            begun.wait(60)
    assert said.splitlines()[:3] == [str(tmp_path), "node/node-0", "persistentvolume/runs"]
    assert PAUSE_IMAGE in said.splitlines()
