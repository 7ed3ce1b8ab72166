"""Store a leader's changes in a follower's own galleries, under the leader's ids."""

import logging
from collections.abc import Callable, Sequence

from qaconv.serving.database import digest
from qaconv.serving.replication.history import Position, find_position, keep_position
from qaconv.serving.replication.messages import Changes, CopiedSighting, Ids
from qaconv.serving.service import Service
from qaconv.serving.storage import COLUMNS, DELETED, Records, Sighting
from qaconv.serving.stored_maps import insert_packed_maps

log = logging.getLogger(__name__)

INSERT = f"INSERT INTO sightings ({COLUMNS}, crop, digest) VALUES (?,?,?,?,?,?,?,?,?,?)"
EMPTIED = 256  # sightings deleted in a transaction of a copy that begins again, where the disk has room


def apply_changes(service: Service, changes: Changes, list_ids: Callable[[int], Ids]) -> None:
    """Store changes, so that they can be found and what was deleted cannot.

    After a kill the same changes can be stored again: a deletion of what is deleted is none, and new sightings are on
    disk together with the position after them.

    Args:
        service: the follower's.
        changes: what it lacks.
        list_ids: returns ids of the leader's sightings above an id.

    Raises:
        Full: memory has no room for them.
        DiskFull: the disk has none.
    """
    if changes.deleted is None:
        _delete_others(service, list_ids)
    elif changes.deleted:
        service.delete(service.records.existing(changes.deleted))
    position = Position(changes.gallery, changes.start, changes.sighting, changes.deletion)
    if position == find_position(service.records):
        return
    with service.changing:
        active = service.active
        added = [row for row in changes.sightings if row.target in active.galleries]
        active.check_room(len(added))
        maps = {row.id: row.map for row in changes.sightings if row.map is not None}
        # While the leader answers with another version, crops are encoded here for the present one.
        others = [row for row in changes.sightings if changes.encoder != active.model.encoder_digest or row.map is None]
        encoded = service.encode_each([Sighting(*row[:-2]) for row in others], [row.crop for row in others])
        own = {row.id: packed for row, packed in zip(others, encoded, strict=True) if packed is not None}
        with service.records.transaction() as connection:
            connection.executemany(INSERT, [_values(row) for row in changes.sightings])
            insert_packed_maps(connection, changes.encoder, maps)
            insert_packed_maps(connection, active.model.encoder_digest, own)
            keep_position(connection, position)
        active.changes.catch_up()


def fill_maps(records: Records, encoder: str, maps_after: Callable[[int], Sequence[tuple[int, bytes]]]) -> None:
    """Store an encoder's maps of the copied sightings, those that are missing; after a kill the rest.

    Args:
        records: the copy.
        encoder: its digest.
        maps_after: returns the leader's maps of sightings above an id, in order; none at the end.
    """
    missing = records.missing_maps(encoder, 0, 1)
    while missing:
        maps = maps_after(missing[0][0].id - 1)
        if not maps:
            return
        with records.transaction() as connection:
            insert_packed_maps(connection, encoder, dict(maps))
        missing = records.missing_maps(encoder, maps[-1][0], 1)


def empty_copy(records: Records) -> None:
    """Delete all sightings of a copy, overwritten, so that it can begin again."""
    log.warning("the copy begins again: the leader's gallery was restored from a backup")
    while rows := records.query("SELECT id FROM sightings LIMIT ?", DELETED if records.is_nearly_full() else EMPTIED):
        records.delete([sighting for (sighting,) in rows])
    with records.transaction() as connection:
        connection.execute("DELETE FROM copy")


def _delete_others(service: Service, list_ids: Callable[[int], Ids]) -> None:
    """Delete all sightings that the leader has no more."""
    after = 0
    while True:
        page = list_ids(after)
        until = page.ids[-1] if page.ids else None
        condition = "id > ?" if until is None else f"id > ? AND id <= {until}"
        stored = {
            sighting for (sighting,) in service.records.read(f"SELECT id FROM sightings WHERE {condition}", after)
        }
        if gone := sorted(stored - set(page.ids)):
            service.delete(gone)
        if until is None:
            return
        after = until


def _values(row: CopiedSighting) -> tuple[object, ...]:
    return (*row[:-1], digest(row.crop))
