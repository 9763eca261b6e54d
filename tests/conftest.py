"""What all tests share. pytest loads it before any test module, so before torch counts the processors."""

from __future__ import annotations

import os

from hypothesis import settings

# The fixtures `cluster` and `namespace`: one control plane for the whole session, started when a test first asks.
pytest_plugins = ("testcluster.fixtures",)

# Tests run on small shared machines: threads that wait for each other cost several times the work.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# A test that would fetch a model fails instead.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["MPLBACKEND"] = "Agg"

# The same examples everywhere; `--hypothesis-profile explore` looks for new ones.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.register_profile("explore", max_examples=1000, deadline=None)
settings.load_profile("repeatable")
