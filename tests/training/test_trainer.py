"""Trainings that are killed, resumed, stopped or scheduled."""

import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from qaconv.config import BackboneConfig, TrainConfig
from qaconv.config.kinds import LossSettings, SamplerSettings
from qaconv.data.samplers.domain_balanced import DomainBalancedSampler
from qaconv.data.samplers.graph import GraphSampler
from qaconv.data.samplers.pk import PKSampler
from qaconv.data.samplers.random import RandomSampler
from qaconv.data.training_reader import TrainingCrops
from qaconv.errors import InputError
from qaconv.models.checkpoint import Architecture, build_network
from qaconv.models.head import QAConv
from qaconv.models.losses import Outcome
from qaconv.models.losses.class_memory import ClassMemory
from qaconv.models.losses.hard_triplet import HardTriplet
from qaconv.models.losses.identity import Identity
from qaconv.models.losses.pairwise_matching import PairwiseMatching
from qaconv.training import trainer
from qaconv.training.holdout import Holdout
from qaconv.training.methods.trained import TrainedMethod
from tests.training.small_trainings import IMAGES, PAIRWISE, PEOPLE, RECIPE, SIZE, draw_people, make_method, run

Undisturbed = Callable[..., tuple[dict[str, Tensor], pd.DataFrame]]

ADAM = RECIPE.model_copy(update={"optimiser": "adam", "lr_warm_up_epochs": 2, "lr": 1e-3, "backbone_lr": 1e-3})


@pytest.fixture(scope="module")
def crops(tmp_path_factory: pytest.TempPathFactory) -> TrainingCrops:
    return draw_people(tmp_path_factory.mktemp("people"))


@pytest.fixture(scope="module")
def undisturbed(crops: TrainingCrops, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    """Return a function that trains without a disturbance, once for each method."""
    done: dict[str, tuple[dict[str, Tensor], pd.DataFrame]] = {}

    def train(method: TrainedMethod = PAIRWISE, recipe: TrainConfig = RECIPE) -> tuple[dict[str, Tensor], pd.DataFrame]:
        key = repr(method)
        if key not in done:
            done[key] = run(crops, tmp_path_factory.mktemp("undisturbed"), recipe, method)
        weights, history = done[key]
        return dict(weights), history.copy()

    return train


def assert_equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    for name in one:
        assert torch.equal(one[name], other[name]), name


def kill_after(monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    """Raise KeyboardInterrupt in the step after `steps` steps."""
    original = trainer._Learner.step
    taken: list[None] = []

    def step(self: trainer._Learner, *batch: Any) -> Outcome:
        if len(taken) == steps:
            raise KeyboardInterrupt
        taken.append(None)
        return original(self, *batch)

    monkeypatch.setattr(trainer._Learner, "step", step)


@pytest.mark.parametrize(
    ("steps", "sampler", "loss"),
    [
        *((steps, PKSampler(), PairwiseMatching()) for steps in (0, 3, 4, 5, 11)),
        (8, GraphSampler(), PairwiseMatching()),
        (4, RandomSampler(), ClassMemory()),
        (8, DomainBalancedSampler(), HardTriplet(margin=4, pairwise_epochs=1)),
        (4, PKSampler(), Identity()),
    ],
)
def test_run_killed_at_any_step_ends_with_the_weights_of_one_that_was_not(
    crops: TrainingCrops,
    undisturbed: Undisturbed,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    steps: int,
    sampler: SamplerSettings,
    loss: LossSettings,
) -> None:
    method = make_method("pooled" if loss.needs_vectors else "qaconv", sampler=sampler, loss=loss)
    recipe = ADAM if loss.needs_vectors else RECIPE
    expected, history = undisturbed(method, recipe)
    with monkeypatch.context() as patch:
        kill_after(patch, steps)
        with pytest.raises(KeyboardInterrupt):
            run(crops, tmp_path, recipe, method)
    resumed, resumed_history = run(crops, tmp_path, recipe, method)
    assert_equal(resumed, expected)
    assert resumed_history.equals(history)


def test_killed_run_does_not_start_over(
    crops: TrainingCrops, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with monkeypatch.context() as patch:
        kill_after(patch, 8)
        with pytest.raises(KeyboardInterrupt):
            run(crops, tmp_path)
    with monkeypatch.context() as patch, caplog.at_level(logging.INFO), pytest.raises(KeyboardInterrupt):
        kill_after(patch, 0)
        run(crops, tmp_path)
    assert "resumes at epoch 2 of 3, step 2" in caplog.text


def test_state_of_another_run_is_not_resumed(
    crops: TrainingCrops,
    undisturbed: Undisturbed,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with monkeypatch.context() as patch:
        kill_after(patch, 8)
        with pytest.raises(KeyboardInterrupt):
            run(crops, tmp_path, seed=2, fingerprint="other")
    fresh, _ = run(crops, tmp_path)
    assert "training starts from the beginning" in caplog.text
    assert_equal(fresh, undisturbed()[0])


def test_processes_that_read_images_do_not_change_the_weights(
    crops: TrainingCrops, undisturbed: Undisturbed, tmp_path: Path
) -> None:
    assert_equal(run(crops, tmp_path, workers=2)[0], undisturbed()[0])


def test_another_seed_gives_other_weights(crops: TrainingCrops, undisturbed: Undisturbed, tmp_path: Path) -> None:
    weights = undisturbed()[0]
    other_weights = run(crops, tmp_path, seed=9)[0]
    assert not torch.equal(weights["neck.weight"], other_weights["neck.weight"])


@pytest.mark.parametrize(
    "method",
    [
        PAIRWISE,
        make_method("pooled", loss=Identity()),
        PAIRWISE.model_copy(update={"loss": HardTriplet(margin=4)}),
        PAIRWISE.model_copy(update={"loss": ClassMemory(), "sampler": RandomSampler()}),
    ],
)
def test_training_learns_to_tell_six_colours_apart(crops: TrainingCrops, tmp_path: Path, method: TrainedMethod) -> None:
    optimiser, lr = ("adam", 0.01) if method.kind == "pooled" else ("sgd", 0.02)
    changes = {"epochs": 12, "lr_drop_epoch": 10, "optimiser": optimiser, "lr": lr, "backbone_lr": lr}
    _, history = run(crops, tmp_path, RECIPE.model_copy(update=changes), method)
    if method.loss != ClassMemory():  # its loss grows with the classes that it has seen
        assert history["loss"].iloc[-1] < 0.9 * history["loss"].iloc[0]
    assert history["accuracy"].iloc[-1] > history["accuracy"].iloc[0]


def test_learning_rate_drops_tenfold_at_its_epoch_and_every_epoch_is_trained(
    crops: TrainingCrops, tmp_path: Path
) -> None:
    recipe = RECIPE.model_copy(update={"epochs": 7, "lr_drop_epoch": 4})
    _, history = run(crops, tmp_path, recipe)
    assert history["lr"].tolist() == pytest.approx([0.05] * 4 + [0.005] * 3)


def test_learning_rates_rise_linearly_during_the_warm_up(
    crops: TrainingCrops, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates = []
    original = trainer._Learner.step

    def step(self: trainer._Learner, *batch: Any) -> Outcome:
        rates.append([group["lr"] for group in self.optimiser.param_groups])
        return original(self, *batch)

    monkeypatch.setattr(trainer._Learner, "step", step)
    run(crops, tmp_path, RECIPE.model_copy(update={"lr_warm_up_epochs": 2, "backbone_lr": 0.01}))
    steps = len(rates) // 3  # of an epoch
    factors = [min((step + 1) / (2 * steps), 1) / (1 if step < 2 * steps else 10) for step in range(len(rates))]
    np.testing.assert_allclose(rates, np.outer(factors, [0.01, 0.05]))


class SteepHead(LossSettings):
    """A loss with a weight of its own, next to a head whose gradient is a million times larger."""

    kind: Literal["steep_head"] = "steep_head"

    def build(self, head: QAConv, people: int) -> nn.Module:
        return SteepHeadLoss(head)


class SteepHeadLoss(nn.Module):
    def __init__(self, head: QAConv) -> None:
        super().__init__()
        self.head, self.weight = head, nn.Parameter(torch.zeros(4))

    def forward(self, maps: Tensor, pids: Tensor) -> Outcome:
        steep = 1e6 * self.head.logit_norm.bias.sum()
        return Outcome(steep + 10 * self.weight.sum() + 1e4 * maps[:, 0].sum(), torch.ones(()))


def test_gradients_of_encoder_head_and_loss_are_clipped_by_their_norms_alone() -> None:
    backbone = BackboneConfig(name="resnet18", last_layer="layer2", neck_channels=8, weights="none")
    network = build_network(Architecture(backbone=backbone, image=SIZE, pooled=False), seed=1)
    method = PAIRWISE.model_copy(update={"loss": SteepHead()})
    recipe = RECIPE.model_copy(update={"clip_norm": 2})
    learner = trainer._Learner(network, recipe, method, torch.device("cpu"), people=3)
    learner.step(torch.rand(4, 3, 32, 16), torch.tensor([0, 0, 1, 1]), epoch=0)
    assert isinstance(learner.loss, SteepHeadLoss)
    for weights in (network.encoder.parameters(), network.head.parameters(), [learner.loss.weight]):
        norms = [weight.grad.norm() for weight in weights if weight.grad is not None]
        assert torch.stack(norms).norm().item() == pytest.approx(2, rel=1e-3)


def test_hard_triplet_that_stays_at_its_margin_stops_the_run(
    crops: TrainingCrops, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def all_scores_equal(self: QAConv, query_maps: Tensor, gallery_maps: Tensor) -> Tensor:
        return 0 * (query_maps.sum() + gallery_maps.sum()) + torch.zeros(len(query_maps), len(gallery_maps))

    monkeypatch.setattr("qaconv.models.head.QAConv.forward", all_scores_equal)
    with pytest.raises(InputError, match="hard triplet loss has stayed at its margin of 4.*pairwise_epochs"):
        run(crops, tmp_path, method=PAIRWISE.model_copy(update={"loss": HardTriplet(margin=4)}))


def test_learning_rate_drops_when_the_loss_has_fallen_far_enough(crops: TrainingCrops, tmp_path: Path) -> None:
    recipe = RECIPE.model_copy(update={"epochs": 20, "lr_drop_epoch": 20, "lr_drop_when_loss_below": 1.0})
    _, history = run(crops, tmp_path, recipe)
    losses = history["loss"].to_numpy()
    dropped = next(epoch for epoch in range(2, 20) if losses[epoch] < losses[1])
    assert history["lr"].tolist() == pytest.approx([0.05] * (dropped + 1) + [0.005] * ((dropped + 1) // 2))


def test_frozen_batchnorm_keeps_its_statistics(crops: TrainingCrops, undisturbed: Undisturbed, tmp_path: Path) -> None:
    weights, _ = run(crops, tmp_path, RECIPE.model_copy(update={"freeze_batchnorm": True}))
    assert torch.equal(weights["trunk.bn1.running_mean"], torch.zeros(64))
    assert not torch.equal(undisturbed()[0]["trunk.bn1.running_mean"], torch.zeros(64))


def test_half_precision_trains_on_the_cpu_to_finite_weights(crops: TrainingCrops, tmp_path: Path) -> None:
    weights, _ = run(crops, tmp_path, RECIPE.model_copy(update={"amp": True, "epochs": 1}))
    assert all(torch.isfinite(value.float()).all() for value in weights.values())


def test_loss_that_is_not_finite_stops_the_run(crops: TrainingCrops, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"must be finite, got nan; lower train\.lr"):
        run(crops, tmp_path, RECIPE.model_copy(update={"lr": 1e30, "clip_norm": 1e30}))


def test_fewer_people_than_a_batch_needs_are_refused(crops: TrainingCrops, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"identities_per_batch must be in 2\.\.6, got 7: .* 7 people of all sources"):
        run(crops, tmp_path, RECIPE.model_copy(update={"identities_per_batch": 7}))


def test_a_domain_with_fewer_people_than_its_share_of_a_batch_is_refused_by_name(
    crops: TrainingCrops, tmp_path: Path
) -> None:
    balanced = PAIRWISE.model_copy(update={"sampler": DomainBalancedSampler()})
    with pytest.raises(InputError, match=r"must be in 2\.\.4, got 6: .* 3 people of near, .* have 2"):
        run(crops, tmp_path, RECIPE.model_copy(update={"identities_per_batch": 6}), balanced)


def test_hard_triplet_run_begins_with_its_pairwise_epochs(
    crops: TrainingCrops, undisturbed: Undisturbed, tmp_path: Path
) -> None:
    triplet = PAIRWISE.model_copy(update={"loss": HardTriplet(margin=4, pairwise_epochs=2)})
    pairwise = undisturbed()[1]
    mixed = run(crops, tmp_path, RECIPE, triplet)[1]
    assert mixed["loss"].iloc[:2].tolist() == pairwise["loss"].iloc[:2].tolist()
    assert mixed["loss"].iloc[2] != pairwise["loss"].iloc[2]


def test_cost_of_the_graph_is_logged(crops: TrainingCrops, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        run(crops, tmp_path, method=PAIRWISE.model_copy(update={"sampler": GraphSampler()}))
    assert re.search(r"graph of 6 identities: encoded in .* s, matched in .* s \(\d+ pairs/s\)", caplog.text)


def test_schedule_that_watches_the_people_held_out_drops_when_their_error_has_fallen(
    crops: TrainingCrops, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    maps = iter([0.1, 0.2, 0.4, 0.5, 0.5, 0.5])
    monkeypatch.setattr(Holdout, "mean_average_precision", lambda *_, **__: next(maps))
    holdout = Holdout(crops.crops.paths, np.array(crops.labels), np.tile(np.arange(IMAGES), PEOPLE), SIZE)
    recipe = {"epochs": 9, "lr_drop_epoch": 9, "lr_drop_by": "holdout", "lr_drop_when_loss_below": 0.7}
    _, history = run(crops, tmp_path, RECIPE.model_copy(update=recipe), holdout=holdout)
    assert history["holdout_map"].tolist() == [0.1, 0.2, 0.4, 0.5, 0.5, 0.5]
    assert history["lr"].tolist() == pytest.approx([0.05] * 4 + [0.005] * 2)


def test_cosine_never_drops_and_trains_every_epoch(crops: TrainingCrops, tmp_path: Path) -> None:
    recipe = RECIPE.model_copy(update={"epochs": 4, "lr_drop_epoch": 4, "lr_schedule": "cosine"})
    _, history = run(crops, tmp_path, recipe)
    assert history["lr"].tolist() == pytest.approx([0.05 * factor for factor in (0.855018, 0.505, 0.154982, 0.01)])
