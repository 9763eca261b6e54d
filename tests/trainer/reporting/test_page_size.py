"""The page that Prometheus fetches every few seconds stays within its budget for every job that may be."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics.exposition import generate_latest

from g2rpo_api.rewards import MAX_REWARDS, NAME_LENGTH

LIMIT_BYTES = 64 * 1024


@pytest.fixture(scope="module")
def benchmark() -> dict[str, Any]:
    """Its pages are those whose cost is told."""
    return runpy.run_path(str(Path(__file__).parents[3] / "benchmarks" / "scrape.py"))


@pytest.mark.parametrize("trained", range(1, MAX_REWARDS + 1))
def test_the_page_of_the_largest_job_is_within_its_budget(trained: int, benchmark: dict[str, Any]) -> None:
    """However many of the rewards are held out."""
    held_out = MAX_REWARDS - trained
    largest = benchmark["Size"]((trained, held_out), granularities=8, steps=64, ranks=64, letters=NAME_LENGTH)
    page = generate_latest(benchmark["filled"](largest).registry)
    assert 16 * 1024 < len(page) < LIMIT_BYTES
    for reward in largest.roles():
        assert page.count(f'g2rpo_trainer_reward_mean{{granularity="",reward="{reward}"'.encode()) >= 2
