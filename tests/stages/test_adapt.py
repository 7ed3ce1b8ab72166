import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from qaconv.adaptation import rounds
from qaconv.adaptation.evidence import judge_by_times
from qaconv.adaptation.outcome import AdaptationMetrics
from qaconv.adaptation.view import View
from qaconv.config import Params, TrainConfig
from qaconv.data.manifest import Manifest
from qaconv.errors import InputError
from qaconv.matching.results import Matches
from qaconv.models.checkpoint import load_network
from qaconv.models.description import weights_digest
from qaconv.paths import ADAPTED, MODELS, PREPARED, UNFINISHED
from qaconv.stages.adapt import adapt
from qaconv.training import trainer
from qaconv.training.methods.trained import TrainedMethod
from tests.adaptation.small_target import COUNT, encode_by_torch, target_params, write_target

SHOP = ADAPTED / "shop"


@pytest.fixture(scope="module", autouse=True)
def quick_and_trained() -> Iterator[None]:
    """Encode without a graph, and keep the last round whatever times say of it, so that its weights are compared."""
    with pytest.MonkeyPatch.context() as patch:
        encode_by_torch(patch)
        patch.setattr(rounds.Rounds, "best", property(lambda made: (made.first, *made.later)[-1]))
        yield


@pytest.fixture(scope="module")
def params(tmp_path_factory: pytest.TempPathFactory) -> Params:
    return target_params(tmp_path_factory.mktemp("unused"))


@pytest.fixture(scope="module")
def project(params: Params, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project with a labelled target that has been adapted; its matches are those that the stage reads."""
    folder = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run(params, patch)
        yield folder


def run(params: Params, patch: pytest.MonkeyPatch, **target: Any) -> View:
    """Write a target and adapt to it in the working folder."""
    view = write_target(params, **target)
    patch.setattr(Matches, "load", lambda *_: view.matches)
    adapt(params, "shop")
    return view


@pytest.fixture
def copy(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the project in the working folder, which has not been adapted."""
    folder = tmp_path / "copy"
    shutil.copytree(project, folder)
    shutil.rmtree(folder / ADAPTED)
    monkeypatch.chdir(folder)
    return folder


def weights(folder: Path) -> bytes:
    return (folder / SHOP / "weights.safetensors").read_bytes()


def test_the_network_is_trained_on_identities_and_says_what_it_began_with(params: Params, project: Path) -> None:
    metrics = AdaptationMetrics.load(project / SHOP / "metrics.json")
    table = pd.read_csv(project / SHOP / "rounds.csv")
    assert table["round"].tolist() == list(range(len(table)))
    assert table["sightings"][1] > 20
    assert 0.8 < table["purity"][1] <= 1
    _, trained = load_network(project / SHOP)
    assert trained["adapted"]["network"] == weights_digest(project / MODELS / "qaconv")
    assert trained["adapted"]["kept_round"] == metrics.kept_round == 1
    assert weights_digest(project / SHOP) != weights_digest(project / MODELS / "qaconv")
    assert metrics.before.rankings and metrics.after.rankings
    assert list(metrics.before.rankings) == ["direct", "reranked", "tlift", "reranked_tlift"]


def test_other_pids_give_the_same_bytes_of_all_that_is_not_measured_by_them(
    params: Params, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run(params, monkeypatch, pids=np.random.default_rng(5).integers(-1, 9, COUNT))
    files = {path.name: path.read_bytes() for path in SHOP.iterdir()}
    measured = files.pop("metrics.json")
    assert sorted(files) == ["model.json", "profile.json", "rounds.csv", "weights.safetensors"]
    assert files == {name: (project / SHOP / name).read_bytes() for name in files}
    assert measured != (project / SHOP / "metrics.json").read_bytes()


def test_a_killed_adaptation_resumes_to_the_same_weights(
    params: Params, project: Path, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(Exception):
        pass

    with monkeypatch.context() as patch:
        patch.setattr(rounds, "judge_by_times", _raise_at_call(4, judge_by_times, Killed))
        with pytest.raises(Killed):
            adapt(params, "shop")
    assert (UNFINISHED / "adapt-shop" / "round-1" / "weights.safetensors").is_file()
    monkeypatch.setattr(rounds, "train", None)  # round 1 is not trained again
    adapt(params, "shop")
    assert weights(copy) == weights(project)
    assert not (UNFINISHED / "adapt-shop").exists()


def test_an_adaptation_that_is_killed_in_the_middle_of_a_round_resumes_to_the_same_weights(
    params: Params, project: Path, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(Exception):
        pass

    often = params.model_copy(update={"machine": params.machine.model_copy(update={"checkpoint_every_steps": 1})})
    steps: list[None] = []
    step = trainer._Learner.step

    def count(learner: trainer._Learner, *batch: Any) -> Any:
        steps.append(None)
        return step(learner, *batch)

    monkeypatch.setattr(trainer._Learner, "step", count)
    with monkeypatch.context() as patch:
        patch.setattr(trainer._Learner, "step", _raise_at_call(4, step, Killed))
        with pytest.raises(Killed):
            adapt(often, "shop")
    assert (UNFINISHED / "adapt-shop" / "training.pt").is_file()
    adapt(often, "shop")
    assert weights(copy) == weights(project)
    done = len(steps)
    shutil.rmtree(copy / ADAPTED)
    adapt(often, "shop")
    assert 0 < done < len(steps) - done  # the steps before the kill were not repeated


def _raise_at_call(number: int, call: Callable[..., Any], error: type[Exception]) -> Callable[..., Any]:
    calls = 0

    def counted(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == number:
            raise error
        return call(*arguments)

    return counted


def test_matches_of_another_network_are_refused(params: Params, copy: Path) -> None:
    (MODELS / "qaconv" / "weights.safetensors").write_bytes(b"another")
    with pytest.raises(InputError, match=r"artifacts/matches/shop: is of another network than artifacts/model/qaconv"):
        adapt(params, "shop")


@pytest.mark.parametrize("changes", [{"times": False}, {"permuted": True}], ids=["no times", "permuted times"])
def test_without_times_that_help_the_network_stays_as_it_was(
    params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, bool]
) -> None:
    monkeypatch.chdir(tmp_path)
    run(params, monkeypatch, **changes)
    metrics = AdaptationMetrics.load(SHOP / "metrics.json")
    assert (metrics.kept_round, metrics.right) == (0, None)
    assert metrics.reason.startswith("times are not used: ")
    assert weights_digest(SHOP) == weights_digest(MODELS / "qaconv")
    assert metrics.after == metrics.before


def test_a_method_that_was_trained_along_a_cosine_is_adapted_by_its_own_schedule(
    params: Params, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Seen(Exception):
        pass

    seen: list[TrainConfig] = []

    def see(*arguments: object, **_: object) -> None:
        seen.extend(each for each in arguments if isinstance(each, TrainConfig))
        raise Seen

    monkeypatch.setattr(rounds, "train", see)
    method = params.method("qaconv")
    assert isinstance(method, TrainedMethod)
    cosine = method.train.model_copy(update={"lr_schedule": "cosine", "ema_decay": 0.9})
    method = method.model_copy(update={"train": cosine})
    manifest = Manifest.load(PREPARED / "shop")
    folders = MODELS / "qaconv", copy / "rounds"
    adaptation = rounds.Adaptation(params, method, "shop", manifest, *folders, torch.device("cpu"))
    with pytest.raises(Seen):
        adaptation.train_round(1, np.arange(len(manifest.sightings())) % 4)
    assert (seen[0].lr_schedule, seen[0].lr_drop_epoch) == ("step", max(1, params.adapt.epochs - 1))
    assert seen[0].ema_decay == 0.9
