"""What docs/tlift.md's figures come from: `python -m benchmarks.lifting [PART ...]`; labels only measure."""
