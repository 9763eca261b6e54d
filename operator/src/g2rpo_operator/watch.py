"""Events of watches → the store, and a look at the job that each is about; the watches of what belongs to jobs.

Who calls this: `handlers.py` with what kopf is told of jobs, and `__main__`, which runs a watch for each other kind.
Those tell some thirty events for one job, and kopf's queues, causes and handlers cost ten times as much for each of
them as reading it does.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from g2rpo_api import contract
from g2rpo_operator.cluster import Cluster
from g2rpo_operator.errors import ClusterError
from g2rpo_operator.reconcile import RESOURCES
from g2rpo_operator.store import Store
from g2rpo_operator.workqueue import WorkQueue
from g2rpo_operator.world import Kind

logger = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.5, 30.0
SWARM_SECONDS = 0.2
"""From the first event about a job's objects to the look at it."""


@dataclass(frozen=True)
class Intake:
    """Where events go.

    A job is looked at as soon as it changes, and a moment after one of its objects has, since those come in swarms:
    four pods that start are some twenty events.
    """

    store: Store
    queue: WorkQueue

    def take(self, kind: Kind, event: str | None, manifest: dict[str, Any]) -> None:
        """Take in what a watch told."""
        if event == "DELETED":
            key = self.store.drop(kind, manifest["metadata"]["uid"], last=manifest)
        else:
            key = self.store.put(kind, manifest, watched=True)
        if key is not None and kind == "G2RPOJob":
            self.queue.wake(key)
        elif key is not None:
            self.queue.wake_after(key, SWARM_SECONDS)


@dataclass(frozen=True)
class Watch:
    """Of the objects of one kind that belong to jobs, in one namespace or in all."""

    cluster: Cluster
    intake: Intake
    kind: Kind
    namespace: str | None

    async def run(self) -> None:
        """For ever. After trouble it begins anew, with all objects there are; what was deleted meanwhile lists tell."""
        since, pauses = "", backoffs()
        while True:
            try:
                async for event in self.cluster.watch(
                    RESOURCES[self.kind], self.namespace, contract.LABEL_JOB_UID, since
                ):
                    since, pauses = event["object"]["metadata"]["resourceVersion"], backoffs()
                    if event["type"] != "BOOKMARK":
                        self.intake.take(self.kind, event["type"], event["object"])
            except ClusterError as error:
                logger.info("the watch of kind %s begins anew: %s", self.kind, error)
                since = ""
            await asyncio.sleep(next(pauses))


def backoffs() -> Iterator[float]:
    """Endless pauses between tries, doubling up to half a minute, each with jitter."""
    pause = FIRST_PAUSE_SECONDS
    while True:
        yield pause * random.uniform(0.5, 1.0)
        pause = min(LONGEST_PAUSE_SECONDS, pause * 2)
