"""Parts of a job, and of the chart's values, that the guides show are right where they belong."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator

from g2rpo_api.base import camel
from g2rpo_api.job import G2RPOJob, JobSpec
from g2rpo_api.parse import parse_job
from g2rpo_api.training import TrainingSpec
from testchart.helm import CHART, merged
from testdocuments.commands import DOCUMENTS, JOB, ROOT, blocks

SAMPLE: dict[str, Any] = yaml.safe_load((ROOT / JOB).read_text(encoding="utf-8"))
VALUES: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
SCHEMA = Draft7Validator(json.loads((CHART / "values.schema.json").read_text(encoding="utf-8")))
PLACES = {(): G2RPOJob, ("spec",): JobSpec, ("spec", "training"): TrainingSpec}
"""Where a part may belong to, by the keys that it begins with."""
APART = ROOT / "docs/rewards.md"
"""Has a test of its own in tests/trainer/rewards/."""
PARTS = [
    pytest.param(part, id=f"{document.stem}: {' '.join(part)}")
    for document in DOCUMENTS
    if document != APART
    for block in blocks(document)
    if block.language == "yaml"
    for part in yaml.safe_load_all(block.text)
    if "kind" not in part and "scrape_configs" not in part
]


def place(part: dict[str, Any]) -> tuple[str, ...] | None:
    """Path in a job; None for values of the chart."""
    found = (path for path, model in PLACES.items() if part.keys() <= {camel(name) for name in model.model_fields})
    return next(found, None)


@pytest.mark.parametrize("part", PARTS)
def test_a_part_is_right_where_it_belongs(part: dict[str, Any]) -> None:
    path = place(part)
    if path is None:
        assert [error.message for error in SCHEMA.iter_errors(merged(VALUES, part))] == []
        return
    for key in reversed(path):
        part = {key: part}
    parse_job(merged(SAMPLE, part))
