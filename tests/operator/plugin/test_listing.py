"""`kubectl g2rpo list` beside `kubectl get g2rpojobs`: the same words from the same server."""

from __future__ import annotations

import os
import pty
import select
import signal
import time
from typing import Any

import pytest

from plugin.people import Person, over, parsed, running, suspended
from testcluster.process import wait_until

PROGRESS = {
    "attempt": 1,
    "iteration": 40,
    "total": 100,
    "step": "40/100",
    "percent": 40.0,
    "phase": "Training",
    "etaSeconds": 900,
    "reward": 0.6021,
    "best": 0.6114,
    "delta": 0.2893,
    "heldOut": 0.43,
    "clipRatio": 0.0125,
    "imagesPerSecond": 12.3,
}
USAGE = {"gpuHours": 12.5, "gpuSeconds": 45000.0, "activeSeconds": 3600.0}


@pytest.fixture
def three(person: Person) -> Person:
    """Three jobs: one trains, one waits to be seen, one is over."""
    person.make("portrait", running(progress=PROGRESS, restarts=2, usage=USAGE), labels={"team": "vision"})
    person.make("new", labels={"team": "vision"})
    person.make("a-much-longer-name-than-others", over("Failed", "Diverged"))
    return person


def same_as_kubectl(person: Person, ours: tuple[str, ...], kubectls: tuple[str, ...]) -> bool:
    """Whether both print the same lines; ages may move on between the two, so kubectl is asked before and after."""
    before = person.cluster.kubectl("get", "g2rpojobs", *kubectls)
    found = person.run("list", *ours).lines
    after = person.cluster.kubectl("get", "g2rpojobs", *kubectls)
    return found in [[line.rstrip() for line in text.splitlines()] for text in (before, after)]


@pytest.mark.parametrize(
    "options", [(), ("-o", "wide"), ("--no-headers",), ("-l", "team=vision"), ("-l", "team!=vision", "-o", "wide")]
)
def test_tables_are_kubectls_letter_by_letter(three: Person, options: tuple[str, ...]) -> None:
    words = (*options, "-n", three.namespace)
    assert any(same_as_kubectl(three, words, words) for _ in range(3))


def test_all_namespaces_are_told_apart(three: Person) -> None:
    found = three.run("list", "-A").lines
    assert found[0].split()[:3] == ["NAMESPACE", "NAME", "PHASE"]
    mine = [line.split()[1:3] for line in found if line.startswith(three.namespace)]
    assert ["portrait", "Running"] in mine
    assert len(mine) == 3
    assert any(same_as_kubectl(three, ("-A",), ("-A",)) for _ in range(3))


@pytest.mark.parametrize("form", ["json", "yaml"])
def test_objects_are_kubectls(three: Person, form: str) -> None:
    assert parsed(three("list", "-o", form).out) == parsed(three.kubectl("get", "g2rpojobs", "-o", form))


def test_names_are_kubectls(three: Person) -> None:
    assert three("list", "-o", "name").out == three.kubectl("get", "g2rpojobs", "-o", "name")


def test_nothing_is_told_on_stderr_and_is_no_error(person: Person) -> None:
    said = person("list")
    assert said.out == ""
    assert said.err == f"No resources found in {person.namespace} namespace.\n"
    assert person.run("list", "-A", "-l", "no=such").err == "No resources found\n"


def test_more_jobs_than_a_page_are_all_listed(person: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("g2rpo_operator.plugin.client.PAGE", 3)
    for number in range(7):
        person.make(f"job-{number}")
    assert [line.split()[0] for line in person("list", "--no-headers").lines] == [
        f"job-{number}" for number in range(7)
    ]
    assert len(parsed(person("list", "-o", "json").out)["items"]) == 7


def test_watching_objects_is_refused(person: Person) -> None:
    assert (
        person("list", "-w", "-o", "json", code=1).err == "error: --watch goes with the table only, not with -o json\n"
    )


def test_a_watch_prints_each_change_until_it_is_interrupted(three: Person) -> None:
    with three.start("list", "--watch") as program:
        assert program.stdout
        lines = [program.stdout.readline().split() for _ in range(4)]
        assert lines[0][:2] == ["NAME", "PHASE"]
        three.tell("portrait", suspended())
        assert program.stdout.readline().split()[:2] == ["portrait", "Suspended"]
        three.tell("portrait", over())
        assert program.stdout.readline().split()[:2] == ["portrait", "Succeeded"]
        os.killpg(program.pid, signal.SIGINT)
        assert program.wait(20) != 0


def test_a_watch_that_begins_with_nothing_has_its_header_above_the_first_job(person: Person) -> None:
    with person.start("list", "--watch") as program:
        assert program.stdout
        watching = f"{person.namespace}/g2rpojobs"
        wait_until(lambda: any(is_watch(event, watching) for event in person.cluster.audit_events()), "it watches", 60)
        person.make()
        lines = [program.stdout.readline().split()[0] for _ in range(2)]
    assert lines == ["NAME", "portrait"]


def is_watch(event: dict[str, Any], path: str) -> bool:
    return event["verb"] == "watch" and path in event["requestURI"]


def read_terminal(main: int, seconds: float = 30) -> str:
    """Everything that a program writes to a terminal until it ends."""
    found, deadline = b"", time.monotonic() + seconds
    while time.monotonic() < deadline:
        ready, _, _ = select.select([main], [], [], 1)
        try:
            piece = os.read(main, 65536) if ready else b""
        except OSError:  # Linux' way to say that the other side is closed
            break
        found += piece
    return found.decode()


def on_a_terminal(person: Person, *words: str, **environment: str) -> str:
    main, other = pty.openpty()
    options: dict[str, Any] = {"stdin": other, "stdout": other, "stderr": other, "text": False}
    try:
        with person.start(*words, **options) as program:
            os.close(other)
            text = read_terminal(main)
            program.wait(20)
    finally:
        os.close(main)
    return text


def test_colours_are_for_terminals(three: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "\x1b[" not in three("list").out
    monkeypatch.setattr("plugin.people.ENVIRONMENT", {"TERM": "xterm-256color"})
    monkeypatch.delenv("NO_COLOR")
    text = on_a_terminal(three, "list")
    assert "\x1b[32mRunning" in text
    assert "\x1b[1;31mFailed" in text
    assert "\x1b[32m+" not in text, "the column of the change has no sign in the server's table"
