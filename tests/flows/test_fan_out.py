import logging
from pathlib import Path

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


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a DVC project whose stages have run the working folder."""
    monkeypatch.chdir(tmp_path)
    start_dvc(tmp_path)
    write(tmp_path / "source", "one")
    write(tmp_path / "dvc.yaml", STAGES)
    reproduce(["first", "second"], log)
    return tmp_path


def test_outdated_stages_are_named_one_by_one(project: Path) -> None:
    assert find_outdated(["first", "second"], with_deps=False) == []
    (project / "second-b").unlink()
    assert find_outdated(["second"], with_deps=False) == ["second@b"]
    write(project / "source", "two")
    assert find_outdated(["second@a"], with_deps=False) == []
    assert find_outdated(["second@a"], with_deps=True) == ["first"]


def test_a_worker_runs_all_stages_of_a_target_with_an_outdated_one() -> None:
    stages = ["rerank", "fit_tlift", "evaluate"]
    assert divide(stages, ["rerank@mall"]) == [["rerank@mall", "fit_tlift@mall", "evaluate@mall"]]
    assert len(divide(stages, ["evaluate@shop", "rerank@mall", "evaluate@mall"])) == 2
    assert divide(["match"], ["match@mall-1", "match@mall-2"]) == [["match@mall-1"], ["match@mall-2"]]
    assert divide(["report", "export"], ["report", "export"]) == [["report"], ["export"]]


def test_up_to_date_stages_are_run_on_no_worker_and_logged(
    project: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(fan_out, "run_on_worker", None)
    with caplog.at_level(logging.INFO):
        spread(["first", "second"], "cpu", together=True, log=log)
    assert "first, second: up to date, nothing is run" in caplog.messages


def test_a_stage_that_dvc_does_not_know_fails_with_dvcs_message(project: Path) -> None:
    with pytest.raises(StageFailed, match="third"):
        find_outdated(["third"], with_deps=False)
