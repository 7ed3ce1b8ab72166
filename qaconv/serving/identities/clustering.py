"""Cluster the sightings of one target again, so that what people have said holds. N sightings.

A person's merge or split pins the sightings of both identities: updates leave them where they are, and new sightings
may join them. Two sightings that reviewers call one person are of one identity, and so are the identities that they
are of; two that they call different are held apart as far as the tracks and pins allow.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from qaconv.identities.clustering import Identities, identify
from qaconv.identities.graph import Edges
from qaconv.identities.numbers import keep_numbers
from qaconv.serving.identities.store import Edge
from qaconv.serving.places import number_cameras
from qaconv.serving.reviews.store import AgreedPair
from qaconv.tlift import TLiftProfile

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

CERTAIN = 1e6  # log odds of what a person has said: more than any mean over all pairs of two identities can hide


def cluster_again(
    table: pd.DataFrame,
    edges: Sequence[Edge],
    answers: Sequence[AgreedPair],
    profile: TLiftProfile,
    *,
    is_same_model: bool,
    last: int,
) -> Identities:
    """Give sightings identities; numbers stay with the most sightings that have had them.

    Args:
        table: of `IdentityStore.table`, [N].
        edges: pairs of them.
        answers: reviewed pairs; of those that were pinned later, the pins count.
        profile: of the target.
        is_same_model: whether the identities of the table are of the present edges, so that those of sightings that no
            new one or answer touches need not be computed again.
        last: largest number that was ever given.
    """
    ids = table["sighting"].to_numpy()
    before = table["identity"].to_numpy()
    pinned = table["pinned_s"].to_numpy() > 0
    one, other, one_person = _rows_of(ids, table["pinned_s"].to_numpy(), answers)
    known = np.where(is_same_model, before, 0)
    contradicted = ~one_person & (before[one] == before[other])
    known[np.concatenate([one[contradicted], other[contradicted]])] = 0
    odds = _with_certain(ids, edges, np.where(pinned, before, 0), (one[~one_person], other[~one_person]))
    result = identify(_place(table, profile), odds, known=known, last=last)
    clusters = _join(_keep_pinned(result.identity, before, pinned), one[one_person], other[one_person])
    identity, changes = keep_numbers(clusters, before, last)
    return Identities(identity, result.probability, result.cut_tracks, changes, max(last, int(identity.max(initial=0))))


def _place(table: pd.DataFrame, profile: TLiftProfile) -> pd.DataFrame:
    """Return camid, time_s and track of stored sightings as the profile has them, [N].

    A sighting at a camera that the profile lacks has no time. Tracks are named with their cameras, as two cameras may
    use one name; pinned sightings are in no track.
    """
    camids, times = profile.leave_out_unknown(number_cameras(profile, table)["camid"], table["time_s"])
    tracks = [
        "" if track is None or is_pinned else f"{camid if camera is None else camera}\n{track}"
        for track, camera, camid, is_pinned in zip(
            table["track"], table["camera"], table["camid"], table["pinned_s"] > 0, strict=True
        )
    ]
    return pd.DataFrame({"camid": camids, "time_s": times, "track": tracks})


def _rows_of(ids: Ints, pinned_s: Floats, answers: Sequence[AgreedPair]) -> tuple[Ints, Ints, Bools]:
    """Return the rows of reviewed pairs, and whether they show one person.

    Pairs with a sighting that has not been searched for are left out, and those that were pinned after the answer.
    """
    pairs = np.array(answers, dtype=np.float64).reshape(-1, 4)
    pairs = pairs[np.isin(pairs[:, :2], ids).all(axis=1)]
    one, other = np.searchsorted(ids, pairs[:, :2]).T
    holds = np.minimum(pinned_s[one], pinned_s[other]) < pairs[:, 3]
    return one[holds], other[holds], pairs[holds, 2] == 1


def _with_certain(ids: Ints, edges: Sequence[Edge], pinned: Ints, different: tuple[Ints, Ints]) -> Edges:
    """Return edges by rows, with certain log odds for what people have said.

    Args:
        ids: of the sightings, ascending, [N].
        edges: by ids.
        pinned: identity of each pinned sighting, 0 of the others, [N].
        different: rows of pairs that show two people.
    """
    table = np.array(edges, dtype=np.float64).reshape(-1, 3)
    table = table[np.isin(table[:, :2], ids).all(axis=1)]
    first, second = np.searchsorted(ids, table[:, :2]).T
    apart = (pinned[first] > 0) & (pinned[second] > 0) & (pinned[first] != pinned[second])
    log_odds = np.where(apart, -CERTAIN, table[:, 2])
    order = np.argsort(pinned, kind="stable")
    chained = (pinned[order[1:]] == pinned[order[:-1]]) & (pinned[order[1:]] > 0)
    chain = np.sort([order[:-1][chained], order[1:][chained]], axis=0)
    all_first = np.concatenate([chain[0], np.minimum(*different), first])
    all_second = np.concatenate([chain[1], np.maximum(*different), second])
    certain = [np.full(chain.shape[1], CERTAIN), np.full(len(different[0]), -CERTAIN)]
    _, once = np.unique(all_first * len(ids) + all_second, return_index=True)
    return Edges(all_first[once], all_second[once], np.concatenate([*certain, log_odds])[once])


def _keep_pinned(clusters: Ints, before: Ints, pinned: Bools) -> Ints:
    """Return clusters in which pinned sightings are together with those of their identity, [N].

    The other sightings of a cluster follow most of its pinned ones.
    """
    kept = clusters.copy()
    rows = pd.DataFrame({"cluster": clusters[pinned], "identity": before[pinned]})
    for cluster, identities in rows.groupby("cluster")["identity"]:
        kept[clusters == cluster] = -int(identities.mode().iloc[0])
    kept[pinned] = -before[pinned]
    return kept


def _join(clusters: Ints, one: Ints, other: Ints) -> Ints:
    """Return clusters, joined where two rows show one person, [N]."""
    numbers, cluster = np.unique(clusters, return_inverse=True)
    graph = coo_array((np.ones(len(one)), (cluster[one], cluster[other])), shape=(len(numbers), len(numbers)))
    _, joined = connected_components(graph, directed=False)
    clusters_joined: Ints = joined[cluster].astype(np.int64)
    return clusters_joined
