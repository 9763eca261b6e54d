"""Pods that really run: on the process node, as processes of this machine."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from testcluster.cluster import Cluster
from testcluster.pods import phase
from testcluster.process import wait_until

Object = dict[str, Any]
FINAL = ("Succeeded", "Failed")


@pytest.fixture(scope="module")
def node(cluster: Cluster) -> Iterator[str]:
    """The name of a process node, gone after the module."""
    yield cluster.add_process_node().name
    assert cluster.process_node
    cluster.process_node.stop()
    cluster.remove_node(cluster.process_node.name)
    cluster.process_node = None


class Script:
    """Runs Python texts as pods of one namespace on the node."""

    def __init__(self, cluster: Cluster, namespace: str, node: str) -> None:
        self.cluster, self.namespace, self.node = cluster, namespace, node

    def create(self, code: str, name: str = "pod", container: Object | None = None, **spec: Any) -> Object:
        main = {"name": "main", "image": "none", "command": ["python", "-c", code], **(container or {})}
        body = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name},
            "spec": {"restartPolicy": "Never", "nodeName": self.node, "containers": [main], **spec},
        }
        return self.cluster.api.create(f"/api/v1/namespaces/{self.namespace}/pods", body)

    def ended(self, pod: Object) -> Object:
        """The state in which the pod's container ended."""
        wait_until(lambda: phase(self.cluster.pods.get(pod)) in FINAL, "the pod ended")
        (status,) = self.cluster.pods.get(pod)["status"]["containerStatuses"]
        return dict(status["state"]["terminated"])

    def start(self, code: str, **more: Any) -> Object:
        """The pod, once its log can be read."""
        created = self.create(code, **more)
        self.cluster.pods.wait_running(self.namespace, "", 1)
        return created

    def run(self, code: str, **more: Any) -> Object:
        return self.ended(self.create(code, **more))

    def logs(self, name: str = "pod", *options: str) -> str:
        return self.cluster.kubectl("-n", self.namespace, "logs", name, *options)


@pytest.fixture
def script(cluster: Cluster, namespace: str, node: str) -> Script:
    return Script(cluster, namespace, node)


def says(word: str, code: int) -> str:
    """A program that leaves a last word and ends with an exit code."""
    return f"import os, sys; open('/dev/termination-log', 'w').write({word!r}); sys.exit({code})"


@pytest.mark.parametrize(("exit_code", "final"), [(0, "Succeeded"), (3, "Failed")])
def test_exit_code_and_last_word_are_the_programs(script: Script, exit_code: int, final: str) -> None:
    pod = script.create(says("all was said", exit_code))
    ended = script.ended(pod)
    assert (ended["exitCode"], ended["message"]) == (exit_code, "all was said")
    assert phase(script.cluster.pods.get(pod)) == final


def test_a_program_that_fails_without_a_word_is_quoted_from_its_log(script: Script) -> None:
    quoted = {"terminationMessagePolicy": "FallbackToLogsOnError"}
    assert "KeyError: 'reward'" in script.run("{}['reward']", container=quoted)["message"]


def test_a_job_is_carried_out(cluster: Cluster, namespace: str, node: str) -> None:
    command = ["sh", "-c", 'test "$JOB_COMPLETION_INDEX" = 0 || test "$JOB_COMPLETION_INDEX" = 1']
    spec = {
        "completions": 2,
        "parallelism": 2,
        "completionMode": "Indexed",
        "template": {
            "spec": {
                "restartPolicy": "Never",
                "nodeSelector": {"testcluster.dev/kind": "process"},
                "containers": [{"name": "main", "image": "none", "command": command}],
            }
        },
    }
    cluster.api.create(f"/apis/batch/v1/namespaces/{namespace}/jobs", {"metadata": {"name": "job"}, "spec": spec})
    cluster.kubectl("-n", namespace, "wait", "--for=condition=Complete", "job/job", "--timeout=30s")


def test_variables_are_filled_in(script: Script) -> None:
    env = [
        {"name": "WORD", "value": "one"},
        {"name": "MORE", "value": "$(WORD)-two"},
        {"name": "WHO", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "ADDRESS", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
    ]
    show = "import os; print(*(os.environ[name] for name in ('MORE', 'WHO', 'ADDRESS')), os.environ['HOSTNAME'])"
    pod = script.create(show, container={"env": env})
    script.ended(pod)
    assert script.logs().split() == ["one-two", "pod", script.cluster.pods.get(pod)["status"]["podIP"], "pod"]


def test_mounted_files_are_found_and_follow_their_configmap(script: Script) -> None:
    config = f"/api/v1/namespaces/{script.namespace}/configmaps"
    script.cluster.api.create(config, {"metadata": {"name": "config"}, "data": {"word": "first"}})
    waits = """
import pathlib, time
word, seen = pathlib.Path("/etc/words/word"), pathlib.Path("/runs/seen")
seen.write_text(word.read_text())
while not word.with_name("stop").exists():
    time.sleep(0.05)
print(seen.read_text(), word.read_text())
"""
    mounts = [{"name": "words", "mountPath": "/etc/words"}, {"name": "runs", "mountPath": "/runs"}]
    volumes = [{"name": "words", "configMap": {"name": "config"}}, {"name": "runs", "emptyDir": {}}]
    pod = script.start(waits, container={"volumeMounts": mounts}, volumes=volumes)
    script.cluster.api.merge(f"{config}/config", {"data": {"word": "second", "stop": ""}})
    assert script.ended(pod)["exitCode"] == 0
    assert script.logs() == "first second\n"


def test_a_pod_waits_for_the_configmap_that_it_mounts(script: Script) -> None:
    mount = {"volumeMounts": [{"name": "later", "mountPath": "/later"}]}
    volumes = [{"name": "later", "configMap": {"name": "later"}}]
    pod = script.create("print(open('/later/word').read())", container=mount, volumes=volumes)
    other = script.create("", name="other")
    script.ended(other)
    assert phase(script.cluster.pods.get(pod)) == "Pending"
    body = {"metadata": {"name": "later"}, "data": {"word": "here"}}
    script.cluster.api.create(f"/api/v1/namespaces/{script.namespace}/configmaps", body)
    assert script.ended(pod)["exitCode"] == 0
    assert script.logs() == "here\n"


def test_what_is_written_to_a_claim_is_there_for_the_next_pod(script: Script) -> None:
    claim = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}}
    claims = f"/api/v1/namespaces/{script.namespace}/persistentvolumeclaims"
    script.cluster.api.create(claims, {"metadata": {"name": "runs"}, "spec": claim})
    wait_until(lambda: phase(script.cluster.api.get(f"{claims}/runs")) == "Bound", "there is a volume for the claim")
    mount = {"volumeMounts": [{"name": "runs", "mountPath": "/runs", "subPath": "mine"}]}
    volumes = [{"name": "runs", "persistentVolumeClaim": {"claimName": "runs"}}]
    script.run("open('/runs/word', 'w').write('kept')", container=mount, volumes=volumes)
    assert (
        script.run("print(open('/runs/word').read())", name="next", container=mount, volumes=volumes)["exitCode"] == 0
    )
    assert script.logs("next") == "kept\n"


def test_sigterm_reaches_the_program_and_its_exit_code_is_told(script: Script) -> None:
    saves = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
print("ready", flush=True)
time.sleep(60)
"""
    pod = script.start(saves)
    wait_until(lambda: "ready" in script.logs(), "it runs")
    path = f"/api/v1/namespaces/{script.namespace}/pods/pod"
    script.cluster.api.merge(path, {"metadata": {"finalizers": ["test.dev/look"]}})
    script.cluster.pods.delete(pod)
    assert script.ended(pod)["exitCode"] == 75
    script.cluster.api.merge(path, {"metadata": {"finalizers": None}})
    script.cluster.pods.wait_gone(pod)


STUBBORN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
print(child.pid, flush=True)
time.sleep(600)
"""


def test_what_ignores_sigterm_is_killed_with_all_its_children_after_the_grace_period(script: Script) -> None:
    pod = script.start(STUBBORN, terminationGracePeriodSeconds=1)
    wait_until(lambda: script.logs().strip(), "it runs")
    child = Path(f"/proc/{script.logs().strip()}")
    assert child.exists()
    script.cluster.pods.delete(pod)
    script.cluster.pods.wait_gone(pod)
    wait_until(lambda: not child.exists(), "its child is gone")


def test_a_program_that_ends_takes_its_daemons_with_it(script: Script) -> None:
    leaves = "import subprocess; print(subprocess.Popen(['sleep', '600'], start_new_session=True).pid)"
    assert script.run(leaves)["exitCode"] == 0
    assert not Path(f"/proc/{script.logs().strip()}").exists()


def test_pods_find_each_other_by_their_names(script: Script) -> None:
    serves = "import socket; server = socket.create_server(('0.0.0.0', 29511)); server.accept()[0].sendall(b'met')"
    asks = """
import os, socket, time
while True:
    try:
        print(socket.create_connection((os.environ["MASTER_ADDR"], 29511)).recv(3).decode())
        break
    except ConnectionRefusedError:
        time.sleep(0.05)
"""
    master = {"env": [{"name": "MASTER_ADDR", "value": f"first.peers.{script.namespace}.svc"}]}
    second = script.create(asks, name="second", container=master, hostname="second", subdomain="peers")
    first = script.create(serves, name="first", hostname="first", subdomain="peers")
    assert script.ended(second)["exitCode"] == 0
    assert script.ended(first)["exitCode"] == 0
    assert script.logs("second") == "met\n"


def test_logs_can_be_followed_and_cut(script: Script) -> None:
    script.start("import time\nfor number in range(3):\n    print(number, flush=True)\n    time.sleep(0.3)")
    wait_until(lambda: script.logs(), "it says something")
    assert script.logs("pod", "--follow") == "0\n1\n2\n"
    assert script.logs("pod", "--tail=1") == "2\n"


@pytest.mark.parametrize(
    ("container", "spec", "said"),
    [
        ({"command": ["no-such-program"]}, {}, "no-such-program"),
        ({"command": None}, {}, "without a command"),
        ({}, {"initContainers": [{"name": "first", "image": "none"}]}, "init containers"),
        (
            {"volumeMounts": [{"name": "far", "mountPath": "/far"}]},
            {"volumes": [{"name": "far", "nfs": {"server": "far.test", "path": "/"}}]},
            "volume far of kind nfs",
        ),
    ],
    ids=["program", "command", "init", "volume"],
)
def test_what_cannot_run_here_says_why(script: Script, container: Object, spec: Object, said: str) -> None:
    ended = script.run("", container=container, **spec)
    assert ended["reason"] == "StartError"
    assert said in ended["message"]


def test_pods_survive_a_restart_of_the_api_server(script: Script) -> None:
    pod = script.start("import time; time.sleep(4); print('done')")
    script.cluster.apiserver.restart()
    assert script.ended(pod)["exitCode"] == 0
    assert script.logs() == "done\n"


KILLED = """
import sys
from testcluster.cluster import Cluster
with Cluster.started() as cluster:
    cluster.add_process_node()
    main = {"name": "main", "image": "none", "command": ["python", "-c", sys.argv[1]]}
    spec = {"nodeName": "process-0", "containers": [main]}
    cluster.api.create("/api/v1/namespaces/default/pods", {"metadata": {"name": "pod"}, "spec": spec})
    cluster.pods.wait_running("default", "", 1)
    while not (said := cluster.kubectl("logs", "pod")):
        pass
    print(said.strip(), flush=True)
    sys.stdin.read()
"""


def test_nothing_that_a_pod_started_outlives_a_killed_cluster() -> None:
    env = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(Path(__file__).parent), "HOME": str(Path.home())}
    command = [sys.executable, "-c", KILLED, STUBBORN]
    with subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        child = Path(f"/proc/{process.stdout.readline().strip()}")
        assert child.exists()
        process.kill()
    wait_until(lambda: not child.exists(), "the pod's child is gone")
