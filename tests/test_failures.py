"""Faults that a person can correct are one message, within seconds."""

import errno
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowException

from qaconv import failures
from qaconv.errors import InputError
from qaconv.failures import explain, require_answer

VARIABLE = "MLFLOW_TRACKING_URI"


@pytest.fixture
def listener(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """Open a port that accepts connections and never answers, with little patience for it."""
    monkeypatch.setattr(failures, "ANSWER_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (InputError("x: must be y"), "x: must be y"),
        (ModuleNotFoundError("no", name="torch"), "the package torch is not installed: pip install 'qaconv[train]'"),
        (PermissionError(errno.EACCES, "Permission denied", "data/raw"), "data/raw: Permission denied"),
        (OSError(errno.ENOSPC, "No space left on device"), "[Errno 28] No space left on device"),
        (MlflowException("Run not found\nat line 3"), "MLflow: Run not found"),
    ],
)
def test_error_that_a_person_can_correct_has_one_message(error: Exception, message: str) -> None:
    assert explain(error) == message


@pytest.mark.parametrize("error", [ValueError("bug"), ModuleNotFoundError("no", name="qaconv.x"), OSError("bug")])
def test_any_other_error_keeps_its_traceback(error: Exception) -> None:
    assert explain(error) is None


@pytest.mark.parametrize("scheme", ["http", "postgresql", "postgresql+psycopg2"])
def test_refused_port_is_named_without_the_password(scheme: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(InputError) as caught:
        require_answer(VARIABLE, f"{scheme}://admin:secret@127.0.0.1:{port}/mlflow", "/health")
    assert str(caught.value).startswith(f"{VARIABLE} {scheme}://127.0.0.1:{port}/mlflow: does not answer within")
    assert "Connection refused" in str(caught.value)


def test_server_that_accepts_and_says_nothing_is_given_up(listener: socket.socket) -> None:
    with pytest.raises(InputError, match="does not answer within 0.2 s: timed out"):
        require_answer(VARIABLE, f"http://127.0.0.1:{listener.getsockname()[1]}", "/health")


@pytest.mark.parametrize("address", ["sqlite:////nowhere/mlflow.db", "sqlite:///nowhere/mlflow.db"])
def test_database_in_a_folder_that_does_not_exist_is_refused(address: str) -> None:
    with pytest.raises(InputError, match=f"{VARIABLE}: /?nowhere must be a folder, in which mlflow.db is created"):
        require_answer(VARIABLE, address, "/health")


def test_database_that_can_be_created_is_accepted(tmp_path: Path) -> None:
    require_answer(VARIABLE, f"sqlite:///{tmp_path}/mlflow.db", "/health")
