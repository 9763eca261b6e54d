"""How fast known cards are.

Who calls this: `utilisation.py`, and `docs/metrics.py`, which names them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

SPEEDS: Mapping[str, float] = {
    "A100": 312e12,
    "H100 PCIe": 756e12,
    "H100 NVL": 835e12,
    "H100": 989e12,
    "H200 NVL": 835e12,
    "H200": 989e12,
    "B200": 2250e12,
    "L40S": 362e12,
    "L4": 121e12,
}
"""Operations per second in bfloat16, without sparsity, as NVIDIA's data sheets have them; the first that matches."""


def full_speed(card: str) -> float | None:
    """Of a card by torch's name of it; None where it is not known here, or only a slice is given to this process."""
    if " MIG " in card:
        return None
    return next((speed for name, speed in SPEEDS.items() if re.search(rf"\b{name}\b", card)), None)
