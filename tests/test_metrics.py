import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qaconv.metrics import evaluate_ranking


def plain_protocol(scores, query_pids, gallery_pids, query_camids, gallery_camids):
    """Market-1501's protocol, one query and one rank at a time; scores without ties."""
    cmc, precisions, penalties = np.zeros(len(gallery_pids)), [], []
    for query in range(len(query_pids)):
        hits = []
        for image in np.argsort(-scores[query]):
            same = gallery_pids[image] == query_pids[query]
            if gallery_pids[image] == -1 or (same and gallery_camids[image] == query_camids[query]):
                continue
            hits.append(same)
        ranks = [rank + 1 for rank, hit in enumerate(hits) if hit]
        if ranks:
            cmc[ranks[0] - 1 :] += 1
            precisions.append(np.mean([(nth + 1) / rank for nth, rank in enumerate(ranks)]))
            penalties.append(len(ranks) / ranks[-1])
    usable = int((gallery_pids != -1).sum())
    return cmc[:usable] / len(precisions), np.mean(precisions), np.mean(penalties), len(precisions)


def sightings(seed, queries=23, galleries=61):
    rng = np.random.default_rng(seed)
    return (
        rng.permutation(queries * galleries).reshape(queries, galleries) / (queries * galleries),
        rng.integers(1, 9, queries),
        rng.integers(-1, 9, galleries),
        rng.integers(0, 4, queries),
        rng.integers(0, 4, galleries),
    )


@given(st.integers(0, 2**32 - 1))
def test_every_figure_equals_the_plain_protocol(seed):
    data = sightings(seed)
    metrics = evaluate_ranking(*data)
    cmc, mean_ap, mean_inp, queries = plain_protocol(*data)
    np.testing.assert_allclose(metrics.cmc, cmc)
    assert metrics.mean_average_precision == pytest.approx(mean_ap)
    assert metrics.mean_inverse_negative_penalty == pytest.approx(mean_inp)
    assert metrics.queries == queries


@given(st.integers(0, 2**32 - 1))
def test_order_of_the_gallery_changes_nothing_even_among_equal_scores(seed):
    scores, query_pids, gallery_pids, query_camids, gallery_camids = sightings(seed)
    scores = np.round(scores, 1)
    order = np.random.default_rng(seed).permutation(len(gallery_pids))
    one = evaluate_ranking(scores, query_pids, gallery_pids, query_camids, gallery_camids)
    other = evaluate_ranking(scores[:, order], query_pids, gallery_pids[order], query_camids, gallery_camids[order])
    np.testing.assert_array_equal(one.cmc, other.cmc)
    np.testing.assert_array_equal(one.average_precisions, other.average_precisions)


def test_more_queries_than_a_block_are_ranked_like_each_alone():
    scores, query_pids, gallery_pids, query_camids, gallery_camids = sightings(5, queries=600, galleries=40)
    whole = evaluate_ranking(scores, query_pids, gallery_pids, query_camids, gallery_camids)
    _, mean_ap, _, queries = plain_protocol(scores, query_pids, gallery_pids, query_camids, gallery_camids)
    assert whole.mean_average_precision == pytest.approx(mean_ap)
    assert whole.queries == queries == int(np.isfinite(whole.average_precisions).sum())


def test_the_query_camera_s_own_image_of_the_person_does_not_count():
    scores = [[0.9, 0.5, 0.1]]
    metrics = evaluate_ranking(scores, [1], [1, 2, 1], [0], [0, 1, 1])
    assert metrics.cmc.tolist() == [0, 1, 1]
    assert metrics.mean_average_precision == 0.5


def test_no_true_match_at_all_is_refused():
    with pytest.raises(ValueError, match="no query has a true match"):
        evaluate_ranking([[0.5]], [1], [2], [0], [1])


def test_a_score_that_is_no_number_is_refused():
    with pytest.raises(ValueError, match="1 of 2 scores are not finite"):
        evaluate_ranking([[np.nan, 1]], [1], [1, 2], [0], [1, 1])
