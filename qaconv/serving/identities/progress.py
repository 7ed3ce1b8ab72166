"""How far the updates of targets' identities are, for all workers of a service."""

import logging
from dataclasses import dataclass
from typing import Literal

from qaconv.serving.database import Busy, DiskFull
from qaconv.serving.storage import Records

log = logging.getLogger(__name__)
UpdateState = Literal["idle", "waiting", "searching", "clustering"]

TABLE = """CREATE TABLE IF NOT EXISTS identity_updates (
    target TEXT PRIMARY KEY, state TEXT NOT NULL, searched INTEGER NOT NULL, to_search INTEGER NOT NULL, fault TEXT
)"""


@dataclass(frozen=True)
class Progress:
    """How far a target's update is.

    Attributes:
        state: what it does.
        searched: sightings that it has searched for.
        to_search: sightings that it searches for.
        fault: why the last update failed; None where it did not.
    """

    state: UpdateState = "idle"
    searched: int = 0
    to_search: int = 0
    fault: str | None = None


class ProgressStore:
    """The progress of each target. The worker that updates has it in memory, and stores it for others to read.

    Args:
        records: where it is stored, if several workers share them.
    """

    def __init__(self, records: Records) -> None:
        self._records = records
        self._known: dict[str, Progress] = {}
        with records.transaction() as connection:
            connection.execute(TABLE)

    def get(self, target: str) -> Progress:
        """Return the progress of an update of this worker."""
        return self._known.get(target, Progress())

    def set(self, target: str, progress: Progress) -> None:
        """Keep the progress of an update of this worker. An update does not fail because others cannot read it."""
        self._known[target] = progress
        if self._records.is_shared:
            try:
                self._store(target, progress)
            except (Busy, DiskFull) as error:
                log.warning("%s: the progress of its identities is not stored: %s", target, error)

    def read(self, target: str) -> Progress:
        """Return the progress of an update of any worker."""
        if not self._records.is_shared:
            return self.get(target)
        statement = "SELECT state, searched, to_search, fault FROM identity_updates WHERE target = ?"
        rows = self._records.read(statement, target)
        return Progress(*rows[0]) if rows else Progress()

    def ask(self, target: str) -> None:
        """Ask the worker that updates for an update, unless it is to come or under way."""
        if self.read(target).state == "idle":
            self._store(target, Progress("waiting"))

    def asked(self) -> list[str]:
        """Return the targets of updates that wait or are under way, also in a worker that was killed."""
        return [target for (target,) in self._records.read("SELECT target FROM identity_updates WHERE state <> 'idle'")]

    def _store(self, target: str, progress: Progress) -> None:
        row = target, progress.state, progress.searched, progress.to_search, progress.fault
        with self._records.transaction() as connection:
            connection.execute("INSERT OR REPLACE INTO identity_updates VALUES (?,?,?,?,?)", row)
