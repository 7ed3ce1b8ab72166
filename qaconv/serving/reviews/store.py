"""Store people's answers about pairs of sightings, and the samples that were drawn for them, in `galleries.db`.

A pair ends with either of its sightings: its answers are overwritten with them. One pair can be in several samples, as
one is drawn for each version; an answer belongs to the sample that it was asked for.
"""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Literal, NamedTuple

from qaconv.reviews.table import Verdict
from qaconv.serving.storage import Records

Source = Literal["sample", "search", "identities"]

TABLES = (
    """CREATE TABLE IF NOT EXISTS review_draws (
        draw INTEGER PRIMARY KEY AUTOINCREMENT, target TEXT NOT NULL, version TEXT NOT NULL, threshold REAL NOT NULL,
        sightings INTEGER NOT NULL
    )""",
    "CREATE INDEX IF NOT EXISTS review_draws_by_target ON review_draws (target)",
    """CREATE TABLE IF NOT EXISTS review_pairs (
        draw INTEGER NOT NULL REFERENCES review_draws ON DELETE CASCADE, turn INTEGER NOT NULL,
        first INTEGER NOT NULL REFERENCES sightings ON DELETE CASCADE,
        second INTEGER NOT NULL REFERENCES sightings ON DELETE CASCADE,
        score REAL NOT NULL, probability REAL NOT NULL, stratum TEXT NOT NULL, PRIMARY KEY (draw, turn)
    ) WITHOUT ROWID""",
    "CREATE INDEX IF NOT EXISTS review_pairs_by_first ON review_pairs (first, second)",
    "CREATE INDEX IF NOT EXISTS review_pairs_by_second ON review_pairs (second)",
    """CREATE TABLE IF NOT EXISTS reviews (
        id INTEGER PRIMARY KEY AUTOINCREMENT, target TEXT NOT NULL,
        first INTEGER NOT NULL REFERENCES sightings ON DELETE CASCADE,
        second INTEGER NOT NULL REFERENCES sightings ON DELETE CASCADE,
        reviewer TEXT NOT NULL, answer TEXT NOT NULL, answered_s REAL NOT NULL, version TEXT NOT NULL,
        score REAL NOT NULL, probability REAL NOT NULL, marked INTEGER NOT NULL, source TEXT NOT NULL,
        draw INTEGER, stratum TEXT, UNIQUE (first, second, reviewer)
    )""",
    "CREATE INDEX IF NOT EXISTS reviews_by_second ON reviews (second)",
    "CREATE INDEX IF NOT EXISTS reviews_by_target ON reviews (target, id)",
)
STATED = ("version", "score", "probability", "marked", "source", "draw", "stratum")
# A drawn pair that is answered again elsewhere stays in its sample, as it was drawn by chance all the same.
STORE = f"""
INSERT INTO reviews (target, first, second, reviewer, answer, answered_s, {", ".join(STATED)})
VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?) ON CONFLICT (first, second, reviewer) DO UPDATE SET answer = excluded.answer,
answered_s = excluded.answered_s, {
    ", ".join(
        f"{name} = iif(reviews.source = 'sample' AND excluded.source <> 'sample', reviews.{name}, excluded.{name})"
        for name in STATED
    )
}"""
COLUMNS = (
    "id, first, second, reviewer, answer, answered_s, version, score, probability, marked, source, draw, stratum, "
    "(SELECT lower(hex(digest)) FROM sightings WHERE sightings.id = reviews.first), "
    "(SELECT lower(hex(digest)) FROM sightings WHERE sightings.id = reviews.second)"
)
# Whether two reviewers said "same" and "different" of a row's pair.
DISPUTED = """(SELECT count(DISTINCT other.answer) FROM reviews AS other WHERE other.first = reviews.first
    AND other.second = reviews.second AND other.answer <> 'cannot tell') > 1"""

AGREED = """SELECT first, second, max(answer = 'same'), max(answered_s) FROM reviews
    WHERE target = ? AND answer <> 'cannot tell'
    GROUP BY first, second HAVING count(DISTINCT answer) = 1 ORDER BY first, second"""


@dataclass(frozen=True)
class Draw:
    """A sample of a target's candidate pairs.

    Attributes:
        draw: its number, never used again.
        version: the version that stated the probabilities.
        threshold: probability above which a pair was marked as a match.
        sightings: number of the gallery's sightings.
    """

    draw: int
    version: str
    threshold: float
    sightings: int


@dataclass(frozen=True)
class ScoredPair:
    """A pair of sightings as a version sees it.

    Attributes:
        first: id of a sighting.
        second: id of another, above `first`.
        score: logit.
        probability: that both show one person.
        stratum: name of its stratum; empty outside a sample.
    """

    first: int
    second: int
    score: float
    probability: float
    stratum: str = ""


@dataclass(frozen=True)
class Review:
    """A person's answer about a pair.

    Attributes:
        id: grows with each new answer; a corrected answer keeps its id.
        first: id of a sighting.
        second: id of another, above `first`.
        reviewer: name of the person's key, or the name that was given.
        answer: "same", "different" or "cannot tell".
        answered_s: when, in seconds since 1970.
        version: the version that stated the probability.
        score: logit of the pair at that time.
        probability: stated at that time.
        marked: whether the pair was marked as a match.
        source: where the person was asked.
        draw: number of the sample; None where the pair was not drawn.
        stratum: name of the pair's stratum in the sample; None where it was not drawn.
        first_sha256: digest of the first sighting's image file.
        second_sha256: digest of the second's.
        disputed: whether another person answered the opposite.
    """

    id: int
    first: int
    second: int
    reviewer: str
    answer: Verdict
    answered_s: float
    version: str
    score: float
    probability: float
    marked: bool
    source: Source
    draw: int | None
    stratum: str | None
    first_sha256: str
    second_sha256: str
    disputed: bool


class AgreedPair(NamedTuple):
    """A pair of sightings that people have reviewed without contradicting each other.

    Attributes:
        first: id of a sighting.
        second: id of another, above `first`.
        one_person: whether they show one person.
        answered_s: when last, in seconds since 1970.
    """

    first: int
    second: int
    one_person: bool
    answered_s: float


REVIEW = [field.name for field in fields(Review)]


class ReviewStore:
    """The answers in `galleries.db`. Safe to use from any thread; changes raise DiskFull or Busy."""

    def __init__(self, records: Records) -> None:
        self._records = records
        with records.transaction() as connection:
            for statement in TABLES:
                connection.execute(statement)

    def sightings(self, target: str) -> list[int]:
        """Return the ids of a target's sightings, in the order of enrolment."""
        return [
            sighting
            for (sighting,) in self._records.query("SELECT id FROM sightings WHERE target = ? ORDER BY id", target)
        ]

    def last_draw(self, target: str) -> Draw | None:
        """Return a target's newest sample; None before the first."""
        rows = self._records.query(
            "SELECT draw, version, threshold, sightings FROM review_draws WHERE target = ? ORDER BY draw DESC LIMIT 1",
            target,
        )
        return Draw(*rows[0]) if rows else None

    def add_draw(
        self, target: str, version: str, threshold: float, sightings: int, pairs: Sequence[ScoredPair]
    ) -> Draw:
        """Store a sample, with its pairs in their order, and forget earlier ones that nobody answered.

        Pairs of sightings that were deleted meanwhile are left out.
        """
        with self._records.transaction() as connection:
            connection.execute(
                "DELETE FROM review_draws WHERE target = ? "
                "AND draw NOT IN (SELECT draw FROM reviews WHERE draw NOTNULL)",
                (target,),
            )
            draw = connection.execute(
                "INSERT INTO review_draws (target, version, threshold, sightings) VALUES (?,?,?,?)",
                (target, version, threshold, sightings),
            ).lastrowid
            assert draw is not None
            connection.executemany(
                "INSERT INTO review_pairs SELECT ?, ?, one.id, other.id, ?, ?, ? FROM sightings AS one, "
                "sightings AS other WHERE one.id = ? AND other.id = ?",
                [
                    (draw, turn, pair.score, pair.probability, pair.stratum, pair.first, pair.second)
                    for turn, pair in enumerate(pairs)
                ],
            )
        return Draw(draw, version, threshold, sightings)

    def pairs(self, draw: int) -> list[tuple[int, ScoredPair]]:
        """Return a sample's pairs in their order, each after its turn, without those of deleted sightings."""
        rows = self._records.query(
            "SELECT turn, first, second, score, probability, stratum FROM review_pairs WHERE draw = ? ORDER BY turn",
            draw,
        )
        return [(turn, ScoredPair(*pair)) for turn, *pair in rows]

    def find_drawn(self, target: str, first: int, second: int) -> tuple[ScoredPair, Draw] | None:
        """Return a pair in the newest sample that has it; None if none has."""
        rows = self._records.query(
            "SELECT draw, version, threshold, sightings, first, second, score, probability, stratum FROM review_pairs "
            "JOIN review_draws USING (draw) WHERE target = ? AND first = ? AND second = ? ORDER BY draw DESC LIMIT 1",
            target, first, second,
        )  # fmt: skip
        return (ScoredPair(*rows[0][4:]), Draw(*rows[0][:4])) if rows else None

    def store(
        self,
        target: str,
        answers: Sequence[tuple[Verdict, ScoredPair, Draw]],
        reviewer: str,
        answered_s: float,
        source: Source,
    ) -> None:
        """Store a person's answers, all or none. An earlier answer of the same person about a pair is replaced.

        Answers about sightings that were deleted meanwhile are left out.

        Args:
            target: of the sightings.
            answers: each with its pair, and the version, threshold and number of the sample that it belongs to; the
                number counts for the source "sample" alone.
            reviewer: name of the person.
            answered_s: in seconds since 1970.
            source: where the person was asked.
        """
        with self._records.transaction() as connection:
            for answer in answers:
                store_answer(connection, target, answer, reviewer, answered_s, source)

    def page(self, target: str, after: int, limit: int, *, disputed: bool = False) -> list[Review]:
        """Return up to `limit` answers with ids above `after`, in order; with `disputed` only contradicted ones."""
        rows = self._records.query(
            f"SELECT {COLUMNS}, {DISPUTED} FROM reviews WHERE target = ? AND id > ? {f'AND {DISPUTED}' * disputed} "
            "ORDER BY id LIMIT ?",
            target, after, limit,
        )  # fmt: skip
        reviews = (dict(zip(REVIEW, row, strict=True)) for row in rows)
        return [Review(**{**row, "marked": bool(row["marked"]), "disputed": bool(row["disputed"])}) for row in reviews]

    def of_draw(self, draw: int) -> list[tuple[int, int, str, Verdict]]:
        """Return the answers of a sample: both sightings, the reviewer and the answer."""
        return self._records.query("SELECT first, second, reviewer, answer FROM reviews WHERE draw = ?", draw)

    def count_disputed(self, target: str) -> int:
        """Return the number of pairs on which two people contradict each other."""
        statement = f"SELECT count(DISTINCT first || ' ' || second) FROM reviews WHERE target = ? AND {DISPUTED}"
        return int(self._records.query(statement, target)[0][0])

    def count_strata(self, target: str) -> dict[tuple[int, str], tuple[int, int]]:
        """Return the number of pairs, and of answered ones, of each stratum of a target's samples.

        A pair that nobody could tell is not answered.
        """
        rows = self._records.query(
            "SELECT draw, stratum, count(*), sum(EXISTS (SELECT 1 FROM reviews WHERE reviews.draw = review_pairs.draw "
            "AND reviews.first = review_pairs.first AND reviews.second = review_pairs.second "
            "AND answer <> 'cannot tell')) "
            "FROM review_pairs JOIN review_draws USING (draw) WHERE target = ? GROUP BY draw, review_pairs.stratum",
            target,
        )
        return {(draw, stratum): (pairs, answered) for draw, stratum, pairs, answered in rows}

    def agreed(self, target: str) -> list[AgreedPair]:
        """Return the pairs of sightings that people have reviewed without contradicting each other."""
        return [
            AgreedPair(first, second, bool(one_person), answered_s)
            for first, second, one_person, answered_s in self._records.query(AGREED, target)
        ]

    def last_answer(self, target: str) -> float:
        """Return when the newest review was answered, in seconds since 1970; 0 where there is none."""
        ((answered_s,),) = self._records.query("SELECT max(answered_s) FROM reviews WHERE target = ?", target)
        return float(answered_s or 0)


def store_answer(
    connection: sqlite3.Connection,
    target: str,
    given: tuple[Verdict, ScoredPair, Draw],
    reviewer: str,
    answered_s: float,
    source: Source,
) -> None:
    """Store an answer within a transaction, see `ReviewStore.store`."""
    answer, pair, draw = given
    both = connection.execute("SELECT 1 FROM sightings WHERE id IN (?, ?)", (pair.first, pair.second))
    if len(both.fetchall()) == 2:
        sampled = (draw.draw, pair.stratum) if source == "sample" else (None, None)
        stated = draw.version, pair.score, pair.probability, pair.probability > draw.threshold
        row = target, pair.first, pair.second, reviewer, answer, answered_s
        connection.execute(STORE, (*row, *stated, source, *sampled))


def forget_answers(connection: sqlite3.Connection, target: str, kept: Sequence[int], moved: Sequence[int]) -> None:
    """Delete the answers that earlier merges and splits have left about pairs of a kept and a moved sighting."""
    sides = dict.fromkeys(kept, "kept") | dict.fromkeys(moved, "moved")
    answers = connection.execute(
        "SELECT id, first, second FROM reviews WHERE target = ? AND source = 'identities'", (target,)
    ).fetchall()
    connection.executemany(
        "DELETE FROM reviews WHERE id = ?",
        [(review,) for review, one, other in answers if {sides.get(one), sides.get(other)} == {"kept", "moved"}],
    )
