"""Kill the service or one of its workers while it works, start it again, and compare what it answered and holds.

Nothing that was acknowledged may be lost, doubled or come back, and no deleted byte may stay in a file.
"""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
import yaml

from tests.integration.running_service import MALL, running
from tests.integration.test_workers import workers
from tests.small_service import text
from tests.torture.outcomes import Outcomes
from tests.torture.people import People, coloured_crop
from tests.torture.registry import Registry
from tests.torture.reviews import Reviews

STATION = "/v1/targets/station"
KEPT_S = 3.0  # retention of the station
LIFE_S = (0.2, 3.0)  # between the service's answer and its kill
MOST = 9  # sightings of a person, who is enrolled by one request
SWITCHED = 0.25  # probability that a version is registered meanwhile
WORKERS = 2
TOGETHER = 0.5  # probability that WORKERS answer in place of one process
END_S = 60.0  # for workers to end after a kill of their parent; one that has just been started imports first


class Ledger:
    """What the service has answered. A sighting is known by its seed, which its image and its time are made of."""

    def __init__(self, outcomes: Outcomes) -> None:
        self.lock = threading.Lock()
        self.counts = outcomes.counts
        self.fault = outcomes.fault
        self.stored: dict[int, int] = {}  # seed by id, for the mall
        self.deleted: dict[int, int] = {}  # seed by id
        self.unanswered: list[list[int]] = []  # seeds of each enrolment without an answer
        self.doubtful: set[int] = set()  # ids of deletions without an answer
        self._people = 0

    def seeds(self, count: int) -> list[int]:
        """Return up to MOST new seeds, of a new person."""
        with self.lock:
            self._people += 1
            return list(range(MOST * self._people, MOST * self._people + count))


Ask = Callable[[httpx.Client, Ledger, random.Random], None]


class Service:
    """A service of a project with a champion.

    Args:
        project: the project's folder, which is the working folder.
        registry: its versions.
        outcomes: counts of the run.
    """

    def __init__(self, project: Path, registry: Registry, outcomes: Outcomes) -> None:
        self._project = project
        self._registry = registry
        self._ledger = Ledger(outcomes)
        self._people = People(outcomes)
        self._reviews = Reviews(outcomes)
        settings = yaml.safe_load((project / "params.yaml").read_text())
        settings["serve"]["retention_days"] = {"station": KEPT_S / 86_400}
        (project / "params.yaml").write_text(yaml.safe_dump(settings))

    def kill(self, draws: random.Random) -> None:
        """Start the service, check what it holds, and kill it while clients are busy, sometimes a worker before."""
        together = draws.random() < TOGETHER
        options = ("--workers", str(WORKERS)) if together else ()
        with running(self._project, *options) as (client, process), ThreadPoolExecutor() as pool:
            check(self._project, client, self._ledger, self._people, self._reviews)
            base = str(client.base_url)
            clients: list[Ask] = [enrol, enrol, expire, delete, search, self._change_people]
            tasks = [pool.submit(keep, base, ask, self._ledger, random.Random(draws.random())) for ask in clients]
            if draws.random() < SWITCHED:
                tasks.append(pool.submit(self._registry.promote))
                time.sleep(draws.uniform(0, 10))
            time.sleep(draws.uniform(*LIFE_S))
            running_workers = workers(process.pid) if together else []
            if running_workers and draws.random() < 0.5:
                draws.choice(running_workers).kill()
                self._ledger.counts["kills of a worker"] += 1
                time.sleep(draws.uniform(*LIFE_S))
                running_workers = workers(process.pid)
            process.kill()
            self._ledger.counts["kills of the service" + (" with its workers" if together else "")] += 1
            if psutil.wait_procs(running_workers, END_S)[1]:
                self._ledger.fault("not completed", "workers outlive the service")
            for task in tasks:
                task.result()

    def complete(self) -> None:
        """Start the service once more, and check what it holds."""
        with running(self._project) as (client, _):
            check(self._project, client, self._ledger, self._people, self._reviews)

    def _change_people(self, client: httpx.Client, ledger: Ledger, draws: random.Random) -> None:
        """Change identities and review pairs, in turn, so that it is known which was later."""
        self._people.change(client, draws)
        with ledger.lock:
            sightings = sorted(ledger.stored)
        self._reviews.answer(client, draws, sightings, self._people.pinned)


def keep(base: str, ask: Ask, ledger: Ledger, draws: random.Random) -> None:
    """Repeat a request until the service is killed."""
    with httpx.Client(base_url=base, timeout=60) as client:
        try:
            while True:
                ask(client, ledger, draws)
        except httpx.TransportError:
            return
        except httpx.HTTPStatusError as error:
            ledger.fault("refused", f"{error.response.status_code} {error.response.text}")


def crop(seed: int) -> bytes:
    """Return the crop of a sighting, in the colour of its person."""
    return coloured_crop(seed, seed // MOST)


def body(seeds: Sequence[int]) -> dict[str, object]:
    """Return an enrolment; all are of one person."""
    return {
        "sightings": [
            {"image": text(crop(seed)), "camid": seed % 3, "time_s": float(seed), "person": f"p{seed // MOST}"}
            for seed in seeds
        ]
    }


def enrol(client: httpx.Client, ledger: Ledger, draws: random.Random) -> None:
    """Enrol one to nine sightings."""
    seeds = ledger.seeds(draws.randint(1, MOST))
    with ledger.lock:
        ledger.unanswered.append(seeds)
    ids = client.post(f"{MALL}/sightings", json=body(seeds)).raise_for_status().json()["ids"]
    with ledger.lock:
        ledger.unanswered.remove(seeds)
        ledger.stored |= dict(zip(ids, seeds, strict=True))
        ledger.counts["sightings enrolled"] += len(ids)


def expire(client: httpx.Client, ledger: Ledger, draws: random.Random) -> None:
    """Enrol sightings that expire soon."""
    client.post(f"{STATION}/sightings", json=body(ledger.seeds(3))).raise_for_status()
    time.sleep(draws.uniform(0, 0.2))


def delete(client: httpx.Client, ledger: Ledger, draws: random.Random) -> None:
    """Delete a sighting by its id, or all of its person."""
    client.get("/healthz")  # also ends this client where there is nothing to delete
    with ledger.lock:
        if len(ledger.stored) < 50:
            return
        sighting, seed = draws.choice(list(ledger.stored.items()))
        by_person = draws.random() < 0.5
        ids = [sighting]
        if by_person:
            ids = [other for other, its_seed in ledger.stored.items() if its_seed // MOST == seed // MOST]
        ledger.doubtful |= set(ids)
    path = f"{MALL}/people/p{seed // MOST}" if by_person else f"{MALL}/sightings/{sighting}"
    client.delete(path).raise_for_status()
    with ledger.lock:
        ledger.doubtful -= set(ids)
        for gone in ids:
            ledger.deleted[gone] = ledger.stored.pop(gone)
        ledger.counts["sightings deleted"] += len(ids)


def search(client: httpx.Client, ledger: Ledger, draws: random.Random) -> None:
    """Search for a crop; no sighting may be found whose deletion was answered before."""
    with ledger.lock:
        deleted = set(ledger.deleted)
    query = {"queries": [{"image": text(crop(draws.randint(1, 1000)))}], "top_k": 200}
    (matches,) = client.post(f"{MALL}/search", json=query).raise_for_status().json()["results"]
    ledger.counts["searches"] += 1
    if returned := deleted & {match["id"] for match in matches}:
        ledger.fault("came back", f"a search finds {sorted(returned)}")


def check(project: Path, client: httpx.Client, ledger: Ledger, people: People, reviews: Reviews) -> None:
    """Compare the ledger with what a restarted service lists and has in memory, and with its files."""
    listed = list_sightings(client, MALL)
    for sighting in sorted(set(ledger.stored) - ledger.doubtful - set(listed)):
        ledger.fault("lost", f"sighting {sighting}")
    for sighting in sorted(set(ledger.deleted) & set(listed)):
        ledger.fault("came back", f"sighting {sighting}")
    for seed, count in Counter(listed.values()).items():
        if count > 1:
            ledger.fault("doubled", f"seed {seed}, {count} times")
    present = {seed: sighting for sighting, seed in listed.items()}
    for seeds in ledger.unanswered:
        kept = [seed for seed in seeds if seed in present]
        if kept and len(kept) < len(seeds):
            ledger.fault("enrolled in part", f"{kept} of {seeds}")
        ledger.counts["enrolments without an answer, stored" if kept else "enrolments without an answer, absent"] += 1
        ledger.stored |= {present[seed]: seed for seed in kept}
    ledger.unanswered.clear()
    for sighting in sorted(ledger.doubtful):
        is_stored = sighting in listed
        ledger.counts["deletions without an answer, " + ("stored" if is_stored else "absent")] += 1
        if not is_stored:
            ledger.deleted[sighting] = ledger.stored.pop(sighting)
    ledger.doubtful.clear()
    metrics = client.get("/metrics").text
    if f'qaconv_sightings{{target="mall"}} {float(len(listed))}\n' not in metrics:
        ledger.fault("not in memory", f"{len(listed)} sightings are listed")
    for sighting, seed in random.Random(0).sample(sorted(listed.items()), min(20, len(listed))):
        if client.get(f"{MALL}/sightings/{sighting}/image").content != crop(seed):
            ledger.fault("lost", f"the image of {sighting}")
    stored = b"".join(path.read_bytes() for path in (project / "galleries").glob("galleries.db*"))
    for sighting, seed in ledger.deleted.items():
        if crop(seed)[40:] in stored:
            ledger.fault("bytes left", f"of sighting {sighting}")
    people.check(client, set(listed))
    reviews.check(client, set(listed))
    time.sleep(KEPT_S + 1)
    if left := list_sightings(client, STATION):
        ledger.fault("kept too long", f"{len(left)} sightings of the station")


def list_sightings(client: httpx.Client, target: str) -> dict[int, int]:
    """Return the seed of each sighting by id."""
    listed: dict[int, int] = {}
    while True:
        query = {"after": max(listed, default=0), "limit": 500}
        page = client.get(f"{target}/sightings", params=query).raise_for_status().json()["sightings"]
        if not page:
            return listed
        listed |= {sighting["id"]: int(sighting["time_s"]) for sighting in page}
