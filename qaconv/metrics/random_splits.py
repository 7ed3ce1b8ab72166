"""Measure direct matching on random halves of a target's people, as figures of VIPeR and PRID are printed.

Half of the people train and the other half is tested, ten times (Gray and Tao, ECCV 2008). Here training saw none of
them, so that only the halves that are tested are drawn.
"""

import numpy as np
from numpy.typing import NDArray

from qaconv.metrics.metrics_file import SplitFigures
from qaconv.metrics.ranking import RankingMetrics, evaluate_ranking
from qaconv.metrics.target_sightings import EvaluatedSightings
from qaconv.tables import Table, choose


def measure_splits(logits: Table, sightings: EvaluatedSightings, count: int, seed: int) -> list[RankingMetrics]:
    """Measure `count` random halves of the people that queries show, one by one. Nothing is matched again.

    A half's gallery has the images of its people, and of all people that no query shows, such as PRID's 549 others. The
    same seed draws the same halves for each method.

    Args:
        logits: [Q, G].
        sightings: [Q] and [G].
        count: number of halves, from 1.
        seed: of the draws.

    Raises:
        ValueError: a half has no query with a true match.
    """
    query_pids, gallery_pids, query_camids, gallery_camids = (ids.to_numpy() for ids in sightings.identities)
    people = np.unique(query_pids)
    always = ~np.isin(gallery_pids, people)
    rng = np.random.default_rng(seed)
    metrics = []
    for _ in range(count):
        half = rng.permutation(people)[: (len(people) + 1) // 2]
        rows, columns = np.isin(query_pids, half), always | np.isin(gallery_pids, half)
        identities = query_pids[rows], gallery_pids[columns], query_camids[rows], gallery_camids[columns]
        scores = choose(logits, rows, columns)
        metrics.append(evaluate_ranking(scores, *identities, same_camera=sightings.same_camera))
    return metrics


def split_figures(splits: list[RankingMetrics]) -> SplitFigures:
    """Return means and standard deviations over halves; the deviation over one half is 0.

    Args:
        splits: metrics of each half, from `measure_splits`.
    """
    shares = {k: np.array([metrics.cmc[min(k, len(metrics.cmc)) - 1] for metrics in splits]) for k in (1, 5, 10, 20)}
    precisions = np.array([metrics.mean_average_precision for metrics in splits])
    return SplitFigures(
        count=len(splits),
        rank1_deviation=_deviation(shares[1]),
        mAP=float(precisions.mean()),
        mAP_deviation=_deviation(precisions),
        **{f"rank{k}": float(values.mean()) for k, values in shares.items()},
    )


def _deviation(values: NDArray[np.float64]) -> float:
    return float(values.std(ddof=1)) if len(values) > 1 else 0.0
