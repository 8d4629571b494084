"""Benchmarks of step labels: what a right label costs in rollout tokens."""
