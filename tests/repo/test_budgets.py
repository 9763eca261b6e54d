"""The size that code may have: short functions, short files, more tests than code."""

from __future__ import annotations

import ast
import statistics
from pathlib import Path

import pytest

DISTRIBUTIONS = ("api", "operator", "trainer")


@pytest.fixture(scope="module")
def sources(texts: dict[Path, str]) -> dict[Path, str]:
    """Every Python file of the three distributions."""
    return {path: text for path, text in texts.items() if path.suffix == ".py" and path.parts[0] in DISTRIBUTIONS}


@pytest.fixture(scope="module")
def functions(sources: dict[Path, str]) -> dict[str, int]:
    """Lines of each function, signature and docstring included, by place."""
    return {
        f"{path}:{node.lineno} {node.name}": (node.end_lineno or 0) - node.lineno + 1
        for path, text in sources.items()
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def percentile_95(values: list[int]) -> float:
    return statistics.quantiles(values, n=20, method="inclusive")[-1]


def longest(lines: dict[str, int]) -> str:
    return "\n".join(f"{count:4} {place}" for place, count in sorted(lines.items(), key=lambda item: -item[1])[:10])


def nonblank(text: str) -> int:
    return sum(bool(line.strip()) for line in text.splitlines())


def test_functions_are_short(functions: dict[str, int]) -> None:
    lines = list(functions.values())
    assert statistics.median(lines) <= 12, longest(functions)
    assert percentile_95(lines) <= 40, longest(functions)
    assert max(lines) <= 60, longest(functions)


def test_files_are_short(sources: dict[Path, str]) -> None:
    lines = {str(path): len(text.splitlines()) for path, text in sources.items()}
    assert percentile_95(list(lines.values())) <= 250, longest(lines)
    assert max(lines.values()) <= 350, longest(lines)


def test_there_are_more_lines_of_tests_than_of_code(texts: dict[Path, str], sources: dict[Path, str]) -> None:
    code = sum(nonblank(text) for text in sources.values())
    tests = sum(nonblank(text) for path, text in texts.items() if path.suffix == ".py" and path.parts[0] == "tests")
    assert tests >= 1.2 * code, f"{tests} lines of tests for {code} of code: {tests / code:.2f}"
