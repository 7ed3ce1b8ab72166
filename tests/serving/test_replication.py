"""A follower and its leader in one process, whose requests go from one application to the other without a network."""

import itertools
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import httpx
import msgpack  # type: ignore[import-untyped]
import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qaconv.errors import InputError
from qaconv.serving import database
from qaconv.serving.app import create_app
from qaconv.serving.auth import HEADER, Keys, add_key
from qaconv.serving.replication.client import LeaderClient, Unreachable
from qaconv.serving.replication.copying import apply_changes
from qaconv.serving.replication.follower import Follower, LeaderVersions, OutOfDate, begin_following
from qaconv.serving.replication.history import find_end, find_position, is_own_gallery, own_folder
from qaconv.serving.replication.leader import Leader
from qaconv.serving.replication.link import OLDEST_S, write_link
from qaconv.serving.replication.messages import Changes, ServedFile, Version, unpack
from qaconv.serving.replication.passing import COPIED, LOCAL, is_local
from qaconv.serving.service import Service
from qaconv.serving.storage import Records
from qaconv.serving.version_switch import VersionSwitch
from qaconv.serving.versions import Fetched, Versions
from tests.small_service import SETTINGS, crop, enrol, find, small_model, switch_version, text

MALL = "/v1/targets/mall"
TABLE = "SELECT sightings.*, map FROM sightings LEFT JOIN codes ON sighting = id ORDER BY id"


class Machine:
    """The leader: its folder, its service and a client of its application, which can be cut off."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.is_cut = False
        self.start()

    def start(self) -> None:
        self.records = Records(self.folder / "state")
        versions = Versions(self.folder / "state/models")
        if not versions.have_active_version:
            model = small_model(versions.folder / "1-one", "one")
            versions.activate(Fetched("1", "1-one", None, model))
        self.service = Service(self.records, SETTINGS, *versions.active_version())
        self.web = TestClient(create_app(self.service, None, 10_000, "127.0.0.1"), base_url="http://127.0.0.1")

    def restart(self) -> None:
        self.records.close()
        self.start()

    def switch(self, version: str) -> None:
        """Answer with a version that has another encoder."""
        versions = Versions(self.folder / "state/models")
        folder = f"{version}-run"
        model = small_model(versions.folder / folder, version)
        switch_version(self.service, version, model)
        versions.activate(Fetched(version, folder, None, model))
        self.records.forget_other_encoders(model.encoder_digest)


class Copy:
    """A follower of a machine."""

    def __init__(self, folder: Path, leader: Machine) -> None:
        self.folder = folder
        self.leader = leader
        self.ended = 0
        self.start()

    def start(self) -> None:
        self.records = Records(self.folder)
        write_link(self.folder)
        client = LeaderClient("http://127.0.0.1")
        client._client = SimpleNamespace(stream=self._stream)  # type: ignore[assignment]
        versions = LeaderVersions(self.folder / "models", client)
        begin_following(self.records, client, versions)
        self.service = Service(self.records, SETTINGS, *versions.active_version())
        self.switch = VersionSwitch(versions, self.service, versions.active[1], 0, 1)
        self.follower = Follower(self.service, client, versions, self._end)

    def restart(self) -> None:
        self.records.close()
        self.start()

    def _end(self) -> None:
        self.ended += 1

    def _stream(self, method: str, path: str, params: Any) -> Any:
        if self.leader.is_cut:
            raise httpx.ConnectError("cut off")
        return self.leader.web.stream(method, f"/replication{path}", params=params)


@pytest.fixture
def leader(tmp_path: Path) -> Iterator[Machine]:
    machine = Machine(tmp_path / "leader")
    yield machine
    machine.records.close()


@pytest.fixture
def copy(tmp_path: Path, leader: Machine) -> Iterator[Copy]:
    follower = Copy(tmp_path / "copy", leader)
    yield follower
    follower.records.close()


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


def test_a_follower_that_has_not_heard_of_its_leader_for_a_minute_answers_no_more(
    leader: Machine, copy: Copy, monkeypatch: pytest.MonkeyPatch
) -> None:
    web = serve(copy)
    assert web.get("/readyz").status_code == 503 and "has not been complete yet" in web.get("/readyz").text
    enrol(leader.service, 1)
    copy.follower.catch_up()
    assert web.get("/readyz").status_code == web.get(f"{MALL}/sightings").status_code == 200
    leader.is_cut = True
    now_s = time.monotonic()
    monkeypatch.setattr("qaconv.serving.replication.link.time.monotonic", lambda: now_s + OLDEST_S - 1)
    assert web.get(f"{MALL}/sightings").status_code == 200
    monkeypatch.setattr("qaconv.serving.replication.link.time.monotonic", lambda: now_s + OLDEST_S + 2)
    for path in ("/readyz", f"{MALL}/sightings", f"{MALL}/sightings/1/image", "/v1/targets"):
        answer = web.get(path)
        assert answer.status_code == 503 and "it may hold what was deleted" in answer.text
    assert web.get("/healthz").status_code == 200


def test_all_routes_but_those_that_only_read_the_copy_are_passed_on(copy: Copy) -> None:
    app = create_app(copy.service, None, 1, "127.0.0.1", copy.follower)
    routes = {(method, vars(route)["path"]) for route in app.routes for method in getattr(route, "methods", None) or ()}
    assert routes >= LOCAL and routes >= COPIED and not LOCAL & COPIED
    for method, path in sorted(routes):
        scope = {
            "type": "http",
            "app": app,
            "method": method,
            "path": path.format(target="a", sighting="1", identity="1", person="p"),
            "headers": [],
        }
        assert is_local(scope) is ((method, path) in LOCAL or not path.startswith("/v1/"))


def test_a_request_is_passed_on_with_the_clients_key_alone_and_answered_when_the_copy_has_the_change(
    tmp_path: Path, leader: Machine, copy: Copy
) -> None:
    copy.follower.catch_up()
    keys = tmp_path / "keys.json"
    key = add_key(keys, "desk", ["enrol", "delete", "search"], None)
    guarded = create_app(leader.service, Keys(keys), 10_000, "127.0.0.1")
    passed_headers.clear()
    web = serve(copy, guarded, keys)
    body = {"sightings": [{"image": text(crop(0)), "camid": 0}]}
    answer = web.post(f"{MALL}/sightings", json=body, headers={HEADER: key})
    assert answer.status_code == 201 and copy.records.ids("mall") == answer.json()["ids"] == [1]
    assert web.post(f"{MALL}/sightings", json=body).status_code == 401
    assert web.post(f"{MALL}/identities", headers={HEADER: key}).status_code == 403
    refused = web.post(f"{MALL}/sightings", json={"sightings": []}, headers={HEADER: key})
    assert refused.status_code == 422 and "sightings" in refused.json()["detail"]
    large = web.post(f"{MALL}/sightings", content=b"," * 20_000, headers={HEADER: key})
    assert large.status_code == 413 and "values" in large.json()["detail"]
    assert web.delete(f"{MALL}/sightings/1", headers={HEADER: key}).json() == {"deleted": 1}
    assert copy.records.ids("mall") == [] == leader.records.ids("mall")
    assert [headers[HEADER.lower()] for headers in passed_headers] == [key] * len(passed_headers)


def test_without_its_leader_a_follower_changes_nothing_and_says_so(leader: Machine, copy: Copy) -> None:
    copy.follower.catch_up()
    web = serve(copy)
    leader.is_cut = True
    body = {"sightings": [{"image": text(crop(0)), "camid": 0}]}
    for answer in (web.post(f"{MALL}/sightings", json=body), web.delete(f"{MALL}/people/ada")):
        assert answer.status_code == 503 and "nothing was changed" in answer.text
    assert copy.records.count() == leader.records.count() == 0


def test_a_change_that_the_copy_does_not_show_yet_is_not_confirmed(
    leader: Machine, copy: Copy, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy.follower.catch_up()
    web = serve(copy)
    monkeypatch.setattr(copy.follower._client, "changes", Mock(side_effect=Unreachable("cut off")))
    body = {"sightings": [{"image": text(crop(0)), "camid": 0}]}
    answer = web.post(f"{MALL}/sightings", json=body)
    assert answer.status_code == 503 and "the leader has done what was asked" in answer.text
    monkeypatch.undo()
    assert web.post(f"{MALL}/sightings", json=body).json() == {"ids": [1], "known": 1}


def test_a_minutes_requests_of_a_key_are_counted_over_machines_and_alone_while_cut_off(
    leader: Machine, copy: Copy
) -> None:
    copy.follower.catch_up()
    apps = create_app(leader.service, None, 9, "127.0.0.1"), leader
    on_leader = TestClient(apps[0], base_url="http://127.0.0.1")
    web = serve(copy, apps[0], per_minute=9)
    machines = itertools.cycle((on_leader, web))
    statuses = [next(machines).get("/v1/targets").status_code for _ in range(20)]
    assert 9 <= statuses.count(200) <= 10 and statuses.count(429) >= 10  # a minute may end meanwhile
    leader.is_cut = True
    statuses = [web.get("/v1/targets").status_code for _ in range(20)]
    assert 9 <= statuses.count(200) <= 10


def test_a_key_of_some_targets_and_a_follower_are_refused_as_what_is_followed(
    tmp_path: Path, leader: Machine, copy: Copy
) -> None:
    keys = tmp_path / "keys.json"
    key = add_key(keys, "part", ["replicate"], ["mall"])
    web = TestClient(create_app(leader.service, Keys(keys), 100, "127.0.0.1"), base_url="http://127.0.0.1")
    assert web.get("/replication/changes", headers={HEADER: key}).status_code == 403
    copy.follower.catch_up()
    web = TestClient(create_app(copy.service, None, 100, "127.0.0.1"), base_url="http://127.0.0.1")
    answer = web.get("/replication/changes")
    assert answer.status_code == 421 and "follow its leader" in answer.text


def test_a_file_outside_the_version_that_answers_is_not_handed_out(leader: Machine) -> None:
    def ask(folder: str, path: str) -> int:
        return leader.web.get(f"/replication/file?folder={folder}&path={path}&offset=0").status_code

    assert ask("1-one", "encoder.onnx") == 200
    assert {ask("1-one", "../in_charge.json"), ask("..", "galleries.db"), ask("1-one", "/etc/passwd")} == {404}


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


passed_headers: list[dict[str, str]] = []


def serve(copy: Copy, leading: Any = None, keys: Path | None = None, per_minute: int = 10_000) -> TestClient:
    """Return a client of the follower's application, which passes requests on to the leader's."""
    leading = leading or create_app(copy.leader.service, None, 10_000, "127.0.0.1")

    class ToLeader(httpx.ASGITransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            if copy.leader.is_cut:
                raise httpx.ConnectTimeout("cut off")
            passed_headers.append(dict(request.headers))
            return await super().handle_async_request(request)

    original = httpx.AsyncClient
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "qaconv.serving.app.httpx.AsyncClient",
            lambda **options: original(base_url="http://127.0.0.1", transport=ToLeader(leading)),
        )
        app = create_app(copy.service, Keys(keys) if keys else None, per_minute, "127.0.0.1", copy.follower)
    return TestClient(app, base_url="http://127.0.0.1")
