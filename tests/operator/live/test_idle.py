"""An operator with nothing to do does nothing, however many finished jobs there are."""

from __future__ import annotations

from collections import Counter

from live.together import alone
from live.world import World, manifest
from testcluster.process import wait_until

JOBS = 50
RENEWALS = 8
"""Of the lease, every two seconds: for so long nothing else may be asked."""
COMPLETED = "reason=Completed,involvedObject.kind=G2RPOJob"
"""The Job controller has an event of the same name."""
ENDS_AT_ONCE = {"testcluster.dev/run-seconds": "0"}


@alone
def test_an_operator_with_finished_jobs_only_asks_for_nothing(world: World) -> None:
    mine = world.apart(clusterwide=True)
    for number in range(JOBS):
        job = manifest(f"done-{number}", {"workers": {"nodes": 1, "annotations": ENDS_AT_ONCE}})
        mine.api.create(mine.path("G2RPOJob"), job)
    phases: Counter[str] = Counter()

    def all_finished() -> bool:
        jobs = mine.recorder.alive("G2RPOJob", mine.namespace)
        phases.clear()
        phases.update(job.get("status", {}).get("phase", "") for job in jobs)
        return phases == {"Succeeded": JOBS}

    wait_until(all_finished, f"{JOBS} jobs have succeeded", 120)
    proxy = mine.operator.proxy
    wait_until(lambda: events(mine) == JOBS, "every end is an event", 60)
    before = len(proxy.requests)

    def renewals() -> int:
        return sum(request.resource == "leases" for request in proxy.requests[before:])

    wait_until(lambda: renewals() >= RENEWALS, "the leader renews its lease", 60)
    assert Counter(str(request) for request in proxy.requests[before:] if request.resource != "leases") == {}


def events(world: World) -> int:
    """How many jobs were told to have completed."""
    return len(world.api.items(f"/api/v1/namespaces/{world.namespace}/events", fieldSelector=COMPLETED))
