"""Keep the service's folder to its owner and to one service, locks of its workers, and disk room for deletions."""

import fcntl
import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from qaconv.errors import InputError

log = logging.getLogger(__name__)

RESERVE_BYTES = 32 * 2**20  # more than the journal of one transaction
SCARCE_BYTES = 4 * RESERVE_BYTES  # of free disk, below which a transaction may need the reserve
GALLERIES, LOCK, RESERVE, COUNTS = "galleries.db", "lock", "reserve", "requests"  # names of files
# Locks of the workers, each a file: one at a time writes to the file of galleries, changes galleries or the version,
# changes identities, draws a sample to review, encodes stored crops, counts a request, reads the leader's changes, and
# does the housekeeping.
LOCKS = ("writing", "changing", "identities", "drawing", "encoding", "counting", "following", "housekeeping")


def make_private(folder: Path) -> None:
    """Create the folder and its files for their owner alone; take the permissions of existing ones from others."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in (GALLERIES, LOCK, RESERVE, *LOCKS):
        (folder / name).touch(0o600)
    for path, mode in ((folder, 0o700), *((path, 0o600) for path in folder.iterdir() if path.is_file())):
        try:
            path.chmod(mode)
        except PermissionError:  # another user's folder, such as a volume that is shared by a group
            log.warning("%s: belongs to another user, its permissions stay; they must keep others from it", path)


def lock_folder(folder: Path) -> TextIO:
    """Return the file whose lock keeps other processes out of a folder, until it is closed or the process ends.

    Raises:
        InputError: another process has the lock.
    """
    file = (folder / LOCK).open("a+", encoding="ascii")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        process = file.read() or "unknown"
        file.close()
        raise InputError(f"{folder}: must be used by one service at a time, got process {process}") from None
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return file


class WorkersLock:
    """A lock that one thread of all workers of a service holds at a time. The system frees that of a killed worker."""

    def __init__(self, folder: Path, name: str) -> None:
        self._path = folder / name
        self._file = self._path.open("ab")
        self._threads = threading.Lock()  # as all threads of a process share the file's lock

    def __enter__(self) -> None:
        self._threads.acquire()
        fcntl.flock(self._file, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        fcntl.flock(self._file, fcntl.LOCK_UN)
        self._threads.release()

    @contextmanager
    def attempt(self) -> Iterator[bool]:
        """Hold the lock during a block if no other thread holds it; yield whether this one does."""
        if not self._threads.acquire(blocking=False):
            yield False
            return
        try:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            try:
                yield True
            finally:
                fcntl.flock(self._file, fcntl.LOCK_UN)
        finally:
            self._threads.release()

    def try_to_keep(self) -> bool:
        """Take the lock until this process ends, if no other process has it; return whether this one has it."""
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def close(self) -> None:
        """Free the lock that was kept."""
        self._file.close()

    def is_held(self) -> bool:
        """Return whether a thread of any worker holds the lock."""
        with self._path.open("ab") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False


class Reserve:
    """A file in a folder that occupies RESERVE_BYTES, which `free` gives to the journal of a transaction.

    With it sightings can be deleted from a disk that other programs have filled.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / RESERVE
        self._occupy()

    def free_bytes(self) -> int:
        """Return the free bytes of the disk, without the reserve."""
        disk = os.statvfs(self._path.parent)
        return disk.f_bavail * disk.f_frsize

    @contextmanager
    def free(self) -> Iterator[None]:
        """Free the reserve during a block, if the disk has little room."""
        if self.free_bytes() >= SCARCE_BYTES:
            yield
            return
        os.truncate(self._path, 0)
        try:
            yield
        finally:
            self._occupy()

    def _occupy(self) -> None:
        """Occupy the bytes again; if there is no room, the next transaction on a scarce disk tries it again."""
        with self._path.open("ab") as file:
            try:
                os.posix_fallocate(file.fileno(), 0, RESERVE_BYTES)
            except OSError as error:
                file.truncate(0)
                log.warning("%s: %s; deletions may fail until the disk has room", self._path, error.strerror)
