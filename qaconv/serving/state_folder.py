"""Keep the service's folder to its owner and to one process, and disk room for deletions."""

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from qaconv.errors import InputError

log = logging.getLogger(__name__)

RESERVE_BYTES = 32 * 2**20  # more than the journal of one transaction
SCARCE_BYTES = 4 * RESERVE_BYTES  # of free disk, below which a transaction may need the reserve
GALLERIES, LOCK, RESERVE = "galleries.db", "lock", "reserve"  # names of files


def make_private(folder: Path) -> None:
    """Create the folder and its files for their owner alone; take the permissions of existing ones from others."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in (GALLERIES, LOCK, RESERVE):
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
