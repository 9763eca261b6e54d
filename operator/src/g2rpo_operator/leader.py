"""Which of several replicas acts: the one that holds a Lease. The others watch, and are ready to take over.

Who calls this: `__main__`, which pauses and resumes the work queue as told. Clocks of different machines
are never compared: a lease counts as abandoned when it was *seen* not to change for as long as its holder
promised to renew it, and the holder itself gives up some seconds earlier.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol, TypeVar

from g2rpo_operator.cluster import utc_now
from g2rpo_operator.errors import ClusterError, ConflictError, NotFoundError
from g2rpo_operator.resources import LEASES, Resource

logger = logging.getLogger(__name__)

JITTER = 0.2
"""Share by which pauses between tries are longer at most."""
Manifest = dict[str, Any]
T = TypeVar("T")


class LeaseApi(Protocol):
    """The part of `Cluster` that an election needs."""

    async def get(self, resource: Resource, namespace: str, name: str) -> Manifest | None:
        """See `Cluster`."""

    async def create(self, resource: Resource, namespace: str, manifest: Manifest) -> Manifest:
        """See `Cluster`."""

    async def replace(self, resource: Resource, manifest: Manifest) -> Manifest:
        """See `Cluster`."""


@dataclass(frozen=True)
class Terms:
    """Which lease, for whom, and how long. duration > renew deadline > retry."""

    namespace: str
    name: str
    identity: str
    """Of this replica, different after each start."""
    duration_seconds: float = 15.0
    """How long a lease is respected that is not renewed."""
    renew_deadline_seconds: float = 10.0
    """How long its holder goes on without having renewed it."""
    retry_seconds: float = 2.0
    """Pause between tries, and between renewals."""


def new_identity(pod_name: str) -> str:
    """An identity that no other process has, nor this pod after a restart."""
    return f"{pod_name}_{secrets.token_hex(4)}"


@dataclass
class Leader:
    """One candidate. `run` is to be cancelled at the end, when what `started` has started is over."""

    api: LeaseApi
    terms: Terms
    started: Callable[[], None]
    """Called when this replica becomes the leader."""
    stopped: Callable[[], None]
    """Called when it is not any more, while no other can be it yet."""
    wall: Callable[[], datetime] = utc_now
    """What is written down for people."""
    randomness: Callable[[], float] = random.random
    """In [0, 1)."""
    leading: asyncio.Event = field(default_factory=asyncio.Event)
    """Set while this replica is the leader."""
    _until: float = 0.0
    """Loop time at which leadership ends unless it is renewed."""
    _sent: float = 0.0
    """Loop time of the newest write."""
    _lease: Manifest | None = None
    """The lease as this leader wrote it last."""
    _seen: Manifest | None = None
    """What the lease said when it was last seen to change, and when that was."""
    _seen_at: float = 0.0
    _respected_until: float = 0.0
    """Loop time at which the lease that was seen counts as abandoned."""

    @property
    def certain(self) -> bool:
        """Whether no other replica can be the leader at this very moment."""
        return self.leading.is_set() and _now() < self._until

    async def run(self) -> None:
        """Wait for leadership, keep it, lose it, for ever; when cancelled, hand it over."""
        try:
            while True:
                while not await self._try():
                    await asyncio.sleep(self._pause())
                await self._keep()
        finally:
            if self.leading.is_set():
                self._lose("it ends")
                await self._release()

    def _pause(self) -> float:
        """Seconds to the next try: not longer than the lease that was seen is valid."""
        pause = self.terms.retry_seconds * (1 + JITTER * self.randomness())
        left = self._respected_until - _now()
        return min(pause, left) if left > 0 else pause

    async def _keep(self) -> None:
        """Renew until that is no longer possible."""
        try:
            while self.leading.is_set():
                async with asyncio.timeout_at(self._until):  # which each success puts off
                    await asyncio.sleep(self.terms.retry_seconds)
                    await self._try()
        except TimeoutError:
            self._lose(f"the lease could not be renewed for {self.terms.renew_deadline_seconds:g} s")

    async def _try(self) -> bool:
        """Take the lease, or renew it; whether that worked."""
        try:
            lease = await self._write()
        except (ClusterError, TimeoutError) as error:
            logger.info("lease %s: %s", self.terms.name, str(error) or "no answer")
            return False
        until = self._sent + self.terms.renew_deadline_seconds
        if lease is None or _now() >= until:  # the process may have been stopped meanwhile
            return False
        self._lease, self._until = lease, until
        if not self.leading.is_set():
            logger.info("%s leads", self.terms.identity)
            self.leading.set()
            self.started()
        return True

    async def _write(self) -> Manifest | None:
        """The lease in our name; None when it is another's."""
        terms = self.terms
        if self.leading.is_set() and self._lease is not None:
            try:
                return await self._put(self.api.replace(LEASES, self._signed(self._lease)))
            except (ConflictError, NotFoundError):
                self._lease = None
        found = await self._soon(self.api.get(LEASES, terms.namespace, terms.name))
        if found is None:
            metadata = {"namespace": terms.namespace, "name": terms.name}
            new = {"apiVersion": f"{LEASES.group}/{LEASES.version}", "kind": "Lease", "metadata": metadata}
            return await self._put(self.api.create(LEASES, terms.namespace, self._signed(new)))
        if self._is_anothers(found):
            if self.leading.is_set():
                self._lose(f"the lease is {found['spec']['holderIdentity']}'s")
            return None
        return await self._put(self.api.replace(LEASES, self._signed(found)))

    async def _put(self, request: Awaitable[Manifest]) -> Manifest:
        self._sent = _now()  # others begin to count when the lease is written, which is not before
        return await self._soon(request)

    async def _soon(self, request: Awaitable[T]) -> T:
        """An answer in time for another try: a connection may be dead without anyone knowing."""
        async with asyncio.timeout(self.terms.renew_deadline_seconds / 2):
            return await request

    def _is_anothers(self, lease: Manifest) -> bool:
        spec = lease.get("spec") or {}
        if spec != self._seen:
            self._tell_holder(spec.get("holderIdentity"))
            self._seen, self._seen_at = spec, _now()
        if not spec.get("holderIdentity") or spec["holderIdentity"] == self.terms.identity:
            return False
        promised: float = spec.get("leaseDurationSeconds") or self.terms.duration_seconds
        self._respected_until = self._seen_at + promised
        return _now() < self._respected_until

    def _tell_holder(self, holder: str | None) -> None:
        """Whoever reads the log of this replica learns where to look, once for each leader."""
        if holder not in (None, "", self.terms.identity, (self._seen or {}).get("holderIdentity")):
            logger.info("%s waits: the leader is %s", self.terms.identity, holder)

    def _signed(self, lease: Manifest) -> Manifest:
        """The lease, renewed or taken over."""
        before, now = lease.get("spec") or {}, _micro_time(self.wall())
        spec = {
            **before,
            "holderIdentity": self.terms.identity,
            "leaseDurationSeconds": math.ceil(self.terms.duration_seconds),
            "renewTime": now,
        }
        if before.get("holderIdentity") != self.terms.identity:
            spec["acquireTime"] = now
            spec["leaseTransitions"] = before.get("leaseTransitions", -1) + 1
        return {**lease, "spec": spec}

    def _lose(self, why: str) -> None:
        logger.warning("%s does not lead any more: %s", self.terms.identity, why)
        self.leading.clear()
        self._lease = None
        self.stopped()

    async def _release(self) -> None:
        """Let another take the lease at once."""
        try:
            async with asyncio.timeout(self.terms.retry_seconds):
                lease = await self.api.get(LEASES, self.terms.namespace, self.terms.name)
                if lease is not None and lease["spec"].get("holderIdentity") == self.terms.identity:
                    spec = {**lease["spec"], "holderIdentity": "", "leaseDurationSeconds": 1}
                    await self.api.replace(LEASES, {**lease, "spec": spec})
        except (ClusterError, TimeoutError) as error:
            logger.warning("lease %s was not released: %s", self.terms.name, str(error) or "no answer")


@dataclass
class Alone:
    """The leader where there is no other replica, and no election."""

    started: Callable[[], None]
    stopped: Callable[[], None]
    leading: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def certain(self) -> bool:
        """Nobody else can be it."""
        return self.leading.is_set()

    async def run(self) -> None:
        """Lead until cancelled."""
        self.leading.set()
        self.started()
        try:
            await asyncio.Event().wait()
        finally:
            self.leading.clear()
            self.stopped()


def _now() -> float:
    return asyncio.get_running_loop().time()


def _micro_time(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
