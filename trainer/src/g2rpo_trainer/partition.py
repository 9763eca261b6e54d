"""Which elements of the trained weights this rank's optimizer holds, at each ZeRO stage.

Who calls this: the engine, to save and to load. It reads the layout that DeepSpeed's optimizers keep; nothing here
is exchanged between ranks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn


@dataclass(frozen=True)
class Share:
    """A stretch of one parameter inside a tensor that the optimizer moves."""

    name: str
    start: int
    """Index of the first element in the whole parameter, row-major."""
    count: int
    """Elements; 0 where the rank holds none of it."""
    master: Tensor
    """What the optimizer moves, float32, of any shape: the parameter itself, or a flat one made of many shares."""
    offset: int
    """Where in `master` the stretch begins."""

    def of(self, like_master: Tensor) -> Tensor:
        """The stretch of `master`, or of a moment of its shape: a view [count]."""
        return like_master.detach().view(-1).narrow(0, self.offset, self.count)


def shares(stage: int, optimizer: Any, names: Mapping[nn.Parameter, str], rank: int) -> Iterator[Share]:
    """This rank's shares of all trained parameters.

    Args:
        stage: ZeRO stage, 0 to 3.
        optimizer: DeepSpeed's for that stage; for stage 0 it is not looked at.
        names: trained parameters and what they are called.
        rank: of this process.
    """
    if stage == 0:
        return _whole(names)
    return _of_flat_groups(optimizer, names) if stage < 3 else _of_partitions(optimizer, names, rank)


def _whole(names: Mapping[nn.Parameter, str]) -> Iterator[Share]:
    for parameter, name in names.items():
        yield Share(name, 0, parameter.numel(), parameter, 0)


def _of_flat_groups(optimizer: Any, names: Mapping[nn.Parameter, str]) -> Iterator[Share]:
    """Stages 1 and 2 cut the concatenation of all parameters into equal parts, wherever a parameter ends."""
    for group, master in zip(optimizer.bit16_groups, optimizer.single_partition_of_fp32_groups, strict=True):
        for parameter in group:
            place = parameter._hp_mapping  # None where the rank holds nothing of it
            if place is not None:
                within, flat = place.lp_fragment_address, place.hp_fragment_address
                yield Share(names[parameter], within.start, within.numel, master, flat.start)


def _of_partitions(optimizer: Any, names: Mapping[nn.Parameter, str], rank: int) -> Iterator[Share]:
    """Stage 3 cuts every parameter into equal parts, the last of them padded or empty."""
    for parameter, name in names.items():
        group, offset, padded = optimizer.grad_position[optimizer.get_param_id(parameter)]
        start = min(rank * padded, parameter.ds_numel)  # type: ignore[attr-defined]
        count = min(padded, parameter.ds_numel - start)  # type: ignore[attr-defined]
        yield Share(name, start, count, optimizer.fp32_partitioned_groups_flat[group], offset)
