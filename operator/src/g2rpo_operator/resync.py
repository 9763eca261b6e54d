"""The whole picture from time to time: what watches missed, and whether a watch has silently died.

Who calls this: `__main__`, before the first look, whenever this replica becomes the leader, and every few
minutes. A watch cannot tell of what was deleted while it was down; a list can.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from g2rpo_api import contract
from g2rpo_operator.cluster import JOBS, Cluster
from g2rpo_operator.errors import NotFoundError
from g2rpo_operator.reconcile import RESOURCES
from g2rpo_operator.store import Store
from g2rpo_operator.world import KINDS, Key, Kind

logger = logging.getLogger(__name__)

NONE_OF_THEM = f"{contract.LABEL_JOB}=,{contract.LABEL_JOB}!="
"""Selects nothing: whether a kind is known is all that is asked."""
DELIVERY_SECONDS = 90.0
"""How long a watch may take to deliver what a list has shown: longer than it takes to notice and mend a dead one."""


@dataclass
class Resync:
    """Lists everything of ours into the store."""

    cluster: Cluster
    store: Store
    namespaces: Sequence[str]
    """Empty for all of them."""
    wake: Callable[[Key], None]
    clock: Callable[[], float]
    """Monotonic seconds."""
    synced: bool = False
    """Whether the store was complete once."""
    _awaited: dict[Kind, tuple[set[str], float]] = field(default_factory=dict)
    """Objects whose newest state was listed and not watched, and since when."""

    async def run_once(self, *, wake_all: bool = False) -> None:
        """List everything; look at the jobs that are not as they were thought to be, or at all of them.

        Raises:
            ClusterError: the API server did not answer.
        """
        for kind in KINDS:
            await self._list(kind)
        self.synced = True
        for key in self.store.keys() if wake_all else ():
            self.wake(key)

    async def served(self) -> bool:
        """Whether the cluster knows jobs at all.

        Raises:
            ClusterError: the API server did not answer.
        """
        try:
            await self.cluster.list(JOBS, self.namespaces[0] if self.namespaces else None, NONE_OF_THEM)
        except NotFoundError:
            return False
        return True

    async def _list(self, kind: Kind) -> None:
        """Take in a list, page by page.

        What is new wakes its job at once: a later page may never come, and the store tells nothing new twice.
        """
        since, listed = self.store.newest_version(), set()
        selector = "" if kind == "G2RPOJob" else contract.LABEL_JOB_UID
        for namespace in self.namespaces or (None,):
            async for page in self.cluster.pages(RESOURCES[kind], namespace, selector):
                for manifest in page:
                    listed.add(manifest["metadata"]["uid"])
                    key = self.store.put(kind, manifest)
                    if key is not None:
                        self.wake(key)
        for key in self.store.forget_unlisted(kind, listed, since):
            self.wake(key)
        self._await_watch(kind, self.store.unwatched(kind, listed))

    def _await_watch(self, kind: Kind, behind: set[str]) -> None:
        already, since = self._awaited.get(kind, (set(), 0.0))
        still = self.store.unwatched(kind, already)
        self._awaited[kind] = (still | behind, since if still else self.clock())

    def silent_seconds(self, kind: Kind) -> float:
        """For how long the watch of this kind has owed what a list has shown; 0 when it owes nothing."""
        uids, since = self._awaited.get(kind, (set(), 0.0))
        owed = self.store.unwatched(kind, uids)
        if not owed:
            self._awaited[kind] = (set(), self.clock())
            return 0.0
        return self.clock() - since
