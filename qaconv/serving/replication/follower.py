"""Follow a leader: keep a whole copy of its galleries, and know how old the copy is."""

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from qaconv.errors import InputError
from qaconv.files import replacing_folder
from qaconv.serving.active_version import Full
from qaconv.serving.database import Busy, DiskFull
from qaconv.serving.replication.client import LeaderClient, Unreachable
from qaconv.serving.replication.copying import apply_changes, empty_copy, fill_maps
from qaconv.serving.replication.history import find_position, is_own_gallery
from qaconv.serving.replication.leader import Diverged
from qaconv.serving.replication.link import OLDEST_S, Link
from qaconv.serving.replication.messages import Changes, Version
from qaconv.serving.service import Service
from qaconv.serving.storage import Records
from qaconv.serving.versions import Fetched, Versions

log = logging.getLogger(__name__)

RETRY_S = 0.5  # after the leader did not answer
TURN_S = 0.01  # between two looks whether another thread has read the changes
PATIENCE_S = 10.0  # for the copy to have a change that the leader has made
REPORT_S = 5.0  # between two reports of how far a copy is that lacks much
MUCH = 1024  # sightings


class OutOfDate(RuntimeError):
    """The copy is too old to answer from, or does not have a change yet."""


class LeaderVersions(Versions):
    """The versions of a follower, which come from the leader.

    Args:
        folder: the folder.
        client: asks the leader.
    """

    def __init__(self, folder: Path, client: LeaderClient) -> None:
        super().__init__(folder)
        self._client = client
        self.wanted: str | None = None  # folder of the version that the leader answers with, where that is known

    def fetch_next(self) -> Fetched | None:
        """Return the leader's version; None if it is active."""
        if self.wanted is None or self.wanted == self.active[1]:
            return None
        fetched = self.fetch(self._client.version())
        log.warning("the leader answers with version %s; the copy follows", fetched.version)
        return fetched

    def fetch(self, version: Version) -> Fetched:
        """Load a version from its folder, which exists only once all of its files are there."""
        folder = self.folder / version.folder
        if not folder.is_dir():
            with replacing_folder(folder) as unfinished:
                for file in version.files:
                    path = unfinished / file.path
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(self._client.read_file(version.folder, file))
        return Fetched(version.version, version.folder, version.site, self.load_from(folder, version.site))


def begin_following(records: Records, client: LeaderClient, versions: LeaderVersions) -> None:
    """Wait for the leader, and prepare a folder to be its copy: with its version, and empty if it went back in time.

    Args:
        records: of the folder, which no service uses yet.
        client: asks the leader.
        versions: of the folder.

    Raises:
        InputError: the folder has a gallery of its own or a copy of another one, or the leader refuses the key.
    """
    if is_own_gallery(records):
        raise InputError(f"{records.folder}: has a gallery of its own; --follow needs a folder of a copy, or a new one")
    while True:
        try:
            _check_history(records, client)
            version = client.version()
            # Of another version maps are stored here, with which the copy answers until it has the leader's.
            has_maps = versions.have_active_version and versions.site == version.site and records.count() > 0
            if not has_maps:
                versions.activate(versions.fetch(version))
            return
        except Unreachable as error:
            log.warning("%s; next try in %g s", error, REPORT_S)
            time.sleep(REPORT_S)


def _check_history(records: Records, client: LeaderClient) -> None:
    position = find_position(records)
    try:
        client.changes(position)
    except Diverged as error:
        present = client.changes(None)
        assert position is not None
        if present.gallery != position.gallery:
            raise InputError(
                f"{records.folder}: is a copy of another gallery than that of {client.url}; delete the folder to copy "
                "this one"
            ) from error
        empty_copy(records)


class Follower:
    """One worker's part in following. Safe to use from any thread.

    Args:
        service: of this worker.
        client: asks the leader.
        versions: of the state folder.
        end: ends the whole service, as its supervisor starts it again.
    """

    def __init__(
        self, service: Service, client: LeaderClient, versions: LeaderVersions, end: Callable[[], None]
    ) -> None:
        self.link = Link(service.records.folder)
        self._service = service
        self._client = client
        self._versions = versions
        self._end = end
        self.url = client.url
        client.heard = self.link.heard
        self._turn = service.records.lock("following")
        self._reported_s = 0.0
        service.fill_maps = lambda model: fill_maps(
            service.records, model.encoder_digest, lambda after: client.maps(model.encoder_digest, after).maps
        )

    def check(self) -> None:
        """Check that the copy is young enough to answer from.

        Raises:
            OutOfDate: it is not.
        """
        age_s = self.link.age_s
        if age_s > OLDEST_S:
            since = "has not been complete yet" if age_s == float("inf") else f"is {age_s:.0f} s old"
            raise OutOfDate(f"this machine's copy of the galleries {since}; it may hold what was deleted")

    def catch_up(self) -> None:
        """Return when the copy has all changes that the leader has made before this call.

        Raises:
            OutOfDate: it has not after PATIENCE_S, or the leader does not answer.
        """
        asked_s = time.monotonic()
        while self.link.current_s < asked_s:
            if time.monotonic() > asked_s + PATIENCE_S:
                raise OutOfDate("the leader is far ahead of this machine's copy")
            try:
                self.read_some(asked_s)
            except Unreachable as error:
                raise OutOfDate("the leader is out of reach") from error

    def follow_version(self, switch: Callable[[], object]) -> None:
        """Change to the leader's version by a call, if the leader is in reach."""
        with suppress(Unreachable):  # the thread that follows reports it
            switch()

    def follow(self) -> None:
        """Wait for the next changes and read them; one thread calls this again and again."""
        position = find_position(self._service.records)
        if position is not None and self.link.missing == 0:
            try:
                self._client.wait(position)
            except Diverged as error:
                raise self._diverged(error) from error
        self.read_some(time.monotonic())

    def read_some(self, asked_s: float) -> None:
        """Read changes and store them, unless another thread of any worker does or has done it since `asked_s`.

        Raises:
            Unreachable: the leader does not answer.
            OutOfDate: the copy does not continue; the service ends.
        """
        with self._turn.attempt() as is_mine:
            if is_mine and self.link.current_s < asked_s:
                began_s = time.monotonic()
                try:
                    changes = self._client.changes(find_position(self._service.records))
                    if changes.site != self._versions.site:
                        raise Diverged("the leader serves other targets than before")
                except Diverged as error:
                    raise self._diverged(error) from error
                apply_changes(self._service, changes, self._client.ids)
                self._versions.wanted = changes.version
                missing = 0 if changes.is_all else max(0, changes.last - changes.sighting)
                self.link.reached(began_s, missing, is_all=changes.is_all)
                self._report(changes, missing)
        if not is_mine:
            time.sleep(TURN_S)

    def _diverged(self, error: Diverged) -> OutOfDate:
        """Answer nothing more and end: the next start compares the galleries before it answers."""
        self.link.close()
        log.error("%s; the service ends, and begins again when it is started", error)
        self._end()
        return OutOfDate(str(error))

    def _report(self, changes: Changes, missing: int) -> None:
        if missing > MUCH and time.monotonic() > self._reported_s + REPORT_S:
            self._reported_s = time.monotonic()
            log.warning("copied up to sighting %d of %d", changes.sighting, changes.last)


class FollowingThread:
    """The thread that reads the leader's changes, of one worker.

    Args:
        service: asked whether this worker is the one.
        follower: this worker's.
    """

    def __init__(self, service: Service, follower: Follower) -> None:
        self._service = service
        self._follower = follower
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="following", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread after its present request."""
        self._stopped.set()

    def _run(self) -> None:
        failed = ""
        while not self._stopped.is_set():
            try:
                if self._service.does_housekeeping:
                    self._follower.follow()
                    if failed:
                        log.warning("the copy follows the leader again")
                        failed = ""
                    continue
            except OutOfDate:
                return
            except (Unreachable, InputError, DiskFull, Busy, Full) as error:
                if str(error) != failed:  # once, however long it lasts
                    failed = str(error)
                    log.error("the copy does not follow: %s; it answers for %g s", error, OLDEST_S)
            except Exception:
                log.exception("the copy does not follow")
            self._stopped.wait(RETRY_S)
