"""Jobs at the limits: workers that use every field, the longest name."""

from __future__ import annotations

from typing import Any

LONGEST = "a" + "-b" * 23 + "c"
"""48 characters, the most that a job's name may have."""
EVERYTHING: dict[str, Any] = {
    "nodes": 2,
    "processesPerNode": 2,
    "resourceName": "nvidia.com/gpu",
    "resources": {"requests": {"cpu": "8", "memory": "64Gi"}, "limits": {"memory": "128Gi"}},
    "sharedMemory": "16Gi",
    "rdma": {"resourceName": "rdma/hca", "count": 2},
    "nodeSelector": {"gpu": "h100"},
    "tolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 60}],
    "affinity": {"podAntiAffinity": {}},
    "priorityClassName": "high",
    "runtimeClassName": "nvidia",
    "schedulerName": "volcano",
    "serviceAccountName": "trainer",
    "imagePullSecrets": [{"name": "registry"}],
    "security": {"runAsUser": 1000, "runAsGroup": 1001, "fsGroup": 1002},
    "env": [
        {"name": "NCCL_DEBUG", "value": "INFO"},
        {"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": "hub", "key": "token"}}},
        {"name": "ZONE", "valueFrom": {"configMapKeyRef": {"name": "site", "key": "zone", "optional": True}}},
    ],
    "volumes": [
        {"name": "models", "persistentVolumeClaim": {"claimName": "models", "readOnly": True}},
        {"name": "keys", "secret": {"secretName": "keys"}},
        {"name": "prompts", "configMap": {"name": "prompts"}},
        {"name": "scratch", "emptyDir": {"sizeLimit": "10Gi"}},
        {"name": "disk", "hostPath": {"path": "/mnt/disk"}},
        {"name": "share", "nfs": {"server": "nfs.example", "path": "/share"}},
    ],
    "volumeMounts": [
        {"name": "models", "mountPath": "/models", "subPath": "flux", "readOnly": True},
        {"name": "prompts", "mountPath": "/prompts"},
    ],
    "labels": {"team": "vision"},
    "annotations": {"sidecar.istio.io/inject": "false"},
}
"""Workers that use every field."""
