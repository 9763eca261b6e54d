from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from g2rpo_api.progress import (
    CheckpointReport,
    CurvePoint,
    ProgressReport,
    RewardReport,
    StoppedReport,
    TerminationReport,
)
from g2rpo_api.rewards import MAX_REWARDS
from g2rpo_trainer.lastword import LastWord, cut, fitted, heard, how_it_ended

KEPT = 4096
"""Bytes that Kubernetes keeps of a termination message."""
TEXT = st.text(max_size=50).flatmap(lambda some: st.integers(0, 200).map(lambda times: some * times))
SCORE = st.none() | st.floats(-1e6, 1e6)


def progress(
    points: int = 64, rewards: int = 2, stopped: str | None = None, name: str = "ocr", score: float | None = 0.123456
) -> ProgressReport:
    return ProgressReport(
        job="numbers",
        attempt=3,
        phase="Finished",
        iteration=points,
        total=100,
        percent=64.0,
        eta_seconds=12.5,
        beat=1.7e9,
        rewards=tuple(
            RewardReport(name=f"{name}-{i}", role="Train", mean=score, best=score, delta=score) for i in range(rewards)
        ),
        curve=tuple(CurvePoint(iteration=i, reward=0.123456 + i) for i in range(1, points + 1)),
        checkpoint=CheckpointReport(iteration=points, time=1.7e9),
        stopped=StoppedReport(reason="Requested", message=stopped) if stopped is not None else None,
    )


def read(text: bytes) -> TerminationReport:
    """As the operator reads it."""
    assert len(text) <= KEPT
    return TerminationReport.model_validate_json(text)


def test_what_fits_is_said_whole() -> None:
    report = TerminationReport(exit_code=4, rank=3, message="a reward\nfailed — é", progress=progress(points=20))
    assert read(fitted(report)) == report
    assert set(json.loads(fitted(report))) == {"exitCode", "rank", "message", "progress"}


def test_a_long_message_keeps_its_beginning() -> None:
    said = read(fitted(TerminationReport(exit_code=1, rank=0, message="spec.training.x " + "ö" * 9000)))
    assert said.message.startswith("spec.training.x ö")
    assert said.message.endswith("…")
    assert len(said.message) >= 1000


def test_the_curve_gives_way_before_the_rest_and_keeps_both_ends() -> None:
    report = TerminationReport(
        exit_code=0, rank=0, message="x" * 1500, progress=progress(rewards=MAX_REWARDS, name="n" * 29)
    )
    told = read(fitted(report)).progress
    assert told is not None
    assert report.progress is not None
    assert told.rewards == report.progress.rewards
    assert (told.curve[0], told.curve[-1]) == (report.progress.curve[0], report.progress.curve[-1])
    assert 3 <= len(told.curve) < 64


@given(message=TEXT, stopped=TEXT, rewards=st.integers(0, MAX_REWARDS), points=st.integers(0, 64), score=SCORE)
def test_whatever_happened_it_fits_and_says_which_rank_ended_how(
    message: str, stopped: str, rewards: int, points: int, score: float | None
) -> None:
    told = progress(points, rewards, stopped, "n" * 29, score)
    said = read(fitted(TerminationReport(exit_code=137, rank=12, message=message, progress=told)))
    assert (said.exit_code, said.rank) == (137, 12)
    assert message.startswith(said.message.removesuffix("…"))
    if said.progress is not None:
        assert said.progress.rewards == told.rewards


@pytest.mark.parametrize(("text", "letters", "kept"), [("abc", 3, "abc"), ("abcd", 3, "ab…"), ("", 1, "")])
def test_cut_texts_end_in_an_ellipsis(text: str, letters: int, kept: str) -> None:
    assert cut(text, letters) == kept


def test_it_is_written_where_it_is_wanted_with_what_is_known_then(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"x" * 9999)  # Kubernetes makes the file, which must be written, not replaced
    inode = path.stat().st_ino
    word = LastWord(path, rank=2)
    word.progress = lambda: progress(points=7)
    word.say(word.report(5, "diverged"))
    assert heard(path) == TerminationReport(exit_code=5, rank=2, message="diverged", progress=progress(points=7))
    assert path.stat().st_ino == inode


def test_what_an_earlier_process_said_can_be_taken_back(tmp_path: Path) -> None:
    path = tmp_path / "log"
    word = LastWord(path)
    word.say(word.report(0, "done"))
    inode = path.stat().st_ino
    word.clear()
    assert heard(path) is None
    assert path.stat().st_ino == inode


def test_nobody_wants_to_know_on_a_laptop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    LastWord().say(LastWord().report(0, "done"))
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr() == ("", "")


def test_a_file_that_cannot_be_written_is_told_and_no_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    word = LastWord(tmp_path / "nowhere" / "log")
    word.say(word.report(0, "done"))
    assert "nowhere" in capsys.readouterr().err


@pytest.mark.parametrize("content", [None, b"", b'{"exitCode": 4, "ra', b"\xff"])
def test_half_a_word_is_none(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "word.json"
    if content is not None:
        path.write_bytes(content)
    assert heard(path) is None


@pytest.mark.parametrize(
    ("done", "told", "words"),
    [
        (True, None, "done"),
        (False, None, "stopped with a checkpoint"),
        (True, progress(64), "done after iteration 64 of 100"),
        (False, progress(12), "stopped with a checkpoint of iteration 12 of 100"),
        (True, progress(12, stopped="good enough"), "ended early after iteration 12 of 100: good enough"),
    ],
)
def test_how_it_ended_is_one_line(done: bool, told: ProgressReport | None, words: str) -> None:
    assert how_it_ended(done, told) == words


def test_done_is_0_and_a_checkpoint_is_75() -> None:
    assert (LastWord().ended(True).exit_code, LastWord().ended(False).exit_code) == (0, 75)
