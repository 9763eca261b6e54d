"""Storage that claims can be bound to: without it, pods that mount a claim wait for ever.

Who calls this: cluster.
Its business ends with JSON objects: where the files lie is podvolumes'.
"""

from __future__ import annotations

from testcluster.api import Object

CLASS = "standard"
CAPACITY = "1Ti"


def storage_class() -> Object:
    """The default class; nobody makes volumes for it, those that are there are bound."""
    default = {"storageclass.kubernetes.io/is-default-class": "true"}
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": CLASS, "annotations": default},
        "provisioner": "kubernetes.io/no-provisioner",
        "volumeBindingMode": "Immediate",
    }


def persistent_volume(name: str) -> Object:
    """A volume that every node can reach."""
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name},
        "spec": {
            "capacity": {"storage": CAPACITY},
            "accessModes": ["ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany"],
            "storageClassName": CLASS,
            "persistentVolumeReclaimPolicy": "Retain",
            "hostPath": {"path": f"/volumes/{name}"},
        },
    }
