"""Measure identities: how well groups of sightings agree with the people that they show.

N sightings, I identities, P people. Each sighting has one identity and one person, and counts once, also those of one
track.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from scipy.sparse.csgraph import min_weight_full_bipartite_matching

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Agreement(NamedTuple):
    """Precision and recall of identities, in [0, 1].

    Attributes:
        precision: falls when an identity shows several people.
        recall: falls when a person has several identities.
    """

    precision: float
    recall: float

    @property
    def f1(self) -> float:
        """The harmonic mean of precision and recall; 0 where both are 0."""
        total = self.precision + self.recall
        return 2 * self.precision * self.recall / total if total else 0.0


class ClusterMetrics(NamedTuple):
    """Agreement of identities and people by three measures.

    Attributes:
        pairwise: of pairs of sightings: those of one identity are predicted, those of one person are true.
        b_cubed: of each sighting's identity with its person, mean over the sightings (Bagga and Baldwin, 1998).
        idf1: share of the sightings on which the best one-to-one assignment of identities to people agrees (Ristani
            et al., 2016). As each sighting has one identity and one person, IDP and IDR are the same number.
        identities: number of different identities, I.
        people: number of different people, P.
    """

    pairwise: Agreement
    b_cubed: Agreement
    idf1: float
    identities: int
    people: int


def shows_known_person(sightings: pd.DataFrame) -> Bools:
    """Return which sightings measure identities, [N]: those of a labelled person; no junk, distractor or unlabelled.

    Args:
        sightings: columns pid and split of the manifest. A pid of 0 is a distractor unless a query has it.
    """
    pids = sightings["pid"].to_numpy()
    is_query = (sightings["split"] == "query").to_numpy()
    known: Bools = (pids > 0) | ((pids == 0) & bool((pids[is_query] == 0).any()))
    return known


def measure_clusters(identities: ArrayLike, pids: ArrayLike) -> ClusterMetrics:
    """Measure identities by the people of the same sightings.

    Args:
        identities: number of each sighting's identity, [N]; only equality counts.
        pids: number of each sighting's person, [N].

    Raises:
        ValueError: shapes do not fit, or there is no sighting.

    Example:
        >>> metrics = measure_clusters([1, 1, 1, 2], [7, 7, 8, 8])
        >>> metrics.pairwise.precision, metrics.b_cubed.precision, metrics.idf1
        (0.3333333333333333, 0.6666666666666666, 0.75)
    """
    shared, of_identity, of_person = _count_shared(identities, pids)
    in_both = _pairs(shared.data)
    pairwise = Agreement(_share(in_both, _pairs(of_identity)), _share(in_both, _pairs(of_person)))
    idf1 = _assigned_sightings(shared) / of_identity.sum()
    b_cubed = _b_cubed(shared, of_identity, of_person)
    return ClusterMetrics(pairwise, b_cubed, float(idf1), len(of_identity), len(of_person))


def measure_b_cubed(identities: ArrayLike, pids: ArrayLike) -> Agreement:
    """Measure identities by B-cubed alone, which takes less time than `measure_clusters` with its arguments."""
    return _b_cubed(*_count_shared(identities, pids))


def _b_cubed(shared: sparse.coo_array, of_identity: Floats, of_person: Floats) -> Agreement:
    squares = np.square(shared.data)
    sightings = of_identity.sum()
    return Agreement(
        float((squares / of_identity[shared.row]).sum() / sightings),
        float((squares / of_person[shared.col]).sum() / sightings),
    )


def _count_shared(identities: ArrayLike, pids: ArrayLike) -> tuple[sparse.coo_array, Floats, Floats]:
    """Return the sightings that each identity and person share, [I, P], those of each identity and of each person."""
    identity, person = np.asarray(identities), np.asarray(pids)
    if identity.ndim != 1 or identity.shape != person.shape or not len(identity):
        raise ValueError(
            "identities and pids must have the same shape [N] with at least one sighting, "
            f"got {identity.shape} and {person.shape}"
        )
    shared = _shared_sightings(identity, person)
    return shared, shared.sum(axis=1), shared.sum(axis=0)


def _shared_sightings(identity: NDArray[np.generic], person: NDArray[np.generic]) -> sparse.coo_array:
    """Return the number of sightings that each identity and person share, [I, P]."""
    _, rows = np.unique(identity, return_inverse=True)
    _, columns = np.unique(person, return_inverse=True)
    cells = sparse.coo_array((np.ones(len(rows)), (rows, columns)))
    cells.sum_duplicates()
    return cells


def _pairs(counts: Floats) -> float:
    """Return the number of pairs within groups of these sizes."""
    return float((counts * (counts - 1) / 2).sum())


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 1.0


def _assigned_sightings(shared: sparse.coo_array) -> float:
    """Return the most sightings that a one-to-one assignment of identities to people shares.

    An identity may also take a column of its own, on which it shares no sighting, so that an assignment of all exists.
    """
    identities, people = shared.shape
    most = shared.data.max()
    alone = np.arange(identities)
    rows = np.concatenate([shared.row, alone])
    columns = np.concatenate([shared.col, people + alone])
    costs = 1 + most - np.concatenate([shared.data, np.zeros(identities)])  # above 0, as 0 would mean no entry
    table = sparse.csr_array((costs, (rows, columns)), shape=(identities, people + identities))
    matched = min_weight_full_bipartite_matching(table)
    return float((1 + most - table[matched]).sum())
