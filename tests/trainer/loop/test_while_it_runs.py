"""What a run does beside learning: rates, mean weights, the best checkpoint, fixed evaluations, looks, stop rules."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from g2rpo_api.job import G2RPOJob
from g2rpo_trainer.appearance import brightness, contrast, diversity, lattice, saturation
from g2rpo_trainer.build import Built
from g2rpo_trainer.evaluation import Evaluator
from g2rpo_trainer.export import export_weights
from g2rpo_trainer.journal import EvaluationEntry, IterationRecord, Spread
from g2rpo_trainer.loop import train
from g2rpo_trainer.reporting.history import best_iteration, evaluated_reward

MakeJob = Callable[..., G2RPOJob]
OpenRun = Callable[..., Built]
THREE = ["the number 0 0", "the number 1 1", "the number 2 2"]
PATCH = 4


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "runs" / "test"


def diary(folder: Path) -> list[IterationRecord]:
    return [IterationRecord.model_validate_json(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def evaluation(mean: float) -> EvaluationEntry:
    spread = Spread(mean=mean, std=0.1, min=0.0, max=1.0)
    return EvaluationEntry(split="eval", prompts=3, rewards={"brightness": spread})


def weights(built: Built) -> dict[str, Tensor]:
    return {name: weight.detach().clone() for name, weight in built.family.transformer.named_parameters()}


def test_the_learning_rate_follows_its_schedule_and_is_told(job: MakeJob, open_run: OpenRun, folder: Path) -> None:
    built = open_run(job({"iterations": 4, "optimizer.warmupIterations": 2, "optimizer.schedule": "Linear"}))
    train(built.run, built.state)
    told = [record.policy.learning_rate for record in diary(folder) if record.policy]
    assert told == pytest.approx([0.5e-3, 1e-3, 1e-3, 0.5e-3])


def test_a_rate_of_nearly_nothing_moves_nearly_nothing(job: MakeJob, open_run: OpenRun) -> None:
    """The first of 10^6 iterations that warm up has a millionth of the rate, so weights move a millionth of the way."""
    changes = {"iterations": 10**6, "optimizer.warmupIterations": 10**6, "optimizer.weightDecay": 0.0}
    asked = iter([False, False, True])
    built = open_run(job(changes), stop=lambda: next(asked))
    before = weights(built)
    train(built.run, built.state)
    moved = max(float((after - before[name]).abs().max()) for name, after in weights(built).items())
    assert 0 < moved < 1e-6


def test_evaluation_and_export_are_of_the_mean_weights(job: MakeJob, open_run: OpenRun, folder: Path) -> None:
    changes = {"iterations": 3, "ema.decay": 0.9, "optimizer.learningRate": 1e-2, "evaluation.everyIterations": 3}
    built = open_run(job(changes))
    train(built.run, built.state)
    trained = weights(built)
    with built.run.engine.mean_weights():
        mean = weights(built)
        by_mean = built.run.evaluator.scores()
        exported = load_file(next((export_weights(built.family, False, folder / "export")).rglob("*.safetensors")))
    assert any(not torch.equal(mean[name], trained[name]) for name in mean)
    assert diary(folder)[-1].evaluation == by_mean
    assert built.run.evaluator.scores() != by_mean, "the trained weights draw otherwise"
    assert all(torch.equal(exported[name], mean[name]) for name in mean)


def test_training_does_not_depend_on_the_mean(job: MakeJob, open_run: OpenRun, folder: Path) -> None:
    plain = open_run(job())
    train(plain.run, plain.state)
    folder.rename(folder.with_name("plain"))
    averaged = open_run(job({"ema.decay": 0.9}))
    train(averaged.run, averaged.state)
    assert all(torch.equal(weight, weights(averaged)[name]) for name, weight in weights(plain).items())


def test_the_checkpoint_of_the_best_evaluation_is_kept_and_named(
    job: MakeJob, open_run: OpenRun, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    means = iter([0.9, 0.2, 0.5, 0.7, 0.3, 0.7, 0.1])
    scores = [[evaluation(next(means))] for _ in range(7)]
    monkeypatch.setattr(Evaluator, "scores", lambda _: scores.pop(0))
    changes = {"iterations": 6, "checkpoint": {"everyIterations": 6, "keepLast": 1, "keepBest": True}}
    built = open_run(job(changes | {"evaluation.everyIterations": 1}))
    train(built.run, built.state)
    kept = sorted(path.name for path in (folder / "checkpoints").glob("iter-*"))
    assert kept == ["iter-000003", "iter-000006"]
    assert (folder / "checkpoints" / "best").read_text() == "iter-000003\n"


def test_the_best_is_judged_on_unseen_prompts_where_there_are_some_and_by_weight() -> None:
    def entry(split: str, **means: float) -> dict[str, Any]:
        rewards = {name: {"mean": mean, "std": 0, "min": mean, "max": mean} for name, mean in means.items()}
        return {"split": split, "prompts": 3, "rewards": rewards}

    def record(iteration: int, *evaluation: dict[str, Any]) -> IterationRecord:
        rewards = [
            {"name": name, "role": "train", "weight": weight, "anchor": None, "branch": {}}
            for name, weight in (("a", 3.0), ("b", 1.0))
        ]
        nothing = dict.fromkeys(("groups", "zero_variance_groups", "skipped_groups", "model_calls", "images"), 0)
        return IterationRecord.model_validate(
            {
                "iteration": iteration, "time": 0, "attempt": 1, "world_size": 1, "rewards": rewards,
                "evaluation": evaluation, "advantage": None, "policy": None, "seconds": {}, "step_seconds": 1,
            } | nothing
        )  # fmt: skip

    seen = record(1, entry("eval", a=1.0, b=2.0, judge=99.0))
    assert evaluated_reward(seen) == pytest.approx((3 * 1.0 + 2.0) / 4), "held-out rewards have no part in it"
    both = record(2, entry("eval", a=9.0, b=9.0), entry("unseen", a=0.0, b=1.0))
    assert evaluated_reward(both) == pytest.approx(0.25)
    assert best_iteration([seen, both, record(3)]) == 1
    assert best_iteration([record(0, entry("eval", a=9.0, b=9.0)), record(1)]) is None, "there is no checkpoint of it"


def test_equal_evaluation_seeds_draw_equal_pictures_whatever_the_seed_of_training(
    job: MakeJob, open_run: OpenRun, folder: Path
) -> None:
    drawn = {}
    for name, changes in {"a": {"seed": 1}, "b": {"seed": 2}, "c": {"seed": 1, "evaluation.seed": 5}}.items():
        drawn[name] = open_run(job(changes)).run.evaluator.pictures()
        folder.rename(folder.with_name(name))
    assert torch.equal(drawn["a"], drawn["b"])
    assert not torch.equal(drawn["a"], drawn["c"])


def test_what_the_pictures_look_like_is_in_the_diary(job: MakeJob, open_run: OpenRun, folder: Path) -> None:
    """Probes with the texts of the evaluated prompts are the same pictures, which the evaluator hands out."""
    built = open_run(job({"iterations": 1, "evaluation.probes": THREE, "evaluation.maxPrompts": 3}))
    pictures = built.run.evaluator.pictures()
    train(built.run, built.state)
    untrained, first = diary(folder)
    found = untrained.evaluation[0].appearance
    assert found is not None
    for name, statistic in {"saturation": saturation, "brightness": brightness, "contrast": contrast}.items():
        assert getattr(found, name) == pytest.approx(statistic(pictures).mean().item(), rel=1e-4)
    assert found.lattice == pytest.approx(lattice(pictures, PATCH).mean().item(), rel=1e-4)
    assert found.diversity == pytest.approx(diversity(pictures), rel=1e-4)
    assert untrained.appearance is None
    assert first.appearance is not None
    assert 0 < first.appearance.diversity < found.diversity, "pictures of one prompt differ less than those of three"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"stop.maxHours": 1e-9}, "Budget"),
        ({"stop.maxGpuHours": 1e-9}, "Budget"),
        ({"stop.target": {"reward": "brightness", "value": 0.0}}, "Target"),
        ({"stop.target": {"reward": "brightness", "value": 1.0}}, None),
        ({"stop.plateau": {"iterations": 2, "minDelta": 1.0}}, "Plateau"),
        ({"stop.collapse": {"iterations": 2, "diversityDrop": 1}}, None),
    ],
)
def test_a_rule_ends_the_run_as_a_request_does(
    job: MakeJob, open_run: OpenRun, folder: Path, changes: dict[str, Any], reason: str | None
) -> None:
    built = open_run(job({"iterations": 6, "evaluation.everyIterations": 6, "checkpoint.everyIterations": 6} | changes))
    assert train(built.run, built.state)
    last = diary(folder)[-1]
    assert (last.stopped and last.stopped.reason) == reason
    assert last.evaluation
    assert [path.name for path in (folder / "checkpoints").glob("iter-*")] == [f"iter-{last.iteration:06d}"] * (
        last.iteration > 0
    )
    assert built.run.publisher.progress().stopped == last.stopped  # type: ignore[union-attr]


def test_a_run_that_a_rule_ended_is_over_when_it_is_started_again_and_goes_on_without_the_rule(
    job: MakeJob, open_run: OpenRun, folder: Path
) -> None:
    plateau = {"stop.plateau": {"iterations": 2, "minDelta": 1.0}}
    for _ in range(2):
        built = open_run(job({"iterations": 6} | plateau))
        assert train(built.run, built.state)
        assert [record.iteration for record in diary(folder)] == [0, 1, 2, 3, 4]
    freed = open_run(job({"iterations": 6}))
    assert train(freed.run, freed.state)
    assert [record.iteration for record in diary(folder)] == list(range(7))


def test_hours_count_all_attempts_and_what_they_lost(job: MakeJob, open_run: OpenRun, folder: Path) -> None:
    changes = {"iterations": 6, "checkpoint.everyIterations": 3}
    asked = iter([False] * 9 + [True])
    first = open_run(job(changes), stop=lambda: next(asked))
    assert not train(first.run, first.state)
    lost = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])["spent"]
    (folder / "checkpoints" / "iter-000004").rename(folder / "checkpoints" / ".partial-iter-000004")
    second = open_run(job(changes))
    assert second.state.iteration == 3
    assert train(second.run, second.state)
    spent = [record.spent.seconds for record in diary(folder)]
    assert spent == sorted(spent)
    assert spent[3] == lost["seconds"], "the last record that is kept knows what was lost"
    assert spent[4] > lost["seconds"]
    assert [record.spent.rank_seconds for record in diary(folder)] == spent, "one rank"
