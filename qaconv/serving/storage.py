"""Store sightings, their crops and maps in one SQLite file.

When `add` returns, its sightings are on disk; a killed process leaves all of them or none. When `delete` returns,
nothing of its sightings is left in the files.

The journal holds the old content of the pages that a transaction changes. It is emptied when the transaction is
committed, and opening the file undoes a transaction that was killed and empties its journal. (A write-ahead log would
hold deleted bytes after the commit, for as long as another reader or a kill keeps it from being emptied.)

Several workers of one service may have the file open. Ids grow in the order of commits, and the last deletions are
listed, so that each worker finds what the others have changed (`changes.py`).
"""

import queue
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qaconv.errors import InputError
from qaconv.runtime.quantise import Codes, dequantise
from qaconv.serving.database import PAGE_BYTES, digest, open_reader, set_up, translated_errors
from qaconv.serving.request_limit import RequestLimit, write_counts
from qaconv.serving.state_folder import (
    COUNTS,
    GALLERIES,
    LOCKS,
    SCARCE_BYTES,
    Reserve,
    WorkersLock,
    lock_folder,
    make_private,
)
from qaconv.serving.stored_maps import BASE, HAS_MAP, MAPS, SIGHTINGS, insert_maps, quantise_maps, unpack_maps

COLUMNS = "id, target, camid, time_s, person, enrolled_s, camera, track"
READ = 4096  # sightings read at a time
READERS = 4  # of maps, at the same time
DELETED = 16  # sightings deleted in a transaction, so that its journal fits into the reserve


@dataclass(frozen=True)
class Sighting:
    """One image of a person.

    Attributes:
        id: given at enrolment and never used again.
        target: the camera network.
        camid: the camera; of one with a name, its number in the profile that it was enrolled with.
        time_s: seconds on the camera's clock, None where unknown.
        person: the caller's word for the person, by which sightings are deleted together; None where not given.
        enrolled_s: time of enrolment, in seconds since 1970.
        camera: the camera's name, None where cameras are numbers.
        track: name of its track, None where not given.
    """

    id: int
    target: str
    camid: int
    time_s: float | None
    person: str | None
    enrolled_s: float
    camera: str | None = None
    track: str | None = None


Row = tuple[str, int, float | None, str | None, float, str | None, str | None, bytes]  # a Sighting without id, its crop


class Records:
    """The file `galleries.db` in a folder. Safe to use from any thread.

    Maps are codes in 8 bits, by the digest of the encoder that made them (stored_maps.py). Methods that change
    something raise DiskFull or Busy.

    Args:
        folder: the service's state.
        is_shared: whether this process is a worker, whose parent keeps other services from the folder.

    Attributes:
        is_shared: the same.
        folder: the same.

    Raises:
        InputError: another service uses the folder, or another program keeps the file locked.
    """

    def __init__(self, folder: Path, *, is_shared: bool = False) -> None:
        make_private(folder)
        path = folder / GALLERIES
        self.is_shared = is_shared
        self.folder = folder
        self._locks = {name: WorkersLock(folder, name) for name in LOCKS}
        self._folder_lock = None if is_shared else lock_folder(folder)
        if not is_shared:
            write_counts(folder / COUNTS)
        self._lock = threading.Lock()
        self._writing = self.lock("writing")
        with self._writing:  # else a worker that starts could occupy what a transaction of another one needs
            self._reserve = Reserve(folder)
        self._readers: queue.LifoQueue[sqlite3.Connection] = queue.LifoQueue()
        self._connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        try:
            with self._reserve.free():
                set_up(self._connection, is_shared=is_shared)
        except sqlite3.DatabaseError as error:
            self.close()
            raise InputError(f"{path}: cannot be opened: {error}") from error
        for _ in range(READERS):
            self._readers.put(open_reader(path))

    def lock(self, name: str) -> WorkersLock:
        """Return one of the locks that all workers share (`LOCKS` in state_folder.py)."""
        return self._locks[name]

    @property
    def folder_lock(self) -> int:
        """File descriptor of the lock that keeps other services from the folder, while any process has it open."""
        assert self._folder_lock is not None, "a worker does not have the lock"
        return self._folder_lock.fileno()

    def request_limit(self, per_minute: int) -> RequestLimit:
        """Return a limit of the requests of each key a minute, over all workers."""
        return RequestLimit(self.folder / COUNTS, self._locks["counting"], per_minute)

    def last_change(self) -> tuple[int, int]:
        """Return the largest id of a sighting, and the number of the last deletion; 0 where there is none."""
        statement = "SELECT (SELECT max(id) FROM sightings), (SELECT max(number) FROM deletions)"
        ((sighting, deletion),) = self.read(statement)
        return sighting or 0, deletion or 0

    def deletions(self, after: int) -> list[tuple[int, int, str]]:
        """Return the number, sighting and target of the deletions after a number, of the last KEPT, in order."""
        return self.read("SELECT number, sighting, target FROM deletions WHERE number > ? ORDER BY number", after)

    def add(self, rows: Sequence[Row], encoder: str, maps: Codes) -> list[int]:
        """Add rows with maps [n, S, C], and return ids."""
        with self.transaction() as connection:
            connection.executemany(
                "INSERT INTO sightings (target, camid, time_s, person, enrolled_s, camera, track, crop, digest) "
                "VALUES (?,?,?,?,?,?,?,?,?)",
                [(*row, digest(row[-1])) for row in rows],
            )
            (last,) = connection.execute("SELECT last_insert_rowid()").fetchone()
            ids = list(range(last - len(rows) + 1, last + 1))  # consecutive, as nothing else writes meanwhile
            insert_maps(connection, encoder, ids, maps)
        return ids

    def existing(self, ids: Sequence[int]) -> list[int]:
        """Return those of some ids that have a sighting."""
        rows = self.read(f"SELECT id FROM sightings WHERE id IN ({','.join(str(int(sighting)) for sighting in ids)})")
        return [sighting for (sighting,) in rows]

    def add_maps(self, ids: Sequence[int], encoder: str, maps: Codes) -> None:
        """Add another encoder's maps [n, S, C]; skip sightings that were deleted meanwhile."""
        with self.transaction() as connection:
            insert_maps(connection, encoder, ids, maps)

    def delete(self, ids: Sequence[int]) -> None:
        """Delete sightings, their crops and maps, and overwrite them; up to DELETED fit on a full disk."""
        with self.transaction() as connection:
            connection.executemany("DELETE FROM sightings WHERE id = ?", [(sighting,) for sighting in ids])

    def forget_other_encoders(self, encoder: str) -> None:
        """Delete the maps of other encoders."""
        deleted = DELETED
        while deleted == DELETED:
            with self.transaction() as connection:
                deleted = connection.execute(
                    f"DELETE FROM codes WHERE key IN (SELECT key FROM codes WHERE key < {BASE} "
                    f"OR key >= {BASE} + {SIGHTINGS} LIMIT {DELETED})",
                    (encoder, encoder),
                ).rowcount

    def convert_old_maps(self, encoder: str, shape: tuple[int, int, int]) -> None:
        """Convert maps of `shape` in float16, which releases up to 0.1.0 stored, and delete those of other encoders.

        They are converted some at a time, and after a kill the rest.
        """
        if not self.query("SELECT 1 FROM sqlite_master WHERE name = 'maps'"):
            return
        while rows := self.query(f"SELECT rowid, sighting, encoder, map FROM maps LIMIT {DELETED}"):
            wanted = [(sighting, data) for _, sighting, made_by, data in rows if made_by == encoder]
            maps = np.array([np.frombuffer(data, dtype=np.float16) for _, data in wanted]).reshape(-1, *shape)
            with self.transaction() as connection:
                insert_maps(connection, encoder, [sighting for sighting, _ in wanted], quantise_maps(maps))
                connection.executemany("DELETE FROM maps WHERE rowid = ?", [row[:1] for row in rows])
        with self.transaction() as connection:
            connection.execute("DROP TABLE maps")

    def room(self) -> int:
        """Return how many bytes there are for further sightings: free ones of the disk, and pages of deleted ones."""
        ((pages,),) = self.query("PRAGMA freelist_count")
        return self._reserve.free_bytes() + int(pages) * PAGE_BYTES

    def is_nearly_full(self) -> bool:
        """Return whether the disk has so little room that a transaction must be small."""
        return self._reserve.free_bytes() < SCARCE_BYTES

    def last_time(self) -> float | None:
        """Return the last time that is known, in seconds since 1970; None where nothing was stored."""
        statement = "SELECT coalesce((SELECT time_s FROM clock), (SELECT max(enrolled_s) FROM sightings))"
        ((time_s,),) = self.query(statement)
        return time_s if time_s is None else float(time_s)

    def keep_time(self, time_s: float) -> None:
        """Store the last time that is known, in seconds since 1970."""
        with self.transaction() as connection:
            connection.execute("INSERT OR REPLACE INTO clock VALUES (1, ?)", (time_s,))

    def find(self, sighting: int) -> Sighting | None:
        """Return a sighting; None where there is none of that id."""
        rows = self.query(f"SELECT {COLUMNS} FROM sightings WHERE id = ?", sighting)
        return Sighting(*rows[0]) if rows else None

    def find_equal(self, sighting: Sighting, crop: bytes) -> int | None:
        """Return the id of a stored sighting that is equal in all but id and time of enrolment; None if there is none.

        A camera is compared by its name where it has one.
        """
        rows = self.query(
            "SELECT id FROM sightings WHERE target = ? AND digest = ? AND camera IS ? "
            "AND (camera NOTNULL OR camid = ?) AND time_s IS ? AND person IS ? AND track IS ? ORDER BY id LIMIT 1",
            sighting.target, digest(crop), sighting.camera,
            sighting.camid, sighting.time_s, sighting.person, sighting.track,
        )  # fmt: skip
        return int(rows[0][0]) if rows else None

    def cameras(self, target: str) -> list[int | str]:
        """Return the cameras of a target's sightings, by name where they have one."""
        statement = "SELECT DISTINCT coalesce(camera, camid) FROM sightings WHERE target = ?"
        return [camera for (camera,) in self.query(statement, target)]

    def ids(self, target: str) -> list[int]:
        """Return the ids of a target's sightings."""
        return [sighting for (sighting,) in self.read("SELECT id FROM sightings WHERE target = ?", target)]

    def ids_of_person(self, target: str, person: str) -> list[int]:
        """Return the ids of a person's sightings."""
        rows = self.query("SELECT id FROM sightings WHERE target = ? AND person = ?", target, person)
        return [sighting for (sighting,) in rows]

    def ids_before(self, target: str, enrolled_s: float) -> list[int]:
        """Return the ids of sightings enrolled before a time, in seconds since 1970."""
        rows = self.query("SELECT id FROM sightings WHERE target = ? AND enrolled_s < ?", target, enrolled_s)
        return [sighting for (sighting,) in rows]

    def page(self, target: str, after: int, limit: int) -> list[Sighting]:
        """Return up to `limit` sightings with ids above `after`, in the order of enrolment."""
        rows = self.query(
            f"SELECT {COLUMNS} FROM sightings WHERE target = ? AND id > ? ORDER BY id LIMIT ?",
            target, after, limit,
        )  # fmt: skip
        return [Sighting(*row) for row in rows]

    def crop(self, sighting: int) -> bytes | None:
        """Return the image file as it was enrolled."""
        rows = self.query("SELECT crop FROM sightings WHERE id = ?", sighting)
        return rows[0][0] if rows else None

    def map_of(self, sighting: int, encoder: str, shape: tuple[int, int, int]) -> NDArray[np.float32] | None:
        """Return one sighting's map [C, h, w]."""
        ids, maps = self.maps_of([sighting], encoder, shape)
        return dequantise(maps, threads=1)[0].T.reshape(shape) if ids else None

    def maps_of(self, ids: Sequence[int], encoder: str, shape: tuple[int, int, int]) -> tuple[list[int], Codes]:
        """Return the ids, in order, of those sightings that have a map of this encoder, and their maps [n, S, C]."""
        bases = self.query(f"SELECT {BASE}", encoder)
        rows = []
        if (base := bases[0][0]) is not None:
            rows = self.read(MAPS.format(",".join(str(base + int(sighting)) for sighting in ids)))
        return [sighting for sighting, _ in rows], unpack_maps([data for _, data in rows], shape)

    def missing_maps(self, encoder: str, after: int, limit: int) -> list[tuple[Sighting, bytes]]:
        """Return up to `limit` sightings without a map of this encoder, of ids above `after`, in order, and crops."""
        statement = f"SELECT {COLUMNS}, crop FROM sightings WHERE id > ? AND NOT {HAS_MAP} ORDER BY id LIMIT ?"
        return [(Sighting(*row), crop) for *row, crop in self.query(statement, after, encoder, limit)]

    def count(self) -> int:
        """Count all sightings."""
        return int(self.query("SELECT count(*) FROM sightings")[0][0])

    def count_maps(self, encoder: str, targets: Sequence[str]) -> int:
        """Count the sightings of some targets that have a map of this encoder."""
        places = ",".join("?" * len(targets))
        statement = f"SELECT count(*) FROM sightings WHERE {HAS_MAP} AND target IN ({places})"
        return int(self.query(statement, encoder, *targets)[0][0])

    def with_maps(self, encoder: str, after: int, until: int) -> Iterator[list[Sighting]]:
        """Yield sightings that have a map of this encoder, in blocks, in the order of enrolment.

        Args:
            encoder: its digest.
            after: smallest id, which is left out.
            until: largest id.
        """
        statement = f"SELECT {COLUMNS} FROM sightings WHERE id > ? AND id <= ? AND {HAS_MAP} ORDER BY id LIMIT ?"
        while rows := self.read(statement, after, until, encoder, READ):
            after = rows[-1][0]
            yield [Sighting(*row) for row in rows]

    def query(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Return the rows of a statement that changes nothing."""
        with self._lock, translated_errors():
            return self._connection.execute(statement, values).fetchall()

    def read(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Return the rows of a statement that changes nothing, while others read.

        Raises:
            Busy: another program keeps the file locked.
        """
        reader = self._readers.get()
        try:
            with translated_errors():
                return reader.execute(statement, values).fetchall()
        finally:
            self._readers.put(reader)

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Change the file within a block: it is on disk when the block ends, and nothing is changed if it fails."""
        with self._lock, self._writing, translated_errors():  # another worker must not take the reserve meanwhile
            self._limit_growth()
            with self._reserve.free(), self._connection as connection:  # commits; rolls back after any error
                connection.execute("BEGIN IMMEDIATE")
                yield connection

    def close(self) -> None:
        """Close the file, and let other processes use the folder."""
        with self._lock:
            self._connection.close()
            while not self._readers.empty():
                self._readers.get().close()
            for lock in self._locks.values():
                lock.close()
            if self._folder_lock is not None:
                self._folder_lock.close()

    def _limit_growth(self) -> None:
        """Let the file grow by the free bytes alone, so that it takes nothing of the reserve."""
        ((pages,),) = self._connection.execute("PRAGMA page_count").fetchall()
        self._connection.execute(f"PRAGMA max_page_count = {pages + self._reserve.free_bytes() // PAGE_BYTES}")
