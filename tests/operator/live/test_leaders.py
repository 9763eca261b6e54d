"""Several replicas: one acts, another takes over, and even two that act at once do nothing twice."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

from live.proxy import Fault
from live.together import alone, together
from live.traffic import Request
from live.whole import whole_life
from live.world import World
from testcluster.process import wait_until

FAIL_OVER_SECONDS = 20.0


def lease(request: Request) -> bool:
    return request.resource == "leases"


@alone
def test_another_replica_takes_over_in_time_from_one_that_was_killed(world: World) -> None:
    mine = world.apart()
    second = mine.replica()
    wait_until(mine.operator.leads, "the first leads")
    second.start()
    uid = mine.create()
    first, _ = mine.running()
    assert not second.leads()
    assert second.proxy.writes() == [], "who does not lead does not write"
    mine.operator.component.kill()
    killed = time.monotonic()
    mine.lose(first, 1)
    mine.wait("the next attempt is due", lambda status: status["attempt"] == 2)
    assert time.monotonic() - killed < FAIL_OVER_SECONDS
    mine.running(attempt=2)
    mine.succeed(attempt=2)
    mine.phase("Succeeded")
    assert mine.attempts(uid) == {1: 1, 2: 1}


@together
def test_a_replica_that_is_asked_to_end_hands_over_at_once(world: World) -> None:
    mine = world.apart()
    second = mine.replica()
    wait_until(mine.operator.leads, "the first leads")
    second.start()
    asked = time.monotonic()
    mine.operator.component.stop(seconds=30)
    wait_until(second.leads, "the second leads")
    assert time.monotonic() - asked < 10, "the lease of 15 s was handed over"
    assert mine.operator.component.process is not None
    assert mine.operator.component.process.returncode == 0


@together
def test_a_replica_that_loses_the_lease_and_gets_it_back_goes_on(world: World) -> None:
    mine = world.apart(lease_duration_seconds=8, lease_renew_deadline_seconds=6, lease_retry_seconds=1)
    mine.create()
    first, _ = mine.running()
    refused = Fault(503, of=lease)
    mine.operator.proxy.faults.append(refused)
    wait_until(lambda: mine.operator.metric("leader") == 0, "it does not lead any more")
    before = len(mine.operator.proxy.writes())
    mine.lose(first, 1)
    tries = refused.met + 5
    wait_until(lambda: refused.met >= tries, "it tries to get the lease back")
    assert len(mine.operator.proxy.writes()) == before, "who does not lead does not write"
    mine.operator.proxy.faults.clear()
    mine.running(attempt=2)
    mine.succeed(attempt=2)
    mine.phase("Succeeded")


@together
def test_two_that_act_at_once_do_nothing_twice(world: World) -> None:
    mine = world.apart(leader_election=False)
    second = mine.replica(leader_election=False)
    second.start()
    lives = [World(mine.stage, mine.operator, mine.namespace, f"{mine.name[:30]}-{number}") for number in range(4)]
    mine.others.extend(lives)
    with ThreadPoolExecutor(len(lives)) as pool:
        list(pool.map(whole_life, lives))
    assert mine.operator.proxy.writes()
    assert second.proxy.writes()
