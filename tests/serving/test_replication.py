"""A copy of a leader's galleries: equal to them whatever happens, or refused."""

from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import msgpack  # type: ignore[import-untyped]
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qaconv.errors import InputError
from qaconv.serving import database
from qaconv.serving.replication.client import Unreachable
from qaconv.serving.replication.copying import apply_changes
from qaconv.serving.replication.follower import OutOfDate
from qaconv.serving.replication.history import find_end, find_position, is_own_gallery, own_folder
from qaconv.serving.replication.leader import Leader
from qaconv.serving.replication.messages import Changes, ServedFile, Version, unpack
from qaconv.serving.storage import Records
from tests.serving.leader_and_copy import Copy, Machine
from tests.small_service import crop, enrol, find

MALL = "/v1/targets/mall"
TABLE = "SELECT sightings.*, map FROM sightings LEFT JOIN codes ON sighting = id ORDER BY id"


def table(records: Records) -> list[tuple[Any, ...]]:
    return records.query(TABLE)


def test_a_follower_finds_what_the_leader_enrolled_under_its_ids_and_nothing_that_it_deleted(
    leader: Machine, copy: Copy
) -> None:
    ids = enrol(leader.service, 5, person="ada")
    copy.follower.catch_up()
    assert find(copy.service, 0) == find(leader.service, 0) and sorted(find(copy.service, 0)) == ids
    assert table(copy.records) == table(leader.records)
    leader.service.delete(ids[1:3])
    ids += enrol(leader.service, 2, first=50)
    copy.follower.catch_up()
    assert sorted(find(copy.service, 0, top_k=9)) == [ids[0], *ids[3:]]
    assert table(copy.records) == table(leader.records)
    assert crop(1)[20:] not in b"".join(path.read_bytes() for path in copy.folder.glob("galleries.db*"))


Actions = st.lists(
    st.one_of(
        st.tuples(st.just("enrol"), st.integers(1, 4)),
        st.tuples(st.just("delete"), st.integers(0, 40)),
        st.tuples(st.sampled_from(["catch up", "read some", "restart copy", "restart leader", "switch"]), st.just(0)),
        st.tuples(st.just("cut after"), st.integers(0, 3)),
    ),
    max_size=14,
)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(actions=Actions)
def test_after_any_enrolments_deletions_pauses_and_restarts_the_copy_equals_the_leaders_table(
    actions: list[tuple[str, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("machines")
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        patch.setattr("qaconv.serving.replication.leader.MOST_ROWS", 16)
        leader = Machine(folder / "leader")
        stack.callback(lambda: leader.records.close())
        copy = Copy(folder / "copy", leader)
        stack.callback(lambda: copy.records.close())
        # So few deletions are listed that a copy misses some of them.
        leader.records._connection.executescript(
            "DROP TRIGGER list_deletion;" + database.LIST_DELETIONS.replace(str(database.KEPT), "3")
        )
        seed = 0
        for action, value in actions:
            if action == "enrol":
                enrol(leader.service, 8 * value, first=seed)
                seed += 100
            elif action == "delete":
                leader.service.delete(leader.service.records.ids("mall")[: value // 4])
            elif action == "switch":
                leader.switch(f"{2 + seed}")
                seed += 1
            elif action == "restart leader":
                leader.restart()
            elif action == "restart copy":
                copy.restart()
            elif action == "read some":
                copy.follower.read_some(float("inf"))
            elif action == "catch up":
                copy.follower.catch_up()
            elif action == "cut after":
                cut_after(copy, value)
        copy.follower.catch_up()
        copy.switch.follow()
        assert table(copy.records) == table(leader.records)
        shown = [service.active.galleries["mall"].ids().tolist() for service in (copy.service, leader.service)]
        assert sorted(shown[0]) == sorted(shown[1]) == leader.records.ids("mall")
        assert copy.service.active.version == leader.service.active.version and not copy.ended


def cut_after(copy: Copy, count: int) -> None:
    """Read changes until the link is cut, in the middle of what takes several requests."""
    stream, left = copy._stream, [count]

    def counting(*arguments: Any, **named: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise httpx.ReadTimeout("cut off")
        return stream(*arguments, **named)

    client = copy.follower._client
    client._client = SimpleNamespace(stream=counting)  # type: ignore[assignment]
    try:
        copy.follower.catch_up()
        copy.switch.follow()
    except (OutOfDate, Unreachable):
        pass
    finally:
        client._client = SimpleNamespace(stream=stream)  # type: ignore[assignment]


def test_a_follower_that_missed_more_deletions_than_are_listed_keeps_none_of_them(leader: Machine, copy: Copy) -> None:
    kept, *gone = enrol(leader.service, 9)
    copy.follower.catch_up()
    leader.service.delete(gone)
    with leader.records.transaction() as connection:
        connection.execute("DELETE FROM deletions WHERE number < 5")
    copy.follower.catch_up()
    assert find(copy.service, 0, top_k=9) == [kept] and table(copy.records) == table(leader.records)


def test_a_sighting_that_is_deleted_while_missed_deletions_are_read_is_deleted_too(leader: Machine, copy: Copy) -> None:
    enrol(leader.service, 9)
    copy.follower.catch_up()
    leader.service.delete([1, 2, 3])
    late = enrol(leader.service, 2, first=50)
    with leader.records.transaction() as connection:
        connection.execute("DELETE FROM deletions WHERE number < 3")
    client = copy.follower._client
    changes = client.changes(find_position(copy.records))
    leader.service.delete(late[:1])  # after the changes were read and before the ids are
    apply_changes(copy.service, changes, client.ids)
    copy.follower.catch_up()
    assert table(copy.records) == table(leader.records)


def test_a_sighting_that_is_deleted_while_changes_are_read_is_deleted_by_the_next_ones(
    leader: Machine, copy: Copy, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy.follower.catch_up()
    ids = enrol(leader.service, 2)
    read_rows = Leader._rows

    def read_and_delete(*arguments: Any) -> Any:
        rows = read_rows(*arguments)
        leader.service.delete(leader.records.existing(ids[:1]))
        return rows

    monkeypatch.setattr(Leader, "_rows", read_and_delete)
    copy.follower.catch_up()
    copy.follower.catch_up()
    assert table(copy.records) == table(leader.records) and copy.records.ids("mall") == ids[1:]


def test_only_the_leader_encodes_what_is_stored_for_another_version(
    leader: Machine, copy: Copy, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = enrol(leader.service, 40)
    copy.follower.catch_up()
    leader.switch("2")
    ids += enrol(leader.service, 2, first=100)
    copy.follower.catch_up()  # stores the new ones with the leader's maps and with its own
    assert copy.service.active.version == "1" and sorted(find(copy.service, 0, top_k=50)) == ids
    with monkeypatch.context() as patch:
        patch.setattr(copy.service._encoder, "encode", None)
        assert copy.switch.follow() and not copy.switch.follow()
    assert copy.service.active.version == "2" and sorted(find(copy.service, 0, top_k=50)) == ids
    assert table(copy.records) == table(leader.records)
    copy.restart()
    assert copy.service.active.version == "2"


@pytest.mark.parametrize("changed_since", [0, 1, 4], ids=["at once", "with ids again", "when it is ahead again"])
@pytest.mark.parametrize("started_since", [True, False])
def test_a_leader_that_was_restored_from_a_backup_is_noticed_and_the_copy_begins_again(
    leader: Machine, copy: Copy, changed_since: int, started_since: bool
) -> None:
    enrol(leader.service, 2)
    backup = (leader.folder / "state/galleries.db").read_bytes()
    if started_since:
        leader.restart()
    enrol(leader.service, 3, first=10, person="lost")
    copy.follower.catch_up()
    leader.records.close()
    (leader.folder / "state/galleries.db").write_bytes(backup)
    leader.start()
    if changed_since:
        enrol(leader.service, changed_since, first=50)
    with pytest.raises(OutOfDate):
        copy.follower.catch_up()
    assert copy.ended == 1 and copy.follower.link.is_closed
    with pytest.raises(OutOfDate):
        copy.follower.check()
    copy.restart()
    copy.follower.catch_up()
    assert table(copy.records) == table(leader.records)
    assert b"lost" not in b"".join(path.read_bytes() for path in copy.folder.glob("galleries.db*"))


def test_a_restarted_leader_is_followed_on(leader: Machine, copy: Copy) -> None:
    ids = enrol(leader.service, 3)
    copy.follower.catch_up()
    leader.restart()
    ids += enrol(leader.service, 2, first=50)
    copy.follower.catch_up()
    assert sorted(find(copy.service, 0)) == ids and not copy.ended


def test_a_folder_with_another_gallery_is_refused(tmp_path: Path, leader: Machine, copy: Copy) -> None:
    enrol(leader.service, 1)
    copy.follower.catch_up()
    copy.records.close()
    copy.leader = Machine(tmp_path / "other")
    with pytest.raises(InputError, match="is a copy of another gallery than that of http://127.0.0.1; delete"):
        copy.start()
    assert copy.records.count() == 1
    enrol(copy.leader.service, 1)
    copy.leader.records.close()
    with pytest.raises(InputError, match="has a gallery of its own"):
        Copy(tmp_path / "other/state", leader)


def test_a_copy_that_becomes_a_gallery_of_its_own_is_no_longer_continued(leader: Machine, copy: Copy) -> None:
    enrol(leader.service, 2)
    copy.follower.catch_up()
    own_folder(copy.records)
    assert is_own_gallery(copy.records)
    assert find_end(copy.records).gallery not in (find_end(leader.records).gallery, "")


def test_a_damaged_or_hostile_answer_of_the_leader_is_refused(leader: Machine, copy: Copy) -> None:
    whole = leader.web.get("/replication/changes").content
    content = msgpack.unpackb(whole)
    for damaged in (whole[:-3], b"", msgpack.packb({**content, "more": 1}), msgpack.packb({**content, "last": -1})):
        with pytest.raises(InputError, match="the leader must send Changes"):
            unpack(Changes, damaged)
    version = msgpack.unpackb(leader.web.get("/replication/version").content)
    for path in ("../x", "/etc/passwd", "a/../../x", ".hidden"):
        version["files"] = [[path, 1, "0" * 64]]
        with pytest.raises(InputError, match="files"):
            unpack(Version, msgpack.packb(version))
    file = ServedFile("encoder.onnx", 4, "0" * 64)
    with pytest.raises(InputError, match="must have the digest"):
        copy.follower._client.read_file("1-one", file)
