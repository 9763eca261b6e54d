"""Which pod's log is shown: what a person would look at first."""

from __future__ import annotations

import pytest

from g2rpo_api.status import Failure, JobStatus
from g2rpo_operator.plugin.commands.logs import Choice, choose
from g2rpo_operator.plugin.failures import PluginError
from g2rpo_operator.world import Pod
from plugin.scenes import seen_job
from testoperator.records import condition, ended_pod, pod, running_status, status, time

FIRST = [pod(0, 1, phase="Failed"), ended_pod(1, 1, attempt=1)]
SECOND = [pod(0, 2), pod(1, 2)]
BOTH = [*SECOND, *FIRST]
FAILURE = Failure(attempt=1, reason="Bug", pod=FIRST[1].name, exit_code=1, time=time(100))
RUNS_AGAIN = running_status(attempt=2, last_failure=FAILURE)
RESTARTS = status(condition("Running", "False", "Fault"), attempt=2, phase="Restarting", last_failure=FAILURE)


def names(job_status: JobStatus, pods: list[Pod], **choice: object) -> list[str]:
    return [chosen.name for chosen in choose(seen_job(job_status), pods, Choice(**choice))]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("job_status", "pods", "choice", "expected"),
    [
        (running_status(), FIRST, {}, [FIRST[0]]),
        (RESTARTS, FIRST, {}, [FIRST[1]]),
        (RUNS_AGAIN, BOTH, {}, [SECOND[0]]),
        (RUNS_AGAIN, BOTH, {"attempt": 1}, [FIRST[1]]),
        (RUNS_AGAIN, BOTH, {"attempt": 1, "rank_node": 0}, [FIRST[0]]),
        (RUNS_AGAIN, BOTH, {"rank_node": 1}, [SECOND[1]]),
        (RUNS_AGAIN, BOTH, {"all_pods": True}, SECOND),
        (RUNS_AGAIN, BOTH, {"attempt": 1, "all_pods": True}, FIRST),
        (RUNS_AGAIN, FIRST, {}, [FIRST[1]]),
        (running_status(attempt=2, last_failure=FAILURE.model_copy(update={"pod": None})), BOTH, {}, [SECOND[0]]),
    ],
    ids=[
        "the first rank while it runs",
        "the rank that failed first while it restarts",
        "the first rank of the attempt that runs again",
        "the rank that failed first of an attempt that failed",
        "any rank that is asked for",
        "any rank of the newest attempt",
        "all of the newest attempt",
        "all of another attempt",
        "what is kept when the next attempt has no pods yet",
        "the first rank when nobody knows who failed",
    ],
)
def test_the_pod_is(job_status: JobStatus, pods: list[Pod], choice: dict[str, object], expected: list[Pod]) -> None:
    assert names(job_status, pods, **choice) == [one.name for one in expected]


def test_a_pod_that_is_not_there_is_told_with_those_that_are() -> None:
    with pytest.raises(PluginError) as error:
        names(RUNS_AGAIN, BOTH, attempt=3)
    assert "no pod with index 0 of attempt 3" not in str(error.value)
    assert "portrait has no pod of attempt 3; attempt 2: index 0, 1; attempt 1: index 0, 1" in str(error.value)
    assert "kubectl g2rpo status portrait shows the last lines" in str(error.value)
    with pytest.raises(PluginError, match="no pod with index 7 of attempt 2"):
        names(RUNS_AGAIN, BOTH, rank_node=7)


def test_a_job_without_pods_says_so() -> None:
    with pytest.raises(PluginError, match="it has no pods"):
        names(running_status(), [])
