"""Answer questions about pairs of sightings while the service is killed, and compare the stored answers with them."""

import random
from collections import Counter
from collections.abc import Mapping

import httpx

from tests.integration.running_service import MALL
from tests.torture.outcomes import Outcomes

REVIEWS = f"{MALL}/reviews"
REVIEWERS = ("ada", "bob")  # the service stores merges and splits as answers of another one
MOST = 8  # answers of a request
DRAWN = 0.3  # probability that the service is asked which pairs to review

Pair = tuple[int, int]
Answers = dict[tuple[str, Pair], str]


class Reviews:
    """What the service has answered about reviews of pairs of the mall.

    Args:
        outcomes: counts of the run.
    """

    def __init__(self, outcomes: Outcomes) -> None:
        self._outcomes = outcomes
        self._stored: Answers = {}
        self._unanswered: list[Answers] = []

    def answer(self, client: httpx.Client, draws: random.Random, sightings: list[int], left: Mapping[int, int]) -> None:
        """Review some pairs.

        Only sightings that a person has left in one identity are called the same: a later answer that two of two
        identities are the same moves them.

        Args:
            client: of the service.
            draws: randomness.
            sightings: ids to choose from.
            left: identity of each sighting that a person's merge or split has left there.
        """
        reviewer = draws.choice(REVIEWERS)
        drawn = draws.random() < DRAWN
        pairs = self._ask(client, reviewer) if drawn else _choose(sightings, draws)
        if not pairs:
            return
        answers = {(reviewer, pair): _verdict(pair, left, draws) for pair in pairs}
        self._unanswered.append(answers)
        body = {
            "answers": [{"first": one, "second": other, "answer": said} for (_, (one, other)), said in answers.items()],
            "source": "sample" if drawn else "search",
            "reviewer": reviewer,
        }
        response = client.post(REVIEWS, json=body)
        self._unanswered.pop()
        if response.status_code == 404:  # a sighting was deleted meanwhile
            return
        response.raise_for_status()
        self._stored |= answers
        self._outcomes.counts["reviews"] += len(answers)

    def _ask(self, client: httpx.Client, reviewer: str) -> set[Pair]:
        """Ask which pairs to review."""
        task = client.get(f"{REVIEWS}/next", params={"reviewer": reviewer, "limit": MOST}).raise_for_status().json()
        return {(pair["first"]["id"], pair["second"]["id"]) for pair in task["pairs"]}

    def check(self, client: httpx.Client, stored: set[int]) -> None:
        """Compare the answers that are listed with those that were acknowledged.

        Args:
            client: of a restarted service, which nobody else asks.
            stored: ids of the mall's sightings.
        """
        listed = list_reviews(client)
        for (reviewer, pair), count in Counter(key for key, _ in listed).items():
            if count > 1:
                self._outcomes.fault("doubled", f"the answer of {reviewer} about {pair}, {count} times")
        present: Answers = dict(listed)
        for _, pair in present:
            if not stored.issuperset(pair):
                self._outcomes.fault("came back", f"an answer about {pair}, of which a sighting is deleted")
        self._stored = {key: said for key, said in self._stored.items() if stored.issuperset(key[1])}
        for answers in self._unanswered:
            new = {key: said for key, said in answers.items() if stored.issuperset(key[1])}
            changed = {present.get(key) == said for key, said in new.items() if self._stored.get(key) != said}
            if len(changed) > 1:
                self._outcomes.fault("half a change", f"of the answers {new}")
            self._stored |= new if changed == {True} else {}
            self._outcomes.counts["requests of reviews without an answer"] += 1
        self._unanswered.clear()
        for key in sorted(set(self._stored) | set(present)):
            if self._stored.get(key) != present.get(key):
                was, is_now = self._stored.get(key), present.get(key)
                self._outcomes.fault("lost", f"the answer of {key[0]} about {key[1]}: {is_now}, must be {was}")


def list_reviews(client: httpx.Client) -> list[tuple[tuple[str, Pair], str]]:
    """Return the answers of REVIEWERS, each with its reviewer and pair."""
    listed: list[tuple[tuple[str, Pair], str]] = []
    after = 0
    while page := client.get(REVIEWS, params={"after": after, "limit": 500}).raise_for_status().json()["answers"]:
        after = page[-1]["id"]
        listed += [
            ((row["reviewer"], (row["first"], row["second"])), row["answer"])
            for row in page
            if row["reviewer"] in REVIEWERS
        ]
    return listed


def _choose(sightings: list[int], draws: random.Random) -> set[Pair]:
    """Choose some pairs."""
    if len(sightings) < 2:
        return set()
    pairs = (sorted(draws.sample(sightings, 2)) for _ in range(draws.randint(1, MOST)))
    return {(one, other) for one, other in pairs}


def _verdict(pair: Pair, left: Mapping[int, int], draws: random.Random) -> str:
    one, other = (left.get(sighting) for sighting in pair)
    alike = one is not None and one == other
    return draws.choice(["different", "cannot tell", *(["same"] * 2 * alike)])
