"""`suspend`, `resume` and `stop`: the spec changes as asked, of several jobs, and only as asked."""

from __future__ import annotations

import os
import pty
import subprocess
import threading
from typing import Any

import pytest

from g2rpo_operator.plugin.client import Client
from g2rpo_operator.plugin.commands import switch
from g2rpo_operator.plugin.jobs import Seen
from plugin.people import Person, over, running, suspended
from testcluster.process import wait_until

REFERENCE = "g2rpojob.g2rpo.dev/portrait"
LASTING = {"persistentVolumeClaim": {"claimName": "runs"}}
KEPT: dict[str, Any] = {"storage": {"runs": LASTING}}


def switches(person: Person, job: str = "portrait") -> tuple[bool, bool]:
    """spec.suspend and spec.stop."""
    spec = person.job(job)["spec"]
    return spec["suspend"], spec["stop"]


def test_suspend_and_resume_turn_one_switch(person: Person) -> None:
    person.make(status=running(), **KEPT)
    before = person.job()["spec"]
    assert person("suspend", "portrait").out == f"{REFERENCE} suspended\n"
    assert person.job()["spec"] == {**before, "suspend": True}
    assert person("suspend", "portrait").out == f"{REFERENCE} suspended (no change)\n"
    assert person("resume", "portrait").out == f"{REFERENCE} resumed\n"
    assert person.job()["spec"] == before


def test_stop_turns_its_switch_and_asks_nobody_where_there_is_no_terminal(person: Person) -> None:
    person.make(status=running(), **KEPT)
    with person.start("stop", "portrait", stdin=subprocess.DEVNULL) as program:
        out, _ = program.communicate(timeout=60)
    assert out == f"{REFERENCE} stopping\n"
    assert switches(person) == (False, True)


@pytest.mark.parametrize(("answer", "stopped"), [("n\n", False), ("\n", False), ("y\n", True)])
def test_stop_asks_on_a_terminal(person: Person, answer: str, stopped: bool) -> None:
    person.make(status=running(), **KEPT)
    main, other = pty.openpty()
    try:
        with person.start("stop", "portrait", stdin=other) as program:
            os.write(main, answer.encode())
            out, _ = program.communicate(timeout=60)
    finally:
        os.close(main)
        os.close(other)
    assert "End training of portrait for good? [y/N]" in out
    assert (program.returncode == 0) is stopped
    assert ("error: nothing was changed" in out) is not stopped
    assert switches(person) == (False, stopped)


@pytest.mark.parametrize(("answer", "switched"), [("n\n", False), ("y\n", True)])
def test_suspend_asks_on_a_terminal_where_training_would_be_lost(person: Person, answer: str, switched: bool) -> None:
    person.make(status=running())
    main, other = pty.openpty()
    try:
        with person.start("suspend", "portrait", stdin=other) as program:
            os.write(main, answer.encode())
            out, _ = program.communicate(timeout=60)
    finally:
        os.close(main)
        os.close(other)
    assert "No volume of portrait lasts longer than its pods" in out
    assert switches(person) == (switched, False)


@pytest.mark.parametrize(
    ("verb", "runs", "told"),
    [
        ("suspend", {}, "resumed, it begins again at iteration 0"),
        ("suspend", {"emptyDir": {}}, "resumed, it begins again at iteration 0"),
        ("stop", {"emptyDir": {}}, "its report and exported weights go with them"),
        ("suspend", LASTING, ""),
        ("stop", LASTING, ""),
    ],
)
def test_what_a_switch_costs_is_told(person: Person, verb: str, runs: dict[str, object], told: str) -> None:
    person.make(status=running(), storage={"runs": runs})
    said = person(verb, "portrait").err
    lead = "spec.storage.runs of portrait names no volume that lasts longer than its pods: "
    assert said == (f"{lead}{told}\n" if told else "")


def test_a_job_that_never_ran_has_nothing_to_lose(person: Person) -> None:
    person.make()
    assert person("suspend", "portrait").err == ""


def test_yes_is_an_answer(person: Person) -> None:
    person.make(status=running(), **KEPT)
    main, other = pty.openpty()
    try:
        with person.start("stop", "--yes", "portrait", stdin=other) as program:
            out, _ = program.communicate(timeout=60)
    finally:
        os.close(main)
        os.close(other)
    assert out == f"{REFERENCE} stopping\n"


def test_several_jobs_are_switched_whatever_becomes_of_one(person: Person) -> None:
    for name in ("one", "two"):
        person.make(name, running(), **KEPT)
    said = person("suspend", "one", "missing", "two", code=1)
    assert said.lines == ["g2rpojob.g2rpo.dev/one suspended", "g2rpojob.g2rpo.dev/two suspended"]
    assert said.err == 'Error from server (NotFound): g2rpojobs.g2rpo.dev "missing" not found\n'
    assert switches(person, "one") == switches(person, "two") == (True, False)


@pytest.mark.parametrize(("command", "word"), [("suspend", "suspended"), ("resume", "resumed"), ("stop", "stopping")])
def test_a_job_that_is_over_is_left_alone(person: Person, command: str, word: str) -> None:
    person.make(status=over(), **KEPT)
    said = person(command, "portrait", code=1)
    assert said.err == f"error: portrait is over (Succeeded); nothing of it can be {word}\n"
    assert switches(person) == (False, False)


def test_a_suspended_job_that_is_stopped_ends_later(person: Person) -> None:
    person.make(status=suspended(), suspend=True, **KEPT)
    said = person("stop", "--yes", "portrait")
    assert said.err == "portrait is suspended: it ends once it is resumed\n"
    assert switches(person) == (True, True)


@pytest.mark.parametrize(
    ("command", "status", "word"),
    [("suspend", suspended(), "suspended"), ("resume", running(), "running"), ("stop", over(), "succeeded")],
)
def test_waiting_ends_when_it_has_come_to_it(person: Person, command: str, status: dict, word: str) -> None:
    person.make(status=suspended() if command == "resume" else running(), suspend=command == "resume", **KEPT)

    def operate() -> None:
        key = "stop" if command == "stop" else "suspend"
        wait_until(lambda: person.job()["spec"][key] is (command != "resume"), f"{command} was asked for")
        person.tell("portrait", status)

    thread = threading.Thread(target=operate)
    thread.start()
    said = person(command, "portrait", "--wait", "--timeout", "60s")
    thread.join()
    assert said.lines[-1] == f"{REFERENCE} {word}"


def test_waiting_for_what_does_not_come_ends_in_time(person: Person) -> None:
    person.make(status=running(), **KEPT)
    said = person("suspend", "portrait", "--wait", "--timeout", "1s", code=1)
    assert said.err == "error: timed out waiting for the condition on g2rpojobs/portrait\n"
    assert switches(person) == (True, False)


def test_only_the_job_that_was_looked_at_is_switched(person: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job deleted and created again under the same name in between is another job."""
    person.make(status=running(), **KEPT)
    real = switch.fetch

    def replaced(client: Client, name: str) -> Seen:
        found = real(client, name)
        person.cluster.api.delete(person.path(name))
        person.make(status=running(), **KEPT)
        return found

    monkeypatch.setattr(switch, "fetch", replaced)
    assert "metadata.uid" in person("suspend", "portrait", code=1).err
    assert switches(person) == (False, False)
