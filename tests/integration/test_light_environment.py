"""The package without extras is enough to match, measure and fit, in an environment that has nothing else."""

import os
import shutil
import subprocess
import venv
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
PACKAGED = ("qaconv", "pyproject.toml", "README.md", "LICENSE")


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the interpreter of a new environment in which the project is installed without extras."""
    folder = tmp_path_factory.mktemp("light")
    source = folder / "source"
    for name in PACKAGED:  # setuptools writes into the folder that it builds
        if (PROJECT / name).is_dir():
            shutil.copytree(PROJECT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            source.mkdir(exist_ok=True)
            shutil.copy(PROJECT / name, source / name)
    venv.create(folder / "venv", with_pip=True)
    python = folder / "venv/bin/python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", source], check=True, env=bare_environment())
    return python


def bare_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL"))}


def run(python: Path, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = bare_environment()
    return subprocess.run([python, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("package", ["torch", "mlflow", "dvc", "prefect", "fastapi"])
def test_the_package_without_extras_installs_no_heavy_package(python: Path, package: str, tmp_path: Path) -> None:
    done = run(python, "-c", f"import {package}", cwd=tmp_path)
    assert done.returncode and "ModuleNotFoundError" in done.stderr


def test_matching_metrics_and_temporal_lift_run_without_extras(python: Path, tmp_path: Path) -> None:
    done = run(python, str(shutil.copy(PROJECT / "tests/light_part.py", tmp_path)), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
