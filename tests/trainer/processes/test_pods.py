"""What the operator relies on: launchers as in pods, here on one machine, each with one rank."""

from __future__ import annotations

import os
import re
import signal
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from g2rpo_api.contract import ExitCode
from g2rpo_api.progress import ProgressReport
from g2rpo_trainer.environment import free_port

BOUND_SECONDS = 30
"""How long a pod may take to end after another one was lost; a collective would wait half an hour."""


def get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return bytes(answer.read())


def progress(where: str) -> ProgressReport:
    return ProgressReport.model_validate_json(get(f"{where}/progress"))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_pods_train_what_two_ranks_of_one_would(trainer: Any) -> None:
    first, second = trainer.pods(trainer.job("pods", nodes=2, iterations=2), G2RPO_ATTEMPT="5")
    assert "rank 0 of 2" in first.finish()
    assert "rank 1 of 2" in second.finish()
    entries = trainer.diary("pods")
    assert [(entry["iteration"], entry["world_size"], entry["attempt"]) for entry in entries] == [
        (0, 2, 5),
        (1, 2, 5),
        (2, 2, 5),
    ]
    trainer.start(trainer.job("ranks", processes=2, iterations=2)).finish()
    for here, there in zip(entries, trainer.diary("ranks"), strict=True):
        assert here["rewards"] == there["rewards"]
        assert here["images"] == there["images"]
    said, other = first.said(), second.said()
    assert (said.exit_code, said.rank, said.message) == (0, 0, "done after iteration 2 of 2")
    assert (said.progress.phase, said.progress.attempt, said.progress.iteration) == ("Finished", 5, 2)
    assert (other.exit_code, other.rank, other.progress) == (0, 1, None)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("victim", [0, 1])
def test_a_pod_that_loses_the_other_ends_soon_and_does_not_look_like_the_cause(trainer: Any, victim: int) -> None:
    name = f"lost-{victim}"
    pods = trainer.pods(trainer.job(name, nodes=2, iterations=10_000))
    pods[0].until(lambda: len(trainer.diary(name)) > 2)
    os.killpg(pods[victim].pid, signal.SIGKILL)
    killed = time.monotonic()
    survivor = pods[1 - victim]
    output = survivor.finish(ExitCode.PEER_LOST)
    assert time.monotonic() - killed < BOUND_SECONDS
    said = survivor.said()
    assert (said.exit_code, said.rank) == (ExitCode.PEER_LOST, 1 - victim)
    assert said.message.startswith(f"rank {1 - victim} lost another rank")
    assert said.message in output
    assert "Traceback" not in output


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_pod_that_is_told_to_go_lets_all_save_and_the_next_attempt_goes_on(trainer: Any) -> None:
    job = trainer.job("told", nodes=2)
    pods = trainer.pods(job)
    pods[0].until(lambda: len(trainer.diary("told")) > 2)
    pods[1].popen.send_signal(signal.SIGTERM)
    for pod in pods:
        pod.finish(ExitCode.CHECKPOINTED)
    done = len(trainer.diary("told")) - 1
    assert (trainer.runs / "told" / "checkpoints" / f"iter-{done:06d}" / "manifest.json").is_file()
    for pod in trainer.pods(job):
        pod.finish()
    assert [entry["iteration"] for entry in trainer.diary("told")] == list(range(11))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_pod_tells_of_its_own_ranks(trainer: Any) -> None:
    job = trainer.job("apart", nodes=2, iterations=10_000)
    places = [f"http://127.0.0.1:{free_port()}" for _ in range(2)]
    common = {"G2RPO_NODES": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    pods = [
        trainer.start(job, "--port", where.rpartition(":")[2], G2RPO_NODE_RANK=str(i), **common)
        for i, where in enumerate(places)
    ]
    pods[0].until(lambda: len(trainer.diary("apart")) > 1)
    for rank, (pod, where) in enumerate(zip(pods, places, strict=True)):
        pod.until(lambda where=where: b'rank="' in get(f"{where}/metrics"))
        page = get(f"{where}/metrics").decode()
        assert set(re.findall(r'^g2rpo_trainer_\w+\{.*rank="(\d+)"', page, re.MULTILINE)) == {str(rank)}
        held = re.findall(r'^g2rpo_trainer_memory_bytes\{kind="resident",rank="\d"\} (\S+)$', page, re.MULTILINE)
        assert [float(size) > 2**26 for size in held] == [True]
    pods[0].popen.send_signal(signal.SIGTERM)
    for pod in pods:
        pod.finish(ExitCode.CHECKPOINTED)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_while_pods_wait_for_each_other_they_tell_it_and_go_at_once_when_told(trainer: Any) -> None:
    pod = trainer.pods(trainer.job("waiting", nodes=2), started=1)[0]
    where = pod.address()
    told = progress(where)
    assert (told.phase, told.iteration, told.beat > 1.7e9) == ("Starting", 0, True)
    for path in ("curve.csv", "curve.svg"):
        with pytest.raises(urllib.error.HTTPError, match="404"):
            get(f"{where}/{path}")
    pod.popen.send_signal(signal.SIGTERM)
    told_at = time.monotonic()
    pod.finish(ExitCode.CHECKPOINTED)
    assert time.monotonic() - told_at < BOUND_SECONDS
    assert pod.said().message == "rank 0 was stopped before it had anything to save"


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_an_environment_that_does_not_fit_the_job_is_code_2_and_told(trainer: Any) -> None:
    wide = trainer.start(trainer.job("wide", nodes=2))
    assert "G2RPO_NODES=2" in wide.finish(ExitCode.INVALID_SPEC)
    assert "spec.workers.nodes" in wide.said().message
    lost = trainer.start(trainer.job("lost", nodes=2), G2RPO_NODES="2")
    output = lost.finish(ExitCode.INVALID_SPEC)
    assert all(name in output for name in ("G2RPO_NODE_RANK", "MASTER_ADDR", "MASTER_PORT"))
    assert "--check" not in output
    trainer.start(trainer.job("checked", nodes=2), "--check").finish()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_file_ends_the_run_early_and_its_last_numbers_are_waited_for(trainer: Any, tmp_path: Path) -> None:
    stop = tmp_path / "stop"
    around = {"G2RPO_STOP_FILE": str(stop), "G2RPO_LINGER_SECONDS": "200"}
    lead, other = trainer.pods(trainer.job("early", nodes=2, iterations=10_000), **around)
    where = lead.address()
    lead.until(lambda: len(trainer.diary("early")) > 2)
    stop.write_text("it is good enough")
    lead.until(lambda: progress(where).phase == "Finished")
    other.finish()
    told = progress(where)
    ended = trainer.diary("early")[-1]
    assert told.stopped is not None
    assert (told.stopped.reason, told.stopped.message) == ("Requested", "it is good enough")
    assert ended["stopped"] == {"reason": "Requested", "message": "it is good enough"}
    assert ended["evaluation"]
    assert told.checkpoint is not None
    assert told.iteration == told.checkpoint.iteration == ended["iteration"] < 10_000
    assert get(f"{where}/curve.csv") == (trainer.runs / "early" / "curve.csv").read_bytes()
    assert lead.popen.poll() is None, "the picture of the curve was not fetched yet"
    early = lead.said()
    assert (early.exit_code, early.progress.checkpoint) == (0, told.checkpoint), "a kill would leave no word"
    assert get(f"{where}/curve.svg") == (trainer.runs / "early" / "curve.svg").read_bytes()
    assert "ended early: it is good enough" in lead.finish()
    assert lead.said().message == f"ended early after iteration {ended['iteration']} of 10000: it is good enough"
    assert (trainer.runs / "early" / "export" / "transformer").is_dir()
    assert "as requested: it is good enough." in (trainer.runs / "early" / "report.html").read_text()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_every_pod_says_that_it_lives(trainer: Any) -> None:
    """The second pod's port is a free one, which is told by the sockets that it listens on."""
    pods = trainer.pods(trainer.job("alive", nodes=2, iterations=10_000))
    pods[0].until(lambda: len(trainer.diary("alive")) > 1)
    (rank,) = pods[1].ranks()
    (port,) = listening(rank)
    where = f"http://127.0.0.1:{port}"
    assert get(f"{where}/healthz") == b"ok\n"
    assert b"g2rpo_trainer_beat_timestamp_seconds" in get(f"{where}/metrics")
    with pytest.raises(urllib.error.HTTPError, match="404"):
        get(f"{where}/progress")
    pods[0].popen.send_signal(signal.SIGTERM)
    for pod in pods:
        pod.finish(ExitCode.CHECKPOINTED)


def listening(pid: int) -> list[int]:
    """Ports of all addresses on which a process listens."""
    inodes = {str(file.readlink()) for file in Path(f"/proc/{pid}/fd").iterdir()}
    rows = [line.split() for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]]
    listens, anywhere = "0A", "00000000"
    return [
        int(row[1].partition(":")[2], 16)
        for row in rows
        if row[3] == listens and row[1].startswith(anywhere) and f"socket:[{row[9]}]" in inodes
    ]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_pod_without_a_home_trains_and_keeps_its_caches_where_it_may_write(trainer: Any, tmp_path: Path) -> None:
    """A home below a file cannot be made, even by root."""
    unset = dict.fromkeys(("MPLCONFIGDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"), "")
    process = trainer.start(trainer.job("homeless", iterations=1), HOME="/dev/null/home", TMPDIR=str(tmp_path), **unset)
    assert "/dev/null" not in process.finish()
    assert "/dev/null" not in (trainer.runs / "homeless" / "log.jsonl").read_text()
    assert list((tmp_path / ".cache" / "matplotlib").iterdir())
