"""Check that the demo's outputs exist, for the benchmarks that measure on them."""

import sys
from collections.abc import Iterable
from pathlib import Path


def require_outputs(paths: Iterable[Path]) -> None:
    """End the program with one message if an output of the demo is missing.

    Args:
        paths: outputs of stages, relative to the project's folder.
    """
    if missing := sorted(str(path) for path in paths if not path.exists()):
        sys.exit(f"refused: {', '.join(missing)} must be there to measure on; run `make demo` first")
