"""Fixtures for the tests of the test cluster itself."""

from __future__ import annotations

from testcluster.fixtures import cluster, namespace

__all__ = ["cluster", "namespace"]
