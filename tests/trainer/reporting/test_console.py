"""The progress line: what it says at each stage, and how it is written to a terminal and to a file."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from scipy.stats import linregress

from g2rpo_trainer.monitoring.console import REWRITE, Progress, format_line, score, signed, trend, truncate


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def ascii_stream() -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(), encoding="ascii", write_through=True)


def clock(*seconds: float) -> Any:
    times: Iterator[float] = iter(seconds)
    return lambda: next(times)


def test_before_training_there_is_an_evaluation_only(make: Any) -> None:
    first = make.record(0, evaluation=[make.evaluation(80, ocr=make.spread(0.3), reader=make.hits(8, 80))])
    assert format_line([first], 40) == " 0/40 · evaluated ocr 0.300 · evaluated reader 10 %"


def test_the_first_iteration_has_no_trend(make: Any) -> None:
    records = [make.record(0), make.record(1, step_seconds=2.0, images=200)]
    assert format_line(records, 40) == " 1/40 · reward 0.500 · ETA 1 min 18 s · 100 images/s"


def test_a_line_in_the_middle(make: Any) -> None:
    records = make.rising_run()[:31]
    now = sum(0.3 + 0.4 * i / 40 for i in range(26, 31)) / 5
    start = sum(0.3 + 0.4 * i / 40 for i in range(1, 6)) / 5
    expected = f"30/40 · reward {now:.3f} ↑ +{now - start:.2g} · held-out reader 32 % (+22) · ETA 20.0 s · 100 images/s"
    assert format_line(records, 40) == expected


def test_the_end_has_no_eta(make: Any) -> None:
    line = format_line(make.rising_run(), 40)
    assert line.startswith("40/40 · reward")
    assert "ETA" not in line


def test_without_held_out_rewards_the_trained_evaluation_is_shown(make: Any) -> None:
    evaluations = {0: 0.3, 10: 0.45}
    records = [
        make.record(i, evaluation=[make.evaluation(80, ocr=make.spread(evaluations[i]))] if i in evaluations else [])
        for i in range(12)
    ]
    assert "evaluated ocr 0.450 (+0.15)" in format_line(records, 40)


def test_iterations_are_aligned(make: Any) -> None:
    lines = [format_line([make.record(i)], 1000) for i in (1, 10, 1000)]
    assert len({line.index("/1000") for line in lines}) == 1


def test_a_reward_that_is_no_number_is_left_out(make: Any) -> None:
    line = format_line([make.record(1, rewards=[make.reward("ocr", math.nan, {})])], 10)
    assert "nan" not in line
    assert "reward" not in line


@pytest.mark.parametrize(("values", "arrow"), [
    ([], ""), ([0.5] * 5, ""), ([0.5] * 6, "→"), ([0.0] * 30, "→"), ([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], "↑"),
    ([0.6, 0.5, 0.4, 0.3, 0.2, 0.1], "↓"), ([0.1, 0.9, 0.1, 0.9, 0.5, 0.2, 0.95, 0.1, 0.9, 0.6], "→"),
    ([*[9.0] * 50, *[0.5 + 0.01 * i for i in range(20)]], "↑"),
])  # fmt: skip
def test_arrows_follow_the_last_twenty(values: list[float], arrow: str) -> None:
    assert trend(values) == arrow


@pytest.mark.parametrize("slope", [0.0, 0.001, -0.01, 0.02])
def test_arrows_mean_a_slope_beyond_its_noise(slope: float) -> None:
    """The same question asked of scipy's regression."""
    rng = np.random.default_rng(17)
    for _ in range(50):
        values = slope * np.arange(20) + rng.normal(0, 0.05, 20)
        fit = linregress(np.arange(20), values)
        beyond = abs(fit.slope) > 2 * fit.stderr
        assert trend(values.tolist()) == ("→" if not beyond else "↑" if fit.slope > 0 else "↓")


@pytest.mark.parametrize(("value", "text"), [
    (0.3, "0.300"), (0.0, "0.000"), (-1.5, "-1.500"), (0.01, "0.010"), (0.00123, "0.00123"), (123.456, "123"),
])  # fmt: skip
def test_scores_keep_their_width(value: float, text: str) -> None:
    assert score(value) == text


@pytest.mark.parametrize(("value", "text"), [(0.134, "+0.13"), (-0.5, "−0.5"), (0.0, "+0"), (11, "+11")])
def test_changes_have_a_sign(value: float, text: str) -> None:
    assert signed(value) == text


@pytest.mark.parametrize(("width", "text"), [(20, "0123456789"), (10, "0123456789"), (9, "01234567…"), (1, "…")])
def test_lines_are_cut_to_the_width(width: int, text: str) -> None:
    assert truncate("0123456789", width) == text


def test_a_file_gets_one_line_per_iteration(make: Any) -> None:
    stream = io.StringIO()
    progress = Progress(stream, 40, clock=clock(100.0, 165.0))
    records = make.rising_run(40)
    for record in records:
        progress.show(record)
    progress.clear()
    progress.finish()
    lines = stream.getvalue().splitlines()
    assert lines[:-1] == [format_line(records[: i + 1], 40) for i in range(41)]
    assert lines[-1] == "40 of 40 iterations; this attempt took 1 min 05 s"
    assert "\r" not in stream.getvalue()
    assert "\x1b" not in stream.getvalue()


def test_a_terminal_gets_one_line_that_rewrites_itself(make: Any) -> None:
    stream = Terminal()
    progress = Progress(stream, 40, clock=clock(0.0, 3.0), width=lambda: 30)
    for record in make.rising_run(3):
        progress.show(record)
    shown = stream.getvalue().split(REWRITE)[1:]
    assert len(shown) == 4
    assert all(len(line) <= 29 for line in shown)
    assert "\n" not in stream.getvalue()
    progress.finish()
    assert stream.getvalue().endswith("\n3 of 40 iterations; this attempt took 3.0 s\n")


def test_the_line_follows_the_width_of_the_window(make: Any) -> None:
    widths = iter([20, 200])
    stream = Terminal()
    progress = Progress(stream, 40, width=lambda: next(widths))
    progress.show(make.record(1))
    progress.show(make.record(2))
    first, second = stream.getvalue().split(REWRITE)[1:]
    assert len(first) == 19
    assert second == format_line([make.record(1), make.record(2)], 40)


def test_other_output_may_come_between(make: Any) -> None:
    stream = Terminal()
    progress = Progress(stream, 40, clock=clock(0.0, 1.0))
    progress.show(make.record(1))
    progress.clear()
    assert stream.getvalue().endswith(REWRITE)
    before = stream.getvalue()
    progress.clear()
    assert stream.getvalue() == before
    progress.finish()
    assert stream.getvalue().startswith(before + "1 of 40")


def test_a_resumed_run_goes_on_from_its_first_attempt(make: Any) -> None:
    records = make.rising_run()
    stream = io.StringIO()
    progress = Progress(stream, 40)
    progress.resume(records[:30])
    progress.show(records[30])
    assert stream.getvalue() == format_line(records[:31], 40) + "\n"


def test_a_terminal_that_knows_ascii_only_gets_ascii(make: Any) -> None:
    stream = ascii_stream()
    progress = Progress(stream, 40)
    progress.resume(make.rising_run()[:30])
    progress.show(make.rising_run()[30])
    assert isinstance(stream.buffer, io.BytesIO)
    text = stream.buffer.getvalue().decode("ascii")
    assert re.match(r"30/40 \| reward 0\.580 \^ \+0\.25 \| held-out reader 32 % \(\+22\) \| ETA", text)
