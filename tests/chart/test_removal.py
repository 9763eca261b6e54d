"""Removed in the wrong order: whatever goes first, nothing is stuck and nothing is left."""

from __future__ import annotations

import pytest

from g2rpo_api.contract import PLURAL
from testchart.helm import HelmError
from testchart.site import DEFINITION, OPERATOR, SERVED, Site, values
from testcluster.process import wait_until

pytestmark = pytest.mark.slow


def test_the_operator_goes_first(site: Site, team: str) -> None:
    """Pods train on, and a job can be deleted without anyone who looks after it."""
    site.install(values())
    job = site.create("orphan", team)
    job.wait("Running")
    site.let_collector_learn(team)
    site.helm.release("uninstall", "--wait", "--timeout=180s")
    wait_until(lambda: not site.operators(), "no operator is left")
    assert [pod["status"]["phase"] for pod in job.pods()] == ["Running"] * 2
    site.cluster.kubectl("delete", PLURAL, job.name, "-n", team, "--timeout=180s")
    job.vanish()


def test_the_definition_goes_first(site4: Site, team: str) -> None:
    """Jobs and all that belongs to them go with it; operators say what is missing, and work when it is back."""
    site4.install(values())
    job = site4.create("lost", team)
    job.wait("Running")
    site4.let_collector_learn(team)
    before = site4.operators()
    site4.cluster.kubectl("delete", "customresourcedefinition", f"{PLURAL}.g2rpo.dev", "--timeout=180s")
    job.vanish()
    for pod in before:  # which Kubernetes starts again, in place or elsewhere
        wait_until(lambda pod=pod: "its definition was deleted; starting again" in site4.log(pod), "it ends", 120)
        assert "starting again" in site4.log(pod).splitlines()[-1]
    after = [
        pod for pod in site4.operators() if pod["metadata"]["uid"] not in {old["metadata"]["uid"] for old in before}
    ]
    assert len(after) == 2
    for pod in after:
        wait_until(lambda pod=pod: "waiting for its definition" in site4.log(pod), "it says what is missing", 120)
    site4.helm.upgrade(values())
    site4.create("found", team).wait("Running")
    assert {
        site4.cluster.api.get(site4.place("pods", pod["metadata"]["name"]))["status"]["phase"] for pod in after
    } == {"Running"}


def test_the_namespace_of_the_release_goes_first(site4: Site, team: str) -> None:
    """The release is gone with it; the jobs are not, and the same release can be installed again."""
    site4.install(values())
    job = site4.create("stays", team)
    job.wait("Running")
    site4.cluster.kubectl("delete", "namespace", site4.home, "--timeout=180s")
    assert [pod["status"]["phase"] for pod in job.pods()] == ["Running"] * 2
    with pytest.raises(HelmError, match="not found"):
        site4.helm.release("status")
    site4.cluster.add_namespace(site4.home)
    site4.install(values())
    job.succeed()
    job.wait("Succeeded")


def test_the_namespace_of_the_jobs_goes_first(site4: Site, team: str) -> None:
    """Before the operator, while it runs, and it goes on for the others."""
    site4.install(values())
    job = site4.create("buried", team)
    job.wait("Running")
    site4.cluster.kubectl("delete", "namespace", team, "--timeout=180s")
    assert not site4.cluster.api.answers(job.path)
    other = site4.create("next", "default")
    other.wait("Running")
    site4.cluster.kubectl("delete", PLURAL, other.name, "-n", "default", "--timeout=180s")
    other.vanish()


def test_a_definition_that_is_not_kept_takes_its_jobs_along(site: Site, team: str) -> None:
    site.install(values(crds={"keep": False}))
    job = site.create("short", team)
    job.wait("Running")
    site.let_collector_learn(team)
    site.helm.release("uninstall", "--wait", "--timeout=180s")
    site.gone(DEFINITION)
    assert not site.cluster.api.answers(SERVED)
    job.vanish()


def test_nothing_of_the_release_is_left(site: Site) -> None:
    """But the definition, and the lease that the leader held."""
    site.install(values(networkPolicy={"enabled": True}))
    site.helm.release("uninstall", "--wait", "--timeout=180s")
    wait_until(lambda: not site.operators(), "no operator is left")
    everything = site.cluster.kubectl("api-resources", "--verbs=list", "-o", "name").split()
    listed = ",".join(name for name in everything if not name.startswith(("events", "replicasets", "pods.")))
    selector = f"app.kubernetes.io/name={OPERATOR}"
    left = site.cluster.kubectl("get", listed, "-A", f"--selector={selector}", "-o", "name").split()
    assert left == [f"customresourcedefinition.apiextensions.k8s.io/{PLURAL}.g2rpo.dev"]
