"""Run the stages one after another on a small site."""

import json
import logging
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from qaconv.config import Params
from qaconv.data.manifest import JUNK, Manifest
from qaconv.errors import InputError
from qaconv.matching import MapStore
from qaconv.models.description import weights_digest
from qaconv.paths import BLOCKS, CHECKED, FEATURES, FINGERPRINTS, MATCHES, METRICS, MODELS, PREPARED, SOURCES, TLIFT
from qaconv.stages.adapt import adapt
from qaconv.stages.evaluate import evaluate
from qaconv.stages.features import features
from qaconv.stages.fit_tlift import fit_tlift
from qaconv.stages.identify import identify
from qaconv.stages.match import match
from qaconv.stages.prepare import prepare
from qaconv.stages.rerank import rerank
from qaconv.stages.sources import sources
from qaconv.stages.train import train
from qaconv.tlift import TLiftProfile
from tests.stages.site_params import site_params

METHODS = ("qaconv", "baseline")
TABLES = ("train", "holdout")
PROJECT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def params(site_folder: Path) -> Params:
    values = site_params(site_folder, "twin")
    values["sources"].update(datasets=["shop"], holdout_share=0.25)
    for method in values["methods"].values():
        method["train"].update(identities_per_batch=4, images_per_identity=2, epochs=1, lr_drop_epoch=1)
    return Params.model_validate(values)


@pytest.fixture(scope="module")
def project(params: Params, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run every stage in a folder."""
    folder = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run_all(params)
    return folder


def run_all(params: Params) -> None:
    prepare(params, "shop")
    sources(params)
    for method in METHODS:
        train(params, method)
    features(params, "shop")
    match(params, "shop")
    rerank(params, "shop")
    fit_tlift(params, "shop")
    identify(params, "shop")
    adapt(params, "shop")
    evaluate(params, "shop")


def with_sources(params: Params, **changes: object) -> Params:
    return params.model_copy(update={"sources": params.sources.model_copy(update=changes)})


def files(folder: Path) -> dict[Path, bytes]:
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_the_same_parameters_and_data_give_the_same_bytes(
    params: Params, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run_all(params)
    assert files(tmp_path) == files(project)


def test_the_stages_write_every_output_of_dvc_yaml_and_nothing_else(project: Path) -> None:
    stages = yaml.safe_load((PROJECT / "dvc.yaml").read_text())["stages"]
    outputs = set()
    for name in (
        "prepare",
        "sources",
        "train",
        "features",
        "match",
        "rerank",
        "fit_tlift",
        "identify",
        "adapt",
        "evaluate",
    ):
        stage = stages[name].get("do", stages[name])
        keys = METHODS if name == "train" else ["shop"]
        for path, key in product([*stage["outs"], *stage.get("metrics", [])], keys):
            outputs.add(project / re.sub(r"\$\{(key|item)\}", key, path))
    assert [path for path in sorted(outputs) if not path.exists()] == []
    outputs.add(project / CHECKED)  # what `prepare` remembers is no output
    written = [project / path for path in files(project)]
    assert [path for path in written if not outputs & {path, *path.parents}] == []


def test_weights_file_that_dvc_does_not_have_is_refused(
    params: Params, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(project / SOURCES, tmp_path / SOURCES)
    monkeypatch.chdir(tmp_path)
    values = params.model_dump()
    values["methods"]["qaconv"]["backbone"]["weights"] = "mine.pth"
    with pytest.raises(
        InputError, match=r"data/weights/mine\.pth must be added to DVC.*`dvc add data/weights/mine\.pth`"
    ):
        train(Params.model_validate(values), "qaconv")


def test_a_target_without_times_is_logged_once(
    params: Params, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def take_times(manifest: Manifest) -> Manifest:
        return replace(manifest, frame=manifest.frame.assign(time_s=float("nan")), clocks=[])

    shutil.copytree(project, tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    take_times(Manifest.load(PREPARED / "shop")).save(PREPARED / "shop")
    caplog.set_level(logging.INFO, "qaconv.stages.fit_tlift")
    fit_tlift(params, "shop")
    lines = [record.getMessage() for record in caplog.records if record.name == "qaconv.stages.fit_tlift"]
    assert lines == ["shop: no times: time is not used"]
    assert {TLiftProfile.load(TLIFT / "shop" / f"{method}.json").active for method in METHODS} == {False}


def test_every_sighting_has_a_map_with_its_camera_and_time(project: Path) -> None:
    frame = pd.read_parquet(project / PREPARED / "shop" / "manifest.parquet")
    seen = frame[frame["split"] != "train"]
    assert (seen["pid"] == JUNK).any()
    for method in METHODS:
        store = MapStore(project / FEATURES / "shop" / method)
        assert store.ids.tolist() == seen["image"].tolist()
        assert store.camids.tolist() == seen["camid"].tolist()
        assert store.times.tolist() == seen["time_s"].tolist()


def test_metrics_hold_each_method_ranked_four_ways(project: Path) -> None:
    figures = json.loads((project / METRICS / "shop.json").read_text())
    for method in METHODS:
        for ranking in ("direct", "reranked", "tlift", "reranked_tlift"):
            of = figures[method][ranking]
            assert set(of) >= {"rank1", "rank5", "rank10", "rank20", "mAP", "mINP"}
            assert 0 < of["mINP"] <= of["mAP"] <= 1 and of["rank1"] <= of["rank20"] <= 1


def test_plotted_curve_is_the_cmc_of_the_metrics(project: Path) -> None:
    figures = json.loads((project / METRICS / "shop.json").read_text())
    curve = pd.read_csv(project / METRICS / "cmc" / "shop.csv")
    assert curve["rank"].iloc[0] == 1
    assert curve["qaconv_direct"].iloc[0] == pytest.approx(figures["qaconv"]["direct"]["rank1"], abs=1e-6)
    assert curve["baseline_tlift"].iloc[9] == pytest.approx(figures["baseline"]["tlift"]["rank10"], abs=1e-6)


def test_each_model_has_a_profile_of_all_cameras(project: Path) -> None:
    for method in METHODS:
        profile = TLiftProfile.load(
            project / TLIFT / "shop" / f"{method}.json", model=weights_digest(project / MODELS / method)
        )
        assert profile.camids == (0, 1, 2) and profile.target == "shop"
        shares = profile.evidence["share_with_a_neighbour_within_tau"]
        assert set(shares) == {"0", "1", "2"} and 0 < max(shares.values()) <= 1


def test_plots_come_with_the_data_that_they_show(project: Path) -> None:
    table = pd.read_csv(project / TLIFT / "shop" / "qaconv_transit.csv")
    assert list(table.columns) == ["camera", "other", "gap_s", "from_centre_s", "log_ratio"]
    for kind in ("transit", "comovement", "ranks"):
        assert (project / TLIFT / "shop" / f"qaconv_{kind}.png").read_bytes().startswith(b"\x89PNG")


def test_scrambled_pids_change_no_byte_of_a_profile(
    params: Params, project: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def scramble(frame: pd.DataFrame) -> pd.DataFrame:
        tested = frame["split"] != "train"
        return frame.assign(
            pid=frame["pid"].where(~tested, 900 + np.random.default_rng(2).permutation(len(frame)) % 40)
        )

    change_manifest(project, tmp_path, scramble)
    for folder in (FEATURES, MODELS):
        shutil.copytree(project / folder, tmp_path / folder)
    monkeypatch.chdir(tmp_path)
    match(params, "shop")
    rerank(params, "shop")
    fit_tlift(params, "shop")
    assert files(tmp_path / TLIFT) == files(project / TLIFT)


def test_training_table_numbers_the_people_of_all_datasets_from_zero(
    params: Params, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    prepare(params, "twin")
    both = with_sources(params, datasets=["shop", "twin"])
    before = (project / SOURCES / "train.parquet").read_bytes()
    alone = pd.read_parquet(SOURCES / "train.parquet")
    sources(both)
    joined = pd.read_parquet(SOURCES / "train.parquet")
    assert sorted(joined["label"].unique()) == list(range(2 * alone["label"].nunique()))
    assert joined.groupby("label")[["domain", "pid"]].nunique().to_numpy().max() == 1
    sources(params)
    assert (project / SOURCES / "train.parquet").read_bytes() == before


def test_people_who_are_held_out_are_in_no_training_image_and_stay_when_datasets_are_added(
    params: Params, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    prepare(params, "twin")
    train_people, held_out = (set(pd.read_parquet(SOURCES / f"{table}.parquet")["pid"]) for table in TABLES)
    assert len(held_out) == 2 and len(train_people) == 6 and not held_out & train_people
    sources(with_sources(params, datasets=["twin", "shop"]))
    joined = pd.read_parquet(SOURCES / "holdout.parquet")
    assert set(joined.loc[joined["domain"] == "shop", "pid"]) == held_out
    assert joined["label"].nunique() == 4
    sources(params)


def test_a_holdout_share_of_0_holds_nobody_out(
    params: Params, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").symlink_to(project / "data")
    whole = with_sources(params, holdout_share=0.0)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("qaconv.stages.sources.SOURCES", tmp_path / "sources")
    sources(whole)
    assert pd.read_parquet(tmp_path / "sources" / "holdout.parquet").empty
    assert pd.read_parquet(tmp_path / "sources" / "train.parquet")["pid"].nunique() == 8


@pytest.mark.parametrize("method", METHODS)
def test_a_trained_network_has_a_calibration(project: Path, method: str) -> None:
    fitted = json.loads((project / MODELS / method / "model.json").read_text())["trained"]["calibration"]
    assert fitted["scale"] >= 0 and fitted["matches"] > 0 and fitted["others"] > 0


def change_manifest(project: Path, folder: Path, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    """Write the prepared dataset of `project` into `folder` with a changed table."""
    prepared = folder / PREPARED / "shop"
    prepared.mkdir(parents=True)
    changed = change(pd.read_parquet(project / PREPARED / "shop" / "manifest.parquet"))
    changed.to_parquet(prepared / "manifest.parquet")
    fingerprints = pd.read_parquet(project / FINGERPRINTS / "shop.parquet")
    (folder / FINGERPRINTS).mkdir()
    fingerprints[fingerprints["image"].isin(changed["image"])].to_parquet(folder / FINGERPRINTS / "shop.parquet")
    (prepared / "summary.json").write_bytes((project / PREPARED / "shop" / "summary.json").read_bytes())


def test_a_training_dataset_without_training_images_is_refused_by_name(
    params: Params, project: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    change_manifest(project, tmp_path, lambda frame: frame[frame["split"] != "train"])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="sources.datasets names 'shop', which has no images in its train split"):
        sources(params)
    assert not SOURCES.exists()


def test_maps_of_other_images_are_refused_by_folder(
    params: Params, project: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    change_manifest(project, tmp_path, lambda frame: frame[frame.index != frame.index[-1]])
    for folder in (FEATURES, MODELS):
        shutil.copytree(project / folder, tmp_path / folder)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="artifacts/features/shop/qaconv: holds maps of other images"):
        match(params, "shop")
    assert not (MATCHES / "shop").exists()


@pytest.fixture
def unmatched(params: Params, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    """Return parameters for three parts, and change into a project with unmatched maps."""
    for folder in (PREPARED, FEATURES, MODELS):
        shutil.copytree(project / folder, tmp_path / folder)
    monkeypatch.chdir(tmp_path)
    return params.model_copy(update={"evaluate": params.evaluate.model_copy(update={"parts": 3})})


def test_parts_in_any_order_and_a_match_that_was_killed_give_the_same_files(project: Path, unmatched: Params) -> None:
    for part in (3, 1):
        match(unmatched, "shop", part)
    assert not MATCHES.exists()
    for number, path in enumerate(sorted(BLOCKS.rglob("*.safetensors"))):
        if number % 2:
            path.unlink()
    kept = {path: path.stat().st_mtime_ns for path in BLOCKS.rglob("*.safetensors")}
    match(unmatched, "shop", 2)
    assert kept and {path: path.stat().st_mtime_ns for path in kept} == kept
    match(unmatched, "shop")
    assert files(Path(MATCHES)) == files(project / MATCHES)
    assert not (BLOCKS / "shop").exists()


def test_an_unknown_part_is_refused(unmatched: Params) -> None:
    with pytest.raises(InputError, match=r"--part must be in 1..3 \(evaluate.parts in params.yaml\), got 4"):
        match(unmatched, "shop", 4)
    assert not BLOCKS.exists()


def test_a_missing_device_is_refused(params: Params, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    elsewhere = params.model_copy(update={"machine": params.machine.model_copy(update={"device": "cuda"})})
    before = files(project / MODELS)
    with pytest.raises(InputError, match="machine.device is 'cuda', which this machine lacks"):
        train(elsewhere, "qaconv")
    assert files(project / MODELS) == before
