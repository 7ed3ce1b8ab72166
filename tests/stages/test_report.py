"""Report on a small site with untrained networks, once with its labels and once without them."""

import json
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from qaconv import plugins
from qaconv.config import Params, load_params
from qaconv.config.kinds import RerankSettings
from qaconv.data.manifest import RANDOM_SPLITS, Manifest
from qaconv.errors import InputError
from qaconv.matching.rerank import Distances, Neighbourhoods
from qaconv.metrics.estimates_file import TargetEstimates, load_target
from qaconv.metrics.metrics_file import TargetMetrics
from qaconv.paths import (
    FEATURES,
    IDENTITIES,
    METRICS,
    PREPARED,
    REPORT,
    TLIFT,
)
from qaconv.registry.descriptions import estimate_rows, result_rows
from qaconv.registry.runs import load_metrics
from qaconv.report.gather import has_blurred_heads
from qaconv.stages.evaluate import evaluate
from qaconv.stages.fit_tlift import fit_tlift
from qaconv.stages.report import report
from qaconv.stages.rerank import rerank
from tests.stages.report_project import THRESHOLD, add_answers, run_stages
from tests.stages.site_params import site_params

METHODS = ("qaconv", "baseline")
PROJECT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def params(site_folder: Path) -> Params:
    values = site_params(site_folder, "school")
    values["sources"]["datasets"] = ["school"]
    values["datasets"]["yard"] = values["datasets"]["shop"]
    values["targets"].append("yard")
    values["adapt"]["targets"] = ["yard"]
    return Params.model_validate(values)


@pytest.fixture(scope="module")
def project(params: Params, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the project in a folder."""
    folder = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run_stages(params)
    return folder


class Page(HTMLParser):
    """Elements of a page as (tag, attributes), and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, *tags: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.elements if tag in tags]


@pytest.fixture(scope="module")
def page(project: Path) -> Page:
    return Page((project / REPORT / "report.html").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def data(project: Path) -> Any:
    return json.loads((project / REPORT / "report.json").read_text(encoding="utf-8"))


def test_the_page_loads_nothing_and_is_small(project: Path, page: Page) -> None:
    text = (project / REPORT / "report.html").read_text(encoding="utf-8")
    assert len(text.encode()) < 2_000_000
    assert not page.all("script", "link", "iframe", "object")
    addresses = [str(values[key]) for _, values in page.elements for key in ("src", "href") if key in values]
    assert len(addresses) > 20
    assert all(address.startswith(("data:image/webp;base64,", "#")) for address in addresses)
    assert "@import" not in text and "url(" not in text


def test_the_page_works_with_a_screen_reader_and_a_keyboard(page: Page) -> None:
    assert page.all("html") == [{"lang": "en"}]
    assert all(values["alt"] for values in page.all("img"))
    assert all(values["scope"] in ("col", "row", "rowgroup") for values in page.all("th"))
    names = [values["id"] for _, values in page.elements if "id" in values]
    assert len(names) == len(set(names))
    references = {values["aria-labelledby"] for _, values in page.elements if "aria-labelledby" in values}
    references |= {str(values["href"])[1:] for values in page.all("a")}
    assert references <= set(names)
    for drawing in page.all("svg"):
        assert "aria-hidden" in drawing or (drawing["role"] == "img" and "aria-labelledby" in drawing)
    levels = [int(tag[1]) for tag, _ in page.elements if tag in ("h1", "h2", "h3", "h4")]
    assert levels[0] == 1 and all(after <= before + 1 for before, after in pairwise(levels))


def test_the_page_opens_with_rank_1_on_targets_never_seen_in_training(project: Path, page: Page) -> None:
    figures = json.loads((project / METRICS / "shop.json").read_text())
    counts = [round(100 * figures[method]["direct"]["rank1"]) for method in METHODS]
    assert f"first in {counts[0]} of 100 searches on shop: a camera network never seen in training" in page.text
    assert f"does so in {counts[1]} of 100 searches on shop" in page.text


def test_page_and_data_show_the_metrics(project: Path, page: Page, data: Any) -> None:
    figures = json.loads((project / METRICS / "shop.json").read_text())["qaconv"]["reranked_tlift"]
    assert data["targets"][0]["figures"]["qaconv"]["reranked_tlift"]["mAP"] == {
        "value": figures["mAP"],
        "low": figures["mAP_low"],
        "high": figures["mAP_high"],
    }
    assert f"{100 * figures['mAP']:.1f}{100 * figures['mAP_low']:.1f}–{100 * figures['mAP_high']:.1f}" in page.text
    assert "<b>5ea1</b>" in page.text  # a name is text, never markup


def test_the_choice_of_re_ranking_is_in_metrics_page_and_data(project: Path, page: Page, data: Any) -> None:
    choice = data["targets"][0]["reranking"]
    reranking = TargetMetrics.load(project / METRICS / "shop.json", methods=METHODS).methods["qaconv"].reranking
    assert reranking is not None
    assert reranking.applied == (choice["reranker"] is not None)
    assert reranking.excess == choice["excess"]
    shown = "Re-ranked by k_reciprocal with k1" if reranking.applied else "Not re-ranked"
    assert page.text.count(shown) == 2  # of the target with labels, and of that without


def test_searches_are_those_of_the_evaluation(project: Path, data: Any) -> None:
    (target,) = data["targets"]
    queries = pd.read_parquet(project / METRICS / "queries" / "shop.parquet").set_index("image")
    assert sum(target["outcomes"].values()) == target["queries"]
    assert target["searches"]
    for search in target["searches"]:
        query = queries.loc[search["query"]["image"]]
        assert search["first_rank"] == query["qaconv_direct_first_rank"]
        assert search["average_precision"] == query["qaconv_direct_average_precision"]
        matches = [answer["rank"] for answer in search["answers"] if answer["verdict"] == "match"]
        assert not matches or matches[0] == search["first_rank"]


def test_contributions_sum_to_the_score(data: Any) -> None:
    (target,) = data["targets"]
    assert target["explanations"]
    for explanation in target["explanations"]:
        tables = explanation["query_contributions"], explanation["gallery_contributions"]
        total = sum(value for table in tables for row in table for value in row)
        assert total + explanation["constant"] == pytest.approx(explanation["answer"]["score"], abs=0.05)


def test_examples_without_labels_have_the_stated_probabilities_and_no_verdict(data: Any) -> None:
    (yard,) = data["estimated"]
    assert len(yard["searches"]) == 4
    for search in yard["searches"]:
        assert [answer["rank"] for answer in search["answers"]] == list(range(1, 11))
        stated = [answer["probability"] for answer in search["answers"]]
        assert stated == sorted(stated, reverse=True) and 0 < stated[-1] < stated[0] < 1  # times change no rank here
        assert [answer["marked"] for answer in search["answers"]] == [value > THRESHOLD for value in stated]
        assert search["query"]["camid"] not in [answer["crop"]["camid"] for answer in search["answers"]]
        assert "verdict" not in search["answers"][0]


def test_a_target_without_labels_is_marked_as_estimated_and_its_cameras_are_named(
    project: Path, page: Page, data: Any
) -> None:
    section = (project / REPORT / "report.html").read_text().partition('<section aria-labelledby="yard">')[2]
    assert "yard: estimated, no labels" in section and "✓" not in section and "✗" not in section
    assert "Clock of hall, missing" in section and "&lt;roof&gt;" in section and "cam 1" not in section
    estimates = load_target(project / METRICS / "yard.json", methods=METHODS)
    assert isinstance(estimates, TargetEstimates)
    expected = estimates.methods["qaconv"].expected
    assert expected is not None and expected.marked_answers > 0
    assert data["estimated"][0]["estimates"]["qaconv"]["expected"]["marked_answers"] == expected.marked_answers
    assert f"{100 * expected.share_with_match:.1f} per cent of the searches have a match" in page.text


def test_people_are_counted_and_the_least_certain_identity_is_shown(project: Path, page: Page, data: Any) -> None:
    summary = json.loads((project / IDENTITIES / "shop/summary.json").read_text())
    shop, yard = (data[kind][0]["people"] for kind in ("targets", "estimated"))
    assert shop["summary"]["identities"] == summary["identities"]
    assert shop["truth"]["people"] > 1 and yard["truth"] is None
    assert f"grouped into {summary['identities']} identities" in page.text
    assert "Identity 1: 2 sightings, mean probability 25.0 %" in page.text
    largest = max(row["identities"] for row in shop["present"])
    assert f"at most {largest}" in page.text


def test_an_adapted_network_stands_next_to_the_one_that_it_began_with(page: Page, data: Any) -> None:
    assert data["adapted"]["yard"]["right"]["after"] == 0.875
    words = " ".join(page.text.split())
    assert "yardas trained62.5–––––50.0" in words.replace(" yard", "yard")
    assert "yardadapted87.5–––––43.8" in words.replace(" yard", "yard")
    assert "has changed by 25.0 points (95 per cent interval 12.5 to 37.5)" in words


def test_a_page_of_targets_without_labels_alone_says_that_nothing_was_measured(
    params: Params, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    monkeypatch.setattr("qaconv.stages.report.REPORT", tmp_path / "report")
    report(params.model_copy(update={"targets": ["yard"]}))
    text = (tmp_path / "report/report.html").read_text()
    assert "Nobody has stated who is on the images of yard" in text
    assert "rank-1</th>" not in text and "Estimated, no labels" in text


def test_answers_of_people_are_shown_with_their_intervals_where_there_are_some(
    params: Params, project: Path, page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    monkeypatch.setattr("qaconv.stages.report.REPORT", tmp_path / "report")
    without_answers = (METRICS / "yard.json").read_bytes()
    add_answers(params)
    report(params)
    (METRICS / "yard.json").write_bytes(without_answers)
    words = " ".join(Page((tmp_path / "report/report.html").read_text()).text.split())
    assert "By people's answers about 120 drawn pairs, 87.5 per cent of the marked pairs are right (81.2–93.8" in words
    table = words.partition("What people's answers about drawn pairs say")[2]
    assert "pairs of one person yard qaconv12087.581.2–93.8– " in table  # no recall was estimated
    assert "only people's answers about drawn pairs say how often the model is right" in words
    assert "people's answers" not in page.text


def test_scrambled_pids_change_no_byte_of_estimates(
    params: Params, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    monkeypatch.setattr("qaconv.stages.evaluate.PREPARED", tmp_path)
    monkeypatch.setattr("qaconv.metrics.target_metrics.METRICS", tmp_path / "metrics")
    monkeypatch.setattr("qaconv.metrics.target_estimates.METRICS", tmp_path / "metrics")
    manifest = Manifest.load(PREPARED / "yard")
    drawn = np.random.default_rng(2).integers(900, 909, len(manifest.frame))
    pids = manifest.frame["pid"].mask(manifest.frame["split"] == "gallery", drawn)
    replace(manifest, frame=manifest.frame.assign(pid=pids)).save(tmp_path / "yard")
    evaluate(params, "yard")
    written = {path.relative_to(tmp_path): path.read_bytes() for path in (tmp_path / "metrics").rglob("yard.*")}
    assert len(written) == 7
    assert written == {path: path.read_bytes() for path in METRICS.rglob("yard.*")}


def test_the_same_inputs_give_the_same_bytes_and_blur_changes_the_pictures(
    params: Params, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    before = (REPORT / "report.html").read_bytes()
    report(params)
    assert (REPORT / "report.html").read_bytes() == before
    assert b"Heads are blurred" in before  # not one of the synthetic sites
    report(params.model_copy(update={"report": params.report.model_copy(update={"blur": False})}))
    clear = (REPORT / "report.html").read_bytes()
    assert b"Heads are blurred" not in clear
    report(params)
    assert clear != before == (REPORT / "report.html").read_bytes()


def test_only_the_synthetic_sites_show_heads_by_default(params: Params) -> None:
    project = load_params(PROJECT / "params.yaml")
    assert not any(has_blurred_heads(project, name) for name in project.targets)
    assert has_blurred_heads(params, "shop")


def test_a_missing_file_is_refused_by_name_and_the_old_report_stays(
    params: Params, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    before, table = (REPORT / "report.html").read_bytes(), METRICS / "roc" / "shop.csv"
    content = table.read_bytes()
    table.unlink()
    with pytest.raises(InputError, match="metrics/roc/shop.csv cannot be read"):
        report(params)
    table.write_bytes(content)
    assert (REPORT / "report.html").read_bytes() == before


def test_maps_of_other_images_are_refused(params: Params, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    manifest = Path("data/prepared/shop/manifest.parquet")
    content, frame = manifest.read_bytes(), pd.read_parquet(manifest)
    frame.iloc[:-1].to_parquet(manifest)
    with pytest.raises(InputError, match=f"{FEATURES}/shop/qaconv: holds maps of other images"):
        report(params)
    manifest.write_bytes(content)


def test_each_row_of_co_movement_has_its_shares_and_none_without_pairs(
    params: Params, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    path = TLIFT / "shop" / "qaconv.json"
    content = path.read_text()
    pairs = {"edges": [0, 2, 5, 10], "pairs": [8, 4, 0], "together": [0.5, 0.25, 0.0], "control": [0.1, 0.2, 0.0]}
    path.write_text(json.dumps(json.loads(content) | {"evidence": {"comovement": pairs}}))
    report(params)
    page = (REPORT / "report.html").read_text()
    path.write_text(content)
    rows = ("0–2</th><td>8</td><td>50.0 %</td><td>10.0 %", "2–5</th><td>4</td><td>25.0 %</td><td>20.0 %")
    for row in (*rows, "5–10</th><td>0</td><td>–</td><td>–"):
        assert row in page


class ByPosition(RerankSettings):
    """A re-ranker of another package: the first gallery image is the best."""

    key: ClassVar[str] = "by_position"
    label: ClassVar[str] = "by position"
    kind: Literal["by_position"] = "by_position"

    def rerank(
        self, distances: NDArray[np.float32], nearest: Neighbourhoods, distances_of: Distances
    ) -> NDArray[np.float32]:
        scores = np.linspace(0.9, 0.1, distances.shape[1], dtype=np.float32)
        return np.tile(scores, (len(distances), 1))


@pytest.mark.usefixtures("no_registered_kinds")
def test_random_halves_of_the_people_are_in_metrics_report_and_registry(
    params: Params, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(project, tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    manifest = Manifest.load(PREPARED / "shop")
    replace(manifest, notes={RANDOM_SPLITS: "5"}).save(PREPARED / "shop")
    evaluate(params, "shop")
    report(params)
    figures = TargetMetrics.load(METRICS / "shop.json", methods=METHODS).methods["qaconv"].splits
    assert figures is not None and figures.count == 5
    page = (REPORT / "report.html").read_text(encoding="utf-8")
    assert "direct, 5 random halves of the people: mean ± standard deviation" in page
    assert f"{100 * figures.rank1:.1f}<small>± {100 * figures.rank1_deviation:.1f}</small>" in page
    rows = [row for row in result_rows(params, load_metrics(params)) if row["target"] == "shop, 5 random halves"]
    assert [row["model"] for row in rows] == list(METHODS)
    rank1, precision = (
        f"{100 * value:.1f} ± {100 * deviation:.1f}"
        for value, deviation in ((figures.rank1, figures.rank1_deviation), (figures.mAP, figures.mAP_deviation))
    )
    assert (rows[0]["direct"], rows[0]["re-ranked"]) == (f"{rank1} / {precision}", "–")


def test_a_re_ranker_of_another_package_has_its_rankings_in_metrics_report_and_registry(
    params: Params, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugins.register("rerank", "by_position")(ByPosition)
    settings = params.evaluate.model_copy(update={"rerank": plugins.find("rerank", "by_position")()})
    changed = params.model_copy(update={"evaluate": settings})
    shutil.copytree(project, tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    rerank(changed, "shop")
    fit_tlift(changed, "shop")
    evaluate(changed, "shop")
    report(changed)

    keys = ["direct", "by_position", "tlift", "by_position_tlift"]
    metrics = TargetMetrics.load(METRICS / "shop.json", methods=METHODS)
    assert set(metrics.methods["qaconv"].rankings) == set(keys)
    before = TargetMetrics.load(project / METRICS / "shop.json", methods=METHODS).methods["qaconv"].rankings
    by_position = metrics.methods["qaconv"].rankings["by_position"]
    assert metrics.methods["qaconv"].rankings["direct"] == before["direct"] != by_position
    assert metrics.methods["baseline"].rankings["by_position"] == by_position  # it does not depend on the network
    assert {f"{method}_{key}" for method in METHODS for key in keys} < set(pd.read_csv(METRICS / "cmc" / "shop.csv"))
    data = json.loads((REPORT / "report.json").read_text())
    assert data["targets"][0]["figures"]["qaconv"]["by_position"]["mAP"]["value"] == by_position.mAP
    page = (REPORT / "report.html").read_text(encoding="utf-8")
    assert "by position and lifted</th>" in page and "re-ranked and lifted</th>" not in page
    (row, _) = result_rows(changed, load_metrics(changed))
    assert [row["target"] for row in estimate_rows(changed, load_metrics(changed))] == ["yard", "yard"]
    assert row["by position"] == f"{100 * by_position.rank1:.1f} / {100 * by_position.mAP:.1f}"
