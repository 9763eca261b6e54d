"""Whole weights that a rank holds for a while under ZeRO-3: DeepSpeed's gathering, on tensors that are sizes only.

Who calls this: `memory.py`, around a dry run. It follows `PartitionedParameterCoordinator.fetch_sub_module` once that
knows in what order weights are used: a module's are gathered before it computes and let go after, and with them others
ahead, through one buffer that stays until the last of them has been used. What DeepSpeed could keep for the way back
(stage3_max_reuse_distance) it lets go here: whether to keep a weight it decides once for each place in the order
(`__params_to_release` has a cache), which is when a rollout goes by, that has no way back.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

PREFETCHED, LIVE, SMALL = 5 * 10**7, 10**9, 10**5
"""DeepSpeed's defaults: numbers that each module has gathered ahead (stage3_prefetch_bucket_size), until how many are
whole (stage3_max_live_parameters), and how many a tensor has at most that is never split
(stage3_param_persistence_threshold)."""


class Gathering:
    """What is whole at the moment."""

    def __init__(self, parts: Iterable[nn.Module], travel: torch.dtype) -> None:
        """Of modules in the order of their use; weights travel in `travel`."""
        self._order = [weight for part in parts for weight in split(part)]
        self._queue: deque[Tensor] = deque()
        self._used: Counter[Tensor] = Counter()
        self._taken: Counter[Tensor] = Counter()
        self._travel = travel
        self._whole: dict[Tensor, Tensor] = {}
        self._buffers: dict[Tensor, Tensor] = {}

    def begin(self, *_: Any) -> None:
        """A forward begins; a backward may follow, for which checkpointing computes parts again."""
        self._whole.clear()
        self._buffers.clear()
        self._queue = deque([*self._order, *reversed(self._order)])
        self._used.clear()
        self._taken.clear()

    def fetch(self, module: nn.Module, _: Any) -> None:
        """The module is about to compute."""
        own = split(module)
        self._gather(own)
        for weight in own:
            self._buffers.pop(weight, None)
            self._used[weight] += 1
            while self._queue and self._taken[weight] < self._used[weight]:
                self._take()
        room = min(PREFETCHED, LIVE - sum(weight.numel() for weight in self._whole))
        ahead: dict[Tensor, None] = {}
        while self._queue and sum(weight.numel() for weight in ahead) < room:
            weight = self._take()
            if weight not in self._whole:
                ahead[weight] = None
        self._gather(ahead)

    def release(self, module: nn.Module, *_: Any) -> None:
        """The module has computed."""
        for weight in split(module):
            self._whole.pop(weight, None)

    def _take(self) -> Tensor:
        """What is used next of all that nobody has thought of yet."""
        weight = self._queue.popleft()
        self._taken[weight] += 1
        return weight

    def _gather(self, weights: Iterable[Tensor]) -> None:
        wanted = [weight for weight in weights if weight not in self._whole]
        if wanted:
            buffer = torch.empty(sum(weight.numel() for weight in wanted), dtype=self._travel)
            self._buffers |= dict.fromkeys(wanted, buffer)
            self._whole |= {weight: torch.empty(weight.shape, dtype=weight.dtype) for weight in wanted}


def split(module: nn.Module) -> list[Tensor]:
    """The module's own weights that are split among ranks."""
    return [weight for weight in module.parameters(recurse=False) if weight.numel() > SMALL]


@contextmanager
def gathering(network: nn.Module, travel: torch.dtype) -> Iterator[None]:
    """Inside, forwards of the network gather its weights, which travel in `travel`."""
    parts = [part for part in network.modules() if split(part)]
    held = Gathering(parts, travel)
    hooks = [network.register_forward_pre_hook(held.begin)]
    for part in parts:
        hooks += [part.register_forward_pre_hook(held.fetch), part.register_forward_hook(held.release)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
