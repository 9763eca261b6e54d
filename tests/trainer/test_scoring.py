from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from g2rpo_trainer.appearance import KINDS, Album
from g2rpo_trainer.errors import DivergedError, RewardError
from g2rpo_trainer.records import Prompt, PromptBatch
from g2rpo_trainer.rewards.protocol import UnscoredError
from g2rpo_trainer.rewards.scoring import Scorer, WeightedReward
from g2rpo_trainer.timing import CallLog, Counter, Stopwatch

PROMPTS = tuple(Prompt(i, f"p{i}", {}) for i in range(3))
BATCH = PromptBatch(1, (0, 1, 2), PROMPTS)


class Spy:
    """Answers the first pixel plus the prompt's index, and remembers how it was asked."""

    def __init__(self, answer: Tensor | Exception | None = None) -> None:
        self.answer = answer
        self.sizes: list[int] = []

    def score(self, images: Tensor, prompts: Sequence[Prompt]) -> Tensor:
        self.sizes.append(len(images))
        if isinstance(self.answer, Exception):
            raise self.answer
        if self.answer is not None:
            return self.answer
        return images[:, 0, 0, 0] + torch.tensor([float(prompt.index) for prompt in prompts])


def scorer(*rewards: Spy, on_failure: str = "Fail", max_batch: int = 2) -> Scorer:
    entries = tuple(WeightedReward(f"r{i}", reward, 1.0, "Train", on_failure) for i, reward in enumerate(rewards))
    noted = (Stopwatch(), Counter(), Album(1), CallLog())
    return Scorer(lambda latents: latents.expand(-1, 3, 2, 2), entries, max_batch, *noted)


LATENTS = torch.arange(5.0).view(5, 1, 1, 1) / 10
ROWS = torch.tensor([0, 2, 1, 1, 0])


def test_each_picture_is_scored_under_its_own_prompt_in_batches_of_bounded_size() -> None:
    first, second = Spy(), Spy()
    scores = scorer(first, second)(LATENTS, ROWS, BATCH)
    expected = LATENTS.flatten() + torch.tensor([0.0, 2.0, 1.0, 1.0, 0.0])
    assert torch.equal(scores.values, torch.stack([expected, expected]))
    assert scores.valid.all()
    assert first.sizes == second.sizes == [2, 2, 1]


def test_every_picture_that_is_scored_is_noted_under_its_prompt() -> None:
    judged = scorer(Spy())
    judged(LATENTS, ROWS, BATCH)
    taken = judged.album.take()
    assert taken.values[:, KINDS.index("brightness")].tolist() == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4])
    assert taken.groups == (0, 2, 1, 1, 0)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (ConnectionError("no answer"), "ConnectionError: no answer"),
        (torch.tensor([1.0, torch.nan]), "1 of 2 scores are not finite"),
        (torch.tensor([torch.inf, 1.0]), "1 of 2 scores are not finite"),
        (torch.zeros(3), r"shape \(3,\) for 2 pictures"),
        (torch.zeros(2, 1), r"shape \(2, 1\) for 2 pictures"),
        ([0.5, 0.25], "answered with a list, not with a tensor"),
    ],
)
def test_a_failure_names_the_reward_and_the_remedy(answer: Tensor | Exception, said: str) -> None:
    with pytest.raises(RewardError, match=said) as error:
        scorer(Spy(), Spy(answer))(LATENTS[:2], ROWS[:2], BATCH)
    assert "'r1'" in str(error.value)
    assert "onFailure" in str(error.value)


def test_with_skip_group_a_failure_is_nan_never_zero() -> None:
    scores = scorer(Spy(), Spy(ConnectionError()), on_failure="SkipGroup")(LATENTS[:2], ROWS[:2], BATCH)
    assert scores.values[0].isfinite().all()
    assert scores.values[1].isnan().all()
    assert not scores.valid.any()


@pytest.mark.parametrize(
    "answer",
    [
        torch.tensor([torch.nan, 0.5]),
        torch.tensor([torch.inf, 0.5]),
        UnscoredError("no mark", torch.tensor([torch.nan, 0.5], dtype=torch.float64)),
        UnscoredError("no mark", torch.tensor([-torch.inf, 0.5])),
    ],
)
def test_with_skip_group_the_pictures_that_have_a_score_keep_it(answer: Tensor | Exception) -> None:
    scores = scorer(Spy(answer), on_failure="SkipGroup")(LATENTS[:2], ROWS[:2], BATCH)
    assert scores.values[0, 0].isnan()
    assert scores.values[0, 1] == 0.5
    assert scores.valid.tolist() == [False, True]


def test_what_a_reward_says_of_pictures_without_a_score_is_told() -> None:
    answer = UnscoredError("1 answer has no mark", torch.tensor([torch.nan, 0.5]))
    with pytest.raises(RewardError, match="UnscoredError: 1 answer has no mark"):
        scorer(Spy(answer))(LATENTS[:2], ROWS[:2], BATCH)


def test_scores_of_the_wrong_number_that_come_with_an_error_are_not_kept() -> None:
    answer = UnscoredError("?", torch.tensor([0.5]))
    assert scorer(Spy(answer), on_failure="SkipGroup")(LATENTS[:2], ROWS[:2], BATCH).values.isnan().all()


def test_scores_are_float32_whatever_the_reward_answers() -> None:
    scores = scorer(Spy(torch.tensor([0.25, 0.5], dtype=torch.float64)))(LATENTS[:2], ROWS[:2], BATCH)
    assert scores.values.dtype == torch.float32
    assert scores.values.tolist() == [[0.25, 0.5]]


def test_pictures_that_are_not_finite_are_the_models_fault_and_no_reward_is_asked() -> None:
    spy = Spy()
    with pytest.raises(DivergedError, match="learningRate"):
        scorer(spy)(LATENTS * torch.nan, ROWS, BATCH)
    assert spy.sizes == []


def test_pictures_are_counted() -> None:
    asked = scorer(Spy())
    asked(LATENTS, ROWS, BATCH)
    assert asked.counter.take() == 5
    assert asked.counter.take() == 0


@pytest.mark.parametrize(
    ("answer", "result"),
    [
        (None, "ok"),
        (torch.tensor([torch.nan, 0.5]), "unscored"),
        (UnscoredError("no mark", torch.tensor([torch.nan, 0.5])), "unscored"),
        (torch.zeros(3), "invalid"),
        ([0.5, 0.25], "invalid"),
        (ConnectionError("no answer"), "failed"),
    ],
)
def test_every_call_is_noted_with_its_result_and_seconds(answer: Tensor | Exception | None, result: str) -> None:
    asked = scorer(Spy(answer), Spy(), on_failure="SkipGroup")
    asked(LATENTS[:2], ROWS[:2], BATCH)
    first, second = asked.calls.take()
    assert [(call.reward, call.result) for call in (first, second)] == [("r0", result), ("r1", "ok")]
    assert 0 < first.seconds < 60
    assert asked.calls.take() == []
