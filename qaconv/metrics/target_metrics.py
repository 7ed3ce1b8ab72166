"""Measure the rankings of a target and write its files.

Next to metrics/<target>.json are the folders cmc, roc, reliability, stated, camera_pairs (CSV) and queries (Parquet),
each with one file for each target: DVC plots every curve of a folder. Q measured queries, G measured gallery images.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from qaconv.errors import InputError
from qaconv.files import replacing_file
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
from qaconv.metrics.marked import MarkedAnswers, measure_marked
from qaconv.metrics.metrics_file import (
    Difference,
    MarkedFigures,
    MethodMetrics,
    OperatingPoint,
    RankingFigures,
    Reranking,
    SplitFigures,
    TargetMetrics,
    VerificationFigures,
)
from qaconv.metrics.rankings import (
    DIRECT,
    LIFTED,
    Ranking,
    average_precision_column,
    cmc_column,
    first_rank_column,
    is_lifted,
)
from qaconv.metrics.sightings import Sightings
from qaconv.metrics.target_sightings import EvaluatedSightings
from qaconv.paths import METRICS
from qaconv.runtime.tracks import first_sightings, score_tracks
from qaconv.tables import BLOCK_SCORES, ComputedTable, Rows, Table, as_scores, convert
from qaconv.tlift import TLiftProfile

log = logging.getLogger(__name__)

CMC_RANKS = 50  # in the plot
TINY = 1e-300  # smallest odds whose logarithm is averaged over a track
ROC_RATES = np.logspace(-5, 0, 51)  # in the plot


def scores_by_ranking(
    rankings: Iterable[Ranking],
    logits: Table,
    reranked: Table,
    profile: TLiftProfile,
    sightings: EvaluatedSightings,
) -> Iterator[tuple[str, Table]]:
    """Yield the key and the scores [Q, G] of each ranking.

    Args:
        rankings: to compute.
        logits: [Q, G] of direct matching.
        reranked: [Q, G] scores of the re-ranker.
        profile: lifts; it returns the scores unchanged where times are not used.
        sightings: [Q] and [G].
    """
    for ranking in rankings:
        if not ranking.lifted:
            yield ranking.key, reranked if ranking.reranked else logits
            continue
        yield (
            ranking.key,
            profile.lifted(
                reranked if ranking.reranked else as_scores(logits),
                *sightings.places,
                ranking="reranked" if ranking.reranked else "direct",
            ),
        )


@dataclass(frozen=True)
class Measures:
    """Metrics of one method on a target; all but `rankings` are of direct matching."""

    rankings: Mapping[str, RankingMetrics]  # by the ranking's key
    verification: VerificationMetrics
    camera_pairs: pd.DataFrame
    reliability: Reliability | None  # None where no people were held out to calibrate on
    marked: MarkedAnswers | None = None  # of the lifted ranking; None where the profile states no probabilities
    tracks: Mapping[str, RankingMetrics] = field(default_factory=dict)  # of whole tracks; empty without tracks
    reranking: Reranking | None = None
    splits: SplitFigures | None = None  # of random halves of the people; None where the dataset asks for none


def measure(
    scores: Iterable[tuple[str, Table]],
    sightings: EvaluatedSightings,
    calibration: Calibration | None,
    profile: TLiftProfile | None = None,
) -> Measures:
    """Measure scores by the ranking's key, some rows of a table at a time.

    Args:
        scores: [Q, G]; those of `direct` are logits.
        sightings: [Q] and [G].
        calibration: of logits, at even odds.
        profile: states the probabilities of the lifted ranking. Default: they are not measured.

    Raises:
        InputError: no query has a true match.
    """
    identities, same_camera = sightings.identities, sightings.same_camera
    rankings: dict[str, RankingMetrics] = {}
    tracks: dict[str, RankingMetrics] = {}
    direct: Table | None = None
    marked: MarkedAnswers | None = None
    try:
        for key, table in scores:
            rankings[key] = evaluate_ranking(table, *identities, same_camera=same_camera)
            if sightings.has_tracks:
                tracks[key] = _evaluate_tracks(convert(table, _log, np.float64) if is_lifted(key) else table, sightings)
            if key == DIRECT.key:
                direct = table
            elif key == LIFTED and direct is not None:
                marked = _measure_marked(direct, table, sightings, profile)
        assert direct is not None
        pairs = Sightings(direct, *identities).pairs(same_camera)
        return Measures(
            rankings,
            evaluate_verification(direct, *identities, same_camera=same_camera),
            evaluate_camera_pairs(direct, *identities),
            measure_reliability(calibration, pairs) if calibration else None,
            marked,
            tracks,
        )
    except ValueError as error:
        raise InputError(f"{sightings.folder} cannot be evaluated: {error}") from error


def _log(rows: NDArray[Any]) -> NDArray[np.float64]:
    return np.log(np.maximum(rows.astype(np.float64), TINY))


def _evaluate_tracks(scores: Table, sightings: EvaluatedSightings) -> RankingMetrics:
    """Rank the tracks of the gallery for each track of the queries, by scores on a scale that can be averaged."""
    query = sightings.query.iloc[first_sightings(sightings.query_tracks)]
    gallery = sightings.gallery.iloc[first_sightings(sightings.gallery_tracks)]
    by_track = np.argsort(sightings.query_tracks, kind="stable")
    first = np.searchsorted(sightings.query_tracks[by_track], np.arange(len(query) + 1))
    at_once = max(1, BLOCK_SCORES * len(query) // (scores.shape[0] * scores.shape[1]))  # tracks, of average length

    def read(rows: Rows) -> NDArray[np.float64]:
        tracks = np.arange(len(query))[rows]
        blocks = []
        for start in range(0, len(tracks), at_once):
            some = tracks[start : start + at_once]
            of_some = np.sort(by_track[first[some[0]] : first[some[-1] + 1]])
            blocks.append(score_tracks(scores[of_some], sightings.query_tracks[of_some], sightings.gallery_tracks))
        return np.concatenate(blocks)

    table = ComputedTable((len(query), len(gallery)), np.dtype(np.float64), read)
    identities = query["pid"], gallery["pid"], query["camid"], gallery["camid"]
    return evaluate_ranking(table, *identities, same_camera=sightings.same_camera)


def _measure_marked(
    logits: Table,
    lifted: Table,
    sightings: EvaluatedSightings,
    profile: TLiftProfile | None,
) -> MarkedAnswers | None:
    if profile is None or profile.match_odds is None:
        return None
    stated = profile.stated(as_scores(logits), *sightings.places)
    threshold, same_camera = profile.match_odds.threshold, sightings.same_camera
    return measure_marked(lifted, stated, threshold, *sightings.identities, same_camera=same_camera)


def write_measures(target: str, measures: Mapping[str, Measures], query: pd.DataFrame, *, seed: int) -> None:
    """Write the files of a target.

    Args:
        target: name of the files.
        measures: by method; the first is compared with each of the others.
        query: [Q] rows with image, pid and camid.
        seed: of the bootstrap that the intervals come from.
    """
    for method, metrics in measures.items():
        direct = metrics.rankings[DIRECT.key]
        mean = mean_with_interval(direct.average_precisions, seed=seed)
        percents = [100 * value for value in (direct.cmc[0], mean.value, mean.low, mean.high)]
        log.info("%s, %s: rank-1 %.1f, mAP %.1f (%.1f to %.1f)", target, method, *percents)
        if splits := metrics.splits:
            percents = [
                100 * value for value in (splits.rank1, splits.rank1_deviation, splits.mAP, splits.mAP_deviation)
            ]
            log.info("  %d random halves: rank-1 %.1f +- %.1f, mAP %.1f +- %.1f", splits.count, *percents)
        if metrics.tracks:
            tracks = metrics.tracks[DIRECT.key]
            percents = [100 * tracks.cmc[0], 100 * tracks.mean_average_precision]
            log.info("  %d whole tracks: rank-1 %.1f, mAP %.1f", tracks.queries, *percents)
        if metrics.marked and metrics.marked.precision is not None:
            percents = [100 * metrics.marked.precision, 100 * metrics.marked.recall]
            message = "  of %d answers marked as matches %.1f %% are right; they are %.1f %% of the true ones"
            log.info(message, metrics.marked.marked, *percents)
    _target_metrics(measures, seed).save(METRICS / f"{target}.json")
    tables = {
        "cmc": _cmc(measures),
        "roc": _joined({method: _roc(metrics.verification) for method, metrics in measures.items()}),
        "camera_pairs": _joined({method: metrics.camera_pairs for method, metrics in measures.items()}),
        "stated": _joined({method: metrics.marked.table for method, metrics in measures.items() if metrics.marked}),
        "reliability": _joined(
            {method: metrics.reliability.table for method, metrics in measures.items() if metrics.reliability}
        ),
    }
    write_tables(target, tables, _queries(measures, query))


def write_tables(target: str, tables: Mapping[str, pd.DataFrame], queries: pd.DataFrame) -> None:
    """Write the tables next to metrics/<target>.json.

    Args:
        target: name of the files.
        tables: by folder.
        queries: the table of the folder queries.
    """
    for name, table in tables.items():
        with replacing_file(METRICS / name / f"{target}.csv") as path:
            table.to_csv(path, index=False, lineterminator="\n", float_format="%.6g")
    with replacing_file(METRICS / "queries" / f"{target}.parquet") as path:
        queries.to_parquet(path, index=False)


def _target_metrics(measures: Mapping[str, Measures], seed: int) -> TargetMetrics:
    first, *others = measures
    rankings = measures[first].rankings
    differences = {}
    for other in others:
        differences[first, other] = {
            key: _difference(ranking, measures[other].rankings[key], seed) for key, ranking in rankings.items()
        }
    methods = {
        method: MethodMetrics(
            {key: _ranking_figures(ranking, seed) for key, ranking in metrics.rankings.items()},
            _verification_figures(metrics.verification),
            metrics.reliability.error if metrics.reliability else None,
            _marked_figures(metrics.marked) if metrics.marked else None,
            {key: _ranking_figures(ranking, seed) for key, ranking in metrics.tracks.items()},
            metrics.reranking,
            metrics.splits,
        )
        for method, metrics in measures.items()
    }
    direct = rankings[DIRECT.key]
    return TargetMetrics(methods, differences, direct.queries, len(direct.cmc))


def _ranking_figures(metrics: RankingMetrics, seed: int) -> RankingFigures:
    is_first = np.where(np.isnan(metrics.first_ranks), np.nan, metrics.first_ranks == 1)
    shares = {f"rank{k}": float(metrics.cmc[min(k, len(metrics.cmc)) - 1]) for k in (5, 10, 20)}
    return RankingFigures(
        **shares,
        **_with_interval("rank1", mean_with_interval(is_first, seed=seed)),
        **_with_interval("mAP", mean_with_interval(metrics.average_precisions, seed=seed)),
        mINP=metrics.mean_inverse_negative_penalty,
    )


def _difference(first: RankingMetrics, second: RankingMetrics, seed: int) -> Difference:
    estimate = paired_difference(first.average_precisions, second.average_precisions, seed=seed)
    return Difference(**_with_interval("mAP", estimate))


def _with_interval(name: str, estimate: Estimate) -> dict[str, float]:
    return {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}


def _verification_figures(metrics: VerificationMetrics) -> VerificationFigures:
    rows = zip(metrics.false_match_rates, metrics.true_match_rates, metrics.thresholds, strict=True)
    points = tuple(
        OperatingPoint(false_match_rate=rate, true_match_rate=right, threshold=threshold)
        for rate, right, threshold in rows
    )
    return VerificationFigures(matches=metrics.matches, others=metrics.others, points=points)


def _marked_figures(marked: MarkedAnswers) -> MarkedFigures:
    return MarkedFigures(
        threshold=marked.threshold, answers=marked.marked, precision=marked.precision, recall=marked.recall
    )


def _cmc(measures: Mapping[str, Measures]) -> pd.DataFrame:
    """One row for each rank, one column for each method and ranking."""
    columns = {
        cmc_column(method, key): ranking.cmc[:CMC_RANKS]
        for method, metrics in measures.items()
        for key, ranking in metrics.rankings.items()
    }
    table = pd.DataFrame(columns)
    table.insert(0, "rank", np.arange(1, len(table) + 1))
    return table


def _roc(metrics: VerificationMetrics) -> pd.DataFrame:
    """The best true match rate that keeps each false match rate of ROC_RATES."""
    false, true = metrics.roc
    positions = false.searchsorted(ROC_RATES, side="right")
    return pd.DataFrame({"false_match_rate": ROC_RATES, "true_match_rate": np.concatenate([[0.0], true])[positions]})


def _joined(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """The tables of all methods below each other, with the method as first column; an empty one without any."""
    rows = [table.assign(method=method) for method, table in tables.items()]
    table = pd.concat(rows, ignore_index=True) if rows else pd.DataFrame(columns=["method"])
    return table[["method", *table.columns.drop("method")]]


def _queries(measures: Mapping[str, Measures], query: pd.DataFrame) -> pd.DataFrame:
    """Average precision and first rank of each query by method and ranking: what a later run is paired with."""
    columns = {}
    for method, metrics in measures.items():
        for key, ranking in metrics.rankings.items():
            columns[average_precision_column(method, key)] = ranking.average_precisions
            columns[first_rank_column(method, key)] = ranking.first_ranks
    return pd.concat([query[["image", "pid", "camid"]].reset_index(drop=True), pd.DataFrame(columns)], axis=1)
