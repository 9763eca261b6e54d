"""What the operator may do to a cluster, as data, and the roles that say so; roles for the people who run jobs.

Who calls this: `generate.py`; a chart for other namespaces. Where its business ends: who the operator is, and how
it is run, stands in `install.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from g2rpo_api.contract import GROUP, PLURAL

OPERATOR = "g2rpo-operator"
"""Name of the operator's account, roles and Deployment."""
RBAC_API = "rbac.authorization.k8s.io"

Manifest = dict[str, Any]


@dataclass(frozen=True)
class Grant:
    """Verbs on resources of an API group."""

    group: str
    """Empty for the core group."""
    resources: tuple[str, ...]
    verbs: tuple[str, ...]
    why: str

    def rule(self) -> Manifest:
        """As a rule of a role."""
        return {"apiGroups": [self.group], "resources": list(self.resources), "verbs": list(self.verbs)}


READ = ("get", "list", "watch")
WHERE_JOBS_ARE: tuple[Grant, ...] = (
    Grant(GROUP, (PLURAL,), (*READ, "delete"), "see jobs, and delete finished ones whose time to live is over"),
    Grant(GROUP, (f"{PLURAL}/status",), ("update",), "tell how they are"),
    Grant(
        GROUP, (f"{PLURAL}/finalizers",), ("update",), "own what is created for them, where clusters ask for this right"
    ),
    Grant("batch", ("jobs",), (*READ, "create", "delete"), "start and end attempts"),
    Grant("", ("services",), (*READ, "create"), "give pods the names by which they find each other"),
    Grant("", ("configmaps",), (*READ, "create", "patch", "delete"), "hand jobs to pods, and keep reward curves"),
    Grant("", ("pods",), (*READ, "delete"), "see how attempts go and end; end pods of lost nodes"),
    Grant("", ("events",), ("create",), "tell people what happened"),
)
"""In each namespace whose jobs are looked after, or in the whole cluster. Never Secrets, never exec into pods."""
AT_HOME: tuple[Grant, ...] = (
    Grant("coordination.k8s.io", ("leases",), ("get", "create", "update"), "elect one of several replicas"),
)
"""In the operator's own namespace."""
POD_PROXY = Grant("", ("pods/proxy",), ("get",), "read progress through the API server")
"""Only for an operator outside the pods' network (G2RPO_OPERATOR_PROGRESS_VIA=APIServer); not granted otherwise."""
TRIAL: tuple[Grant, ...] = (
    Grant(GROUP, (PLURAL,), ("create",), "submit a job as a dry run"),
    Grant("coordination.k8s.io", ("leases",), ("get",), "see that a replica acts"),
)
"""Of the account of `helm test`, in the operator's own namespace."""
VIEW = Grant(GROUP, (PLURAL, f"{PLURAL}/status"), READ, "see jobs")
EDIT = Grant(GROUP, (PLURAL,), ("create", "update", "patch", "delete", "deletecollection"), "run jobs")


def operator_roles(home: str, namespaces: Sequence[str] = (), *, pod_proxy: bool = False) -> list[Manifest]:
    """Roles of the operator's account, and their bindings.

    Args:
        home: the operator's own namespace.
        namespaces: where it looks after jobs; in the whole cluster when empty.
        pod_proxy: whether it reads progress through the API server.
    """
    grants = (*WHERE_JOBS_ARE, *((POD_PROXY,) if pod_proxy else ()))
    places = [("Role", namespace) for namespace in namespaces] or [("ClusterRole", "")]
    roles = [part for kind, place in places for part in _bound(kind, OPERATOR, place, grants, home)]
    return [*roles, *_bound("Role", f"{OPERATOR}-election", home, AT_HOME, home)]


def user_roles() -> list[Manifest]:
    """What Kubernetes' own roles `view`, `edit` and `admin` let people do with jobs, wherever they are bound."""
    view, edit = (
        _role("ClusterRole", f"{PLURAL}-view", "", (VIEW,)),
        _role("ClusterRole", f"{PLURAL}-edit", "", (EDIT,)),
    )
    for role, names in ((view, ("view", "edit", "admin")), (edit, ("edit", "admin"))):
        role["metadata"]["labels"] |= {f"{RBAC_API}/aggregate-to-{name}": "true" for name in names}
    return [view, edit]


def labels() -> dict[str, str]:
    """On everything that is installed."""
    return {"app.kubernetes.io/name": OPERATOR, "app.kubernetes.io/part-of": "g2rpo"}


def _metadata(name: str, namespace: str) -> Manifest:
    return {"name": name, **({"namespace": namespace} if namespace else {}), "labels": labels()}


def _role(kind: str, name: str, namespace: str, grants: Iterable[Grant]) -> Manifest:
    rules = [grant.rule() for grant in grants]
    return {"apiVersion": f"{RBAC_API}/v1", "kind": kind, "metadata": _metadata(name, namespace), "rules": rules}


def _bound(kind: str, name: str, namespace: str, grants: Iterable[Grant], home: str) -> list[Manifest]:
    """A role and its binding to the operator's account."""
    binding = {
        "apiVersion": f"{RBAC_API}/v1",
        "kind": f"{kind}Binding",
        "metadata": _metadata(name, namespace),
        "roleRef": {"apiGroup": RBAC_API, "kind": kind, "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": OPERATOR, "namespace": home}],
    }
    return [_role(kind, name, namespace, grants), binding]
