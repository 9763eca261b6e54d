"""Rows of parquet files and of data sets that Hugging Face's `datasets` saved; the only importer of pyarrow.

Who calls this: `prompt_files.py`, where a job names such a file. Columns with raw bytes (pictures, as a rule) are
never read: prompts are all that is wanted, and a data set may hold gigabytes of the others.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

STATE = "state.json"
"""In a folder that `Dataset.save_to_disk` wrote."""
SPLITS = "dataset_dict.json"
"""In a folder that `DatasetDict.save_to_disk` wrote, above those of its splits."""


def rows(path: Path, needed: str) -> Iterator[dict[str, Any]]:
    """Rows of a parquet file, of all in a folder, or of a saved data set, in order of file names.

    Args:
        path: the file or folder.
        needed: a column that must be there.

    Raises:
        OSError: a file is missing or cut short.
        ValueError: a file is damaged, or the folder holds nothing that can be read; says what is there.
        KeyError: the column is missing; names those that there are.
    """
    if (path / STATE).is_file():
        yield from _saved(path, needed)
        return
    for file in [path] if path.is_file() else _parquet_files(path):
        with parquet.ParquetFile(file) as source:
            columns = _readable(source.schema_arrow, needed)
            for batch in source.iter_batches(columns=columns):
                yield from batch.to_pylist()


def _parquet_files(folder: Path) -> list[Path]:
    files = sorted(folder.glob("*.parquet"))
    if files:
        return files
    if (folder / SPLITS).is_file():
        splits = json.loads((folder / SPLITS).read_text(encoding="utf-8"))["splits"]
        choice = " or ".join(f"{folder / name}/" for name in splits)
        raise ValueError(f"it is a data set of several splits; name one: {choice}")
    raise ValueError("the folder holds neither *.parquet files nor what Dataset.save_to_disk writes")


def _saved(folder: Path, needed: str) -> Iterator[dict[str, Any]]:
    """Rows of the Arrow streams that the folder's state lists."""
    state = json.loads((folder / STATE).read_text(encoding="utf-8"))
    for entry in state["_data_files"]:
        with pa.memory_map(str(folder / entry["filename"])) as file, pa.ipc.open_stream(file) as stream:
            columns = _readable(stream.schema, needed)
            for batch in stream:
                yield from batch.select(columns).to_pylist()


def _readable(schema: pa.Schema, needed: str) -> list[str]:
    """Names of the columns without raw bytes in them."""
    if needed not in schema.names:
        raise KeyError(f"no column {needed!r}; there are {', '.join(schema.names)}")
    return [field.name for field in schema if not _has_bytes(field.type)]


def _has_bytes(kind: pa.DataType) -> bool:
    tests = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary, pa.types.is_binary_view)
    inner = (kind.field(i).type for i in range(kind.num_fields))
    return any(test(kind) for test in tests) or any(_has_bytes(part) for part in inner)
