"""What the leader of several machines hands out: its sightings, its deletions and its version."""

from functools import lru_cache
from hashlib import sha256
from pathlib import Path

from qaconv.serving.places import NotFound
from qaconv.serving.replication.history import Position, find_end, find_position, is_continued
from qaconv.serving.replication.messages import (
    LARGEST_PART,
    MOST_IDS,
    MOST_ROWS,
    Changes,
    CopiedSighting,
    Ids,
    Maps,
    ServedFile,
    Version,
)
from qaconv.serving.service import Service
from qaconv.serving.storage import COLUMNS
from qaconv.serving.stored_maps import BASE
from qaconv.serving.versions import VERSIONS, Versions

AT_ONCE = 8  # rows that are read before their bytes are counted
ROWS = (
    f"SELECT {COLUMNS}, crop, (SELECT map FROM codes WHERE key = id + {BASE}) FROM sightings "
    "WHERE id > ? ORDER BY id LIMIT ?"
)


class NoLeader(RuntimeError):
    """A follower is asked for what only a leader has."""


class Diverged(RuntimeError):
    """A copy does not continue: it is of another gallery, or the gallery went back in time."""


class Leader:
    """Read what followers ask for. Safe to use from any thread.

    Args:
        service: the leader's.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._records = service.records

    @property
    def _versions(self) -> Versions:
        return Versions(self._records.folder / VERSIONS)

    def is_at_end(self, copy: Position) -> bool:
        """Return whether a copy lacks nothing and is of the version that answers.

        Raises:
            Diverged: it does not continue.
        """
        self._check(copy)
        end = find_end(self._records)
        # The largest id may have been deleted, before or after the copy has read it.
        last, _ = self._records.last_change()
        return copy.start == end.start and copy.sighting >= last and copy.deletion == end.deletion

    def changes(self, copy: Position | None) -> Changes:
        """Return what a copy lacks; of an empty one, everything.

        Raises:
            Diverged: the copy does not continue.
        """
        if copy is not None:
            self._check(copy)
        encoder = self._service.active.model.encoder_digest
        end = find_end(self._records)
        after, deletion = (copy.sighting, copy.deletion) if copy else (0, end.deletion)
        # Deletions are read first: a sighting that is deleted after that is among the next ones.
        listed = self._records.deletions(deletion)
        is_listed = not listed or listed[0][0] == deletion + 1
        rows, are_all = self._rows(encoder, after)
        return Changes(
            gallery=end.gallery,
            start=end.start,
            sighting=rows[-1].id if rows else after,
            deletion=listed[-1][0] if listed else deletion,
            deleted=tuple(sighting for _, sighting, _ in listed) if is_listed else None,
            sightings=rows,
            encoder=encoder,
            last=end.sighting,
            is_all=are_all,
            version=self._versions.active[1],
            site=self._versions.site,
        )

    def ids(self, after: int) -> Ids:
        """Return the ids of sightings above an id, the first MOST_IDS."""
        rows = self._records.read("SELECT id FROM sightings WHERE id > ? ORDER BY id LIMIT ?", after, MOST_IDS)
        return Ids(ids=tuple(sighting for (sighting,) in rows))

    def maps(self, encoder: str, after: int) -> Maps:
        """Return maps of sightings above an id, the first of them.

        Raises:
            NotFound: another encoder's maps are stored.
        """
        if encoder != self._service.active.model.encoder_digest:
            raise NotFound("the leader answers with another encoder")
        maps: list[tuple[int, bytes]] = []
        statement = f"SELECT sighting, map FROM codes WHERE key > {BASE} + ? AND key < {BASE} + (1 << 40) LIMIT ?"
        for row in self._records.read(statement, encoder, after, encoder, MOST_ROWS):
            maps.append(row)
            if sum(len(data) for _, data in maps) > LARGEST_PART:
                break
        return Maps(maps=tuple(maps))

    def version(self) -> Version:
        """Return the version that answers, with a list of its files."""
        version, name = self._versions.active
        folder = self._versions.folder / name
        paths = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
        files = (ServedFile(path.relative_to(folder).as_posix(), *_describe(path)) for path in paths)
        return Version(version=version, folder=name, site=self._versions.site, files=tuple(files))

    def read_file(self, folder: str, path: str, offset: int) -> bytes:
        """Return a part of a file of the version that answers.

        Raises:
            NotFound: that version has no such file.
        """
        version = self.version()
        if folder != version.folder or path not in {file.path for file in version.files}:
            raise NotFound("the version that answers has no such file")
        with (self._versions.folder / folder / path).open("rb") as file:
            file.seek(offset)
            return file.read(LARGEST_PART)

    def _check(self, copy: Position) -> None:
        if not is_continued(self._records, copy):
            raise Diverged("the copy is of another gallery, or this gallery was restored from a backup")

    def _rows(self, encoder: str, after: int) -> tuple[tuple[CopiedSighting, ...], bool]:
        """Return some sightings above an id, and whether these are all."""
        rows: list[CopiedSighting] = []
        size = 0
        while size < LARGEST_PART and len(rows) < MOST_ROWS:
            some = self._records.read(ROWS, encoder, rows[-1].id if rows else after, AT_ONCE)
            rows += [CopiedSighting(*row) for row in some]
            size += sum(len(row[-2]) + len(row[-1] or b"") for row in some)
            if len(some) < AT_ONCE:
                return tuple(rows), True
        return tuple(rows), False


def check_is_leader(service: Service) -> None:
    """Check that a service may have followers.

    Raises:
        NoLeader: it is a follower.
    """
    if find_position(service.records) is not None:
        raise NoLeader("this is a follower; follow its leader")


@lru_cache(maxsize=256)
def _digest(path: Path, _: tuple[int, int]) -> tuple[int, str]:
    data = path.read_bytes()
    return len(data), sha256(data).hexdigest()


def _describe(path: Path) -> tuple[int, str]:
    """Return the size and SHA-256 of a file, which is read again when it changes."""
    status = path.stat()
    return _digest(path, (status.st_mtime_ns, status.st_size))
