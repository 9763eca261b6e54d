"""What the operator may do, and what it may never do."""

from __future__ import annotations

from typing import Any

import pytest

from g2rpo_api.rbac import AT_HOME, POD_PROXY, WHERE_JOBS_ARE, operator_roles, user_roles

Manifest = dict[str, Any]
ALL = (*WHERE_JOBS_ARE, *AT_HOME, POD_PROXY)


def of_kind(kind: str, manifests: list[Manifest]) -> list[Manifest]:
    return [manifest for manifest in manifests if manifest["kind"] == kind]


def test_some_things_are_never_granted() -> None:
    resources = {resource for grant in ALL for resource in grant.resources}
    assert not resources & {"*", "secrets", "pods/exec", "pods/attach", "pods/log", "nodes", "roles", "clusterroles"}
    assert not {verb for grant in ALL for verb in grant.verbs} & {"*", "escalate", "bind", "impersonate"}


def test_every_right_has_a_reason() -> None:
    assert all(len(grant.why) > 5 and not grant.why.endswith(".") for grant in ALL)


def test_nothing_is_granted_twice() -> None:
    pairs = [(grant.group, resource) for grant in ALL for resource in grant.resources]
    assert len(pairs) == len(set(pairs))


def test_for_the_whole_cluster_there_is_one_cluster_role() -> None:
    roles = operator_roles("home")
    (role,) = of_kind("ClusterRole", roles)
    (binding,) = of_kind("ClusterRoleBinding", roles)
    assert role["rules"] == [grant.rule() for grant in WHERE_JOBS_ARE]
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "g2rpo-operator", "namespace": "home"}]
    assert "namespace" not in role["metadata"]


def test_for_some_namespaces_there_is_nothing_of_the_whole_cluster() -> None:
    roles = operator_roles("home", ["a", "b"])
    assert {manifest["kind"] for manifest in roles} == {"Role", "RoleBinding"}
    rights = {role["metadata"]["namespace"]: role["rules"] for role in of_kind("Role", roles)}
    assert set(rights) == {"a", "b", "home"}
    assert rights["a"] == rights["b"] == [grant.rule() for grant in WHERE_JOBS_ARE]
    assert all(binding["subjects"][0]["namespace"] == "home" for binding in of_kind("RoleBinding", roles))


@pytest.mark.parametrize("namespaces", [[], ["a"], ["home"]])
def test_leases_are_for_home_only(namespaces: list[str]) -> None:
    holders = [
        (manifest["kind"], manifest["metadata"].get("namespace"))
        for manifest in operator_roles("home", namespaces)
        if any("leases" in rule["resources"] for rule in manifest.get("rules", ()))
    ]
    assert holders == [("Role", "home")]


def test_names_are_unique_even_at_home() -> None:
    names = [
        (manifest["kind"], manifest["metadata"].get("namespace"), manifest["metadata"]["name"])
        for manifest in operator_roles("home", ["home"])
    ]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("namespaces", [[], ["a"]])
def test_the_proxy_is_granted_on_demand_only(namespaces: list[str]) -> None:
    def proxies(*, wanted: bool) -> int:
        roles = operator_roles("home", namespaces, pod_proxy=wanted)
        return sum(POD_PROXY.rule() in manifest.get("rules", ()) for manifest in roles)

    assert (proxies(wanted=False), proxies(wanted=True)) == (0, 1)


def test_peoples_roles_add_to_those_that_kubernetes_has() -> None:
    view, edit = user_roles()
    assert set(view["metadata"]["labels"]) > {f"rbac.authorization.k8s.io/aggregate-to-{role}" for role in ("view",)}
    assert "rbac.authorization.k8s.io/aggregate-to-view" not in edit["metadata"]["labels"]
    assert {verb for rule in view["rules"] for verb in rule["verbs"]} == {"get", "list", "watch"}
    assert "g2rpojobs/status" not in {resource for rule in edit["rules"] for resource in rule["resources"]}
