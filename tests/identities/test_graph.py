import numpy as np
import pandas as pd
import pytest
from scipy.special import logit

from qaconv.identities import Edges, find_edges, find_edges_by_scores
from qaconv.tlift import TLiftProfile
from qaconv.tlift.calibration import Calibration
from qaconv.tlift.probability import GallerySize, MatchOdds
from qaconv.tlift.return_times import ReturnTimes
from qaconv.tlift.transit import TransitTable

ODDS = MatchOdds(Calibration([-10.0, 10.0], [-10.0, 10.0]), 0.5, sightings=3, span_s=100.0)
PROFILE = TLiftProfile(
    "mall",
    (0, 1),
    active=True,
    reason="",
    match_odds=ODDS,
    transit=TransitTable([60.0], 1.0, [[-2.0] * 5 + [2.0] * 10 + [-2.0] * 5]),
    return_times=ReturnTimes([3.0, -1.0]),
)


def edges_at(times: list[float], camids: list[int], logits: list[list[float]]) -> Edges:
    sightings = pd.DataFrame({"camid": camids, "time_s": times})
    return find_edges([[1, 2], [0, 2], [0, 1]], logits, sightings, PROFILE)


def test_a_pair_on_two_cameras_counts_its_walking_time() -> None:
    edges = edges_at([0.0, 60.0, np.nan], [0, 1, 1], [[1.0, 1.0], [1.0, -9.0], [1.0, -9.0]])
    assert edges.first.tolist() == [0, 0]
    assert edges.second.tolist() == [1, 2]
    assert edges.log_odds.round(6).tolist() == [3.0, 1.0]  # without a time the score alone counts


def test_a_pair_on_one_camera_counts_the_time_between_the_sightings() -> None:
    edges = edges_at([0.0, 0.1, 90.0], [0, 0, 0], [[1.0, 1.0], [1.0, 1.0], [1.0, 1.0]])
    assert edges.log_odds.round(6).tolist() == [4.0, 0.0, 0.0]


def test_a_pair_that_both_sightings_list_is_one_edge_and_very_low_odds_are_none() -> None:
    edges = edges_at([0.0, 0.1, 90.0], [0, 0, 0], [[1.0, -30.0], [1.0, -30.0], [-30.0, -30.0]])
    assert (edges.first.tolist(), edges.second.tolist()) == ([0], [1])


def test_log_odds_of_pairs_are_those_of_the_probabilities_of_a_search() -> None:
    rng = np.random.default_rng(0)
    scores = rng.uniform(0.1, 0.9, (4, 5))
    query, gallery = (np.zeros(4, int), rng.uniform(0, 100, 4)), (np.ones(5, int), rng.uniform(0, 200, 5))
    stated = PROFILE.probabilities(scores, *query, *gallery)
    assert stated is not None
    row, column = np.indices(scores.shape).reshape(2, -1)
    pairs = PROFILE.pair_log_odds(
        scores.ravel(),
        (query[0][row], query[1][row]),
        (gallery[0][column], gallery[1][column]),
        GallerySize.measure(gallery[1]),
    )
    np.testing.assert_allclose(pairs, logit(stated).ravel(), atol=1e-6)


def test_log_odds_of_a_pair_do_not_depend_on_its_order() -> None:
    one, other = (np.array([0]), np.array([10.0])), (np.array([1]), np.array([65.0]))
    size = ODDS.sightings
    gallery = GallerySize(size, 100.0)
    assert PROFILE.pair_log_odds([0.7], one, other, gallery) == PROFILE.pair_log_odds([0.7], other, one, gallery)


def test_a_profile_without_odds_is_refused() -> None:
    profile = TLiftProfile("mall", (0,), active=False, reason="no times")
    sightings = pd.DataFrame({"camid": [0, 0], "time_s": [0.0, 1.0]})
    with pytest.raises(ValueError, match="mall must have match odds"):
        find_edges([[1], [0]], [[1.0], [1.0]], sightings, profile)


def test_scores_alone_find_the_share_of_pairs_of_one_person() -> None:
    rng = np.random.default_rng(1)
    people = np.repeat(np.arange(30), 4)
    count = len(people)
    same = people[:, None] == people
    ratios = rng.normal(np.where(same, 4.5, -4.5), 3.0)  # mean +-d^2/2 and deviation d: true log likelihood ratios
    ratios = np.triu(ratios, 1) + np.triu(ratios, 1).T
    np.fill_diagonal(ratios, -99)
    neighbours = np.argsort(-ratios, axis=1)[:, :40]
    edges = find_edges_by_scores(neighbours, np.take_along_axis(ratios, neighbours, axis=1))
    stated = 1 / (1 + np.exp(-edges.log_odds))
    assert stated.sum() == pytest.approx(count * 3 / 2, rel=0.15)
    above = edges.log_odds > 2
    assert same[edges.first[above], edges.second[above]].mean() > 0.85
