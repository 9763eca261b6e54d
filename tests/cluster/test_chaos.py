"""What breaks: nodes, programs of the control plane, and the process that runs it all."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from testcluster.cluster import Cluster
from testcluster.process import wait_until
from testcluster.rundir import claim

CHILD = """
import sys
from testcluster.cluster import Cluster
with Cluster.started() as cluster:
    print(cluster.folder, *[component.pid for component in cluster.components], flush=True)
    sys.stdin.read()
"""


def configmap(cluster: Cluster, namespace: str, name: str) -> None:
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}}
    cluster.api.create(f"/api/v1/namespaces/{namespace}/configmaps", body)


def pod(cluster: Cluster, namespace: str, node: str) -> None:
    spec = {"nodeName": node, "containers": [{"name": "main", "image": "trainer:1"}]}
    body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, "spec": spec}
    cluster.api.create(f"/api/v1/namespaces/{namespace}/pods", body)


def test_what_etcd_stored_is_there_after_etcd_and_the_api_server_were_killed(cluster: Cluster, namespace: str) -> None:
    configmap(cluster, namespace, "before")
    for component in (cluster.etcd, cluster.apiserver):
        component.kill()
        assert not component.running
        component.start()
        wait_until(cluster.apiserver_serves, "the API server serves again")
    configmap(cluster, namespace, "after")
    names = {found["metadata"]["name"] for found in cluster.api.items(f"/api/v1/namespaces/{namespace}/configmaps")}
    assert {"before", "after"} <= names


def test_controllers_work_after_a_restart(cluster: Cluster, namespace: str) -> None:
    for component in (cluster.controller_manager, cluster.scheduler, cluster.kwok):
        pid = component.pid
        component.restart()
        assert component.pid != pid
    job = ("create", "job", "job", "--image=trainer:1", "-n", namespace)
    cluster.kubectl(*job)
    cluster.pods.wait_running(namespace, "batch.kubernetes.io/job-name=job", 1, 60)


def test_pods_of_a_lost_node_are_deleted_but_stay_until_it_is_back(cluster: Cluster, namespace: str) -> None:
    pod(cluster, namespace, "node-3")
    (found,) = cluster.pods.wait_running(namespace, "", 1)
    cluster.lose_node("node-3")
    wait_until(lambda: "deletionTimestamp" in cluster.pods.get(found)["metadata"], "the pod is evicted", 60)
    evicted = cluster.pods.get(found)
    assert evicted["status"]["phase"] == "Running", "nobody is there to say that it ended"
    reasons = {c["type"]: c["reason"] for c in evicted["status"]["conditions"] if "reason" in c}
    assert reasons["DisruptionTarget"] == "DeletionByTaintManager"
    cluster.restore_node("node-3")
    cluster.pods.wait_gone(found)


def test_nothing_is_left_when_its_process_is_killed() -> None:
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    command = [sys.executable, "-c", CHILD]
    with subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        folder, *pids = child.stdout.readline().split()
        assert len(pids) == 5
        assert all(Path(f"/proc/{pid}").exists() for pid in pids)
        child.send_signal(signal.SIGKILL)
    wait_until(lambda: not any(alive(int(pid)) for pid in pids), "all programs are gone")
    left = Path(folder) / "admin.kubeconfig"
    inode = left.stat().st_ino
    claim().release()
    assert not left.exists() or left.stat().st_ino != inode, "the next start removes what a dead one left"


def alive(pid: int) -> bool:
    """Whether a process runs: one that is dead but not yet collected does not."""
    try:
        return " Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
