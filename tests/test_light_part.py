"""Matching, metrics and temporal lift run where only the light dependencies can be imported."""

import subprocess
import sys

from qaconv.errors import EXTRAS
from tests.imports import PROJECT

# An environment without the packages of the extras, as far as imports can tell.
BLOCKED = """
import importlib.abc, runpy, sys

class Blocker(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {heavy!r}:
            raise ImportError(f"{{name}} must not be imported")

sys.meta_path.insert(0, Blocker())
runpy.run_path({script!r}, run_name="__main__")
"""


def test_matching_metrics_and_temporal_lift_run_without_the_heavy_packages() -> None:
    code = BLOCKED.format(heavy=tuple(EXTRAS), script=str(PROJECT / "tests/light_part.py"))
    run = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
