"""Fixtures for the tests of the operator's edges, which speak to a real API server."""

from __future__ import annotations

from testcluster.fixtures import cluster, namespace

__all__ = ["cluster", "namespace"]
