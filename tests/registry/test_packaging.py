"""A registered version brings its own code, the C sources included, and uses no code of the checkout that loads it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import mlflow
import pytest

from tests.tracked_projects import REPOSITORY, retrain, write_project

LOAD = """
import json, sys
import mlflow
model = mlflow.pyfunc.load_model(sys.argv[1])
ranked = model.predict(model.input_example, params={"target": "", "top_k": 2})
import qaconv
print(json.dumps([qaconv.__file__, ranked[["query", "gallery", "rank"]].values.tolist()]))
"""


def test_a_version_registered_from_another_tree_loads_where_this_package_can_be_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    retrain(write_project(tmp_path))
    version = tmp_path / "version"
    mlflow.artifacts.download_artifacts("models:/qaconv@champion", dst_path=str(version))
    (version / "code/qaconv/runtime").rename(version / "code/qaconv/inference")
    for path in (version / "pyfunc.py", *(version / "code").rglob("*.py")):
        code = path.read_text(encoding="utf-8").replace("qaconv.runtime", "qaconv.inference")
        path.write_text(code, encoding="utf-8")

    done = subprocess.run(
        [sys.executable, "-c", LOAD, version],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (version / "code/qaconv/inference/kernel.c").is_file()
    package, ranked = json.loads(done.stdout.splitlines()[-1])
    assert Path(package) == version / "code/qaconv/__init__.py"
    assert ranked == [["asked", "same", 1], ["asked", "other", 2]]
