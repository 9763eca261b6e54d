"""`status` and `curve` of jobs in a real cluster."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from g2rpo_operator.plugin.client import connect
from g2rpo_operator.plugin.failures import PluginError
from g2rpo_operator.plugin.jobs import seen
from g2rpo_operator.plugin.options import Where
from plugin.people import NOW, Object, Person, condition, over, parsed, running
from testcluster.process import wait_until

CURVE = "iteration,time,ocr.anchor_mean\n" + "".join(f"{n},1.0,{n / 100}\n" for n in range(1, 51))
SVG = '<svg xmlns="http://www.w3.org/2000/svg"/>\n'
POINTS = [{"iteration": number, "reward": number / 1000} for number in (1, 30, 60)]


def progress(**more: Any) -> Object:
    known = {
        "attempt": 1,
        "iteration": 60,
        "total": 100,
        "step": "60/100",
        "percent": 60.0,
        "phase": "Training",
        "reward": 0.5,
        "curve": POINTS,
        "rewards": [{"name": "ocr", "role": "Train", "mean": 0.5, "best": 0.6, "delta": 0.1}],
    }
    return {**known, **more}


def ago(seconds: float) -> str:
    return (datetime.now(UTC) - timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def post_event(person: Person, made: Object, reason: str, message: str, seconds: float) -> None:
    metadata = made["metadata"]
    about = {key: metadata[key] for key in ("namespace", "name", "uid")}
    body = {
        "metadata": {"generateName": "e-"},
        "involvedObject": {"apiVersion": "g2rpo.dev/v1alpha1", "kind": "G2RPOJob", **about},
        "reason": reason,
        "message": message,
        "type": "Warning",
        "count": 1,
        "lastTimestamp": ago(seconds),
    }
    person.cluster.api.create(f"/api/v1/namespaces/{person.namespace}/events", body)


def keep_curve(person: Person, made: Object, uid: str = "", **data: str) -> None:
    reference = {"apiVersion": "g2rpo.dev/v1alpha1", "kind": "G2RPOJob", "name": made["metadata"]["name"]}
    owner = {**reference, "uid": uid or made["metadata"]["uid"]}
    files = {"curve.csv": CURVE, "curve.svg": SVG, **data}
    body = {"metadata": {"name": f"{made['metadata']['name']}-curve", "ownerReferences": [owner]}, "data": files}
    person.cluster.api.create(f"/api/v1/namespaces/{person.namespace}/configmaps", body)


def test_the_page_has_what_the_cluster_knows(person: Person) -> None:
    failure = {
        "attempt": 1,
        "reason": "Bug",
        "message": "it broke",
        "exitCode": 1,
        "time": ago(600),
        "lastLines": "Traceback",
    }
    told = running(attempt=2, restarts=1, progress=progress(attempt=2), lastFailure=failure)
    made = person.make(status=told)
    first, second = person.pod(made, 2, 0), person.pod(made, 2, 1)
    person.cluster.pods.wait_running(person.namespace, "g2rpo.dev/job=portrait", 2)
    person.cluster.pods.fail(second, 137, reason="OOMKilled")
    post_event(person, made, "Fault", "pod portrait-a1-0 ended", 900)
    other = person.make("other")
    post_event(person, other, "Elsewhere", "of another job", 1)
    text = person("status", "portrait").out
    assert text.startswith("portrait  Running for ")
    assert f"namespace {person.namespace}" in text
    assert "Training: iterations are coming in" in text
    assert "60 %  60/100" in text
    assert "restarts 1 of 3" in text
    assert "Last failure  Bug, attempt 1, 10m ago" in text
    assert "│ Traceback" in text
    lines = [line.split() for line in text.splitlines()]
    node = person.cluster.pods.get(first)["spec"]["nodeName"]
    assert ["portrait-a2-0", "0", "2", "Running", "-", node] in lines
    assert [second["metadata"]["name"], "1", "2", "OOMKilled", "137"] in [line[:5] for line in lines]
    assert ["15m", "Warning", "Fault", "pod", "portrait-a1-0", "ended"] in lines
    assert "Elsewhere" not in text


def test_a_new_job_has_a_page_too(person: Person) -> None:
    person.make()
    assert person("status", "portrait").lines[0].startswith("portrait  Pending")


@pytest.mark.parametrize("form", ["json", "yaml"])
def test_the_object_is_kubectls(person: Person, form: str) -> None:
    person.make(status=running())
    ours, kubectls = person("status", "portrait", "-o", form).out, person.kubectl("get", "g2j", "portrait", "-o", form)
    assert parsed(ours) == parsed(kubectls)


def test_the_name_is_kubectls(person: Person) -> None:
    person.make()
    assert person("status", "portrait", "-o", "name").out == person.kubectl("get", "g2j", "portrait", "-o", "name")


def test_pods_of_an_earlier_job_of_the_name_are_not_its_own(person: Person) -> None:
    made = person.make()
    made["metadata"]["uid"] = "0a1b2c3d-0000-4000-8000-000000000009"
    person.pod(made, 1)
    assert "portrait-a1-0" not in person("status", "portrait").out


def test_a_status_that_a_newer_operator_wrote_asks_for_an_update() -> None:
    manifest = {"metadata": {"name": "portrait"}, "status": {"phase": "Teleporting"}}
    with pytest.raises(PluginError, match=r"status.phase of portrait cannot be read .*: update the plugin"):
        seen(manifest)


def drawn(text: str) -> list[str]:
    return [line for line in text.splitlines() if any(0x2800 < ord(letter) <= 0x28FF for letter in line)]


def test_the_curve_is_drawn_from_what_the_operator_kept_and_what_is_newer(person: Person) -> None:
    keep_curve(person, person.make(status=running(progress=progress())))
    said = person("curve", "portrait")
    assert said.lines[0] == "portrait: trained reward"
    assert said.lines[-1] == "iteration 1: 0.01   60: 0.06   highest 0.5 at 50"
    assert len(drawn(said.out)) == 14


def test_one_reward_is_drawn_alone(person: Person) -> None:
    keep_curve(person, person.make(status=running(progress=progress())))
    said = person("curve", "portrait", "--reward", "ocr")
    assert said.lines[0] == "portrait: ocr"
    assert said.lines[-1] == "iteration 1: 0.01   50: 0.5   highest 0.5 at 50"
    assert person("curve", "portrait", "--reward", "orc", code=1).err == (
        "error: no reward 'orc' in the curve; there is ocr\n"
    )


def test_before_it_is_kept_the_status_has_the_shape(person: Person) -> None:
    person.make(status=running(progress=progress()))
    assert person("curve", "portrait").lines[-1] == "iteration 1: 0.001   60: 0.06   highest 0.06 at 60"
    assert person("curve", "portrait", "--csv").out.splitlines() == [
        "iteration,reward",
        "1,0.001",
        "30,0.03",
        "60,0.06",
    ]
    assert "are not kept yet" in person("curve", "portrait", "--reward", "ocr", code=1).err
    assert "no curve.svg yet" in person("curve", "portrait", "--svg", code=1).err


def test_files_are_printed_as_the_trainer_wrote_them(person: Person) -> None:
    keep_curve(person, person.make(status=running()))
    assert person("curve", "portrait", "--csv").out == CURVE
    assert person("curve", "portrait", "--svg").out == SVG
    assert person("curve", "portrait", "--csv", "--svg", code=1).err == "error: --csv and --svg exclude each other\n"


def test_the_curve_of_an_earlier_job_of_the_name_is_not_shown(person: Person) -> None:
    keep_curve(person, person.make(status=running()), uid="0a1b2c3d-0000-4000-8000-000000000009")
    assert person("curve", "portrait", code=1).err == "error: portrait has finished no iteration yet; it is Running\n"


def test_a_page_goes_through_a_pipe_without_colours(person: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR")
    person.make(status=over("Failed", "Diverged"))
    assert "\x1b" not in person("status", "portrait").out


def test_the_readers_of_a_page_may_only_read(person: Person, tmp_path: Path) -> None:
    """A page needs jobs, pods and events to be readable, and nothing more."""
    person.make(status=running())
    rules = [
        {"apiGroups": ["g2rpo.dev"], "resources": ["g2rpojobs"], "verbs": ["get", "list"]},
        {"apiGroups": [""], "resources": ["pods", "events"], "verbs": ["list"]},
    ]
    rbac = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{person.namespace}"
    person.cluster.api.create(f"{rbac}/roles", {"metadata": {"name": "reader"}, "rules": rules})
    subject = {"kind": "User", "name": "reader", "apiGroup": "rbac.authorization.k8s.io"}
    role = {"kind": "Role", "name": "reader", "apiGroup": "rbac.authorization.k8s.io"}
    person.cluster.api.create(
        f"{rbac}/rolebindings", {"metadata": {"name": "reader"}, "roleRef": role, "subjects": [subject]}
    )
    reader = str(person.cluster.kubeconfig_for_user("reader"))
    client = connect(Where(namespace=person.namespace, kubeconfig=reader))

    def allowed() -> bool:
        try:
            return client.find(person.path("portrait")) is not None
        except PluginError:
            return False

    wait_until(allowed, "the role is known")
    assert "Running" in person("status", "portrait", "--kubeconfig", reader).out
    assert "Forbidden" in person("suspend", "portrait", "--kubeconfig", reader, code=1).err


def test_conditions_are_written_as_the_definition_wants_them(person: Person) -> None:
    """The statuses of these tests are ones that the API server takes as they are."""
    status = running(conditions=[condition("Running", "True", "Training", "m")], startTime=NOW)
    assert person.make(status=status)["status"]["conditions"] == status["conditions"]
