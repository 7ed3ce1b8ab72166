"""A stage imports the packages that take seconds only if it computes with them: it runs for every target."""

import subprocess
import sys

import pytest

from tests.imports import PROJECT

TORCH = {"torch", "torchvision", "onnxruntime"}
UNUSED = {
    "sources": TORCH,
    "fit_tlift": TORCH,
    "identify": TORCH | {"matplotlib"},
    "evaluate": TORCH | {"matplotlib"},
    "match": {"torchvision", "onnx", "matplotlib"},
    "rerank": {"torchvision", "onnx", "matplotlib"},
}
SOURCE = """
import sys
from qaconv.config import load_params
load_params()
import qaconv.stages.{stage}
print(*sorted({unused} & set(sys.modules)))
"""


@pytest.mark.parametrize("stage", UNUSED)
def test_a_stage_does_not_import_what_it_does_not_use(stage: str) -> None:
    source = SOURCE.format(stage=stage, unused=UNUSED[stage] | {"mlflow", "scipy.stats"})
    done = subprocess.run([sys.executable, "-c", source], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert done.stdout == "\n"
