"""A Prometheus finds the pods by what the chart's monitors say, and the alerts' expressions can be evaluated there."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from pydantic.alias_generators import to_snake
from scenes import OPERATOR_NAMESPACE, Job, Object, Team

from monitoring.ask import Prometheus
from testchart.helm import CHART, named
from testcluster.process import Component, wait_until
from testmonitoring.scraping import POD_LABEL, answers

ADDRESS = "127.0.0.1:9090"
SCRAPE = "2s"
MONITORING = "monitoring.coreos.com/v1"


def discovered(team: Team, monitor: dict[str, Any]) -> dict[str, Any]:
    """What a monitor comes to: pods by its selector and port, with their labels, then its relabelings.

    Debian's Prometheus is built without Kubernetes' discovery, so the pods are asked for here, once.
    """
    pods = monitor["kind"] == "PodMonitor"
    (endpoint,) = monitor["spec"]["podMetricsEndpoints" if pods else "endpoints"]
    labels = monitor["spec"]["selector"]["matchLabels"]
    selector = ",".join(f"{name}={value}" for name, value in labels.items())
    found = team.node.api.items("/api/v1/pods", labelSelector=selector)
    relabelings = [{to_snake(key): value for key, value in each.items()} for each in endpoint.get("relabelings", [])]
    return {
        "job_name": monitor["metadata"]["name"],
        "honor_labels": bool(endpoint.get("honorLabels")),
        "static_configs": [target(pod, endpoint["port"]) for pod in found if pod["status"]["phase"] == "Running"],
        "relabel_configs": relabelings,
    }


def target(pod: Object, port: str) -> dict[str, Any]:
    """A pod's named port, with what discovery tells of the pod and the Prometheus operator keeps."""
    metadata = pod["metadata"]
    ports = {each["name"]: each["containerPort"] for each in pod["spec"]["containers"][0]["ports"]}
    meta = {f"{POD_LABEL}{re.sub('[^a-zA-Z0-9_]', '_', name)}": value for name, value in metadata["labels"].items()}
    own = {"namespace": metadata["namespace"], "pod": metadata["name"]}
    return {"targets": [f"{pod['status']['podIP']}:{ports[port]}"], "labels": {**own, **meta}}


@pytest.fixture(scope="module")
def job(team: Team) -> Iterator[Job]:
    """One that trains."""
    with team.job("watched", training={"iterations": 100_000}) as running:
        running.wait_iteration(1)
        yield running


@pytest.fixture(scope="module")
def prometheus(team: Team, job: Job, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """One that scrapes what the chart's monitors describe while the job trains, and evaluates the chart's alerts."""
    folder = tmp_path_factory.mktemp("prometheus")
    manifests = team.helm.template(api_versions=[MONITORING])
    monitors = [named(manifests, kind) for kind in ("PodMonitor", "ServiceMonitor")]
    every = {"scrape_interval": SCRAPE, "scrape_timeout": SCRAPE, "evaluation_interval": SCRAPE}
    config = {
        "global": every,
        "rule_files": [str(path) for path in sorted((CHART / "rules").glob("*.yaml"))],
        "scrape_configs": [discovered(team, monitor) for monitor in monitors],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config), "utf-8")
    asked = Prometheus(f"http://{ADDRESS}")
    flags = [f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'tsdb'}"]
    program = str(shutil.which("prometheus"))
    command = [program, *flags, f"--web.listen-address={ADDRESS}"]
    running = Component("prometheus", command, folder / "prometheus.log", lambda: answers(asked))
    try:
        running.start()
        yield asked
    finally:
        running.kill()


def up(prometheus: Prometheus) -> dict[str, str]:
    """By pod, whether its last scrape went well."""
    found = prometheus.get("query", query="up")["result"]
    return {series["metric"].get("pod", ""): series["value"][1] for series in found}


def test_every_pod_is_found_and_scraped(prometheus: Prometheus, job: Job) -> None:
    operators = job.node.api.items(f"/api/v1/namespaces/{OPERATOR_NAMESPACE}/pods")
    running = [pod["metadata"]["name"] for pod in operators if pod["status"]["phase"] == "Running"]
    names = {*running, *(pod["metadata"]["name"] for pod in job.pods(1))}
    assert len(names) == 3
    wait_until(lambda: up(prometheus) == dict.fromkeys(names, "1"), f"{names} are up, and nothing else", 60)


def test_series_have_the_labels_of_their_job(prometheus: Prometheus, job: Job) -> None:
    query = f'g2rpo_trainer_iteration{{namespace="{job.namespace}"}}'
    wait_until(lambda: prometheus.get("query", query=query)["result"], "the trainer's iteration is known", 60)
    (series,) = prometheus.get("query", query=query)["result"]
    labels = {name: series["metric"][name] for name in ("job_name", "attempt", "pod")}
    assert labels == {"job_name": "watched", "attempt": "1", "pod": job.pod(1, 0)["metadata"]["name"]}


def test_the_operator_tells_of_the_job(prometheus: Prometheus, job: Job) -> None:
    query = f'g2rpo_job_phase{{namespace="{job.namespace}",name="watched",phase="Running"}}'
    wait_until(lambda: prometheus.get("query", query=query)["result"], "the operator knows the job", 60)


def test_alerts_can_be_evaluated_and_are_silent(prometheus: Prometheus, job: Job) -> None:
    def evaluated() -> list[Any]:
        rules = [rule for group in prometheus.get("rules")["groups"] for rule in group["rules"]]
        return rules if rules and all(rule["health"] != "unknown" for rule in rules) else []

    wait_until(evaluated, "all rules were evaluated", 90)
    assert {rule["name"]: rule.get("lastError", "") for rule in evaluated() if rule["health"] != "ok"} == {}
    assert [rule["name"] for rule in evaluated() if rule.get("state") == "firing"] == []


def test_a_scrape_of_a_trainer_is_small_and_quick(prometheus: Prometheus, job: Job) -> None:
    """Bytes are bounded; seconds are printed, since the machine does other things."""
    series = prometheus.get("query", query='scrape_duration_seconds{job_name="watched"}')["result"]
    print({each["metric"]["pod"]: f"{float(each['value'][1]) * 1000:.1f} ms" for each in series})
    samples = prometheus.get("query", query='scrape_samples_scraped{job_name="watched"}')["result"]
    assert samples
    assert all(float(each["value"][1]) < 1000 for each in samples)
