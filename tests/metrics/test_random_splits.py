"""Random halves of the people: what is drawn, and what is stated about them."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from qaconv.metrics import evaluate_ranking
from qaconv.metrics.random_splits import measure_splits, split_figures
from qaconv.metrics.target_sightings import EvaluatedSightings

PEOPLE, OTHERS = 20, 12  # who were seen by both cameras, and by the second alone


def sightings() -> EvaluatedSightings:
    query = pd.DataFrame({"pid": np.arange(PEOPLE), "camid": 0, "split": "query"})
    gallery = pd.DataFrame({"pid": np.arange(PEOPLE + OTHERS), "camid": 1, "split": "gallery"})
    frame = pd.concat([query, gallery], ignore_index=True)
    frame["image"] = frame["split"] + frame["pid"].astype(str)
    return EvaluatedSightings(frame.assign(track="", time_s=np.nan), Path("shop"))


LOGITS = np.random.default_rng(4).normal(size=(PEOPLE, PEOPLE + OTHERS)) + 1.5 * np.eye(PEOPLE, PEOPLE + OTHERS)


def test_a_half_is_half_of_the_people_against_themselves_and_all_whom_no_query_shows() -> None:
    splits = measure_splits(LOGITS, sightings(), 10, seed=3)
    assert [metrics.queries for metrics in splits] == [PEOPLE // 2] * 10
    assert {len(metrics.cmc) for metrics in splits} == {PEOPLE // 2 + OTHERS}


def test_the_figures_are_those_of_the_halves_measured_one_by_one() -> None:
    rng = np.random.default_rng(3)
    ranks, precisions = [], []
    for _ in range(10):
        half = np.sort(rng.permutation(PEOPLE)[: PEOPLE // 2])
        gallery = np.concatenate([half, np.arange(PEOPLE, PEOPLE + OTHERS)])
        cameras = np.zeros(len(half)), np.ones(len(gallery))
        metrics = evaluate_ranking(LOGITS[np.ix_(half, gallery)], half, gallery, *cameras)
        ranks.append(metrics.cmc[0])
        precisions.append(metrics.mean_average_precision)
    figures = split_figures(measure_splits(LOGITS, sightings(), 10, seed=3))
    assert figures.count == 10
    assert figures.rank1 == pytest.approx(np.mean(ranks))
    assert figures.mAP == pytest.approx(np.mean(precisions))
    assert figures.rank1_deviation == pytest.approx(np.std(ranks, ddof=1)) and figures.rank1_deviation > 0
    assert figures.mAP_deviation == pytest.approx(np.std(precisions, ddof=1))
    assert figures.rank1 < figures.rank5 < figures.rank20 <= 1


def test_the_seed_decides_and_a_smaller_gallery_is_easier() -> None:
    first, again, other = (split_figures(measure_splits(LOGITS, sightings(), 10, seed=seed)) for seed in (3, 3, 4))
    assert first == again != other
    everybody = evaluate_ranking(LOGITS, *sightings().identities)
    assert first.mAP > everybody.mean_average_precision


def test_one_half_has_no_deviation() -> None:
    figures = split_figures(measure_splits(LOGITS, sightings(), 1, seed=3))
    assert (figures.rank1_deviation, figures.mAP_deviation) == (0, 0)
