"""A flow that a person starts ends with one message if its servers are down."""

import io
from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings
from rich.console import Console

from flows.by_hand import by_hand, exit_with_one_message, read_target, require_servers, require_target
from flows.stages import StageFailed
from qaconv.errors import InputError
from tests.tracked_projects import write_project

DOWN = "http://127.0.0.1:9"


@pytest.mark.parametrize("variable", ["PREFECT_API_URL", "MLFLOW_TRACKING_URI"])
def test_stopped_server_is_named_before_the_flow_starts(
    variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_project(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv(variable, DOWN)
    prefect = DOWN if variable == "PREFECT_API_URL" else None
    with (
        temporary_settings(updates={PREFECT_API_URL: prefect}),
        pytest.raises(InputError, match=f"{variable} {DOWN}: does not answer within"),
    ):
        require_servers()


@pytest.mark.parametrize("error", [StageFailed("refused: mall"), InputError("refused: mall")])
def test_failure_of_a_stage_and_of_an_input_is_one_message_and_exit_status_1(error: Exception) -> None:
    output = io.StringIO()
    with pytest.raises(SystemExit, match="1"), exit_with_one_message(Console(file=output)):
        raise error
    assert output.getvalue() == "failed: refused: mall\n"
    with pytest.raises(KeyError), exit_with_one_message(Console(file=output)):
        raise KeyError("a fault of the code")


def test_settings_that_do_not_fit_end_a_flow_before_its_servers_are_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_project(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", DOWN)
    with pytest.raises(SystemExit, match="1"), by_hand(lambda params: require_target("garage", "targets", ["mall"])):
        pytest.fail("the flow must not start")
    assert capsys.readouterr().out == "failed: params.yaml: targets has no 'garage', allowed: mall\n"


def test_a_flow_of_a_target_is_told_one_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["adapt", "mall"])
    assert read_target("adapt", "adapt.targets") == "mall"
    monkeypatch.setattr("sys.argv", ["adapt"])
    with pytest.raises(SystemExit, match=r"usage: python -m flows\.adapt NAME, one of adapt\.targets in params\.yaml"):
        read_target("adapt", "adapt.targets")
