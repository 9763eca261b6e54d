from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from g2rpo_api.errors import SpecError
from g2rpo_api.job import G2RPOJob
from g2rpo_trainer.build import Built, probes
from g2rpo_trainer.checkpoint import verified_manifest
from g2rpo_trainer.errors import DataError, DivergedError, RewardError, StorageError
from g2rpo_trainer.loop import train
from g2rpo_trainer.models.sd3 import SD3
from g2rpo_trainer.models.source import Source
from g2rpo_trainer.policy import BoundPolicy
from g2rpo_trainer.records import Experience, Loss, Prompt, PromptBatch
from g2rpo_trainer.reporting.grids import read_grid
from g2rpo_trainer.rewards import registry
from g2rpo_trainer.rewards.scoring import Scorer
from g2rpo_trainer.run import Algorithm, Run

MakeJob = Callable[..., G2RPOJob]
OpenRun = Callable[..., Built]
DIFFERS_BY_NATURE = {"time", "seconds", "step_seconds", "spent", "attempt"}


def diary(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def computed(folder: Path) -> list[dict[str, Any]]:
    return [{key: entry[key] for key in entry.keys() - DIFFERS_BY_NATURE} for entry in diary(folder)]


def weights(built: Built) -> dict[str, Tensor]:
    return {name: weight.detach().clone() for name, weight in built.family.transformer.named_parameters()}


def mean_weights(built: Built) -> dict[str, Tensor]:
    with built.run.engine.mean_weights():
        return weights(built)


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "runs" / "test"


def test_a_run_writes_one_record_per_iteration_and_evaluates_when_due(
    job: MakeJob, open_run: OpenRun, folder: Path
) -> None:
    built = open_run(job())
    assert train(built.run, built.state)
    entries = diary(folder)
    assert [entry["iteration"] for entry in entries] == [0, 1, 2, 3, 4]
    assert [entry["iteration"] for entry in entries if entry["evaluation"]] == [0, 2, 4]
    # T = 4, |M| = 2, G = 4, {1, 2}: 4 anchor calls; branches of k = 0 visit {1,2,3} and {1,2}, whose nodes 1 and 2
    # are shared but not where they go from 2, those of k = 1 visit {2,3} and {2}
    assert all(entry["model_calls"] == 2 * (4 + 4 * (3 + 2)) for entry in entries[1:])
    assert all(entry["images"] == 2 * (1 + 2 * 2 * 4) for entry in entries[1:])
    assert sorted(path.name for path in (folder / "checkpoints").glob("iter-*")) == ["iter-000002", "iter-000004"]


def test_a_process_that_was_replaced_writes_nothing_more(job: MakeJob, open_run: OpenRun, folder: Path) -> None:
    """As on a machine that lost its network, where pods go on that the cluster has given up."""
    stopping = iter([False, True])
    replaced = open_run(job(), stop=lambda: next(stopping))
    its_successor = open_run(job())
    train(its_successor.run, its_successor.state)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    for writes in (lambda: train(replaced.run, replaced.state), lambda: replaced.run.publisher.saving()):
        with pytest.raises(StorageError, match="taken over"):
            writes()
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_training_raises_the_reward_it_is_given(job: MakeJob, open_run: OpenRun, folder: Path) -> None:
    built = open_run(job({"iterations": 12, "evaluation.everyIterations": 12}))
    train(built.run, built.state)
    first, last = (
        entry["evaluation"][0]["rewards"]["brightness"]["mean"] for entry in (diary(folder)[0], diary(folder)[-1])
    )
    assert last > first + 0.01


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"algorithm.g2rpo.update": "PerIteration", "algorithm.g2rpo.aggregate": "Mean"},
        {"model.train": {"type": "LoRA", "lora": {"rank": 4}}, "algorithm.g2rpo.klBeta": 0.1},
        {"algorithm": {"type": "FlowGRPO", "flowGrpo": {"groupSize": 4, "window": {"size": 2}}}},
        {
            "ema": {"decay": 0.5, "everyIterations": 2},
            "optimizer.warmupIterations": 2,
            "optimizer.schedule": "Cosine",
            "checkpoint.keepBest": True,
        },
    ],
    ids=["per-step", "per-iteration", "lora-kl", "mix", "mean-and-schedule"],
)
def test_a_run_that_stops_and_goes_on_equals_one_that_did_not(
    job: MakeJob, open_run: OpenRun, folder: Path, changes: dict[str, Any]
) -> None:
    whole = open_run(job(changes))
    train(whole.run, whole.state)
    expected_weights, expected_diary, expected_mean = weights(whole), computed(folder), mean_weights(whole)
    folder.rename(folder.with_name("whole"))

    asked = iter([False] * 5 + [True] * 100)
    stopped = open_run(job(changes), lambda: next(asked))
    assert not train(stopped.run, stopped.state)
    assert 0 < len(diary(folder)) < len(expected_diary)
    resumed = open_run(job(changes))
    assert 0 < resumed.state.iteration < 4
    assert train(resumed.run, resumed.state)
    assert computed(folder) == expected_diary
    assert same(weights(resumed), expected_weights)
    assert same(mean_weights(resumed), expected_mean)
    assert [entry["attempt"] for entry in diary(folder)] == sorted(entry["attempt"] for entry in diary(folder))
    assert diary(folder)[-1]["attempt"] == 2


def test_records_beyond_the_checkpoint_are_computed_again_not_doubled(
    job: MakeJob, open_run: OpenRun, folder: Path
) -> None:
    built = open_run(job({"checkpoint.everyIterations": 3}))
    train(built.run, built.state)
    expected = computed(folder)
    # as if killed after record 4 was written and before its checkpoint was named
    (folder / "checkpoints" / "iter-000004").rename(folder / "checkpoints" / ".partial-iter-000004")
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"iteration": 5, "torn')
    again = open_run(job({"checkpoint.everyIterations": 3}))
    assert again.state.iteration == 3
    train(again.run, again.state)
    assert computed(folder) == expected


def test_a_run_without_any_checkpoint_keeps_the_evaluation_of_the_untrained_model(
    job: MakeJob, open_run: OpenRun, folder: Path
) -> None:
    asked = iter([False, False, False, True])
    built = open_run(job({"checkpoint.everyIterations": 4}), lambda: next(asked))
    train(built.run, built.state)
    (entry_0, entry_1) = computed(folder)
    for checkpoint in (folder / "checkpoints").glob("iter-*"):
        checkpoint.rename(folder / "checkpoints" / "lost")
    again = open_run(job({"checkpoint.everyIterations": 4}))
    train(again.run, again.state)
    assert computed(folder)[:2] == [entry_0, entry_1]
    assert [entry["iteration"] for entry in diary(folder)] == [0, 1, 2, 3, 4]


def test_a_finished_run_goes_on_when_more_iterations_are_asked_for(
    job: MakeJob, open_run: OpenRun, folder: Path
) -> None:
    built = open_run(job({"iterations": 2}))
    train(built.run, built.state)
    more = open_run(job({"iterations": 3}))
    train(more.run, more.state)
    assert [entry["iteration"] for entry in diary(folder)] == [0, 1, 2, 3]


def test_a_folder_with_another_training_is_refused_by_key(job: MakeJob, open_run: OpenRun) -> None:
    open_run(job())
    with pytest.raises(SpecError) as error:
        open_run(job({"optimizer.learningRate": 2e-3, "sampling.steps": 5, "iterations": 9}))
    assert {problem.key for problem in error.value.problems} == {
        "spec.training.optimizer.learningRate",
        "spec.training.sampling.steps",
    }


def test_a_learning_rate_that_blows_the_weights_up_is_told_as_divergence(job: MakeJob, open_run: OpenRun) -> None:
    built = open_run(job({"optimizer.learningRate": 1e30}))
    with pytest.raises(DivergedError, match="learningRate"):
        train(built.run, built.state)


@dataclass(frozen=True)
class Poisoned:
    """An algorithm whose losses of some optimizer steps are not finite."""

    healthy: Algorithm
    bad_steps: Container[int]
    steps: Iterator[int]

    def collect(self, policy: BoundPolicy, batch: PromptBatch, score: Scorer) -> Experience:
        return self.healthy.collect(policy, batch, score)

    def losses(self, policy: BoundPolicy, experience: Experience) -> Iterator[Loss]:
        for loss in self.healthy.losses(policy, experience):
            bad = next(self.steps) in self.bad_steps
            yield replace(loss, value=loss.value * math.inf) if bad else loss


def poisoned(built: Built, bad_steps: Container[int]) -> Run:
    return replace(built.run, algorithm=Poisoned(built.run.algorithm, bad_steps, itertools.count(1)))


def test_a_step_with_a_loss_that_is_not_finite_changes_nothing_and_is_counted(
    job: MakeJob, open_run: OpenRun, folder: Path
) -> None:
    built = open_run(job({"iterations": 1}))
    before = weights(built)
    assert train(poisoned(built, {1, 2}), built.state)
    assert same(before, weights(built))
    assert diary(folder)[-1]["policy"]["nonfinite_steps"] == 2
    assert diary(folder)[-1]["policy"]["optimizer_steps"] == 0


def test_skipped_steps_in_a_row_end_the_run(job: MakeJob, open_run: OpenRun) -> None:
    built = open_run(job({"safety.maxNonFiniteSteps": 3}))
    with pytest.raises(DivergedError, match="maxNonFiniteSteps = 3"):
        train(poisoned(built, {2, 3, 4, 5}), built.state)


def test_a_good_step_between_bad_ones_starts_the_count_again(job: MakeJob, open_run: OpenRun) -> None:
    built = open_run(job({"safety.maxNonFiniteSteps": 3}))
    assert train(poisoned(built, {1, 2, 3, 5, 6, 7}), built.state)


class Moody:
    """Fails for one prompt."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def score(self, images: Tensor, prompts: Sequence[Prompt]) -> Tensor:
        scores = images.mean(dim=(1, 2, 3))
        sick = torch.tensor([prompt.index == 2 for prompt in prompts])
        if self.kind == "raises" and bool(sick.any()):
            raise ConnectionError("no answer")
        return torch.where(sick, torch.nan, scores)


@pytest.mark.parametrize("kind", ["raises", "answers-nan"])
def test_a_failing_reward_ends_the_run_by_default(
    job: MakeJob, open_run: OpenRun, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    spec = job({"evaluation.maxPrompts": 1})
    built = open_run_with(open_run, spec, monkeypatch, kind)
    with pytest.raises(RewardError, match="brightness"):
        train(built.run, built.state)


def open_run_with(open_run: OpenRun, spec: G2RPOJob, monkeypatch: pytest.MonkeyPatch, kind: str) -> Built:
    monkeypatch.setitem(registry.REWARDS, "PaddleOCR", lambda *_: Moody(kind))
    return open_run(spec)


def test_with_skip_group_only_the_groups_it_cannot_score_are_left_out(
    job: MakeJob, open_run: OpenRun, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = job(
        {
            "rewards": [{"name": "brightness", "type": "PaddleOCR", "onFailure": "SkipGroup"}],
            "sampling.maxDecodeBatch": 1,
            "iterations": 5,
        }
    )
    built = open_run_with(open_run, spec, monkeypatch, "raises")
    assert train(built.run, built.state)
    entries = diary(folder)[1:]
    # 5 iterations of 2 prompts are two epochs of 5 prompts, one of which cannot be scored
    assert sum(entry["skipped_groups"] for entry in entries) == 2
    assert all(math.isfinite(entry["rewards"][0]["anchor"]["mean"]) for entry in entries if entry["skipped_groups"] < 2)


def test_a_damaged_newest_checkpoint_costs_the_iterations_since_the_one_before(
    job: MakeJob, open_run: OpenRun, folder: Path
) -> None:
    built = open_run(job())
    train(built.run, built.state)
    expected = computed(folder)
    newest = folder / "checkpoints" / "iter-000004"
    shard = newest / verified_manifest(newest).files[0].path
    shard.write_bytes(shard.read_bytes()[:-100])
    again = open_run(job())
    assert again.state.iteration == 2
    train(again.run, again.state)
    assert computed(folder) == expected


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"model.path": "/nowhere/at/all"}, "spec.training.model.path"),
        ({"sampling.height": 18}, "spec.training.sampling.height"),
        ({"prompts.path": "/nowhere.jsonl"}, "spec.training.prompts.path"),
        ({"evaluation.promptsPath": "/nowhere.jsonl"}, "spec.training.evaluation.promptsPath"),
        (
            {"model.train": {"type": "LoRA", "lora": {"targetModules": ["to_nothing"]}}},
            "spec.training.model.train.lora.targetModules",
        ),
    ],
)
def test_what_is_missing_is_named_by_its_key(
    job: MakeJob, open_run: OpenRun, changes: dict[str, Any], key: str
) -> None:
    with pytest.raises(DataError) as error:
        open_run(job(changes))
    assert str(error.value).startswith(key)


def test_a_model_folder_with_a_missing_part_is_named_by_its_key(
    job: MakeJob, open_run: OpenRun, pipeline_folder: Path, tmp_path: Path
) -> None:
    import shutil

    broken = tmp_path / "broken"
    shutil.copytree(pipeline_folder, broken)
    shutil.rmtree(broken / "vae")
    with pytest.raises(DataError, match=r"spec\.training\.model\.path"):
        open_run(job({"model.path": str(broken)}))


def test_probes_are_the_jobs_or_some_from_all_over_the_file(job: MakeJob) -> None:
    prompts = tuple(Prompt(i, f"p{i}", {}) for i in range(80))
    own = job({"evaluation.probes": ["a", "b"]}).spec.training
    assert [probe.text for probe in probes(own, prompts)] == ["a", "b"]
    default = job({"evaluation.probes": []}).spec.training
    assert [probe.index for probe in probes(default, prompts)] == [0, 10, 20, 30, 40, 50, 60, 70]
    assert probes(default, prompts[:3]) == prompts[:3]


def test_the_pictures_of_the_probes_are_in_the_folder_and_change_with_training(
    job: MakeJob, open_run: OpenRun, folder: Path
) -> None:
    built = open_run(job({"iterations": 2, "optimizer.learningRate": 0.01}))
    train(built.run, built.state)
    before, after = (read_grid(folder / "samples" / f"iter-{i:06d}.png") for i in (0, 2))
    assert [probe.caption for probe in before] == ["the number 1 1"] == [probe.caption for probe in after]
    assert before[0].picture.size == (32, 16)
    assert before[0].picture.tobytes() != after[0].picture.tobytes()


def test_text_is_encoded_once_for_all_attempts_and_before_the_model_is_loaded(
    job: MakeJob, open_run: OpenRun, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    happened: list[str] = []
    encode, load = SD3.encode, Source.load
    monkeypatch.setattr(SD3, "encode", lambda pipe, texts, asked: happened.extend(texts) or encode(pipe, texts, asked))
    monkeypatch.setattr(Source, "load", lambda self: happened.append("model") or load(self))
    first = open_run(job({"iterations": 3}))
    train(first.run, first.state)
    assert sorted(happened[:5]) == [f"the number {i} {i}" for i in range(5)]
    assert happened[5:] == ["model"]
    second = open_run(job({"iterations": 4}))
    train(second.run, second.state)
    assert happened[5:] == ["model", "model"]
    assert len(list((folder / "texts").rglob("*.safetensors"))) == 5


def test_encoded_texts_can_be_kept_where_other_jobs_find_them(
    job: MakeJob, open_run: OpenRun, folder: Path, tmp_path: Path
) -> None:
    open_run(job({"model.textCache": str(tmp_path / "shared")}))
    assert len(list((tmp_path / "shared").rglob("*.safetensors"))) == 5
    assert not (folder / "texts").exists()


def test_the_log_says_where_an_attempt_began_what_it_saved_and_how_it_was_judged(
    job: MakeJob, open_run: OpenRun, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    first = open_run(job({"iterations": 2}))
    train(first.run, first.state)
    second = open_run(job())
    assert train(second.run, second.state)
    told = caplog.messages
    assert "attempt 1 on 1 ranks goes on after iteration 0" in told
    assert "attempt 2 on 1 ranks goes on after iteration 2" in told
    assert sum(message.startswith("checkpoint of iteration 2 saved in") for message in told) == 1
    assert sum(message.startswith("iteration 4, eval on 3 prompts: {'brightness': ") for message in told) == 1
