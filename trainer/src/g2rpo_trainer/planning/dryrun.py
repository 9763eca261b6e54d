"""What a computation would allocate and compute, from shapes alone: nothing is computed, nothing allocated.

Who calls this: `memory.py` and `work.py`, with the model's own code. torch's fake tensors carry sizes and precisions
through real operators, autocast, checkpointing and backward included. Attention is taken to be a fused kernel, which
keeps no matrix of tokens by tokens, as on every GPU.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode


@dataclass(frozen=True)
class Memory:
    """Of one computation, in bytes."""

    peak: int
    """The most that was allocated at once beside what was there before."""
    kept: int
    """What was still allocated at the end."""


class Allocations(TorchDispatchMode):
    """Counts the bytes of the storages that operators make, until each is let go."""

    def __init__(self, known: Iterable[Tensor]) -> None:
        """`known` tensors were there before and do not count."""
        super().__init__()
        self.live = 0
        self.peak = 0
        self._sizes: dict[int, int] = {}
        for tensor in known:
            self._enter(tensor, 0)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operator and count what it made."""
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor):
                self._enter(tensor, tensor.untyped_storage().nbytes())
        return made

    def _enter(self, tensor: Tensor, size: int) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._sizes:
            return
        self._sizes[key] = size
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._leave, key)

    def _leave(self, key: int) -> None:
        self.live -= self._sizes.pop(key, 0)


def memory_of(act: Callable[[], object], known: Iterable[Tensor]) -> Memory:
    """What `act` would allocate; it works on fake tensors, and `known` are those that it finds."""
    with Allocations(known) as allocations, fused_attention():
        act()
    return Memory(allocations.peak, allocations.live)


def flops_of(act: Callable[[], object]) -> int:
    """Operations of the matrix products, convolutions and attention in `act`; a multiply-add is two.

    Not in one go with `memory_of`: torch's counter keeps what checkpointing would let go.
    """
    with FlopCounterMode(display=False) as counter, fused_attention():
        act()
    return int(counter.get_total_flops())


@contextmanager
def fused_attention() -> Iterator[None]:
    """Inside, attention is the kernel that GPUs run: torch takes the unfused one for tensors without numbers."""
    name, before = "scaled_dot_product_attention", functional.scaled_dot_product_attention

    def fused(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, **_: Any) -> Tensor:
        if attn_mask is not None:
            return before(query, key, value, attn_mask)
        attended: Tensor = torch.ops.aten._scaled_dot_product_flash_attention(query, key, value, 0.0, False, False)[0]
        return attended

    setattr(functional, name, fused)
    try:
        yield
    finally:
        setattr(functional, name, before)


def fake(module: nn.Module) -> None:
    """Give a module that was built on the meta device fake weights; to be called where they are made."""
    for part in module.modules():
        for name, weight in list(part._parameters.items()):
            if weight is not None:
                part._parameters[name] = nn.Parameter(_like(weight), requires_grad=weight.requires_grad)
        for name, buffer in list(part._buffers.items()):
            if buffer is not None:
                part._buffers[name] = _like(buffer)


def _like(tensor: Tensor) -> Tensor:
    return torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu")
