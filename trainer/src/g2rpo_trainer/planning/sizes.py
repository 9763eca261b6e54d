"""Sizes in bytes, as people write and read them. Pure."""

from __future__ import annotations

import re

KIBI = 1024
UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
DECIMAL = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


def size_text(size: int) -> str:
    """A size in the largest binary unit that leaves at least 1."""
    value, units = float(size), list(UNITS)
    while value >= KIBI and len(units) > 1:
        value, units = value / KIBI, units[1:]
    return f"{value:.0f} B" if units[0] == "B" else f"{value:.1f} {units[0]}"


def size_of(text: str) -> int:
    """Bytes of a size such as 80GiB or 24 GB.

    Raises:
        ValueError: it is none.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]+)\s*", text)
    factors = {unit: KIBI**power for power, unit in enumerate(UNITS)} | DECIMAL
    if match is None or match[2] not in factors:
        raise ValueError(f"{text!r} is no size; write one such as 80GiB or 24GB")
    return int(float(match[1]) * factors[match[2]])
