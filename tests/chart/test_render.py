"""What the chart becomes: the same as manifests/, named as expected, with every setting in its place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic.alias_generators import to_snake

from g2rpo_api.install import IMAGE, NAMESPACE, operator_manifests
from g2rpo_api.rbac import OPERATOR, operator_roles, user_roles
from g2rpo_operator.settings import Settings
from testchart.helm import CHART, MONITORING, Helm, HelmError, Manifest, kinds, named
from testcluster.locks import CHECKOUT

MANIFESTS = CHECKOUT / "manifests"
HELM_ADDS = {"app.kubernetes.io/instance", "app.kubernetes.io/managed-by", "app.kubernetes.io/version", "helm.sh/chart"}
CHART_SAYS = {
    "G2RPO_OPERATOR_LEASE_NAME": OPERATOR,
    "G2RPO_OPERATOR_TRAINER_IMAGE": Settings.model_fields["trainer_image"].default,
}
"""Variables that the chart always sets; without any choice they are the operator's own defaults."""


def plain(value: Any) -> Any:
    """A part of a manifest without what Helm adds to labels."""
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items() if key not in HELM_ADDS}
    return [plain(item) for item in value] if isinstance(value, list) else value


def container(manifests: list[Manifest]) -> Manifest:
    (found,) = named(manifests, "Deployment")["spec"]["template"]["spec"]["containers"]
    return dict(found)


def environment(manifests: list[Manifest]) -> dict[str, str]:
    """Variables with a value, and what Kubernetes would fill in."""
    filled = {"POD_NAME": "g2rpo-operator-0", "POD_NAMESPACE": NAMESPACE}
    return {item["name"]: item.get("value", filled.get(item["name"])) for item in container(manifests)["env"]}


def settings(manifests: list[Manifest]) -> Settings:
    """What the operator makes of its environment."""
    return Settings.from_environment(environment(manifests))


def test_the_definition_is_that_of_the_manifests(helm: Helm) -> None:
    found = plain(named(helm.template(), "CustomResourceDefinition"))
    wanted = yaml.safe_load((MANIFESTS / "crd.yaml").read_text())
    assert found["metadata"].pop("annotations") == {"helm.sh/resource-policy": "keep"}
    assert {"app.kubernetes.io/name", "app.kubernetes.io/part-of"} == set(found["metadata"].pop("labels"))
    assert found == wanted


@pytest.mark.parametrize("manifest", operator_manifests()[1:], ids=lambda item: item["kind"])
def test_what_runs_is_what_the_manifests_say(manifest: Manifest, helm: Helm) -> None:
    found = plain(named(helm.template(), manifest["kind"], OPERATOR))
    if manifest["kind"] == "Deployment":
        (own,) = found["spec"]["template"]["spec"]["containers"]
        assert own.pop("imagePullPolicy") == "IfNotPresent"
        said = {item["name"]: item["value"] for item in own["env"] if item["name"] in CHART_SAYS}
        assert said == CHART_SAYS
        own["env"] = [item for item in own["env"] if item["name"] not in CHART_SAYS]
    assert found == manifest


@pytest.mark.parametrize("namespaces", [[], ["team-a", "team-b"]], ids=["everywhere", "somewhere"])
@pytest.mark.parametrize("proxy", [False, True], ids=["direct", "proxy"])
def test_rights_are_those_of_the_models(namespaces: list[str], proxy: bool, helm: Helm) -> None:
    via = {"settings": {"progressVia": "APIServer"}} if proxy else {}
    rendered = helm.template({"watchNamespaces": namespaces, "trial": {"enabled": False}, **via})
    found = [plain(item) for item in rendered if "Role" in item["kind"]]
    wanted = [*operator_roles(NAMESPACE, namespaces, pod_proxy=proxy), *user_roles()]
    assert sorted(found, key=json.dumps) == sorted((json.loads(json.dumps(item)) for item in wanted), key=json.dumps)


def test_without_choices_the_operator_has_its_own_defaults(helm: Helm) -> None:
    given = {"pod_name": "g2rpo-operator-0", "pod_namespace": NAMESPACE}
    assert settings(helm.template()) == Settings.model_validate(given)


def test_every_setting_arrives(helm: Helm) -> None:
    chosen = {
        "workers": 256,
        "connections": 2,
        "requestTimeoutSeconds": 0.5,
        "resyncSeconds": 86400,
        "statusIntervalSeconds": 0,
        "progressIntervalSeconds": 1.25,
        "progressTimeoutSeconds": 7,
        "progressVia": "APIServer",
        "leaseDurationSeconds": 60,
        "leaseRenewDeadlineSeconds": 40,
        "leaseRetrySeconds": 5,
        "logFormat": "text",
        "logLevel": "DEBUG",
    }
    schema = json.loads((CHART / "values.schema.json").read_text())
    assert set(chosen) == set(schema["properties"]["settings"]["properties"])
    found = settings(helm.template({"settings": chosen, "watchNamespaces": ["b", "a"]}))
    assert found.namespaces == ("b", "a")
    assert {name: getattr(found, name) for name in map(to_snake, chosen)} == {
        to_snake(key): chosen[key] for key in chosen
    }


DIGEST = f"sha256:{'ab' * 32}"


@pytest.mark.parametrize(
    ("image", "wanted"),
    [
        ({}, "g2rpo/operator:0.1.0"),
        ({"tag": "1.2"}, "g2rpo/operator:1.2"),
        ({"repository": "here:5000/a/b", "tag": "x"}, "here:5000/a/b:x"),
        ({"digest": DIGEST}, f"g2rpo/operator@{DIGEST}"),
        ({"digest": DIGEST, "tag": "1.2"}, f"g2rpo/operator@{DIGEST}"),
    ],
    ids=str,
)
def test_an_image_is_named_by_tag_or_digest(image: Manifest, wanted: str, helm4: Helm) -> None:
    rendered = helm4.template({"image": image, "trainerImage": image})
    assert container(rendered)["image"] == wanted
    assert named(rendered, "Pod")["spec"]["containers"][0]["image"] == wanted
    assert settings(rendered).trainer_image == wanted.replace("g2rpo/operator", "g2rpo/trainer")


def test_versions_are_those_of_the_distributions(helm4: Helm) -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert f"g2rpo/operator:{chart['appVersion']}" == IMAGE
    assert chart["version"] == chart["appVersion"]


@pytest.mark.parametrize(
    ("release", "override", "wanted"),
    [
        ("g2rpo", "", "g2rpo-operator"),
        ("g2rpo-operator", "", "g2rpo-operator"),
        ("team", "", "team-g2rpo-operator"),
        ("my-g2rpo-operator-2", "", "my-g2rpo-operator-2"),
        ("team", "aligner", "aligner"),
        ("a" * 53, "", "a" * 48),
        ("a" * 47 + "-b", "", "a" * 47),
    ],
)
def test_names(release: str, override: str, wanted: str, helm4: Helm) -> None:
    rendered = helm4.template(
        {"fullnameOverride": override, "watchNamespaces": ["x"]}, release, api_versions=[MONITORING]
    )
    assert named(rendered, "Deployment")["metadata"]["name"] == wanted
    assert settings(rendered).lease_name == wanted
    names = {name for kind, name in kinds(rendered) if kind not in ("CustomResourceDefinition", "ClusterRole")}
    assert {name for name in names if not name.startswith(wanted)} == set()
    assert max(map(len, names)) <= 63


def test_an_old_cluster_is_refused(helm: Helm) -> None:
    assert helm.template(kube_version="1.30.0")
    with pytest.raises(HelmError, match="incompatible with Kubernetes"):
        helm.template(kube_version="1.29.14")


def test_both_versions_of_helm_make_the_same(helms: dict[int, Helm]) -> None:
    values = {
        "networkPolicy": {"enabled": True},
        "watchNamespaces": ["a"],
        "settings": {"progressIntervalSeconds": 0.1},
    }
    three, four = (helms[major].template(values, kube_version="1.33.0", api_versions=[MONITORING]) for major in (3, 4))
    by_place = {json.dumps(item, sort_keys=True) for item in four}
    assert {json.dumps(item, sort_keys=True) for item in three} == by_place


def test_lint_finds_nothing(helm: Helm) -> None:
    assert "0 chart(s) failed" in helm.run("lint", "--strict", helm.chart)


def test_it_can_be_part_of_another_chart(helm: Helm, tmp_path: Path) -> None:
    """A chart that depends on this one shares values, and switches it by a condition."""
    parent = tmp_path / "parent"
    (parent / "charts").mkdir(parents=True)
    helm.run("package", helm.chart, "--destination", parent / "charts")
    dependency = {"name": "g2rpo-operator", "version": "0.1.0", "condition": "g2rpo-operator.enabled"}
    chart = {"apiVersion": "v2", "name": "parent", "version": "1.0.0", "dependencies": [dependency]}
    (parent / "Chart.yaml").write_text(yaml.safe_dump(chart))
    shared = {"global": {"team": "a"}, "g2rpo-operator": {"enabled": True, "replicas": 1}}
    rendered = helm.at(chart=parent).template(shared)
    assert named(rendered, "Deployment")["spec"]["replicas"] == 1
    assert helm.at(chart=parent).template({"g2rpo-operator": {"enabled": False}}) == []
