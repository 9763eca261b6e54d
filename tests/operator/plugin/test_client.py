"""How the plugin finds a cluster and what it makes of answers, with a real API server and with one that misbehaves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from g2rpo_operator.plugin.client import connect
from g2rpo_operator.plugin.failures import NoDefinitionError, PluginError, ServerError, server_error
from g2rpo_operator.plugin.options import Where
from plugin.people import Person
from plugin.servers import Server, client_of, plain_config, reply

JOBS = "/apis/g2rpo.dev/v1alpha1/namespaces/team/g2rpojobs"


def kubeconfig(person: Person, name: str, **contexts: dict[str, str]) -> str:
    """A kubeconfig of the cluster with other contexts, the first one current; each adds to the administrator's."""
    config = yaml.safe_load(person.kubeconfig.read_text())
    (known,) = config["contexts"]
    config["contexts"] = [{"name": key, "context": {**known["context"], **more}} for key, more in contexts.items()]
    config["current-context"] = next(iter(contexts))
    path = person.folder / name
    path.write_text(yaml.safe_dump(config))
    return str(path)


def test_the_namespace_is_the_contexts_unless_it_is_named(person: Person) -> None:
    file = kubeconfig(person, "config", one={"namespace": "first"}, two={"namespace": "second"})
    assert connect(Where(kubeconfig=file)).namespace == "first"
    assert connect(Where(kubeconfig=file, context="two")).namespace == "second"
    named = connect(Where(kubeconfig=file, context="two", namespace="third"))
    assert (named.namespace, named.namespace_asked) == ("third", True)


def test_without_any_namespace_it_is_default(person: Person) -> None:
    config = yaml.safe_load(person.kubeconfig.read_text())
    config["contexts"][0]["context"].pop("namespace", None)
    path = person.folder / "config"
    path.write_text(yaml.safe_dump(config))
    assert connect(Where(kubeconfig=str(path))).namespace == "default"


def test_the_kubeconfig_is_that_of_the_environment(person: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    person.make()
    file = kubeconfig(person, "config", here={"namespace": person.namespace})
    monkeypatch.setenv("KUBECONFIG", file)
    assert [line.split()[0] for line in person.run("list", "--no-headers").lines] == ["portrait"]


def test_several_kubeconfigs_are_taken_together(person: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    person.make()
    contexts = person.folder / "contexts"
    other = yaml.safe_load(person.kubeconfig.read_text())
    known = other["contexts"][0]["context"]
    mine = {"name": "mine", "context": {**known, "namespace": person.namespace}}
    contexts.write_text(
        yaml.safe_dump({"apiVersion": "v1", "kind": "Config", "current-context": "mine", "contexts": [mine]})
    )
    monkeypatch.setenv("KUBECONFIG", f"{contexts}:{person.kubeconfig}")
    assert [line.split()[0] for line in person.run("list", "--no-headers").lines] == ["portrait"]


@pytest.mark.parametrize("missing", ["nowhere", "empty", "broken", "list"])
def test_a_kubeconfig_that_is_none_is_named(person: Person, missing: str) -> None:
    for name, text in {"empty": "", "broken": "a: [", "list": "- a\n"}.items():
        (person.folder / name).write_text(text)
    path = str(person.folder / missing)
    said = person.run("list", "--kubeconfig", path, code=1)
    assert said.err.startswith(f"error: kubeconfig {path}: ")


def test_a_missing_context_is_named(person: Person) -> None:
    assert "nobody" in person.run("list", "--context", "nobody", code=1).err


def test_a_person_who_may_not_is_told_by_the_server(person: Person) -> None:
    stranger = person.cluster.kubeconfig_for_user("stranger")
    said = person("list", "--kubeconfig", str(stranger), code=1)
    assert said.err.startswith('Error from server (Forbidden): g2rpojobs.g2rpo.dev is forbidden: User "stranger"')


@pytest.mark.parametrize(
    ("code", "body", "text"),
    [
        (404, b"404 page not found\n", 'error: the server doesn\'t have a resource type "g2rpojobs"'),
        (
            403,
            json.dumps({"kind": "Status", "reason": "Forbidden", "message": "no"}).encode(),
            "Error from server (Forbidden): no",
        ),
        (500, b"upstream failed", "Error from server: upstream failed"),
        (502, b"", "Error from server: status 502"),
        (400, b"[1]", "Error from server: [1]"),
    ],
)
def test_refusals_are_told_as_kubectl_does(code: int, body: bytes, text: str) -> None:
    assert str(server_error(code, body, JOBS)).startswith(text)


def test_a_missing_object_is_no_missing_definition() -> None:
    body = {"kind": "Status", "reason": "NotFound", "message": "not found", "details": {"name": "a"}}
    found = server_error(404, json.dumps(body).encode(), f"{JOBS}/a")
    assert isinstance(found, ServerError)
    assert found.not_found
    assert isinstance(server_error(404, b"404 page not found", JOBS), NoDefinitionError)
    assert isinstance(server_error(404, b"404 page not found", "/api/v1/x"), ServerError)


BUSY = (429, {"Retry-After": "0"}, b"storage is (re)initializing")
FINE = (200, {"Content-Type": "application/json"}, b'{"kind": "X"}')


def test_a_busy_server_is_asked_again(tmp_path: Path) -> None:
    with client_of(tmp_path, BUSY, BUSY, FINE) as (client, server):
        assert client.get("/x") == {"kind": "X"}
        assert server.asked == ["GET /x"] * 3


def test_so_is_one_that_was_asked_for_a_change(tmp_path: Path) -> None:
    with client_of(tmp_path, BUSY, FINE) as (client, server):
        assert client.merge("/x", {}) == {"kind": "X"}
        assert len(server.asked) == 2


def test_but_not_for_ever(tmp_path: Path) -> None:
    with client_of(tmp_path, BUSY) as (client, server), pytest.raises(ServerError, match="initializing"):
        client.get("/x")
    assert len(server.asked) < 20


def test_a_server_that_fails_is_not_asked_again(tmp_path: Path) -> None:
    with (
        client_of(tmp_path, (500, {}, b"broken"), FINE) as (client, server),
        pytest.raises(ServerError, match="broken"),
    ):
        client.get("/x")
    assert len(server.asked) == 1


def test_a_server_that_is_not_there_is_named(tmp_path: Path) -> None:
    server = Server(FINE)
    server.close()
    client = connect(Where(kubeconfig=plain_config(tmp_path, server.url)))
    with pytest.raises(PluginError) as error:
        client.get("/x")
    assert str(error.value).startswith(f"error: no answer from {server.url}: ")
    assert "refused" in str(error.value)
    assert "\n" not in str(error.value)


def test_an_answer_that_breaks_off_is_told(tmp_path: Path) -> None:
    with client_of(tmp_path, (200, {"Content-Length": "100"}, b"{")) as (client, _):
        server_error_text = "no answer from"
        for ask in (lambda: client.get("/x"), lambda: list(client.lines("/x")), lambda: list(client.watch("/x", 1))):
            with pytest.raises(PluginError, match=server_error_text):
                ask()


def test_a_watch_that_the_server_gives_up_ends_with_its_words(tmp_path: Path) -> None:
    status = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version"}
    lines = [{"type": "ADDED", "object": {"a": 1}}, {"type": "ERROR", "object": status}]
    body = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    with client_of(tmp_path, (200, {}, body)) as (client, server):
        changes = client.watch("/x", 7, labelSelector="a=b")
        assert next(changes) == ("ADDED", {"a": 1})
        with pytest.raises(ServerError) as error:
            next(changes)
        assert (error.value.code, error.value.reason) == (410, "Expired")
        assert server.asked == ["GET /x?labelSelector=a%3Db&watch=1&timeoutSeconds=7"]


@pytest.fixture
def pod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files of a service account, and no kubeconfig."""
    account = tmp_path / "account"
    account.mkdir()
    for name, text in {"token": "secret", "ca.crt": "none", "namespace": "team\n"}.items():
        (account / name).write_text(text)
    monkeypatch.setattr("g2rpo_operator.plugin.client.ACCOUNT", account / "namespace")
    monkeypatch.setattr("kubernetes.config.incluster_config.SERVICE_TOKEN_FILENAME", str(account / "token"))
    monkeypatch.setattr("kubernetes.config.incluster_config.SERVICE_CERT_FILENAME", str(account / "ca.crt"))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    return tmp_path


def test_a_pod_without_a_kubeconfig_uses_its_own_account_and_namespace(pod: Path) -> None:
    client = connect(Where())
    assert client.api.configuration.host == "https://10.96.0.1:443"
    assert (client.namespace, client.namespace_asked) == ("team", False)
    assert connect(Where(namespace="other")).namespace == "other"


def test_a_kubeconfig_in_a_pod_comes_first(pod: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", plain_config(pod, "http://127.0.0.1:1"))
    assert connect(Where()).api.configuration.host == "http://127.0.0.1:1"


def test_a_context_that_was_asked_for_is_not_the_pods(pod: Path) -> None:
    with pytest.raises(PluginError, match="kubeconfig"):
        connect(Where(context="x"))


def test_nothing_to_connect_to_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("KUBECONFIG", "")
    with pytest.raises(PluginError, match=r"kubeconfig ~/.kube/config: "):
        connect(Where())


def test_lists_go_on_to_their_last_page(tmp_path: Path) -> None:
    pages = [{"metadata": {"continue": more}, "items": [{"n": number}]} for number, more in enumerate(("a", "b", ""))]
    with client_of(tmp_path, *(reply(page) for page in pages)) as (client, server):
        assert client.items("/x", labelSelector="a") == [{"n": 0}, {"n": 1}, {"n": 2}]
    assert [("continue=" in line) for line in server.asked] == [False, True, True]
    assert all("labelSelector=a" in line and "limit=500" in line for line in server.asked)


def test_an_object_that_is_not_there_is_none_and_other_refusals_are_errors(tmp_path: Path) -> None:
    missing = {"kind": "Status", "reason": "NotFound", "message": "no", "details": {"name": "x"}}
    with client_of(tmp_path, reply(missing, 404)) as (client, _):
        assert client.find("/apis/x") is None
    with (
        client_of(tmp_path, reply({"kind": "Status", "reason": "Forbidden"}, 403)) as (client, _),
        pytest.raises(ServerError),
    ):
        client.find("/apis/x")
