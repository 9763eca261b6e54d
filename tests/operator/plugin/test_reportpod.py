"""The pod that prints a report: its script is run for real, and what it printed is read back whole or not at all."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from g2rpo_operator.plugin.failures import PluginError
from g2rpo_operator.plugin.reportpod import LONGEST_SECONDS, NO_FILE, SCRIPT, pod, printed
from testoperator.records import UID, job

CLAIM = {"persistentVolumeClaim": {"claimName": "runs"}, "subPath": "team/a"}
OWNER = {"name": "portrait", "uid": UID}


def manifest(node: str = "", **spec: Any) -> dict[str, Any]:
    return pod(job(**{"storage": {"runs": CLAIM}, **spec}), OWNER, "registry.example/trainer:1", node)


def run(path: Path) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([sys.executable, "-c", SCRIPT, path], capture_output=True, check=False)


def test_a_report_comes_through_byte_by_byte(tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    report.write_bytes("<p>≥ 0.6</p>\r\n\x00\xff".encode("latin-1", "replace") + bytes(range(256)) * 999)
    done = run(report)
    assert done.returncode == 0
    assert printed(done.stdout) == report.read_bytes()


def test_a_missing_report_has_an_exit_code_of_its_own(tmp_path: Path) -> None:
    done = run(tmp_path / "report.html")
    assert done.returncode == NO_FILE
    assert b"there is no" in done.stdout


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("run") / "report.html"
    path.write_bytes(b"".join(b"<p>%d</p>\n" % (number**3) for number in range(2000)))
    return run(path).stdout


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=st.floats(0, 1), length=st.integers(1, 400))
def test_a_log_that_lost_a_part_is_refused(whole: bytes, share: float, length: int) -> None:
    start = int(share * (len(whole) - length))
    with pytest.raises(PluginError, match="whole"):
        printed(whole[:start] + whole[start + length :])


def test_other_lines_around_it_do_no_harm(whole: bytes) -> None:
    assert printed(b"warning: x\n" + whole + b"bye\n") == printed(whole)


def test_the_volume_is_the_jobs_and_is_mounted_read_only() -> None:
    spec = manifest()["spec"]
    (volume,), (container,) = spec["volumes"], spec["containers"]
    (mount,) = container["volumeMounts"]
    assert volume == {"name": mount["name"], "persistentVolumeClaim": {"claimName": "runs", "readOnly": False}}
    assert (mount["mountPath"], mount["subPath"], mount["readOnly"]) == ("/runs", "team/a", True)
    assert container["command"][-1] == "/runs/portrait/report.html"


def test_it_is_no_rank_and_takes_no_gpu() -> None:
    made = manifest(workers={"resourceName": "nvidia.com/gpu", "labels": {"g2rpo.dev/x": "y"}})
    assert not [key for key in made["metadata"]["labels"] if key.startswith("g2rpo.dev/")]
    assert "nvidia.com/gpu" not in str(made)


def test_it_goes_with_the_job_and_ends_by_itself() -> None:
    made = manifest()
    (owner,) = made["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["uid"]) == ("G2RPOJob", "portrait", UID)
    assert "blockOwnerDeletion" not in owner, "setting it needs rights that a person may not have"
    assert made["spec"]["activeDeadlineSeconds"] == LONGEST_SECONDS
    assert made["spec"]["restartPolicy"] == "Never"


def test_it_runs_where_the_trainers_image_is_and_as_the_same_user() -> None:
    toleration = {"key": "nvidia.com/gpu", "operator": "Exists"}
    workers = {
        "nodeSelector": {"pool": "gpu"},
        "tolerations": [toleration],
        "imagePullSecrets": [{"name": "pull"}],
        "security": {"runAsUser": 1000},
    }
    spec = manifest(workers=workers)["spec"]
    assert spec["nodeSelector"] == {"pool": "gpu"}
    assert spec["tolerations"][0]["key"] == "nvidia.com/gpu"
    assert spec["imagePullSecrets"] == [{"name": "pull"}]
    assert spec["securityContext"]["runAsUser"] == 1000
    assert spec["containers"][0]["image"] == "registry.example/trainer:1"


def test_a_node_is_wished_for_and_needed_where_the_folder_is_on_it() -> None:
    wished = manifest("node-3")["spec"]["affinity"]["nodeAffinity"]
    needed = manifest("node-3", storage={"runs": {"hostPath": {"path": "/data"}}})["spec"]["affinity"]["nodeAffinity"]
    assert list(wished) == ["preferredDuringSchedulingIgnoredDuringExecution"]
    assert list(needed) == ["requiredDuringSchedulingIgnoredDuringExecution"]
    assert "node-3" in str(wished)
    assert "node-3" in str(needed)
    assert "affinity" not in manifest()["spec"]
