"""`kubectl-g2rpo`: runs a command and turns errors into kubectl's exit codes; `kubectl_complete-g2rpo` beside it.

kubectl finds both programs by their names in PATH.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from contextlib import suppress
from io import TextIOWrapper

from g2rpo_api.errors import SpecError
from g2rpo_operator.plugin.failures import PluginError

try:
    from g2rpo_operator.plugin.app import NAME, command_line
except ModuleNotFoundError as missing:
    library = (missing.name or "").partition(".")[0]
    if library not in ("rich", "typer", "urllib3", "yaml"):
        raise
    sys.exit(f"error: kubectl g2rpo needs {library}: install g2rpo-operator[plugin], with its extra")

COMPLETE = "_KUBECTL_G2RPO_COMPLETE"
"""Variable by which typer is asked for completions."""
NO_FILES, FILES = ":4", ":0"
"""Last line of an answer to kubectl: complete nothing else, or names of files as well."""
OF_THE_CLUSTER = ("-n", "--namespace", "--context", "--kubeconfig")
TAKING_FILES = ("check", "submit", "-O", "--output-file", "--kubeconfig")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line; the answer is the process's exit code: 0, 1, or 130 when interrupted."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without these letters shows others in their place
    try:
        command_line()(command_first(sys.argv[1:] if arguments is None else arguments) or ["--help"], prog_name=NAME)
    except (PluginError, SpecError) as error:
        print(error, file=sys.stderr)
        return 1
    except SystemExit as done:
        return 1 if done.code == 2 else int(done.code or 0)  # kubectl knows no code of its own for wrong usage
    return 0


def command_first(words: Sequence[str]) -> list[str]:
    """The words with the command in front: kubectl takes a namespace or context before it, too."""
    end = 0
    while end < len(words) and words[end].partition("=")[0] in OF_THE_CLUSTER:
        end += 1 if "=" in words[end] else 2
    return [*words[end : end + 1], *words[:end], *words[end + 1 :]]


def complete() -> int:
    """Answer kubectl, which gives the words after `kubectl g2rpo`, the last one unfinished."""
    words = sys.argv[1:]
    os.environ.update(
        {COMPLETE: "complete_bash", "COMP_WORDS": shlex.join(["kubectl-g2rpo", *words]), "COMP_CWORD": str(len(words))}
    )
    with suppress(SystemExit):
        command_line(completing=True)([], prog_name=NAME, complete_var=COMPLETE)
    print(FILES if set(words[:-1]) & set(TAKING_FILES) else NO_FILES)
    return 0


if __name__ == "__main__":
    sys.exit(main())
