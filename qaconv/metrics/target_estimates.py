"""Estimate what searches find in a target without labels, and write its files.

No pid is read. Q searches, sightings that were drawn as queries; G gallery images.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from qaconv.metrics import mean_with_interval
from qaconv.metrics.estimates_file import ExpectedMatches, MethodEstimates, TargetEstimates, TimeControl
from qaconv.metrics.marked import best_answers
from qaconv.metrics.rankings import Ranking, average_precision_column, cmc_column, first_rank_column
from qaconv.metrics.target_metrics import write_tables
from qaconv.metrics.target_sightings import EvaluatedSightings
from qaconv.paths import METRICS
from qaconv.tables import Table, as_scores
from qaconv.tlift import TLiftProfile

log = logging.getLogger(__name__)


def estimate(logits: Table, sightings: EvaluatedSightings, profile: TLiftProfile, *, seed: int) -> MethodEstimates:
    """Estimate one method's matches by the probabilities that its profile states.

    Args:
        logits: [Q, G] of direct matching.
        sightings: [Q] and [G].
        profile: of the method.
        seed: of the bootstrap that the interval comes from.
    """
    gains = profile.evidence
    times = TimeControl(
        used=profile.active,
        reason=profile.reason,
        gain_nats=gains.get("gain_nats"),
        permuted_gain_nats=max(gains["control_nats"]) if "control_nats" in gains else None,
    )
    return MethodEstimates(times=times, expected=_expected(logits, sightings, profile, seed))


def _expected(logits: Table, sightings: EvaluatedSightings, profile: TLiftProfile, seed: int) -> ExpectedMatches | None:
    if profile.match_odds is None:
        return None
    answers = [stated for _, stated in stated_answers(logits, sightings, profile)]
    threshold = profile.match_odds.threshold
    share = mean_with_interval([bool((row > threshold).any()) for row in answers], seed=seed)
    marked = np.concatenate([row[row > threshold] for row in answers])
    return ExpectedMatches(
        share_with_match=share.value,
        share_with_match_low=share.low,
        share_with_match_high=share.high,
        stated_threshold=threshold,
        marked_answers=len(marked),
        expected_matches=float(marked.sum()),
        expected_precision=float(marked.mean()) if len(marked) else None,
    )


def stated_answers(
    logits: Table, sightings: EvaluatedSightings, profile: TLiftProfile
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.float64]]]:
    """Yield the columns of each search's best answers, best first, and the probabilities that are stated for them.

    Args:
        logits: [Q, G] of direct matching.
        sightings: [Q] and [G].
        profile: with match odds.
    """
    scores = as_scores(logits)
    lifted = profile.lifted(scores, *sightings.places)
    camids = sightings.query["camid"].to_numpy(), sightings.gallery["camid"].to_numpy()
    stated = profile.stated(scores, *sightings.places)
    yield from best_answers(lifted, stated, *camids, sightings.same_camera)


def write_estimates(
    target: str, estimates: Mapping[str, MethodEstimates], sightings: EvaluatedSightings, rankings: Sequence[Ranking]
) -> None:
    """Write the files of a target; its tables have the columns of measured ones, and no rows.

    Args:
        target: name of the files.
        estimates: by method.
        sightings: [Q] and [G].
        rankings: that the tables of a target with labels show.
    """
    everything = pd.concat([sightings.query, sightings.gallery])
    for method, figures in estimates.items():
        if figures.expected:
            share = 100 * figures.expected.share_with_match
            log.info("%s, %s, estimated, no labels: %.1f %% of the searches have a match", target, method, share)
    TargetEstimates(
        methods=estimates,
        sightings=len(everything),
        cameras=int(everything["camid"].nunique()),
        sightings_with_times=int(everything["time_s"].notna().sum()),
        tracks=int(everything.loc[everything["track"] != "", "track"].nunique()),
        searches=len(sightings.query),
    ).save(METRICS / f"{target}.json")
    keys = [(method, ranking.key) for method in estimates for ranking in rankings]
    columns = {
        "cmc": ["rank", *(cmc_column(*key) for key in keys)],
        "roc": ["method", "false_match_rate", "true_match_rate"],
        "camera_pairs": ["method", "query_camid", "gallery_camid", "queries", "rank1", "mAP"],
        "stated": ["method", "probability", "share", "share_error", "answers"],
        "reliability": ["method", "probability", "share", "weight"],
    }
    figures_of_query = [name(*key) for key in keys for name in (average_precision_column, first_rank_column)]
    queries = sightings.query[["image", "pid", "camid"]].head(0)
    write_tables(
        target,
        {name: pd.DataFrame(columns=names) for name, names in columns.items()},
        queries.assign(**dict.fromkeys(figures_of_query, np.empty(0))),
    )
