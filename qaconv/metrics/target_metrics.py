"""Each method's rankings of a target go in; its figures, curves and tables come out, with what chance did to them.

Beside metrics/<target>.json lie the folders cmc, roc, reliability, camera_pairs (CSV) and queries (Parquet), with a
file for each target: of a folder DVC plots every curve.
"""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from qaconv.files import replacing_file, write_json
from qaconv.metrics import (
    Calibration,
    Estimate,
    RankingMetrics,
    Reliability,
    VerificationMetrics,
    evaluate_camera_pairs,
    evaluate_ranking,
    evaluate_verification,
    mean_with_interval,
    measure_reliability,
    paired_difference,
)
from qaconv.metrics.sightings import SameCamera, Sightings
from qaconv.paths import METRICS

log = logging.getLogger(__name__)

CMC_RANKS = 50  # plotted
ROC_RATES = np.logspace(-5, 0, 51)  # plotted


@dataclass(frozen=True)
class Measures:
    """How one method does on a target; all but `rankings` of direct matching."""

    rankings: Mapping[str, RankingMetrics]
    verification: VerificationMetrics
    camera_pairs: pd.DataFrame
    reliability: Reliability | None  # None where no people were held out to calibrate on


def measure(
    rankings: Iterable[tuple[str, NDArray]], query: pd.DataFrame, gallery: pd.DataFrame, calibration: Calibration | None
) -> Measures:
    """Measures scores [Q, G] by kind of ranking, one table at a time; "direct" are logits.

    A target with one camera is ranked with that camera's own images, as nothing else is left.

    Raises:
        ValueError: no query has a true match.
    """
    who = (query["pid"], gallery["pid"], query["camid"], gallery["camid"])
    same_camera: SameCamera = "drop" if len({*query["camid"], *gallery["camid"]}) > 1 else "keep"
    found, direct = {}, None
    for name, scores in rankings:
        found[name] = evaluate_ranking(scores, *who, same_camera=same_camera)
        if name == "direct":
            direct = scores
    assert direct is not None
    pairs = Sightings(direct, *who).pairs(same_camera)
    return Measures(
        found,
        evaluate_verification(direct, *who, same_camera=same_camera),
        evaluate_camera_pairs(direct, *who),
        measure_reliability(calibration, pairs) if calibration else None,
    )


def write_measures(target: str, measures: Mapping[str, Measures], query: pd.DataFrame, *, seed: int) -> None:
    """Writes a target's files.

    Args:
        target: their name.
        measures: by method; the first is compared with each of the others.
        query: [Q] rows with image, pid and camid.
        seed: of the draws of queries that the intervals come from.
    """
    for method, of in measures.items():
        best = mean_with_interval(of.rankings["direct"].average_precisions, seed=seed)
        log.info(
            "%s, %s: rank-1 %.1f, mAP %.1f (%.1f to %.1f)",
            target,
            method,
            100 * of.rankings["direct"].cmc[0],
            *(100 * value for value in (best.value, best.low, best.high)),
        )
    write_json(METRICS / f"{target}.json", _figures(measures, seed))
    tables = {
        "cmc": _cmc(measures),
        "roc": _joined({method: _roc(of.verification) for method, of in measures.items()}),
        "camera_pairs": _joined({method: of.camera_pairs for method, of in measures.items()}),
        "reliability": _joined({m: of.reliability.table for m, of in measures.items() if of.reliability}),
    }
    for name, table in tables.items():
        with replacing_file(METRICS / name / f"{target}.csv") as beside:
            table.to_csv(beside, index=False, lineterminator="\n", float_format="%.6g")
    with replacing_file(METRICS / "queries" / f"{target}.parquet") as beside:
        _queries(measures, query).to_parquet(beside, index=False)


def _figures(measures: Mapping[str, Measures], seed: int) -> dict[str, Any]:
    """Every figure in [0, 1] but counts and thresholds; `_low` and `_high` end the interval of 95 per cent."""
    first, *others = measures
    figures: dict[str, Any] = {
        method: {name: _ranking(ranking, seed) for name, ranking in of.rankings.items()}
        | {"verification": _verification(of.verification)}
        | ({"calibration_error": of.reliability.error} if of.reliability else {})
        for method, of in measures.items()
    }
    for other in others:
        figures[f"{first}_minus_{other}"] = {
            name: _with_interval(
                "mAP",
                paired_difference(
                    ranking.average_precisions, measures[other].rankings[name].average_precisions, seed=seed
                ),
            )
            for name, ranking in measures[first].rankings.items()
        }
    direct = measures[first].rankings["direct"]
    return {**figures, "queries": direct.queries, "gallery": len(direct.cmc)}


def _ranking(metrics: RankingMetrics, seed: int) -> dict[str, float]:
    ranks = {f"rank{k}": float(metrics.cmc[min(k, len(metrics.cmc)) - 1]) for k in (1, 5, 10, 20)}
    found_first = np.where(np.isnan(metrics.first_ranks), np.nan, metrics.first_ranks == 1)
    return {
        **ranks,
        **_with_interval("rank1", mean_with_interval(found_first, seed=seed)),
        **_with_interval("mAP", mean_with_interval(metrics.average_precisions, seed=seed)),
        "mINP": metrics.mean_inverse_negative_penalty,
    }


def _with_interval(name: str, estimate: Estimate) -> dict[str, float]:
    return {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}


def _verification(metrics: VerificationMetrics) -> dict[str, float]:
    rows = zip(metrics.false_match_rates, metrics.true_match_rates, metrics.thresholds, strict=True)
    figures: dict[str, float] = {"matches": metrics.matches, "others": metrics.others}
    for rate, right, threshold in rows:
        figures |= {f"true_match_rate_at_{rate:g}": right, f"threshold_at_{rate:g}": threshold}
    return figures


def _cmc(measures: Mapping[str, Measures]) -> pd.DataFrame:
    """One row a rank, one column a method and ranking."""
    columns = {
        f"{method}_{name}": ranking.cmc[:CMC_RANKS]
        for method, of in measures.items()
        for name, ranking in of.rankings.items()
    }
    table = pd.DataFrame(columns)
    table.insert(0, "rank", np.arange(1, len(table) + 1))
    return table


def _roc(metrics: VerificationMetrics) -> pd.DataFrame:
    """The true match rate at each of ROC_RATES, the best that keeps it."""
    false, true = metrics.roc
    reached = false.searchsorted(ROC_RATES, side="right")
    return pd.DataFrame({"false_match_rate": ROC_RATES, "true_match_rate": np.concatenate([[0.0], true])[reached]})


def _joined(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """The tables of all methods below each other, with the method as first column; without any, an empty one."""
    rows = [table.assign(method=method) for method, table in tables.items()]
    table = pd.concat(rows, ignore_index=True) if rows else pd.DataFrame(columns=["method"])
    return table[["method", *table.columns.drop("method")]]


def _queries(measures: Mapping[str, Measures], query: pd.DataFrame) -> pd.DataFrame:
    """Each query's average precision and first rank by method and ranking: what a later run is paired with."""
    columns = {}
    for method, of in measures.items():
        for name, ranking in of.rankings.items():
            columns[f"{method}_{name}_average_precision"] = ranking.average_precisions
            columns[f"{method}_{name}_first_rank"] = ranking.first_ranks
    return pd.concat([query[["image", "pid", "camid"]].reset_index(drop=True), pd.DataFrame(columns)], axis=1)
