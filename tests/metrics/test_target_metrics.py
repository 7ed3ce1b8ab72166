import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from qaconv.errors import InputError
from qaconv.metrics import Calibration, evaluate_ranking, paired_difference
from qaconv.metrics.metrics_file import TargetMetrics
from qaconv.metrics.target_metrics import measure, write_measures
from qaconv.metrics.target_sightings import EvaluatedSightings
from qaconv.paths import METRICS
from qaconv.runtime.tracks import score_tracks
from qaconv.tables import convert
from qaconv.tlift import TLiftProfile
from qaconv.tlift.calibration import Calibration as CurveOfScores
from qaconv.tlift.probability import MatchOdds

RANKINGS = ("direct", "reranked", "tlift", "reranked_tlift")


def draw_sightings(count: int, seed: int, split: str, cameras: int = 3) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({"pid": rng.integers(1, 8, count), "camid": rng.integers(0, cameras, count)})
    return frame.assign(image=[f"{seed}_{row}.jpg" for row in range(count)], split=split, track="")


def both_splits(cameras: int = 3) -> EvaluatedSightings:
    query, gallery = draw_sightings(30, 1, "query", cameras), draw_sightings(80, 2, "gallery", cameras)
    return EvaluatedSightings(pd.concat([query, gallery], ignore_index=True), Path("shop"))


SIGHTINGS = both_splits()
QUERY, GALLERY = SIGHTINGS.query, SIGHTINGS.gallery


def rankings(gain: float, seed: int = 0) -> dict[str, NDArray[np.float64]]:
    """Draw logits of four rankings; those of matches are `gain` higher."""
    rng = np.random.default_rng(seed)
    match = QUERY["pid"].to_numpy()[:, None] == GALLERY["pid"].to_numpy()
    return {name: rng.normal(size=match.shape) + gain * match for name in RANKINGS}


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    tables = {"qaconv": rankings(2), "baseline": rankings(0.5)}
    fitted = Calibration(1.0, -1.0, 1, 1)
    measures = {method: measure(scores.items(), SIGHTINGS, fitted) for method, scores in tables.items()}
    write_measures("shop", measures, QUERY, seed=7)
    return tmp_path / METRICS


def test_each_figure_lies_within_its_interval(written: Path) -> None:
    figures = json.loads((written / "shop.json").read_text())
    assert figures["gallery"] == 80 and figures["queries"] == 30
    for method in ("qaconv", "baseline"):
        for name in RANKINGS:
            ranking = figures[method][name]
            assert ranking["mAP_low"] < ranking["mAP"] < ranking["mAP_high"]
            assert ranking["rank1_low"] <= ranking["rank1"] <= ranking["rank1_high"]
        assert 0 <= figures[method]["calibration_error"] <= 1
        rates = [figures[method]["verification"][f"true_match_rate_at_{rate}"] for rate in ("0.01", "0.001", "0.0001")]
        assert rates == sorted(rates, reverse=True)
    assert figures["qaconv_minus_baseline"]["direct"]["mAP_low"] > 0


def test_the_table_of_queries_gives_the_paired_difference_again(written: Path) -> None:
    figures = json.loads((written / "shop.json").read_text())
    table = pd.read_parquet(written / "queries/shop.parquet")
    assert table["image"].tolist() == QUERY["image"].tolist()
    expected = paired_difference(
        table["qaconv_direct_average_precision"], table["baseline_direct_average_precision"], seed=7
    )
    difference = figures["qaconv_minus_baseline"]["direct"]
    assert (expected.value, expected.low, expected.high) == tuple(
        difference[name] for name in ("mAP", "mAP_low", "mAP_high")
    )
    assert np.nanmean(table["qaconv_direct_first_rank"] == 1) == pytest.approx(figures["qaconv"]["direct"]["rank1"])


def test_the_curve_agrees_with_the_rates_in_the_figures(written: Path) -> None:
    figures = json.loads((written / "shop.json").read_text())["qaconv"]["verification"]
    roc = pd.read_csv(written / "roc/shop.csv")
    curve = roc[roc["method"] == "qaconv"].set_index("false_match_rate")["true_match_rate"]
    for rate in (0.01, 0.001):
        assert curve.loc[rate] == pytest.approx(figures[f"true_match_rate_at_{rate}"], abs=1e-5)
    assert curve.is_monotonic_increasing and curve.loc[1.0] == 1


def test_tables_hold_both_methods(written: Path) -> None:
    for name in ("camera_pairs", "reliability", "roc"):
        assert set(pd.read_csv(written / f"{name}/shop.csv")["method"]) == {"qaconv", "baseline"}


def test_without_a_calibration_there_is_no_error_of_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_measures("shop", {"qaconv": measure(rankings(1).items(), SIGHTINGS, None)}, QUERY, seed=7)
    assert "calibration_error" not in json.loads((METRICS / "shop.json").read_text())["qaconv"]
    assert pd.read_csv(METRICS / "reliability/shop.csv").empty


@pytest.mark.parametrize(("threshold", "is_marked"), [(0.0, True), (1.0, False)])
def test_what_is_marked_is_written_and_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threshold: float, is_marked: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    odds = MatchOdds(CurveOfScores([-5.0, 5.0], [-9.0, 3.0]), threshold, sightings=80, span_s=600.0)
    profile = TLiftProfile("shop", (0, 1, 2), active=True, reason="made up", match_odds=odds)
    timeless = EvaluatedSightings(pd.concat([QUERY, GALLERY]).assign(time_s=np.nan), Path("shop"))
    write_measures("shop", {"qaconv": measure(rankings(1).items(), timeless, None, profile)}, QUERY, seed=7)
    marked = TargetMetrics.load(METRICS / "shop.json", methods=["qaconv"]).methods["qaconv"].marked
    apart = int((QUERY["camid"].to_numpy()[:, None] != GALLERY["camid"].to_numpy()).sum())
    assert marked is not None and marked.answers == apart * is_marked
    assert ("precision" in json.loads((METRICS / "shop.json").read_text())["qaconv"]["marked"]) == is_marked
    assert pd.read_csv(METRICS / "stated/shop.csv")["answers"].sum() == apart


def test_in_a_target_with_one_camera_its_own_images_count() -> None:
    one_camera = both_splits(cameras=1)
    scores = rankings(1)
    direct = measure(scores.items(), one_camera, None).rankings["direct"]
    query, gallery = one_camera.query, one_camera.gallery
    identities = (query["pid"], gallery["pid"], query["camid"], gallery["camid"])
    expected = evaluate_ranking(scores["direct"], *identities, same_camera="keep")
    assert direct.queries == expected.queries == 30


def test_a_target_without_a_gallery_is_refused_with_both_counts() -> None:
    with pytest.raises(InputError, match="shop cannot be evaluated: .* got 30 query images and 0 gallery images"):
        EvaluatedSightings(draw_sightings(30, 1, "query"), Path("shop"))


def test_saved_metrics_come_back_the_same(written: Path) -> None:
    loaded = TargetMetrics.load(written / "shop.json", methods=["qaconv", "baseline"])
    loaded.save(written / "again.json")
    assert (written / "again.json").read_bytes() == (written / "shop.json").read_bytes()
    assert list(loaded.methods["qaconv"].rankings) == sorted(RANKINGS)
    assert [point.false_match_rate for point in loaded.methods["qaconv"].verification.points] == [0.01, 0.001, 0.0001]


def change(content: dict[str, Any], name: str, value: object) -> None:
    *keys, last = name.split(".")
    for key in keys:
        content = content[key]
    content[last] = value


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("qaconv.tlift.mAP", None, "qaconv.tlift.mAP must be a finite number, got None"),
        ("qaconv.direct", {"rank1": 0.5}, "qaconv.direct.rank1_low must be a finite number, got nothing"),
        ("baseline.verification", {}, "baseline.verification.matches must be a finite number, got nothing"),
        ("qaconv_minus_baseline.direct.mAP", "x", "qaconv_minus_baseline.direct.mAP must be a finite number, got 'x'"),
        ("queries", [], "is not a metrics file"),
    ],
)
def test_a_wrong_figure_is_refused_by_name(written: Path, name: str, value: object, message: str) -> None:
    content = json.loads((written / "shop.json").read_text())
    change(content, name, value)
    (written / "shop.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=message):
        TargetMetrics.load(written / "shop.json", methods=["qaconv"])


def test_a_method_that_is_not_in_the_file_is_refused(written: Path) -> None:
    with pytest.raises(InputError, match="shop.json must have other.direct"):
        TargetMetrics.load(written / "shop.json", methods=["other"])


def test_blocks_of_one_row_give_the_bytes_of_whole_tables(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qaconv.tables.BLOCK_SCORES", 1)
    tables = {"qaconv": rankings(2), "baseline": rankings(0.5)}
    computed = {
        method: {key: convert(table, np.positive, np.float64) for key, table in scores.items()}
        for method, scores in tables.items()
    }
    fitted = Calibration(1.0, -1.0, 1, 1)
    measures = {method: measure(scores.items(), SIGHTINGS, fitted) for method, scores in computed.items()}
    write_measures("rows", measures, QUERY, seed=7)
    for path in (Path("shop.json"), Path("roc/shop.csv"), Path("camera_pairs/shop.csv"), Path("queries/shop.parquet")):
        assert (written / path.with_stem("rows")).read_bytes() == (written / path).read_bytes()


def test_whole_tracks_are_ranked_by_the_scores_of_their_crops(written: Path) -> None:
    assert "tracks" not in json.loads((written / "shop.json").read_text())["qaconv"]
    frame = pd.concat([QUERY, GALLERY])
    by_person = frame.assign(track=frame["pid"].astype(str) + "-" + frame["camid"].astype(str) + frame["split"])
    sightings = EvaluatedSightings(by_person, Path("shop"))
    scores = rankings(1.0)
    measures = measure(scores.items(), sightings, None)
    write_measures("tracked", {"qaconv": measures}, sightings.query, seed=7)
    tracks = TargetMetrics.load(METRICS / "tracked.json", methods=["qaconv"]).methods["qaconv"].tracks
    assert tracks.keys() == scores.keys()
    assert tracks["direct"].mAP > measures.rankings["direct"].mean_average_precision + 0.1
    pairs = by_person.groupby("split")["track"].nunique()
    assert measures.tracks["direct"].queries == pairs["query"]
    rows = by_person.drop_duplicates("track")
    query, gallery = rows[rows["split"] == "query"], rows[rows["split"] == "gallery"]
    logs = score_tracks(np.log(np.maximum(scores["tlift"], 1e-300)), sightings.query_tracks, sightings.gallery_tracks)
    expected = evaluate_ranking(logs, query["pid"], gallery["pid"], query["camid"], gallery["camid"])
    assert tracks["tlift"].mAP == pytest.approx(expected.mean_average_precision)
