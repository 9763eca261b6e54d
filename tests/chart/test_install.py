"""The chart on a real API server: installed, tried, changed, taken back and removed, while jobs run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from testchart.helm import MONITORING, HelmError, kinds
from testchart.site import OPERATOR, Site, changed_chart, values
from testcluster.cluster import Cluster
from testcluster.locks import CHECKOUT
from testcluster.process import wait_until


def columns(site: Site) -> list[str]:
    """Of `kubectl get g2rpojobs`, as the API server says."""
    definition = site.definition()
    assert definition is not None
    return [column["name"] for column in definition["spec"]["versions"][0]["additionalPrinterColumns"]]


def test_what_is_installed_runs_a_job_and_passes_its_trial(site4: Site, team: str) -> None:
    site4.install(values())
    assert len(site4.operators()) == 2
    job = site4.create("first", team)
    job.wait("Running")
    assert len(job.pods()) == 2
    assert "Phase:          Succeeded" in site4.helm.release("test", "--timeout=180s")
    assert not site4.cluster.api.answers(site4.place("pods", f"{OPERATOR}-trial"))
    job.succeed()
    job.wait("Succeeded")


def test_the_api_server_takes_every_object_to_the_letter(site4: Site) -> None:
    """Unknown keys are refused here, which an installation would only warn of."""
    rendered = site4.helm.run(
        "template", "g2rpo", site4.helm.chart, f"--namespace={site4.home}", "--validate", "--no-hooks"
    )
    told = site4.cluster.kubectl(
        "apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-", input=rendered
    )
    assert f"podmonitor.monitoring.coreos.com/{OPERATOR}-trainers serverside-applied (server dry run)" in told
    whole = kinds(site4.helm.template(api_versions=[MONITORING]))
    assert len(told.splitlines()) == len([kind for kind, _ in whole if kind != "Pod"])


@pytest.mark.slow
def test_a_whole_life(site: Site, team: str, tmp_path: Path) -> None:
    """install → upgrade, of the definition, too → rollback → uninstall → install, all while a job runs."""
    site.install(values())
    job = site.create("lasting", team)
    job.wait("Running")
    pods = {pod["metadata"]["uid"] for pod in job.pods()}
    before = columns(site)
    later = site.helm.at(chart=changed_chart(tmp_path))
    chosen = values(replicas=1, podAnnotations={"changed": "yes"})
    later.upgrade(chosen)
    assert set(columns(site)) - set(before) == {"Seed"}
    wait_until(lambda: len(site.operators()) == 1, "there is one operator")
    assert site.operators()[0]["metadata"]["annotations"]["changed"] == "yes"
    site.helm.release("rollback", "1", "--wait", "--timeout=180s")
    assert columns(site) == before
    wait_until(lambda: len(site.operators()) == 2, "there are two operators again")
    assert "Succeeded" in site.helm.release("test", "--timeout=180s")
    told = site.helm.release("uninstall", "--wait", "--timeout=180s")
    assert "g2rpojobs.g2rpo.dev" in told
    wait_until(lambda: not site.operators(), "no operator is left")
    assert site.definition() is not None
    assert {pod["metadata"]["uid"] for pod in job.pods()} == pods
    site.install(values())
    job.succeed()
    job.wait("Succeeded")


@pytest.mark.slow
def test_a_definition_of_anothers_is_left_alone_unless_it_shall_be_taken_over(site: Site) -> None:
    site.cluster.kubectl("apply", "--server-side", "-f", str(CHECKOUT / "manifests/crd.yaml"))
    with pytest.raises(HelmError, match=r"g2rpojobs\.g2rpo\.dev.*(?s:.*)ownership metadata"):
        site.install(values())
    site.install(values(crds={"enabled": False}, replicas=1))
    site.helm.release("uninstall", "--wait")
    assert site.definition() is not None
    site.install(values(replicas=1), "--take-ownership", *(["--force-conflicts"] if site.helm.major == 4 else []))
    definition = site.definition()
    assert definition is not None
    assert definition["metadata"]["annotations"]["meta.helm.sh/release-name"] == "g2rpo"


@pytest.mark.slow
def test_a_team_has_an_operator_of_its_own(site4: Site, machine: Cluster, team: str) -> None:
    """It sees the jobs of its namespaces only, and may do nothing anywhere else."""
    machine.add_namespace("others")
    site4.install(values(watchNamespaces=[team], replicas=1))
    theirs, own = site4.create("job", "others"), site4.create("job", team)
    own.wait("Running")
    assert theirs.phase() == ""
    assert theirs.left() == []
    may = {namespace: can(site4, namespace) for namespace in (team, "others", site4.home)}
    assert may == {team: True, "others": False, site4.home: False}
    machine.remove_namespace("others")


def can(site: Site, namespace: str, verb: str = "delete", plural: str = "pods") -> bool:
    """Whether the operator's account may do something."""
    user = f"system:serviceaccount:{site.home}:{OPERATOR}"
    wish: dict[str, Any] = {"verb": verb, "resource": plural, "namespace": namespace}
    review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview"}
    body = {**review, "spec": {"user": user, "resourceAttributes": wish}}
    answer = site.cluster.api.create("/apis/authorization.k8s.io/v1/subjectaccessreviews", body)
    return bool(answer["status"]["allowed"])
