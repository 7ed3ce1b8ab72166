"""The result of a training may be the average of its weights, which leaves the training itself alone."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from qaconv.data.training_reader import TrainingCrops
from qaconv.models.checkpoint import Network
from qaconv.models.losses import Outcome
from qaconv.training import trainer
from qaconv.training.averaging import WeightAverage
from qaconv.training.holdout import Holdout
from tests.training.small_trainings import IMAGES, PAIRWISE, PEOPLE, RECIPE, SIZE, draw_people, run

AVERAGED = RECIPE.model_copy(update={"ema_decay": 0.8, "lr_schedule": "cosine", "lr_drop_epoch": 3})
LAST = AVERAGED.model_copy(update={"ema_decay": 0.0})


@pytest.fixture(scope="module")
def crops(tmp_path_factory: pytest.TempPathFactory) -> TrainingCrops:
    return draw_people(tmp_path_factory.mktemp("people"))


def state(network: Network) -> dict[str, Tensor]:
    return deepcopy({**network.encoder.state_dict(), **network.head.state_dict()})


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Tensor]]:
    """Collect the weights before the first step and after each one."""
    seen: list[dict[str, Tensor]] = []
    original = trainer._Learner.step

    def step(self: trainer._Learner, *batch: Any) -> Outcome:
        if not seen:
            seen.append(state(self.network))
        outcome = original(self, *batch)
        seen.append(state(self.network))
        return outcome

    monkeypatch.setattr(trainer._Learner, "step", step)
    return seen


def plain_average(steps: list[dict[str, Tensor]], name: str, decay: float) -> np.ndarray[Any, Any]:
    average = steps[0][name].double().numpy()
    for step, weights in enumerate(steps[1:], start=1):
        kept = min(decay, (1 + step) / (10 + step))
        average = kept * average + (1 - kept) * weights[name].double().numpy()
    return average


def test_result_is_the_moving_average_of_weights_and_statistics(
    crops: TrainingCrops, tmp_path: Path, steps: list[dict[str, Tensor]]
) -> None:
    result, _ = run(crops, tmp_path, AVERAGED)
    for name in ("neck.weight", "trunk.layer2.0.conv1.weight", "trunk.bn1.running_var", "logit_norm.running_mean"):
        np.testing.assert_allclose(result[name], plain_average(steps, name, 0.8), rtol=1e-4, atol=1e-6)
        assert not torch.equal(result[name], steps[-1][name])
    assert result["trunk.bn1.num_batches_tracked"] == len(steps) - 1


def test_averaging_changes_no_bit_of_the_training(
    crops: TrainingCrops, tmp_path: Path, steps: list[dict[str, Tensor]]
) -> None:
    _, history = run(crops, tmp_path, AVERAGED)
    trained = steps[-1]
    weights, plain_history = run(crops, tmp_path, LAST)
    assert all(torch.equal(weights[name], trained[name]) for name in weights)
    assert history.equals(plain_history)


@pytest.mark.parametrize("killed_after", [3, 8, 11])
def test_killed_run_ends_with_the_average_of_one_that_was_not(
    crops: TrainingCrops, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed_after: int
) -> None:
    expected, history = run(crops, tmp_path, AVERAGED)
    original = trainer._Learner.step
    taken: list[None] = []

    def step(self: trainer._Learner, *batch: Any) -> Outcome:
        if len(taken) == killed_after:
            raise KeyboardInterrupt
        taken.append(None)
        return original(self, *batch)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(trainer._Learner, "step", step)
        run(crops, tmp_path, AVERAGED)
    resumed, resumed_history = run(crops, tmp_path, AVERAGED)
    assert all(torch.equal(resumed[name], expected[name]) for name in expected)
    assert resumed_history.equals(history)


def test_run_killed_before_its_network_was_saved_ends_with_the_average(
    crops: TrainingCrops, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, _ = run(crops, tmp_path, AVERAGED)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(WeightAverage, "copy_to", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        run(crops, tmp_path, AVERAGED)
    resumed, _ = run(crops, tmp_path, AVERAGED)
    assert all(torch.equal(resumed[name], expected[name]) for name in expected)


def test_schedule_that_watches_people_held_out_measures_the_average(
    crops: TrainingCrops, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[dict[str, Tensor]] = []

    def measure(_: Holdout, network: Network, **__: object) -> float:
        measured.append(state(network))
        return 0.5

    monkeypatch.setattr(Holdout, "mean_average_precision", measure)
    holdout = Holdout(crops.crops.paths, np.array(crops.labels), np.tile(np.arange(IMAGES), PEOPLE), SIZE)
    recipe = RECIPE.model_copy(update={"ema_decay": 0.8, "lr_drop_by": "holdout"})
    result, _ = run(crops, tmp_path, recipe, PAIRWISE, holdout=holdout)
    assert all(torch.equal(measured[-1][name], result[name]) for name in result)
