"""`python -m g2rpo_operator`: settings from the environment, then everything that runs side by side.

The composition root: the only place that knows all parts. It ends with 0 on SIGTERM, with 2 for settings
that cannot be right, with 1 for anything else, after which Kubernetes starts it again.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial

import aiohttp
import kopf

from g2rpo_operator import handlers
from g2rpo_operator.cluster import Cluster
from g2rpo_operator.errors import ClusterError
from g2rpo_operator.fetch import PodFetch, ProxyFetch
from g2rpo_operator.health import LoopLag, health_checks, ready_checks
from g2rpo_operator.leader import Alone, Leader, Terms, new_identity
from g2rpo_operator.logs import set_up
from g2rpo_operator.metrics import Metrics
from g2rpo_operator.progress import Board, Fetch, Poller
from g2rpo_operator.reconcile import RESOURCES, Reconciler
from g2rpo_operator.resync import Resync
from g2rpo_operator.server import serving
from g2rpo_operator.settings import PREFIX, Settings, SettingsError
from g2rpo_operator.store import Store
from g2rpo_operator.watch import Intake, Watch
from g2rpo_operator.workqueue import Run, WorkQueue
from g2rpo_operator.world import KINDS, Summary

logger = logging.getLogger("g2rpo_operator")

DRAIN_SECONDS = 5.0
"""How long looks under way may take when the operator is asked to end."""
RETRY_SECONDS = 2.0


class CannotRunError(Exception):
    """The process has to end; the text says why, and what helps."""


@dataclass
class Operator:
    """One replica: what it knows, and the parts that act on it."""

    settings: Settings
    metrics: Metrics
    intake: Intake
    watches: Sequence[Watch]
    """Of what belongs to jobs; kopf watches the jobs themselves."""
    board: Board
    queue: WorkQueue
    resync: Resync
    poller: Poller
    election: Leader | Alone
    lag: LoopLag
    lost: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when leadership ends, even if it begins again at once."""
    defined: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the cluster was found to know jobs."""

    async def lead(self) -> None:
        """While this replica is the leader: list everything, then let the queue run; list again from time to time."""
        while True:
            self.lost.clear()
            await self.election.leading.wait()
            await self.defined.wait()
            await self._listed(wake_all=True)
            if not self.lost.is_set():
                self.queue.resume()
            while not await self._lost_within(self.settings.resync_seconds):
                await self._listed(wake_all=False)

    async def _lost_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                return await self.lost.wait()
        except TimeoutError:
            return False

    async def _listed(self, *, wake_all: bool) -> None:
        """A complete list, as soon as the API server gives one."""
        while True:
            try:
                return await self.resync.run_once(wake_all=wake_all)
            except ClusterError as error:
                logger.warning("cannot list: %s; again in %g s", error, RETRY_SECONDS)
                await asyncio.sleep(RETRY_SECONDS)

    async def poll(self) -> None:
        """Ask trainers for their progress, as long as this replica is the leader."""
        while True:
            await self.election.leading.wait()
            began = time.monotonic()
            await self.poller.round()
            await asyncio.sleep(max(0.0, self.settings.progress_interval_seconds - (time.monotonic() - began)))

    def started(self) -> None:
        """This replica is the leader now; `lead` goes on from here."""
        self.metrics.leader.set(1)

    def stopped(self) -> None:
        """It is not any more: nothing is written from this moment on."""
        self.metrics.leader.set(0)
        self.lost.set()
        self.queue.pause()

    async def run(self) -> None:
        """Until SIGTERM. Then looks end and the lease is handed over first: another replica need not wait for us."""
        ending = asyncio.Event()
        parts = (self.lead, self.poll, self.lag.run, *(watch.run for watch in self.watches))
        async with asyncio.TaskGroup() as tasks:
            background = [tasks.create_task(part()) for part in parts]
            election = tasks.create_task(self.election.run())
            background.append(tasks.create_task(self._watch(ending)))
            await ending.wait()
            await self.queue.drain(DRAIN_SECONDS)
            election.cancel()
            await asyncio.wait([election])
            for task in background:
                task.cancel()

    async def _defined(self) -> None:
        """Wait until the cluster knows jobs: a kind that is not known when watches start is never watched."""
        told = ""
        while True:
            try:
                served = await self.resync.served()
                wrong = "" if served else "the cluster does not know G2RPOJob; waiting for its definition"
            except ClusterError as error:
                wrong = f"cannot see whether the cluster knows G2RPOJob: {error}"
            if not wrong:
                self.defined.set()
                return
            if wrong != told:
                logger.warning("%s", wrong)
            told = wrong
            await asyncio.sleep(RETRY_SECONDS)

    async def _watch(self, ending: asyncio.Event) -> None:
        """Feed the store for ever.

        Raises:
            CannotRunError: the definition of jobs was deleted, after which kopf ends every task.
        """
        heed_signals(ending)
        await self._defined()
        namespaces = self.settings.namespaces
        ours = asyncio.all_tasks()
        watches = await kopf.spawn_tasks(
            registry=handlers.registry(self.intake),
            settings=handlers.operator_settings(self.settings),
            standalone=True,
            clusterwide=not namespaces,
            namespaces=namespaces,
        )
        heed_signals(ending)  # again: kopf would end the watches first, which takes seconds
        try:
            await kopf.run_tasks(watches, ignored=ours)
        except Exception as error:
            if not await self.resync.served():
                raise CannotRunError(
                    "the cluster does not know G2RPOJob any more: its definition was deleted; starting again, and "
                    "waiting for it"
                ) from error
            raise
        raise RuntimeError("the watches ended, and nobody asked them to")


def heed_signals(ending: asyncio.Event) -> None:
    """Ctrl-C and Kubernetes ask the process to end."""
    for sign in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(sign, ending.set)


async def assemble(settings: Settings, stack: AsyncExitStack) -> Operator:
    """Every part, connected."""
    store, board = Store(), Board()
    operator: Operator

    def jobs() -> list[Summary]:
        return store.summaries() if operator.election.leading.is_set() else []

    metrics = Metrics(jobs)
    identity = new_identity(settings.pod_name)
    watched = [(kind, place) for kind in RESOURCES if kind != "G2RPOJob" for place in settings.namespaces or (None,)]
    cluster = await stack.enter_async_context(
        Cluster.connect(
            settings.kubeconfig,
            settings.request_timeout_seconds,
            settings.connections + len(watched),
            count=metrics.count_request,
            instance=identity,
        )
    )
    reconciler = Reconciler(cluster, store, board, settings, metrics, now)
    queue = WorkQueue(reconciler.look, settings.workers, lambda run: count(metrics, run))
    resync = Resync(cluster, store, settings.namespaces, queue.wake, time.monotonic)
    fetch = await fetcher(settings, cluster, stack)
    poller = Poller(cluster, board, fetch, queue.wake, metrics, now)
    election = elect(settings, cluster, identity, lambda: operator.started(), lambda: operator.stopped())
    intake = Intake(store, queue)
    watches = [Watch(cluster, intake, kind, namespace) for kind, namespace in watched]
    lag = LoopLag(time.monotonic)
    operator = Operator(settings, metrics, intake, watches, board, queue, resync, poller, election, lag)
    return operator


def now() -> datetime:
    """The moment."""
    return datetime.now(UTC)


def elect(
    settings: Settings, cluster: Cluster, identity: str, started: Callable[[], None], stopped: Callable[[], None]
) -> Leader | Alone:
    """The election, where there is one."""
    if not settings.leader_election:
        return Alone(started, stopped)
    terms = Terms(
        settings.election_namespace,
        settings.lease_name,
        identity,
        settings.lease_duration_seconds,
        settings.lease_renew_deadline_seconds,
        settings.lease_retry_seconds,
    )
    return Leader(cluster, terms, started, stopped)


def count(metrics: Metrics, run: Run) -> None:
    """A look has ended."""
    metrics.count_look(run.waited_seconds, run.took_seconds, run.error)


async def fetcher(settings: Settings, cluster: Cluster, stack: AsyncExitStack) -> Fetch:
    """The way to trainers."""
    if settings.progress_via == "APIServer":
        return ProxyFetch(cluster)
    session = await stack.enter_async_context(aiohttp.ClientSession())
    return PodFetch(session, settings.progress_timeout_seconds)


async def run(settings: Settings) -> None:
    """One replica, until SIGTERM.

    Raises:
        CannotRunError: it cannot go on.
    """
    async with AsyncExitStack() as stack:
        operator = await assemble(settings, stack)
        metrics, queue, resync = operator.metrics, operator.queue, operator.resync
        metrics.queue_depth.set_function(lambda: queue.depth)
        metrics.queue_stuck_seconds.set_function(lambda: max(queue.in_flight.values(), default=0.0))
        for kind in KINDS:
            metrics.watch_silent_seconds.labels(kind).set_function(partial(resync.silent_seconds, kind))
        answers = serving(
            settings.host,
            settings.port,
            metrics,
            health=health_checks(queue, resync, operator.lag),
            ready=ready_checks(resync, operator.election),
        )
        try:
            port = await stack.enter_async_context(answers)
        except OSError as error:
            raise CannotRunError(f"{error.strerror}; choose another port by {PREFIX}PORT") from error
        logger.info("metrics and health on port %d; %s", port, ", ".join(settings.namespaces) or "all namespaces")
        await operator.run()


def collect_garbage_seldom() -> None:
    """Watches bring thousands of short-lived dictionaries without cycles; looking for cycles among them took a quarter
    of the operator's time. Ten thousand more of them at a time cost some megabytes."""
    gc.freeze()  # what was imported stays
    gc.set_threshold(10_000, 20, 50)


def main() -> int:
    """The process's exit code."""
    try:
        settings = Settings.from_environment(os.environ)
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    set_up(settings.log_format, settings.log_level)
    if settings.kubeconfig is not None:
        os.environ["KUBECONFIG"] = str(settings.kubeconfig)  # for kopf, which reads nothing else
    collect_garbage_seldom()
    wrong = ""
    try:
        asyncio.run(run(settings))
    except* CannotRunError as group:
        wrong = str(group.exceptions[0])
    if wrong:
        logger.error("%s", wrong)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
