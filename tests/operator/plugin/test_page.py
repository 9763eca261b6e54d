"""The page of a job: what a person finds on it in every phase."""

from __future__ import annotations

import pytest

from g2rpo_api.status import Failure, JobStatus, Usage
from plugin.scenes import WIDTH, event, read_page, seen_job, told
from testoperator.records import condition, ended_pod, pending_pod, pod, running_status, status, time

FAILURE = Failure(
    attempt=1,
    reason="OutOfMemory",
    message="pod portrait-a1-1-x on node-1 ended with exit code 137, out of memory",
    pod="portrait-a1-1-x",
    node="node-1",
    exit_code=137,
    last_lines="\n".join(f"line {number}" for number in range(1, 31)),
    time=time(100),
)


def section(text: str, name: str) -> str:
    """The part of a page that begins with a word, up to the next empty line."""
    return text[text.index(name) :].split("\n\n")[0]


def test_the_first_line_says_what_the_job_does_and_since_when() -> None:
    first = read_page(running_status(since=30), now=30 + 3 * 3600 + 720).splitlines()[0]
    assert first == "portrait  Running for 3h12m  (namespace team, created 3h13m ago)"


def test_a_starting_job_counts_from_when_its_pods_were_scheduled() -> None:
    waiting = condition("Running", "False", "ContainersStarting", since=0, message="pulling")
    assert "Starting for 1m30s" not in read_page(status(waiting, phase="Starting", scheduled_time=time(40)), now=130)
    assert "Starting for 90s" in read_page(status(waiting, phase="Starting", scheduled_time=time(40)), now=130)


def test_reason_message_and_advice_stand_below() -> None:
    waiting = condition(
        "Running", "False", "Unschedulable", message="0/4 nodes are available: 4 Insufficient nvidia.com/gpu."
    )
    text = read_page(status(waiting, phase="Pending"))
    assert "  Unschedulable: 0/4 nodes are available: 4 Insufficient nvidia.com/gpu." in text
    assert "  → The scheduler finds no node for a pod; the message says what is short or does not" in text


def test_a_finished_job_is_told_by_its_end_not_by_running() -> None:
    done = (
        condition("Running", "False", "Finished"),
        condition("Complete", "True", "Completed", 50, "100 of 100 iterations"),
    )
    text = read_page(status(*done, phase="Succeeded"))
    assert text.startswith("portrait  Succeeded for 2m30s")
    assert "Completed: 100 of 100 iterations" in text
    assert "the job is over" not in text


def test_a_job_that_nobody_saw_asks_for_the_operator_but_not_at_once() -> None:
    unseen = JobStatus()
    assert "No operator has seen this job" not in read_page(unseen, now=-40)
    assert "No operator has seen this job" in read_page(unseen, now=-30)
    assert "Attempts" not in read_page(unseen, now=0)


def test_a_change_that_was_not_acted_on_is_named() -> None:
    assert "was not acted on yet" in read_page(running_status(), generation=2)
    assert "was not acted on yet" not in read_page(running_status(), generation=1)


def test_the_pause_before_an_attempt_is_counted_down() -> None:
    fault = condition("Running", "False", "Fault", 100, "pod ended")
    pausing = status(fault, phase="Restarting", attempt=2, retry_time=time(240))
    assert "Attempt 2 begins in 40s." in read_page(pausing, now=200)
    assert "begins in" not in read_page(pausing, now=250)


def test_a_job_that_was_stopped_says_so_until_it_is_over() -> None:
    assert "spec.stop is true" in read_page(running_status(), stop=True)
    over = status(condition("Complete", "True", "Stopped"), phase="Succeeded")
    assert "spec.stop is true" not in read_page(over, stop=True)


def test_attempts_and_usage_are_counted_against_their_limits() -> None:
    used = Usage(active_seconds=7 * 3600, gpu_seconds=45000, gpu_hours=12.5, time=time(200))
    counted = running_status(attempt=5, restarts=2, disruptions=7, usage=used, image="registry.example/t:1", seed=7)
    text = read_page(counted, now=200)
    assert "attempt 5, restarts 2 of 3, disruptions 7 of 20" in text
    assert "12.50 GPU-hours, active for 7h" in text
    assert "2 x 1 ranks, image registry.example/t:1, seed 7" in text


def test_usage_goes_on_from_where_it_was_written_while_ranks_run() -> None:
    used = Usage(active_seconds=3600, gpu_seconds=7200, gpu_hours=2.0, time=time(0))
    still = condition("Suspended", "True", "Suspended")
    assert "3.00 GPU-hours, active for 90m" in read_page(running_status(usage=used), now=1800)
    assert "2.00 GPU-hours, active for 60m" in read_page(status(still, phase="Suspended", usage=used), now=1800)


def test_advice_that_only_repeats_the_message_is_left_out() -> None:
    assert "→" not in read_page(running_status())
    waiting = condition("Running", "False", "Queued", message="waits for the queue")
    assert "→ Kueue has not admitted the job yet." in read_page(status(waiting, phase="Queued"))


def test_the_last_failure_has_cause_place_code_advice_and_last_lines() -> None:
    text = section(read_page(running_status(attempt=2, last_failure=FAILURE)), "Last failure")
    assert text.splitlines()[0] == (
        "Last failure  OutOfMemory, attempt 1, 100s ago: exit code 137, pod portrait-a1-1-x on node-1"
    )
    assert "  pod portrait-a1-1-x on node-1 ended with exit code 137, out of memory" in text
    assert "raise workers.resources.limits.memory" in text
    assert "  │ line 30" in text
    assert "line 18\n" not in text, "the newest lines are the ones that tell"
    assert text.count("│ line") == 12


def test_a_failure_without_a_pod_is_told_as_far_as_it_is_known() -> None:
    lost = FAILURE.model_copy(
        update={"pod": None, "node": None, "exit_code": None, "last_lines": "", "reason": "PodsLost"}
    )
    assert "no exit code, no pod" in read_page(running_status(last_failure=lost))


def test_nothing_of_a_failure_is_said_twice() -> None:
    word = FAILURE.model_copy(update={"message": "pod ended: no such file", "last_lines": "no such file"})
    ended = condition(
        "Failed", "True", "RestartsExhausted", message=f"policy.maxRestarts = 1 are used up; {word.message}"
    )
    text = read_page(status(ended, phase="Failed", last_failure=word))
    assert text.count("no such file") == 1
    assert "exit code 137" in text


def test_pods_stand_with_index_state_exit_code_and_node() -> None:
    pods = [
        pod(0, 2),
        pending_pod(1, 2, unschedulable="0/4 nodes"),
        ended_pod(137, 1, attempt=1, terminated_reason="OOMKilled"),
    ]
    lines = section(read_page(running_status(attempt=2), pods=pods), "POD").splitlines()
    assert lines[0].split() == ["POD", "INDEX", "ATTEMPT", "STATE", "EXIT", "NODE", "MESSAGE"]
    assert [line.split()[:6] for line in lines[1:]] == [
        ["portrait-a2-1-xyz1", "1", "2", "Unschedulable", "-", "-"],
        ["portrait-a2-0-xyz0", "0", "2", "Running", "-", "node-0"],
        ["portrait-a1-1-xyz1", "1", "1", "OOMKilled", "137", "node-1"],
    ]
    assert lines[1].endswith("0/4 nodes")


def test_events_stand_oldest_first() -> None:
    events = [event("Running", "all pods of attempt 1 run", 150), event("Fault", "it broke", 20, "Warning", count=3)]
    lines = section(read_page(events=events), "LAST SEEN").splitlines()
    assert [line.split("   ")[0] for line in lines[1:]] == ["3m (x3)", "50s"]
    assert lines[1].split() == ["3m", "(x3)", "Warning", "Fault", "it", "broke"]


def test_sections_are_set_apart_and_missing_ones_leave_no_gap() -> None:
    text = read_page(running_status(progress=told(), last_failure=FAILURE), pods=[pod(0)], events=[event("A", "b", 1)])
    assert "\n\n\n" not in text
    assert not text.endswith("\n")
    assert text.count("\n\n") == 5
    assert read_page(JobStatus(), now=-50).count("\n\n") == 0


@pytest.mark.parametrize("length", [10, 500])
def test_paragraphs_keep_within_the_screen(length: int) -> None:
    long = condition("Running", "False", "Fault", message=" ".join(["word"] * length))
    told_lines = [line for line in read_page(status(long, phase="Restarting")).splitlines() if line.startswith("  ")]
    assert all(len(line) <= WIDTH for line in told_lines)
    assert sum(line.count("word") for line in told_lines) == length


def test_the_path_of_a_job_is_that_of_the_api() -> None:
    job = seen_job()
    assert job.path == "/apis/g2rpo.dev/v1alpha1/namespaces/team/g2rpojobs/portrait"
    assert job.reference == "g2rpojob.g2rpo.dev/portrait"
    assert job.parsed().spec.training.iterations == 100
