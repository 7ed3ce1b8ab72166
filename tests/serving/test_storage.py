"""Galleries on disk."""

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from qaconv.errors import InputError
from qaconv.runtime.quantise import Codes
from qaconv.serving.database import Busy, DiskFull
from qaconv.serving.storage import DELETED, Records, Row, Sighting

ROW: Row = ("mall", 3, 12.5, "p1", 1000.0, None, None, b"crop")
CROP = b"a crop of one person"
SHAPE = 2, 3, 2  # of a map


def maps(count: int = 1, code: int = 1) -> Codes:
    return Codes(np.full((count, 6, 2), code, np.int8), np.ones((count, 6), np.float16))


def test_a_file_with_the_old_column_name_is_opened_with_its_sightings(tmp_path: Path) -> None:
    records = Records(tmp_path)
    records.add([ROW], "encoder", maps())
    records.close()
    with sqlite3.connect(tmp_path / "galleries.db") as connection:
        connection.execute("ALTER TABLE sightings RENAME COLUMN target TO deployment")
    (sighting,) = Records(tmp_path).page("mall", after=0, limit=10)
    assert (sighting.target, sighting.camid, sighting.person) == ("mall", 3, "p1")


def test_a_transaction_that_fails_when_it_is_committed_leaves_nothing_and_stops_no_later_one(tmp_path: Path) -> None:
    records = Records(tmp_path)
    records._connection.execute("CREATE TABLE faults (id REFERENCES sightings DEFERRABLE INITIALLY DEFERRED)")
    with pytest.raises(sqlite3.IntegrityError), records.transaction() as connection:
        connection.execute("INSERT INTO faults VALUES (7)")  # refused by the commit
    assert records.add([ROW], "encoder", maps()) == [1] and records.count() == 1


def test_a_file_without_digests_is_opened_and_finds_its_sightings_by_content(tmp_path: Path) -> None:
    records = Records(tmp_path)
    (stored,) = records.add([ROW], "encoder", maps())
    records.close()
    with sqlite3.connect(tmp_path / "galleries.db") as connection:
        connection.executescript("DROP INDEX by_content; ALTER TABLE sightings DROP COLUMN digest")
    assert Records(tmp_path).find_equal(Sighting(0, "mall", 3, 12.5, "p1", 0.0), b"crop") == stored


def test_a_file_without_names_of_cameras_and_tracks_is_opened_and_keeps_its_sightings(tmp_path: Path) -> None:
    records = Records(tmp_path)
    (stored,) = records.add([ROW], "encoder", maps())
    records.close()
    with sqlite3.connect(tmp_path / "galleries.db") as connection:
        for name in ("camera", "track"):
            connection.execute(f"ALTER TABLE sightings DROP COLUMN {name}")
    records = Records(tmp_path)
    assert records.find(stored) == Sighting(stored, "mall", 3, 12.5, "p1", 1000.0, None, None)
    named: Row = ("mall", 0, None, None, 1000.0, "roof", "t", b"other")
    assert records.find(records.add([named], "encoder", maps())[0]) == Sighting(2, *named[:-1])
    assert records.cameras("mall") == [3, "roof"]


def test_maps_in_float16_of_earlier_releases_are_converted_and_overwritten(tmp_path: Path) -> None:
    records = Records(tmp_path)
    ids = records.add([row(b"%d" % number) for number in range(DELETED + 3)], "new", maps(DELETED + 3))
    old = np.random.default_rng(0).standard_normal((len(ids), *SHAPE)).astype(np.float16)
    with records.transaction() as connection:
        connection.execute("DELETE FROM codes")
        connection.execute(
            "CREATE TABLE maps (sighting INTEGER NOT NULL REFERENCES sightings ON DELETE CASCADE, "
            "encoder TEXT NOT NULL, map BLOB NOT NULL, PRIMARY KEY (encoder, sighting))"
        )
        for encoder in ("new", "other"):
            rows = [(sighting, encoder, values.tobytes()) for sighting, values in zip(ids, old, strict=True)]
            connection.executemany("INSERT INTO maps VALUES (?,?,?)", rows)
    records.convert_old_maps("new", SHAPE)
    for sighting, values in zip(ids, old.astype(np.float32), strict=True):
        converted = records.map_of(sighting, "new", SHAPE)
        assert converted is not None
        np.testing.assert_allclose(converted, values, atol=0.05)
    assert records.count_maps("other", ["mall"]) == 0 and old[0].tobytes() not in bytes_of(tmp_path)
    records.convert_old_maps("new", SHAPE)


def bytes_of(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.glob("galleries.db*"))


def row(crop: bytes, person: str | None = None) -> Row:
    return ("mall", 0, None, person, 1000.0, None, None, crop)


def test_a_deletion_while_another_program_reads_fails_and_changes_nothing_or_leaves_nothing(tmp_path: Path) -> None:
    records = Records(tmp_path)
    records._connection.execute("PRAGMA busy_timeout = 10")
    ids = records.add([row(CROP), row(b"another crop")], "encoder", maps(2))
    with closing(sqlite3.connect(tmp_path / "galleries.db", isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM sightings").fetchone()
        with pytest.raises(Busy, match="another program keeps the galleries locked; nothing was stored or deleted"):
            records.delete(ids[:1])
        assert records.count() == 2
        reader.execute("COMMIT")  # the file stays open
        records.delete(ids[:1])
        assert CROP not in bytes_of(tmp_path) and b"another crop" in bytes_of(tmp_path)


def test_deleted_bytes_in_the_journal_of_a_killed_process_are_gone_after_the_next_start(tmp_path: Path) -> None:
    """The process has the journal of releases up to 0.1.0, which kept deleted bytes until it was emptied."""
    program = f"""
import os, signal, sqlite3
from pathlib import Path
import numpy as np
from qaconv.runtime.quantise import Codes
from qaconv.serving.storage import Records
records = Records(Path({str(tmp_path)!r}))
records._connection.execute("PRAGMA journal_mode = WAL")
maps = Codes(np.ones((2, 6, 2), np.int8), np.ones((2, 6), np.float16))
rows = [("mall", 0, None, "ada", 1.0, None, None, crop) for crop in ({CROP!r}, b"another crop")]
ids = records.add(rows, "encoder", maps)
records.delete(ids[:1])
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == -signal.SIGKILL
    assert CROP in bytes_of(tmp_path)
    assert Records(tmp_path).count() == 1
    assert CROP not in bytes_of(tmp_path) and b"another crop" in bytes_of(tmp_path)


def test_a_second_process_is_refused_by_the_first_ones_number_and_let_in_when_it_ends(tmp_path: Path) -> None:
    first = Records(tmp_path)
    with pytest.raises(
        InputError, match=f"{tmp_path}: must be used by one service at a time, got process {os.getpid()}"
    ):
        Records(tmp_path)
    first.close()
    Records(tmp_path)


def test_new_and_existing_files_can_be_read_by_their_owner_alone(tmp_path: Path) -> None:
    def modes() -> set[int]:
        return {path.stat().st_mode & 0o777 for path in state.iterdir()}

    state = tmp_path / "state"
    Records(state).close()
    assert state.stat().st_mode & 0o777 == 0o700 and modes() == {0o600}
    state.chmod(0o755)
    for path in state.iterdir():
        path.chmod(0o644)
    records = Records(state)
    records.add([row(CROP)], "encoder", maps())
    assert state.stat().st_mode & 0o777 == 0o700 and modes() == {0o600}


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "galleries.db").write_bytes(b"text" * 100)
    with pytest.raises(InputError, match="galleries.db: cannot be opened: file is not a database"):
        Records(tmp_path)


def test_the_maps_of_other_encoders_are_forgotten_and_overwritten(tmp_path: Path) -> None:
    records = Records(tmp_path)
    count = DELETED + 1
    ids = records.add([row(b"%d" % number) for number in range(count)], "m", maps(count))
    for encoder, code in (("a", 77), ("z", 99)):
        records.add_maps(ids, encoder, maps(count, code))
    old = [np.full(12, code, np.int8).tobytes() for code in (77, 99)]
    assert all(values in bytes_of(tmp_path) for values in old)
    records.forget_other_encoders("m")
    assert not any(values in bytes_of(tmp_path) for values in old)
    assert records.count_maps("m", ["mall"]) == count


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 48 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("a small disk can be mounted by root alone")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(records: Records) -> list[int]:
    """Add crops of 300 kB, three at a time, until there is no room."""
    ids: list[int] = []
    with pytest.raises(DiskFull, match="the disk is full; nothing was stored or deleted, searches go on"):
        while True:
            ids += records.add([row(bytes([len(ids) % 256]) * 300_000)] * 3, "encoder", maps(3))
    return ids


def test_a_full_disk_refuses_sightings_and_deletes_them_and_then_has_room_again(small_disk: Path) -> None:
    state = small_disk / "state"
    records = Records(state)
    ids = fill(records)
    (small_disk / "of another program").write_bytes(bytes(records._reserve.free_bytes()))
    assert records._reserve.free_bytes() == 0 and records.count() == len(ids)
    assert records.room() < 2**20
    for start in range(0, 12, 4):
        records.delete(ids[start : start + 4])
    assert records.count() == len(ids) - 12 and records.room() > 3 * 2**20
    assert not any(bytes([number]) * 1000 in bytes_of(state) for number in range(3, 12, 3))
    more = records.add([row(b"after" * 1000)], "encoder", maps())
    records.close()
    records = Records(state)
    assert records.find(more[0]) and len(fill(records)) >= 6
    assert records._reserve._path.stat().st_size == 32 * 2**20
