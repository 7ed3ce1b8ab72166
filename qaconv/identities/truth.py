"""Measure by labels what `quality.py` estimates without them.

The estimates are means over draws of who is on each sighting. Labels are one more draw, the true one.
N sightings, E pairs.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qaconv.identities.graph import Edges
from qaconv.identities.quality import estimate_found, estimate_precision, estimate_purity

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Truth:
    """What labels say of the sightings whose people are known.

    Attributes:
        people: number of different people.
        precision: share of right ones among the pairs above each threshold that has any.
        found: share of sightings joined with a right one on another camera, of those that have one.
        purity: share of sightings that show the person most frequent in their identity.
    """

    people: int
    precision: dict[float, float]
    found: float
    purity: float


def measure_people(identity: Ints, camid: Ints, pid: Ints, is_known: NDArray[np.bool_], edges: Edges) -> Truth:
    """Return what the labels say.

    Args:
        identity: of each sighting, [N].
        camid: [N].
        pid: true person, [N].
        is_known: whether `pid` names one person, [N], at least one.
        edges: pairs with their odds, [E].
    """
    _, person = np.unique(pid, return_inverse=True)
    true = person.astype(np.int32)[None]
    pairs = edges.keep(is_known[edges.first] & is_known[edges.second])
    of_known = identity[is_known], camid[is_known], true[:, is_known]
    return Truth(
        people=len(np.unique(pid[is_known])),
        precision={row.threshold: row.value for row in estimate_precision(pairs, camid, true)},
        found=estimate_found(*of_known).value,
        purity=estimate_purity(of_known[0], of_known[2]).value,
    )
