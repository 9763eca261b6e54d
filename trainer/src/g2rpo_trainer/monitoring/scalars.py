"""The numbers of a record under names such as rewards/hps/anchor/mean, for services that draw curves. Pure.

Who calls this: the sinks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from g2rpo_trainer.journal import IterationRecord

NO_CURVES = {"iteration", "time", "stopped"}
"""Parts of a record that are no measurement."""
LABELS = ("name", "split", "k")
"""What tells the items of a list apart."""
Scalars = dict[str, float]


def scalars(record: IterationRecord) -> Scalars:
    """Every number of a record, by its path: rewards/hps/anchor/mean, evaluation/unseen/rewards/hps/mean."""
    return dict(_leaves(record.model_dump(exclude=NO_CURVES), ""))


def evaluation_scalars(record: IterationRecord) -> Scalars:
    """Those of its evaluation."""
    return dict(_leaves(record.model_dump(include={"evaluation"}), ""))


def _leaves(value: Any, path: str) -> Iterator[tuple[str, float]]:
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from _leaves(item, f"{path}/{name}" if path else str(name))
    elif isinstance(value, list | tuple):
        for item in value:
            label = next((key for key in LABELS if key in item), None) if isinstance(item, Mapping) else None
            if label is not None:
                yield from _leaves({k: v for k, v in item.items() if k != label}, f"{path}/{item[label]}")
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield path, float(value)
