"""Attention back-ends: which exist, what they compute, and how one that does not work here is refused."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, get_args

import pytest
import torch
from diffusers.models.attention_dispatch import AttentionBackendName, _AttentionBackendRegistry
from torch import nn

from g2rpo_api.model import Attention
from g2rpo_trainer.errors import DataError
from g2rpo_trainer.models.facts import TORCHS_ATTENTION
from g2rpo_trainer.models.loading import FAMILIES
from g2rpo_trainer.models.speed import BACKENDS, compile_blocks, use_attention

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def untouched() -> Iterator[None]:
    """diffusers keeps the choice for the whole process."""
    before = _AttentionBackendRegistry._active_backend
    yield
    _AttentionBackendRegistry.set_active_backend(before)


def use(family: Any, wanted: Attention, compute: torch.dtype = torch.float32) -> None:
    use_attention(family.transformer, wanted, CPU, compute)


def test_every_name_of_a_job_is_one_of_diffusers() -> None:
    assert BACKENDS.keys() == set(get_args(Attention))
    assert set(BACKENDS.values()) <= set(_AttentionBackendRegistry.list_backends())


@pytest.mark.parametrize("wanted", ["NativeMath", "NativeFlash"])
def test_another_kernel_computes_the_same(wanted: Attention, cases: Mapping[str, Any]) -> None:
    case = cases["FLUX.1-dev"]
    x, t, rows = case.latents(), torch.tensor([700.0, 300.0]), case.encoded()
    usual, other = case.load(), case.load()
    use(other, wanted)
    asked = {part.processor._attention_backend for part in other.transformer.modules() if hasattr(part, "processor")}
    assert asked == {AttentionBackendName("_native_math" if wanted == "NativeMath" else "_native_flash")}
    with torch.no_grad():
        expected = usual.velocity(usual.transformer, x, t, rows)
        assert torch.allclose(other.velocity(other.transformer, x, t, rows), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("wanted", "why"),
    [("NativeEfficient", "No viable backend"), ("Flash", "flash-attn"), ("Flex", "does not support backward on CPU")],
)
def test_what_does_not_work_here_is_refused_and_left_alone(
    wanted: Attention, why: str, cases: Mapping[str, Any]
) -> None:
    family = cases["FLUX.1-schnell"].load()
    with pytest.raises(DataError, match=rf"^spec\.training\.model\.attention is {wanted}, .* this cpu .*{why}"):
        use(family, wanted)
    asked = {part.processor._attention_backend for part in family.transformer.modules() if hasattr(part, "processor")}
    assert asked == {AttentionBackendName.NATIVE}


def test_sd3_takes_torchs_own_only(cases: Mapping[str, Any]) -> None:
    family = cases["SD3"].load()
    use(family, "Native")
    with pytest.raises(DataError, match=r"SD3Transformer2DModel takes torch's own attention only; set it to Native"):
        use(family, "NativeMath")


def test_what_is_refused_before_anything_is_loaded_is_what_diffusers_cannot_do(cases: Mapping[str, Any]) -> None:
    for case in cases.values():
        family = case.load()
        (name,) = [name for name, (kind, _) in FAMILIES.items() if isinstance(family, kind)]
        processors = [part.processor for part in family.transformer.modules() if hasattr(part, "processor")]
        can = any(hasattr(processor, "_attention_backend") for processor in processors)
        assert can == (name not in TORCHS_ATTENTION)


@pytest.mark.parametrize("name", ["SD3", "FLUX.1-dev"])
def test_every_block_is_compiled_and_nothing_else(name: str, cases: Mapping[str, Any]) -> None:
    network = cases[name].load().transformer
    compile_blocks(network)
    compiled = {key for key, part in network.named_modules() if part._compiled_call_impl is not None}
    lists = {key: part for key, part in network.named_children() if isinstance(part, nn.ModuleList)}
    assert compiled == {f"{key}.{i}" for key, blocks in lists.items() for i in range(len(blocks))}
    assert len(compiled) >= 3
