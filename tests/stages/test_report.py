"""The report of a small site whose networks were never trained: what it says matters here, not how good they are."""

import json
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pandas as pd
import pytest
import yaml

from qaconv.config import METHODS, Params, load_params
from qaconv.errors import InputError
from qaconv.models.checkpoint import Architecture, build_network, save_network
from qaconv.paths import FEATURES, METRICS, MODELS, REPORT, TLIFT
from qaconv.report.gather import has_blurred_heads
from qaconv.stages.evaluate import evaluate
from qaconv.stages.features import features
from qaconv.stages.fit_tlift import fit_tlift
from qaconv.stages.match import match
from qaconv.stages.prepare import prepare
from qaconv.stages.report import report
from qaconv.stages.rerank import rerank

PROJECT = Path(__file__).parents[2]
HISTORY = "epoch,loss\n1,2.5\n"


@pytest.fixture(scope="module")
def params(site_folder):
    values = yaml.safe_load((PROJECT / "params.yaml").read_text())
    site = {"layout": "market1501", "path": str(site_folder)}
    values["datasets"] = {"shop": site, "school": site}
    values["targets"] = ["shop"]
    values["train"]["datasets"] = ["school"]
    values["image"] = {"height": 32, "width": 16}
    values["backbone"].update(neck_channels=8)
    return Params.model_validate(values)


@pytest.fixture(scope="module")
def project(params, tmp_path_factory):
    """A folder in which all that comes before the report has run, and the report."""
    folder = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        prepare(params, "shop")
        for method in METHODS:
            pooled = params.method(method).pooled
            network = build_network(Architecture(backbone=params.backbone, image=params.image, pooled=pooled), 0)
            trained = {
                "seed": 7,
                "train": params.train.model_dump(),
                "method": params.method(method).model_dump(),
                "data": {"images": 10, "people": 2, "digests": {"school": "<b>5ea1</b>"}},
                "calibration": None,
            }
            save_network(network, MODELS / method, trained, {"history.csv": HISTORY})
        features(params, "shop")
        match(params, "shop", 1)
        rerank(params, "shop")
        fit_tlift(params, "shop")
        evaluate(params, "shop")
        report(params)
    return folder


class Page(HTMLParser):
    """Elements of a page as (tag, attributes), and its text."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.text = [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_data(self, text):
        self.text += text

    def all(self, *tags):
        return [attributes for tag, attributes in self.elements if tag in tags]


@pytest.fixture(scope="module")
def page(project):
    return Page((project / REPORT / "report.html").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def data(project):
    return json.loads((project / REPORT / "report.json").read_text(encoding="utf-8"))


def test_the_page_asks_nothing_of_a_network_and_is_small(project: Path, page: Page) -> None:
    text = (project / REPORT / "report.html").read_text(encoding="utf-8")
    assert len(text.encode()) < 2_000_000
    assert not page.all("script", "link", "iframe", "object")
    addresses = [of[key] for _, of in page.elements for key in ("src", "href") if key in of]
    assert len(addresses) > 20
    assert all(address.startswith(("data:image/webp;base64,", "#")) for address in addresses)
    assert "@import" not in text and "url(" not in text


def test_the_page_can_be_heard_and_reached_by_keyboard(page: Page) -> None:
    assert page.all("html") == [{"lang": "en"}]
    assert all(of["alt"] for of in page.all("img"))
    assert all(of["scope"] in ("col", "row", "rowgroup") for of in page.all("th"))
    names = [of["id"] for _, of in page.elements if "id" in of]
    assert len(names) == len(set(names))
    asked = {of["aria-labelledby"] for _, of in page.elements if "aria-labelledby" in of}
    asked |= {of["href"][1:] for of in page.all("a")}
    assert asked <= set(names)
    for drawing in page.all("svg"):
        assert "aria-hidden" in drawing or (drawing["role"] == "img" and "aria-labelledby" in drawing)
    levels = [int(tag[1]) for tag, _ in page.elements if tag in ("h1", "h2", "h3", "h4")]
    assert levels[0] == 1 and all(after <= before + 1 for before, after in pairwise(levels))


def test_the_page_opens_with_rank_1_where_the_model_has_never_been(project: Path, page: Page) -> None:
    figures = json.loads((project / METRICS / "shop.json").read_text())
    counts = [round(100 * figures[method]["direct"]["rank1"]) for method in METHODS]
    assert f"first in {counts[0]} of 100 searches on shop: a camera network never seen in training" in page.text
    assert f"does so in {counts[1]} of 100 searches on shop" in page.text


def test_page_and_data_say_what_the_metrics_say(project: Path, page: Page, data: dict[str, Any]) -> None:
    figures = json.loads((project / METRICS / "shop.json").read_text())["qaconv"]["reranked_tlift"]
    assert data["targets"][0]["figures"]["qaconv"]["reranked_tlift"]["mAP"] == {
        "value": figures["mAP"],
        "low": figures["mAP_low"],
        "high": figures["mAP_high"],
    }
    assert f"{100 * figures['mAP']:.1f}{100 * figures['mAP_low']:.1f}–{100 * figures['mAP_high']:.1f}" in page.text
    assert "<b>5ea1</b>" in page.text  # a name is text, never markup


def test_searches_are_those_of_the_evaluation(project: Path, data: dict[str, Any]) -> None:
    (target,) = data["targets"]
    queries = pd.read_parquet(project / METRICS / "queries" / "shop.parquet").set_index("image")
    assert sum(target["outcomes"].values()) == target["queries"]
    assert target["searches"]
    for search in target["searches"]:
        of = queries.loc[search["query"]["image"]]
        assert search["first_rank"] == of["qaconv_direct_first_rank"]
        assert search["average_precision"] == of["qaconv_direct_average_precision"]
        matches = [answer["rank"] for answer in search["answers"] if answer["verdict"] == "match"]
        assert not matches or matches[0] == search["first_rank"]


def test_contributions_sum_to_the_score(data: dict[str, Any]) -> None:
    (target,) = data["targets"]
    assert target["explanations"]
    for explanation in target["explanations"]:
        tables = explanation["query_contributions"], explanation["gallery_contributions"]
        total = sum(value for table in tables for row in table for value in row)
        assert total + explanation["constant"] == pytest.approx(explanation["answer"]["score"], abs=0.05)


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


def test_only_the_synthetic_sites_show_heads_unless_told_otherwise(params: Params) -> None:
    project = load_params(PROJECT / "params.yaml")
    assert not any(has_blurred_heads(project, name) for name in project.targets)
    assert has_blurred_heads(params, "shop")


def test_what_an_earlier_stage_lacks_is_refused_by_name_and_the_old_report_stays(
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


def test_each_row_of_who_moves_together_has_its_own_shares_and_none_where_there_are_no_pairs(
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
