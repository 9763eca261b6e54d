"""What kopf is asked to watch: each event goes into the store and wakes the job it is about. Nothing else.

Who calls this: `__main__`. Only raw events are used: timers, daemons and change handlers would put
finalizers and annotations on people's objects, which then outlive an uninstalled operator.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import kopf

from g2rpo_api import contract
from g2rpo_operator.settings import Settings
from g2rpo_operator.store import Store
from g2rpo_operator.workqueue import WorkQueue
from g2rpo_operator.world import Key, Kind

Selector = tuple[str, str, str]
"""Group (empty for core), version, plural."""
WATCHED: dict[Kind, Selector] = {
    "G2RPOJob": (contract.GROUP, contract.VERSION, contract.PLURAL),
    "Job": ("batch", "v1", "jobs"),
    "Pod": ("", "v1", "pods"),
    "Service": ("", "v1", "services"),
    "ConfigMap": ("", "v1", "configmaps"),
}
LONGEST_BACKOFF_SECONDS = 30.0
SWARM_SECONDS = 0.2
"""From the first event about a job's objects to the look at it."""


def registry(store: Store, queue: WorkQueue) -> kopf.OperatorRegistry:
    """Handlers of every kind that is watched.

    A job is looked at as soon as it changes, and a moment after one of its objects has, since those come in
    swarms: four pods that start are some twenty events.
    """
    handlers = kopf.OperatorRegistry()
    kopf.on.login(registry=handlers, id="login")(_login)
    for kind, (group, version, plural) in WATCHED.items():
        wake = queue.wake if kind == "G2RPOJob" else partial(queue.wake_after, seconds=SWARM_SECONDS)
        kopf.on.event(group, version, plural, registry=handlers, id=f"watch-{plural}")(_handler(kind, store, wake))
    return handlers


async def _login(**known: Any) -> kopf.ConnectionInfo | None:
    """As the pod's own account, or as kubectl would."""
    return kopf.login_with_service_account(**known) or kopf.login_with_kubeconfig(**known)


def _handler(kind: Kind, store: Store, wake: Callable[[Key], None]) -> Any:
    async def seen(event: Any, **_: Any) -> None:
        manifest = event["object"]
        if event["type"] == "DELETED":
            key = store.drop(kind, manifest["metadata"]["uid"], last=manifest)
        else:
            key = store.put(kind, manifest, watched=True)
        if key is not None:
            wake(key)

    return seen


def operator_settings(settings: Settings) -> kopf.OperatorSettings:
    """How kopf watches: what is ours only, with every way in which a watch can die noticed."""
    chosen = kopf.OperatorSettings()
    chosen.peering.standalone = True  # a Lease elects the leader
    chosen.scanning.disabled = True
    chosen.posting.enabled = False
    chosen.persistence.diffbase_storage = NoDifferences()
    chosen.watching.server_timeout = 300
    chosen.watching.client_timeout = 330
    chosen.watching.connect_timeout = 5
    chosen.watching.inactivity_timeout = 70
    chosen.watching.chunk_size = 500
    for kind, (_, version, plural) in WATCHED.items():
        if kind != "G2RPOJob":
            group = WATCHED[kind][0]
            chosen.watching.label_selectors[group, version, plural] = contract.LABEL_JOB_UID
    chosen.networking.request_timeout = settings.request_timeout_seconds
    chosen.networking.enforce_retry_after = True
    chosen.networking.error_backoffs = Backoffs()
    return chosen


class NoDifferences(kopf.DiffBaseStorage):
    """No record of what objects were like before: kopf would copy each object several times to compare."""

    def build(self, **_: Any) -> kopf.BodyEssence:
        """Nothing of an object matters."""
        return kopf.BodyEssence()

    def fetch(self, **_: Any) -> kopf.BodyEssence | None:
        """Nothing was kept."""
        return None

    def store(self, **_: Any) -> None:
        """Keep nothing."""


class Backoffs:
    """Endless pauses between tries, doubling up to half a minute, each with jitter."""

    def __iter__(self) -> Iterator[float]:
        """Start from the first pause."""
        pause = 0.5
        while True:
            yield pause * random.uniform(0.5, 1.0)
            pause = min(LONGEST_BACKOFF_SECONDS, pause * 2)
