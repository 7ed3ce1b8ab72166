"""The project is cloned for workers only where it is the root of its repository."""

import os
import subprocess
import time
from pathlib import Path

import pytest

from infra.local.servers import require_root
from qaconv.errors import InputError
from tests.tracked_projects import commit_all, write

INFRA = Path(__file__).parents[2] / "infra"
SCRIPT = INFRA / "docker/in_clone.sh"


@pytest.fixture
def monorepo(tmp_path: Path) -> Path:
    """Make a repository with the project's pipeline in a sub-folder."""
    root = tmp_path / "monorepo"
    (root / "project").mkdir(parents=True)
    (root / "project/dvc.yaml").touch()
    subprocess.run(["git", "init", "--quiet", str(root)], check=True)
    return root


def test_project_below_the_root_of_its_repository_is_refused_with_the_root(monorepo: Path, tmp_path: Path) -> None:
    require_root(monorepo)
    with pytest.raises(InputError, match=f"project: must be the root of a git repository, got {monorepo}"):
        require_root(monorepo / "project")
    with pytest.raises(InputError, match="must be the root of a git repository, got no repository"):
        require_root(tmp_path)


def test_container_names_a_repository_without_the_project_at_its_root(monorepo: Path, tmp_path: Path) -> None:
    environment = os.environ | {"QACONV_HOME": str(tmp_path / "home"), "QACONV_REPOSITORY": str(monorepo)}
    done = subprocess.run(["sh", str(SCRIPT), "true"], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert f"{monorepo}: must have the project at its root, has no dvc.yaml there" in done.stderr


def test_the_index_lock_of_a_killed_git_ends_after_a_minute(tmp_path: Path) -> None:
    origin, clone = tmp_path / "origin", tmp_path / "clone"
    write(origin / "params.yaml", "")
    commit_all(origin)
    subprocess.run(["git", "clone", "--quiet", str(origin), str(clone)], check=True)
    lock = clone / ".git/index.lock"
    for seconds, kept in ((30, True), (90, False)):
        lock.touch()
        os.utime(lock, (time.time() - seconds,) * 2)
        subprocess.run(["sh", str(INFRA / "prefect/check_out.sh")], cwd=clone, check=True)
        assert lock.exists() == kept
