"""The plugin as kubectl finds and runs it: exit codes, usage, help with examples, completion."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from g2rpo_operator.plugin.__main__ import command_first, main
from g2rpo_operator.plugin.app import COMMANDS
from plugin.people import Person

WITHOUT = """
import sys
sys.modules[sys.argv.pop(1)] = None
import runpy
runpy.run_module("g2rpo_operator.plugin", run_name="__main__", alter_sys=True)
"""


def run(person: Person, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        env=person.environment(**environment),
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def test_kubectl_runs_it(person: Person) -> None:
    person.make()
    done = run(person, "kubectl", "g2rpo", "list", "-n", person.namespace)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1].split()[0] == "portrait"


def test_kubectl_hands_its_exit_code_on(person: Person) -> None:
    done = run(person, "kubectl", "g2rpo", "status", "nobody", "-n", person.namespace)
    assert done.returncode == 1
    assert done.stderr == 'Error from server (NotFound): g2rpojobs.g2rpo.dev "nobody" not found\n'
    assert done.stdout == ""


def test_kubectl_completes_commands_options_and_names_of_jobs(person: Person) -> None:
    person.make("portrait")
    person.make("poster")
    person.make("other")

    def complete(*words: str) -> list[str]:
        done = run(person, "kubectl", "__complete", "g2rpo", *words)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    assert complete("s")[:-1] == ["submit", "status", "suspend", "stop"]
    assert complete("status", "-n", person.namespace, "po")[:-1] == ["portrait", "poster"]
    assert "--dry-run" in complete("submit", "--d")
    assert complete("status", "-o", "")[:-1] == ["json", "yaml", "name"]
    assert complete("submit", "")[-1] == ":0", "files are completed by the shell"
    assert complete("status", "")[-1] == ":4", "names of jobs are no files"


def test_names_are_not_completed_without_a_cluster(person: Person) -> None:
    done = run(person, "kubectl_complete-g2rpo", "status", "", KUBECONFIG=str(person.folder / "nowhere"))
    assert (done.returncode, done.stdout.split()) == (0, [":4"])


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_examples(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    text = capsys.readouterr().out
    assert "\n  Examples:\n" in text
    assert f"    kubectl g2rpo {name} " in text or f"kubectl g2rpo {name}\n" in text
    assert text.startswith(f"Usage: kubectl g2rpo {name} ")
    for option in ("--namespace", "--context", "--kubeconfig"):
        assert option in text


def test_help_is_what_one_gets_without_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    text = capsys.readouterr().out
    assert all(f"\n  {name} " in text for name in COMMANDS)
    assert "..." not in text.split("Commands:")[1], "each command's line fits"


@pytest.mark.parametrize(
    "words",
    [
        ("nonsense",),
        ("list", "--nonsense"),
        ("status",),
        ("list", "-o", "xml"),
        ("logs", "a", "--attempt", "0"),
        ("stop", "a", "--timeout", "x"),
    ],
)
def test_wrong_usage_is_told_on_stderr_with_exit_code_1(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("Usage: kubectl g2rpo")
    assert "Error: " in said.err


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], []),
        (["list"], ["list"]),
        (["-n", "team", "list", "-A"], ["list", "-n", "team", "-A"]),
        (
            ["--namespace=team", "--context", "c", "logs", "a", "-f"],
            ["logs", "--namespace=team", "--context", "c", "a", "-f"],
        ),
        (["--help"], ["--help"]),
        (["-n", "team"], ["-n", "team"]),
        (["status", "-n", "team", "a"], ["status", "-n", "team", "a"]),
    ],
)
def test_the_cluster_may_be_named_before_the_command(words: list[str], expected: list[str]) -> None:
    assert command_first(words) == expected


@pytest.mark.parametrize("missing", ["typer", "rich", "urllib3"])
def test_without_the_extra_it_says_what_to_install(missing: str) -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT, missing, "list"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "g2rpo-operator[plugin]" in done.stderr
    assert "Traceback" not in done.stderr


def test_letters_that_a_terminal_lacks_are_replaced(person: Person) -> None:
    person.make()
    done = run(person, "kubectl", "g2rpo", "list", "-n", person.namespace, PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0].split()[5] == "?", "the column of the change"


def test_a_reader_that_goes_away_is_no_traceback(person: Person) -> None:
    for number in range(3):
        person.make(f"job-{number}")
    text = f"kubectl g2rpo list -n {person.namespace} -o json | head -n 1"
    done = run(person, "bash", "-c", text)
    assert done.stdout == "{\n"
    assert "Traceback" not in done.stderr


def test_the_programs_bear_the_names_that_kubectl_looks_for() -> None:
    folder = Path(sys.executable).parent
    assert (folder / "kubectl-g2rpo").is_file()
    assert (folder / "kubectl_complete-g2rpo").is_file()
