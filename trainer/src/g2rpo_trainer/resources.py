"""Files that ship with the trainer, under names that a job can use in place of a path."""

from __future__ import annotations

from pathlib import Path

_MINIATURE = Path(__file__).parent / "miniature"
SHIPPED = {
    "builtin:miniature": _MINIATURE / "model",
    "builtin:numbers": _MINIATURE / "model" / "numbers.jsonl",
    "builtin:numbers-heldout": _MINIATURE / "model" / "numbers-heldout.jsonl",
}
"""The names are those that `g2rpo_api` lets pass."""


def resolve(path: str) -> str:
    """Where a `builtin:` name lies; any other path as it is."""
    return str(SHIPPED.get(path, path))
