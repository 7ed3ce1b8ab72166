import logging
import re

import numpy as np
import pytest
import torch

from qaconv.errors import InputError
from qaconv.training import trainer
from qaconv.training.holdout import Holdout
from tests.training.small_trainings import IMAGES, PAIRWISE, PEOPLE, RECIPE, SIZE, draw_people, run


@pytest.fixture(scope="module")
def crops(tmp_path_factory):
    return draw_people(tmp_path_factory.mktemp("people"))


def assert_equal(one, other):
    assert one.keys() == other.keys()
    for name in one:
        assert torch.equal(one[name], other[name]), name


def killed_after(monkeypatch, steps):
    """From now on, the process dies before the step after `steps` steps."""
    original, taken = trainer._Learner.step, []

    def step(self, *batch):
        if len(taken) == steps:
            raise KeyboardInterrupt
        taken.append(None)
        return original(self, *batch)

    monkeypatch.setattr(trainer._Learner, "step", step)


@pytest.mark.parametrize(
    ("steps", "sampler", "loss", "pairwise_epochs"),
    [
        *((steps, "pk", "pairwise_matching", 0) for steps in (0, 3, 4, 5, 11)),
        (8, "graph", "pairwise_matching", 0),
        (4, "random", "class_memory", 0),
        (8, "domain_balanced", "hard_triplet", 1),
    ],
)
def test_a_run_killed_at_any_step_ends_with_the_weights_of_one_that_was_not(
    crops, tmp_path, monkeypatch, steps, sampler, loss, pairwise_epochs
):
    method = PAIRWISE.model_copy(update={"sampler": sampler, "loss": loss})
    recipe = RECIPE.model_copy(update={"pairwise_epochs": pairwise_epochs})
    undisturbed, history = run(crops, tmp_path / "undisturbed", recipe, method)
    with monkeypatch.context() as patch:
        killed_after(patch, steps)
        with pytest.raises(KeyboardInterrupt):
            run(crops, tmp_path, recipe, method)
    resumed, resumed_history = run(crops, tmp_path, recipe, method)
    assert_equal(resumed, undisturbed)
    assert resumed_history.equals(history)


def test_a_killed_run_does_not_start_over(crops, tmp_path, monkeypatch, caplog):
    with monkeypatch.context() as patch:
        killed_after(patch, 8)
        with pytest.raises(KeyboardInterrupt):
            run(crops, tmp_path)
    with monkeypatch.context() as patch, caplog.at_level(logging.INFO), pytest.raises(KeyboardInterrupt):
        killed_after(patch, 0)
        run(crops, tmp_path)
    assert "resumes at epoch 2 of 3, step 2" in caplog.text


def test_the_state_of_another_run_is_not_resumed(crops, tmp_path, monkeypatch, caplog):
    with monkeypatch.context() as patch:
        killed_after(patch, 8)
        with pytest.raises(KeyboardInterrupt):
            run(crops, tmp_path, seed=2, fingerprint="other")
    fresh, _ = run(crops, tmp_path)
    assert "training starts anew" in caplog.text
    assert_equal(fresh, run(crops, tmp_path / "undisturbed")[0])


def test_processes_that_read_images_do_not_change_the_weights(crops, tmp_path):
    assert_equal(run(crops, tmp_path, workers=2)[0], run(crops, tmp_path)[0])


def test_another_seed_gives_other_weights(crops, tmp_path):
    one, other = run(crops, tmp_path)[0], run(crops, tmp_path, seed=9)[0]
    assert not torch.equal(one["neck.weight"], other["neck.weight"])


@pytest.mark.parametrize(
    "method",
    [
        PAIRWISE,
        PAIRWISE.model_copy(update={"pooled": True, "loss": "identity"}),
        PAIRWISE.model_copy(update={"loss": "hard_triplet"}),
        PAIRWISE.model_copy(update={"loss": "class_memory", "sampler": "random"}),
    ],
)
def test_training_learns_to_tell_six_colours_apart(crops, tmp_path, method):
    recipe = RECIPE.model_copy(update={"epochs": 12, "lr": 0.02, "backbone_lr": 0.02, "lr_drop_epoch": 10})
    _, history = run(crops, tmp_path, recipe, method)
    if method.loss != "class_memory":  # whose loss grows with the classes that it knows
        assert history["loss"].iloc[-1] < 0.9 * history["loss"].iloc[0]
    assert history["accuracy"].iloc[-1] > history["accuracy"].iloc[0]


def test_learning_rate_drops_tenfold_at_its_epoch_and_every_epoch_is_trained(crops, tmp_path):
    recipe = RECIPE.model_copy(update={"epochs": 7, "lr_drop_epoch": 4})
    _, history = run(crops, tmp_path, recipe)
    assert history["lr"].tolist() == pytest.approx([0.05] * 4 + [0.005] * 3)


def test_hard_triplet_that_rests_at_its_margin_stops_the_run_with_a_word(crops, tmp_path, monkeypatch):
    def all_scores_equal(self, query_maps, gallery_maps):
        return 0 * (query_maps.sum() + gallery_maps.sum()) + torch.zeros(len(query_maps), len(gallery_maps))

    monkeypatch.setattr("qaconv.models.head.QAConv.forward", all_scores_equal)
    with pytest.raises(InputError, match="hard triplet loss rests at its margin of 4.*pairwise_epochs"):
        run(crops, tmp_path, method=PAIRWISE.model_copy(update={"loss": "hard_triplet"}))


def test_learning_rate_drops_when_the_loss_has_fallen_far_enough(crops, tmp_path):
    recipe = RECIPE.model_copy(update={"epochs": 20, "lr_drop_epoch": 20, "lr_drop_when_loss_below": 1.0})
    _, history = run(crops, tmp_path, recipe)
    losses = history["loss"].to_numpy()
    dropped = next(epoch for epoch in range(2, 20) if losses[epoch] < losses[1])
    assert history["lr"].tolist() == pytest.approx([0.05] * (dropped + 1) + [0.005] * ((dropped + 1) // 2))


def test_frozen_batchnorm_keeps_its_statistics(crops, tmp_path):
    weights, _ = run(crops, tmp_path, RECIPE.model_copy(update={"freeze_batchnorm": True}))
    assert torch.equal(weights["trunk.bn1.running_mean"], torch.zeros(64))
    assert not torch.equal(run(crops, tmp_path)[0]["trunk.bn1.running_mean"], torch.zeros(64))


def test_half_precision_trains_on_the_cpu_to_finite_weights(crops, tmp_path):
    weights, _ = run(crops, tmp_path, RECIPE.model_copy(update={"amp": True, "epochs": 1}))
    assert all(torch.isfinite(value.float()).all() for value in weights.values())


def test_a_loss_that_is_no_number_stops_the_run_with_a_word(crops, tmp_path):
    with pytest.raises(InputError, match="the loss is nan; lower train.lr"):
        run(crops, tmp_path, RECIPE.model_copy(update={"lr": 1e30, "clip_norm": 1e30}))


def test_fewer_people_than_a_batch_needs_are_refused(crops, tmp_path):
    with pytest.raises(InputError, match="identities_per_batch is 7, .*from all sources, .*show 6 people there"):
        run(crops, tmp_path, RECIPE.model_copy(update={"identities_per_batch": 7}))


def test_a_domain_with_fewer_people_than_its_share_of_a_batch_is_refused_by_name(crops, tmp_path):
    balanced = PAIRWISE.model_copy(update={"sampler": "domain_balanced"})
    with pytest.raises(InputError, match="identities_per_batch is 6, 3 of them from near, .*show 2 people .* 2 to 4"):
        run(crops, tmp_path, RECIPE.model_copy(update={"identities_per_batch": 6}), balanced)


def test_a_hard_triplet_run_begins_with_as_many_pairwise_epochs_as_asked_for(crops, tmp_path):
    triplet = PAIRWISE.model_copy(update={"loss": "hard_triplet"})
    pairwise = run(crops, tmp_path, RECIPE)[1]
    mixed = run(crops, tmp_path, RECIPE.model_copy(update={"pairwise_epochs": 2}), triplet)[1]
    assert mixed["loss"].iloc[:2].tolist() == pairwise["loss"].iloc[:2].tolist()
    assert mixed["loss"].iloc[2] != pairwise["loss"].iloc[2]


def test_the_cost_of_the_graph_is_logged(crops, tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        run(crops, tmp_path, method=PAIRWISE.model_copy(update={"sampler": "graph"}))
    assert re.search(r"graph of 6 identities: encoded in .* s, matched in .* s \(\d+ pairs/s\)", caplog.text)


def test_a_schedule_that_watches_the_held_out_drops_when_their_error_has_fallen(crops, tmp_path, monkeypatch):
    found = iter([0.1, 0.2, 0.4, 0.5, 0.5, 0.5])
    monkeypatch.setattr(Holdout, "mean_average_precision", lambda *of, **where: next(found))
    holdout = Holdout(crops.crops.paths, np.array(crops.labels), np.tile(np.arange(IMAGES), PEOPLE), SIZE)
    recipe = {"epochs": 9, "lr_drop_epoch": 9, "lr_drop_by": "holdout", "lr_drop_when_loss_below": 0.7}
    _, history = run(crops, tmp_path, RECIPE.model_copy(update=recipe), holdout=holdout)
    assert history["holdout_map"].tolist() == [0.1, 0.2, 0.4, 0.5, 0.5, 0.5]
    assert history["lr"].tolist() == pytest.approx([0.05] * 4 + [0.005] * 2)
