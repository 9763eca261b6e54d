"""Parts of the chart: each can be left out, and each says what it should."""

from __future__ import annotations

import pytest
import yaml

from g2rpo_api import contract
from g2rpo_api.rbac import OPERATOR
from testchart.helm import CHART, MONITORING, Helm, HelmError, Manifest, kinds, named
from testoperator.podsecurity import violations

MONITORS = [("PodMonitor", "g2rpo-operator-trainers"), ("PrometheusRule", OPERATOR), ("ServiceMonitor", OPERATOR)]


def test_releases_of_two_teams_have_nothing_in_common_but_what_is_there_once(helm4: Helm) -> None:
    once = {"crds": {"enabled": False}, "rbac": {"userRoles": False}}
    first, second = (
        {(item["kind"], item["metadata"].get("namespace"), item["metadata"]["name"]) for item in rendered}
        for rendered in (
            helm4.template({"watchNamespaces": ["a"]}, "one", api_versions=[MONITORING]),
            helm4.template({"watchNamespaces": ["b"], **once}, "two", api_versions=[MONITORING]),
        )
    )
    assert first & second == set()
    assert not {kind for kind, *_ in second} & {"ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition"}


def test_monitors_are_there_where_the_cluster_knows_them(helm: Helm) -> None:
    without, rendered = helm.template(), helm.template(api_versions=[MONITORING])
    assert sorted(set(kinds(rendered)) - set(kinds(without))) == MONITORS


@pytest.mark.parametrize(
    ("section", "gone"),
    [
        ("trainers", "PodMonitor"),
        ("operator", "ServiceMonitor"),
        ("alerts", "PrometheusRule"),
        ("dashboards", "ConfigMap"),
    ],
)
def test_each_of_them_can_be_left_out(section: str, gone: str, helm4: Helm) -> None:
    before = helm4.template(api_versions=[MONITORING])
    after = helm4.template({"monitoring": {section: {"enabled": False}}}, api_versions=[MONITORING])
    assert set(kinds(before)) - set(kinds(after)) == {pair for pair in kinds(before) if pair[0] == gone}


@pytest.mark.parametrize(
    ("values", "gone"),
    [
        ({"crds": {"enabled": False}}, {"CustomResourceDefinition"}),
        ({"podDisruptionBudget": {"enabled": False}}, {"PodDisruptionBudget"}),
        ({"trial": {"enabled": False}}, {"Pod"}),
        ({"rbac": {"userRoles": False}}, set()),
        (
            {"rbac": {"create": False}, "trial": {"enabled": False}},
            {"Pod", "ClusterRoleBinding", "Role", "RoleBinding"},
        ),
        ({"rbac": {"create": False, "userRoles": False}}, {"ClusterRole", "ClusterRoleBinding"}),
        ({"serviceAccount": {"create": False}, "trial": {"enabled": False}}, {"Pod", "ServiceAccount"}),
    ],
    ids=lambda value: " ".join(sorted(map(str, value))) or "nothing",
)
def test_parts_can_be_left_out(values: Manifest, gone: set[str], helm4: Helm) -> None:
    before, after = ({kind for kind, _ in kinds(helm4.template(chosen))} for chosen in ({}, values))
    assert before - after == gone
    assert after <= before


def test_the_pod_monitor_names_jobs_and_attempts(helm4: Helm) -> None:
    """As docs/monitor.md promises, from labels as the operator sets them."""
    monitor = named(helm4.template(api_versions=[MONITORING]), "PodMonitor")["spec"]
    (endpoint,) = monitor["podMetricsEndpoints"]
    assert endpoint["port"] == contract.PORT_NAME
    labels = {contract.LABEL_JOB: "job_name", contract.LABEL_ATTEMPT: "attempt"}
    wanted = [
        {
            "sourceLabels": [f"__meta_kubernetes_pod_label_{label.replace('.', '_').replace('/', '_')}"],
            "targetLabel": name,
        }
        for label, name in labels.items()
    ]
    assert endpoint["relabelings"] == wanted
    assert monitor["namespaceSelector"] == {"any": True}


def test_dashboards_are_the_files(helm4: Helm) -> None:
    files = {path.name: path.read_text() for path in (CHART / "dashboards").glob("*.json")}
    assert files
    maps = [
        item
        for item in helm4.template({"monitoring": {"dashboards": {"annotations": {"grafana_folder": "G2RPO"}}}})
        if item["kind"] == "ConfigMap"
    ]
    assert {name: text for item in maps for name, text in item["data"].items()} == files
    assert {item["metadata"]["labels"]["grafana_dashboard"] for item in maps} == {"1"}
    assert {item["metadata"]["annotations"]["grafana_folder"] for item in maps} == {"G2RPO"}


def test_alerts_are_the_file(helm4: Helm) -> None:
    rendered = helm4.template({"monitoring": {"labels": {"release": "prometheus"}}}, api_versions=[MONITORING])
    rule = named(rendered, "PrometheusRule")
    assert rule["spec"] == yaml.safe_load((CHART / "rules/alerts.yaml").read_text())
    assert rule["metadata"]["labels"]["release"] == "prometheus"


def test_alerts_link_to_where_people_read(helm4: Helm) -> None:
    page = "https://wiki.example/g2rpo/troubleshoot"
    rendered = helm4.template({"monitoring": {"alerts": {"runbookUrl": page}}}, api_versions=[MONITORING])
    rules = [rule for group in named(rendered, "PrometheusRule")["spec"]["groups"] for rule in group["rules"]]
    links = {rule["annotations"]["runbook_url"] for rule in rules if "alert" in rule}
    assert links == {f"{page}#{rule['alert'].lower()}" for rule in rules if "alert" in rule}


def test_pods_are_restricted_and_placed_as_chosen(helm4: Helm) -> None:
    placed: Manifest = {
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "tolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}],
        "affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}},
        "priorityClassName": "system-cluster-critical",
        "imagePullSecrets": [{"name": "registry"}],
    }
    rendered = helm4.template(placed)
    for spec in (named(rendered, "Deployment")["spec"]["template"]["spec"], named(rendered, "Pod")["spec"]):
        assert violations(spec) == []
        assert {key: spec[key] for key in placed} == placed
    free = helm4.template({"runAsUser": None})
    security = named(free, "Deployment")["spec"]["template"]["spec"]["securityContext"]
    assert set(security) == {"runAsNonRoot", "seccompProfile"}


def test_spreading_and_labels(helm4: Helm) -> None:
    zones = {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {}}
    chosen = {
        "topologySpreadConstraints": [zones],
        "commonLabels": {"team": "a", "app.kubernetes.io/name": "stolen"},
        "podLabels": {"network": "open", "app.kubernetes.io/instance": "stolen"},
        "podAnnotations": {"note": "x"},
    }
    rendered = helm4.template(chosen)
    deployment = named(rendered, "Deployment")["spec"]
    pod = deployment["template"]
    assert pod["spec"]["topologySpreadConstraints"] == [zones]
    assert pod["metadata"]["annotations"] == {"note": "x"}
    assert {"team": "a", "network": "open", **deployment["selector"]["matchLabels"]}.items() <= pod["metadata"][
        "labels"
    ].items()
    assert all(item["metadata"]["labels"]["team"] == "a" for item in rendered)
    selecting = [
        deployment["selector"]["matchLabels"],
        named(rendered, "Service")["spec"]["selector"],
        named(rendered, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
    ]
    trial = named(rendered, "Pod")["metadata"]["labels"]
    assert all(selector.items() <= pod["metadata"]["labels"].items() for selector in selecting)
    assert not any(selector.items() <= trial.items() for selector in selecting)


def test_closed_networks_let_through_what_is_needed(helm4: Helm) -> None:
    peers = [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}]
    extra = {"ports": [{"port": 443}]}
    trainers = {"enabled": True, "namespaces": ["team"], "egress": [extra], "ingress": [extra]}
    chosen = {"enabled": True, "apiServerPorts": [8443], "metricsFrom": peers, "egress": [extra], "trainers": trainers}
    rendered = helm4.template({"networkPolicy": chosen})
    operator = named(rendered, "NetworkPolicy", OPERATOR)["spec"]
    pods = [named(rendered, "Deployment")["spec"]["template"], named(rendered, "Pod")]
    chosen_pods = operator["podSelector"]["matchLabels"].items()
    assert all(chosen_pods <= pod["metadata"]["labels"].items() for pod in pods)
    assert operator["ingress"] == [{"ports": [{"port": "metrics"}], "from": peers}]
    ports = [port["port"] for rule in operator["egress"] for port in rule["ports"]]
    assert ports == [53, 53, 8443, contract.DEFAULT_PORT, 443]


def test_pods_that_train_reach_each_other_and_are_asked_by_the_operator(helm4: Helm) -> None:
    extra = {"ports": [{"port": 443}]}
    trainers = {"enabled": True, "egress": [extra], "ingress": [extra]}
    rendered = helm4.template({"watchNamespaces": ["a", "b"], "networkPolicy": {"trainers": trainers}})
    policies = [item for item in rendered if item["kind"] == "NetworkPolicy"]
    assert [policy["metadata"]["namespace"] for policy in policies] == ["a", "b"]
    spec = policies[0]["spec"]
    trained = {"podSelector": {"matchLabels": {"app.kubernetes.io/name": contract.TRAINER}}}
    assert spec["podSelector"] == trained["podSelector"]
    among, operator, metrics, further = spec["ingress"]
    assert among == {"from": [trained]}
    assert [port["port"] for port in operator["ports"]] == [contract.DEFAULT_PORT]
    (caller,) = operator["from"]
    assert caller["namespaceSelector"] == {"matchLabels": {"kubernetes.io/metadata.name": helm4.namespace}}
    assert caller["podSelector"] == named(rendered, "Deployment")["spec"]["selector"]
    assert metrics == {"ports": [{"port": contract.DEFAULT_PORT}]}
    assert further == spec["egress"][-1] == extra
    assert {"to": [trained]} in spec["egress"]


def test_a_policy_for_trainers_must_know_where_they_are(helm4: Helm) -> None:
    with pytest.raises(HelmError, match=r"networkPolicy\.trainers\.namespaces"):
        helm4.template({"networkPolicy": {"trainers": {"enabled": True}}})


def test_the_trial_is_one_pod_that_is_removed_when_it_has_succeeded(helm4: Helm) -> None:
    rendered = helm4.template()
    hooks = [item for item in rendered if "helm.sh/hook" in item["metadata"].get("annotations", {})]
    assert kinds(hooks) == [("Pod", f"{OPERATOR}-trial")]
    policy = hooks[0]["metadata"]["annotations"]["helm.sh/hook-delete-policy"]
    assert policy == "before-hook-creation,hook-succeeded"
    may = [(rule["resources"], rule["verbs"]) for rule in named(rendered, "Role", f"{OPERATOR}-trial")["rules"]]
    assert may == [([contract.PLURAL], ["create"]), (["leases"], ["get"])]
