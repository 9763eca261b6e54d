from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from g2rpo_trainer.stopping import LONGEST_REASON, StopFile, StopRequest


@pytest.fixture
def signals() -> Iterator[None]:
    """Ctrl-C is heard, also in tests that a shell runs in the background; the handlers of this process are put back."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_asks_to_stop(signals: None, number: signal.Signals) -> None:
    stop = StopRequest()
    stop.install()
    assert not stop.asked
    os.kill(os.getpid(), number)
    assert stop.asked


def test_a_second_ctrl_c_is_not_waited_for(signals: None) -> None:
    stop = StopRequest()
    stop.install()
    os.kill(os.getpid(), signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)


def test_ctrl_c_stays_ignored_where_the_launcher_sees_to_it(signals: None) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    stop = StopRequest()
    stop.install()
    os.kill(os.getpid(), signal.SIGINT)
    assert not stop.asked


def test_before_it_listens_a_signal_ends_the_process() -> None:
    program = "import os, signal; from g2rpo_trainer.stopping import *; StopRequest(); os.kill(os.getpid(), 15)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == -signal.SIGTERM


def test_nobody_asks_without_a_file(tmp_path: Path) -> None:
    assert StopFile().reason() is None
    assert StopFile(tmp_path / "stop").reason() is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"good enough\n", "good enough"),
        (b"", "{path} is there"),
        (b"caf\xe9", "caf\ufffd"),
        (b"x" * 5000, "x" * LONGEST_REASON),
    ],
)
def test_a_file_asks_with_its_text(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "stop"
    asked = StopFile(path)
    assert asked.reason() is None
    path.write_bytes(content)
    reason = asked.reason()
    assert reason is not None
    assert (reason.reason, reason.message) == ("Requested", message.format(path=path))
    path.unlink()
    assert asked.reason() is None
