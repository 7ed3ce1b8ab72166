from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from qaconv.metrics import evaluate_camera_pairs, evaluate_ranking

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def plain_protocol(
    scores: Floats, query_pids: Ints, gallery_pids: Ints, query_camids: Ints, gallery_camids: Ints
) -> tuple[Floats, float, float, int]:
    """Market-1501's protocol, one query and one rank at a time; scores without ties."""
    cmc, precisions, penalties = np.zeros(len(gallery_pids)), [], []
    for query in range(len(query_pids)):
        hits = []
        for image in np.argsort(-scores[query]):
            same = gallery_pids[image] == query_pids[query]
            if gallery_pids[image] in (-1, -2) or (same and gallery_camids[image] == query_camids[query]):
                continue
            hits.append(same)
        ranks = [rank + 1 for rank, hit in enumerate(hits) if hit]
        if ranks:
            cmc[ranks[0] - 1 :] += 1
            precisions.append(np.mean([(nth + 1) / rank for nth, rank in enumerate(ranks)]))
            penalties.append(len(ranks) / ranks[-1])
    usable = int((gallery_pids >= 0).sum())
    return cmc[:usable] / len(precisions), float(np.mean(precisions)), float(np.mean(penalties)), len(precisions)


def sightings(seed: int, queries: int = 23, galleries: int = 61) -> tuple[Floats, Ints, Ints, Ints, Ints]:
    rng = np.random.default_rng(seed)
    return (
        rng.permutation(queries * galleries).reshape(queries, galleries) / (queries * galleries),
        rng.choice([-2, *range(1, 9)], queries),
        rng.integers(-2, 9, galleries),
        rng.integers(0, 4, queries),
        rng.integers(0, 4, galleries),
    )


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_every_figure_equals_the_plain_protocol(seed: int) -> None:
    data = sightings(seed)
    metrics = evaluate_ranking(*data)
    cmc, mean_ap, mean_inp, queries = plain_protocol(*data)
    np.testing.assert_allclose(metrics.cmc, cmc)
    assert metrics.mean_average_precision == pytest.approx(mean_ap)
    assert metrics.mean_inverse_negative_penalty == pytest.approx(mean_inp)
    assert metrics.queries == queries


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_order_of_the_gallery_changes_nothing_even_among_equal_scores(seed: int) -> None:
    scores, query_pids, gallery_pids, query_camids, gallery_camids = sightings(seed)
    scores = np.round(scores, 1)
    order = np.random.default_rng(seed).permutation(len(gallery_pids))
    one = evaluate_ranking(scores, query_pids, gallery_pids, query_camids, gallery_camids)
    other = evaluate_ranking(scores[:, order], query_pids, gallery_pids[order], query_camids, gallery_camids[order])
    np.testing.assert_array_equal(one.cmc, other.cmc)
    np.testing.assert_array_equal(one.average_precisions, other.average_precisions)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_scores_that_rise_together_are_ranked_alike(seed: int) -> None:
    scores, *where = sightings(seed)
    one, other = evaluate_ranking(scores, *where), evaluate_ranking(np.exp(3 * scores) - 7, *where)
    np.testing.assert_array_equal(one.average_precisions, other.average_precisions)
    np.testing.assert_array_equal(one.first_ranks, other.first_ranks)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_the_two_ways_with_ties_are_bounds_for_every_order(seed: int) -> None:
    scores, *where = sightings(seed)
    tied = np.round(scores, 1)
    broken = tied + 1e-6 * np.random.default_rng(seed).permutation(scores.size).reshape(scores.shape) / scores.size
    low = evaluate_ranking(tied, *where, ties="wrong_first").average_precisions
    some = evaluate_ranking(broken, *where, ties="wrong_first").average_precisions
    high = evaluate_ranking(tied, *where, ties="right_first").average_precisions
    counted = ~np.isnan(some)
    assert (low <= some + 1e-12)[counted].all() and (some <= high + 1e-12)[counted].all()
    assert (low < high)[counted].any()


def test_more_queries_than_a_block_are_ranked_like_each_alone() -> None:
    scores, query_pids, gallery_pids, query_camids, gallery_camids = sightings(5, queries=600, galleries=40)
    whole = evaluate_ranking(scores, query_pids, gallery_pids, query_camids, gallery_camids)
    _, mean_ap, _, queries = plain_protocol(scores, query_pids, gallery_pids, query_camids, gallery_camids)
    assert whole.mean_average_precision == pytest.approx(mean_ap)
    assert whole.queries == queries == int(np.isfinite(whole.average_precisions).sum())


def test_the_first_rank_of_each_query_makes_the_cmc() -> None:
    metrics = evaluate_ranking(*sightings(7))
    for rank, share in enumerate(metrics.cmc, start=1):
        assert share == pytest.approx(
            np.nanmean(np.where(np.isnan(metrics.first_ranks), np.nan, metrics.first_ranks <= rank))
        )


@pytest.mark.parametrize(("without_match", "queries", "rank1"), [("skip", 1, 1.0), ("zero", 2, 0.5)])
def test_a_query_without_a_true_match_is_skipped_or_counted_as_never_found(
    without_match: Any, queries: int, rank1: float
) -> None:
    metrics = evaluate_ranking([[0.9, 0.1], [0.9, 0.1]], [1, 5], [1, 2], [0, 0], [1, 1], without_match=without_match)
    assert (metrics.queries, metrics.cmc[0], metrics.mean_average_precision) == (queries, rank1, rank1)
    assert metrics.cmc[-1] == rank1


def test_a_query_without_a_true_match_is_refused_where_asked_for() -> None:
    with pytest.raises(ValueError, match="got 1 of 2 without one"):
        evaluate_ranking([[0.9, 0.1], [0.9, 0.1]], [1, 5], [1, 2], [0, 0], [1, 1], without_match="refuse")


def test_one_camera_alone_is_ranked_when_its_images_are_kept() -> None:
    scores, where = [[0.1, 0.9]], ([1], [1, 2], [0], [0, 0])
    with pytest.raises(ValueError, match="same_camera='keep'"):
        evaluate_ranking(scores, *where)
    assert evaluate_ranking(scores, *where, same_camera="keep").mean_average_precision == 0.5


def test_a_camera_pair_is_ranked_as_if_there_were_no_other_cameras() -> None:
    scores, query_pids, gallery_pids, query_camids, gallery_camids = sightings(3, queries=40)
    pairs = evaluate_camera_pairs(scores, query_pids, gallery_pids, query_camids, gallery_camids)
    assert len(pairs) == 12 and (pairs["query_camid"] != pairs["gallery_camid"]).all()
    row = pairs.iloc[4]
    mine, there = query_camids == row["query_camid"], gallery_camids == row["gallery_camid"]
    cmc, mean_ap, _, queries = plain_protocol(
        scores[np.ix_(mine, there)], query_pids[mine], gallery_pids[there], query_camids[mine], gallery_camids[there]
    )
    assert (row["queries"], row["rank1"], row["mAP"]) == (queries, pytest.approx(cmc[0]), pytest.approx(mean_ap))


def test_the_query_camera_s_own_image_of_the_person_does_not_count() -> None:
    scores = [[0.9, 0.5, 0.1]]
    metrics = evaluate_ranking(scores, [1], [1, 2, 1], [0], [0, 1, 1])
    assert metrics.cmc.tolist() == [0, 1, 1]
    assert metrics.mean_average_precision == 0.5


def test_no_true_match_at_all_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one query must have a true match"):
        evaluate_ranking([[0.5]], [1], [2], [0], [1])


def test_a_score_that_is_no_number_is_refused() -> None:
    with pytest.raises(ValueError, match="scores must be finite numbers, got 1 of 2"):
        evaluate_ranking([[np.nan, 1]], [1], [1, 2], [0], [1, 1])


@pytest.mark.parametrize("key", ["same_camera", "without_match", "ties"])
def test_unknown_choice_is_refused_with_the_allowed_ones(key: str) -> None:
    choice: dict[str, Any] = {key: "kep"}
    with pytest.raises(ValueError, match=f"unknown {key} 'kep', allowed: "):
        evaluate_ranking([[0.9]], [1], [1], [0], [1], **choice)


@pytest.mark.parametrize(
    ("scores", "pids", "message"),
    [
        ([["a"]], [1], "scores must be real numbers"),
        ([[1j]], [1], "scores must be real numbers"),
        ([[0.9]], [[1]], r"query_pids must be a list with an id for each image, got shape \(1, 1\)"),
        ([[0.9]], 1, r"query_pids must be a list .* got shape \(\)"),
        ([[0.9]], [np.nan], "query_pids must be known, got 1 of 1 that are NaN"),
    ],
)
def test_scores_and_ids_of_another_kind_are_refused_by_name(scores: Any, pids: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        evaluate_ranking(scores, pids, [1], [0], [1])


@pytest.mark.parametrize(
    ("scores", "query_pids", "gallery_pids", "counts"),
    [
        (np.zeros((1, 0)), [1], [], "1 queries and 0 gallery images"),
        ([[0.5]], [1], [-1], "1 queries and 0 gallery images"),
        (np.zeros((0, 1)), [], [1], "0 queries and 1 gallery images"),
    ],
)
def test_no_query_or_gallery_is_refused_by_the_counts(
    scores: Any, query_pids: list[int], gallery_pids: list[int], counts: str
) -> None:
    with pytest.raises(ValueError, match=f"queries and gallery must have images of people, got {counts}"):
        evaluate_ranking(scores, query_pids, gallery_pids, [0] * len(query_pids), [1] * len(gallery_pids))
