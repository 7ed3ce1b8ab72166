"""A training that begins with the champion's network: `backbone.weights: champion`."""

import shutil
from hashlib import sha256
from pathlib import Path

import pytest
from mlflow import MlflowClient

from qaconv.config import Params
from qaconv.errors import InputError
from qaconv.registry import register
from qaconv.registry.promotion import promote
from qaconv.registry.runs import load_metrics, log_files, retraining_run
from qaconv.registry.starts import champions_recipe, fetch_starts, number_starts
from tests.tracked_projects import measure_again, write_lock

FILE = "champion-1.safetensors"


def begin_with(params: Params, weights: str) -> Params:
    """Return settings whose served method begins with these weights."""
    method = params.methods["qaconv"]
    changed = method.model_copy(update={"backbone": method.backbone.model_copy(update={"weights": weights})})
    return params.model_copy(update={"methods": {**params.methods, "qaconv": changed}})


def retrain(params: Params, direct_map: float) -> str:
    """Log and register in the working folder, as the flow does, and return the version."""
    maps = {"station": direct_map, "mall": direct_map}
    measure_again(Path("metrics"), maps)
    write_lock(Path(), maps)
    with retraining_run(params, {}):
        log_files(params)
        release = register(params, load_metrics(params))
        promote(release, params.gate)
    return release.version


@pytest.fixture
def champion(params: Params) -> Params:
    """Settings of a project whose version 1 is the champion, with all that a retraining logs."""
    retrain(params, 0.25)
    return params


def test_the_champion_is_numbered_and_its_network_is_fetched(champion: Params) -> None:
    assert number_starts(champion) == {}
    assert number_starts(begin_with(champion, "champion")) == {"methods.qaconv.backbone.weights": FILE}
    numbered = begin_with(champion, FILE)
    assert number_starts(numbered) == {}
    fetch_starts(numbered)
    assert Path("data/weights", FILE).read_text(encoding="utf-8") == "weights of qaconv"
    fetch_starts(numbered, Path("clone"))
    assert Path("clone/data/weights", FILE).is_file()


def test_what_a_training_began_with_is_in_the_versions_tags(champion: Params) -> None:
    numbered = begin_with(champion, FILE)
    fetch_starts(numbered)
    version = retrain(numbered, 0.5)
    digest = sha256(Path("data/weights", FILE).read_bytes()).hexdigest()
    assert MlflowClient().get_model_version("qaconv", version).tags["began_with"] == digest
    assert "began_with" not in MlflowClient().get_model_version("qaconv", "1").tags


def test_a_version_or_a_network_that_is_gone_is_named(champion: Params) -> None:
    with pytest.raises(InputError, match=r"champion-7\.safetensors: qaconv version 7 is gone from the registry"):
        fetch_starts(begin_with(champion, "champion-7.safetensors"))
    shutil.rmtree(next(Path("mlartifacts").rglob("network")))
    with pytest.raises(InputError, match=r"qaconv version 1: its run has no network/weights\.safetensors"):
        fetch_starts(begin_with(champion, FILE))


def test_an_adaptation_takes_the_recipe_that_the_champion_was_trained_with(champion: Params) -> None:
    assert champions_recipe(champion) == {}
    changed = champions_recipe(begin_with(champion, "imagenet"))
    assert changed["methods.qaconv"]["backbone"]["weights"] == "none"
