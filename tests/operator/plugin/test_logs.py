"""`logs` of pods that really run, as processes of a node of the test cluster."""

from __future__ import annotations

import pytest

from plugin.people import Object, Person, running
from testcluster.process import wait_until

FINAL = ("Succeeded", "Failed")


def speaks(node: str, code: str) -> Object:
    """A pod's spec that runs a Python text on the process node."""
    return {"container": {"command": ["python", "-u", "-c", code]}, "nodeName": node}


def ended(person: Person, *pods: Object) -> None:
    for pod in pods:
        wait_until(lambda pod=pod: person.cluster.pods.get(pod)["status"].get("phase") in FINAL, "the pod ended", 60)


@pytest.fixture
def job(person: Person, process_node: str) -> Object:
    """A job whose first attempt failed in its second rank, and whose second attempt has ended well."""
    failure = {"attempt": 1, "reason": "Bug", "pod": "portrait-a1-1", "time": "2026-03-01T12:00:00Z"}
    made = person.make(status=running(attempt=2, lastFailure=failure))
    pods = [
        person.pod(made, 1, 0, **speaks(process_node, "print('one-zero')")),
        person.pod(made, 1, 1, **speaks(process_node, "print('one-one'); raise SystemExit(1)")),
        person.pod(made, 2, 0, **speaks(process_node, "for n in range(5): print('two-zero', n)")),
        person.pod(made, 2, 1, **speaks(process_node, "print('two-one')")),
    ]
    ended(person, *pods)
    return made


def test_logs_come_from_the_pod_that_one_would_look_at(person: Person, job: Object) -> None:
    whole = "".join(f"two-zero {number}\n" for number in range(5))
    assert person("logs", "portrait").out == whole
    assert person("logs", "portrait", "-f").out == whole
    assert person("logs", "portrait", "--tail", "2").out == "two-zero 3\ntwo-zero 4\n"
    assert person("logs", "portrait", "--tail", "0").out == ""
    assert person("logs", "portrait", "--rank-node", "1").out == "two-one\n"
    assert person("logs", "portrait", "--attempt", "1").out == "one-one\n"
    assert person("logs", "portrait", "--attempt", "1", "--rank-node", "0").out == "one-zero\n"
    lines = person("logs", "portrait", "--attempt", "1", "--all-pods").lines
    assert sorted(lines) == ["[pod/portrait-a1-0/trainer] one-zero", "[pod/portrait-a1-1/trainer] one-one"]
    assert "no pod of attempt 7" in person("logs", "portrait", "--attempt", "7", "--all-pods", code=1).err


def test_a_log_is_followed_until_its_end(person: Person, process_node: str) -> None:
    made = person.make(status=running())
    goes_on = "import pathlib, time\nwhile not pathlib.Path('/go/on').exists(): time.sleep(0.05)"
    waits = f"print('first')\n{goes_on}\nprint('last')"
    volume = {"name": "go", "configMap": {"name": "go", "optional": True}}
    container = {"command": ["python", "-u", "-c", waits], "volumeMounts": [{"name": "go", "mountPath": "/go"}]}
    person.pod(made, 1, 0, container=container, volumes=[volume], nodeName=process_node)
    person.cluster.pods.wait_running(person.namespace, "", 1)
    with person.start("logs", "portrait", "-f", "--all-pods") as program:
        assert program.stdout
        assert program.stdout.readline() == "[pod/portrait-a1-0/trainer] first\n"
        body = {"metadata": {"name": "go"}, "data": {"on": ""}}
        person.cluster.api.create(f"/api/v1/namespaces/{person.namespace}/configmaps", body)
        assert program.stdout.readline() == "[pod/portrait-a1-0/trainer] last\n"
        assert program.wait(60) == 0


def test_a_pod_that_has_no_node_has_no_log(person: Person) -> None:
    """The API server's answer is an empty log; a person wants to know why."""
    person.pod(person.make(status=running()), 1, nodeSelector={"no": "such"})
    wait_until(lambda: "didn't match" in str(person.cluster.pods.matching(person.namespace)), "the scheduler gave up")
    for options in ((), ("--all-pods",)):
        said = person("logs", "portrait", *options, code=1)
        assert "portrait-a1-0 has not begun: Unschedulable" in said.err
        assert "didn't match" in said.err
        assert said.out == ""


def test_a_pod_that_is_about_to_run_is_told_by_the_server(person: Person, process_node: str) -> None:
    mount = {"name": "later", "mountPath": "/later"}
    volumes = [{"name": "later", "configMap": {"name": "later"}}]
    made = person.make(status=running())
    person.pod(made, 1, container={"volumeMounts": [mount]}, volumes=volumes, nodeName=process_node)
    assert person("logs", "portrait", code=1).err.startswith("Error from server")


def test_more_pods_than_can_be_followed_are_refused(person: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("g2rpo_operator.plugin.commands.logs.MOST_AT_ONCE", 1)
    made = person.make(status=running())
    for index in range(2):
        person.pod(made, 1, index, nodeSelector={"no": "such"})
    assert "choose by --rank-node" in person("logs", "portrait", "-f", "--all-pods", code=1).err
