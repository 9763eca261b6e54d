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
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from g2rpo_api.parse import parse_job
from g2rpo_api.status import JobStatus
from g2rpo_operator import cluster as api
from g2rpo_operator import render
from g2rpo_operator.world import Attempt, View, moment
from testcluster.cluster import Cluster as TestCluster
from testcluster.options import SCALE

ROOT = Path(__file__).resolve().parents[2]
NAMESPACE = "scale"
ACCOUNT = ("g2rpo-system", "g2rpo-operator")
GPUS_PER_NODE = 8
SIMULTANEOUS = 32
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
    cpu_seconds: float = 0.0
    memory_mib: float = 0.0


def manifest(index: int, pods: int) -> dict[str, Any]:
    """The miniature's job on several nodes with one GPU each."""
    document = yaml.safe_load((ROOT / "manifests/samples/miniature-g2rpo.yaml").read_text())
    document["metadata"] = {"name": f"job-{index:05d}", "namespace": NAMESPACE}
    document["spec"]["workers"] = {"nodes": pods, "processesPerNode": 1, "resourceName": "nvidia.com/gpu"}
    document["spec"]["training"]["prompts"]["perIteration"] = 2 * pods
    return document


async def many(count: int, work: Callable[[int], Awaitable[None]]) -> None:
    """Do numbered work, some of it at a time."""
    numbers = iter(range(count))

    async def worker() -> None:
        for number in numbers:
            await work(number)

    await asyncio.gather(*(worker() for _ in range(SIMULTANEOUS)))


async def until_all(count: int, finished: Callable[[], Awaitable[int]]) -> None:
    """Wait until so many are finished, saying how many are."""
    started = time.monotonic()
    while (done := await finished()) < count:
        print(f"  {time.monotonic() - started:5.0f} s: {done} of {count}", file=sys.stderr, flush=True)
        await asyncio.sleep(1 if done else 3)


async def bare(plane: TestCluster, count: int, pods: int) -> Outcome:
    """A client that creates the objects itself."""
    async with api.Cluster.connect(plane.kubeconfig) as client:
        started = time.monotonic()

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

        async def finished() -> int:
            jobs = await client.list(api.CHILD_JOBS, NAMESPACE)
            return sum("completionTime" in job.get("status", {}) for job in jobs)

        await many(count, create)
        await until_all(count, finished)
        seconds = time.monotonic() - started
        born = {job["metadata"]["name"]: job for job in await client.list(api.CONFIG_MAPS, NAMESPACE)}
        made = await client.list(api.PODS, NAMESPACE)
        return Outcome(seconds, [age(pod, born[pod["metadata"]["labels"]["job-name"]]) for pod in made])


def age(younger: dict[str, Any], older: dict[str, Any]) -> float:
    """Whole seconds from the creation of one object to that of another."""
    times = [moment(thing["metadata"]["creationTimestamp"]) for thing in (younger, older)]
    return (times[0] - times[1]).total_seconds()


@contextmanager
def operator(plane: TestCluster) -> Iterator[subprocess.Popen[bytes]]:
    """The operator as a process of its own, with its own account."""
    environment = os.environ | {
        "KUBECONFIG": str(plane.kubeconfig_for_service_account(*ACCOUNT)),
        "G2RPO_OPERATOR_LEADER_ELECTION": "false",
        "G2RPO_OPERATOR_PORT": "0",
        "G2RPO_OPERATOR_LOG_LEVEL": "WARNING",
    }
    process = subprocess.Popen([sys.executable, "-m", "g2rpo_operator"], env=environment)
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


async def operated(plane: TestCluster, count: int, pods: int) -> Outcome:
    """The operator gets the jobs."""
    for name in ("crd", "rbac"):
        plane.kubectl("apply", "-f", str(ROOT / f"manifests/{name}.yaml"))
    plane.kubectl("wait", "--for=condition=Established", "crd/g2rpojobs.g2rpo.dev")
    async with api.Cluster.connect(plane.kubeconfig) as client:
        with operator(plane) as process:
            started = time.monotonic()

            async def create(index: int) -> None:
                await client.create(api.JOBS, NAMESPACE, manifest(index, pods))

            async def finished() -> int:
                jobs = await client.list(api.JOBS, NAMESPACE)
                return sum(job.get("status", {}).get("phase") == "Succeeded" for job in jobs)

            await many(count, create)
            await until_all(count, finished)
            seconds = time.monotonic() - started
            cpu, memory = usage(process.pid)
        jobs = {job["metadata"]["name"]: job for job in await client.list(api.JOBS, NAMESPACE)}
        made = await client.list(api.PODS, NAMESPACE)
    return Outcome(
        seconds=seconds,
        pods_created=[age(pod, jobs[pod["metadata"]["labels"]["g2rpo.dev/job"]]) for pod in made],
        running=[start_seconds(job) for job in jobs.values() if "runningTime" in job["status"]],
        requests=requests(plane, count),
        cpu_seconds=cpu,
        memory_mib=memory,
    )


def start_seconds(job: dict[str, Any]) -> float:
    """Whole seconds from the creation of a job to all of its pods running."""
    return (moment(job["status"]["runningTime"]) - moment(job["metadata"]["creationTimestamp"])).total_seconds()


def usage(pid: int) -> tuple[float, float]:
    """CPU seconds and the highest resident memory in MiB of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    status = Path(f"/proc/{pid}/status").read_text()
    peak = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"), int(peak) / 1024


def requests(plane: TestCluster, count: int) -> dict[str, float]:
    """Requests of the operator's account per job."""
    user = f"system:serviceaccount:{ACCOUNT[0]}:{ACCOUNT[1]}"
    seen: Counter[str] = Counter()
    for event in plane.audit_events(user):
        if event["stage"] == "ResponseComplete":
            about = event.get("objectRef", {"resource": "discovery"})
            part = f"/{about['subresource']}" if "subresource" in about else ""
            seen[f"{event['verb']} {about['resource']}{part}"] += 1
    return {name: round(number / count, 3) for name, number in seen.most_common()}


def run(work: Callable[[TestCluster, int, int], Awaitable[Outcome]], count: int, pods: int) -> Outcome:
    """On a control plane of its own."""
    with TestCluster.started(SCALE) as plane:
        nodes = -(-count * pods // GPUS_PER_NODE)
        print(f"{work.__name__}: {nodes} nodes, {count} jobs x {pods} pods", file=sys.stderr, flush=True)
        plane.nodes(nodes, GPUS_PER_NODE)
        for namespace in (NAMESPACE, ACCOUNT[0]):
            plane.add_namespace(namespace)
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
    text += f"\nRatio of times {ratio:.2f}. Operator: {ours.cpu_seconds:.1f} s of CPU, {ours.memory_mib:.0f} MiB.\n\n"
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
