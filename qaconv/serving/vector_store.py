"""Store landmarks and vectors in `galleries.db`, so that a restart computes none again. M landmarks, n sightings.

A landmark is a reference to a sighting, so that a deleted one leaves nothing behind. Rows end with their sightings.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from qaconv.runtime.shortlist import LANDMARKS
from qaconv.runtime.vectors import Vectors
from qaconv.serving.storage import Records
from qaconv.serving.stored_maps import HAS_MAP

TABLES = (
    """CREATE TABLE IF NOT EXISTS landmark_sets (
        number INTEGER PRIMARY KEY AUTOINCREMENT, matching TEXT NOT NULL, target TEXT NOT NULL,
        chosen_from INTEGER NOT NULL, mean REAL NOT NULL, complete INTEGER NOT NULL DEFAULT 0
    )""",
    """CREATE TABLE IF NOT EXISTS landmarks (
        landmark_set INTEGER NOT NULL, position INTEGER NOT NULL,
        sighting INTEGER NOT NULL REFERENCES sightings ON DELETE CASCADE, PRIMARY KEY (landmark_set, position)
    ) WITHOUT ROWID""",
    "CREATE INDEX IF NOT EXISTS landmarks_by_sighting ON landmarks (sighting)",
    """CREATE TABLE IF NOT EXISTS vectors (
        landmark_set INTEGER NOT NULL, sighting INTEGER NOT NULL REFERENCES sightings ON DELETE CASCADE,
        vector BLOB NOT NULL, PRIMARY KEY (landmark_set, sighting)
    ) WITHOUT ROWID""",
    "CREATE INDEX IF NOT EXISTS vectors_by_sighting ON vectors (sighting)",
)
READ = 65_536  # vectors read at a time
DELETED_VECTORS = 1024  # in a transaction, so that its journal fits into the reserve


class LandmarkSet(NamedTuple):
    """A set of landmarks of one target and version.

    Attributes:
        number: of the set.
        chosen_from: sightings of the gallery when it was chosen.
        mean: logit that vectors are relative to.
        complete: whether every sighting of that time has a vector.
    """

    number: int
    chosen_from: int
    mean: float
    complete: bool


class VectorStore:
    """The vectors in `galleries.db`. Safe to use from any thread; changes raise DiskFull or Busy."""

    def __init__(self, records: Records) -> None:
        self._records = records
        with records.transaction() as connection:
            for statement in TABLES:
                connection.execute(statement)

    def sets(self, matching: str, target: str) -> list[LandmarkSet]:
        """Return the sets of a target, the first chosen first.

        Args:
            matching: digest of the encoder and the head.
            target: whose.
        """
        statement = (
            "SELECT number, chosen_from, mean, complete FROM landmark_sets WHERE matching = ? AND target = ? "
            "ORDER BY number"
        )
        rows = self._records.query(statement, matching, target)
        return [LandmarkSet(number, chosen_from, mean, bool(complete)) for number, chosen_from, mean, complete in rows]

    def begin(self, matching: str, target: str, landmarks: Sequence[int], mean: float, chosen_from: int) -> LandmarkSet:
        """Add a set without vectors; the position of a landmark is that in `landmarks`, ids of sightings."""
        with self._records.transaction() as connection:
            number = connection.execute(
                "INSERT INTO landmark_sets (matching, target, chosen_from, mean) VALUES (?,?,?,?)",
                (matching, target, chosen_from, mean),
            ).lastrowid
            connection.executemany(
                "INSERT INTO landmarks SELECT ?, ?, id FROM sightings WHERE id = ?",
                [(number, position, sighting) for position, sighting in enumerate(landmarks)],
            )
        assert number is not None
        return LandmarkSet(number, chosen_from, mean, False)

    def complete(self, number: int) -> None:
        """Mark a set as one that every sighting has a vector of."""
        with self._records.transaction() as connection:
            connection.execute("UPDATE landmark_sets SET complete = 1 WHERE number = ?", (number,))

    def landmarks(self, number: int) -> dict[int, int]:
        """Return the landmarks' sightings by position; deleted ones are left out."""
        statement = "SELECT position, sighting FROM landmarks WHERE landmark_set = ? ORDER BY position"
        return dict(self._records.query(statement, number))

    def ids(self, encoder: str, target: str) -> NDArray[np.int64]:
        """Return the ids of a target's sightings that have a map of this encoder."""
        rows = self._records.query(f"SELECT id FROM sightings WHERE target = ? AND {HAS_MAP}", target, encoder)
        return np.sort(np.array([sighting for (sighting,) in rows], dtype=np.int64))

    def add(self, number: int, ids: Sequence[int], vectors: Vectors) -> None:
        """Add vectors; skip sightings that were deleted meanwhile, and all if the set was."""
        rows = [
            (number, scale.tobytes() + codes.tobytes(), sighting, number)
            for sighting, codes, scale in zip(ids, *vectors, strict=True)
        ]
        with self._records.transaction() as connection:
            connection.executemany(
                "INSERT OR REPLACE INTO vectors SELECT ?, id, ? FROM sightings "
                "WHERE id = ? AND EXISTS (SELECT 1 FROM landmark_sets WHERE number = ? AND target <> '')",
                rows,
            )

    def load(self, number: int) -> tuple[NDArray[np.int64], Vectors]:
        """Return the sightings, in ascending order, that have a vector of a set, and their vectors."""
        ids, parts, after = [np.empty(0, dtype=np.int64)], [], -1
        while rows := self._records.query(
            "SELECT sighting, vector FROM vectors WHERE landmark_set = ? AND sighting > ? ORDER BY sighting LIMIT ?",
            number, after, READ,
        ):  # fmt: skip
            after = rows[-1][0]
            ids.append(np.array([sighting for sighting, _ in rows], dtype=np.int64))
            parts.append(_bytes(rows))
        return np.concatenate(ids), _unpack(np.concatenate([_bytes([]), *parts]))

    def find(self, number: int, ids: Sequence[int]) -> tuple[NDArray[np.int64], Vectors]:
        """Return those of some sightings, in ascending order, that have a vector of a set, and their vectors."""
        rows = self._records.read(
            "SELECT sighting, vector FROM vectors WHERE landmark_set = ? "
            f"AND sighting IN ({','.join(map(str, ids))}) ORDER BY sighting",
            number,
        )
        return np.array([sighting for sighting, _ in rows], dtype=np.int64), _unpack(_bytes(rows))

    def mark_unused(self, matching: str) -> None:
        """Mark the sets of other encoders and heads for deletion."""
        self._mark("matching <> ?", matching)

    def mark_older(self, number: int, matching: str, target: str) -> None:
        """Mark the other sets of a target for deletion."""
        self._mark("number <> ? AND matching = ? AND target = ?", number, matching, target)

    def forget_marked(self) -> None:
        """Delete the marked sets, some vectors at a time."""
        for (number,) in self._records.query("SELECT number FROM landmark_sets WHERE target = ''"):
            for table in ("landmarks", "vectors"):
                some = f"SELECT sighting FROM {table} WHERE landmark_set = ? LIMIT {DELETED_VECTORS}"
                statement = f"DELETE FROM {table} WHERE landmark_set = ? AND sighting IN ({some})"
                deleted = 1
                while deleted:
                    with self._records.transaction() as connection:
                        deleted = connection.execute(statement, (number, number)).rowcount
            with self._records.transaction() as connection:
                connection.execute("DELETE FROM landmark_sets WHERE number = ?", (number,))

    def _mark(self, condition: str, *values: object) -> None:
        with self._records.transaction() as connection:
            connection.execute(f"UPDATE landmark_sets SET target = '' WHERE {condition}", values)


def _bytes(rows: Sequence[tuple[int, bytes]]) -> NDArray[np.int8]:
    """Return the stored vectors of rows with their scales, [n, 4 + M]."""
    return np.frombuffer(b"".join(data for _, data in rows), dtype=np.int8).reshape(len(rows), 4 + LANDMARKS)


def _unpack(values: NDArray[np.int8]) -> Vectors:
    scales = np.ascontiguousarray(values[:, :4]).view(np.float32)[:, 0]
    return Vectors(values[:, 4:], scales)
