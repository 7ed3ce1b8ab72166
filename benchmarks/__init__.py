"""What the README's figures come from: `python -m benchmarks [PART ...]`, where a part is a module with `rows()`."""

import os

# Else OpenMP's threads go on spinning for milliseconds after a call, and take a core from the call measured next.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
