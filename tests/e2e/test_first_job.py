"""A job from `kubectl apply` to its report: scheduling, names, training by two pods, and what is left of it."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
from scenes import Job, Object, Team

from testcluster.api import ApiError

ITERATIONS = 6
FIRST_ITERATION_SECONDS = 60.0


@pytest.fixture(scope="session")
def slowness() -> float:
    """By what other programs slow this machine down: how many want a processor, for each that there is."""
    return max(1.0, os.getloadavg()[0] / len(os.sched_getaffinity(0)))


@pytest.fixture(scope="module")
def training(slowness: float, team: Team) -> Iterator[tuple[Job, list[Object]]]:
    """A job on two pods that trains, and the pods; how busy the machine is was asked before the node started."""
    with team.job("first", training={"iterations": ITERATIONS}) as job:
        job.wait_iteration(1)
        yield job, job.pods(1)


@pytest.fixture(scope="module")
def pods(training: tuple[Job, list[Object]]) -> list[Object]:
    """Its pods while it trained."""
    return training[1]


@pytest.fixture(scope="module")
def finished(training: tuple[Job, list[Object]]) -> Job:
    """The job once it has succeeded."""
    training[0].wait_phase("Succeeded")
    return training[0]


def test_two_pods_met_by_name_and_got_a_gpu_each(finished: Job, pods: list[Object]) -> None:
    assert [pod["spec"]["nodeName"] for pod in pods] == ["node-0", "node-0"]
    for pod in pods:
        (container,) = pod["spec"]["containers"]
        assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
    log = (finished.runs / "first" / "log.jsonl").read_text()
    assert "attempt 1 on 2 ranks" in log


def test_kubectl_get_shows_how_it_went(finished: Job, team: Team) -> None:
    header, row = team.node.kubectl("get", "g2rpojobs", "-n", team.namespace, finished.name).splitlines()
    shown = dict(zip(header.split(), row.split(), strict=True))
    assert (shown["NAME"], shown["PHASE"], shown["ITER"]) == ("first", "Succeeded", f"{ITERATIONS}/{ITERATIONS}")
    told = finished.status["progress"]["rewards"][0]
    assert float(shown["REWARD"]) == pytest.approx(told["mean"], abs=1e-3)


def test_the_curve_outlives_the_pods(finished: Job) -> None:
    data = finished.curve()["data"]
    rows = list(csv.DictReader(io.StringIO(data["curve.csv"])))
    assert [int(row["iteration"]) for row in rows] == list(range(ITERATIONS + 1))
    assert data["curve.svg"].startswith("<?xml") or data["curve.svg"].lstrip().startswith("<svg")


def test_every_iteration_is_in_the_run_folder_once(finished: Job) -> None:
    assert finished.iterations() == list(range(ITERATIONS + 1))
    folder = finished.runs / "first"
    assert (folder / "export" / "model_index.json").exists() or list((folder / "export").rglob("*.safetensors"))


def test_the_plugin_fetches_the_report(finished: Job, team: Team, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    team.plugin("report", "first", "--output-file", str(page))
    assert page.read_text() == (finished.runs / "first" / "report.html").read_text()


def test_pods_have_no_token_of_the_api(pods: list[Object]) -> None:
    for pod in pods:
        assert pod["spec"]["automountServiceAccountToken"] is False
        mounted = [mount["mountPath"] for container in pod["spec"]["containers"] for mount in container["volumeMounts"]]
        assert not [path for path in mounted if "serviceaccount" in path]


def test_both_namespaces_refuse_what_is_not_restricted(team: Team) -> None:
    for namespace in (team.namespace, "g2rpo"):
        container = {"name": "main", "image": "docker.io/g2rpo/pause:0", "securityContext": {"privileged": True}}
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "privileged", "namespace": namespace},
            "spec": {"containers": [container]},
        }
        with pytest.raises(ApiError, match='violates PodSecurity "restricted') as refused:
            team.node.api.create(f"/api/v1/namespaces/{namespace}/pods", pod)
        assert refused.value.reason == "Forbidden"


def test_the_first_iteration_comes_soon(
    finished: Job, pods: list[Object], slowness: float, capsys: pytest.CaptureFixture[str]
) -> None:
    """Prints where the time goes; a machine that has other things to do is given longer."""
    first, _ = pods
    begun = moment(finished.get()["metadata"]["creationTimestamp"])
    conditions = {entry["type"]: entry["lastTransitionTime"] for entry in first["status"]["conditions"]}
    (container,) = first["status"]["containerStatuses"]
    entries = [json.loads(line) for line in (finished.runs / "first" / "log.jsonl").read_text().splitlines()]
    records = [json.loads(line) for line in (finished.runs / "first" / "metrics.jsonl").read_text().splitlines()]
    points = {
        "pods created": moment(first["metadata"]["creationTimestamp"]),
        "scheduled": moment(conditions["PodScheduled"]),
        "container runs": moment(container["state"]["running"]["startedAt"]),
        "libraries imported, run folder open": moment(entries[0]["time"]),
        "ranks met, model loaded": next(
            moment(entry["time"]) for entry in entries if "goes on after" in entry["message"]
        ),
        "evaluated before training": records[0]["time"],
        "first iteration": records[1]["time"],
    }
    last = begun
    with capsys.disabled():
        print(f"\nsince kubectl apply, on a machine with {slowness:.1f} programs for each processor:")
        for what, when in points.items():
            print(f"{when - begun:7.1f} s  (+{max(0.0, when - last):5.1f})  {what}")
            last = when
    assert records[1]["time"] - begun < FIRST_ITERATION_SECONDS * slowness


def moment(text: str | float) -> float:
    """Unix time of a timestamp."""
    return text if isinstance(text, float) else datetime.fromisoformat(str(text)).timestamp()
