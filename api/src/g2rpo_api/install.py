"""How the operator is run in a cluster: its namespace, account and Deployment.

Who calls this: `generate.py`. Where its business ends: what the account may do stands in `rbac.py`.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from g2rpo_api.rbac import OPERATOR, labels

NAMESPACE = "g2rpo-system"
IMAGE = f"g2rpo/operator:{version('g2rpo-api')}"
PORT = 8080
"""Of /metrics, /healthz and /readyz."""
REPLICAS = 2
USER = 65532

EXPLAINED = (
    ("CKV_K8S_11", "a CPU limit would only slow the leader down; its request is small and its memory is limited"),
    ("CKV_K8S_15", "images have versions, which do not change"),
    ("CKV_K8S_38", "talking to the API server is what the operator does"),
    ("CKV_K8S_43", "digests are for who copies the images to a registry of their own; the chart takes them"),
)
"""Rules of scanners that the operator's pods do not follow, and why."""

Manifest = dict[str, Any]


def operator_manifests() -> list[Manifest]:
    """Everything that runs, in the order in which it is created."""
    return [namespace(), service_account(), deployment(), disruption_budget()]


def namespace() -> Manifest:
    """A namespace whose pods have no privileges."""
    marks = {"pod-security.kubernetes.io/enforce": "restricted"}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": {**labels(), **marks}}}


def service_account() -> Manifest:
    """Whom the operator is to the API server."""
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": _metadata()}


def deployment() -> Manifest:
    """Replicas of which one acts, on different nodes where there are several."""
    spread = {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": labels()},
    }
    pod = {
        "serviceAccountName": OPERATOR,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 30,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "topologySpreadConstraints": [spread],
        "containers": [container()],
    }
    spec = {
        "replicas": REPLICAS,
        "selector": {"matchLabels": labels()},
        "template": {"metadata": {"labels": labels()}, "spec": pod},
    }
    metadata = {**_metadata(), "annotations": explanations()}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}


def explanations() -> dict[str, str]:
    """Annotations that tell scanners, and their readers, why a rule is not followed."""
    return {f"checkov.io/skip{number}": f"{rule}={why}" for number, (rule, why) in enumerate(EXPLAINED, 1)}


def container() -> Manifest:
    """The operator's process."""
    probe = {"periodSeconds": 10, "timeoutSeconds": 5}
    return {
        "name": "operator",
        "image": IMAGE,
        "command": ["python", "-m", "g2rpo_operator"],
        "env": [
            {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}
            for name, path in (("POD_NAME", "metadata.name"), ("POD_NAMESPACE", "metadata.namespace"))
        ],
        "ports": [{"name": "metrics", "containerPort": PORT}],
        "livenessProbe": {"httpGet": {"path": "/healthz", "port": "metrics"}, "initialDelaySeconds": 10, **probe},
        "readinessProbe": {"httpGet": {"path": "/readyz", "port": "metrics"}, **probe},
        "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "512Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }


def disruption_budget() -> Manifest:
    """One replica at a time may be moved away."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": _metadata(),
        "spec": {
            "maxUnavailable": 1,
            "unhealthyPodEvictionPolicy": "AlwaysAllow",  # broken replicas must not keep a node from being drained
            "selector": {"matchLabels": labels()},
        },
    }


def _metadata() -> Manifest:
    return {"name": OPERATOR, "namespace": NAMESPACE, "labels": labels()}
