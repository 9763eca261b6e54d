"""The commands that documents show: found, told apart from those that others run, and run as they stand.

Who calls this: the tests of this folder. commands.yaml says who runs what no walk runs, or why nobody can here.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import textwrap
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[3]
LISTED = ROOT / "tests/documents/commands.yaml"
PLACES = ("*.md", "docs/*.md", "benchmarks/*.md", "charts/*/README.md", "tests/cluster/README.md")
DOCUMENTS = sorted(path for place in PLACES for path in ROOT.glob(place))
BLOCK = re.compile(r"^(?P<lead> *)```(?P<language>\w*)\n(?P<text>.*?)^(?P=lead)```$", re.MULTILINE | re.DOTALL)
SHELLS = ("sh", "bash", "console")
PROMPT = "$ "
JOB = "manifests/samples/miniature-g2rpo.yaml"
SHARED = (".venv", "Dockerfile", "api", "benchmarks", "charts", "docker", "docs", "operator", "requirements", "trainer")
"""What commands name that a walk does not change."""


@dataclass(frozen=True)
class Block:
    """A fenced block."""

    language: str
    text: str

    def commands(self) -> list[str]:
        """Commands of a shell's block, or those after a prompt in one that shows a terminal."""
        if self.language in SHELLS:
            return list(whole(self.text))
        return [line.removeprefix(PROMPT) for line in self.text.splitlines() if line.startswith(PROMPT)]


def blocks(document: Path) -> list[Block]:
    """Of a document, in order."""
    found = BLOCK.finditer(document.read_text(encoding="utf-8"))
    return [Block(match["language"], textwrap.dedent(match["text"])) for match in found]


def whole(text: str) -> Iterator[str]:
    """Commands of a shell script, without comments; lines that a backslash joins are one."""
    lines: list[str] = []
    for line in text.splitlines():
        lines.append(line if lines else without_comment(line))
        command = "\n".join(lines)
        if command.strip() and complete(command):
            yield re.sub(r" *\\\n *", " ", command.strip())
            lines = []
        elif not command.strip():
            lines = []
    if lines:
        raise ValueError(f"no shell would take this: {lines}")


def without_comment(line: str) -> str:
    """A line up to a # that begins a word outside quotes."""
    quote = ""
    for index, char in enumerate(line):
        if quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        elif char == "#" and (index == 0 or line[index - 1].isspace()):
            return line[:index].rstrip()
    return line


def complete(command: str) -> bool:
    """Whether a shell would begin to run it, and not wait for more lines."""
    done = subprocess.run(["bash", "-n", "-c", command], capture_output=True, text=True)
    return done.returncode == 0 and not done.stderr and not command.endswith("\\")


@dataclass(frozen=True)
class Listed:
    """What commands.yaml says of a command: the test or program that runs it, or why none does."""

    by: str = ""
    because: str = ""


def listed() -> dict[str, Listed]:
    """By command."""
    entries: list[dict[str, Any]] = yaml.safe_load(LISTED.read_text(encoding="utf-8"))
    found: dict[str, Listed] = {}
    for entry in entries:
        said = Listed(entry.get("by", ""), entry.get("because", ""))
        for command in entry["commands"]:
            if command in found:
                raise ValueError(f"listed twice: {command}")
            found[command] = said
    return found


def shown(document: Path) -> list[str]:
    """All commands of a document."""
    return [command for block in blocks(document) for command in block.commands()]


def walk(document: Path) -> list[str]:
    """A script with the commands of a document that are not listed, and the files that it shows in between."""
    said, lines = listed(), ["set -euo pipefail"]
    for block in blocks(document):
        if block.language == "yaml" and "kind: G2RPOJob" in block.text:
            name = yaml.safe_load(block.text)["metadata"]["name"]
            lines.append(f"cat >{name}.yaml <<'END OF FILE'\n{block.text}END OF FILE")
        for command in block.commands():
            if command not in said:
                lines += [f"cat >&2 <<'END OF COMMAND'\n+ {command}\nEND OF COMMAND", command]
    return lines


def prepare(folder: Path, iterations: int) -> None:
    """Make a folder that looks to commands like a checkout with a job.yaml; its sample takes seconds."""
    folder.mkdir()
    for name in SHARED:
        (folder / name).symlink_to(ROOT / name)
    shutil.copytree(ROOT / "manifests", folder / "manifests")
    sample = cheaper((ROOT / JOB).read_text(encoding="utf-8"), iterations)
    (folder / JOB).write_text(sample, encoding="utf-8")
    job = yaml.safe_load(sample)
    job["metadata"]["name"] = "my-job"
    (folder / "job.yaml").write_text(yaml.safe_dump(job), encoding="utf-8")


def cheaper(sample: str, iterations: int) -> str:
    """The sample as it stands, comments and all, but for what decides how long it takes."""
    for key, value in {"iterations": iterations, "groupSize": 2, "maxPrompts": 4}.items():
        sample, found = re.subn(rf"^( +{key}:) \d+$", rf"\1 {value}", sample, flags=re.MULTILINE)
        if found != 1:
            raise ValueError(f"the sample has {found} lines with {key}")
    return sample


def run(script: list[str], folder: Path, seconds: float, **environment: str) -> str:
    """Output of a script in bash; nothing that it started outlives it.

    Raises:
        RuntimeError: it failed or took too long; with the command that did, and what was printed.
    """
    printed = folder.parent / f"{folder.name}.log"
    with printed.open("w+", encoding="utf-8") as log:
        shell = subprocess.Popen(
            ["bash", "-c", "\n".join(script)],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            code: int | None = shell.wait(seconds)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            with suppress(ProcessLookupError):
                os.killpg(shell.pid, signal.SIGKILL)
            shell.wait()
        log.seek(0)
        told = log.read()
    if code != 0:
        raise RuntimeError(f"{f'no end after {seconds} s' if code is None else f'exit code {code}'}:\n{told[-6000:]}")
    return told
