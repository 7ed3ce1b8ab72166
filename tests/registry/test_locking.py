"""The lock of a model's aliases, in a store of its own and by a clock that only waiting moves."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.server.handlers import _validate_source_run

from qaconv.errors import InputError
from qaconv.registry import locking
from qaconv.registry.locking import LEASE_S, POLL_S, SOURCE, Lock, locked
from tests.tracked_projects import copy_store

QUEUE = "qaconv-promoting"


@dataclass
class Clock:
    """A clock that a pause moves by ten seconds, after which something else happens."""

    now: float = 0
    meanwhile: Callable[[], object] = field(default=lambda: None)

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds == POLL_S
        self.now += 10
        self.meanwhile()


@pytest.fixture
def clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Clock:
    copy_store(tmp_path)
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'mlflow.db'}")
    MlflowClient().create_registered_model(QUEUE)
    clock = Clock()
    monkeypatch.setattr(locking, "time", clock)
    return clock


def tickets() -> list[str]:
    return sorted(str(ticket.version) for ticket in MlflowClient().search_model_versions(f"name = '{QUEUE}'"))


def draw(owner: str) -> Lock:
    """Draw a ticket and do nothing with it, as a killed process."""
    ticket = MlflowClient().create_model_version(QUEUE, locking.SOURCE, tags={"owner": owner}, description=owner)
    return Lock(QUEUE, str(ticket.version), owner, owner)


def test_a_free_lock_is_taken_at_once_and_leaves_no_ticket(clock: Clock) -> None:
    for _ in range(2):
        with locked("qaconv"):
            assert len(tickets()) == 1
    assert (tickets(), clock.now) == ([], 0)


def test_the_ticket_of_a_killed_process_is_removed_after_its_lease(clock: Clock) -> None:
    draw("killed")
    with locked("qaconv") as lock:
        assert tickets() == [lock.ticket]
    assert LEASE_S < clock.now <= LEASE_S + 20


def test_of_two_that_wait_for_a_killed_process_only_the_first_goes_in(clock: Clock) -> None:
    draw("killed")
    first = draw("first")
    second = draw("second")
    first.wait()
    locking._remove(QUEUE, "1")  # the second one finds it stale too
    clock.meanwhile = first.renew
    with pytest.raises(InputError, match="qaconv-promoting: first holds the lock; try again in a few minutes"):
        second.wait()
    assert tickets() == ["2", "3"]


def test_a_slow_holder_whose_ticket_was_removed_writes_nothing_more_and_frees_nobody_elses(clock: Clock) -> None:
    slow = draw("slow")
    with locked("qaconv") as lock:
        with pytest.raises(InputError, match="ticket 1 was removed, as it was not renewed for 60 s"):
            slow.renew()
        assert tickets() == [lock.ticket]


@pytest.mark.parametrize("deleted", ["ticket", "queue"])
def test_a_holder_stops_when_someone_deletes_its_ticket_by_hand(clock: Clock, deleted: str) -> None:
    with locked("qaconv") as lock:
        if deleted == "ticket":
            MlflowClient().delete_model_version(QUEUE, lock.ticket)
        else:
            MlflowClient().delete_registered_model(QUEUE)
            MlflowClient().create_registered_model(QUEUE)
            assert draw("another").ticket == lock.ticket
        with pytest.raises(InputError, match="someone deleted it; nothing more was written"):
            lock.renew()
    assert tickets() == ([] if deleted == "ticket" else ["1"])


def test_processes_that_begin_at_once_hold_it_one_after_another(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # the real clock
    inside: list[int] = []

    def hold(number: int) -> None:
        with locked("qaconv"):
            inside.append(number)
            MlflowClient().get_registered_model(QUEUE)  # lets the others run
            inside.append(number)

    threads = [threading.Thread(target=hold, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [inside[0]] * 2 + [inside[2]] * 2 + [inside[4]] * 2 == inside
    assert sorted(set(inside)) == [0, 1, 2]


def test_a_server_accepts_the_source_of_a_ticket() -> None:
    _validate_source_run(SOURCE, "")
