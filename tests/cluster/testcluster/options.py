"""What a caller may choose about a cluster.

Who calls this: tests, benchmarks and the command line; controlplane and kwok read it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from testcluster.rundir import PROBE_PORT

# Nobody here resolves or routes Services, and endpoints must not be loopback addresses: the controllers that write
# them would fail for ever.
NO_ENDPOINTS = "*,-endpoints-controller,-endpointslice-controller,-endpointslice-mirroring-controller"


@dataclass(frozen=True)
class Behaviour:
    """What the containers of a fake pod do, where the pod's own annotations do not say; see kwok.

    `run_seconds` None means until something ends them. Whole seconds, because Kubernetes' times are whole seconds.
    """

    start_seconds: int = 0
    run_seconds: int | None = None
    exit_code: int = 0
    sigterm_exit_code: int = 75
    sigterm_seconds: int = 0


@dataclass(frozen=True)
class Timing:
    """How fast the loss of a node is noticed, in seconds.

    A node's lease is renewed every `lease` / 4; after `grace` without renewal the node is Unknown, and after another
    `toleration` its pods are deleted. Thousands of nodes want a long lease.
    """

    lease: int = 8
    monitor: int = 1
    grace: int = 10
    toleration: int = 2


@dataclass(frozen=True)
class Options:
    """What a caller may choose; of further flags for the programs, a later one wins."""

    apiserver: tuple[str, ...] = ()
    controller_manager: tuple[str, ...] = ()
    scheduler: tuple[str, ...] = ()
    behaviour: Behaviour = field(default_factory=Behaviour)
    timing: Timing = field(default_factory=Timing)
    api_port: int = PROBE_PORT
    controllers: str = NO_ENDPOINTS


# For thousands of pods: nothing is queued for fairness, and leases do not drown the requests that are measured.
SCALE = Options(
    apiserver=(
        "--enable-priority-and-fairness=false",
        "--max-requests-inflight=0",
        "--max-mutating-requests-inflight=0",
    ),
    behaviour=Behaviour(run_seconds=5),
    timing=Timing(lease=160, monitor=5, grace=200),
)
