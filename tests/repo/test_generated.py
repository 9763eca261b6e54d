"""Generated files are what the models say, to the byte."""

from __future__ import annotations

from pathlib import Path

import pytest

from g2rpo_api.generate import FILES, outdated

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", FILES)
def test_a_generated_file_is_what_the_models_say(name: str) -> None:
    assert (ROOT / name).read_text(encoding="utf-8") == FILES[name](), "run `make generate`"


def test_nothing_is_outdated() -> None:
    assert outdated(ROOT) == []
