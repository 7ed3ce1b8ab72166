"""Several workers of one service, some of which are killed. Each request may go to another one."""

import os
import random
import signal
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import psutil
import yaml

from tests.integration.running_service import MALL, PATIENCE_S, running
from tests.integration.test_service_process import image, stored

LOAD_S = 12.0
CLIENTS = 3
KILLS_S = (0.5, 3.0)  # between two kills
MOST = 60  # sightings of a client, so that a search can answer all
ALL = 200  # more than all clients have


def workers(process: int) -> list[psutil.Process]:
    """Return the workers of a service; its other child tracks what Python's multiprocessing shares."""
    return [child for child in psutil.Process(process).children() if is_worker(child)]


def is_worker(child: psutil.Process) -> bool:
    try:
        return not any("resource_tracker" in word for word in child.cmdline())
    except psutil.NoSuchProcess:  # it was killed, and may be a zombie still
        return False


def ask(base: httpx.URL, method: str, path: str, body: Mapping[str, Any] | None = None) -> httpx.Response:
    """Send a request on a connection of its own, again where the worker that has it is killed."""
    until = time.monotonic() + PATIENCE_S
    while True:
        try:
            with httpx.Client(base_url=base, timeout=PATIENCE_S) as client:
                return client.request(method, path, json=body)
        except httpx.TransportError:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)


class Client:
    """Enrols, searches and deletes sightings, each known by its seed, and expects to read what it wrote.

    Args:
        base: the service's address.
        number: of the client.
    """

    def __init__(self, base: httpx.URL, number: int) -> None:
        self.ids: dict[int, int] = {}  # of stored sightings, by seed
        self.deleted: set[int] = set()  # ids
        self._base = base
        self._seeds = iter(range(10_000 * (number + 1), 10_000 * (number + 2)))
        self._draws = random.Random(number)

    def run(self, until: float) -> None:
        """Do what is drawn until a time of the monotonic clock."""
        while time.monotonic() < until:
            actions: list[Callable[[], None]] = [self.enrol, self.enrol_again, self.delete, self.search]
            if len(self.ids) < 3:
                actions = [self.enrol]
            elif len(self.ids) >= MOST:
                actions = [self.delete, self.search]
            self._draws.choice(actions)()

    def enrol(self) -> None:
        seeds = [next(self._seeds) for _ in range(self._draws.randint(1, 3))]
        answer = self._ask("POST", "sightings", {"sightings": [sighting(seed) for seed in seeds]})
        self.ids |= dict(zip(seeds, answer["ids"], strict=True))
        self.search(seeds[0])

    def enrol_again(self) -> None:
        seed = self._draws.choice(list(self.ids))
        answer = self._ask("POST", "sightings", {"sightings": [sighting(seed)]})
        assert answer == {"ids": [self.ids[seed]], "known": 1}

    def delete(self) -> None:
        seed = self._draws.choice(list(self.ids))
        answer = ask(self._base, "DELETE", f"{MALL}/sightings/{self.ids[seed]}")
        assert answer.status_code in (200, 404), answer.text  # 404: a worker was killed after it had deleted it
        self.deleted.add(self.ids.pop(seed))
        self.search()

    def search(self, seed: int = 0) -> None:
        answer = self._ask("POST", "search", {"queries": [{"image": image(seed)}], "top_k": ALL})
        matched = [match["id"] for match in answer["results"][0]]
        assert len(matched) == len(set(matched)), "a sighting is doubled"
        assert set(self.ids.values()) <= set(matched), "an enrolment is not found"
        assert not self.deleted & set(matched), "a deleted sighting is found"

    def _ask(self, method: str, path: str, body: Mapping[str, Any]) -> Any:
        return ask(self._base, method, f"{MALL}/{path}", body).raise_for_status().json()


def sighting(seed: int) -> dict[str, object]:
    return {"image": image(seed), "camid": seed % 3, "time_s": float(seed), "person": f"p{seed}"}


def test_workers_lose_and_double_nothing_and_each_reads_what_another_wrote_while_they_are_killed(
    champion: Path, tmp_path: Path
) -> None:
    draws = random.Random(0)
    killed = set()
    with (
        running(champion, "--state", str(tmp_path), "--workers", "2") as (client, process),
        ThreadPoolExecutor() as pool,
    ):
        clients = [Client(client.base_url, number) for number in range(CLIENTS)]
        until = time.monotonic() + LOAD_S
        tasks = [pool.submit(one.run, until) for one in clients]
        while time.monotonic() < until:
            time.sleep(draws.uniform(*KILLS_S))
            if alive := workers(process.pid):
                victim = draws.choice(alive)
                victim.kill()
                killed.add(victim.pid)
        for task in tasks:
            task.result()
        wait_for(lambda: len(workers(process.pid)) == 2)
        for _ in range(20):  # of which each worker answers some
            for one in clients:
                one.search()
        expected = sorted(sighting for one in clients for sighting in one.ids.values())
        assert stored(partial(ask, client.base_url, "GET")) == expected and len(expected) > 10 and len(killed) > 3
        counts = sorted((tmp_path / "metrics").glob("counter_*.db"))
        answered = {int(path.stem.partition("_")[2]) for path in counts}
        assert len(answered - killed) == 2, "one worker has answered everything"
        process.terminate()
        assert process.wait(PATIENCE_S) == 0
    files = b"".join(path.read_bytes() for path in tmp_path.glob("galleries.db*"))
    assert len(expected) == sum(f"p{seed}".encode() in files for one in clients for seed in one.ids)
    with running(champion, "--state", str(tmp_path)) as (client, _):
        assert stored(partial(ask, client.base_url, "GET")) == expected


def wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.1)


def test_a_deletion_that_a_kill_interrupts_is_done_or_undone_for_all_workers(champion: Path, tmp_path: Path) -> None:
    """Many sightings, so that their deletion takes several transactions."""
    with running(champion, "--state", str(tmp_path), "--workers", "2") as (client, process):
        body = {"sightings": [sighting(seed) | {"person": "ada"} for seed in range(150)]}
        client.post(f"{MALL}/sightings", json=body).raise_for_status()
        deleting = threading.Thread(target=ask, args=(client.base_url, "DELETE", f"{MALL}/people/ada"))
        deleting.start()
        time.sleep(0.05)
        for worker in workers(process.pid):
            worker.kill()
        deleting.join()  # it was repeated
        assert stored(partial(ask, client.base_url, "GET")) == []
        for _ in range(10):
            answer = ask(client.base_url, "POST", f"{MALL}/search", {"queries": [{"image": image(0)}], "top_k": ALL})
            assert answer.json()["results"] == [[]]


def test_the_limit_of_requests_holds_over_workers_and_a_killed_parent_takes_them_with_it(
    champion: Path, tmp_path: Path
) -> None:
    settings = yaml.safe_load((champion / "params.yaml").read_text())
    settings["serve"]["requests_per_minute"] = 40
    (champion / "params.yaml").write_text(yaml.safe_dump(settings))
    with running(champion, "--state", str(tmp_path), "--workers", "2") as (client, process):
        statuses = [ask(client.base_url, "GET", "/v1/targets").status_code for _ in range(90)]
        assert 40 <= statuses.count(200) <= 60 and statuses.count(429) == 90 - statuses.count(200)
        both = workers(process.pid)
        process.kill()
        wait_for(lambda: not any(worker.is_running() and worker.status() != "zombie" for worker in both))
    with running(champion, "--state", str(tmp_path), "--workers", "2") as (client, process):
        assert ask(client.base_url, "GET", "/v1/targets").status_code == 200
        os.kill(process.pid, signal.SIGINT)
        assert process.wait(PATIENCE_S) == 0
