"""Gather what a report shows of a target without labels: estimates, transit times and examples, none of them judged."""

import numpy as np

from qaconv.config import Params
from qaconv.data.manifest import Manifest
from qaconv.metrics.estimates_file import TargetEstimates
from qaconv.paths import PREPARED
from qaconv.report.content import EstimatedTarget, LikelyAnswer, LikelySearch
from qaconv.report.examples import SHOWN, crop
from qaconv.report.gather import TargetSightings, describe_network, lift_query, load_profile, read_transit
from qaconv.report.gather_people import gather_people
from qaconv.runtime.head import Head
from qaconv.tlift import TLiftProfile

EXAMPLES = 4


def gather_estimated(params: Params, target: str, estimates: TargetEstimates, head: Head) -> EstimatedTarget:
    """Gather estimates and examples of a target without labels.

    Args:
        params: datasets, seed and report settings.
        target: name.
        estimates: of the target.
        head: of the served network, as numbers.

    Raises:
        InputError: a file of an earlier stage is missing or cannot be read.
    """
    manifest = Manifest.load(PREPARED / target)
    sightings = TargetSightings.load(params, target, manifest, head)
    profile = load_profile(params, target, sightings)
    drawn = np.random.default_rng(params.seed).permutation(sightings.queries)[:EXAMPLES]
    return EstimatedTarget(
        **describe_network(params, target, manifest),
        people=gather_people(target, sightings.frame, sightings.matches, profile),
        reranking=sightings.matches.choice,
        tables={"transit": read_transit(params, target)},
        estimates=estimates.as_dict(),
        searches=[_search(sightings, int(row), profile) for row in drawn],
    )


def _search(sightings: TargetSightings, row: int, profile: TLiftProfile) -> LikelySearch:
    """Return a query with its best answers on other cameras, or on its own where there is no other."""
    frame, columns = sightings.frame, sightings.gallery
    query, gallery = frame.iloc[[row]], frame.iloc[columns]
    scores, lifted = lift_query(sightings, row, profile)
    places = query["camid"], query["time_s"], gallery["camid"], gallery["time_s"]
    stated = profile.probabilities(scores[None, columns], *places)
    elsewhere = (gallery["camid"] != query["camid"].iloc[0]).to_numpy()
    if not elsewhere.any():
        elsewhere[:] = True
    best = np.argsort(np.where(elsewhere, -lifted[columns], np.inf), kind="stable")[: min(SHOWN, elsewhere.sum())]
    threshold = profile.match_odds.threshold if profile.match_odds else 1.0
    answers = []
    for rank, position in enumerate(best.tolist(), start=1):
        probability = None if stated is None else float(stated[0, position])
        is_marked = probability is not None and probability > threshold
        answers.append(LikelyAnswer(crop(frame, int(columns[position])), rank, probability, is_marked))
    return LikelySearch(crop(frame, row), answers)
