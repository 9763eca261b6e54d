"""Files that ship with the trainer, under names that a job can use in place of a path."""

from __future__ import annotations

from pathlib import Path

from g2rpo_api.training import BUILTIN

from g2rpo_trainer.errors import DataError

_MINIATURE = Path(__file__).parent / "miniature"
SHIPPED = {
    "miniature": _MINIATURE / "model",
    "numbers": _MINIATURE / "numbers.jsonl",
    "numbers-heldout": _MINIATURE / "numbers-heldout.jsonl",
}


def resolve(path: str, key: str) -> str:
    """The path itself, or where a `builtin:` name lies.

    Raises:
        DataError: nothing of that name ships; names `key` and what does.
    """
    if not path.startswith(BUILTIN):
        return path
    name = path.removeprefix(BUILTIN)
    if name not in SHIPPED:
        raise DataError(
            f"{key}: nothing called {path} ships with the trainer; allowed: {', '.join(map(_named, SHIPPED))}"
        )
    return str(SHIPPED[name])


def _named(name: str) -> str:
    return BUILTIN + name
