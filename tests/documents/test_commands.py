"""Every command that a document shows is run by a test, or it is said who runs it, or why nobody can."""

from __future__ import annotations

import ast
import platform
import shlex
import subprocess

import pytest

from testchart import tools
from testdocuments.commands import DOCUMENTS, ROOT, Block, listed, shown, walk, whole
from testdocuments.walks import WALKS

SHOWN = {document: shown(document) for document in DOCUMENTS}
LISTED = listed()
HELM = sorted({command for commands in SHOWN.values() for command in commands if command.startswith("helm ")})


def test_a_command_is_run_or_it_is_said_why_not() -> None:
    walked = {ROOT / name for name in WALKS}
    lost = [
        f"{document.relative_to(ROOT)}: {command}"
        for document, commands in SHOWN.items()
        for command in commands
        if document not in walked and command not in LISTED
    ]
    assert not lost, "name who runs them in commands.yaml, or give their document a walk"


def test_what_is_listed_is_shown_somewhere() -> None:
    assert not set(LISTED) - {command for commands in SHOWN.values() for command in commands}


@pytest.mark.parametrize("by", sorted({said.by for said in LISTED.values() if said.by}))
def test_who_runs_a_command_is_there(by: str) -> None:
    path, _, name = by.partition("::")
    text = (ROOT / path).read_text(encoding="utf-8")
    if name:
        assert name in {node.name for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)}
    elif path == ".ci/run":
        named = [command for command, said in LISTED.items() if said.by == by]
        assert [command for command in named if f"run {command.removeprefix('make ')}\n" not in text] == []


def test_nothing_is_listed_without_a_word() -> None:
    assert [command for command, said in LISTED.items() if not (said.by or said.because)] == []


@pytest.mark.parametrize("name", WALKS)
def test_a_walk_has_something_to_run(name: str) -> None:
    assert len(walk(ROOT / name)) > 1


@pytest.mark.parametrize(
    ("text", "commands"),
    [
        ("ls  # all\n\n# nothing\npwd\n", ["ls", "pwd"]),
        ("sed 's/^  # x/y/' a > b\n", ["sed 's/^  # x/y/' a > b"]),
        ("a \\\n  --b\nc\n", ["a --b", "c"]),
        ("cat <<'END'\n# kept\nEND\nls\n", ["cat <<'END'\n# kept\nEND", "ls"]),
        ("python -c '\nprint(1)'\n", ["python -c '\nprint(1)'"]),
    ],
)
def test_commands_are_told_apart(text: str, commands: list[str]) -> None:
    assert list(whole(text)) == commands


def test_what_no_shell_would_take_is_noticed() -> None:
    with pytest.raises(ValueError, match="no shell"):
        list(whole("echo 'open\n"))


def test_terminals_show_commands_after_a_prompt() -> None:
    assert Block("", "$ kubectl get pods\nNAME\n").commands() == ["kubectl get pods"]


def helm_takes(major: int, command: str) -> bool:
    """Whether Helm of this version knows the command and all its options, whatever the cluster."""
    (_, *words) = shlex.split(command.partition(" >")[0])
    return subprocess.run([tools.helm(major), *words, "--help"], capture_output=True).returncode == 0


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the packages that bring Helm are for x86-64")
@pytest.mark.parametrize("major", tools.PACKAGES)
def test_both_helms_know_every_option(major: int) -> None:
    assert HELM
    assert [command for command in HELM if not helm_takes(major, command)] == []
    assert not helm_takes(major, "helm install g2rpo charts/g2rpo-operator --no-such-option")
