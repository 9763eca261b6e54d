"""The chart's values: what their file says is what their schema takes, and mistakes are told with their place."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator

from g2rpo_api.generate import outdated
from testchart.helm import CHART, Helm, HelmError, merged
from testcluster.locks import CHECKOUT
from values.generate import FILES

SCHEMA: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text())
VALUES: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
VALIDATOR = Draft7Validator(SCHEMA)
FROM_PARENTS = {("global",), ("enabled",)}
PASSED_ON = {
    "affinity", "egress", "extraEnv", "extraVolumeMounts", "extraVolumes", "global", "ingress", "metricsFrom",
    "topologySpreadConstraints",
}  # fmt: skip
"""What stands in manifests as it is: the API server judges it."""

Path = tuple[str, ...]


def nodes(schema: dict[str, Any], at: Path = ()) -> Iterator[tuple[Path, dict[str, Any]]]:
    """All nodes of a schema with their paths; items of lists and free keys count as `*`."""
    yield at, schema
    for name, child in schema.get("properties", {}).items():
        yield from nodes(child, (*at, name))
    for keyword in ("items", "additionalProperties"):
        if isinstance(schema.get(keyword), dict):
            yield from nodes(schema[keyword], (*at, "*"))


def paths_of_values(values: dict[str, Any], at: Path = ()) -> Iterator[Path]:
    for name, value in values.items():
        yield (*at, name)
        inside = SCHEMA
        for part in (*at, name):
            inside = inside["properties"][part]
        if isinstance(value, dict) and "properties" in inside and name not in ("settings", "resources"):
            yield from paths_of_values(value, (*at, name))


def test_file_schema_and_readme_are_what_the_model_says() -> None:
    assert outdated(CHECKOUT, FILES) == []


def test_the_schema_is_one() -> None:
    Draft7Validator.check_schema(SCHEMA)
    assert not list(VALIDATOR.iter_errors(VALUES))


def test_every_value_has_a_default_in_the_file_and_every_key_of_the_file_is_in_the_schema() -> None:
    within = {"settings", "resources"}
    known = {path for path, _ in nodes(SCHEMA) if path and "*" not in path and not within & set(path[:-1])}
    assert set(paths_of_values(VALUES)) == known - FROM_PARENTS


def test_no_object_takes_any_key() -> None:
    open_objects = [
        path
        for path, node in nodes(SCHEMA)
        if node.get("type") == "object" and node.get("additionalProperties", True) is True
    ]
    assert {next(part for part in reversed(path) if part != "*") for path in open_objects} == PASSED_ON


def test_every_value_is_described() -> None:
    assert [path for path, node in nodes(SCHEMA) if "*" not in path and not node.get("description")] == []


MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"replica": 1}, "replica"),
    ({"replicas": 0}, "replicas"),
    ({"replicas": "2"}, "replicas"),
    ({"replicas": 1.5}, "replicas"),
    ({"image": {"name": "x"}}, "image"),
    ({"image": {"repository": ""}}, "repository"),
    ({"image": {"repository": "g2rpo/operator:1.0"}}, "repository"),
    ({"image": {"repository": "g2rpo/operator@sha256:0"}}, "repository"),
    ({"image": {"tag": 1.0}}, "tag"),
    ({"image": {"tag": "a b"}}, "tag"),
    ({"image": {"digest": "0123"}}, "digest"),
    ({"image": {"pullPolicy": "Sometimes"}}, "pullPolicy"),
    ({"trainerImage": {"pullPolicy": "Always"}}, "trainerImage"),
    ({"imagePullSecrets": ["registry"]}, "imagePullSecrets"),
    ({"watchNamespaces": "team-a"}, "watchNamespaces"),
    ({"watchNamespaces": ["Team_A"]}, "watchNamespaces"),
    ({"watchNamespaces": ["a", "a"]}, "watchNamespaces"),
    ({"settings": {"logLevel": "TRACE"}}, "logLevel"),
    ({"settings": {"loglevel": "DEBUG"}}, "loglevel"),
    ({"settings": {"workers": 0}}, "workers"),
    ({"settings": {"workers": "16"}}, "workers"),
    ({"settings": {"resyncSeconds": 0}}, "resyncSeconds"),
    ({"settings": {"namespaces": "a"}}, "namespaces"),
    ({"settings": {"leaderElection": False}}, "leaderElection"),
    ({"settings": {"port": 1}}, "port"),
    ({"crds": {"enabled": "yes"}}, "enabled"),
    ({"rbac": {"clusterWide": True}}, "clusterWide"),
    ({"serviceAccount": {"name": "A"}}, "name"),
    ({"resources": {"limits": {"memory": "much"}}}, "memory"),
    ({"resources": {"claims": []}}, "claims"),
    ({"runAsUser": 0}, "runAsUser"),
    ({"podLabels": {"a": "b c"}}, "podLabels"),
    ({"nodeSelector": {"gpu": True}}, "gpu"),
    ({"tolerations": [{"effects": "NoSchedule"}]}, "effects"),
    ({"podDisruptionBudget": {"maxUnavailable": 0}}, "maxUnavailable"),
    ({"networkPolicy": {"apiServerPorts": []}}, "apiServerPorts"),
    ({"networkPolicy": {"apiServerPorts": [0]}}, "apiServerPorts"),
    ({"networkPolicy": {"metricsFrom": ["10.0.0.0/8"]}}, "metricsFrom"),
    ({"monitoring": {"trainers": {"interval": "15"}}}, "interval"),
    ({"monitoring": {"podMonitor": {"enabled": False}}}, "podMonitor"),
    ({"extraEnv": {"HTTPS_PROXY": "x"}}, "extraEnv"),
    ({"fullnameOverride": "x" * 49}, "fullnameOverride"),
]


@pytest.mark.parametrize(("values", "named"), MISTAKES, ids=lambda value: json.dumps(value)[:60])
def test_a_mistake_is_one_error_that_names_its_key(values: dict[str, Any], named: str) -> None:
    errors = list(VALIDATOR.iter_errors(merged(VALUES, values)))
    assert len(errors) == 1
    assert named in f"{list(errors[0].absolute_path)} {errors[0].message}"


@pytest.mark.parametrize(
    ("values", "named"), [MISTAKES[index] for index in (0, 1, 8, 16, 18, 29, 35)], ids=lambda value: json.dumps(value)
)
def test_helm_tells_the_same(values: dict[str, Any], named: str, helm: Helm) -> None:
    with pytest.raises(HelmError, match=named):
        helm.template(values)


GOOD: list[dict[str, Any]] = [
    {"image": {"repository": "registry.example:5000/team/operator", "digest": f"sha256:{'0' * 64}"}},
    {"image": {"repository": "localhost/operator", "tag": "v1.0_rc.1-x"}},
    {"runAsUser": None},
    {"resources": {"requests": {"cpu": 1, "memory": "1Gi", "example.com/thing": "2"}, "limits": {"cpu": 0.5}}},
    {"settings": {"statusIntervalSeconds": 0, "workers": 256, "progressTimeoutSeconds": 0.5}},
    {"global": {"anything": {"goes": 1}}, "enabled": True},
    {
        "tolerations": [
            {"operator": "Exists"},
            {"key": "a/b", "value": "c", "effect": "NoExecute", "tolerationSeconds": 1},
        ]
    },
    {"monitoring": {"operator": {"interval": "1m30s"}}},
]


@pytest.mark.parametrize("values", GOOD, ids=lambda value: json.dumps(value)[:60])
def test_what_people_need_is_taken(values: dict[str, Any], helm: Helm) -> None:
    assert not list(VALIDATOR.iter_errors(merged(VALUES, values)))
    assert helm.template(values)
