"""The lock of a model's aliases, in a store of its own."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient

from qaconv.errors import InputError
from qaconv.registry import locking
from qaconv.registry.locking import Lock, locked
from tests.tracked_projects import copy_store

QUEUE = "qaconv-promoting"


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy_store(tmp_path)
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.setattr(locking, "POLL_S", 0.01)
    monkeypatch.setattr(locking, "LEASE_S", 0.1)


def tickets() -> list[str]:
    return [str(ticket.version) for ticket in MlflowClient().search_model_versions(f"name = '{QUEUE}'")]


@contextmanager
def killed_holder() -> Iterator[Lock]:
    """Hold the lock and neither renew nor release it."""
    client = MlflowClient()
    client.create_registered_model(QUEUE)
    ticket = client.create_model_version(QUEUE, locking.SOURCE, tags={locking.OWNER: "x"}, description="process 12")
    yield Lock(QUEUE, str(ticket.version), "x", "process 12")


def most_inside_at_once(processes: int) -> int:
    """Let threads hold the lock in turn, and return how many were inside together at most."""
    inside = 0
    most = 0

    def hold() -> None:
        nonlocal inside, most
        with locked("qaconv"):
            inside += 1
            most = max(most, inside)
            time.sleep(0.02)
            inside -= 1

    threads = [threading.Thread(target=hold) for _ in range(processes)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return most


def test_waiters_go_in_one_at_a_time_and_leave_no_ticket(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locking, "LEASE_S", 60)
    assert most_inside_at_once(3) == 1
    assert tickets() == []


def test_of_two_waiters_on_a_killed_process_one_goes_in_at_a_time() -> None:
    with killed_holder():
        assert most_inside_at_once(2) == 1
    assert tickets() == []


def test_a_slow_holder_whose_ticket_was_removed_writes_nothing_more_and_frees_nobody_elses() -> None:
    with killed_holder() as slow, locked("qaconv") as other:
        with pytest.raises(InputError, match="ticket 1 was removed, as it was not renewed for 0.1 s"):
            slow.renew()
        assert tickets() == [other.ticket]
        other.renew()


def test_a_holder_that_renews_is_never_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locking, "WAIT_S", 0.5)
    with locked("qaconv") as holder:
        failures: list[str] = []

        def wait() -> None:
            with (
                pytest.raises(InputError, match="holds the lock; try again in a few minutes") as refused,
                locked("qaconv"),
            ):
                pass
            failures.append(str(refused.value))

        waiter = threading.Thread(target=wait)
        waiter.start()
        while waiter.is_alive():
            holder.renew()
            time.sleep(0.02)
        assert len(failures) == 1
        assert tickets() == [holder.ticket]


@pytest.mark.parametrize("deleted", ["ticket", "queue"])
def test_a_holder_stops_when_someone_deletes_its_ticket_by_hand(deleted: str) -> None:
    with locked("qaconv") as holder:
        if deleted == "ticket":
            MlflowClient().delete_model_version(QUEUE, holder.ticket)
        else:
            MlflowClient().delete_registered_model(QUEUE)
            MlflowClient().create_registered_model(QUEUE)
            MlflowClient().create_model_version(QUEUE, locking.SOURCE, tags={locking.OWNER: "another"})
        with pytest.raises(InputError, match="someone deleted it; nothing more was written"):
            holder.renew()
    assert tickets() == ([] if deleted == "ticket" else ["1"])
