"""Jobs that the tests of the API start from."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from g2rpo_api.errors import SpecError, SpecProblem
from g2rpo_api.parse import parse_job
from testapi.examples import put

Data = dict[str, Any]

REQUIRED: Data = {
    "apiVersion": "g2rpo.dev/v1alpha1",
    "kind": "G2RPOJob",
    "metadata": {"name": "job"},
    "spec": {
        "training": {
            "iterations": 10,
            "model": {"family": "SD3", "path": "org/model", "train": {"type": "LoRA"}},
            "prompts": {"path": "prompts.txt"},
            "sampling": {"height": 64, "width": 64},
            "algorithm": {"type": "G2RPO"},
            "rewards": [{"name": "ocr", "type": "PaddleOCR"}],
        }
    },
}
"""Only what has no default."""


@pytest.fixture
def required() -> Data:
    """A valid job of required keys only, to be changed at will."""
    return copy.deepcopy(REQUIRED)


@pytest.fixture
def job_with() -> Callable[[dict[str, Any]], Data]:
    """Job data with some keys changed: {"spec.training.seed": 3}."""

    def change(changes: dict[str, Any]) -> Data:
        data = copy.deepcopy(REQUIRED)
        for path, value in changes.items():
            put(data, path, value)
        return data

    return change


@pytest.fixture
def problems_of(job_with: Callable[[dict[str, Any]], Data]) -> Callable[[dict[str, Any]], list[SpecProblem]]:
    """Problems of a job with some keys changed; empty when there are none."""

    def find(changes: dict[str, Any]) -> list[SpecProblem]:
        try:
            parse_job(job_with(changes))
        except SpecError as error:
            return list(error.problems)
        return []

    return find
