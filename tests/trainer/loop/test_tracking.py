"""A run that is killed between checkpoints and taken up again, as TensorBoard draws it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from g2rpo_api.job import G2RPOJob
from g2rpo_trainer.build import Built
from g2rpo_trainer.loop import train
from g2rpo_trainer.publish import Publisher


def killed_at(question: int) -> Callable[[], bool]:
    """A stop request that is never made, but the process dies when it is asked for the n-th time."""
    asked = iter(range(question))

    def stop() -> bool:
        if next(asked, None) is None:
            raise KeyboardInterrupt
        return False

    return stop


@pytest.mark.slow
def test_a_killed_run_goes_on_in_the_same_curves(
    job: Callable[..., G2RPOJob], open_run: Callable[..., Built], tmp_path: Path
) -> None:
    tracked = job({"tracking.tensorboard": True})
    built = open_run(tracked, stop=killed_at(6))
    with pytest.raises(KeyboardInterrupt):  # twice an iteration it is asked: the fourth has only begun
        train(built.run, built.state)
    folder = tmp_path / "runs" / "test"
    assert len((folder / "metrics.jsonl").read_text().splitlines()) == 4, "0 to 3; the checkpoint is of 2"
    again = open_run(tracked)
    assert again.state.iteration == 2
    assert train(again.run, again.state)
    assert isinstance(again.run.publisher, Publisher)
    again.run.publisher.finish(done=False)
    diary = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    reader = EventAccumulator(str(folder / "tensorboard"))
    reader.Reload()
    drawn = [(event.step, event.value) for event in reader.Scalars("rewards/brightness/anchor/mean")]
    assert drawn == [
        (entry["iteration"], pytest.approx(entry["rewards"][0]["anchor"]["mean"]))
        for entry in diary
        if entry["rewards"]
    ]
    assert [step for step, _ in drawn] == [1, 2, 3, 4]
    evaluated = [event.step for event in reader.Scalars("evaluation/eval/rewards/brightness/mean")]
    assert evaluated == [event.step for event in reader.Images("probes")] == [0, 2, 4]
