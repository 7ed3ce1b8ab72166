import json

import numpy as np
import pandas as pd
import pytest

from qaconv.metrics import Calibration, evaluate_ranking, paired_difference
from qaconv.metrics.target_metrics import measure, write_measures
from qaconv.paths import METRICS

RANKINGS = ("direct", "reranked", "tlift", "reranked_tlift")


def sightings(count, seed, cameras=3):
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({"pid": rng.integers(1, 8, count), "camid": rng.integers(0, cameras, count)})
    return frame.assign(image=[f"{seed}_{row}.jpg" for row in range(count)])


QUERY, GALLERY = sightings(30, 1), sightings(80, 2)


def rankings(gain, seed=0):
    """Logits in which matches stand `gain` higher, four times over."""
    rng = np.random.default_rng(seed)
    match = QUERY["pid"].to_numpy()[:, None] == GALLERY["pid"].to_numpy()
    return {name: rng.normal(size=match.shape) + gain * match for name in RANKINGS}


@pytest.fixture
def written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tables = {"qaconv": rankings(2), "baseline": rankings(0.5)}
    fitted = Calibration(1.0, -1.0, 1, 1)
    measures = {method: measure(of.items(), QUERY, GALLERY, fitted) for method, of in tables.items()}
    write_measures("shop", measures, QUERY, seed=7)
    return tmp_path / METRICS


def test_each_figure_lies_within_its_interval(written: Path) -> None:
    figures = json.loads((written / "shop.json").read_text())
    assert figures["gallery"] == 80 and figures["queries"] == 30
    for method in ("qaconv", "baseline"):
        for name in RANKINGS:
            of = figures[method][name]
            assert of["mAP_low"] < of["mAP"] < of["mAP_high"]
            assert of["rank1_low"] <= of["rank1"] <= of["rank1_high"]
        assert 0 <= figures[method]["calibration_error"] <= 1
        rates = [figures[method]["verification"][f"true_match_rate_at_{rate}"] for rate in ("0.01", "0.001", "0.0001")]
        assert rates == sorted(rates, reverse=True)
    assert figures["qaconv_minus_baseline"]["direct"]["mAP_low"] > 0


def test_the_table_of_queries_gives_the_paired_difference_again(written: Path) -> None:
    figures = json.loads((written / "shop.json").read_text())
    table = pd.read_parquet(written / "queries/shop.parquet")
    assert table["image"].tolist() == QUERY["image"].tolist()
    found = paired_difference(
        table["qaconv_direct_average_precision"], table["baseline_direct_average_precision"], seed=7
    )
    told = figures["qaconv_minus_baseline"]["direct"]
    assert (found.value, found.low, found.high) == (told["mAP"], told["mAP_low"], told["mAP_high"])
    assert np.nanmean(table["qaconv_direct_first_rank"] == 1) == pytest.approx(figures["qaconv"]["direct"]["rank1"])


def test_the_curve_agrees_with_the_rates_in_the_figures(written: Path) -> None:
    figures = json.loads((written / "shop.json").read_text())["qaconv"]["verification"]
    roc = pd.read_csv(written / "roc/shop.csv")
    roc = roc[roc["method"] == "qaconv"].set_index("false_match_rate")["true_match_rate"]
    for rate in (0.01, 0.001):
        assert roc.loc[rate] == pytest.approx(figures[f"true_match_rate_at_{rate}"], abs=1e-5)
    assert roc.is_monotonic_increasing and roc.loc[1.0] == 1


def test_tables_hold_both_methods(written: Path) -> None:
    for name in ("camera_pairs", "reliability", "roc"):
        assert set(pd.read_csv(written / f"{name}/shop.csv")["method"]) == {"qaconv", "baseline"}


def test_without_a_calibration_there_is_no_error_of_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_measures("shop", {"qaconv": measure(rankings(1).items(), QUERY, GALLERY, None)}, QUERY, seed=7)
    assert "calibration_error" not in json.loads((METRICS / "shop.json").read_text())["qaconv"]
    assert pd.read_csv(METRICS / "reliability/shop.csv").empty


def test_a_target_with_one_camera_is_ranked_with_that_camera_s_images() -> None:
    query, gallery = sightings(30, 1, cameras=1), sightings(80, 2, cameras=1)
    scores = rankings(1)
    found = measure(scores.items(), query, gallery, None).rankings["direct"]
    who = (query["pid"], gallery["pid"], query["camid"], gallery["camid"])
    assert found.queries == evaluate_ranking(scores["direct"], *who, same_camera="keep").queries == 30
