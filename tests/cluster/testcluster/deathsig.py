"""Starts a program that dies with the process that started it: `python -I -S deathsig.py PARENT PROGRAM ARGUMENTS...`

Who calls this: process, for every program it starts. It is a program of its own, because Python code between fork and
exec may hang in a process with threads.
Its business ends with exec: from then on the process is the program, under the same process id.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Ask the kernel for SIGKILL at the parent's death, then become the program.

    A parent that died before the kernel was asked is noticed by the parent's id, so there is no gap.
    """
    parent, program, *arguments = sys.argv[1:]
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0) != 0:
        sys.exit(f"prctl: {os.strerror(ctypes.get_errno())}")
    if os.getppid() != int(parent):
        sys.exit("the process that asked for this program is gone")
    os.execv(program, [program, *arguments])


if __name__ == "__main__":
    main()
