"""Granular-GRPO training of flow-matching image models."""
