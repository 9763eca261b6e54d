"""Whole lives of jobs: the rule table drives a model of Kubernetes in which anything may happen at any time."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from itertools import product
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from g2rpo_operator.world import Target
from testoperator.kubernetes import Kubernetes, Pod
from testoperator.records import job
from testoperator.walk import Walk

LONGEST_CALM_ROUNDS = 400
picks = st.integers(0, 5)


def world_has(find: Callable[[Kubernetes], list[Pod]]) -> Callable[[Any], bool]:
    """Whether there is a pod to which this can happen."""
    return lambda machine: bool(find(machine.walk.kubernetes))


class AnyLife(RuleBasedStateMachine):
    """Whatever may happen to a job without anybody's fault: its life then ends well."""

    @initialize(
        nodes=st.sampled_from([1, 2]),
        queue=st.booleans(),
        restarts=st.integers(0, 3),
        disruptions=st.integers(0, 3),
        backoff=st.sampled_from([0, 10, 400]),
        deadline=st.sampled_from([None, 900, 4000]),
        keep=st.sampled_from([0, 2]),
        ttl=st.sampled_from([None, 0, 60]),
    )
    def create(self, nodes: int, queue: bool, **policy: Any) -> None:
        keys = {
            "restarts": "maxRestarts",
            "disruptions": "maxDisruptions",
            "backoff": "restartBackoffSeconds",
            "deadline": "activeDeadlineSeconds",
            "keep": "keepFailedAttempts",
            "ttl": "ttlSecondsAfterFinished",
        }
        limits = {"startTimeoutSeconds": 300, "progressTimeoutSeconds": 600, "terminationGracePeriodSeconds": 30}
        chosen = {keys[name]: value for name, value in policy.items() if value is not None}
        metadata = {"labels": {"kueue.x-k8s.io/queue-name": "gold"}} if queue else None
        self.walk = Walk(job(metadata, workers={"nodes": nodes}, policy=limits | chosen))
        self.queued = queue
        self.harmed = False
        self.ended = ""

    @property
    def world(self) -> Kubernetes:
        return self.walk.kubernetes

    def pick(self, pods: list[Pod], number: int) -> Pod:
        return pods[number % len(pods)]

    @rule(rounds=st.integers(1, 4))
    @precondition(lambda self: not self.walk.gone)
    def go_on(self, rounds: int) -> None:
        """A while in which everything goes its way, up to ranks that run."""
        for _ in range(rounds):
            self.walk.settle()
            self.control("jobs")
            for pod in self.world.unplaced():
                self.world.place(pod)
            for pod in self.world.placed():
                self.world.start(pod)
            self.control("garbage")

    @rule(writes=st.sampled_from([None, 0, 1, 2, 3]))
    @precondition(lambda self: not self.walk.gone)
    def look(self, writes: int | None) -> None:
        """Once; if a number of writes is given, the operator dies after them."""
        self.walk.look(writes=writes)

    @rule()
    @precondition(lambda self: not self.walk.gone)
    def look_soon_after_another_look(self) -> None:
        self.walk.look(lazily=True)

    @rule()
    def restart_the_operator(self) -> None:
        self.walk.restart()

    @rule(which=st.sampled_from(["jobs", "garbage", "nodes"]))
    def control(self, which: str) -> None:
        if which == "jobs":
            self.world.control_jobs()
        elif which == "garbage":
            self.world.collect_garbage()
        else:
            self.world.give_up_lost_nodes()

    @precondition(world_has(Kubernetes.unplaced))
    @rule(number=picks)
    def place(self, number: int) -> None:
        self.world.place(self.pick(self.world.unplaced(), number))

    @precondition(world_has(Kubernetes.placed))
    @rule(number=picks)
    def start(self, number: int) -> None:
        self.world.start(self.pick(self.world.placed(), number))

    @precondition(world_has(Kubernetes.leaving))
    @rule(number=picks, code=st.sampled_from([75, 143, 0]))
    def leave(self, number: int, code: int) -> None:
        pod = self.pick(self.world.leaving(), number)
        self.world.end(pod, code if pod.phase == "Running" else None)

    @precondition(world_has(Kubernetes.running))
    @rule(number=picks)
    def finish(self, number: int) -> None:
        self.world.end(self.pick(self.world.running(), number), 0)

    @precondition(world_has(Kubernetes.running))
    @rule()
    def tell(self) -> None:
        self.walk.tell()

    @rule(wish=st.sampled_from([{"suspend": True}, {"suspend": False}, {"stop": True}]))
    def wish(self, wish: dict[str, bool]) -> None:
        self.walk.change(**wish)

    @precondition(lambda self: self.queued and any(not each.over for each in self.world.jobs.values()))
    @rule(admitted=st.booleans())
    def admit_or_evict(self, admitted: bool) -> None:
        for each in self.world.jobs.values():
            each.suspended = not admitted and not each.over

    @rule(seconds=st.integers(1, 9))
    def wait_a_little(self, seconds: int) -> None:
        self.world.now += timedelta(seconds=seconds)

    # always

    @invariant()
    def nothing_runs_twice(self) -> None:
        if hasattr(self, "walk"):
            self.walk.check()

    def teardown(self) -> None:
        if hasattr(self, "walk"):
            self.calm_down()

    def calm_down(self) -> None:
        """From any world, a job that is left alone ends; well, if nothing did it harm."""
        self.walk.change(suspend=False)
        for _ in range(LONGEST_CALM_ROUNDS):
            for each in self.world.jobs.values():
                each.suspended = False
            self.world.give_up_lost_nodes()
            self.walk.calm_round()
            if self.walk.status.finished:
                break
        told = self.walk.status
        assert told.finished, f"{told.phase} after {LONGEST_CALM_ROUNDS} rounds"
        if not self.harmed:
            assert told.phase == "Succeeded", told.conditions
        self.leave_alone()

    def leave_alone(self) -> None:
        """Of a job that ended nothing runs on, and when its time is over it goes."""
        for _ in range(5):
            if self.walk.gone:
                return
            self.walk.calm_round()
        assert self.world.alive() == []
        assert all(each.over for each in self.world.jobs.values())
        self.world.now += timedelta(seconds=100)
        self.walk.look()
        assert self.walk.gone == (self.walk.job.spec.policy.ttl_seconds_after_finished is not None)


class HardLife(AnyLife):
    """The same with everything that goes wrong; the job then ends, well or not."""

    @precondition(world_has(Kubernetes.running))
    @rule(number=picks, code=st.sampled_from([1, 2, 3, 5, 7, 137, 139]))
    def crash(self, number: int, code: int) -> None:
        self.harmed = True
        self.world.end(self.pick(self.world.running(), number), code)

    @precondition(world_has(Kubernetes.alive))
    @rule(number=picks, how=st.sampled_from(["preempt", "delete", "evict"]))
    def take_a_pod(self, number: int, how: str) -> None:
        self.harmed = True
        pod = self.pick(self.world.alive(), number)
        if how == "evict" and pod in self.world.running():
            self.world.evict(pod)
        else:
            self.world.send_away(pod, "PreemptionByScheduler" if how == "preempt" else "")

    @rule(node=st.sampled_from(["node-0", "node-1"]))
    def lose_a_node(self, node: str) -> None:
        self.harmed = True
        self.world.lost.add(node)

    @rule()
    def nodes_come_back(self) -> None:
        self.world.lost.clear()

    @precondition(lambda self: bool(self.world.jobs))
    @rule(how=st.sampled_from(["background", "foreground", "orphan"]))
    def delete_a_job(self, how: str) -> None:
        self.harmed = self.walk.meddled = True
        found = max(self.world.jobs.values(), key=lambda each: each.uid)
        if how == "background":
            self.world.delete(Target("Job", "", found.uid))
        elif how == "orphan":
            self.world.delete_alone(found)
        else:
            found.deleting = True

    @precondition(lambda self: bool(self.world.parts))
    @rule(number=picks)
    def delete_a_part(self, number: int) -> None:
        found = sorted(self.world.parts)
        self.world.delete(Target("ConfigMap", "", found[number % len(found)]))

    @rule(seconds=st.sampled_from([30, 299, 700, 5000]))
    def wait_long(self, seconds: int) -> None:
        self.harmed = True
        self.world.now += timedelta(seconds=seconds)

    @rule(image=st.sampled_from(["registry.example/a:1", "registry.example/b:1"]))
    def change_the_image(self, image: str) -> None:
        self.walk.change(image=image)


def run_ranks(walk: Walk) -> None:
    """Objects are created, pods start, and the operator sees them run."""
    walk.settle()
    walk.kubernetes.control_jobs()
    for pod in walk.kubernetes.unplaced():
        walk.kubernetes.place(pod)
    for pod in walk.kubernetes.placed():
        walk.kubernetes.start(pod)
    walk.settle()
    walk.tell()


def end_ranks(walk: Walk, *codes: int) -> None:
    """Ranks end with these codes, and the Job controller counts them."""
    for pod, code in zip(walk.kubernetes.running(), codes, strict=True):
        walk.kubernetes.end(pod, code)
    for _ in range(2):
        walk.kubernetes.control_jobs()
        walk.kubernetes.collect_garbage()
    walk.settle()


def whole_life(dies_before: tuple[int, ...] = ()) -> tuple[Walk, list[Any]]:
    """Run, fault, restart, suspend, resume, succeed, be deleted; with what was to be seen after each of them."""
    policy = {"ttlSecondsAfterFinished": 60, "terminationGracePeriodSeconds": 30}
    walk = Walk(job(policy=policy), dies_before=list(dies_before))
    seen = []

    def note() -> None:
        walk.check()
        told, world = walk.status, walk.kubernetes
        counters = told.attempt, told.restarts, told.disruptions, told.image, told.seed
        reasons = {(found.type, found.status, found.reason) for found in told.conditions}
        names = sorted(each.created["metadata"]["name"] for each in world.jobs.values())
        parts = sorted((part["kind"], part["metadata"]["name"]) for part in world.parts.values())
        seen.append((told.phase, counters, reasons, names, parts, sorted(pod.attempt for pod in world.pods.values())))

    run_ranks(walk)
    note()
    end_ranks(walk, 1, 75)
    note()
    walk.kubernetes.now += timedelta(seconds=10)
    run_ranks(walk)
    note()
    walk.change(suspend=True)
    walk.settle()
    walk.kubernetes.collect_garbage()
    end_ranks(walk, 75, 75)
    note()
    walk.change(suspend=False)
    run_ranks(walk)
    note()
    end_ranks(walk, 0, 0)
    note()
    walk.kubernetes.now += timedelta(seconds=60)
    while not walk.gone and walk.status.finished:
        walk.look()
    return walk, seen


def test_a_life_has_its_phases_and_counts_what_happened() -> None:
    walk, seen = whole_life()
    assert [phase for phase, *_ in seen] == ["Running", "Restarting", "Running", "Suspended", "Running", "Succeeded"]
    assert [counters[:3] for _, counters, *_ in seen] == [
        (1, 0, 0), (2, 1, 0), (2, 1, 0), (3, 1, 0), (3, 1, 0), (3, 1, 0),
    ]  # fmt: skip
    assert [names for *_, names, _, _ in seen] == [
        ["portrait-a1"],
        ["portrait-a1"],
        ["portrait-a1", "portrait-a2"],
        ["portrait-a1"],
        ["portrait-a1", "portrait-a3"],
        ["portrait-a1", "portrait-a3"],
    ], "the failed attempt is kept"
    assert walk.gone


def test_an_operator_that_dies_before_any_of_its_writes_changes_nothing_in_the_end() -> None:
    walk, seen = whole_life()
    assert walk.writes > 15
    for number in range(walk.writes):
        interrupted, found = whole_life((number,))
        assert interrupted.dies_before == [], "it died"
        assert found == seen, f"died before write {number}"
        assert interrupted.gone


def test_dying_again_right_after_is_no_worse() -> None:
    walk, seen = whole_life()
    for first, second in product(range(walk.writes), (0, 1, 2)):
        interrupted, found = whole_life((first, first + second))
        assert found == seen, f"died before write {first}, and {second} writes later"
        assert interrupted.gone


TestAnyLife = AnyLife.TestCase
TestHardLife = HardLife.TestCase
TestAnyLife.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
TestHardLife.settings = settings(max_examples=80, stateful_step_count=50, deadline=None)
