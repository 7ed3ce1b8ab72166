"""Galleries on disk."""

import sqlite3
from pathlib import Path

import numpy as np
import pytest

from qaconv.serving.messages import NewSighting
from qaconv.serving.storage import Records

ROW = ("mall", 3, 12.5, "p1", 1000.0, b"crop")
MAPS = np.ones((1, 2, 3, 2), np.float16)


def test_a_file_with_the_old_column_name_is_opened_with_its_sightings(tmp_path: Path) -> None:
    records = Records(tmp_path)
    records.add([ROW], "encoder", MAPS)
    records.close()
    with sqlite3.connect(tmp_path / "galleries.db") as connection:
        connection.execute("ALTER TABLE sightings RENAME COLUMN target TO deployment")
    (sighting,) = Records(tmp_path).page("mall", after=0, limit=10)
    assert (sighting.target, sighting.camid, sighting.person) == ("mall", 3, "p1")


def test_a_transaction_that_fails_when_it_is_committed_leaves_nothing_and_stops_no_later_one(tmp_path: Path) -> None:
    records = Records(tmp_path)
    records._connection.execute("CREATE TABLE faults (id REFERENCES sightings DEFERRABLE INITIALLY DEFERRED)")
    with pytest.raises(sqlite3.IntegrityError), records._transaction() as connection:
        connection.execute("INSERT INTO faults VALUES (7)")  # refused by the commit
    assert records.add([ROW], "encoder", MAPS) == [1] and records.count() == 1


def test_a_file_without_digests_is_opened_and_finds_its_sightings_by_content(tmp_path: Path) -> None:
    records = Records(tmp_path)
    (stored,) = records.add([ROW], "encoder", MAPS)
    records.close()
    with sqlite3.connect(tmp_path / "galleries.db") as connection:
        connection.executescript("DROP INDEX by_content; ALTER TABLE sightings DROP COLUMN digest")
    assert Records(tmp_path).find_equal("mall", NewSighting(b"crop", 3, 12.5, "p1")) == stored
