"""What breaks between the operator and the API server: watches, answers, whole namespaces. The job's life goes on."""

from __future__ import annotations

import pytest

from live.proxy import Fault
from live.together import alone, together
from live.traffic import Request
from live.whole import whole_life
from live.world import World
from testcluster.process import wait_until

INACTIVITY_SECONDS = 70
"""After which a watch that says nothing at all counts as dead."""


@pytest.mark.slow
@together
def test_watches_that_silently_deliver_nothing_are_noticed_and_meanwhile_lists_keep_the_job_going(world: World) -> None:
    mine = world.apart(resync_seconds=2)
    proxy = mine.operator.proxy
    uid = mine.create()
    first, _ = mine.running()
    frozen = proxy.freeze_watches()
    assert frozen >= 5, "of every kind there is a watch"
    before = len(proxy.requests)
    mine.lose(first, 1)
    mine.running(attempt=2)
    mine.succeed(attempt=2)
    mine.phase("Succeeded")
    assert mine.attempts(uid) == {1: 1, 2: 1}
    assert mine.operator.metric("watch_silent_seconds") > 0, "watches owe what lists have shown"

    def opened_again() -> int:
        return sum(request.verb == "watch" for request in proxy.requests[before:])

    wait_until(lambda: opened_again() >= frozen, "every watch was opened again", INACTIVITY_SECONDS + 30)
    wait_until(lambda: mine.operator.metric("watch_silent_seconds") == 0, "watches owe nothing", 30)


@together
def test_watches_that_break_again_and_again_lose_nothing(world: World) -> None:
    mine = world.apart()
    uid = mine.create()
    for attempt in (1, 2, 3):
        first, _ = mine.running(attempt)
        mine.lose(first, 1)
        assert mine.operator.proxy.cut_watches() > 0
    mine.running(attempt=4)
    mine.operator.proxy.cut_watches()
    mine.succeed(attempt=4)
    assert mine.phase("Succeeded")["restarts"] == 3
    assert mine.attempts(uid) == {1: 1, 2: 1, 3: 1, 4: 1}


@together
def test_an_operator_that_starts_while_the_api_server_is_away_works_as_soon_as_it_is_back(world: World) -> None:
    mine = world.apart()
    mine.operator.component.kill()
    away = Fault(503, of=any_request)
    mine.operator.proxy.faults.append(away)
    mine.operator.component.launch()
    wait_until(lambda: away.met >= 5, "it asks in vain")
    mine.create()
    mine.operator.proxy.faults.clear()
    mine.running()
    mine.succeed(attempt=1)
    mine.phase("Succeeded")


def any_request(_: Request) -> bool:
    return True


def stormy_life(world: World, fault: Fault, **settings: object) -> None:
    """A whole life during which requests are answered in this way."""
    mine = world.apart(resync_seconds=10, **settings)
    mine.operator.proxy.faults.append(fault)
    whole_life(mine)
    assert fault.met >= 5, "the storm was a breeze"


def write(request: Request) -> bool:
    return request.write


def answerable(request: Request) -> bool:
    """Not a watch, whose silence is another test's business, and no lease."""
    return request.verb != "watch" and request.resource != "leases"


@together
def test_a_storm_of_too_many_requests_delays_a_job_and_changes_nothing(world: World) -> None:
    stormy_life(world, Fault(429, share=0.4, retry_after=1))


@together
def test_a_storm_of_conflicts_delays_a_job_and_changes_nothing(world: World) -> None:
    stormy_life(world, Fault(409, share=0.4, of=write))


@together
def test_a_storm_of_server_errors_delays_a_job_and_changes_nothing(world: World) -> None:
    stormy_life(world, Fault(500, share=0.4))


@together
def test_a_storm_of_server_errors_for_what_was_done_all_the_same_repeats_nothing(world: World) -> None:
    stormy_life(world, Fault(500, share=0.5, carried_out=True, of=write))


@together
def test_a_storm_of_silence_delays_a_job_and_changes_nothing(world: World) -> None:
    stormy_life(world, Fault(None, share=0.3, of=answerable), request_timeout_seconds=2)


@together
def test_a_storm_of_lost_answers_repeats_nothing(world: World) -> None:
    stormy_life(world, Fault(None, share=0.5, carried_out=True, of=write), request_timeout_seconds=2)


@together
def test_a_deleted_namespace_goes_with_all_its_jobs_and_others_go_on(world: World) -> None:
    mine = world.apart("survivors")
    other = mine.elsewhere("survivors")
    mine.create()
    other.create()
    mine.running()
    other.running()
    mine.cluster.api.delete(f"/api/v1/namespaces/{mine.namespace}")
    gone = f"the namespace {mine.namespace} is gone"
    wait_until(lambda: not mine.cluster.api.answers(f"/api/v1/namespaces/{mine.namespace}"), gone, 120, poll=0.5)
    assert mine.recorder.is_deleted(mine.uid)
    first, _ = other.running()
    other.lose(first, 1)
    other.running(attempt=2)
    other.succeed(attempt=2)
    other.phase("Succeeded")


@together
def test_a_quota_without_room_delays_a_job_until_there_is_some(world: World) -> None:
    mine = world.apart()
    quota = {"metadata": {"name": "none"}, "spec": {"hard": {"count/jobs.batch": "0"}}}
    quotas = f"/api/v1/namespaces/{mine.namespace}/resourcequotas"
    mine.api.create(quotas, quota)
    wait_until(lambda: "hard" in mine.api.get(f"{quotas}/none").get("status", {}), "the quota is in force")
    mine.create()
    mine.there("ConfigMap", f"{mine.name}-a1")
    refused = "exceeded quota: none"
    wait_until(lambda: any(refused in line for line in mine.operator.log()), "the quota refuses")
    mine.api.delete(f"{quotas}/none")
    mine.running()
    mine.succeed(attempt=1)
    mine.phase("Succeeded")


@alone
def test_jobs_go_on_after_etcd_and_the_api_server_were_away(world: World) -> None:
    uid = world.create()
    for attempt, component in enumerate((world.cluster.etcd, world.cluster.apiserver), 1):
        first, _ = world.running(attempt)
        component.kill()
        component.start()
        wait_until(world.cluster.apiserver_serves, "the API server serves again", 60)
        world.lose(first, 1)
    world.running(attempt=3)
    world.succeed(attempt=3)
    assert world.phase("Succeeded")["restarts"] == 2
    assert world.attempts(uid) == {1: 1, 2: 1, 3: 1}
