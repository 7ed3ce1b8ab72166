"""Measure each method's rankings of a target, or estimate its matches where the target has no labels."""

from dataclasses import replace

import pandas as pd

from qaconv.config import Params
from qaconv.data.fingerprints import refuse_trained_images
from qaconv.data.manifest import Manifest
from qaconv.data.reviewed_pairs import load_reviewed_pairs
from qaconv.files import read_file
from qaconv.matching.results import Matches
from qaconv.metrics import Calibration
from qaconv.metrics.metrics_file import Reranking
from qaconv.metrics.random_splits import measure_splits, split_figures
from qaconv.metrics.rankings import list_rankings
from qaconv.metrics.reviewed import estimate_reviewed
from qaconv.metrics.target_estimates import estimate, write_estimates
from qaconv.metrics.target_metrics import measure, scores_by_ranking, write_measures
from qaconv.metrics.target_sightings import EvaluatedSightings
from qaconv.models.description import read_trained
from qaconv.paths import MODELS, PREPARED, SOURCES, TLIFT
from qaconv.tlift import TLiftProfile


def evaluate(params: Params, target: str) -> None:
    """Write metrics/<target>.json and the tables next to it: each method with every ranking, or estimates.

    Raises:
        InputError: query or gallery is empty, no query of a target with labels has a true match, a profile is of
            another model, an image of the target was trained on, or a file of answers cannot be used.
    """
    rankings = list_rankings(params.evaluate.rerank)
    manifest = Manifest.load(PREPARED / target)
    sightings = EvaluatedSightings(manifest.frame, PREPARED / target)
    measures = {}
    estimates = {}
    trained = {method: read_trained(MODELS / method) for method in params.method_names}
    if any("digests" in made["data"] for made in trained.values()):  # trained here, not imported
        for table in ("train", "holdout"):
            refuse_trained_images(read_file(pd.read_parquet, SOURCES / f"{table}.parquet"), target)
    reviewed = load_reviewed_pairs(target, params.targets)
    for method in params.method_names:
        matches = Matches.load(target, method)
        profile = TLiftProfile.load(TLIFT / target / f"{method}.json", model=matches.model)
        logits = sightings.logits(matches.logits)
        if not manifest.is_labelled:
            estimated = estimate(logits, sightings, profile, seed=params.seed)
            if reviewed is not None:
                near = matches.neighbours, matches.neighbour_logits
                answers = estimate_reviewed(reviewed, manifest.sightings(), *near, profile)
                estimated = estimated.model_copy(update={"reviewed": answers})
            estimates[method] = estimated
            continue
        fitted = trained[method]["calibration"]
        scores = scores_by_ranking(rankings, logits, matches.reranked_measured, profile, sightings)
        measured = measure(scores, sightings, Calibration(**fitted) if fitted else None, profile)
        if count := manifest.random_splits:
            splits = measure_splits(logits, sightings, count, params.seed)
            measured = replace(measured, splits=split_figures(splits))
        measures[method] = replace(measured, reranking=Reranking.of_choice(matches.choice))
    if manifest.is_labelled:
        write_measures(target, measures, sightings.query, seed=params.seed)
    else:
        write_estimates(target, estimates, sightings, rankings)
