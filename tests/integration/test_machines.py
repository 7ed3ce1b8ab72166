"""Leader and followers on hosts of their own, whose links are cut and slowed down, and of which some are killed."""

import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from qaconv.serving.auth import HEADER, SCOPES, add_key
from tests.integration.hosts import Host, joined_hosts
from tests.integration.running_service import MALL, PATIENCE_S, register_version, running
from tests.integration.test_service_process import image

PORT = 8000
ALL = 200
SEEN_S = 1.0  # within which others see a change


class Machine:
    """A service on a host.

    Args:
        project: where it runs.
        host: the host.
        state: its folder.
        key: of the clients and of followers.
        options: of `qaconv serve`.
    """

    def __init__(self, project: Path, host: Host, state: Path, key: str, *options: str) -> None:
        self.host = host
        self.state = state
        self.client = httpx.Client(
            base_url=f"http://{host.outer}:{PORT}", headers={HEADER: key}, timeout=httpx.Timeout(30, connect=2)
        )
        self._project = project
        self._key = key
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = ["ip", "netns", "exec", self.host.name, str(Path(sys.executable).parent / "qaconv"), "serve"]
        command += ["--host", "0.0.0.0", "--port", str(PORT), "--state", str(self.state)]
        command += ["--keys", str(self._project / "keys.json"), *self._options]
        environment = {**os.environ, "COLUMNS": "200", "QACONV_API_KEY": self._key}
        with (self.state.parent / f"{self.state.name}.log").open("a") as log:
            self._process = subprocess.Popen(command, cwd=self._project, stderr=log, env=environment)

    def wait(self) -> None:
        """Wait until it is ready."""
        wait_for(lambda: self.ask("GET", "/readyz").status_code == 200)

    def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Send a request; status 599 stands for a connection that is refused or lost."""
        try:
            return self.client.request(method, path, **options)
        except httpx.TransportError:
            return httpx.Response(599)

    def kill(self) -> None:
        assert self._process
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        if self._process:
            self._process.kill()
            self._process.wait()
        self.client.close()

    def end_status(self) -> int:
        assert self._process
        return self._process.wait(PATIENCE_S)

    def enrol(self, *seeds: int) -> httpx.Response:
        sightings = [
            {"image": image(seed), "camid": seed % 3, "time_s": float(seed), "person": f"p{seed}"} for seed in seeds
        ]
        return self.ask("POST", f"{MALL}/sightings", json={"sightings": sightings})

    def found(self) -> set[int] | None:
        """Search for all; None where it does not answer."""
        answer = self.ask("POST", f"{MALL}/search", json={"queries": [{"image": image(0)}], "top_k": ALL})
        if answer.status_code != 200:
            assert answer.status_code in (503, 599), answer.text
            return None
        ids = [match["id"] for match in answer.json()["results"][0]]
        assert len(ids) == len(set(ids)), "a sighting is doubled"
        return set(ids)


def wait_for(condition: Callable[[], bool], seconds: float = PATIENCE_S) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it takes too long"
        time.sleep(0.05)


def wait_until_found(every: Sequence[Machine], ids: set[int]) -> None:
    """Wait until every machine finds these sightings and no others, for a second at most."""
    wait_for(lambda: all(machine.found() == ids for machine in every), SEEN_S)


@contextmanager
def machines(project: Path, folder: Path, count: int = 2, *options: str) -> Iterator[list[Machine]]:
    """Yield a running leader, and followers of it."""
    (project / "keys.json").unlink(missing_ok=True)
    key = add_key(project / "keys.json", "desk", SCOPES, None)
    with joined_hosts(count) as hosts:
        follow = "--follow", f"http://{hosts[0].address}:{PORT}"
        every = [
            Machine(project, host, folder / f"machine{number}", key, *options, *(follow if number else ()))
            for number, host in enumerate(hosts)
        ]
        try:
            for one in every:
                one.start()
                one.wait()
            yield every
        finally:
            for one in every:
                one.stop()


def test_a_client_of_any_machine_reads_what_it_wrote_and_others_see_it_within_a_second(
    champion: Path, tmp_path: Path
) -> None:
    with machines(champion, tmp_path, 3) as (leader, one, other):
        ids: set[int] = set()
        for turn, machine in enumerate((leader, one, other, one)):
            added = machine.enrol(10 * turn + 1, 10 * turn + 2)
            assert added.status_code == 201, added.text
            ids |= set(added.json()["ids"])
            assert machine.found() == ids
            wait_until_found((leader, one, other), ids)
            gone = added.json()["ids"][0]
            assert machine.ask("DELETE", f"{MALL}/sightings/{gone}").json() == {"deleted": 1}
            ids -= {gone}
            assert machine.found() == ids
            wait_until_found((leader, one, other), ids)
        assert one.ask("DELETE", f"{MALL}/people/p2").json() == {"deleted": 1}
        assert len(one.found() or ()) == 3
        assert one.ask("GET", f"{MALL}/identities").json()["identities"] == []  # the leader's answer
        assert one.ask("GET", f"{MALL}/sightings/999").status_code == 404
        metrics = other.ask("GET", "/metrics").text
        assert "qaconv_copy_age_seconds" in metrics and "qaconv_copy_missing_sightings 0.0" in metrics


def test_a_machine_that_is_cut_off_answers_searches_refuses_changes_and_catches_up_when_it_is_joined_again(
    champion: Path, tmp_path: Path
) -> None:
    with machines(champion, tmp_path) as (leader, follower):
        first, second = leader.enrol(1, 2).json()["ids"]
        wait_for(lambda: follower.found() == {first, second}, SEEN_S)
        follower.host.cut()
        assert leader.ask("DELETE", f"{MALL}/sightings/{first}").status_code == 200
        (third,) = leader.enrol(3).json()["ids"]
        assert follower.found() == {first, second}
        refused = follower.enrol(4)
        assert refused.status_code == 503 and "may have done what was asked" in refused.text
        refused = follower.ask("DELETE", f"{MALL}/sightings/{second}")
        assert refused.status_code == 503 and "nothing was changed" in refused.text
        assert leader.found() == {second, third}
        follower.host.heal()
        wait_for(lambda: follower.found() == {second, third}, 15)
        assert follower.enrol(4).status_code == 201


def test_a_follower_on_a_slow_link_copies_everything_and_reads_its_writes(champion: Path, tmp_path: Path) -> None:
    with machines(champion, tmp_path) as (leader, follower):
        follower.host.slow("256kbit")
        ids = set(leader.enrol(*range(1, 101)).json()["ids"])
        ids |= set(follower.enrol(200).json()["ids"])
        assert follower.found() == ids == leader.found()


def test_nothing_is_lost_or_doubled_and_no_deleted_sighting_returns_while_machines_are_killed_and_cut_off(
    champion: Path, tmp_path: Path
) -> None:
    draws = random.Random(0)
    with machines(champion, tmp_path) as every, ThreadPoolExecutor() as pool:
        until = time.monotonic() + 25
        clients = [pool.submit(use, machine, number, until) for number, machine in enumerate(every)]
        leader, follower = every
        while time.monotonic() < until:
            time.sleep(draws.uniform(1, 3))
            match draws.choice(["kill leader", "kill follower", "cut"]):
                case "kill leader":
                    leader.kill()
                    leader.start()
                    leader.wait()
                case "kill follower":
                    follower.kill()
                    follower.start()
                    follower.wait()
                case "cut":
                    follower.host.cut()
                    time.sleep(draws.uniform(1, 4))
                    follower.host.heal()
        kept: set[int] = set()
        deleted: set[int] = set()
        for client in clients:
            one_kept, one_deleted = client.result()
            kept |= one_kept
            deleted |= one_deleted
        for machine in every:
            machine.wait()
        assert follower.enrol(9999).status_code == 201  # so that it has caught up
        both = [machine.found() or set() for machine in every]
        assert both[0] == both[1] and kept <= both[0] and not deleted & both[0]
        assert len(kept) > 5 and len(deleted) > 1
        files = b"".join(path.read_bytes() for path in follower.state.glob("galleries.db*"))
        assert not [seed for seed in deleted if f"p{seed}\x00".encode() in files]


def use(machine: Machine, number: int, until: float) -> tuple[set[int], set[int]]:
    """Enrol, search and delete, and expect to read what was written; return ids that are stored and deleted."""
    draws = random.Random(number)
    seed = 1000 * (number + 1)
    kept: set[int] = set()
    deleted: set[int] = set()
    unsure: set[int] = set()  # a deletion that was not answered
    while time.monotonic() < until:
        if len(kept) > 3 and draws.random() < 0.4:
            gone = draws.choice(sorted(kept))
            status = machine.ask("DELETE", f"{MALL}/sightings/{gone}").status_code
            kept -= {gone}
            if status == 200:
                deleted.add(gone)
            else:
                assert status in (503, 599), status
                unsure.add(gone)
        elif len(kept) < 40:
            seed += 1
            answer = machine.enrol(seed)
            if answer.status_code == 201:
                kept |= set(answer.json()["ids"])
            else:
                assert answer.status_code in (503, 599), answer.text
        found = machine.found()
        if found is None:
            time.sleep(0.2)
            continue
        assert kept <= found, "an enrolment is not found"
        assert not deleted & found, "a deleted sighting is found"
    return kept, deleted


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_follower_changes_to_the_leaders_new_champion_under_load_and_no_request_fails(
    champion: Path, tmp_path: Path, workers: str
) -> None:
    """Both on this machine, without keys."""
    found: list[tuple[int, str, int]] = []
    with (
        running(champion, "--state", str(tmp_path / "leader")) as (leader, _),
        running(
            champion, "--state", str(tmp_path / "copy"), "--workers", workers,
            "--follow", str(leader.base_url), MLFLOW_TRACKING_URI=f"sqlite:///{tmp_path}/none.db",
        ) as (follower, _),
    ):  # fmt: skip
        body = {"sightings": [{"image": image(seed), "camid": 0} for seed in range(150)]}
        leader.post(f"{MALL}/sightings", json=body).raise_for_status()
        time.sleep(SEEN_S)
        before = follower.get("/readyz").json()["version"]
        register_version(f"encoder {workers}", mean_map=0.8 + int(workers) / 20)
        while not found or found[-1][1] == before:
            assert len(found) < 10_000
            with httpx.Client(base_url=follower.base_url, timeout=PATIENCE_S) as client:  # of any worker
                answer = client.post(f"{MALL}/search", json={"queries": [{"image": image(1)}], "top_k": ALL})
                found.append((answer.status_code, answer.json()["version"], len(answer.json()["results"][0])))
        added = follower.post(f"{MALL}/sightings", json={"sightings": [{"image": image(999), "camid": 0}]})
        assert added.status_code == 201
        assert {(status, count) for status, _, count in found} == {(200, 150)}
        assert follower.get("/readyz").json()["version"] == leader.get("/readyz").json()["version"] != before
