"""Many jobs at once: how long the operator takes beside a client that creates the same objects itself.

    PYTHONPATH=tests/cluster python benchmarks/operator/scale.py --jobs 1000 --pods 4

Two fresh control planes in one run, each with fake nodes of 8 GPUs whose pods run for 5 seconds. In the first,
a bare client creates a ConfigMap, a Service and an Indexed Job for every job and waits until all Jobs are
complete. In the second, the operator gets as many G2RPOJobs and all of them must succeed. Fails when the
ratio of the two times is above 1.3. Writes scale.json and scale.md.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from common import NAMESPACE, cpu_seconds, install, manifest, many, operator, requests, until_none

from g2rpo_api.parse import parse_job
from g2rpo_api.status import JobStatus
from g2rpo_operator import cluster as api
from g2rpo_operator import render
from g2rpo_operator.world import Attempt, View, moment
from testcluster.cluster import Cluster as TestCluster
from testcluster.options import SCALE

GPUS_PER_NODE = 8
LARGEST_RATIO = 1.3


@dataclass
class Outcome:
    """What one of the two took."""

    seconds: float
    """From the first request to the last job's end."""
    pods_created: list[float]
    """Seconds from the creation of what a person would create to each of its pods."""
    running: list[float] = field(default_factory=list)
    """Seconds from the creation of a G2RPOJob to its status Running."""
    requests: dict[str, float] = field(default_factory=dict)
    """Requests per job by verb and resource, as the API server's audit log counts them."""
    cpu_seconds: dict[str, float] = field(default_factory=dict)
    """CPU time that each process took meanwhile."""
    memory_mib: float = 0.0
    """Largest resident memory of the operator."""


async def bare(plane: TestCluster, count: int, pods: int) -> Outcome:
    """A client that creates the objects itself."""
    async with api.Cluster.connect(plane.kubeconfig) as client:
        started, before = time.monotonic(), cpu_of(plane)

        async def create(index: int) -> None:
            job = parse_job(manifest(index, pods))
            view = View(job, f"bare-{index}", 1, JobStatus(), Attempt(1), None, datetime.now(UTC), "g2rpo/trainer:0")
            for resource, made in (
                (api.CONFIG_MAPS, render.config_map(view)),
                (api.SERVICES, render.service(view)),
                (api.CHILD_JOBS, render.child_job(view, 15)),
            ):
                del made["metadata"]["ownerReferences"]  # its owner is nobody
                await client.create(resource, NAMESPACE, made)

        await many(count, create)
        await until_none(client, api.CHILD_JOBS, f"status.successful!={pods}")
        seconds, cpu = time.monotonic() - started, cpu_of(plane) - before
        born = {job["metadata"]["name"]: job for job in await client.list(api.CONFIG_MAPS, NAMESPACE)}
        made = await client.list(api.PODS, NAMESPACE)
        ages = [age(pod, born[pod["metadata"]["labels"]["job-name"]]) for pod in made]
        return Outcome(seconds, ages, cpu_seconds=dict(cpu))


def cpu_of(plane: TestCluster) -> Counter[str]:
    """CPU time that every process has used so far, the client that is this program included."""
    names = {component.name: component.pid for component in plane.components} | {"client": os.getpid()}
    return Counter({name: cpu_seconds(pid) for name, pid in names.items()})


def age(younger: dict[str, Any], older: dict[str, Any]) -> float:
    """Whole seconds from the creation of one object to that of another."""
    times = [moment(thing["metadata"]["creationTimestamp"]) for thing in (younger, older)]
    return (times[0] - times[1]).total_seconds()


async def operated(plane: TestCluster, count: int, pods: int) -> Outcome:
    """The operator gets the jobs."""
    async with api.Cluster.connect(plane.kubeconfig) as client:
        with operator(plane) as running:
            started, before, idle = time.monotonic(), cpu_of(plane), running.cpu_seconds

            async def create(index: int) -> None:
                await client.create(api.JOBS, NAMESPACE, manifest(index, pods))

            await many(count, create)
            await until_none(client, api.JOBS, "status.phase!=Succeeded")
            seconds, cpu = time.monotonic() - started, cpu_of(plane) - before
            cpu["operator"] = running.cpu_seconds - idle
            memory = running.memory_mib("VmHWM")
        jobs = {job["metadata"]["name"]: job for job in await client.list(api.JOBS, NAMESPACE)}
        made = await client.list(api.PODS, NAMESPACE)
    return Outcome(
        seconds=seconds,
        pods_created=[age(pod, jobs[pod["metadata"]["labels"]["g2rpo.dev/job"]]) for pod in made],
        running=[start_seconds(job) for job in jobs.values() if "runningTime" in job["status"]],
        requests={name: round(number / count, 3) for name, number in requests(plane).most_common()},
        cpu_seconds=dict(cpu),
        memory_mib=memory,
    )


def start_seconds(job: dict[str, Any]) -> float:
    """Whole seconds from the creation of a job to all of its pods running."""
    return (moment(job["status"]["runningTime"]) - moment(job["metadata"]["creationTimestamp"])).total_seconds()


def run(work: Callable[[TestCluster, int, int], Awaitable[Outcome]], count: int, pods: int) -> Outcome:
    """On a control plane of its own."""
    with TestCluster.started(SCALE) as plane:
        nodes = -(-count * pods // GPUS_PER_NODE)
        print(f"{work.__name__}: {nodes} nodes, {count} jobs x {pods} pods", file=sys.stderr, flush=True)
        plane.nodes(nodes, GPUS_PER_NODE)
        install(plane)
        return asyncio.run(work(plane, count, pods))


def table(outcomes: dict[str, Outcome], count: int) -> str:
    """Markdown."""
    lines = [
        "| | jobs/min to Succeeded | seconds | create to pods: p50, p99 | create to Running: p50, p99 |",
        "|---|---|---|---|---|",
    ]
    for name, outcome in outcomes.items():
        cells = [f"{60 * count / outcome.seconds:.0f}", f"{outcome.seconds:.1f}"]
        cells += [percentiles(values) for values in (outcome.pods_created, outcome.running)]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def cpu_table(outcomes: dict[str, Outcome], count: int) -> str:
    """Markdown: where the time goes on a machine that has nothing else to do."""
    names = list(outcomes["operator"].cpu_seconds)
    lines = [f"| CPU per job, ms | {' | '.join(names)} | all |", "|---" * (len(names) + 2) + "|"]
    for name, outcome in outcomes.items():
        took = [1000 * outcome.cpu_seconds.get(process, 0.0) / count for process in names]
        lines.append(f"| {name} | {' | '.join(f'{value:.1f}' for value in (*took, sum(took)))} |")
    return "\n".join(lines) + "\n"


def percentiles(seconds: list[float]) -> str:
    if not seconds:
        return ""
    cuts = statistics.quantiles(seconds, n=100, method="inclusive")
    return f"{cuts[49]:.0f} s, {cuts[98]:.0f} s"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--pods", type=int, default=4)
    parser.add_argument("--output", type=Path, default=Path("runs") / "scale")
    arguments = parser.parse_args()
    outcomes = {
        "bare client": run(bare, arguments.jobs, arguments.pods),
        "operator": run(operated, arguments.jobs, arguments.pods),
    }
    ours, ratio = outcomes["operator"], outcomes["operator"].seconds / outcomes["bare client"].seconds
    text = table(outcomes, arguments.jobs)
    text += f"\nRatio of times {ratio:.2f}. Operator: at most {ours.memory_mib:.0f} MiB.\n\n"
    text += cpu_table(outcomes, arguments.jobs) + "\n"
    text += "| requests of the operator | per job |\n|---|---|\n"
    text += "".join(f"| {name} | {number:g} |\n" for name, number in ours.requests.items())
    arguments.output.mkdir(parents=True, exist_ok=True)
    (arguments.output / "scale.md").write_text(text)
    record = {name: outcome.__dict__ for name, outcome in outcomes.items()}
    (arguments.output / "scale.json").write_text(json.dumps(record))
    print(text)
    return int(ratio > LARGEST_RATIO)


if __name__ == "__main__":
    sys.exit(main())
