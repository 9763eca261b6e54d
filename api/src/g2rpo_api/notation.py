"""How Kubernetes writes amounts, names and paths: as patterns for machines, in words for people.

Who calls this: `pods.py`, `volumes.py`, `job.py` and `reward_settings.py`.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from g2rpo_api.base import MAX_INT64, WITHOUT_NULLS, spelled, whole
from g2rpo_api.rules import Spelling

QUANTITY = r"^\+?([0-9]+(\.[0-9]*)?|\.[0-9]+)([KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]+)?$"
"""Kubernetes' notation of amounts, without negative ones."""
DOMAIN = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
NAME = r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
MAX_QUALIFIED = 253 + 1 + 63
LABEL_KEY = Spelling(f"^({DOMAIN}/)?{NAME}$", MAX_QUALIFIED, "a name such as team or example.com/team")
RESOURCE_KEY = Spelling(
    f"^(cpu|memory|ephemeral-storage|hugepages-[1-9][0-9]*[KMG]i|{DOMAIN}/{NAME})$",
    MAX_QUALIFIED,
    "cpu, memory, ephemeral-storage, hugepages-2Mi or an extended resource such as nvidia.com/gpu",
)
MAX_ITEMS = 64


def _text_of_number(value: Any) -> Any:
    number = whole(value)
    return str(number) if type(number) is int and abs(number) <= MAX_INT64 else value


Quantity = Annotated[
    str,
    spelled(QUANTITY, 32, "an amount such as 500m, 16Gi or 8", **{"x-kubernetes-int-or-string": True}),
    BeforeValidator(_text_of_number),
]
"""An amount as Kubernetes writes it: 500m, 16Gi, 8."""
ObjectName = Annotated[
    str, spelled(r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", 253, "lower-case letters and digits, - and . inside")
]
LabelKey = Annotated[str, spelled(LABEL_KEY.pattern, LABEL_KEY.most, LABEL_KEY.words)]
LabelValue = Annotated[
    str, spelled(r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$", 63, "letters and digits, -, _ and . inside")
]
ExtendedResource = Annotated[str, spelled(f"^{DOMAIN}/{NAME}$", MAX_QUALIFIED, "a name such as nvidia.com/gpu")]
EnvName = Annotated[str, spelled(r"^[A-Za-z_][A-Za-z0-9_]*$", 253, "letters, digits and _, no digit first")]
AbsolutePath = Annotated[str, spelled(r"^/[^:]*$", 4096, "/ first, no colon")]
RelativePath = Annotated[str, spelled(r"^[^/].*$", 4096, "no / first")]
Key = Annotated[str, spelled(r"^[-._a-zA-Z0-9]+$", 253, "letters, digits, -, _ and .")]
VolumeName = Annotated[str, spelled(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", 40, "lower-case letters and digits, - inside")]
Amounts = Annotated[dict[str, Quantity], Field(max_length=16), WITHOUT_NULLS]
Texts = Annotated[dict[str, Annotated[str, Field(max_length=4096)]], Field(max_length=MAX_ITEMS), WITHOUT_NULLS]
Labels = Annotated[dict[str, LabelValue], Field(max_length=MAX_ITEMS), WITHOUT_NULLS]
