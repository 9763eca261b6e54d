"""Jobs in every phase on a real control plane, under a running operator that a real Prometheus scrapes.

Who calls this: the tests of the dashboards, and the making of their pictures.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from g2rpo_api import contract
from live.operators import PORT, Operator, Stage, install
from live.recorder import Recorder
from live.trainer import last_word
from live.world import World
from monitoring.ask import Prometheus, Span
from monitoring.queries import OPERATOR
from testcluster.cluster import Cluster
from testcluster.process import wait_until
from testmonitoring.scraping import SCRAPE_SECONDS, Targets, scraping

TEAMS = ("art", "science")
GPU_NODES = {"fleet": "true"}
GPUS = {"nodes": 2, "processesPerNode": 2, "resourceName": "nvidia.com/gpu", "nodeSelector": GPU_NODES}
FIRST, LAST = 4, 20
"""Iterations that trainers tell of."""


@contextmanager
def recorded(cluster: Cluster, folder: Path) -> Iterator[tuple[Prometheus, Span]]:
    """A Prometheus that has seen the jobs live, and from when to when."""
    with ExitStack() as closing:
        install(cluster)
        recorder = Recorder(cluster.api)
        recorder.start()
        stage = Stage(cluster, recorder)
        closing.callback(stage.close)
        for namespace in TEAMS:
            cluster.add_namespace(namespace)
            closing.callback(cluster.remove_namespace, namespace)
        nodes = cluster.nodes(2, gpus=4, prefix="fleet", labels=GPU_NODES, taint=True)
        for node in [*nodes, *cluster.nodes(2, gpus=0, prefix="plain")]:
            closing.callback(cluster.remove_node, node)
        operator = stage.operator(*TEAMS)
        start = time.time()
        targets = Targets(operators=(f"{operator.address}:{PORT}",))
        prometheus = closing.enter_context(scraping(targets, folder))
        operator.start()
        wait_until(operator.leads, "the operator leads")
        wait_until(lambda: newest(prometheus) > start, "there is something to count from")
        live(stage, operator)
        end = time.time() + SCRAPE_SECONDS  # a panel's last point may be so much earlier than the span's end
        wait_until(lambda: newest(prometheus) > end, "what happened is scraped")
        yield prometheus, Span(start, newest(prometheus), SCRAPE_SECONDS)


def newest(prometheus: Prometheus) -> float:
    """When the operator was scraped last."""
    found = prometheus.at(f"timestamp({OPERATOR}leader)", time.time())
    return max((float(value) for series in found for _, value in series["values"]), default=0.0)


def live(stage: Stage, operator: Operator) -> None:
    """One job that a fault interrupts, one that a person suspends, one that waits, one that fails, one that is done."""

    def world(name: str, team: str) -> World:
        return World(stage, operator, team, name)

    done, portrait, sketch = world("still-life", TEAMS[0]), world("portrait", TEAMS[0]), world("sketch", TEAMS[1])
    broken, queued = world("cells", TEAMS[1]), world("galaxies", TEAMS[1])
    for each in (done, portrait, sketch):
        each.create(workers=GPUS if each is portrait else {})
    broken.create()
    queued.create(labels={contract.LABEL_QUEUE: "research"})
    trained(done, attempt=1)
    done.pods.succeed(done.pods_of(1)[0], last_word(done.name, 1, 100))
    done.pods.succeed(done.pods_of(1)[1])
    _, culprit = trained(portrait, attempt=1)
    portrait.pods.fail(culprit, 1, "Traceback:\nRuntimeError: no such layer")
    broken.pods.fail(broken.running()[0], contract.ExitCode.INVALID_SPEC, "spec.training.prompts: no such file")
    trained(sketch, attempt=1)
    sketch.change(suspend=True)
    sketch.phase("Suspended")
    trained(portrait, attempt=2)
    for each, phase in ((done, "Succeeded"), (broken, "Failed"), (queued, "Queued")):
        each.phase(phase)


def trained(world: World, attempt: int) -> list[dict[str, object]]:
    """An attempt runs, and its first rank tells of more and more iterations; its pods."""
    pods = world.running(attempt)
    for iteration in range(FIRST, LAST, FIRST):
        world.trainer(pods[0], attempt, iteration + attempt)
        world.wait("progress is told", lambda status, told=iteration + attempt: reached(status, told))
    return pods


def reached(status: dict[str, dict[str, int]], iteration: int) -> bool:
    """Whether the status has an iteration."""
    return status.get("progress", {}).get("iteration", 0) >= iteration
