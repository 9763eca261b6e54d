"""What people get wrong, and what the job then says of itself."""

from __future__ import annotations

import pytest
from scenes import Job, Object, Team

ONE_TRY = {"policy": {"maxRestarts": 0}}


def reason(job: Job) -> str:
    return str(job.condition("Running")["reason"])


def test_an_image_that_is_not_there(team: Team) -> None:
    with team.job("no-image", {"image": "docker.io/g2rpo/none:0"}) as job:
        job.wait(lambda status: reason(job) == "ImagePullFailed", "the image is missed")
        assert "g2rpo/none:0" in job.condition("Running")["message"]


def test_a_secret_that_is_not_there(team: Team) -> None:
    source = {"secretKeyRef": {"name": "hub", "key": "token"}}
    with team.job("no-secret", {"workers": {"env": [{"name": "HF_TOKEN", "valueFrom": source}]}}) as job:
        job.wait(lambda status: reason(job) == "ConfigMissing", "the Secret is missed")
        assert '"hub"' in job.condition("Running")["message"]


@pytest.mark.parametrize(
    ("name", "spec", "size_mib", "cause", "code"),
    [
        ("small-memory", {"workers": {"resources": {"requests": {"memory": "100Mi"}, "limits": {"memory": "250Mi"}}}},
         None, "OutOfMemory", 137),
        ("small-volume", {}, 2, "Storage", 6),
    ],
)  # fmt: skip
def test_what_ends_an_attempt_is_told(
    team: Team, name: str, spec: Object, size_mib: int | None, cause: str, code: int
) -> None:
    with team.job(name, {**ONE_TRY, **spec}, size_mib=size_mib) as job:
        status = job.wait_phase("Failed")
        assert job.condition("Failed")["reason"] == "RestartsExhausted"
        failure = status["lastFailure"]
        assert (failure["reason"], failure["exitCode"]) == (cause, code)
        assert job.node.kubectl("logs", "-n", job.namespace, failure["pod"]) is not None
