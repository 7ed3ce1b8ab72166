import json
import os
import subprocess
import sys
import sysconfig
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow import MlflowClient
from tracked_projects import made_up_metrics, write, write_lock, write_project

from qaconv.config import Params
from qaconv.registry import Promotion, Release, aliases, decide, promote, register
from qaconv.tracking import load_metrics, retraining_run

MODELS = ("qaconv", "qaconv-encoder", "qaconv-matcher")


@pytest.fixture
def params(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    """Of a project that has run all stages, which is the working folder."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    return write_project(tmp_path)


def retrain(params: Params, maps: dict[str, float] | None = None) -> tuple[Release, Promotion]:
    """Registers and promotes, after the stages have given other metrics where `maps` has some."""
    for deployment, value in (maps or {}).items():
        write(Path(f"metrics/{deployment}.json"), json.dumps(made_up_metrics(value)))
    if maps:
        write_lock(Path(), maps)
    with retraining_run(params, {}):
        release = register(params, load_metrics(params.deployments))
        return release, promote(params, release)


def pointed_to(alias: str) -> dict[str, str]:
    # SQLite's store gives numbers, a server strings.
    return {name: str(MlflowClient().get_registered_model(name).aliases.get(alias)) for name in MODELS}


def numbers() -> dict[str, int]:
    return {name: len(MlflowClient().search_model_versions(f"name = '{name}'")) for name in MODELS}


def test_the_first_version_becomes_challenger_and_champion(params: Params) -> None:
    release, promotion = retrain(params)
    assert promotion == Promotion(True, "qaconv version 1 becomes the champion: there was none.", {})
    assert aliases(release) == ["challenger", "champion"]
    assert pointed_to("champion") == pointed_to("challenger") == dict.fromkeys(MODELS, "1")


def test_a_version_says_which_graphs_contract_and_profiles_belong_together(params: Params) -> None:
    release, _ = retrain(params)
    folder = Path(mlflow.artifacts.download_artifacts("models:/qaconv@champion")) / "artifacts/served"
    assert json.loads((folder / "versions.json").read_text()) == {"encoder_version": "1", "matcher_version": "1"}
    assert (folder / "contract.json").read_bytes() == Path("artifacts/onnx/contract.json").read_bytes()
    profiles = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("qaconv.json"))
    assert profiles == ["tlift/mall/qaconv.json", "tlift/station/qaconv.json"]
    tags = MlflowClient().get_model_version("qaconv", release.version).tags
    assert tags["station.qaconv.direct.mAP"] == "0.25"
    assert {"git_commit", "git_dirty", "dvc_lock", "encoder_version", "matcher_version", "promotion"} < tags.keys()


def test_the_same_lock_registers_nothing_new(params: Params) -> None:
    first, _ = retrain(params)
    again, promotion = retrain(params)
    assert again == first
    assert promotion == Promotion(False, "qaconv version 1 is the champion already.", {})
    assert numbers() == dict.fromkeys(MODELS, 1)


def test_a_better_challenger_replaces_the_champion(params: Params) -> None:
    retrain(params)
    _, promotion = retrain(params, {"station": 0.27, "mall": 0.5})
    assert promotion.promoted
    assert promotion.reason == (
        "qaconv version 2 replaces champion version 1: its direct mAP, mean over station, mall, is 38.50 against "
        "37.50, +1.00 points where more than 0 and at least 0.5 are asked for."
    )
    assert pointed_to("champion") == pointed_to("challenger") == dict.fromkeys(MODELS, "2")


def test_a_worse_challenger_leaves_the_champion_and_says_why(params: Params) -> None:
    retrain(params)
    worse, promotion = retrain(params, {"station": 0.25, "mall": 0.4})
    assert not promotion.promoted
    assert "does not replace champion version 1" in promotion.reason
    assert "32.50 against 37.50, -5.00 points" in promotion.reason
    assert pointed_to("champion") == dict.fromkeys(MODELS, "1")
    assert pointed_to("challenger") == dict.fromkeys(MODELS, "2")
    assert MlflowClient().get_model_version("qaconv", worse.version).tags["promotion"] == promotion.reason


@pytest.mark.parametrize("failing", ["qaconv-matcher", "qaconv"])
def test_a_promotion_that_fails_half_way_leaves_the_old_champion_whole(
    params: Params, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    point = MlflowClient.set_registered_model_alias
    refused = "1"

    def fail(self: MlflowClient, name: str, alias: str, version: str) -> None:
        if (name, alias, version) == (failing, "champion", refused):
            raise ConnectionError("the registry is gone")
        point(self, name, alias, version)

    monkeypatch.setattr(MlflowClient, "set_registered_model_alias", fail)
    with pytest.raises(ConnectionError):
        retrain(params)
    assert pointed_to("champion") == dict.fromkeys(MODELS, "None")
    refused = "2"
    retrain(params)
    with pytest.raises(ConnectionError):
        retrain(params, {"station": 0.5, "mall": 0.5})
    assert pointed_to("champion") == dict.fromkeys(MODELS, "1")


def test_what_a_killed_promotion_left_is_mended_by_the_next(params: Params) -> None:
    retrain(params)
    retrain(params, {"station": 0.25, "mall": 0.4})
    MlflowClient().set_registered_model_alias("qaconv-encoder", "champion", "2")
    retrain(params)
    assert pointed_to("champion") == dict.fromkeys(MODELS, "1")


def test_a_registration_that_broke_off_is_taken_up_where_it_stopped(
    params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken, pytest.raises(ConnectionError):
        broken.setattr("qaconv.registry.log_served", lambda *_: (_ for _ in ()).throw(ConnectionError()))
        retrain(params)
    retrain(params)
    assert numbers() == dict.fromkeys(MODELS, 1)


def test_signatures_are_the_graphs_own_with_any_batch_size(params: Params) -> None:
    retrain(params)
    encoder = mlflow.models.get_model_info("models:/qaconv-encoder@champion").signature.to_dict()
    matcher = mlflow.models.get_model_info("models:/qaconv-matcher@champion").signature.to_dict()

    def tensor(name: str, dtype: str, shape: list[int]) -> dict[str, Any]:
        return {"type": "tensor", "tensor-spec": {"dtype": dtype, "shape": shape}, "name": name}

    assert json.loads(encoder["inputs"]) == [tensor("images", "uint8", [-1, 4, 2, 3])]
    assert json.loads(encoder["outputs"]) == [tensor("maps", "float32", [-1, 3, 2, 1])]
    assert json.loads(matcher["inputs"]) == [
        tensor("query_maps", "float32", [-1, 3, 2, 1]),
        tensor("gallery_maps", "float32", [-1, 3, 2, 1]),
    ]
    assert json.loads(matcher["outputs"]) == [tensor("logits", "float32", [-1, -1])]


WITHOUT_THE_PACKAGE = """
import mlflow, numpy, onnxruntime
try:
    import qaconv
except ModuleNotFoundError:
    pass
else:
    raise SystemExit("the package is there, so this proves nothing")
encoder, matcher = (
    onnxruntime.InferenceSession(mlflow.onnx.load_model(f"models:/qaconv-{name}@champion").SerializeToString())
    for name in ("encoder", "matcher")
)
images = numpy.full((3, 4, 2, 3), 2, dtype=numpy.uint8)
(maps,) = encoder.run(None, {"images": images})
(logits,) = matcher.run(None, {"query_maps": maps[:2], "gallery_maps": maps})
print(logits.tolist())
"""


def test_graphs_load_from_the_registry_where_this_package_is_not_installed(params: Params, tmp_path: Path) -> None:
    retrain(params)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    # Without `site` the .pth file that installs this package from its folder is not read.
    settings = {"PYTHONPATH": sysconfig.get_path("purelib"), "MLFLOW_TRACKING_URI": mlflow.get_tracking_uri()}
    command = [sys.executable, "-S", "-P", "-c", WITHOUT_THE_PACKAGE]
    done = subprocess.run(
        command, cwd=elsewhere, env={**os.environ, **settings}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [[24.0] * 3] * 2  # 6 features of 2 * 2


def release(version: int, **maps: float) -> Release:
    return Release("qaconv", str(version), {}, maps, dict.fromkeys(maps, "same data"), "run")


maps = st.floats(0, 1)
gains = st.floats(0, 100)


@given(maps, maps, gains)
def test_a_challenger_is_promoted_only_if_it_is_better_by_the_gain(new: float, old: float, gain: float) -> None:
    promoted = decide(release(2, mall=new), release(1, mall=old), gain).promoted
    assert not (promoted and new <= old)
    assert promoted or 100 * (new - old) <= gain + 1e-5


@given(maps, gains)
def test_a_tie_never_promotes(value: float, gain: float) -> None:
    assert not decide(release(2, mall=value), release(1, mall=value), gain).promoted


def test_a_gain_of_exactly_the_minimum_promotes() -> None:
    assert decide(release(2, mall=0.405), release(1, mall=0.4), 0.5).promoted


def test_deployments_of_only_one_version_are_named_and_not_compared() -> None:
    promotion = decide(release(2, mall=0.5, market=0.01), release(1, mall=0.4, station=0.99), 0.0)
    assert promotion.promoted
    assert promotion.figures == {"mall": (50.0, 40.0)}
    assert promotion.reason.endswith(
        "Not compared, as only one of them was measured on the present data there: market, station."
    )


def test_versions_measured_on_different_deployments_are_not_compared_and_the_champion_stays() -> None:
    promotion = decide(release(2, market=0.5), release(1, mall=0.4), 0.0)
    assert not promotion.promoted
    assert "measured on market, the champion on mall" in promotion.reason


def test_figures_on_data_that_has_changed_since_are_not_compared() -> None:
    champion = replace(release(1, mall=0.4, station=0.9), data={"mall": "same data", "station": "older data"})
    promotion = decide(release(2, mall=0.5, station=0.1), champion, 0.0)
    assert promotion.promoted and promotion.figures == {"mall": (50.0, 40.0)}
    assert "station" in promotion.reason
