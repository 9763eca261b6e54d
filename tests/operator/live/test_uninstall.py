"""The operator is removed before its jobs and their definition: nothing is stuck, and nothing is left."""

from __future__ import annotations

from g2rpo_api import contract
from live.operators import MANIFESTS, install
from live.together import alone
from live.world import World
from testcluster.process import wait_until


@alone
def test_nothing_is_stuck_when_the_operator_goes_first_and_the_definition_last(world: World) -> None:
    mine = world.apart()
    jobs = {name: World(mine.stage, mine.operator, mine.namespace, name) for name in ("runs", "done", "waits")}
    for job in jobs.values():
        job.create()
        job.running()
    jobs["done"].succeed(attempt=1)
    jobs["done"].phase("Succeeded")
    jobs["waits"].change(suspend=True)
    jobs["waits"].phase("Suspended")
    paths = [mine.path(kind) for kind in ("Job", "Pod", "Service", "ConfigMap")]

    def left(selector: str) -> list[object]:
        return [item for path in paths for item in mine.api.items(path, labelSelector=selector)]

    # Kubernetes' garbage collector takes up to half a minute to learn of a kind; until then it collects nothing of it.
    mine.cluster.kubectl("delete", "g2rpojob", "done", "-n", mine.namespace)
    wait_until(lambda: not left(f"{contract.LABEL_JOB}=done"), "what belonged to one deleted job is gone", 120)
    del jobs["done"]
    for operator in mine.stage.operators:
        operator.component.kill()
        operator.proxy.stop()
    assert [job.job()["metadata"].get("finalizers") for job in jobs.values()] == [None] * 2
    mine.closing.callback(install, mine.cluster)
    for installed in ("rbac.yaml", "crd.yaml"):
        mine.cluster.kubectl("delete", "-f", str(MANIFESTS / installed), "--wait=true", "--timeout=60s")
    wait_until(lambda: not left(contract.LABEL_JOB_UID), "all that belonged to the jobs is gone", 60)
