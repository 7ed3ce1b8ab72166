"""Choose the pairs of neighbours that a fit reads, where a target has more of them than it holds at once.

The sample is one of sightings, the anchors, with all pairs that any of them is part of: of each anchor all candidates
are known, and each pair of a target is as likely to be in the sample as any other. Anchors are taken in short runs of
sightings that follow each other on one camera, as the crops of a visit and people who walk together are judged
together, and evenly over cameras and time. So no clock has to agree with another one. The two cameras with the fewest
pairs keep all of them, and so on, up to a tenth of what is read.
n sightings, C cameras.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qaconv.tlift.parameter_selection import Window

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

MOST_NEIGHBOURS = 10_000_000  # that a fit reads: of 100,000 sightings with 100 neighbours each
RUN = 64  # sightings of a run, at most
RUNS = 32  # of a camera, on average: with many cameras runs are shorter
WHOLE_SHARE = 0.1  # of the neighbours that are read, at most, for two cameras that keep all of their pairs


def share_to_read(neighbours: int) -> float:
    """Return the share of so many neighbours of all sightings that a fit reads, at most 1."""
    return min(1.0, MOST_NEIGHBOURS / max(1, neighbours))


@dataclass(frozen=True)
class Sample:
    """Which pairs of neighbours are read.

    Attributes:
        anchors: sightings whose pairs are all read, [n].
        whole: whether all pairs of two cameras are read, [C, C].
        camera: number of each sighting's camera, [n].
        window: sightings that parameters are chosen on; its queries are anchors. None: all sightings are anchors.
    """

    anchors: Bools
    whole: Bools
    camera: Ints
    window: Window | None = None

    @property
    def is_everything(self) -> bool:
        """Return whether all pairs are read."""
        return self.window is None

    def reads(self, one: Ints, other: Ints) -> Bools:
        """Return which pairs are read, [M]."""
        read: Bools = self.anchors[one] | self.anchors[other] | self.whole[self.camera[one], self.camera[other]]
        return read

    @classmethod
    def of_all(cls, camids: Ints) -> "Sample":
        """Return the sample of all pairs.

        Args:
            camids: [n].
        """
        cameras, camera = np.unique(camids, return_inverse=True)
        return cls(np.ones(len(camids), dtype=bool), np.ones((len(cameras), len(cameras)), dtype=bool), camera)

    @classmethod
    def draw(cls, share: float, counts: Ints, camids: Ints, window: Window, seed: int) -> "Sample":
        """Draw anchors.

        Args:
            share: of the neighbours that are read, below 1. A pair is read if one of its two sightings is an anchor.
            counts: of the neighbours on each two cameras, [C, C].
            camids: of the sightings, in the order of camera and time, [n].
            window: that parameters are chosen on.
            seed: of the draw.
        """
        cameras, camera = np.unique(camids, return_inverse=True)
        wanted = (1 - np.sqrt(1 - (1 - WHOLE_SHARE) * share)) * len(camids)
        length = int(np.clip(wanted / (RUNS * len(cameras)), 1, RUN))
        runs = -(-len(camids) // length)
        drawn = max(1, int(wanted / length))
        rng = np.random.default_rng(seed)
        strata = (np.arange(drawn) + rng.random(drawn)) * (runs / drawn)  # a run of each part of the sightings
        anchors = np.isin(np.arange(len(camids)) // length, strata.astype(np.int64)) | window.query
        one, other = np.triu_indices(len(cameras), 1)
        fewest_first = np.argsort(counts[one, other], kind="stable")
        read = np.cumsum(counts[one, other][fewest_first]) <= WHOLE_SHARE * share * counts[one, other].sum()
        whole = np.zeros(counts.shape, dtype=bool)
        whole[one[fewest_first[read]], other[fewest_first[read]]] = True
        return cls(anchors, whole | whole.T, camera, window)
