"""What a pod's specification becomes on a machine without mount namespaces and DNS."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from testcluster import podspec
from testcluster.podspec import Place, UnsupportedError
from testcluster.podvolumes import written

FOLDERS = {
    "/runs": Path("/real/1"),
    "/runs/old": Path("/real/2"),
    "/tmp": Path("/real/tmp"),
    "/dev/shm": Path("/tmp/3"),
}
PLACE = Place("127.9.0.1", "127.9.255.1", FOLDERS, lambda name: f"address of {name}")
POD: dict[str, Any] = {
    "metadata": {"name": "p", "namespace": "n", "uid": "u", "annotations": {"a.dev/b": "c"}, "labels": {}},
    "spec": {"nodeName": "process-0", "subdomain": "peers"},
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$(A)-$(B)", "1-$(B)"),
        ("$$(A)", "$(A)"),
        ("$A ${A} 5$", "$A ${A} 5$"),
        ("$(A)$(A)", "11"),
    ],
)
def test_references_are_expanded_as_by_a_kubelet(text: str, expected: str) -> None:
    assert podspec.expand(text, {"A": "1"}) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/runs", "/real/1"),
        ("/runs/x.json", "/real/1/x.json"),
        ("/runs/old/x", "/real/2/x"),
        ("/runs2", "/runs2"),
        ("/data/runs", "/data/runs"),
        ("s3://bucket/runs", "s3://bucket/runs"),
        ("--out=/runs,/dev/shm:/tmp", "--out=/real/1,/tmp/3:/real/tmp"),
        ("/tmp/a", "/real/tmp/a"),
    ],
)
def test_mounted_paths_become_real_ones_once(text: str, expected: str) -> None:
    assert podspec.real_paths(text, FOLDERS) == expected


def test_without_mounts_no_path_changes() -> None:
    assert podspec.real_paths("/runs", {}) == "/runs"


@pytest.mark.parametrize("name", ["w-0.peers", "w-0.peers.n", "w-0.peers.n.svc", "w-0.peers.n.svc.cluster.local"])
def test_every_form_of_a_pods_name_becomes_its_address(name: str) -> None:
    assert podspec.real_addresses(f"tcp:{name}:29500", POD, lambda host: f"<{host}>") == "tcp:<w-0>:29500"


@pytest.mark.parametrize("text", ["w-0.others", "w-0.peers.other", "w-0.peers-2", "peers", "/x/w-0.peers"])
def test_other_names_stay(text: str) -> None:
    assert podspec.real_addresses(text, POD, lambda host: f"<{host}>") == text


def test_variables_come_from_the_pod_and_from_keys() -> None:
    def from_field(name: str, path: str) -> dict[str, Any]:
        return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}

    key = {"configMapKeyRef": {"name": "m", "key": "k"}}
    env = [
        from_field("NAME", "metadata.name"),
        from_field("NOTE", "metadata.annotations['a.dev/b']"),
        from_field("NONE", "metadata.labels['missing']"),
        {"name": "KEY", "valueFrom": key},
        {"name": "ABSENT", "valueFrom": {"secretKeyRef": {}}},
        {"name": "ALL", "value": "$(NAME) $(KEY) $(LATER) /runs w.peers"},
        {"name": "LATER", "value": "x"},
    ]

    def value_of(source: Any) -> str | None:
        return "v" if source == key else None

    assert podspec.environment({"env": env}, POD, PLACE, {"PATH": "/bin", "LATER": "base"}, value_of) == {
        "PATH": "/bin",
        "NAME": "p",
        "NOTE": "c",
        "NONE": "",
        "KEY": "v",
        "ALL": "p v $(LATER) /real/1 address of w",
        "LATER": "x",
    }


def test_what_a_node_cannot_know_is_refused() -> None:
    with pytest.raises(UnsupportedError, match=r"limits\.cpu"):
        podspec.field(POD, "limits.cpu", PLACE)
    with pytest.raises(UnsupportedError, match="without a command"):
        podspec.command({"image": "trainer:1", "args": ["x"]}, {}, PLACE)


def test_a_command_is_expanded_and_finds_its_files() -> None:
    container = {"image": "i", "command": ["train"], "args": ["/runs/$(JOB)/job.json"]}
    assert podspec.command(container, {"JOB": "j"}, PLACE) == ["train", "/real/1/j/job.json"]


def test_files_of_a_volume_follow_their_content(tmp_path: Path) -> None:
    written(tmp_path, {"a": b"1", "b": b"2"})
    kept = (tmp_path / "b").stat().st_ino
    written(tmp_path, {"b": b"2", "c": b"3"})
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"b": b"2", "c": b"3"}
    assert (tmp_path / "b").stat().st_ino == kept, "what did not change is not written"
