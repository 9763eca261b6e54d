"""What the operator costs while nothing happens to it: memory, requests and CPU.

    PYTHONPATH=tests/cluster python benchmarks/operator/steady.py

Three states of one cluster, one after another: thousands of pods that are not ours, a thousand finished
jobs, and ten thousand jobs that wait for Kueue. Fails when foreign pods cost memory, when finished jobs
cause writes, or when waiting jobs cost more each than the first did. Writes steady.json and steady.md.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections import Counter
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from common import NAMESPACE, Operator, install, manifest, many, operator, requests, until_none

from g2rpo_api import contract
from g2rpo_operator import cluster as api
from testcluster.cluster import Cluster as TestCluster
from testcluster.options import SCALE

FOREIGN, FINISHED, WAITING = 5000, 1000, 10000
STEPS = 4
"""In how many equal parts the waiting jobs come."""
IDLE_SECONDS = 120
SETTLE_SECONDS = 10
WRITES = ("create", "update", "patch", "delete")
LARGEST_FOREIGN_MIB = 8.0
LARGEST_GROWTH = 1.25
"""Of what the last waiting jobs cost each, over the first."""


@dataclass(frozen=True)
class State:
    """The operator in some state of the cluster."""

    what: str
    jobs: int
    memory_mib: float
    cpu_seconds: float
    requests: dict[str, int]
    """Since the state before."""

    @property
    def writes(self) -> int:
        """Requests that change something."""
        return sum(count for name, count in self.requests.items() if name.split()[0] in WRITES)


@dataclass
class Measurement:
    """Takes states, each with what was requested since the last."""

    plane: TestCluster
    running: Operator
    seen: Counter[str]
    cpu: float = 0.0

    def take(self, what: str, jobs: int) -> State:
        """The state now."""
        now, cpu = requests(self.plane), self.running.cpu_seconds
        state = State(what, jobs, self.running.memory_mib(), cpu - self.cpu, dict(now - self.seen))
        self.seen, self.cpu = now, cpu
        print(f"  {what}: {state.memory_mib:.0f} MiB, {sum(state.requests.values())} requests", file=sys.stderr)
        return state


def foreign_pod(index: int) -> dict[str, Any]:
    """A pod of somebody else, which no node takes."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"foreign-{index}", "namespace": NAMESPACE, "labels": {"app": "other"}},
        "spec": {"schedulerName": "nobody", "containers": [{"name": "main", "image": "other"}]},
    }


async def finished_job(client: api.Cluster, index: int) -> None:
    """A job that succeeded some time ago."""
    made = await client.create(api.JOBS, NAMESPACE, manifest(index))
    condition = {
        "type": "Complete", "status": "True", "reason": "Completed", "message": "100 of 100 iterations",
        "lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": 1,
    }  # fmt: skip
    status = {
        "observedGeneration": 1, "phase": "Succeeded", "attempt": 1, "completionTime": "2026-01-01T00:00:00Z",
        "conditions": [condition],
    }  # fmt: skip
    await client.replace_status({**made, "status": status})


async def measure(plane: TestCluster) -> list[State]:
    """All states, in order; the finished jobs appear while no operator runs, which would begin them."""
    async with api.Cluster.connect(plane.kubeconfig) as client:
        with operator(plane) as running:
            await asyncio.sleep(SETTLE_SECONDS)
            measurement = Measurement(plane, running, requests(plane), running.cpu_seconds)
            states = [measurement.take("empty", 0)]
            await many(FOREIGN, lambda index: client.create(api.PODS, NAMESPACE, foreign_pod(index)))
            await asyncio.sleep(SETTLE_SECONDS)
            states.append(measurement.take(f"{FOREIGN} foreign pods", 0))
        await many(FINISHED, lambda index: finished_job(client, index))
        with operator(plane, G2RPO_OPERATOR_RESYNC_SECONDS="60") as running:
            await asyncio.sleep(SETTLE_SECONDS)
            measurement = Measurement(plane, running, requests(plane), running.cpu_seconds)
            await asyncio.sleep(IDLE_SECONDS)
            states.append(measurement.take(f"{IDLE_SECONDS} s with {FINISHED} finished jobs", FINISHED))
            for step in range(1, STEPS + 1):
                await wait_in_queue(client, step)
                states.append(measurement.take(f"{WAITING // STEPS} jobs wait", FINISHED + step * WAITING // STEPS))
        return states


async def wait_in_queue(client: api.Cluster, step: int) -> None:
    """One part of the waiting jobs more; returns when all of them are known to wait."""
    first, count = FINISHED + (step - 1) * WAITING // STEPS, WAITING // STEPS
    labels = {contract.LABEL_QUEUE: "team"}
    await many(count, lambda index: client.create(api.JOBS, NAMESPACE, manifest(first + index, labels=labels)))
    await until_none(client, api.JOBS, "status.phase!=Queued", contract.LABEL_QUEUE)
    print(f"{step * count} jobs wait", file=sys.stderr, flush=True)


def verdict(states: list[State]) -> list[str]:
    """What is not as it should be."""
    empty, foreign, idle, *waiting = states
    problems = []
    if foreign.memory_mib - empty.memory_mib > LARGEST_FOREIGN_MIB:
        problems.append(f"foreign pods cost {foreign.memory_mib - empty.memory_mib:.0f} MiB")
    if idle.writes:
        problems.append(f"{idle.writes} writes while nothing happened")
    costs = [sum(state.requests.values()) for state in waiting]
    if max(costs) > LARGEST_GROWTH * costs[0]:
        problems.append(f"requests for equal numbers of waiting jobs: {costs}")
    memory = [later.memory_mib - before.memory_mib for before, later in pairwise(states[2:])]
    if max(memory) > LARGEST_GROWTH * memory[0]:
        problems.append(f"memory for equal numbers of waiting jobs, MiB: {[round(value) for value in memory]}")
    return problems


def table(states: list[State]) -> str:
    """Markdown."""
    lines = ["| | jobs | memory, MiB | CPU, s | requests | of them writes |", "|---|---|---|---|---|---|"]
    for state in states:
        cells = [state.what, f"{state.jobs:,}", f"{state.memory_mib:.0f}", f"{state.cpu_seconds:.1f}"]
        cells += [f"{sum(state.requests.values()):,}", f"{state.writes:,}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("runs") / "steady")
    arguments = parser.parse_args()
    with TestCluster.started(SCALE) as plane:
        install(plane)
        states = asyncio.run(measure(plane))
    arguments.output.mkdir(parents=True, exist_ok=True)
    (arguments.output / "steady.json").write_text(json.dumps([asdict(state) for state in states], indent=1))
    (arguments.output / "steady.md").write_text(table(states))
    print(table(states), *verdict(states), sep="\n")
    return int(bool(verdict(states)))


if __name__ == "__main__":
    sys.exit(main())
