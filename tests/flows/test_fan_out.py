import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flows import fan_out
from flows.fan_out import divide, find_outdated, spread
from flows.stages import StageFailed, reproduce
from tests.tracked_projects import start_dvc, write

log = logging.getLogger(__name__)
STAGES = """
stages:
  first: {cmd: cp source first, deps: [source], outs: [first]}
  second:
    foreach: [a, b]
    do: {cmd: "cp first second-${item}", deps: [first], outs: ["second-${item}"]}
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Change into a DVC project whose stages have run. Tests must not modify it."""
    folder = tmp_path_factory.mktemp("project")
    start_dvc(folder)
    write(folder / "source", "one")
    write(folder / "dvc.yaml", STAGES)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        reproduce(["first", "second"], log)
        yield folder


def test_outdated_stages_are_named_one_by_one(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(project, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    assert find_outdated(["first", "second"], with_deps=False) == []
    Path("second-b").unlink()
    assert find_outdated(["second"], with_deps=False) == ["second@b"]
    write(Path("source"), "two")
    assert find_outdated(["second@a"], with_deps=False) == []
    assert find_outdated(["second@a"], with_deps=True) == ["first"]


def test_a_worker_runs_all_stages_of_a_target_with_an_outdated_one() -> None:
    stages = ["rerank", "fit_tlift", "identify", "evaluate"]
    assert divide(stages, ["rerank@mall"]) == [["rerank@mall", "fit_tlift@mall", "identify@mall", "evaluate@mall"]]
    assert len(divide(stages, ["evaluate@shop", "rerank@mall", "evaluate@mall"])) == 2
    assert divide(["report", "export"], ["report", "export"]) == [["report"], ["export"]]


@pytest.mark.usefixtures("project")
def test_up_to_date_stages_are_run_on_no_worker_and_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(fan_out, "run_on_worker", None)
    with caplog.at_level(logging.INFO):
        spread(["first", "second"], "cpu", together=True, log=log)
    assert "first, second: up to date, nothing is run" in caplog.messages


def test_workers_share_a_target_in_parts_before_its_stage_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    submitted: list[tuple[Any, ...]] = []

    class Worker:
        def with_options(self, **_: str) -> "Worker":
            return self

        def submit(self, *arguments: Any) -> Any:
            submitted.append(arguments)
            return SimpleNamespace(result=lambda: None)

    monkeypatch.setattr(fan_out, "run_on_worker", Worker())
    monkeypatch.setattr(fan_out, "wait", lambda futures: None)
    monkeypatch.setattr(fan_out, "find_outdated", lambda stages, **_: ["match@mall"])
    spread(["match"], "cpu", together=False, log=log, parts=2)
    assert submitted == [(["match@mall"], "cpu", 1), (["match@mall"], "cpu", 2), (["match@mall"], "cpu")]


@pytest.mark.usefixtures("project")
def test_a_stage_that_dvc_does_not_know_fails_with_dvcs_message() -> None:
    with pytest.raises(StageFailed, match="third"):
        find_outdated(["third"], with_deps=False)
