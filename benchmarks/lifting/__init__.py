"""Compute the figures of docs/tlift.md: `python -m benchmarks.lifting [PART ...]`; labels are for metrics only."""
