import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from qaconv.metrics import evaluate_verification, sightings

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Table = tuple[Floats, Ints, Ints, Ints, Ints]

RATES = (0.5, 0.1, 0.01)
SEEDS = st.integers(0, 2**32 - 1)


def scored_sightings(seed: int, queries: int = 20, galleries: int = 50) -> Table:
    """Draw scores that are about one standard deviation higher for matches; some are equal."""
    rng = np.random.default_rng(seed)
    query_pids, gallery_pids = rng.choice([-2, *range(1, 6)], queries), rng.integers(-2, 6, galleries)
    scores = rng.normal(size=(queries, galleries)) + (query_pids[:, None] == gallery_pids)
    return np.round(scores, 2), query_pids, gallery_pids, rng.integers(0, 3, queries), rng.integers(0, 3, galleries)


def plain_pairs(
    scores: Floats, query_pids: Ints, gallery_pids: Ints, query_camids: Ints, gallery_camids: Ints
) -> tuple[Floats, Floats]:
    matches, others = [], []
    for q in range(len(query_pids)):
        for g in range(len(gallery_pids)):
            if -2 in (query_pids[q], gallery_pids[g]) or gallery_pids[g] == -1:
                continue
            if query_pids[q] != gallery_pids[g]:
                others.append(scores[q, g])
            elif query_camids[q] != gallery_camids[g]:
                matches.append(scores[q, g])
    return np.array(matches), np.array(others)


@settings(deadline=None)
@given(SEEDS)
def test_a_threshold_is_the_lowest_score_that_keeps_the_wanted_rate(seed: int) -> None:
    data = scored_sightings(seed)
    matches, others = plain_pairs(*data)
    found = evaluate_verification(*data, false_match_rates=RATES)
    assert (found.matches, found.others) == (len(matches), len(others))
    for rate, threshold, right in zip(RATES, found.thresholds, found.true_match_rates, strict=True):
        assert (others > threshold).mean() <= rate
        lower = others[others < threshold]
        assert not len(lower) or (others > lower.max()).mean() > rate
        assert right == (matches > threshold).mean()


@settings(deadline=None)
@given(SEEDS)
def test_each_point_of_the_curve_is_what_its_threshold_accepts(seed: int) -> None:
    data = scored_sightings(seed)
    matches, others = plain_pairs(*data)
    roc = evaluate_verification(*data).roc
    expected = [((others >= level).mean(), (matches >= level).mean()) for level in np.sort(matches)[::-1]]
    np.testing.assert_array_equal(roc, np.array(expected).T)
    assert (np.diff(roc) >= 0).all()


@settings(deadline=None)
@given(SEEDS)
def test_order_of_images_and_a_rising_change_of_the_scores_leave_the_rates_alone(seed: int) -> None:
    scores, query_pids, gallery_pids, query_camids, gallery_camids = scored_sightings(seed)
    order = np.random.default_rng(seed).permutation(len(gallery_pids))
    one = evaluate_verification(scores, query_pids, gallery_pids, query_camids, gallery_camids)
    other = evaluate_verification(
        np.exp(scores[:, order]), query_pids, gallery_pids[order], query_camids, gallery_camids[order]
    )
    assert one.true_match_rates == other.true_match_rates
    np.testing.assert_array_equal(one.roc, other.roc)
    assert other.thresholds == pytest.approx(np.exp(one.thresholds))


def test_blocks_of_pairs_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    data = scored_sightings(4, queries=60)
    whole = evaluate_verification(*data, false_match_rates=RATES)
    monkeypatch.setattr(sightings, "BLOCK_PAIRS", 150)
    blocks = evaluate_verification(*data, false_match_rates=RATES)
    assert (blocks.thresholds, blocks.true_match_rates) == (whole.thresholds, whole.true_match_rates)
    np.testing.assert_array_equal(blocks.roc, whole.roc)


def test_a_camera_s_own_pairs_count_only_when_kept() -> None:
    scores, where = [[0.9, 0.8, 0.1]], ([1], [1, 1, 2], [0], [0, 1, 1])
    assert evaluate_verification(scores, *where).matches == 1
    assert evaluate_verification(scores, *where, same_camera="keep").matches == 2


def test_data_without_any_pair_of_one_person_is_refused() -> None:
    with pytest.raises(ValueError, match="must exist, got 0 and 1"):
        evaluate_verification([[0.5]], [1], [2], [0], [1])


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_a_rate_outside_0_to_1_is_refused(rate: float) -> None:
    with pytest.raises(ValueError, match="false_match_rates must be in"):
        evaluate_verification(*scored_sightings(1), false_match_rates=[rate])
