"""Whatever is chosen, the chart becomes what Kubernetes and the Prometheus operator publish as right."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from g2rpo_operator.render import child_job, config_map, service
from testchart.helm import CHART, MONITORING, Helm, Manifest, named
from testchart.schemas import VERSIONS, Judge
from testcluster.locks import CHECKOUT
from testoperator.records import view

OLDEST = yaml.safe_load((CHART / "Chart.yaml").read_text())["kubeVersion"].removeprefix(">=").removesuffix(".0-0")
SUPPORTED = VERSIONS[VERSIONS.index(OLDEST) :]
MANIFESTS = CHECKOUT / "manifests"
PEER = {"podSelector": {"matchLabels": {"app": "prometheus"}}}
RULE = {"ports": [{"port": 443, "protocol": "TCP"}], "to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}
CHOICES: dict[str, dict[str, Any]] = {
    "nothing": {},
    "everything": {
        "fullnameOverride": "aligner",
        "commonLabels": {"team": "a"},
        "image": {"repository": "here:5000/op", "digest": f"sha256:{'0' * 64}", "pullPolicy": "Always"},
        "trainerImage": {"repository": "here:5000/trainer", "tag": "1"},
        "imagePullSecrets": [{"name": "registry"}],
        "replicas": 3,
        "watchNamespaces": ["team-a", "team-b"],
        "settings": {"logLevel": "DEBUG", "progressVia": "APIServer", "progressTimeoutSeconds": 0.5, "workers": 1},
        "crds": {"annotations": {"note": "x"}},
        "serviceAccount": {"name": "other", "annotations": {"note": "x"}},
        "resources": {"requests": {"cpu": 1, "memory": "1Gi"}, "limits": {"memory": "1Gi"}},
        "podLabels": {"a": "b"},
        "podAnnotations": {"a": "b"},
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "tolerations": [{"key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 3}],
        "affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "zone"}]}},
        "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "z", "whenUnsatisfiable": "ScheduleAnyway"}],
        "priorityClassName": "system-cluster-critical",
        "extraEnv": [{"name": "A", "value": "b"}],
        "extraVolumes": [{"name": "ca", "secret": {"secretName": "ca"}}],
        "extraVolumeMounts": [{"name": "ca", "mountPath": "/ca", "readOnly": True}],
        "networkPolicy": {
            "enabled": True,
            "metricsFrom": [PEER],
            "egress": [RULE],
            "trainers": {"enabled": True, "ingress": [{"from": [PEER]}], "egress": [RULE]},
        },
        "monitoring": {
            "labels": {"release": "prometheus"},
            "trainers": {"interval": "1m"},
            "dashboards": {"annotations": {"grafana_folder": "G2RPO"}},
        },
    },
    "little": {
        "crds": {"enabled": False},
        "rbac": {"create": False, "userRoles": False},
        "serviceAccount": {"create": False},
        "runAsUser": None,
        "podDisruptionBudget": {"enabled": False},
        "monitoring": {kind: {"enabled": False} for kind in ("trainers", "operator", "alerts", "dashboards")},
        "trial": {"enabled": False},
    },
    "no keeping": {"crds": {"keep": False}, "networkPolicy": {"trainers": {"enabled": True, "namespaces": ["x"]}}},
}


@pytest.fixture(scope="module", params=SUPPORTED)
def judge(request: pytest.FixtureRequest, prometheus_definitions: list[Path]) -> Judge:
    return Judge(request.param, prometheus_definitions)


def assert_right(judge: Judge, helm: Helm, choice: str) -> None:
    rendered = helm.template(CHOICES[choice], kube_version=f"{judge.version}.0", api_versions=[MONITORING])
    assert len(rendered) >= 2
    assert judge.faults(rendered) == []


def test_all_that_can_be_chosen_is_right_for_every_version(judge: Judge, helm4: Helm) -> None:
    assert_right(judge, helm4, "everything")


@pytest.mark.parametrize("version", [OLDEST, VERSIONS[-1]])
@pytest.mark.parametrize("choice", sorted(set(CHOICES) - {"everything"}))
def test_every_choice_is_right(choice: str, version: str, helm4: Helm, prometheus_definitions: list[Path]) -> None:
    assert_right(Judge(version, prometheus_definitions), helm4, choice)


def test_so_is_what_is_installed_without_helm(judge: Judge) -> None:
    texts = [(MANIFESTS / name).read_text() for name in ("crd.yaml", "rbac.yaml", "operator.yaml")]
    manifests = [item for text in texts for item in yaml.safe_load_all(text)]
    assert len(manifests) == 11
    assert judge.faults(manifests) == []


def test_so_are_the_objects_of_a_job(judge: Judge) -> None:
    seen = view()
    assert judge.faults([config_map(seen), service(seen), child_job(seen, 15.0)]) == []


def spoilt(manifests: list[Manifest], kind: str, *path: Any, value: Any) -> list[Manifest]:
    changed = copy.deepcopy(manifests)
    node: Any = named(changed, kind)
    for part in path[:-1]:
        node = node[part]
    node[path[-1]] = value
    return changed


@pytest.mark.parametrize(
    ("kind", "path", "value"),
    [
        ("Deployment", ("spec", "replica"), 2),
        ("Deployment", ("spec", "replicas"), "2"),
        ("Deployment", ("spec", "template", "spec", "containers", 0, "env", 0, "valu"), "x"),
        ("CustomResourceDefinition", ("spec", "scop"), "x"),
        ("PodMonitor", ("spec", "podMetricsEndpoint"), []),
        ("PodMonitor", ("spec", "podMetricsEndpoints", 0, "interval"), "fifteen"),
        ("ServiceMonitor", ("spec", "endpoints"), {}),
        ("PodDisruptionBudget", ("apiVersion",), "policy/v1beta1"),
    ],
)
def test_a_mistake_would_be_noticed(
    kind: str, path: tuple[Any, ...], value: Any, helm4: Helm, prometheus_definitions: list[Path]
) -> None:
    judge = Judge(OLDEST, prometheus_definitions)
    rendered = helm4.template(api_versions=[MONITORING])
    (fault,) = judge.faults(spoilt(rendered, kind, *path, value=value))
    assert fault.startswith(kind)
