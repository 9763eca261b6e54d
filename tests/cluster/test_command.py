"""`python -m testcluster up`, as a person at a terminal sees it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@contextmanager
def up(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    env = {**os.environ, "PYTHONPATH": str(HERE)}
    command = [sys.executable, "-m", "testcluster", "up", *arguments]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        try:
            yield running
        finally:
            running.kill()


def exports(running: subprocess.Popen[str]) -> str:
    """The two lines to copy."""
    assert running.stdout is not None
    return running.stdout.readline() + running.stdout.readline()


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_two_lines_give_another_terminal_kubectl_and_an_end_leaves_nothing(end: signal.Signals, tmp_path: Path) -> None:
    with up("--nodes", "2", "--gpus", "4") as running:
        lines = exports(running)
        show = "kubectl get nodes -o jsonpath='{range .items[*]}{.status.allocatable.nvidia\\.com/gpu} {end}'"
        shell = ["env", "-i", "PATH=/usr/bin:/bin", f"HOME={tmp_path}", "sh", "-c", f"{lines}\n{show}"]
        assert subprocess.run(shell, capture_output=True, text=True, check=True).stdout.split() == ["4", "4"]
        start = "kubectl run pod --image=none --restart=Never --command -- python -c 'print(7)' >/dev/null"
        done = "kubectl wait pod/pod --for=jsonpath={.status.phase}=Succeeded --timeout=30s >/dev/null"
        shell[-1] = f"{lines}\n{start} && {done} && kubectl logs pod"
        assert subprocess.run(shell, capture_output=True, text=True, check=True).stdout == "7\n"
        found = re.search(r"KUBECONFIG=(\S+)", lines)
        assert found
        folder = Path(found[1]).parent
        assert processes_of(folder)
        running.send_signal(end)
        assert running.wait(20) == 0
        assert not folder.exists()
        assert not processes_of(folder)


def processes_of(folder: Path) -> list[str]:
    """Command lines of programs that were started with files of the folder."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(path.read_text())
        except OSError:
            continue
    return [line for line in lines if f"{folder}/" in line]
