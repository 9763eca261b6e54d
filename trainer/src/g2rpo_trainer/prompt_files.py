"""Prompt files of every kind, read once: lines, JSON, parquet, data sets of Hugging Face.

Who calls this: build, once. A kind is told by the suffix. Where its
business ends: which prompts an iteration works on is `prompts.py`; columns are read in `tables.py`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from g2rpo_api.prompts import PROMPT_FILES, PromptsSpec
from g2rpo_trainer.errors import DataError
from g2rpo_trainer.records import Prompt

SHOWN_MISTAKES = 10
PLAIN = (".txt", ".jsonl", ".json")
TARGET = "target"
"""Under which rewards find the text that a picture should show."""
Entry = tuple[int, Any]
"""Number of a line or row, from 1, and what is there: an object, a text, or the ValueError of reading it."""


def load_prompts(path: Path, spec: PromptsSpec, key: str) -> tuple[Prompt, ...]:
    """Read a prompt file: of prompts (.txt), of objects (.jsonl, .json) or of columns (.parquet, a folder).

    What an object or row holds beside the prompt becomes metadata: texts as they are, anything else as JSON, nulls
    not at all. Blank lines are skipped.

    Args:
        path: the file or folder.
        spec: under which keys prompt and target are.
        key: key of the job that names the file, for messages.

    Raises:
        DataError: the file is absent, not UTF-8, empty, of another kind, or has bad lines (all named); or reading it
            needs a library that is not installed.
    """
    if not path.exists():
        raise DataError(f"{key}: there is no file {path}; give {PROMPT_FILES}")
    entries = _lines(path, key) if path.suffix in PLAIN and path.is_file() else _rows(path, spec, key)
    prompts = _prompts(entries, spec, path, key)
    if not prompts:
        raise DataError(f"{key}: {path} holds no prompt; add at least one")
    return prompts


def _lines(path: Path, key: str) -> Iterator[Entry]:
    """The entries of a text or JSON file."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{key}: {path} cannot be read: {error}") from error
    if path.suffix == ".json":
        yield from enumerate(_array(text, path, key), start=1)
        return
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            yield number, line.strip() if path.suffix == ".txt" else _parsed(line)


def _array(text: str, path: Path, key: str) -> list[Any]:
    entries = _parsed(text)
    if not isinstance(entries, list):
        found = entries if isinstance(entries, ValueError) else f"a {type(entries).__name__}"
        raise DataError(f"{key}: {path} holds {found}; a .json file is one list of texts or objects")
    return entries


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        return ValueError(f"not JSON ({error.msg} at line {error.lineno} column {error.colno})")


def _rows(path: Path, spec: PromptsSpec, key: str) -> Iterator[Entry]:
    """The rows of a parquet file or of a folder."""
    try:
        from g2rpo_trainer.tables import rows  # noqa: PLC0415  an extra: few jobs need it
    except ModuleNotFoundError as error:
        if error.name != "pyarrow":
            raise
        raise DataError(
            f"{key}: reading {path} needs pyarrow, which is not installed; install requirements/trainer-parquet.txt, "
            "or for a cluster build the image with --extras parquet"
        ) from error
    try:
        yield from enumerate(rows(path, spec.prompt_key), start=1)
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{key}: {path} cannot be read: {error}") from error


def _prompts(entries: Iterable[Entry], spec: PromptsSpec, path: Path, key: str) -> tuple[Prompt, ...]:
    prompts, mistakes = [], []
    for number, entry in entries:
        try:
            prompts.append(_prompt(number - 1, entry, spec))
        except ValueError as error:
            mistakes.append(f"  {'row' if path.suffix not in PLAIN else 'line'} {number}: {error}")
    if mistakes:
        more = [f"  … and {len(mistakes) - SHOWN_MISTAKES} more"] if len(mistakes) > SHOWN_MISTAKES else []
        listing = "\n".join(mistakes[:SHOWN_MISTAKES] + more)
        raise DataError(
            f'{key}: {path} has lines that are not {{"{spec.prompt_key}": "…"}} objects; mend or remove them\n{listing}'
        )
    return tuple(prompts)


def _prompt(index: int, entry: Any, spec: PromptsSpec) -> Prompt:
    """An entry as a prompt.

    Raises:
        ValueError: what is wrong with it.
    """
    if isinstance(entry, ValueError):
        raise entry
    if not isinstance(entry, str | Mapping):
        raise ValueError(f"a {type(entry).__name__}, not an object")
    fields = {spec.prompt_key: entry} if isinstance(entry, str) else dict(entry)
    text = fields.pop(spec.prompt_key, None)
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"no `{spec.prompt_key}` with a text in it")
    metadata = {name: _told(value) for name, value in fields.items() if value is not None}
    if spec.target == "Quoted":
        metadata[TARGET] = _quoted(text)
    elif spec.target_key in metadata:
        metadata[TARGET] = metadata[spec.target_key]
    return Prompt(index, text, metadata)


def _told(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _quoted(text: str) -> str:
    """What stands between the first two double quotes."""
    parts = text.split('"')
    if len(parts) < 3 or not parts[1].strip():
        raise ValueError("no text between double quotes, which spec.training.prompts.target: Quoted asks for")
    return parts[1]
