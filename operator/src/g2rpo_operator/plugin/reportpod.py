"""A pod that prints report.html of a run from its volume, and the file in what it printed. Pure.

Who calls this: `kubectl g2rpo report`, once no trainer is there to ask. The pod is the person's own: it has none
of the job's labels, so that the operator does not take it for a rank, and ends by itself.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import re
from collections.abc import Mapping
from typing import Any

from g2rpo_api import contract
from g2rpo_api.job import G2RPOJob
from g2rpo_operator import render
from g2rpo_operator.plugin.client import FIELD_MANAGER, Manifest
from g2rpo_operator.plugin.failures import PluginError

CONTAINER = contract.CONTAINER
"""Named as the trainer's, so that its state is read in the same way."""
LONGEST_SECONDS = 900
"""After so long the cluster ends the pod, whatever became of the command."""
NO_FILE = 66
"""Exit code of a pod that found no report (EX_NOINPUT of sysexits.h)."""
SCRIPT = f"""\
import base64, gzip, hashlib, pathlib, sys
path = pathlib.Path(sys.argv[1])
if not path.is_file():
    print("there is no", path)
    sys.exit({NO_FILE})
text = base64.encodebytes(gzip.compress(path.read_bytes()))
print("-----BEGIN REPORT-----")
sys.stdout.write(text.decode())
print("-----END REPORT", hashlib.sha256(text).hexdigest())
"""
PRINTED = re.compile(rb"-----BEGIN REPORT-----\n(.*)-----END REPORT ([0-9a-f]{64})\n", re.DOTALL)


def pod(job: G2RPOJob, owner: Mapping[str, Any], image: str, node: str) -> Manifest:
    """The pod.

    Args:
        job: gives the volume, the user, and which nodes the pods may run on.
        owner: metadata of the job as the API server has it; the pod goes with it.
        image: the trainer's image, which those nodes have.
        node: where the first rank ran; empty when that is not known.
    """
    reference = {"apiVersion": contract.API_VERSION, "kind": contract.KIND, "name": owner["name"], "uid": owner["uid"]}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "generateName": f"{job.metadata.name}-report-",
            "labels": {"app.kubernetes.io/name": "g2rpo-report", "app.kubernetes.io/managed-by": FIELD_MANAGER},
            "ownerReferences": [reference],
        },
        "spec": {**_placement(job, node), **_surroundings(job), "containers": [_container(job, image)]},
    }


def _surroundings(job: G2RPOJob) -> Manifest:
    user, name = job.spec.workers.security, _mount(job)["name"]
    return {
        "restartPolicy": "Never",
        "activeDeadlineSeconds": LONGEST_SECONDS,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": user.run_as_user,
            "runAsGroup": user.run_as_group,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "volumes": [volume for volume in render.volumes(job, 1) if volume["name"] == name],
    }


def _mount(job: G2RPOJob) -> Manifest:
    """Where the run folders appear, as for the trainer, but read-only."""
    (mount,) = (mount for mount in render.mounts(job) if mount["mountPath"] == contract.RUNS_DIR)
    return {**mount, "readOnly": True}


def _container(job: G2RPOJob, image: str) -> Manifest:
    path = f"{contract.RUNS_DIR}/{job.metadata.name}/{contract.RUN_REPORT}"
    return {
        "name": CONTAINER,
        "image": image,
        "imagePullPolicy": job.spec.image_pull_policy,
        "command": ["python", "-c", SCRIPT, path],
        "resources": {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "1Gi"}},
        "volumeMounts": [_mount(job)],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }


def _placement(job: G2RPOJob, node: str) -> Manifest:
    """Nodes as for the trainer; the first rank's own where the folder is on that node, or a disk attached to it."""
    workers = job.spec.workers
    plain = workers.model_dump(mode="json", by_alias=True, exclude_none=True)
    kept = ("nodeSelector", "tolerations", "runtimeClassName", "serviceAccountName", "imagePullSecrets")
    placement = {key: plain[key] for key in kept if plain.get(key)}
    if not node:
        return placement
    there = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}
    if job.spec.storage.runs.host_path:
        wish: Manifest = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [there]}}
    else:
        wish = {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "preference": there}]}
    return {**placement, "affinity": {"nodeAffinity": wish}}


def printed(log: bytes) -> bytes:
    """The file in what the pod printed.

    Raises:
        PluginError: it is not all there.
    """
    match = PRINTED.search(log)
    if match is None or hashlib.sha256(match[1]).hexdigest().encode() != match[2]:
        raise PluginError("the report did not come through whole; try again")
    return gzip.decompress(base64.b64decode(match[1]))
