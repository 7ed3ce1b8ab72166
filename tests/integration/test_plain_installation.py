"""Install the package without extras in a new environment, and use what needs none there."""

import os
import re
import shutil
import subprocess
import venv
from pathlib import Path

import pytest

from qaconv.errors import EXTRAS
from tests.imports import PROJECT

LIST_INSTALLED = """
import sys
from importlib.util import find_spec
print(*(name for name in sys.argv[1:] if find_spec(name)))
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the package and the locked versions of its dependencies in a new environment; return its interpreter."""
    folder = tmp_path_factory.mktemp("plain")
    source = folder / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(PROJECT / name, source)
    shutil.copytree(PROJECT / "qaconv", source / "qaconv", ignore=shutil.ignore_patterns("__pycache__"))
    venv.create(folder / "venv", with_pip=True)
    interpreter = folder / "venv/bin/python"
    locked = re.findall(r"^[a-z].*?(?= \\$)", (PROJECT / "requirements.lock").read_text(encoding="utf-8"), re.MULTILINE)
    (folder / "versions.txt").write_text("\n".join(locked), encoding="utf-8")  # a folder has no hash to compare
    constraint = str(folder / "versions.txt")
    install = [str(interpreter), "-m", "pip", "install", "--quiet", "--constraint", constraint, str(source)]
    subprocess.run(install, check=True)
    return interpreter


def run(python: Path, folder: Path, *arguments: str) -> str:
    """Run Python outside the project, and return its output."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        [python, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_plain_installation_brings_no_package_of_an_extra(python: Path, tmp_path: Path) -> None:
    assert run(python, tmp_path, "-c", LIST_INSTALLED, *EXTRAS) == "\n"


def test_matching_metrics_and_temporal_lift_run_in_a_plain_installation(python: Path, tmp_path: Path) -> None:
    run(python, tmp_path, str(shutil.copy(PROJECT / "tests/light_part.py", tmp_path)))


def test_the_example_in_the_readme_runs_in_a_plain_installation(python: Path, tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (PROJECT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    (example,) = [block for block in blocks if "from qaconv" in block]
    assert run(python, tmp_path, "-c", example).split() == re.findall(r"# prints (\S+)", example)


def test_the_command_line_starts_in_a_plain_installation(python: Path, tmp_path: Path) -> None:
    assert "prepare" in run(python, tmp_path, "-c", "from qaconv.cli import app; app(['--help'])")
