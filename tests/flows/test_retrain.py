import contextlib
import io
import json
from collections.abc import Mapping
from pathlib import Path
from uuid import UUID

import pytest
from mlflow import MlflowClient
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowFilter, FlowFilterName, FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.sorting import FlowRunSort
from rich.console import Console

from flows.params import change_params
from flows.retrain import Retraining, _show, register, retrain
from flows.stages import StageFailed
from qaconv import registry
from qaconv.config import load_params
from qaconv.errors import InputError
from qaconv.matching.rerankers import KReciprocal
from qaconv.metrics.rankings import list_rankings
from qaconv.registry import runs
from qaconv.release.gate import Outcome
from tests.flows.artifacts import artifact_data
from tests.tracked_projects import EVALUATE, REPOSITORY, measure_again, write

pytestmark = pytest.mark.usefixtures("prefect_server")


@pytest.fixture(scope="module")
def project(pipeline: Path) -> Path:
    """Retrain once in the project."""
    retrain()
    return pipeline


def retrain_with(folder: Path, maps: Mapping[str, float]) -> Retraining:
    measure_again(folder / "made_up/metrics", maps)
    return retrain()


def number_of_versions() -> int:
    return len(MlflowClient().search_model_versions("name = 'qaconv'"))


def newest_run() -> tuple[str, dict[str, str]]:
    """Return status and tags of the newest MLflow run."""
    experiment = MlflowClient().get_experiment_by_name("qaconv")
    assert experiment is not None
    run = MlflowClient().search_runs([experiment.experiment_id], max_results=1)[0]
    return run.info.status, run.data.tags


def test_a_second_retraining_recomputes_and_registers_nothing(project: Path) -> None:
    before = number_of_versions()
    lock = (project / "dvc.lock").read_bytes()
    times = {path: path.stat().st_mtime_ns for path in (project / "artifacts").rglob("*")}
    retraining = retrain()
    assert number_of_versions() == before
    assert (project / "dvc.lock").read_bytes() == lock
    assert {path: path.stat().st_mtime_ns for path in (project / "artifacts").rglob("*")} == times
    assert "champion" in registry.aliases(retraining.release)


def test_the_step_adapt_does_not_run_without_targets_as_dvc_would_take_it_for_all_stages(project: Path) -> None:
    with get_client(sync_client=True) as client:
        named = FlowFilter(name=FlowFilterName(any_=["retrain"]))
        newest = client.read_flow_runs(flow_filter=named, sort=FlowRunSort.START_TIME_DESC, limit=1)
        of_flow = FlowRunFilter(id=FlowRunFilterId(any_=[newest[0].id]))
        names = {run.name.rpartition("-")[0] for run in client.read_task_runs(flow_run_filter=of_flow)}
    assert "evaluate" in names and "adapt" not in names


def test_a_worse_challenger_is_refused_and_a_better_one_promoted(project: Path) -> None:
    worse = retrain_with(project, {"station": 0.01, "mall": 0.01})
    assert not worse.outcome.promoted
    assert registry.aliases(worse.release) == ["challenger"]

    better = retrain_with(project, {"station": 0.75, "mall": 0.5})
    assert better.outcome.promoted
    assert registry.aliases(better.release) == ["challenger", "champion"]

    assert "/report/report.html" in artifact_data("report")
    assert artifact_data("promotion").startswith(f"**Promoted.** {better.outcome.reason}")
    assert json.loads(artifact_data("results")) == better.results
    assert [(row["target"], row["model"]) for row in better.results] == [
        (target, model) for target in ("station", "mall") for model in ("qaconv", "baseline")
    ]
    assert better.results[0]["direct"] == "12.5 / 75.0"
    labels = [ranking.label for ranking in list_rankings(KReciprocal())]
    assert better.results[3] == {"target": "mall", "model": "baseline"} | dict.fromkeys(labels, "12.5 / 12.5")


def test_a_training_that_begins_with_the_champion_has_its_number_and_its_network(project: Path) -> None:
    champion = registry.find_champion("qaconv").version
    retrain({"methods.qaconv.backbone.weights": "champion"})
    file = f"champion-{champion}.safetensors"
    assert load_params().methods["qaconv"].backbone.weights == file
    assert (project / "data/weights" / file).read_text(encoding="utf-8") == "weights of qaconv"
    change_params({"methods.qaconv.backbone.weights": "none"})


@pytest.mark.parametrize(("results", "estimates", "adapted"), [(1, 1, 1), (0, 1, 0), (1, 0, 0)])
def test_what_was_measured_estimated_and_adapted_is_printed_apart(
    project: Path, results: int, estimates: int, adapted: int
) -> None:
    release = registry.find_release("qaconv", "1")
    assert release is not None
    measured = [{"target": "station", "direct": "12.5 / 75.0"}] * results
    estimated = [{"target": "yard", "with a match": "75.0 %"}] * estimates
    networks = [{"target": "quay", "network": "adapted: round 1"}] * adapted
    console = Console(file=io.StringIO(), width=200)
    _show(Retraining(measured, estimated, networks, release, Outcome("promoted", "it is better")), console)
    printed = console.file.getvalue()  # type: ignore[attr-defined]
    assert ("rank-1 / mAP" in printed, "Estimated, no labels" in printed) == (results > 0, estimates > 0)
    assert ("Adapted without labels" in printed) == (adapted > 0)
    assert [printed.count(name) for name in ("station", "yard", "quay")] == [results, estimates, adapted]


def test_a_stage_that_refuses_its_input_fails_flow_and_run_with_its_message(project: Path) -> None:
    write(project / "evaluate.sh", 'echo "refused: $1 has no gallery" >&2; exit 2\n')
    before = number_of_versions()
    try:
        with pytest.raises(StageFailed, match=r"^refused: (station|mall) has no gallery$") as failed:  # DVC's order
            retrain()
    finally:
        write(project / "evaluate.sh", EVALUATE)
    status, tags = newest_run()
    assert status == "FAILED"
    assert tags["failure"] == str(failed.value)
    with get_client(sync_client=True) as client:
        state = client.read_flow_run(UUID(tags["flow_run_id"])).state
    assert state is not None
    assert state.is_failed()
    assert str(failed.value) in str(state.message)
    assert number_of_versions() == before


@pytest.mark.parametrize(("fault", "tries"), [(ConnectionError("the store is gone"), 2), (InputError("no common"), 1)])
def test_a_store_that_fails_is_tried_again_and_an_input_error_is_not(
    monkeypatch: pytest.MonkeyPatch, fault: Exception, tries: int
) -> None:
    calls = []

    def fail_once(*_: object) -> str:
        calls.append(1)
        if len(calls) == 1:
            raise fault
        return "registered"

    monkeypatch.setattr(runs, "log_files", lambda *_: None)
    monkeypatch.setattr(runs, "log_figures", lambda *_: None)
    monkeypatch.setattr(registry, "register", fail_once)
    with contextlib.suppress(InputError):
        flow(name="register-only")(lambda: register(load_params(REPOSITORY / "params.yaml"), {}))()
    assert len(calls) == tries
