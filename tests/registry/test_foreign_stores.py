"""What others did to MLflow's store is one message: a deleted experiment, no model, a version of another tool."""

from pathlib import Path

import pytest
from mlflow import MlflowClient

from qaconv.errors import InputError
from qaconv.registry import find_champion
from qaconv.registry.promotion import rollback
from qaconv.registry.reproduction import reproduce
from qaconv.registry.runs import find_experiment, use_store
from tests.tracked_projects import copy_store


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    """Change into a folder with an empty store."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    copy_store(tmp_path)
    use_store()
    return MlflowClient()


def test_deleted_experiment_is_refused_with_the_command_that_restores_it(store: MlflowClient) -> None:
    assert find_experiment("qaconv") is None
    number = store.create_experiment("qaconv")
    assert find_experiment("qaconv") == number
    store.delete_experiment(number)
    with pytest.raises(InputError, match=f"'qaconv' was deleted in MLflow; .* restore --experiment-id {number}"):
        find_experiment("qaconv")


def test_model_that_nobody_registered_is_refused_by_name(store: MlflowClient) -> None:
    for call in (
        lambda: find_champion("qaconv"),
        lambda: rollback("qaconv", "1", "why"),
        lambda: reproduce("models:/qaconv@champion"),
    ):
        with pytest.raises(
            InputError,
            match="^qaconv: no version has the alias champion; `make demo` registers one|^models:/qaconv@champion: not found",
        ):
            call()


def test_champion_of_another_tool_is_refused_with_what_to_do(store: MlflowClient, tmp_path: Path) -> None:
    store.create_registered_model("qaconv")
    version = store.create_model_version("qaconv", str(tmp_path))
    store.set_registered_model_alias("qaconv", "champion", version.version)
    for call in (
        lambda: find_champion("qaconv"),
        lambda: rollback("qaconv", "1", "why"),
        lambda: reproduce("models:/qaconv@champion"),
    ):
        with pytest.raises(InputError, match="^qaconv version 1: has no tags encoder_version and .* another tool"):
            call()
