"""A small project with a report: untrained networks, the site `shop` with labels, and the same as `yard` without."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd

from qaconv.adaptation.outcome import METRICS_FILE, AdaptationMetrics, Change, Figures
from qaconv.config import Params
from qaconv.data.manifest import UNLABELLED, Manifest
from qaconv.identities.clustering import Identities
from qaconv.identities.graph import Edges
from qaconv.identities.people import summarise
from qaconv.metrics.estimates_file import ReviewedPairs, TargetEstimates, load_target
from qaconv.paths import (
    ADAPTED,
    FEATURES,
    FINGERPRINTS,
    IDENTITIES,
    MATCHES,
    METRICS,
    MODELS,
    PREPARED,
    RERANKED,
    SOURCES,
    TLIFT,
)
from qaconv.release.graphs import save_with_graph
from qaconv.stages.evaluate import evaluate
from qaconv.stages.features import features
from qaconv.stages.fit_tlift import fit_tlift
from qaconv.stages.match import match
from qaconv.stages.prepare import prepare
from qaconv.stages.report import report
from qaconv.stages.rerank import rerank

HISTORY = "epoch,loss\n1,2.5\n"
CAMERAS = {0: "entrance", 1: "hall", 2: "<roof>"}
THRESHOLD = 0.5


def run_stages(params: Params) -> None:
    """Run every stage from prepare to report in the working folder, except train and identify."""
    prepare(params, "shop")
    for method, settings in params.methods.items():
        network = settings.build(0)
        trained = {
            "seed": 7,
            "method": settings.model_dump(),
            "data": {"images": 10, "people": 2, "digests": {"school": "<b>5ea1</b>"}},
            "calibration": None,
        }
        save_with_graph(network, MODELS / method, trained, {"history.csv": HISTORY})
    for table in ("train", "holdout"):
        write_sources(table)
    features(params, "shop")
    match(params, "shop")
    rerank(params, "shop")
    fit_tlift(params, "shop")
    evaluate(params, "shop")
    add_yard(params)
    evaluate(params, "yard")
    for target in params.targets:
        write_identities(target)
    for target in params.adapt.targets:
        write_adapted(target)
    report(params)


def write_adapted(target: str) -> None:
    """Write what an adaptation has changed as the stage adapt does."""
    figures = Figures(source_map=0.5, rankings=None)
    metrics = AdaptationMetrics(
        kept_round=1,
        reason="matches of people held out got no better in round 2",
        right=Change(before=0.625, after=0.875, low=0.125, high=0.375, count=17),
        before=figures,
        after=figures.model_copy(update={"source_map": 0.4375}),
    )
    path = ADAPTED / target / METRICS_FILE
    path.parent.mkdir(parents=True)
    path.write_text(metrics.model_dump_json())


def write_sources(table: str) -> None:
    """Write a table of data/sources without images."""
    SOURCES.mkdir(parents=True, exist_ok=True)
    nothing = pd.DataFrame({"path": [], "domain": [], "sha256": []}, dtype=str)
    nothing.to_parquet(SOURCES / f"{table}.parquet")


def add_yard(params: Params) -> None:
    """Add the target yard: shop without labels, with names of cameras and a profile that states probabilities."""
    shop = Manifest.load(PREPARED / "shop")
    is_train = shop.frame["split"] == "train"
    frame = shop.frame.assign(pid=shop.frame["pid"].where(is_train, UNLABELLED), domain="yard")
    Manifest(frame, shop.root, cameras=CAMERAS).save(PREPARED / "yard")
    shutil.copy(FINGERPRINTS / "shop.parquet", FINGERPRINTS / "yard.parquet")
    for folder in (FEATURES, MATCHES, RERANKED, TLIFT):
        shutil.copytree(folder / "shop", folder / "yard")
    curve = {"knots": [-1.0, 1.0], "log_odds": [-3.0, 3.0]}
    made_up = {
        "match_odds": {"calibration": curve, "threshold": THRESHOLD, "sightings": len(frame), "span_s": 600.0},
        "transit": {"centres": [None] * 3, "reach": 1.0, "log_ratio": [[0.0, 0.0]] * 3},
        "findings": [{"camid": 1, "kind": "missing", "time_s": None, "detail": "3 have no time", "done": "left out"}],
    }
    for method in params.methods:
        path = TLIFT / "yard" / f"{method}.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"target": "yard"} | made_up))


def add_answers(params: Params) -> None:
    """Add to the estimates of yard what people's answers say of the first method, as `evaluate` does."""
    path = METRICS / "yard.json"
    estimates = load_target(path, methods=params.method_names)
    assert isinstance(estimates, TargetEstimates)
    served = params.registry.method
    answered = ReviewedPairs(answered_pairs=120, precision=0.875, precision_low=0.8125, precision_high=0.9375)
    made = estimates.methods[served].model_copy(update={"reviewed": answered})
    replace(estimates, methods={**estimates.methods, served: made}).save(path)


def write_identities(target: str) -> None:
    """Write identities of a target as the stage identify does: two sightings each, the first pair the least certain."""
    sightings = Manifest.load(PREPARED / target).sightings()
    identity = 1 + np.arange(len(sightings)) // 2
    probability = np.where(identity == 1, 0.25, 0.75)
    table = sightings[["image", "camid", "time_s", "track"]].assign(identity=identity, probability=probability)
    folder = IDENTITIES / target
    folder.mkdir(parents=True)
    table.to_parquet(folder / "identities.parquet")
    nothing = Edges.join([], [], [])
    summary = summarise(
        sightings, Identities(identity, probability, (), pd.DataFrame(), int(identity.max())), nothing, time_used=False
    )
    summary.save(folder / "summary.json")
