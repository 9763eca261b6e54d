"""Requests of the operator against a real API server."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import pytest
import yaml
from aiohttp import web
from kubernetes.aio.config import incluster_config

from g2rpo_operator import cluster as edge
from g2rpo_operator.errors import AlreadyExistsError, ConflictError, ForbiddenError, NotFoundError, RejectedError
from g2rpo_operator.resources import CHILD_JOBS, CONFIG_MAPS, JOBS, PODS, SERVICES
from testcluster.cluster import Cluster as RealCluster
from testcluster.process import wait_until
from testoperator.definition import define_jobs
from testoperator.records import job_data

T = TypeVar("T")
Manifest = dict[str, Any]


def ask(cluster: RealCluster, question: Callable[[edge.Cluster], Awaitable[T]], **options: Any) -> T:
    """What the operator's client gets, connected as the cluster's administrator."""

    async def main() -> T:
        async with edge.Cluster.connect(options.pop("kubeconfig", cluster.kubeconfig), **options) as api:
            return await question(api)

    return asyncio.run(main())


def config_map(name: str, **metadata: Any) -> Manifest:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, **metadata}, "data": {"key": "old"}}


def place(namespace: str, name: str, plural: str = "configmaps") -> str:
    return f"/api/v1/namespaces/{namespace}/{plural}/{name}"


def test_paths_are_those_of_the_api() -> None:
    assert PODS.path("team", "a") == "/api/v1/namespaces/team/pods/a"
    assert JOBS.path("team", "a", "status") == "/apis/g2rpo.dev/v1alpha1/namespaces/team/g2rpojobs/a/status"
    assert CHILD_JOBS.path(None) == "/apis/batch/v1/jobs"


def test_an_object_is_created_read_changed_and_deleted(cluster: RealCluster, namespace: str) -> None:
    async def life(api: edge.Cluster) -> None:
        assert await api.get(CONFIG_MAPS, namespace, "one") is None
        created = await api.create(CONFIG_MAPS, namespace, config_map("one"))
        assert created == cluster.api.get(place(namespace, "one"))
        changed = await api.patch(CONFIG_MAPS, namespace, "one", {"data": {"key": None, "other": "new"}})
        assert changed["data"] == cluster.api.get(place(namespace, "one"))["data"] == {"other": "new"}
        assert await api.get(CONFIG_MAPS, namespace, "one") == changed
        assert await api.delete(CONFIG_MAPS, namespace, "one", created["metadata"]["uid"])
        assert not cluster.api.answers(place(namespace, "one"))

    ask(cluster, life)


def test_the_api_server_knows_who_wrote(cluster: RealCluster, namespace: str) -> None:
    created = ask(cluster, lambda api: api.create(CONFIG_MAPS, namespace, config_map("one")))
    assert [entry["manager"] for entry in created["metadata"]["managedFields"]] == ["g2rpo-operator"]


def test_a_list_takes_labels_and_comes_in_pages(
    cluster: RealCluster, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for index in range(7):
        labels = {"test.dev/half": "first" if index < 5 else "second"}
        cluster.api.create(place(namespace, ""), config_map(f"map-{index}", labels=labels))
    requests: list[tuple[str, str, str]] = []

    async def question(api: edge.Cluster) -> tuple[list[int], list[Manifest]]:
        pages = [len(page) async for page in api.pages(CONFIG_MAPS, namespace, "test.dev/half in (first)")]
        assert requests == [("list", "configmaps", "200")] * 3
        return pages, await api.list(CONFIG_MAPS, None, "test.dev/half=second")

    monkeypatch.setattr(edge, "PAGE", 2)
    pages, second = ask(cluster, question, count=lambda *request: requests.append(request))
    assert pages == [2, 2, 1]
    assert [(item["metadata"]["namespace"], item["metadata"]["name"]) for item in second] == [
        (namespace, "map-5"),
        (namespace, "map-6"),
    ]


def test_a_name_that_is_taken_is_told_apart(cluster: RealCluster, namespace: str) -> None:
    cluster.api.create(place(namespace, ""), config_map("one"))
    with pytest.raises(AlreadyExistsError, match='configmaps "one" already exists'):
        ask(cluster, lambda api: api.create(CONFIG_MAPS, namespace, config_map("one")))


def test_a_namespace_that_is_not_there_is_told_apart(cluster: RealCluster) -> None:
    with pytest.raises(NotFoundError, match='namespaces "nowhere" not found'):
        ask(cluster, lambda api: api.create(CONFIG_MAPS, "nowhere", config_map("one")))


def test_what_can_never_be_right_is_refused_for_good_in_the_servers_words(cluster: RealCluster, namespace: str) -> None:
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "one"}, "spec": {"type": "Wrong"}}
    with pytest.raises(RejectedError, match=r'spec\.type: Unsupported value: "Wrong"') as caught:
        ask(cluster, lambda api: api.create(SERVICES, namespace, service))
    assert caught.value.permanent


def test_a_quota_is_a_refusal_that_may_not_last(cluster: RealCluster, namespace: str) -> None:
    quota = {"kind": "ResourceQuota", "apiVersion": "v1", "metadata": {"name": "few"}}
    cluster.api.create(place(namespace, "", "resourcequotas"), {**quota, "spec": {"hard": {"count/services": "0"}}})
    path = place(namespace, "few", "resourcequotas")
    wait_until(lambda: cluster.api.get(path).get("status"), "the quota is counted")
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "one"}, "spec": {"ports": [{"port": 1}]}}
    with pytest.raises(RejectedError, match="exceeded quota: few") as caught:
        ask(cluster, lambda api: api.create(SERVICES, namespace, service))
    assert not caught.value.permanent


def test_a_namespace_that_is_going_is_a_refusal_that_may_not_last(cluster: RealCluster, namespace: str) -> None:
    cluster.api.create(place(namespace, ""), config_map("kept", finalizers=["test.dev/stay"]))
    cluster.remove_namespace(namespace)
    with pytest.raises(RejectedError, match="is being terminated") as caught:
        ask(cluster, lambda api: api.create(CONFIG_MAPS, namespace, config_map("one")))
    assert not caught.value.permanent
    cluster.api.merge(place(namespace, "kept"), {"metadata": {"finalizers": None}})


def test_a_user_without_a_role_is_told_what_is_missing(cluster: RealCluster, namespace: str) -> None:
    stranger = cluster.kubeconfig_for_user("stranger")
    with pytest.raises(ForbiddenError, match='User "stranger" cannot list resource "pods"'):
        ask(cluster, lambda api: api.list(PODS, namespace), kubeconfig=stranger)
    with pytest.raises(ForbiddenError, match='cannot create resource "configmaps"'):
        ask(cluster, lambda api: api.create(CONFIG_MAPS, namespace, config_map("one")), kubeconfig=stranger)


def test_a_pods_own_account_is_used_where_there_is_one(
    cluster: RealCluster, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = yaml.safe_load(cluster.kubeconfig_for_service_account(namespace, "default").read_text())
    server = content["clusters"][0]["cluster"]
    (tmp_path / "token").write_text(content["users"][0]["user"]["token"])
    (tmp_path / "ca.crt").write_bytes(base64.b64decode(server["certificate-authority-data"]))
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(tmp_path / "token"))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(tmp_path / "ca.crt"))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", urlsplit(server["server"]).hostname or "")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(urlsplit(server["server"]).port))
    with pytest.raises(ForbiddenError, match=f'User "system:serviceaccount:{namespace}:default" cannot list'):
        ask(cluster, lambda api: api.list(PODS, namespace), kubeconfig=None)


def test_a_patch_for_one_object_does_not_change_its_successor(cluster: RealCluster, namespace: str) -> None:
    created = cluster.api.create(place(namespace, ""), config_map("one"))
    patch = {"data": {"key": "new"}, "metadata": {"labels": {"test.dev/is": "new"}}}

    async def question(api: edge.Cluster) -> Manifest:
        with pytest.raises(ConflictError):
            await api.patch(CONFIG_MAPS, namespace, "one", patch, uid="another")
        assert cluster.api.get(place(namespace, "one")) == created
        return await api.patch(CONFIG_MAPS, namespace, "one", patch, uid=created["metadata"]["uid"])

    changed = ask(cluster, question)
    assert (changed["data"], changed["metadata"]["labels"]) == ({"key": "new"}, {"test.dev/is": "new"})


def test_a_deletion_spares_a_successor_and_is_content_when_nothing_is_there(
    cluster: RealCluster, namespace: str
) -> None:
    cluster.api.create(place(namespace, ""), config_map("one"))

    async def question(api: edge.Cluster) -> tuple[bool, bool]:
        another = await api.delete(CONFIG_MAPS, namespace, "one", "another")
        return another, await api.delete(CONFIG_MAPS, namespace, "nothing", "another")

    assert ask(cluster, question) == (False, False)
    assert cluster.api.answers(place(namespace, "one"))


def test_a_pod_of_a_lost_node_goes_only_without_grace(cluster: RealCluster, namespace: str) -> None:
    containers = [{"name": "main", "image": "trainer:1"}]
    pod = {"metadata": {"name": "lost"}, "spec": {"nodeName": "no-such-node", "containers": containers}}
    uid = cluster.api.create(place(namespace, "", "pods"), pod)["metadata"]["uid"]
    path = place(namespace, "lost", "pods")

    async def question(api: edge.Cluster) -> None:
        assert await api.delete(PODS, namespace, "lost", uid)
        assert "deletionTimestamp" in cluster.api.get(path)["metadata"]
        assert await api.delete(PODS, namespace, "lost", uid, grace_seconds=0)
        assert not cluster.api.answers(path)

    ask(cluster, question)


def test_what_a_deleted_object_owns_follows(cluster: RealCluster, namespace: str) -> None:
    spec = {"restartPolicy": "Never", "containers": [{"name": "main", "image": "trainer:1"}]}
    template = {"metadata": {"labels": {"test.dev/job": "one"}}, "spec": spec}
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "one"}, "spec": {"template": template}}
    uid = ask(cluster, lambda api: api.create(CHILD_JOBS, namespace, job))["metadata"]["uid"]
    cluster.pods.wait_running(namespace, "test.dev/job", 1)
    assert ask(cluster, lambda api: api.delete(CHILD_JOBS, namespace, "one", uid))
    wait_until(lambda: not cluster.pods.matching(namespace, "test.dev/job"), "the Job's pods are gone")


@pytest.fixture
def job(cluster: RealCluster, namespace: str) -> Manifest:
    """A G2RPOJob on the cluster."""
    define_jobs(cluster)
    return cluster.api.create(JOBS.path(namespace), job_data({"namespace": namespace}))


def test_a_status_is_written_once_for_each_version(cluster: RealCluster, job: Manifest) -> None:
    async def question(api: edge.Cluster) -> Manifest:
        written = await api.replace_status({**job, "status": {"phase": "Running", "attempt": 1}})
        with pytest.raises(ConflictError, match="the object has been modified"):
            await api.replace_status({**job, "status": {"phase": "Failed"}})
        return written

    written = ask(cluster, question)
    path = JOBS.path(job["metadata"]["namespace"], job["metadata"]["name"])
    assert cluster.api.get(path) == written
    assert written["status"]["phase"] == "Running"


def test_a_status_write_leaves_the_spec_alone(cluster: RealCluster, job: Manifest) -> None:
    changed = {**job, "spec": {**job["spec"], "suspend": True}, "status": {"phase": "Running"}}
    written = ask(cluster, lambda api: api.replace_status(changed))
    assert written["spec"] == job["spec"]
    assert written["metadata"]["generation"] == job["metadata"]["generation"]


def test_a_status_write_leaves_to_others_what_they_own(cluster: RealCluster, job: Manifest) -> None:
    path = JOBS.path(job["metadata"]["namespace"], job["metadata"]["name"])
    theirs = {"labels": {"team": "a"}, "annotations": {"who": "b"}, "finalizers": ["test.dev/hold"]}
    found = cluster.api.merge(path, {"metadata": theirs})
    written = ask(cluster, lambda api: api.replace_status({**found, "status": {"phase": "Running"}}))
    cluster.api.merge(path, {"metadata": {"finalizers": None}})
    mine = ("managedFields", "resourceVersion")
    plain = [{key: value for key, value in it["metadata"].items() if key not in mine} for it in (found, written)]
    assert plain[0] == plain[1]
    for entry in found["metadata"]["managedFields"]:
        assert entry in written["metadata"]["managedFields"]


def test_an_event_is_what_kubectl_describe_shows_of_the_job(cluster: RealCluster, job: Manifest) -> None:
    async def question(api: edge.Cluster) -> None:
        await api.post_event(job, "Fault", "rank 3 ended with 1: out of words", warning=True)
        await api.post_event(job, "Completed", "300 of 300 iterations", warning=False)
        await api.post_event(job, "Completed", "300 of 300 iterations", warning=False)

    ask(cluster, question, instance="g2rpo-operator-0")
    name, namespace = job["metadata"]["name"], job["metadata"]["namespace"]
    events = cluster.kubectl("describe", "g2rpojob", name, "-n", namespace).partition("Events:")[2]
    lines = [line.split() for line in events.splitlines()[3:] if line.strip()]
    assert sorted((line[0], line[1], line[3], " ".join(line[4:])) for line in lines) == [
        ("Normal", "Completed", "g2rpo-operator", "300 of 300 iterations"),
        ("Normal", "Completed", "g2rpo-operator", "300 of 300 iterations"),
        ("Warning", "Fault", "g2rpo-operator", "rank 3 ended with 1: out of words"),
    ]
    found = cluster.api.items(
        place(namespace, "", "events"), fieldSelector=f"involvedObject.uid={job['metadata']['uid']}"
    )
    assert {event["reportingInstance"] for event in found} == {"g2rpo-operator-0"}
    assert all(event["firstTimestamp"] >= job["metadata"]["creationTimestamp"] for event in found)


def test_a_long_story_is_cut_and_not_refused(cluster: RealCluster, job: Manifest) -> None:
    ask(cluster, lambda api: api.post_event(job, "Fault", "x" * 100_000, warning=True))
    (event,) = cluster.api.items(place(job["metadata"]["namespace"], "", "events"), fieldSelector="reason=Fault")
    assert event["message"] == "x" * 1024


def test_any_path_can_be_read(cluster: RealCluster) -> None:
    assert ask(cluster, lambda api: api.get_bytes("/readyz")) == b"ok"


def test_every_request_is_counted_with_its_outcome(cluster: RealCluster, namespace: str) -> None:
    requests: list[tuple[str, str, str]] = []

    async def question(api: edge.Cluster) -> None:
        created = await api.create(CONFIG_MAPS, namespace, config_map("one"))
        with pytest.raises(AlreadyExistsError):
            await api.create(CONFIG_MAPS, namespace, config_map("one"))
        await api.get(PODS, namespace, "nothing")
        await api.replace(CONFIG_MAPS, created)
        await api.patch(CONFIG_MAPS, namespace, "one", {"data": {}})
        await api.delete(CONFIG_MAPS, namespace, "one", created["metadata"]["uid"])

    ask(cluster, question, count=lambda *request: requests.append(request))
    assert requests == [
        ("create", "configmaps", "201"),
        ("create", "configmaps", "409"),
        ("get", "pods", "404"),
        ("update", "configmaps", "200"),
        ("patch", "configmaps", "200"),
        ("delete", "configmaps", "200"),
    ]


def test_only_the_answers_to_lists_come_packed(tmp_path: Path) -> None:
    """The API server would pack each event of a watch alone, which costs it more than what is in the event."""
    asked: dict[str, str] = {}

    async def answer(request: web.Request) -> web.Response:
        asked["watch" if "watch" in request.query else "list"] = request.headers["Accept-Encoding"]
        return web.Response() if "watch" in request.query else web.json_response({"items": [], "metadata": {}})

    async def main() -> None:
        app = web.Application()
        app.router.add_get("/{path:.*}", answer)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        file = kubeconfig_of("http://{}:{}".format(*runner.addresses[0]), tmp_path)
        async with edge.Cluster.connect(file) as api:
            assert await api.list(PODS, None) == [event async for event in api.watch(PODS, None, "team")] == []
        await runner.cleanup()

    asyncio.run(main())
    assert "gzip" in asked["list"]
    assert asked["watch"] == "identity"


def kubeconfig_of(server: str, folder: Path) -> Path:
    """A file that names this API server, and nobody."""
    named = {"cluster": {"server": server}, "user": {}, "context": {"cluster": "here", "user": "here"}}
    lists = {f"{kind}s": [{"name": "here", kind: content}] for kind, content in named.items()}
    path = folder / "kubeconfig"
    path.write_text(yaml.safe_dump({"apiVersion": "v1", "kind": "Config", "current-context": "here", **lists}))
    return path


def test_requests_under_way_at_once_are_as_many_as_connections(cluster: RealCluster, namespace: str) -> None:
    async def question(api: edge.Cluster) -> None:
        await asyncio.gather(*(api.create(CONFIG_MAPS, namespace, config_map(f"map-{index}")) for index in range(100)))

    ask(cluster, question, connections=4)
    assert len(cluster.api.items(place(namespace, ""))) >= 100
