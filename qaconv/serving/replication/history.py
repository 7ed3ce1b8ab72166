"""Know a gallery again, and tell how far a copy of it is.

A gallery has a random id, so that a wrong leader can be told from one that went back in time. Each start of its service
has a random id too, and is listed with the largest id of a sighting and the number of the last deletion at that moment.
A copy names the start that it was made under, and its own two numbers. It continues the gallery if that start is
listed, and if the copy is not ahead of where the next one began: a gallery that was restored from a backup does not
list the start, or lists a next one that began earlier than the copy is.
"""

import sqlite3
from typing import NamedTuple

from qaconv.serving.database import ENDS
from qaconv.serving.storage import Records


class Position(NamedTuple):
    """How far a copy is.

    Attributes:
        gallery: id of the gallery.
        start: of the gallery's service that it was read from.
        sighting: id up to which the copy has all sightings.
        deletion: number up to which the copy has all deletions.
    """

    gallery: str
    start: str
    sighting: int
    deletion: int


def own_folder(records: Records) -> None:
    """Make a folder that was a copy a gallery of its own, which other copies of its leader do not continue."""
    if find_position(records) is not None:
        with records.transaction() as connection:
            connection.execute("DELETE FROM copy")
            connection.execute("UPDATE gallery SET id = hex(randomblob(16))")


def find_end(records: Records) -> Position:
    """Return the position of a copy that has everything."""
    statement = (
        f"SELECT id, (SELECT start FROM starts ORDER BY number DESC LIMIT 1), ends.* FROM gallery, ({ENDS}) AS ends"
    )
    ((gallery, start, sighting, deletion),) = records.read(statement)
    return Position(gallery, start, sighting, deletion)


def is_continued(records: Records, copy: Position) -> bool:
    """Return whether the gallery of this folder is what a copy was made of, with more changes or none."""
    end = find_end(records)
    rows = records.read("SELECT number FROM starts WHERE start = ?", copy.start)
    if not rows:
        return False
    later = records.read(
        "SELECT sighting, deletion FROM starts WHERE number > ? ORDER BY number LIMIT 1", rows[0][0]
    ) or [(end.sighting, end.deletion)]
    sighting, deletion = later[0]
    return bool(copy.sighting <= sighting and copy.deletion <= deletion)


def find_position(records: Records) -> Position | None:
    """Return how far the copy in this folder is; None if it is none yet."""
    rows = records.read("SELECT gallery, start, sighting, deletion FROM copy")
    return Position(*rows[0]) if rows else None


def is_own_gallery(records: Records) -> bool:
    """Return whether the folder holds sightings that were enrolled in it."""
    return find_position(records) is None and records.count() > 0


def keep_position(connection: sqlite3.Connection, position: Position) -> None:
    """Store how far a copy is, within the transaction of its changes."""
    connection.execute("INSERT OR REPLACE INTO copy VALUES (1, ?, ?, ?, ?)", position)
