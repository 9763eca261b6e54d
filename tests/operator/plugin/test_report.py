"""`report` from a running trainer through the API server, and from a volume by a pod that really mounts it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from plugin.people import Object, Person, over, running

PAGE = b"""<!DOCTYPE html>
<title>portrait</title><p>0.6<svg viewBox="0 0 9 9"/><a href='/x'>
"""
CLAIM = {"storage": {"runs": {"persistentVolumeClaim": {"claimName": "runs"}, "subPath": "team"}}}


def own_address() -> str:
    """An address of this machine other than loopback, where the API server does not proxy to; empty without one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return ""
        found: str = probe.getsockname()[0]
        return "" if found.startswith("127.") else found


@pytest.fixture
def trainer(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[int, bytes]]]:
    """A trainer's endpoint: what it answers at /report.html can be changed.

    It calls the page HTML to browsers only: the API server would rewrite links and SVG's attributes in it.
    """
    address, answers = own_address(), [(200, PAGE)]
    if not address:
        pytest.skip("this machine has no address but loopback")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            code, body = answers[0] if self.path == "/report.html" else (404, b"there is /report.html\n")
            self.send_response(code)
            plain = "text/html" not in self.headers.get("Accept", "")
            self.send_header("Content-Type", "application/octet-stream" if plain else "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer((address, 0), Handler)
    monkeypatch.setattr("g2rpo_api.contract.DEFAULT_PORT", server.server_port)  # the usual one may be taken here
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield answers
    server.shutdown()
    server.server_close()


def first_rank(person: Person, made: Object) -> Object:
    """The running first pod of a job, at this machine's address."""
    pod = person.pod(made, 1)
    person.cluster.pods.wait_running(person.namespace, "g2rpo.dev/job=portrait", 1)
    address = own_address()
    status = {"podIP": address, "podIPs": [{"ip": address}]}
    person.cluster.api.merge(f"/api/v1/namespaces/{person.namespace}/pods/portrait-a1-0/status", {"status": status})
    return pod


@pytest.fixture
def volume(person: Person, process_node: str) -> Path:
    """The folder of the claim `runs` on the process node, at the job's run folder."""
    claim = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}}
    claims = f"/api/v1/namespaces/{person.namespace}/persistentvolumeclaims"
    person.cluster.api.create(claims, {"metadata": {"name": "runs"}, "spec": claim})
    node = person.cluster.process_node
    assert node
    folder = node.shared / "claims" / person.namespace / "runs" / "team" / "portrait"
    folder.mkdir(parents=True)
    return folder


def on_process_node(person: Person, status: Object, **spec: object) -> Object:
    selector = {"nodeSelector": {"testcluster.dev/kind": "process"}}
    return person.make(status={**status, "image": "registry.example/trainer:1"}, workers=selector, **{**CLAIM, **spec})


def pods_left(person: Person) -> list[str]:
    return [pod["metadata"]["name"] for pod in person.cluster.pods.matching(person.namespace) if "report" in str(pod)]


def test_a_running_trainer_is_asked_through_the_api_server(person: Person, trainer: list[tuple[int, bytes]]) -> None:
    first_rank(person, person.make(status=running()))
    said = person("report", "portrait")
    page = (person.folder / "portrait-report.html").read_bytes()
    assert page == PAGE
    assert said.out == f"portrait-report.html written, {len(page)} bytes\n"
    assert person("report", "portrait", "-O", "-").out == PAGE.decode()
    assert pods_left(person) == []


def test_a_trainer_without_a_report_and_without_a_volume_is_the_end(
    person: Person, trainer: list[tuple[int, bytes]]
) -> None:
    trainer[0] = (404, b"no report.html yet\n")
    first_rank(person, person.make(status=running()))
    said = person("report", "portrait", code=1)
    assert "its trainer did not give it" in said.err
    assert "storage.runs is an emptyDir, which goes with its pod" in said.err


def test_the_report_of_a_job_that_is_over_is_read_from_its_volume(person: Person, volume: Path) -> None:
    content = PAGE + bytes(range(256)) * 1000
    (volume / "report.html").write_bytes(content)
    on_process_node(person, over())
    said = person("report", "portrait", "-O", "here.html")
    assert (person.folder / "here.html").read_bytes() == content
    assert said.out == f"here.html written, {len(content)} bytes\n"
    assert said.err.startswith("reading the volume of portrait with pod/portrait-report-")
    assert pods_left(person) == []


def test_a_volume_without_a_report_says_so_and_leaves_nothing(person: Person, volume: Path) -> None:
    on_process_node(person, over())
    said = person("report", "portrait", code=1)
    assert "error: portrait has no report yet: there is no " in said.err
    assert not (person.folder / "portrait-report.html").exists()
    assert pods_left(person) == []


def test_a_pod_that_does_not_come_up_is_told_and_gone(person: Person, volume: Path) -> None:
    status = {**over(), "image": "registry.example/trainer:1"}
    person.make(status=status, workers={"nodeSelector": {"no": "such"}}, **CLAIM)
    said = person("report", "portrait", "--timeout", "1s", code=1)
    assert "has not printed the report in 1 s; " in said.err
    assert "Unschedulable" in said.err or "Pending" in said.err
    assert pods_left(person) == []


def test_a_store_that_went_with_the_pods_is_told(person: Person) -> None:
    person.make(status=over())
    said = person("report", "portrait", code=1)
    assert said.err == (
        "error: portrait has no report any more: it does not run, and storage.runs is an emptyDir, which goes with "
        "its pod\n"
    )


def test_a_job_that_never_began_has_none(person: Person) -> None:
    person.make(**CLAIM)
    assert person("report", "portrait", code=1).err == "error: portrait has no report yet: no attempt has begun\n"


def test_a_file_that_cannot_be_written_is_named(person: Person, trainer: list[tuple[int, bytes]]) -> None:
    first_rank(person, person.make(status=running()))
    said = person("report", "portrait", "-O", "no/such/folder.html", code=1)
    assert said.err == "error: no/such/folder.html: No such file or directory\n"


def test_the_pod_meets_the_restricted_pod_security_standard(person: Person, volume: Path) -> None:
    (volume / "report.html").write_bytes(PAGE)
    label = {"pod-security.kubernetes.io/enforce": "restricted"}
    person.cluster.api.merge(f"/api/v1/namespaces/{person.namespace}", {"metadata": {"labels": label}})
    on_process_node(person, over())
    person("report", "portrait", "-O", "-")
