"""What the README's figures come from: `python -m benchmarks [PART ...]`, where a part is a module with `rows()`."""
