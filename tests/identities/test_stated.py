"""Stated probabilities are mapped by the identities of simulated walks."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy.special import logit

from qaconv.identities import find_edges, identify, map_by_identities, may_map, stated
from qaconv.tlift import TLiftProfile, fit_profile
from qaconv.tlift.probability import MATCHES_RIGHT
from tests.tlift.simulated import Sightings, simulated

WALKS = simulated()
IS_QUERY = np.arange(len(WALKS.pids)) % 3 == 0
LOGITS = logit(np.clip(WALKS.table[np.ix_(IS_QUERY, ~IS_QUERY)], 1e-9, 1 - 1e-9))
ACROSS = WALKS.camids[IS_QUERY, None] != WALKS.camids[~IS_QUERY]
SAME = (WALKS.pids[IS_QUERY, None] == WALKS.pids[~IS_QUERY])[ACROSS]
SIGHTINGS = pd.DataFrame(
    {"camid": WALKS.camids, "time_s": WALKS.times, "track": "", "split": np.where(IS_QUERY, "query", "gallery")}
)


@pytest.fixture(scope="module")
def fitted() -> TLiftProfile:
    """Fit a profile, and make its odds too high."""
    profile = fit_profile(*WALKS.neighbours(), WALKS.camids, WALKS.times, target="yard")
    assert profile.match_odds is not None
    return replace(profile, match_odds=replace(profile.match_odds, offset=2.0))


@pytest.fixture(scope="module")
def identity(fitted: TLiftProfile) -> NDArray[np.int64]:
    neighbours, scores = WALKS.neighbours()
    return identify(SIGHTINGS, find_edges(neighbours, logit(scores), SIGHTINGS, fitted)).identity


def state(profile: TLiftProfile, walks: Sightings = WALKS) -> NDArray[np.float64]:
    """Return the stated probabilities of the queries with the gallery on other cameras."""
    places = [values[part] for part in (IS_QUERY, ~IS_QUERY) for values in (walks.camids, walks.times)]
    probabilities = profile.probabilities(walks.table[np.ix_(IS_QUERY, ~IS_QUERY)], *places)
    assert probabilities is not None
    across: NDArray[np.float64] = probabilities[ACROSS]
    return across


def too_high(probabilities: NDArray[np.float64]) -> float:
    """Return by how much the probabilities of the pairs that are neither clear case are above the truth."""
    unclear = (probabilities > 0.1) & (probabilities < 0.9)
    return float((probabilities - SAME)[unclear].mean())


def test_probabilities_that_are_too_high_come_near_the_truth_and_keep_their_order(
    fitted: TLiftProfile, identity: NDArray[np.int64]
) -> None:
    mapped = map_by_identities(fitted, identity, SIGHTINGS, LOGITS)
    before, after = state(fitted), state(mapped)
    assert too_high(before) > 0.2
    assert abs(too_high(after)) < 0.1
    order = np.argsort(before)
    assert (np.diff(after[order]) >= 0).all()


def test_the_threshold_is_chosen_among_the_mapped_probabilities(
    fitted: TLiftProfile, identity: NDArray[np.int64]
) -> None:
    mapped = map_by_identities(fitted, identity, SIGHTINGS, LOGITS)
    assert fitted.match_odds and mapped.match_odds
    after = state(mapped)
    assert after[after > mapped.match_odds.threshold].mean() == pytest.approx(MATCHES_RIGHT, abs=0.01)
    right_before = SAME[state(fitted) > fitted.match_odds.threshold].mean()
    assert SAME[after > mapped.match_odds.threshold].mean() > right_before


def test_the_odds_that_identities_are_made_of_stay(fitted: TLiftProfile, identity: NDArray[np.int64]) -> None:
    neighbours, scores = WALKS.neighbours()
    edges = [
        find_edges(neighbours, logit(scores), SIGHTINGS, profile)
        for profile in (fitted, map_by_identities(fitted, identity, SIGHTINGS, LOGITS))
    ]
    assert edges[0].log_odds.tolist() == edges[1].log_odds.tolist()


def test_a_map_is_made_where_most_sightings_have_tracks_and_times_count(fitted: TLiftProfile) -> None:
    half = SIGHTINGS.assign(track=np.where(np.arange(len(SIGHTINGS)) % 2, "", "walk"))
    fewer = half.assign(track=half["track"].where(half.index > 0, ""))
    assert [may_map(fitted, each) for each in (SIGHTINGS, fewer, half)] == [False, False, True]
    assert not may_map(replace(fitted, match_odds=None), half)


def test_without_odds_and_where_everyone_is_alone_the_profile_stays(fitted: TLiftProfile) -> None:
    alone = np.arange(len(SIGHTINGS))
    assert map_by_identities(fitted, alone, SIGHTINGS, LOGITS) is fitted
    without = replace(fitted, match_odds=None)
    assert map_by_identities(without, alone, SIGHTINGS, LOGITS) is without


def test_of_many_pairs_those_of_some_queries_are_read(
    fitted: TLiftProfile, identity: NDArray[np.int64], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stated, "MOST_PAIRS", LOGITS.size // 2)
    monkeypatch.setattr(stated, "BLOCK_PAIRS", 4 * LOGITS.shape[1])
    half = map_by_identities(fitted, identity, SIGHTINGS, LOGITS)
    assert half == map_by_identities(fitted, identity, SIGHTINGS, LOGITS)
    assert half != map_by_identities(fitted, np.roll(identity, 1), SIGHTINGS, LOGITS)
    assert abs(too_high(state(half))) < 0.15
