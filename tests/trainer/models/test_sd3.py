"""What only SD3 has: classifier-free guidance. And what an export does to the one before it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from g2rpo_trainer.export import export_weights


def test_guidance_doubles_the_rows(cases: Mapping[str, Any]) -> None:
    assert (cases["SD3"].load().rows_per_call, cases["SD3 guided"].load().rows_per_call) == (1, 2)


def test_guidance_is_the_extrapolation_from_the_empty_prompt(cases: Mapping[str, Any]) -> None:
    case = cases["SD3 guided"]
    guided, plain = case.load(), cases["SD3"].load()
    x, t = case.latents(), torch.tensor([700.0, 300.0])
    with torch.no_grad():
        conditional = plain.velocity(plain.transformer, x, t, cases["SD3"].encoded())
        empty = plain.velocity(plain.transformer, x, t, cases["SD3"].encoded(["", ""]))
        v = guided.velocity(guided.transformer, x, t, case.encoded())
    assert torch.allclose(v, empty + case.guidance * (conditional - empty), atol=1e-4)


def test_an_export_replaces_the_one_before(cases: Mapping[str, Any], tmp_path: Path) -> None:
    folder = tmp_path / "export"
    folder.mkdir()
    (folder / "old").write_text("")
    export_weights(cases["SD3"].load(), lora=False, folder=folder)
    assert [path.name for path in tmp_path.iterdir()] == ["export"]
    assert [path.name for path in folder.iterdir()] == ["transformer"]
