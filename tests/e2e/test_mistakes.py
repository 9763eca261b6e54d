"""What people get wrong, and what the job then says of itself."""

from __future__ import annotations

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


def last_failure(job: Job) -> Object:
    """What is told of the only attempt of a job that fails."""
    status = job.wait_phase("Failed")
    assert job.condition("Failed")["reason"] == "RestartsExhausted"
    return dict(status["lastFailure"])


def test_memory_that_is_not_enough(team: Team) -> None:
    resources = {"requests": {"memory": "100Mi"}, "limits": {"memory": "250Mi"}}
    with team.job("small-memory", {**ONE_TRY, "workers": {"resources": resources}}) as job:
        failure = last_failure(job)
        assert (failure["reason"], failure["exitCode"]) == ("OutOfMemory", 137)
        assert "out of memory" in failure["message"]


def test_a_volume_that_is_full(team: Team) -> None:
    with team.job("small-volume", ONE_TRY, size_mib=2) as job:
        failure = last_failure(job)
        assert (failure["reason"], failure["exitCode"]) == ("Storage", 6)
        assert "No space left on device" in failure["message"]
