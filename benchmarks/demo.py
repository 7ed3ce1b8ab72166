"""Check that the demo's outputs exist, and choose its targets, for the benchmarks that measure on them."""

import sys
from collections.abc import Iterable
from pathlib import Path

from qaconv.config import load_params
from qaconv.data.manifest import Manifest
from qaconv.paths import PREPARED


def require_outputs(paths: Iterable[Path]) -> None:
    """End the program with one message if an output of the demo is missing.

    Args:
        paths: outputs of stages, relative to the project's folder.
    """
    if missing := sorted(str(path) for path in paths if not path.exists()):
        sys.exit(f"refused: {', '.join(missing)} must be there to measure on; run `make demo` first")


def labelled_targets() -> list[str]:
    """Return the targets of params.yaml that have labels to measure with, and those that are not prepared yet."""
    targets = load_params().targets
    return [name for name in targets if not (PREPARED / name).is_dir() or Manifest.load(PREPARED / name).is_labelled]
