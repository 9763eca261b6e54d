"""What trainer and operator expose: the names that a query may ask for.

Who calls this: the tests of dashboards, alerts and guides.
"""

from __future__ import annotations

from g2rpo_operator.metrics import Metrics
from g2rpo_trainer.monitoring.progress import RunInfo
from g2rpo_trainer.monitoring.telemetry import Telemetry, Vitals

ENDINGS = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "info": ("_info",)}


def exposed() -> dict[str, str]:
    """Name of a sample -> type of its metric."""
    vitals = Vitals(60.0)
    Telemetry(RunInfo("numbers", 40, 2, {"ocr": "train"}), vitals)
    families = [family for registry in (vitals.registry, Metrics().registry) for family in registry.collect()]
    return {f"{family.name}{ending}": family.type for family in families for ending in ENDINGS.get(family.type, ("",))}
