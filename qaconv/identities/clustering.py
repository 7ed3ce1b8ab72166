"""Group sightings into identities: agglomerative clustering under what times allow.

N sightings, T groups of them, E pairs.

Of two groups the mean similarity of all pairs of their sightings decides (`similarity.py`), which is 0 for pairs that
are no edges. The groups with the highest mean are joined first, until no mean is above JOIN. Two tracks that overlap in
time on one camera are never joined.
"""

import heapq
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.special import expit, logsumexp

from qaconv.identities.graph import LIMIT, Edges
from qaconv.identities.groups import find_groups
from qaconv.identities.numbers import keep_numbers
from qaconv.identities.similarity import neighbour_similarity

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

JOIN = 0.2  # mean similarity above which two groups are joined; docs/identities.md says where it was chosen
TIE = 1e-9  # weight of a pair's probability in its similarity: above rounding, below any difference that counts
MAY_JOIN = -1.0  # log odds of a pair above which a new sighting may belong to a known identity


@dataclass(frozen=True)
class Identities:
    """The identity of each sighting.

    Attributes:
        identity: numbers from 1, [N].
        probability: that a sighting shows the person of the others of its identity, or nobody else if it is alone, [N].
        cut_tracks: tracks whose tracker has switched to another person.
        changes: merges and splits of known identities, as of `keep_numbers`.
        last: largest number that any identity has ever had.
    """

    identity: Ints
    probability: Floats
    cut_tracks: tuple[str, ...]
    changes: pd.DataFrame
    last: int


def identify(sightings: pd.DataFrame, edges: Edges, *, known: Ints | None = None, last: int = 0) -> Identities:
    """Group sightings into identities.

    Args:
        sightings: camid, time_s (NaN where unknown) and track ("" where there is none), [N].
        edges: pairs of them.
        known: identity of each sighting in an earlier result, 0 where it is new, [N]. Only new sightings, and the
            identities that one of them may belong to, are clustered again. Default: all are new.
        last: largest number that any identity has ever had. Default: 0.

    Raises:
        ValueError: an edge is not between two of the sightings, or shapes do not fit.

    Example:
        >>> sightings = pd.DataFrame({"camid": [0, 1, 1], "time_s": [5.0, 30.0, 90.0], "track": ["", "", ""]})
        >>> identify(sightings, Edges.join([0, 0], [1, 2], [4.0, -3.0])).identity.tolist()
        [1, 1, 2]
    """
    known = np.zeros(len(sightings), dtype=np.int64) if known is None else np.asarray(known, dtype=np.int64)
    if known.shape != (len(sightings),) or edges.second.max(initial=-1) >= len(sightings):
        raise ValueError(
            f"known and edges must be of {len(sightings)} sightings, got {len(known)} known ones and edges up to "
            f"sighting {edges.second.max(initial=-1)}"
        )
    groups = find_groups(sightings, edges)
    open_rows = np.flatnonzero(_may_change(known, edges, groups))
    last = max(last, int(known.max(initial=0)))
    identity = known.copy()
    clusters = _cluster(sightings, edges, groups, open_rows)
    identity[open_rows], changes = keep_numbers(clusters, known[open_rows], last)
    probability = _belonging(identity, edges, groups)
    last = max(last, int(identity.max(initial=0)))
    return Identities(identity, probability, _cut_tracks(sightings, identity), changes, last)


def _cut_tracks(sightings: pd.DataFrame, identity: Ints) -> tuple[str, ...]:
    """Return the tracks that show two people."""
    pairs = pd.DataFrame({"track": sightings["track"].to_numpy(), "identity": identity}).drop_duplicates()
    tracks = pairs["track"][pairs["track"] != ""]
    return tuple(sorted(tracks[tracks.duplicated()].unique()))


def _may_change(known: Ints, edges: Edges, groups: Ints) -> Bools:
    """Return whether a sighting is new, or of an identity that a new one may belong to, as by its track, [N]."""
    new = known == 0
    likely = edges.log_odds > MAY_JOIN
    one, other = edges.first[likely], edges.second[likely]
    touched = np.concatenate([known[other[new[one]]], known[one[new[other]]], known[np.isin(groups, groups[new])]])
    may_change: Bools = new | np.isin(known, touched[touched > 0])
    return may_change


def _cluster(sightings: pd.DataFrame, edges: Edges, groups: Ints, rows: Ints) -> Ints:
    """Return the number of each row's cluster, from 0."""
    row_of = np.full(len(sightings), -1)
    row_of[rows] = np.arange(len(rows))
    edges = edges.keep((row_of[edges.first] >= 0) & (row_of[edges.second] >= 0))
    edges = Edges(row_of[edges.first], row_of[edges.second], edges.log_odds)
    group = np.unique(groups[rows], return_inverse=True)[1]
    sizes = np.bincount(group)
    # Of equally similar pairs the likelier one is joined first, so that neither rounding nor order decides.
    similarity = neighbour_similarity(edges, len(rows)) + TIE * expit(edges.log_odds)
    one, other, sums = _sum_by_pair(group[edges.first], group[edges.second], similarity)
    # Groups that no chain of means above JOIN connects stay apart, so sums between such components are not needed.
    likely = sums / (sizes[one] * sizes[other]) > JOIN
    table = coo_array((np.ones(likely.sum()), (one[likely], other[likely])), shape=(len(sizes), len(sizes)))
    _, component = connected_components(table, directed=False)
    kept = component[one] == component[other]
    conflicts = overlapping_tracks(sightings.iloc[rows], group, component)
    return average_linkage(sizes, one[kept], other[kept], sums[kept], conflicts)[group]


def _sum_by_pair(one: Ints, other: Ints, values: Floats) -> tuple[Ints, Ints, Floats]:
    """Sum values by pair of two different numbers; return each pair once, the lower number first."""
    apart = one != other
    lower, higher = np.minimum(one, other)[apart], np.maximum(one, other)[apart]
    count = 1 + int(higher.max(initial=0))
    keys, position = np.unique(lower * count + higher, return_inverse=True)
    sums: Floats = np.bincount(position, values[apart], minlength=len(keys)).astype(np.float64)
    lower_of_pair: Ints = keys // count
    return lower_of_pair, keys - lower_of_pair * count, sums


def overlapping_tracks(sightings: pd.DataFrame, group: Ints, component: Ints) -> list[tuple[int, int]]:
    """Return the pairs of groups of one component whose tracks overlap in time on one camera.

    Args:
        sightings: camid, time_s and track, [N].
        group: number of each sighting's group, or of its identity, [N].
        component: of each group; pairs of two components are not needed.
    """
    tracked = sightings.assign(group=group, component=component[group])
    tracked = tracked[(tracked["track"] != "") & tracked["time_s"].notna()]
    spans = tracked.groupby(["group", "camid", "component", "track"])["time_s"].agg(["min", "max"]).reset_index()
    spans = spans.sort_values(["camid", "component", "min"])
    pairs: list[tuple[int, int]] = []
    current: list[tuple[int, float]] = []  # groups of the same camera and component, and their ends
    place = None
    for number, camid, of_group, _, start, end in spans.itertuples(index=False):
        current = [(before, last) for before, last in current if last > start] if place == (camid, of_group) else []
        place = camid, of_group
        pairs += [(before, number) for before, _ in current if before != number]
        current.append((number, end))
    return pairs


def average_linkage(sizes: Ints, one: Ints, other: Ints, sums: Floats, conflicts: list[tuple[int, int]]) -> Ints:
    """Join the two clusters with the highest mean again and again; return each group's cluster, [T].

    Args:
        sizes: sightings of each group, [T].
        one: group of each pair with a sum.
        other: its other group.
        sums: of similarities over all pairs of their sightings; 0 for pairs of groups that are not given.
        conflicts: groups that are never joined.
    """
    count = sizes.tolist()
    between: list[dict[int, float]] = [{} for _ in count]
    for a, b, value in zip(one.tolist(), other.tolist(), sums.tolist(), strict=True):
        between[a][b] = between[b][a] = value
    apart: list[set[int]] = [set() for _ in count]
    for a, b in conflicts:
        apart[a].add(b)
        apart[b].add(a)
    cluster = list(range(len(count)))  # that a joined one is part of, or itself
    heap: list[tuple[float, int, int]] = []

    def offer(a: int, b: int) -> None:
        mean = between[a][b] / (count[a] * count[b])
        if mean > JOIN and b not in apart[a]:
            heapq.heappush(heap, (-mean, min(a, b), max(a, b)))

    for a, b in zip(one.tolist(), other.tolist(), strict=True):
        offer(a, b)
    while heap:
        mean, a, b = heapq.heappop(heap)
        if cluster[a] != a or cluster[b] != b or between[a][b] / (count[a] * count[b]) != -mean:
            continue  # one of them has grown since, or is part of another
        if len(between[a]) < len(between[b]):
            a, b = b, a
        cluster[b] = a
        count[a] += count[b]
        del between[a][b]
        for c, value in between[b].items():
            if c != a:
                del between[c][b]
                between[a][c] = between[c][a] = between[a].get(c, 0.0) + value
        between[b] = {}
        for c in apart[b]:
            apart[c].add(a)
        apart[a] |= apart[b]
        for c in between[a]:
            offer(a, c)
    for number in range(len(cluster)):
        root = number
        while cluster[root] != root:
            root = cluster[root]
        cluster[number] = root
    return np.asarray(cluster, dtype=np.int64)


def _belonging(identity: Ints, edges: Edges, groups: Ints) -> Floats:
    """Return the probability that a sighting belongs to its identity, by the mean log odds of its group, [N].

    It is compared with the likeliest other identity, and with none at all, whose log odds are 0.
    """
    _, cluster = np.unique(identity, return_inverse=True)
    # A group that is not clustered again may be parts of two known identities: each part counts by itself.
    parts, group = np.unique(np.stack([groups, cluster]), axis=1, return_inverse=True)
    sizes, cluster_of_group = np.bincount(group), parts[1]
    ends = np.concatenate([edges.first, edges.second]), np.concatenate([edges.second, edges.first])
    across = group[ends[0]] != group[ends[1]]
    table = coo_array(
        (np.tile(edges.log_odds + LIMIT, 2)[across], (group[ends[0][across]], cluster[ends[1][across]])),
        shape=(len(sizes), int(cluster.max(initial=-1)) + 1),
    ).tocsr()
    of_group, of_cluster = np.repeat(np.arange(len(sizes)), np.diff(table.indptr)), table.indices
    own = cluster_of_group[of_group] == of_cluster
    others = np.bincount(cluster)[of_cluster] - np.where(own, sizes[of_group], 0)
    means = table.data / (sizes[of_group] * others) - LIMIT
    to_own, to_other = np.zeros(len(sizes)), np.full(len(sizes), -LIMIT)
    to_own[of_group[own]] = means[own]
    np.maximum.at(to_other, of_group[~own], means[~own])
    alone = np.bincount(cluster)[cluster_of_group] == sizes
    all_ways = logsumexp([np.where(alone, -np.inf, to_own), to_other, np.zeros(len(sizes))], axis=0)
    probability: Floats = np.exp(np.where(alone, 0.0, to_own) - all_ways)[group]
    return probability
