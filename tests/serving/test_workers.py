"""Two workers of one service in one process: their records, indexes and locks are as separate as those of processes."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qaconv.registry import Release
from qaconv.runtime.shortlist import LANDMARKS
from qaconv.serving import database, indexing
from qaconv.serving.model_updates import Champions
from qaconv.serving.places import NotFound
from qaconv.serving.request_limit import RequestLimit, write_counts
from qaconv.serving.service import Service
from qaconv.serving.state_folder import LOCKS, WorkersLock
from qaconv.serving.storage import Records
from qaconv.serving.version_switch import VersionSwitch
from tests.small_service import SETTINGS, enrol, find, small_model

SHAPE = 3, 2, 1


class Worker:
    """A service that shares its state folder, and its part in changes of version."""

    def __init__(self, folder: Path, number: int) -> None:
        champions = Champions("qaconv", folder / "state/models")
        self.service = Service(Records(folder / "state", is_shared=True), SETTINGS, *champions.active_version())
        self.switch = VersionSwitch(champions, self.service, champions.active[1], number, 2)


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A registry whose champion is the last one of a list of runs; its encoder names the run."""
    runs = ["one"]
    for name in ("find_holder", "find_champion"):
        monkeypatch.setattr(
            f"qaconv.serving.model_updates.{name}", lambda model, *_: Release(model, str(len(runs)), {}, runs[-1])
        )
    monkeypatch.setattr(
        "qaconv.serving.model_updates.download_served",
        lambda release, folder: small_model(folder, encoder=release.run_id) and None,
    )
    return runs


@pytest.fixture
def workers(tmp_path: Path, registry: list[str]) -> Iterator[list[Worker]]:
    with ExitStack() as stack:
        stack.enter_context(closing(Records(tmp_path / "state")))
        both = [Worker(tmp_path, number) for number in range(2)]
        for worker in both:
            stack.enter_context(closing(worker.service.records))
        yield both


@pytest.fixture
def services(workers: list[Worker]) -> list[Service]:
    return [worker.service for worker in workers]


def test_each_worker_finds_at_once_what_another_enrolled_and_none_finds_what_another_deleted(
    services: list[Service],
) -> None:
    one, other = services
    ids = enrol(one, 5)
    assert sorted(find(other, 0)) == ids and find(other, 0)[0] == find(one, 0)[0]
    assert other.delete(ids[:2]) == 2
    assert sorted(find(one, 0)) == ids[2:] == sorted(find(other, 0))
    more = enrol(other, 3, first=100)
    assert sorted(find(one, 0, top_k=9)) == [*ids[2:], *more]


def test_a_deletion_overwrites_the_memory_of_every_worker(services: list[Service]) -> None:
    one, other = services
    (sighting, _) = enrol(one, 2)
    assert find(other, 0)  # its map is in the other's memory too
    one.delete([sighting])
    for service in services:
        service.update_index()
        gallery = service.active.galleries["mall"]
        assert sighting not in gallery._ids[:2] and sighting not in gallery.maps._slots
        assert not gallery.maps._codes[gallery.maps._free].any() and len(gallery.maps._free) == 1


def test_a_worker_that_missed_more_deletions_than_are_listed_finds_none_of_them(
    services: list[Service],
) -> None:
    one, other = services
    kept, *deleted = enrol(one, 9)
    assert len(find(other, 0, top_k=9)) == 9
    one.delete(deleted)
    with one.records.transaction() as connection:
        connection.execute("DELETE FROM deletions WHERE number < 5")
    assert find(other, 0, top_k=9) == [kept]


def test_the_last_deletions_alone_are_listed(services: list[Service]) -> None:
    one, other = services
    with one.records.transaction() as connection:
        connection.execute("DROP TRIGGER list_deletion")
    one.records._connection.executescript(database.LIST_DELETIONS.replace(str(database.KEPT), "4"))
    one.delete(enrol(one, 9))
    assert len(one.records.deletions(0)) == 4 and find(other, 0) == []


def test_one_sighting_that_two_workers_enrol_at_the_same_time_is_stored_once(
    services: list[Service], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = services
    answers: list[list[int]] = []
    enrolling = threading.Thread(target=lambda: answers.append(enrol(other, 4)))
    add = one.records.add

    def add_later(*arguments: Any) -> list[int]:
        enrolling.start()
        enrolling.join(0.5)
        return add(*arguments)

    monkeypatch.setattr(one.records, "add", add_later)
    answers.append(enrol(one, 4))
    enrolling.join(30)
    assert answers[0] == answers[1] and one.records.count() == 4
    assert sorted(find(other, 0)) == answers[0]


def test_memory_is_full_for_every_worker_at_once(services: list[Service]) -> None:
    one, other = services
    for service in services:
        service.active.__dict__["capacity"] = 3
    enrol(one, 3)
    with pytest.raises(RuntimeError, match="3 sightings are stored; serve.memory_mb has room for 3"):
        enrol(other, 1, first=50)


def test_all_workers_answer_with_a_new_version_from_the_same_moment(
    workers: list[Worker], services: list[Service], registry: list[str]
) -> None:
    ids = enrol(services[0], 3)
    registry.append("two")
    following = threading.Thread(target=workers[0].switch.follow)
    following.start()
    until = time.monotonic() + 30
    while not (announced := workers[1].switch._announcement.is_file()) and time.monotonic() < until:
        time.sleep(0.01)
    assert announced and {service.active.version for service in services} == {"1"}
    ids += enrol(services[1], 2, first=50)  # has no map of the new version yet
    services[1].delete(ids[:1])
    workers[1].switch.prepare()  # a worker does so every second
    following.join(30)
    assert {service.active.version for service in services} == {"2"}
    ids += enrol(services[1], 1, first=90)
    for service in services:
        assert sorted(find(service, 0, top_k=9)) == ids[1:]
    encoder = services[0].active.model.encoder_digest
    assert services[0].records.query("SELECT digest FROM encoders JOIN codes ON key / (1 << 40) = number") == [
        (encoder,)
    ] * len(ids[1:])
    workers[1].switch.prepare()
    assert [path.name for path in workers[0].switch._versions.folder.iterdir() if path.is_dir()] == ["2-two"]


def test_a_worker_that_was_not_ready_loads_the_new_version_before_it_answers(
    workers: list[Worker], services: list[Service], registry: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qaconv.serving.version_switch.LONGEST_WAIT_S", 0.0)
    ids = enrol(services[0], 3)
    registry.append("two")
    workers[0].switch.follow()
    ids += enrol(services[0], 1, first=50)
    assert sorted(find(services[1], 0)) == ids and services[1].active.version == "2"
    ids += enrol(services[1], 1, first=60)
    assert sorted(find(services[0], 0)) == ids


def test_one_worker_does_housekeeping_and_when_it_ends_another_one_does(services: list[Service]) -> None:
    one, other = services
    assert one.does_housekeeping and not other.does_housekeeping and one.does_housekeeping
    one.records.close()  # as a kill does
    assert other.does_housekeeping


def test_a_worker_reads_the_landmarks_and_vectors_that_another_computed(
    services: list[Service], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexing, "FEWEST", LANDMARKS + 10)
    one, other = services
    enrol(one, LANDMARKS + 12)
    assert one.does_housekeeping
    for service in services:
        service.update_index()
    galleries = [service.active.galleries["mall"] for service in services]
    assert [gallery.landmark_set for gallery in galleries] == [1, 1]
    enrol(one, 2, first=1000)
    assert [service.active.galleries["mall"].count_without_vector() for service in services] == [2, 2]
    with monkeypatch.context() as patch:
        patch.setattr(other.indexing, "add_some", None)  # computes
        for service in services:
            service.update_index()
    assert [gallery.count_without_vector() for gallery in galleries] == [0, 0]
    rows = [np.argsort(gallery._ids[: len(gallery)]) for gallery in galleries]
    first, second = (gallery._vectors.codes[order] for gallery, order in zip(galleries, rows, strict=True))
    np.testing.assert_array_equal(first, second)


def test_an_update_of_identities_that_any_worker_is_asked_for_is_done_by_the_one_that_does_housekeeping(
    services: list[Service],
) -> None:
    one, other = services
    assert one.does_housekeeping
    other.identities.updates.start("mall")
    assert [service.identities.updates.progress("mall").state for service in services] == ["waiting", "waiting"]
    one.identities.updates.start_asked()
    until = time.monotonic() + 30
    while (progress := other.identities.updates.progress("mall")).state != "idle" and time.monotonic() < until:
        time.sleep(0.01)
    assert progress.fault and "identities need probabilities that hold for the target" in progress.fault
    assert progress == one.identities.updates.progress("mall")
    other.identities.updates.start_asked()  # does nothing
    assert other.identities.updates.progress("mall") == progress


def test_what_a_worker_was_killed_in_the_middle_of_is_undone_by_the_next_read(
    services: list[Service], tmp_path: Path
) -> None:
    ids = enrol(services[0], 2)
    program = f"""
import os, signal
from pathlib import Path
from qaconv.serving.storage import Records
records = Records(Path({str(tmp_path / "state")!r}), is_shared=True)
records._connection.execute("PRAGMA cache_size = 1")  # so that it writes before it commits
with records.transaction() as connection:
    connection.execute("DELETE FROM sightings")
    connection.execute("INSERT INTO clock SELECT 1, 0")
    connection.execute("CREATE TABLE more AS SELECT randomblob(1 << 20)")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == -signal.SIGKILL
    assert (tmp_path / "state/galleries.db-journal").stat().st_size > 1 << 16
    assert sorted(find(services[1], 0)) == ids and services[0].records.count() == 2
    services[1].delete(ids[:1])
    with pytest.raises(NotFound):
        services[0].sighting("mall", ids[0])


def test_a_minutes_requests_of_a_key_are_counted_over_all_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = [6000.0]
    monkeypatch.setattr("qaconv.serving.request_limit.time.time", lambda: now_s[0])
    write_counts(tmp_path / "requests")
    limits = [RequestLimit(tmp_path / "requests", WorkersLock(tmp_path, LOCKS[0]), 5) for _ in range(2)]

    def allowed(key: str, count: int) -> int:
        return sum(limits[number % 2].take(key).requests for number in range(count))

    assert allowed("desk", 9) == 5 and allowed("door", 2) == 2
    assert limits[0].take("desk") == (0, 60)
    now_s[0] += 60 + 30  # half of the minute before counts, 2.5
    assert allowed("desk", 9) == 2 and limits[1].take("desk") == (0, 30)
    now_s[0] += 300
    assert allowed("desk", 9) == 5
    assert (tmp_path / "requests").stat().st_mode & 0o777 == 0o600
