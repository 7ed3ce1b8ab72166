"""Store the identities of sightings next to the sightings, in `galleries.db`.

A sighting has one row here from the moment that it has been searched for; its camera and time are copied into it, so
that reading them touches no crop. Rows and edges end with their sightings.
"""

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from qaconv.reviews.table import Verdict
from qaconv.serving.reviews.store import Draw, ScoredPair, forget_answers, store_answer
from qaconv.serving.storage import Records
from qaconv.serving.stored_maps import HAS_MAP

ChangeKind = Literal["merge", "split"]

TABLES = (
    """CREATE TABLE IF NOT EXISTS identities (
        sighting INTEGER PRIMARY KEY REFERENCES sightings ON DELETE CASCADE, target TEXT NOT NULL,
        camid INTEGER NOT NULL, camera TEXT, time_s REAL, track TEXT, searched INTEGER NOT NULL,
        identity INTEGER NOT NULL DEFAULT 0, probability REAL, pinned_s REAL NOT NULL DEFAULT 0
    )""",
    "CREATE INDEX IF NOT EXISTS by_identity ON identities (target, identity)",
    """CREATE TABLE IF NOT EXISTS edges (
        first INTEGER NOT NULL REFERENCES sightings ON DELETE CASCADE,
        second INTEGER NOT NULL REFERENCES sightings ON DELETE CASCADE,
        log_odds REAL NOT NULL, PRIMARY KEY (first, second)
    ) WITHOUT ROWID""",
    "CREATE INDEX IF NOT EXISTS edges_by_second ON edges (second)",
    """CREATE TABLE IF NOT EXISTS identity_states (
        target TEXT PRIMARY KEY, wanted INTEGER NOT NULL, last INTEGER NOT NULL, edges_of TEXT NOT NULL,
        identities_of TEXT NOT NULL, updated_s REAL
    )""",
    """CREATE TABLE IF NOT EXISTS identity_changes (
        id INTEGER PRIMARY KEY, target TEXT NOT NULL, kind TEXT NOT NULL, identity INTEGER NOT NULL,
        other INTEGER NOT NULL, who TEXT, changed_s REAL NOT NULL
    )""",
    "CREATE INDEX IF NOT EXISTS changes_by_identity ON identity_changes (target, identity)",
    """CREATE TRIGGER IF NOT EXISTS forget_identity AFTER DELETE ON identities
        WHEN NOT EXISTS (SELECT 1 FROM identities WHERE target = OLD.target AND identity = OLD.identity)
        BEGIN DELETE FROM identity_changes WHERE target = OLD.target AND identity = OLD.identity; END""",
)
OF_TARGET = "IN (SELECT sighting FROM identities WHERE target = ?)"
EDGES = 100  # deleted in a transaction on a full disk: each may change two pages
COLUMNS = ["sighting", "camid", "camera", "time_s", "track", "identity", "probability", "pinned_s"]


class Edge(NamedTuple):
    """A pair of sightings.

    Attributes:
        first: id of a sighting.
        second: id of another, above `first`.
        log_odds: that both show one person.
    """

    first: int
    second: int
    log_odds: float


@dataclass(frozen=True)
class State:
    """What is known about a target's identities.

    Attributes:
        wanted: whether new sightings are to be given identities.
        last: largest number that was ever given.
        edges_of: digest of the model and profile that the edges are of.
        identities_of: of those that the identities are of; empty before the first update.
        updated_s: end of the last update, in seconds since 1970; None before the first.
    """

    wanted: bool = False
    last: int = 0
    edges_of: str = ""
    identities_of: str = ""
    updated_s: float | None = None


@dataclass(frozen=True)
class Change:
    """A merge or a split.

    Attributes:
        kind: whether sightings of `other` came to `identity`, or left it for `other`.
        identity: its number.
        other: number of the other identity.
        who: name of the key of the person who asked for it; None where an update did.
        changed_s: when, in seconds since 1970.
    """

    kind: ChangeKind
    identity: int
    other: int
    who: str | None
    changed_s: float


class IdentityStore:
    """The identities in `galleries.db`. Safe to use from any thread; changes raise DiskFull or Busy."""

    def __init__(self, records: Records) -> None:
        self._records = records
        with records.transaction() as connection:
            for statement in TABLES:
                connection.execute(statement)

    def state(self, target: str) -> State:
        """Return what is known about a target's identities."""
        statement = "SELECT wanted, last, edges_of, identities_of, updated_s FROM identity_states WHERE target = ?"
        rows = self._records.query(statement, target)
        return State(bool(rows[0][0]), *rows[0][1:]) if rows else State()

    def wanted_targets(self) -> list[str]:
        """Return the targets whose new sightings are to be given identities."""
        return [target for (target,) in self._records.query("SELECT target FROM identity_states WHERE wanted")]

    def want(self, target: str) -> None:
        """Give new sightings of a target identities from now on."""
        with self._records.transaction() as connection:
            connection.execute(
                "INSERT INTO identity_states VALUES (?, 1, 0, '', '', NULL) "
                "ON CONFLICT (target) DO UPDATE SET wanted = 1",
                (target,),
            )

    def forget(self, target: str) -> int:
        """Delete a target's identities, edges and changes, and want no more; return the number of sightings.

        The largest number stays, so that none is given twice.
        """
        with self._records.transaction() as connection:
            connection.execute(f"DELETE FROM edges WHERE first {OF_TARGET}", (target,))
            forgotten = connection.execute("DELETE FROM identities WHERE target = ?", (target,)).rowcount
            connection.execute("DELETE FROM identity_changes WHERE target = ?", (target,))
            connection.execute(
                "UPDATE identity_states SET wanted = 0, edges_of = '', identities_of = '', updated_s = NULL "
                "WHERE target = ?",
                (target,),
            )
        return forgotten

    def begin(self, target: str, model: str) -> None:
        """Delete the edges of another model, if there are some, so that every sighting is searched for again."""
        if self.state(target).edges_of == model:
            return
        with self._records.transaction() as connection:
            connection.execute(f"DELETE FROM edges WHERE first {OF_TARGET}", (target,))
            connection.execute("UPDATE identities SET searched = 0 WHERE target = ?", (target,))
            connection.execute("UPDATE identity_states SET edges_of = ? WHERE target = ?", (model, target))

    def unsearched(self, target: str, encoder: str) -> list[int]:
        """Return the ids of sightings with a map of this encoder that have not been searched for, in order."""
        rows = self._records.query(
            "SELECT id FROM sightings WHERE target = ? "
            f"AND {HAS_MAP} "
            "AND NOT EXISTS (SELECT 1 FROM identities WHERE sighting = id AND searched) ORDER BY id",
            target, encoder,
        )  # fmt: skip
        return [sighting for (sighting,) in rows]

    def add_edges(self, target: str, model: str, ids: Sequence[int], edges: Iterable[Edge]) -> bool:
        """Store that sightings have been searched for, and the edges that were found.

        Sightings that were deleted meanwhile are skipped.

        Returns:
            Whether the edges are of the target's present model and still wanted; if not, nothing was stored.
        """
        with self._records.transaction() as connection:
            if not _is_of(connection, target, model):
                return False
            connection.executemany(
                "INSERT INTO identities (sighting, target, camid, camera, time_s, track, searched) "
                "SELECT id, target, camid, camera, time_s, track, 1 FROM sightings WHERE id = ? "
                "ON CONFLICT (sighting) DO UPDATE SET searched = 1",
                [(sighting,) for sighting in ids],
            )
            connection.executemany(
                "INSERT OR REPLACE INTO edges SELECT ?1, ?2, ?3 WHERE 2 = "
                "(SELECT count(*) FROM sightings WHERE id IN (?1, ?2))",
                edges,
            )
        return True

    def table(self, target: str, identity: int | None = None) -> pd.DataFrame:
        """Return the sightings of a target that have been searched for, in the order of their ids.

        Its columns are COLUMNS; `identity` is 0 and `probability` NaN where none has been given, `time_s` NaN where
        unknown, `camera` and `track` None where there is none. `pinned_s` is when a person chose the identity, in
        seconds since 1970, and 0 where nobody has.

        Args:
            target: the camera network.
            identity: number of the one to return. Default: all, also the sightings that have none.
        """
        only = "" if identity is None else "AND identity = ?"
        values = (target,) if identity is None else (target, identity)
        statement = f"SELECT {', '.join(COLUMNS)} FROM identities WHERE target = ? {only} ORDER BY sighting"
        table = pd.DataFrame(self._records.query(statement, *values), columns=COLUMNS, dtype=object)
        numbers = {"sighting": np.int64, "camid": np.int64, "identity": np.int64}
        return table.astype({**numbers, "time_s": np.float64, "probability": np.float64, "pinned_s": np.float64})

    def edges(self, target: str) -> list[Edge]:
        """Return the edges of a target."""
        statement = f"SELECT first, second, log_odds FROM edges WHERE first {OF_TARGET} ORDER BY first, second"
        return [Edge(*row) for row in self._records.query(statement, target)]

    def has_open(self, target: str) -> bool:
        """Return whether a sighting has been searched for and has no identity yet."""
        return bool(self._records.query("SELECT 1 FROM identities WHERE target = ? AND identity = 0 LIMIT 1", target))

    def changes(self, target: str, identity: int) -> list[Change]:
        """Return the merges and splits of an identity, the oldest first."""
        rows = self._records.query(
            "SELECT kind, identity, other, who, changed_s FROM identity_changes WHERE target = ? AND identity = ? "
            "ORDER BY id",
            target, identity,
        )  # fmt: skip
        return [Change(*row) for row in rows]

    def set_identities(
        self,
        target: str,
        model: str,
        identities: Iterable[tuple[int, float, int]],
        changes: Iterable[Change],
        last: int,
        updated_s: float,
    ) -> bool:
        """Store the result of an update.

        Args:
            target: whose sightings they are.
            model: digest that they are of.
            identities: number, probability and sighting; sightings that were deleted meanwhile are skipped.
            changes: merges and splits.
            last: largest number that was ever given.
            updated_s: present time, in seconds since 1970.

        Returns:
            Whether they are of the target's present model and still wanted; if not, nothing was stored.
        """
        with self._records.transaction() as connection:
            if not _is_of(connection, target, model):
                return False
            connection.executemany("UPDATE identities SET identity = ?, probability = ? WHERE sighting = ?", identities)
            _add_changes(connection, target, changes)
            connection.execute(
                "UPDATE identity_states SET last = ?, identities_of = ?, updated_s = ? WHERE target = ?",
                (last, model, updated_s, target),
            )
        return True

    def move(
        self,
        target: str,
        kept: Sequence[int],
        moved: Sequence[int],
        change: Change,
        who: str,
        pair: tuple[ScoredPair, Draw],
    ) -> None:
        """Move sightings to another identity, as a person has asked. Updates leave them and those that stay there.

        What the person says is also an answer about a pair; those that earlier merges and splits have left about pairs
        of both groups are deleted.

        Args:
            target: whose sightings they are.
            kept: ids of the sightings that stay in `identity` of the change.
            moved: ids of those that come to it by a merge, or go to `other` by a split.
            change: the merge or the split.
            who: name of the person's key.
            pair: a sighting of each group, as the active version states them.
        """
        number = change.identity if change.kind == "merge" else change.other
        with self._records.transaction() as connection:
            connection.executemany(
                "UPDATE identities SET identity = ?, pinned_s = ? WHERE sighting = ?",
                [
                    *((change.identity, change.changed_s, sighting) for sighting in kept),
                    *((number, change.changed_s, sighting) for sighting in moved),
                ],
            )
            forget_answers(connection, target, kept, moved)
            answer: Verdict = "same" if change.kind == "merge" else "different"
            store_answer(connection, target, (answer, *pair), who, change.changed_s, "identities")
            _add_changes(connection, target, [change])
            connection.execute("UPDATE identity_states SET last = max(last, ?) WHERE target = ?", (number, target))

    def forget_edges(self, ids: Sequence[int]) -> None:
        """Delete the edges of sightings, so few at a time that they fit on a full disk.

        The sightings are searched for again if they are not deleted after all.
        """
        given = f"({','.join(map(str, ids))})"
        with self._records.transaction() as connection:
            connection.execute(f"UPDATE identities SET searched = 0 WHERE sighting IN {given}")
        for end in ("first", "second"):
            deleted = EDGES
            while deleted == EDGES:
                with self._records.transaction() as connection:
                    deleted = connection.execute(
                        "DELETE FROM edges WHERE (first, second) IN "
                        f"(SELECT first, second FROM edges WHERE {end} IN {given} LIMIT {EDGES})"
                    ).rowcount


def _is_of(connection: sqlite3.Connection, target: str, model: str) -> bool:
    statement = "SELECT 1 FROM identity_states WHERE target = ? AND edges_of = ? AND wanted"
    return connection.execute(statement, (target, model)).fetchone() is not None


def _add_changes(connection: sqlite3.Connection, target: str, changes: Iterable[Change]) -> None:
    rows: list[tuple[Any, ...]] = [
        (target, change.kind, change.identity, change.other, change.who, change.changed_s) for change in changes
    ]
    connection.executemany(
        "INSERT INTO identity_changes (target, kind, identity, other, who, changed_s) VALUES (?,?,?,?,?,?)", rows
    )
