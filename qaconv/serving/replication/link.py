"""What all workers of a follower know of its link to the leader: a few numbers in a file that they have in memory."""

import time
from pathlib import Path

import numpy as np

LINK = "link"  # name of the file
OLDEST_S = 60.0  # how long a follower answers without the leader: it cannot know what was deleted
CUT_S = 10.0  # of silence, after which the leader counts as out of reach; a follower asks it every two seconds


class Link:
    """When the copy last had everything, in seconds of the monotonic clock, which all processes share.

    Args:
        folder: the state folder.
    """

    def __init__(self, folder: Path) -> None:
        self._values = np.memmap(folder / LINK, np.float64, "r+")

    @property
    def current_s(self) -> float:
        """A moment at which the copy had all that the leader had; -infinity before the first."""
        return float(self._values[0])

    @property
    def age_s(self) -> float:
        """Seconds since then."""
        return time.monotonic() - self.current_s

    @property
    def missing(self) -> int:
        """Ids that the leader has given and the copy has not read yet."""
        return int(self._values[1])

    @property
    def is_cut(self) -> bool:
        """Whether the leader is out of reach, as far as is known."""
        return time.monotonic() - float(self._values[2]) > CUT_S

    def heard(self) -> None:
        """Keep that the leader is in reach."""
        self._values[2] = time.monotonic()

    def reached(self, asked_s: float, missing: int, *, is_all: bool) -> None:
        """Keep what an answer of the leader says.

        Args:
            asked_s: when it was asked.
            missing: see `missing`.
            is_all: whether the copy lacks nothing that the leader had then.
        """
        self._values[1] = missing
        if is_all:
            self._values[0] = asked_s

    @property
    def is_closed(self) -> bool:
        """Whether the copy does not continue the leader's gallery."""
        return bool(self._values[3])

    def close(self) -> None:
        """Let no worker answer any more, as the copy does not continue the leader's gallery."""
        self._values[0] = -np.inf
        self._values[3] = 1


def write_link(folder: Path) -> None:
    """Write the file, of a link that never was."""
    np.array([-np.inf, 0, -np.inf, 0]).tofile(folder / LINK)
    (folder / LINK).chmod(0o600)
