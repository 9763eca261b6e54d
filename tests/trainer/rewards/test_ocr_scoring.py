"""CTC decoding and scoring, against sums over every alignment."""

from __future__ import annotations

from itertools import groupby, product

import numpy as np
import pytest
import torch

from g2rpo_trainer.records import Prompt
from g2rpo_trainer.rewards.onnx import BLANK, TextScorer, likelihood, merge, package_file, target_texts


def frames(rows: int, length: int, classes: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, length, classes, generator=generator).softmax(-1)


def label_of(path: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(k for k, _ in groupby(path) if k != BLANK)


def summed_over_alignments(probabilities: np.ndarray, target: tuple[int, ...]) -> float:
    length, classes = probabilities.shape
    total = 0.0
    for path in product(range(classes), repeat=length):
        if label_of(path) == target:
            total += float(np.prod([probabilities[t, k] for t, k in enumerate(path)]))
    return total


@pytest.mark.parametrize("target", [(1,), (1, 2), (2, 2), (3, 1, 3), (1, 1, 2)])
def test_likelihood_is_the_sum_over_alignments_per_character(target: tuple[int, ...]) -> None:
    probabilities = frames(rows=1, length=5, classes=4, seed=len(target))
    expected = summed_over_alignments(probabilities[0].double().numpy(), target) ** (1 / len(target))
    assert likelihood(probabilities, [target]).item() == pytest.approx(expected, rel=1e-5)


def test_likelihood_of_a_batch_is_that_of_its_rows() -> None:
    probabilities = frames(rows=3, length=6, classes=9, seed=0)
    targets = [(8, 8), (1, 5, 2), (3,)]
    alone = [likelihood(probabilities[i : i + 1], [targets[i]]).item() for i in range(3)]
    assert likelihood(probabilities, targets).tolist() == pytest.approx(alone, rel=1e-6)


def test_likelihoods_of_all_texts_sum_to_one() -> None:
    probabilities = frames(rows=1, length=3, classes=3, seed=4)
    texts = {label_of(path) for path in product(range(3), repeat=3)}
    scores = [likelihood(probabilities, [text]).item() ** len(text) for text in texts if text]
    nothing = float(probabilities[0, :, BLANK].prod())
    assert sum(scores) + nothing == pytest.approx(1, rel=1e-5)


def test_likelihood_stays_finite_where_a_network_is_certain() -> None:
    certain = torch.zeros(1, 4, 5)
    certain[0, :, 0] = 1
    assert 0 <= likelihood(certain, [(1, 2)]).item() < 1e-6


def test_merge_drops_repeats_then_blanks() -> None:
    assert merge([1, 1, 0, 1, 2, 2, 0, 0, 3]) == [1, 1, 2, 3]
    assert merge([]) == []
    assert merge([0, 0]) == []


def test_exact_match_is_one_where_the_likeliest_path_is_the_target() -> None:
    probabilities = torch.eye(4)[torch.tensor([[1, 1, 0, 2], [1, 2, 3, 0]])]
    scorer = TextScorer(["", "a", "b", "c"], "ExactMatch")
    assert scorer(probabilities, ["ab", "ab"]).tolist() == [1, 0]
    assert scorer.read(probabilities) == ["ab", "abc"]


def test_a_character_outside_the_alphabet_is_refused() -> None:
    with pytest.raises(ValueError, match="does not know 'z'"):
        TextScorer(["", "a"], "Likelihood")(torch.ones(1, 4, 2) / 2, ["az"])


def test_a_target_longer_than_the_picture_is_refused() -> None:
    with pytest.raises(ValueError, match="needs 5 frames; pictures of this width have 4"):
        TextScorer(["", "a"], "Likelihood")(torch.ones(1, 4, 2) / 2, ["aaa"])


def test_a_prompt_without_a_target_is_named() -> None:
    prompts = [Prompt(0, "the number 4 7", {"target": "47"}), Prompt(3, "the number 5 1", {})]
    with pytest.raises(ValueError, match=r"prompt 3 \('the number 5 1'\) has no text under the key 'target'"):
        target_texts(prompts)


@pytest.mark.parametrize("package", ["ddddocr", "a_package_nobody_has"])
def test_a_missing_file_of_a_package_is_named(package: str) -> None:
    with pytest.raises(FileNotFoundError, match=f"absent.onnx of the package {package}"):
        package_file(package, "absent.onnx")
