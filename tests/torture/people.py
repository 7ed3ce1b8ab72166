"""Change people's identities while the service is killed, and compare them with what was answered.

Every stored sighting must be of one identity, and sightings that a person has merged or split must stay where they are.
"""

import random
import time
from collections import Counter
from io import BytesIO

import httpx
import numpy as np
from PIL import Image

from tests.integration.running_service import MALL
from tests.torture.outcomes import Outcomes

IDENTITIES = f"{MALL}/identities"
COLOURS = 3
FEW = 4  # identities: with fewer, one is split, with more, two are merged
PATIENCE_S = 120


def coloured_crop(seed: int, person: int) -> bytes:
    """Return a PNG of noise in the colour of a person; two people of one colour are one to the model."""
    pixels = np.random.default_rng(seed).integers(0, 20, (8, 4, 3), dtype=np.uint8)
    pixels[..., person % COLOURS] += 220
    file = BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


class People:
    """What the service has answered about the identities of the mall.

    Args:
        outcomes: counts of the run.

    Attributes:
        pinned: number of each sighting's identity, as a person has left it.
    """

    def __init__(self, outcomes: Outcomes) -> None:
        self._outcomes = outcomes
        self.pinned: dict[int, int] = {}
        self._unanswered: list[tuple[int, set[int]]] = []  # identity, and pinned sightings that a change takes out
        self._seen: set[int] = set()
        self._ended: set[int] = set()

    def change(self, client: httpx.Client, draws: random.Random) -> None:
        """Ask for identities, and merge two or split one."""
        client.post(IDENTITIES).raise_for_status()
        time.sleep(draws.uniform(0, 0.1))
        numbers = list_sizes(client)
        if len(numbers) > FEW:
            identity, other = draws.sample(sorted(numbers), 2)
            self._merge(client, identity, other)
        elif numbers and max(numbers.values()) > FEW:
            self._split(client, max(numbers, key=lambda number: numbers[number]), draws)

    def _merge(self, client: httpx.Client, identity: int, other: int) -> None:
        kept, moved = list_members(client, identity), list_members(client, other)
        number = self._ask(client, f"{identity}/merge", {"other": other}, other, moved)
        if number is not None:
            self._pin({identity: kept | moved}, client)
            self._outcomes.counts["merges of people"] += 1

    def _split(self, client: httpx.Client, identity: int, draws: random.Random) -> None:
        members = list_members(client, identity)
        if len(members) < 2:
            return
        moved = set(draws.sample(sorted(members), draws.randint(1, len(members) // 2)))
        number = self._ask(client, f"{identity}/split", {"sightings": sorted(moved)}, identity, moved)
        if number is not None:
            self._pin({identity: members - moved, number: moved}, client)
            self._outcomes.counts["splits of people"] += 1

    def _ask(
        self, client: httpx.Client, path: str, body: dict[str, object], before: int, moved: set[int]
    ) -> int | None:
        """Ask for a change that takes sightings out of the identity `before`; return the number of the answer.

        Returns None where sightings were deleted or moved meanwhile, so that nothing has changed.
        """
        self._unanswered.append((before, {one for one in moved if self.pinned.get(one) == before}))
        answer = client.post(f"{IDENTITIES}/{path}", json=body)
        if answer.status_code in (404, 409):
            self._unanswered.pop()
            return None
        return int(answer.raise_for_status().json()["identity"])

    def _pin(self, members: dict[int, set[int]], client: httpx.Client) -> None:
        """Remember the sightings that were of an identity before the change that was just answered, and are after it.

        Until they are known, what the change has moved counts as not answered.
        """
        left = {number: some & list_members(client, number) for number, some in members.items()}
        for number, some in left.items():
            self.pinned |= dict.fromkeys(some, number)
        self._unanswered.pop()

    def check(self, client: httpx.Client, stored: set[int]) -> None:
        """Wait for the end of the update, and compare identities with the stored sightings and with what was answered.

        Args:
            client: of a restarted service, which nobody else asks.
            stored: ids of the mall's sightings.
        """
        if not self._wait(client, len(stored)):
            return
        members = {number: list_members(client, number) for number in list_sizes(client)}
        for sighting, count in Counter(one for some in members.values() for one in some).items():
            if count > 1:
                self._outcomes.fault("doubled", f"sighting {sighting}, of {count} identities")
        number_of = {sighting: number for number, some in members.items() for sighting in some}
        for sighting in sorted(stored - set(number_of)):
            self._outcomes.fault("lost", f"the identity of sighting {sighting}")
        for sighting in sorted(set(number_of) - stored):
            self._outcomes.fault("came back", f"sighting {sighting}, of identity {number_of[sighting]}")
        for number in sorted(self._ended & set(members)):
            self._outcomes.fault("came back", f"identity {number}")
        self._ended |= self._seen - set(members)
        self._seen |= set(members)
        self._compare(number_of)

    def _compare(self, number_of: dict[int, int]) -> None:
        """Compare where sightings are with where people have left them."""
        for before, moved in self._unanswered:
            present = sorted(moved & set(number_of))
            if len({number_of[sighting] == before for sighting in present}) > 1:
                self._outcomes.fault("half a change", f"of the sightings {present}")
            self.pinned |= {sighting: number_of[sighting] for sighting in present}
            self._outcomes.counts["changes of people without an answer"] += 1
        self._unanswered.clear()
        self.pinned = {sighting: number for sighting, number in self.pinned.items() if sighting in number_of}
        for sighting, number in self.pinned.items():
            if number_of[sighting] != number:
                self._outcomes.fault("lost", f"a change: {sighting} is of {number_of[sighting]} and not of {number}")

    def _wait(self, client: httpx.Client, stored: int) -> bool:
        """Wait until every stored sighting has an identity, if somebody has asked for them."""
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            update = client.get(IDENTITIES, params={"limit": 1}).raise_for_status().json()["update"]
            if not update["wanted"]:
                return False
            if update["state"] == "idle" and sum(list_sizes(client).values()) == stored:
                return True
            time.sleep(0.1)
        self._outcomes.fault("not completed", f"identities: {update}, of {stored} sightings")
        return False


def list_sizes(client: httpx.Client) -> dict[int, int]:
    """Return the number of sightings of each identity."""
    sizes: dict[int, int] = {}
    while True:
        page = client.get(IDENTITIES, params={"skip": len(sizes), "limit": 500}).raise_for_status().json()
        if not page["identities"]:
            return sizes
        sizes |= {row["identity"]: row["sightings"] for row in page["identities"]}


def list_members(client: httpx.Client, identity: int) -> set[int]:
    """Return the sightings of an identity; none where it has ended."""
    answer = client.get(f"{IDENTITIES}/{identity}")
    if answer.status_code == 404:
        return set()
    return {member["id"] for visit in answer.raise_for_status().json()["visits"] for member in visit["members"]}
