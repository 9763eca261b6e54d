from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from g2rpo_trainer.errors import DataError
from g2rpo_trainer.prompts import iteration_batch, load_prompts
from g2rpo_trainer.records import Prompt

KEY = "spec.training.prompts.path"
PROMPTS = tuple(Prompt(i, f"prompt {i}", {}) for i in range(7))


def written(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_a_text_file_is_a_prompt_a_line_and_blank_lines_do_not_count(tmp_path: Path) -> None:
    prompts = load_prompts(written(tmp_path, "a.txt", "one\n\n  two  \n"), KEY)
    assert prompts == (Prompt(0, "one", {}), Prompt(2, "two", {}))


def test_a_jsonl_file_keeps_other_keys_as_metadata(tmp_path: Path) -> None:
    line = '{"prompt": "the number 4 7", "target": "47", "boxes": [1, 2]}\n'
    (prompt,) = load_prompts(written(tmp_path, "a.jsonl", line), KEY)
    assert prompt.text == "the number 4 7"
    assert prompt.metadata == {"target": "47", "boxes": "[1, 2]"}


def test_every_bad_line_is_named_with_its_number(tmp_path: Path) -> None:
    lines = ['{"prompt": "fine"}', "{oops", '["list"]', '{"target": "47"}', '{"prompt": "  "}']
    with pytest.raises(DataError) as error:
        load_prompts(written(tmp_path, "a.jsonl", "\n".join(lines)), KEY)
    message = str(error.value)
    assert message.startswith(KEY)
    for number in (2, 3, 4, 5):
        assert f"line {number}:" in message
    assert "line 1:" not in message


def test_many_bad_lines_are_counted_not_listed(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="and 15 more"):
        load_prompts(written(tmp_path, "a.jsonl", "nonsense\n" * 25), KEY)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [("missing.txt", None, "no file"), ("empty.txt", "\n \n", "no prompt"), ("a.csv", "x", r"\.txt")],
)
def test_an_unusable_file_is_refused_with_the_key(tmp_path: Path, name: str, content: str | None, said: str) -> None:
    path = tmp_path / name if content is None else written(tmp_path, name, content)
    with pytest.raises(DataError, match=said) as error:
        load_prompts(path, KEY)
    assert KEY in str(error.value)


def test_a_file_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "latin.txt"
    path.write_bytes("café".encode("latin-1"))
    with pytest.raises(DataError, match="cannot be read"):
        load_prompts(path, KEY)


@given(st.integers(0, 2**63 - 1), st.integers(1, 40), st.sampled_from([1, 2, 4]))
def test_ranks_share_an_iteration_without_overlap_and_any_world_size_meets_the_same_prompts(
    seed: int, iteration: int, world_size: int
) -> None:
    alone = iteration_batch(PROMPTS, seed, iteration, 4, 0, 1)
    shares = [iteration_batch(PROMPTS, seed, iteration, 4, rank, world_size) for rank in range(world_size)]
    assert tuple(slot for share in shares for slot in share.slots) == (0, 1, 2, 3) == alone.slots
    assert tuple(prompt for share in shares for prompt in share.prompts) == alone.prompts


@given(st.integers(0, 2**63 - 1))
def test_an_epoch_meets_every_prompt_once(seed: int) -> None:
    met = [iteration_batch(PROMPTS, seed, i, 1, 0, 1).prompts[0].index for i in range(1, 15)]
    assert Counter(met[:7]) == Counter(met[7:]) == Counter(range(7))


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        return [iteration_batch(PROMPTS, seed, epoch * 7 + i, 1, 0, 1).prompts[0].index for i in range(1, 8)]

    orders = {tuple(order(seed, epoch)) for seed in range(5) for epoch in range(5)}
    assert len(orders) > 20
