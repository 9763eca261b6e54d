from __future__ import annotations

import socket
from pathlib import Path

import pytest
import yaml

from g2rpo_api.errors import SpecError, SpecProblem
from g2rpo_api.parse import parse_job
from g2rpo_trainer.environment import (
    LOOPBACK,
    Nodes,
    RankEnvironment,
    Surroundings,
    await_first_rank,
    free_port,
    refuse_other_nodes,
)
from g2rpo_trainer.errors import PeerLostError

SAMPLE = Path(__file__).parents[2] / "manifests" / "samples" / "miniature-g2rpo.yaml"
TORCHRUN = {"RANK": "3", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "MASTER_ADDR": "job-0.job", "MASTER_PORT": "29500"}
POD = {"G2RPO_NODES": "4", "G2RPO_NODE_RANK": "2", "MASTER_ADDR": "job-0.job", "MASTER_PORT": "29500"}


def without(environment: dict[str, str], *names: str) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name not in names}


def test_a_rank_is_what_torchrun_says() -> None:
    place = RankEnvironment.read(TORCHRUN)
    assert place == RankEnvironment(3, 8, 1, "job-0.job", 29500)
    assert place.variables() == TORCHRUN


def test_a_process_that_nobody_made_a_rank_is_none() -> None:
    assert RankEnvironment.read({"PATH": "/bin"}) is None


def test_alone_is_one_rank_of_one() -> None:
    place = RankEnvironment.alone()
    assert (place.rank, place.world_size, place.local_rank) == (0, 1, 0)
    assert RankEnvironment.read(place.variables()) == place


def test_a_free_port_can_be_listened_on() -> None:
    with socket.socket() as server:
        server.bind((LOOPBACK, free_port()))


def test_a_machine_of_several_has_its_share_of_all_ranks() -> None:
    nodes = Nodes.read(POD)
    assert nodes == Nodes(4, 2, "job-0.job", 29500)
    assert [(p.rank, p.world_size, p.local_rank) for p in nodes.places(3)] == [(6, 12, 0), (7, 12, 1), (8, 12, 2)]
    assert {(p.master_address, p.master_port) for p in nodes.places(3)} == {("job-0.job", 29500)}


@pytest.mark.parametrize("processes", [1, 2, 8])
def test_the_machines_together_have_every_rank_once(processes: int) -> None:
    ranks = [place.rank for node in range(4) for place in Nodes(4, node, "a", 1).places(processes)]
    assert ranks == list(range(4 * processes))


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"G2RPO_NODES": ""},
        {"G2RPO_NODES": "1", "G2RPO_NODE_RANK": "0", "MASTER_ADDR": "job-0.job", "MASTER_PORT": "29500"},
    ],
)
def test_a_machine_alone_meets_itself_and_asks_no_name_service(environment: dict[str, str]) -> None:
    nodes = Nodes.read(environment)
    assert (nodes.count, nodes.rank, nodes.master_address) == (1, 0, "127.0.0.1")


@pytest.mark.parametrize(
    ("read", "environment", "keys"),
    [
        (Nodes.read, POD | {"G2RPO_NODES": "two"}, ["G2RPO_NODES"]),
        (Nodes.read, POD | {"G2RPO_NODES": "0"}, ["G2RPO_NODES"]),
        (Nodes.read, POD | {"G2RPO_NODE_RANK": "4"}, ["G2RPO_NODE_RANK"]),
        (Nodes.read, POD | {"G2RPO_NODE_RANK": "-1"}, ["G2RPO_NODE_RANK"]),
        (Nodes.read, {"G2RPO_NODE_RANK": "1"}, ["G2RPO_NODE_RANK"]),
        (Nodes.read, without(POD, "G2RPO_NODE_RANK"), ["G2RPO_NODE_RANK"]),
        (Nodes.read, without(POD, "MASTER_ADDR", "MASTER_PORT"), ["MASTER_ADDR", "MASTER_PORT"]),
        (Nodes.read, POD | {"MASTER_PORT": "70000"}, ["MASTER_PORT"]),
        (RankEnvironment.read, {"RANK": "0"}, ["WORLD_SIZE", "MASTER_PORT"]),
        (RankEnvironment.read, TORCHRUN | {"RANK": "8"}, ["RANK"]),
        (RankEnvironment.read, TORCHRUN | {"LOCAL_RANK": "x"}, ["LOCAL_RANK"]),
    ],
)
def test_an_environment_that_contradicts_itself_is_refused_by_name(
    read: object, environment: dict[str, str], keys: list[str]
) -> None:
    with pytest.raises(SpecError) as error:
        read(environment)  # type: ignore[operator]
    assert [problem.key for problem in error.value.problems][: len(keys)] == keys
    assert str(error.value).startswith("environment: ")


def problem_of(environment: dict[str, str]) -> SpecProblem:
    with pytest.raises(SpecError) as error:
        Nodes.read(environment)
    return error.value.problems[0]


def test_what_was_found_and_what_is_allowed_are_told() -> None:
    problem = problem_of(POD | {"G2RPO_NODE_RANK": "4"})
    assert (problem.found, problem.allowed) == ("4", "a whole number from 0 to 3")
    assert problem_of(without(POD, "G2RPO_NODE_RANK")).found == "nothing"


def test_on_a_laptop_a_pod_wants_nothing() -> None:
    assert Surroundings.read({}, Path("runs"), None) == Surroundings(Path("runs"), None, None, None, 0.0)


def test_a_pod_says_what_it_wants() -> None:
    environment = {"G2RPO_ATTEMPT": "3", "G2RPO_STOP_FILE": "/etc/g2rpo/stop", "G2RPO_LINGER_SECONDS": "0.5"}
    around = Surroundings.read(environment, Path("/runs"), 9464)
    assert around == Surroundings(Path("/runs"), 9464, 3, Path("/etc/g2rpo/stop"), 0.5)


@pytest.mark.parametrize(
    ("name", "value"),
    [("G2RPO_ATTEMPT", "0"), ("G2RPO_ATTEMPT", "1.5"), ("G2RPO_LINGER_SECONDS", "-1"), ("G2RPO_LINGER_SECONDS", "inf")],
)
def test_what_a_pod_cannot_want_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(SpecError) as error:
        Surroundings.read({name: value}, Path("/runs"), None)
    assert [problem.key for problem in error.value.problems] == [name]


@pytest.mark.parametrize(
    ("wanted", "started"), [(2, Nodes.alone()), (1, Nodes(2, 0, "a", 1)), (3, Nodes(2, 1, "a", 1))]
)
def test_a_job_for_another_number_of_machines_is_refused(wanted: int, started: Nodes) -> None:
    document = yaml.safe_load(SAMPLE.read_text())
    document["spec"]["workers"] = {"nodes": wanted}
    document["spec"]["training"]["prompts"]["perIteration"] = 6
    with pytest.raises(SpecError) as error:
        refuse_other_nodes(parse_job(document), started)
    (problem,) = error.value.problems
    assert (problem.key, problem.found) == ("spec.workers.nodes", wanted)
    assert problem.allowed.startswith(f"{started.count}, ")
    assert f"G2RPO_NODES={wanted}" in problem.hint


def test_a_job_for_the_machines_that_were_started_is_not_refused() -> None:
    refuse_other_nodes(parse_job(SAMPLE.read_text()), Nodes.alone())


def test_the_first_rank_is_waited_for_until_it_listens() -> None:
    place = RankEnvironment(1, 2, 0, LOOPBACK, free_port())
    servers: list[socket.socket] = []

    readings = 0

    def clock() -> float:
        nonlocal readings
        readings += 1
        if readings == 2:  # read once at the start, then after a look that found nobody
            servers.append(socket.create_server((LOOPBACK, place.master_port)))
        return 0.0

    await_first_rank(place, 60, pause_seconds=0, clock=clock)
    assert readings == 2
    servers[0].close()


@pytest.mark.parametrize("address", [LOOPBACK, "no-such-name.invalid"])
def test_a_first_rank_that_never_comes_is_given_up(address: str) -> None:
    place = RankEnvironment(3, 4, 0, address, free_port())
    moments = iter(range(0, 1000, 10))
    with pytest.raises(PeerLostError, match=f"rank 3 did not find rank 0 at {address}"):
        await_first_rank(place, 25, pause_seconds=0, clock=lambda: float(next(moments)))
