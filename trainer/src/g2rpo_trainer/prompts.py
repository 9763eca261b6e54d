"""Prompt files, and which prompts an iteration works on.

Who calls this: build (to read the file once) and the loop (for the batch of an iteration). The order
is a function of (seed, position), so a resumed run or another world size meets the same prompts.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from g2rpo_trainer import noise
from g2rpo_trainer.errors import DataError
from g2rpo_trainer.records import Prompt, PromptBatch

SHOWN_MISTAKES = 10


def load_prompts(path: Path, key: str) -> tuple[Prompt, ...]:
    """Read a prompt file: one prompt a line (.txt) or one JSON object a line (.jsonl).

    A JSON object has a string `prompt`; its other keys become metadata. Blank lines are skipped.

    Args:
        path: the file.
        key: key of the job that names it, for messages.

    Raises:
        DataError: the file is absent, not UTF-8, empty, of another kind, or has bad lines (all named).
    """
    if path.suffix not in (".txt", ".jsonl"):
        raise DataError(
            f"{key}: {path} is not a prompt file; allowed: .txt (a prompt a line) or .jsonl (an object a line)"
        )
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise DataError(f"{key}: there is no file {path}; give the path of a .txt or .jsonl file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{key}: {path} cannot be read: {error}") from error
    numbered = [(number, line.strip()) for number, line in enumerate(lines, start=1) if line.strip()]
    if not numbered:
        raise DataError(f"{key}: {path} holds no prompt; add at least one line")
    if path.suffix == ".txt":
        return tuple(Prompt(number - 1, text, {}) for number, text in numbered)
    return _parse_jsonl(numbered, path, key)


def _parse_jsonl(numbered: list[tuple[int, str]], path: Path, key: str) -> tuple[Prompt, ...]:
    prompts, mistakes = [], []
    for number, line in numbered:
        try:
            prompts.append(_parse_line(number - 1, line))
        except ValueError as error:
            mistakes.append(f"  line {number}: {error}")
    if mistakes:
        more = [f"  … and {len(mistakes) - SHOWN_MISTAKES} more"] if len(mistakes) > SHOWN_MISTAKES else []
        listing = "\n".join(mistakes[:SHOWN_MISTAKES] + more)
        raise DataError(
            f'{key}: {path} has lines that are not {{"prompt": "…"}} objects; mend or remove them\n{listing}'
        )
    return tuple(prompts)


def _parse_line(index: int, line: str) -> Prompt:
    try:
        entry = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON ({error.msg} at column {error.colno})") from None
    if not isinstance(entry, dict):
        raise ValueError(f"a {type(entry).__name__}, not an object")
    text = entry.pop("prompt", None)
    if not isinstance(text, str) or not text.strip():
        raise ValueError("no `prompt` with a text in it")
    metadata = {name: value if isinstance(value, str) else json.dumps(value) for name, value in entry.items()}
    return Prompt(index, text, metadata)


def iteration_batch(
    prompts: Sequence[Prompt], seed: int, iteration: int, per_iteration: int, rank: int, world_size: int
) -> PromptBatch:
    """This rank's share of the prompts of an iteration.

    The file is walked epoch by epoch, each in an order of its own; an iteration takes the next
    `per_iteration` prompts, and rank r works on the r-th equal run of them.

    Args:
        iteration: from 1.
        per_iteration: prompts over all ranks, a multiple of `world_size`.
    """
    share = per_iteration // world_size
    slots = range(rank * share, (rank + 1) * share)
    positions = [(iteration - 1) * per_iteration + slot for slot in slots]
    orders = {epoch: _order(seed, epoch, len(prompts)) for epoch in {p // len(prompts) for p in positions}}
    chosen = tuple(prompts[orders[p // len(prompts)][p % len(prompts)]] for p in positions)
    return PromptBatch(iteration, tuple(slots), chosen)


def _order(seed: int, epoch: int, count: int) -> list[int]:
    return [int(i) for i in noise.generator(seed, noise.PROMPT_ORDER, epoch).permutation(count)]
