"""Open `galleries.db`: its tables, how it is written, and its errors."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

from qaconv.serving.stored_maps import TABLES

KEPT = 1024  # deletions that are listed; they fit a page, so that a full disk does not stop a deletion. Also starts
# The largest id that was ever given, and the number of the last deletion.
ENDS = (
    "SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'sightings'), 0), "
    "coalesce((SELECT max(number) FROM deletions), 0)"
)
LIST_DELETIONS = f"""
CREATE TRIGGER IF NOT EXISTS list_deletion AFTER DELETE ON sightings BEGIN
    INSERT INTO deletions (sighting, target) VALUES (OLD.id, OLD.target);
    DELETE FROM deletions WHERE number <= (SELECT max(number) FROM deletions) - {KEPT};
END;
"""
# The gallery's id, the starts of its service, and how far it is if it is a copy (replication/history.py).
HISTORY = f"""
CREATE TABLE IF NOT EXISTS gallery (one INTEGER PRIMARY KEY CHECK (one = 1), id TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS starts (
    number INTEGER PRIMARY KEY, start TEXT NOT NULL UNIQUE, sighting INTEGER NOT NULL, deletion INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS copy (
    one INTEGER PRIMARY KEY CHECK (one = 1), gallery TEXT NOT NULL, start TEXT NOT NULL, sighting INTEGER NOT NULL,
    deletion INTEGER NOT NULL
);
INSERT OR IGNORE INTO gallery SELECT 1, hex(randomblob(16));
INSERT INTO starts (start, sighting, deletion) SELECT hex(randomblob(16)), * FROM ({ENDS});
DELETE FROM starts WHERE number <= (SELECT max(number) FROM starts) - {KEPT};
"""
SCHEMA = (
    """
CREATE TABLE IF NOT EXISTS sightings (
    id INTEGER PRIMARY KEY AUTOINCREMENT, target TEXT NOT NULL, camid INTEGER NOT NULL, time_s REAL, person TEXT,
    enrolled_s REAL NOT NULL, crop BLOB NOT NULL, digest BLOB, camera TEXT, track TEXT
);
CREATE INDEX IF NOT EXISTS by_person ON sightings (target, person);
CREATE INDEX IF NOT EXISTS by_content ON sightings (target, digest);
CREATE INDEX IF NOT EXISTS by_age ON sightings (target, enrolled_s);
CREATE TABLE IF NOT EXISTS clock (one INTEGER PRIMARY KEY CHECK (one = 1), time_s REAL NOT NULL);
CREATE TABLE IF NOT EXISTS deletions (number INTEGER PRIMARY KEY, sighting INTEGER NOT NULL, target TEXT NOT NULL);
"""
    + LIST_DELETIONS
    # Measured by recall.py, with the settings of this start.
    + "DROP TABLE IF EXISTS recalls;"
    + "CREATE TABLE recalls (number INTEGER PRIMARY KEY, target TEXT NOT NULL, recall REAL NOT NULL);"
    + TABLES
    + HISTORY
)
PAGE_BYTES = 65536  # several rows fit a page, and a third less is written than with a smaller page for each map
PRAGMAS = (
    f"page_size = {PAGE_BYTES}",  # has no effect on a file that exists
    "journal_mode = TRUNCATE",
    "synchronous = FULL",
    "foreign_keys = ON",
    "secure_delete = ON",
    "temp_store = MEMORY",  # else rows could be written to /tmp
)


class DiskFull(RuntimeError):
    """The disk has no room for a change; nothing of it was stored."""


class Busy(RuntimeError):
    """Another program keeps the file locked; nothing was changed."""


def open_reader(path: Path) -> sqlite3.Connection:
    """Connect for reading alone. The first reader undoes what a killed worker left, so the file is not read-only."""
    connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
    connection.execute("PRAGMA journal_mode = TRUNCATE")
    connection.execute("PRAGMA secure_delete = ON")
    connection.execute("PRAGMA query_only = ON")
    return connection


def set_up(connection: sqlite3.Connection, *, is_shared: bool) -> None:
    """Prepare a connection for changes, and the file, unless the parent of a worker has done that."""
    for pragma in PRAGMAS:
        connection.execute(f"PRAGMA {pragma}")
    if not is_shared:
        _update_old_columns(connection)
        connection.executescript(SCHEMA)


@contextmanager
def translated_errors() -> Iterator[None]:
    """Raise DiskFull and Busy in place of SQLite's errors."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_FULL:
            raise DiskFull("the disk is full; nothing was stored or deleted, searches go on") from error
        if error.sqlite_errorcode == sqlite3.SQLITE_BUSY:
            raise Busy("another program keeps the galleries locked; nothing was stored or deleted") from error
        raise


def digest(crop: bytes) -> bytes:
    return sha256(crop).digest()


def _update_old_columns(connection: sqlite3.Connection) -> None:
    """Rename the column `deployment` of files from before 0.1.0, and add the columns that came after it."""
    columns = [name for _, name, *_ in connection.execute("PRAGMA table_info(sightings)")]
    if "deployment" in columns:
        connection.execute("ALTER TABLE sightings RENAME COLUMN deployment TO target")
    if columns and "digest" not in columns:
        connection.create_function("sha256", 1, digest, deterministic=True)
        with connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ALTER TABLE sightings ADD COLUMN digest BLOB")
            connection.execute("UPDATE sightings SET digest = sha256(crop)")
    for name in ("camera", "track"):
        if columns and name not in columns:
            connection.execute(f"ALTER TABLE sightings ADD COLUMN {name} TEXT")
