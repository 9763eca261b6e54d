"""`python -m g2rpo_operator.trial`: does this cluster take jobs, and does an operator act? It leaves nothing behind.

Who calls this: `helm test`, in a pod with the operator's settings and an account that may create jobs and see the
lease. Exit code 0 when all is well, 1 when not; each line says what was found.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

from g2rpo_api.contract import API_VERSION, KIND
from g2rpo_api.parse import parse_job
from g2rpo_operator.cluster import JOBS, LEASES, Cluster, Manifest
from g2rpo_operator.errors import ClusterError, NotFoundError, RejectedError
from g2rpo_operator.settings import Settings, SettingsError

PATIENCE_SECONDS = 60.0
"""How long a replica may take to become the leader."""
PAUSE_SECONDS = 0.5
TRAINING: Manifest = {
    "iterations": 1,
    "model": {"family": "SD3", "path": "some/model", "train": {"type": "LoRA"}},
    "prompts": {"path": "prompts.txt"},
    "sampling": {"height": 64, "width": 64},
    "algorithm": {"type": "G2RPO"},
    "rewards": [{"name": "reward", "type": "PaddleOCR"}],
}

Check = Callable[[Cluster, str, Settings], Awaitable[str]]
"""Says what is wrong; empty when nothing is."""


def job(**changes: Any) -> Manifest:
    """A job with every key spelt out, so that a definition that does not know one of them is noticed."""
    whole = parse_job(
        {"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": "trial"}, "spec": {"training": TRAINING}}
    )
    manifest: Manifest = whole.model_dump(mode="json", by_alias=True, exclude_none=True)
    manifest["spec"]["training"] |= changes
    return manifest


async def takes_jobs(cluster: Cluster, namespace: str, _settings: Settings) -> str:
    """Whether the definition in the cluster knows all that this operator does."""
    try:
        await cluster.create(JOBS, namespace, job(), dry_run=True)
    except NotFoundError:
        return "the cluster does not know G2RPOJob; install its definition (crds.enabled, or manifests/crd.yaml)"
    except RejectedError as error:
        return f"its definition of G2RPOJob is not the one of this operator: {error}"
    return ""


async def refuses_mistakes(cluster: Cluster, namespace: str, _settings: Settings) -> str:
    """Whether it checks anything."""
    try:
        await cluster.create(JOBS, namespace, job(iterations=0), dry_run=True)
    except RejectedError:
        return ""
    return "it took a job with 0 iterations: its definition of G2RPOJob is not the one of this operator"


async def is_led(cluster: Cluster, _namespace: str, settings: Settings) -> str:
    """Whether some replica renews the lease before our eyes: clocks of two machines are never compared."""
    place = settings.election_namespace, settings.lease_name
    until, first = time.monotonic() + PATIENCE_SECONDS, None
    while time.monotonic() < until:
        lease = await cluster.get(LEASES, *place) or {"spec": {}}
        holder, renewed = lease["spec"].get("holderIdentity"), lease["spec"].get("renewTime")
        if holder and first is not None and renewed != first:
            return ""
        first = first or renewed
        await asyncio.sleep(PAUSE_SECONDS)
    return f"no replica has renewed the lease {'/'.join(place)} in {PATIENCE_SECONDS:g} s; see the operator's logs"


CHECKS: dict[str, Check] = {
    "the cluster takes jobs": takes_jobs,
    "the cluster refuses mistakes": refuses_mistakes,
    "an operator acts": is_led,
}


async def trial(settings: Settings) -> bool:
    """Make all checks and tell their results; whether all is well."""
    namespace, well = settings.election_namespace, True
    async with Cluster.connect(settings.kubeconfig, settings.request_timeout_seconds) as cluster:
        for name, check in CHECKS.items():
            try:
                wrong = await check(cluster, namespace, settings)
            except ClusterError as error:
                wrong = " ".join(str(error).split())
            print(f"not so  {name}: {wrong}" if wrong else f"ok      {name}", flush=True)
            well = well and not wrong
    return well


def main() -> int:
    """The process's exit code."""
    try:
        settings = Settings.from_environment(os.environ)
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    return 0 if asyncio.run(trial(settings)) else 1


if __name__ == "__main__":
    sys.exit(main())
