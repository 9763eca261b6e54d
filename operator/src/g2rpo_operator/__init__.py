"""Kubernetes operator for G2RPOJob resources."""
