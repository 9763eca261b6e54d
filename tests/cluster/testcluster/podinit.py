"""The first process of a pod on a process node: `python -I -S podinit.py PARENT PROGRAM ARGUMENTS...`

Who calls this: processnode. It is to the pod what the first process of a container is: SIGTERM goes to the program;
when the program ends, all it started ends too, daemons included; the exit code is the program's, or 128 + signal.
SIGUSR1, which the kernel also sends when the parent dies, ends everything at once with 137.
Its business ends with processes: what runs, and with which files, is decided by its caller.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from pathlib import Path

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
DEATHSIG = Path(__file__).with_name("deathsig.py")
WATCHED = (signal.SIGCHLD, signal.SIGTERM, signal.SIGUSR1)
KILLED = 137


def main() -> None:
    """Run the program, then leave nothing of it."""
    parent, *command = sys.argv[1:]
    signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)
    control = ctypes.CDLL(None).prctl
    control(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    control(PR_SET_PDEATHSIG, int(signal.SIGUSR1), 0, 0, 0)
    if os.getppid() != int(parent):
        sys.exit("the process that asked for this pod is gone")
    guarded = [sys.executable, "-I", "-S", str(DEATHSIG), str(os.getpid()), *command]
    program = os.posix_spawn(sys.executable, guarded, os.environ, setsigmask=())
    code = exit_code(program)
    end_descendants()
    sys.exit(code)


def exit_code(program: int) -> int:
    """Pass signals on until the program has ended; how it ended."""
    while True:
        received = signal.sigwait(WATCHED)
        if received == signal.SIGUSR1:
            return KILLED
        if received == signal.SIGTERM:
            os.kill(program, signal.SIGTERM)
        code = collected().get(program)
        if code is not None:
            return code


def collected() -> dict[int, int]:
    """Exit codes of all processes that have ended and were waiting to be collected, by process id."""
    codes: dict[int, int] = {}
    try:
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return codes
            code = os.waitstatus_to_exitcode(status)
            codes[pid] = code if code >= 0 else 128 - code
    except ChildProcessError:
        return codes


def end_descendants() -> None:
    """Kill what the program left, which is ours to collect, until nothing is left."""
    while True:
        collected()
        left = descendants(os.getpid())
        if not left:
            return
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(0.01)


def descendants(ancestor: int) -> list[int]:
    """Process ids of children, their children and so on."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        children.setdefault(int(fields[1]), []).append(int(entry.parent.name))
    found: list[int] = []
    frontier = [ancestor]
    while frontier:
        frontier = [child for pid in frontier for child in children.get(pid, [])]
        found += frontier
    return found


if __name__ == "__main__":
    main()
