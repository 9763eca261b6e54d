"""Elections: in virtual time against a lease that obeys resourceVersion, and against a real API server."""

from __future__ import annotations

import asyncio
import copy
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from g2rpo_operator.cluster import Cluster
from g2rpo_operator.errors import AlreadyExistsError, ConflictError, NotFoundError, TransientError
from g2rpo_operator.leader import Alone, Leader, Terms, new_identity
from g2rpo_operator.resources import LEASES, Resource
from testcluster.cluster import Cluster as RealCluster
from testoperator.virtualtime import run

DURATION, DEADLINE, RETRY = 15.0, 10.0, 2.0
START = datetime(2026, 3, 1, 12, tzinfo=UTC)
Manifest = dict[str, Any]


@dataclass
class Etcd:
    """One lease with optimistic concurrency, as the API server keeps it."""

    lease: Manifest | None = None
    version: int = 0

    def write(self, manifest: Manifest) -> Manifest:
        self.version += 1
        self.lease = copy.deepcopy(manifest)
        self.lease["metadata"]["resourceVersion"] = str(self.version)
        return copy.deepcopy(self.lease)

    @property
    def holder(self) -> str:
        return "" if self.lease is None else self.lease["spec"]["holderIdentity"]


@dataclass
class Line:
    """One replica's connection: so slow, or cut at times. A request may take effect though no answer comes."""

    etcd: Etcd
    latency: float = 0.01
    cut: Callable[[float], bool] = lambda _: False
    hangs: bool = True
    """Whether a cut line leaves requests unanswered; otherwise they are refused."""
    writes: list[float] = field(default_factory=list)
    requests: int = 0

    async def get(self, resource: Resource, namespace: str, name: str) -> Manifest | None:
        assert (resource, namespace, name) == (LEASES, "g2rpo", "operator")
        return await self._through(lambda: copy.deepcopy(self.etcd.lease))

    async def create(self, _resource: Resource, _namespace: str, manifest: Manifest) -> Manifest:
        def effect() -> Manifest:
            if self.etcd.lease is not None:
                raise AlreadyExistsError("already exists")
            return self.etcd.write(manifest)

        return await self._through(effect)

    async def replace(self, _resource: Resource, manifest: Manifest) -> Manifest:
        def effect() -> Manifest:
            if self.etcd.lease is None:
                raise NotFoundError("not found")
            if manifest["metadata"]["resourceVersion"] != self.etcd.lease["metadata"]["resourceVersion"]:
                raise ConflictError("modified")
            self.writes.append(asyncio.get_running_loop().time())
            return self.etcd.write(manifest)

        return await self._through(effect)

    async def _through(self, effect: Callable[[], Any]) -> Any:
        self.requests += 1
        await self._one_way()
        answer = effect()
        await self._one_way()
        return answer

    async def _one_way(self) -> None:
        await asyncio.sleep(self.latency / 2)
        if self.cut(asyncio.get_running_loop().time()):
            if self.hangs:
                await asyncio.get_running_loop().create_future()
            raise TransientError("connection refused")


@dataclass
class Candidates:
    """Replicas on one lease; notes who led when, and fails the test when two do."""

    etcd: Etcd = field(default_factory=Etcd)
    history: list[tuple[float, str]] = field(default_factory=list)
    """When somebody began to lead, or with a minus in front, ceased."""
    leaders: dict[str, Leader] = field(default_factory=dict)
    tasks: dict[str, asyncio.Task[None]] = field(default_factory=dict)

    def join(self, name: str, line: Line | None = None, *, skew: timedelta = timedelta()) -> Leader:
        loop = asyncio.get_running_loop()

        def note(what: str) -> None:
            self.history.append((round(loop.time(), 3), what))
            leading = [one for one in self.leaders.values() if one.leading.is_set()]
            assert len(leading) <= 1, "two lead"

        leader = Leader(
            line or Line(self.etcd),
            Terms("g2rpo", "operator", name, DURATION, DEADLINE, RETRY),
            started=lambda: note(name),
            stopped=lambda: note(f"-{name}"),
            wall=lambda: START + skew + timedelta(seconds=loop.time()),
            randomness=lambda: 1.0,
        )
        self.leaders[name] = leader
        self.tasks[name] = asyncio.create_task(leader.run())
        return leader

    async def leave(self, *names: str) -> None:
        """Stop gracefully."""
        for name in names or list(self.tasks):
            task = self.tasks.pop(name)
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


def since(seconds: float) -> Callable[[float], bool]:
    return lambda now: now >= seconds


def between(begin: float, end: float) -> Callable[[float], bool]:
    return lambda now: begin <= now < end


def test_the_first_candidate_creates_the_lease_and_leads() -> None:
    candidates = Candidates()

    async def main() -> None:
        leader = candidates.join("a")
        await leader.leading.wait()
        assert leader.certain
        await candidates.leave()

    run(main())
    assert candidates.history == [(0.02, "a"), (0.02, "-a")]


def test_a_leader_renews_in_one_request_every_two_seconds_and_stays() -> None:
    candidates, line = Candidates(), Line(Etcd())

    async def main() -> None:
        candidates.join("a", line)
        await asyncio.sleep(600)
        assert len(candidates.history) == 1
        await candidates.leave()

    run(main())
    pauses = [later - earlier for earlier, later in zip(line.writes, line.writes[1:-1], strict=False)]
    assert max(pauses) <= RETRY + 0.011
    assert line.requests - len(line.writes) <= 4


def test_what_is_written_is_what_kubectl_shows() -> None:
    candidates = Candidates()

    async def main() -> Manifest:
        candidates.join("a")
        await asyncio.sleep(5)
        assert candidates.etcd.lease is not None
        spec = dict(candidates.etcd.lease["spec"])
        await candidates.leave()
        return spec

    assert run(main()) == {
        "holderIdentity": "a",
        "leaseDurationSeconds": 15,
        "acquireTime": "2026-03-01T12:00:00.010000Z",
        "renewTime": "2026-03-01T12:00:04.030000Z",
        "leaseTransitions": 0,
    }


def test_a_leader_that_goes_is_followed_within_seconds() -> None:
    candidates = Candidates()

    async def main() -> None:
        candidates.join("a")
        await asyncio.sleep(1)
        candidates.join("b")
        await asyncio.sleep(59)
        await candidates.leave("a")
        await asyncio.sleep(5)
        assert candidates.etcd.lease is not None
        assert candidates.etcd.lease["spec"]["leaseTransitions"] == 1
        await candidates.leave("b")

    run(main())
    (_, first), (left, second), (followed, third), _ = candidates.history
    assert (first, second, third) == ("a", "-a", "b")
    assert 0 < followed - left <= RETRY * 1.2 + 0.1


@pytest.mark.parametrize("death", [60.0, 60.5, 61.0, 61.5])
def test_a_leader_that_dies_is_followed_as_soon_as_its_lease_is_over(death: float) -> None:
    candidates = Candidates()

    async def main() -> None:
        candidates.join("a", Line(candidates.etcd, cut=since(death)))
        await asyncio.sleep(1)
        candidates.join("b")
        await asyncio.sleep(100)
        await candidates.leave()

    run(main())
    (_, first), (gave_up, second), (followed, third), *_ = candidates.history
    assert (first, second, third) == ("a", "-a", "b")
    assert gave_up <= death + DEADLINE
    seen_late = RETRY * 1.2  # the other may have looked at the lease just before it was renewed last
    assert gave_up < followed <= death + seen_late + DURATION + 0.1


@pytest.mark.parametrize("hangs", [True, False])
def test_a_leader_that_cannot_renew_gives_up_before_another_may_follow(hangs: bool) -> None:
    candidates = Candidates()

    async def main() -> None:
        line = Line(candidates.etcd, cut=between(60, 75), hangs=hangs)
        leader = candidates.join("a", line)
        await asyncio.sleep(65)
        assert leader.certain
        await asyncio.sleep(7)
        assert not leader.leading.is_set()
        assert not leader.certain
        await asyncio.sleep(20)
        assert leader.leading.is_set(), "and leads again when it can"
        assert candidates.etcd.lease is not None
        assert candidates.etcd.lease["spec"]["leaseTransitions"] == 0
        await candidates.leave()
        renewed = max(time for time in line.writes if time < 60)
        assert candidates.history[1][0] - renewed <= DEADLINE

    run(main())


def test_a_short_trouble_is_survived() -> None:
    candidates = Candidates()

    async def main() -> None:
        candidates.join("a", Line(candidates.etcd, cut=between(60, 66)))
        await asyncio.sleep(1)
        candidates.join("b")
        await asyncio.sleep(200)
        assert candidates.history == [(0.02, "a")]
        await candidates.leave()

    run(main())


def test_clocks_of_other_machines_do_not_matter() -> None:
    candidates = Candidates()

    async def main() -> None:
        candidates.join("a", skew=timedelta(hours=-5))
        await asyncio.sleep(1)
        candidates.join("b", skew=timedelta(hours=5))
        candidates.join("c")
        await asyncio.sleep(600)
        assert candidates.history == [(0.02, "a")]
        await candidates.leave()

    run(main())


def test_a_newcomer_respects_an_old_lease_for_as_long_as_its_holder_promised() -> None:
    candidates = Candidates()
    spec = {"holderIdentity": "dead", "leaseDurationSeconds": 40, "renewTime": "2020-01-01T00:00:00.000000Z"}
    candidates.etcd.write({"metadata": {"name": "operator", "namespace": "g2rpo"}, "spec": spec})

    async def main() -> None:
        candidates.join("a")
        await asyncio.sleep(60)
        await candidates.leave()

    run(main())
    assert 40 <= candidates.history[0][0] <= 40 + RETRY * 1.2 + 0.1


def test_a_lease_that_was_deleted_is_made_again_by_its_leader() -> None:
    candidates = Candidates()

    async def main() -> None:
        candidates.join("a")
        await asyncio.sleep(20.5)
        candidates.etcd.lease = None
        await asyncio.sleep(3)
        assert candidates.etcd.holder == "a"
        assert candidates.history == [(0.02, "a")]
        await candidates.leave()

    run(main())


def test_a_lease_that_someone_gave_to_another_ends_leadership_at_the_next_renewal() -> None:
    candidates = Candidates()

    async def main() -> None:
        leader = candidates.join("a")
        await asyncio.sleep(20.5)
        assert candidates.etcd.lease is not None
        lease = copy.deepcopy(candidates.etcd.lease)
        candidates.etcd.write({**lease, "spec": {**lease["spec"], "holderIdentity": "b"}})
        await asyncio.sleep(RETRY + 0.1)
        assert not leader.leading.is_set()
        await candidates.leave()

    run(main())
    assert candidates.etcd.holder == "b", "it is not released by one who does not hold it"


def test_whoever_goes_hands_over_even_if_the_lease_was_touched() -> None:
    candidates = Candidates()

    async def main() -> None:
        candidates.join("a")
        await asyncio.sleep(20.5)
        assert candidates.etcd.lease is not None
        candidates.etcd.write({**candidates.etcd.lease, "metadata": {"labels": {"a": "b"}}})
        await candidates.leave("a")

    run(main())
    assert candidates.etcd.holder == ""


def test_going_does_not_wait_for_a_server_that_is_away() -> None:
    candidates = Candidates()

    async def main() -> float:
        candidates.join("a", Line(candidates.etcd, cut=since(30)))
        await asyncio.sleep(31)
        await candidates.leave("a")
        return asyncio.get_running_loop().time()

    assert run(main()) <= 31 + RETRY
    assert candidates.history[-1] == (31.0, "-a")


outages = st.lists(st.tuples(st.floats(0, 120), st.floats(0.1, 40), st.booleans()), max_size=4)


def line_with(etcd: Etcd, latency: float, cuts: list[tuple[float, float, bool]]) -> Line:
    def cut(now: float) -> bool:
        return any(begin <= now < begin + length for begin, length, _ in cuts)

    return Line(etcd, latency, cut, hangs=any(hangs for *_, hangs in cuts))


@settings(max_examples=200)
@given(st.lists(st.tuples(st.floats(0.001, 3), outages), min_size=2, max_size=3), st.floats(0, 30))
def test_whatever_lines_do_two_never_lead_and_in_the_end_one_does(
    lines: list[tuple[float, list[tuple[float, float, bool]]]], offset: float
) -> None:
    candidates = Candidates()

    async def main() -> None:
        for index, (latency, cuts) in enumerate(lines):
            line = line_with(candidates.etcd, latency, cuts)
            candidates.join(f"r{index}", line, skew=timedelta(hours=7 * index))
            await asyncio.sleep(offset / len(lines))
        quiet = 165.0
        while asyncio.get_running_loop().time() < quiet + 30:
            await asyncio.sleep(0.5)
            certain = [name for name, one in candidates.leaders.items() if one.certain]
            assert len(certain) <= 1
            if certain:
                assert candidates.etcd.holder in (certain[0], "")
        assert len(certain) == 1, "all lines are fine since half a minute"
        tasks = list(candidates.tasks.values())
        await candidates.leave()
        assert all(task.cancelled() for task in tasks), "no callback raised"

    run(main())


def test_who_waits_says_for_whom_and_once(caplog: pytest.LogCaptureFixture) -> None:
    candidates = Candidates()

    async def main() -> None:
        for name in ("a", "b"):
            candidates.join(name)
            await asyncio.sleep(5)
        await asyncio.sleep(60)
        await candidates.leave("a")
        await asyncio.sleep(60)

    with caplog.at_level("INFO"):
        run(main())
    assert [line for line in caplog.messages if "waits" in line] == ["b waits: the leader is a"]


def test_an_identity_is_new_after_each_start() -> None:
    found = {new_identity("g2rpo-operator-0") for _ in range(100)}
    assert len(found) == 100
    assert all(re.fullmatch(r"g2rpo-operator-0_[0-9a-f]{8}", identity) for identity in found)


def test_without_election_one_leads_from_start_to_end() -> None:
    told: list[str] = []

    async def main() -> None:
        alone = Alone(lambda: told.append("started"), lambda: told.append("stopped"))
        assert not alone.certain
        task = asyncio.create_task(alone.run())
        await alone.leading.wait()
        assert alone.certain
        assert told == ["started"]
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    run(main())
    assert told == ["started", "stopped"]


@asynccontextmanager
async def candidate(cluster: RealCluster, namespace: str, name: str) -> AsyncIterator[Leader]:
    """A replica on a real API server, with a lease of a second."""
    async with Cluster.connect(cluster.kubeconfig) as api:
        terms = Terms(namespace, "operator", name, 1.0, 0.7, 0.1)
        leader = Leader(api, terms, started=lambda: None, stopped=lambda: None)
        task = asyncio.create_task(leader.run())
        try:
            yield leader
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


def lease_of(cluster: RealCluster, namespace: str) -> Manifest:
    return cluster.api.get(LEASES.path(namespace, "operator"))["spec"]


async def soon(what: Awaitable[Any]) -> None:
    await asyncio.wait_for(what, 30)


def test_on_a_real_api_server_the_lease_is_taken_kept_and_handed_over(cluster: RealCluster, namespace: str) -> None:
    async def main() -> None:
        async with candidate(cluster, namespace, "b") as second:
            async with candidate(cluster, namespace, "a") as first:
                both = [asyncio.create_task(one.leading.wait()) for one in (first, second)]
                await soon(asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED))
                assert first.leading.is_set() != second.leading.is_set()
                leader, name = (first, "a") if first.leading.is_set() else (second, "b")
                spec = await asyncio.to_thread(lease_of, cluster, namespace)
                assert (spec["holderIdentity"], spec["leaseDurationSeconds"]) == (name, 1)
                await soon(renewed(cluster, namespace, spec["renewTime"]))
                assert leader.leading.is_set()
            await soon(second.leading.wait())
            assert (await asyncio.to_thread(lease_of, cluster, namespace))["holderIdentity"] == "b"
        assert lease_of(cluster, namespace)["holderIdentity"] == ""

    asyncio.run(main())


async def renewed(cluster: RealCluster, namespace: str, before: str) -> None:
    """Wait until the lease says another time."""
    while (await asyncio.to_thread(lease_of, cluster, namespace))["renewTime"] == before:
        await asyncio.sleep(0.05)


def test_on_a_real_api_server_a_dead_leaders_lease_runs_out(cluster: RealCluster, namespace: str) -> None:
    spec = {"holderIdentity": "dead", "leaseDurationSeconds": 1, "leaseTransitions": 4}
    metadata = {"name": "operator", "namespace": namespace}
    body = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec}
    cluster.api.create(LEASES.path(namespace), body)

    async def main() -> None:
        async with candidate(cluster, namespace, "a") as leader:
            await soon(leader.leading.wait())
            found = await asyncio.to_thread(lease_of, cluster, namespace)
            assert (found["holderIdentity"], found["leaseTransitions"]) == ("a", 5)

    asyncio.run(main())
