"""What is imported by the package, by settings and by the light commands; and what each extra has."""

import json
import re
import subprocess
import sys
import tomllib

import pytest

from qaconv.errors import EXTRAS
from tests.imports import PROJECT

# Steps in one interpreter, each with the packages that it may not have imported by then.
STEPS = {
    "import qaconv; dir(qaconv)": {*EXTRAS, "pandas", "numpy", "pydantic"},
    "import qaconv.cli; qaconv.cli.load_params()": {*EXTRAS, "pandas", "yaml"},
    "from qaconv.plugins import BUILT_IN, find\n"
    "for group in ('loss', 'sampler', 'rerank'):\n"
    "    for name in BUILT_IN[group]: find(group, name)()": {*EXTRAS, "pandas", "yaml"},
    "import qaconv.stages.prepare, qaconv.stages.sources": {*EXTRAS, "yaml"},
    "import qaconv.stages.identify, qaconv.stages.evaluate": {*EXTRAS, "onnxruntime", "yaml"},
    "import qaconv.stages.fit_tlift": {*EXTRAS, "onnxruntime", "yaml"} - {"matplotlib"},
    "import qaconv.stages.match, qaconv.stages.rerank": {"torchvision", "onnx", "mlflow"},
    "assert 'scipy.stats' not in sys.modules": set(),
}


@pytest.fixture(scope="module")
def imported() -> dict[str, set[str]]:
    """Return the packages that have been imported after each step."""
    program = "import json, sys\nseen = []\n"
    for step in STEPS:
        program += f"{step}\nseen.append(sorted({{name.partition('.')[0] for name in sys.modules}}))\n"
    program += "print(json.dumps(seen))"
    done = subprocess.run([sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True, check=True)
    return {step: set(names) for step, names in zip(STEPS, json.loads(done.stdout), strict=True)}


@pytest.mark.parametrize("step", STEPS)
def test_nothing_that_takes_seconds_is_imported_before_it_is_needed(imported: dict[str, set[str]], step: str) -> None:
    assert imported[step] & STEPS[step] == set()


def test_every_package_of_an_extra_is_named_with_that_extra_where_it_is_missing() -> None:
    extras = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    packages = {
        extra: {re.split(r"[^\w-]", line)[0].replace("-", "_") for line in extras[extra]}
        for extra in ("train", "ops", "ray", "serve", "timm", "video")
    }
    assert set(EXTRAS) == set().union(*packages.values())
    assert [name for name, extra in EXTRAS.items() if name not in packages[extra]] == []
