"""The learning rate drops when the watched error has fallen, and hopeless trainings stop."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest

from qaconv.errors import InputError
from qaconv.models.losses.hard_triplet import HardTriplet
from qaconv.training.methods.trained import TrainedMethod
from qaconv.training.schedule import has_fallen, lr_at, stop_if_hopeless
from tests.training import small_trainings
from tests.training.small_trainings import PAIRWISE, make_method

RECIPE = small_trainings.RECIPE.model_copy(update={"learnt_by_epoch": 3, "learnt_accuracy": 0.05})


COSINE = RECIPE.model_copy(update={"lr_schedule": "cosine", "epochs": 10, "lr_drop_epoch": 10})


def triplet(pairwise_epochs: int) -> TrainedMethod:
    return make_method(loss=HardTriplet(margin=16, pairwise_epochs=pairwise_epochs))


def epochs(
    losses: Sequence[float], accuracies: Sequence[float] = (0.5,) * 9, maps: Sequence[float] = (0,) * 9
) -> list[dict[str, float]]:
    return [
        {"epoch": number + 1, "loss": loss, "accuracy": accuracies[number], "holdout_map": maps[number]}
        for number, loss in enumerate(losses)
    ]


@pytest.mark.parametrize(
    ("losses", "fallen"), [([10, 8, 5.7], False), ([10, 8, 5.5], True), ([10, 5], False), ([10], False)]
)
def test_loss_has_fallen_when_it_is_below_the_set_fraction_of_the_second_epochs(
    losses: list[float], fallen: bool
) -> None:
    assert has_fallen(epochs(losses), RECIPE.model_copy(update={"lr_drop_when_loss_below": 0.7}), PAIRWISE) == fallen


def test_epochs_of_the_warm_up_do_not_count() -> None:
    recipe = RECIPE.model_copy(update={"lr_drop_when_loss_below": 0.7})
    assert not has_fallen(epochs([40, 30, 16, 15]), recipe, triplet(pairwise_epochs=2))
    assert has_fallen(epochs([40, 30, 16, 15, 10]), recipe, triplet(pairwise_epochs=2))
    assert has_fallen(epochs([40, 30, 16]), recipe, triplet(pairwise_epochs=0))


def test_schedule_watches_the_people_held_out_if_set() -> None:
    recipe = RECIPE.model_copy(update={"lr_drop_when_loss_below": 0.7, "lr_drop_by": "holdout"})
    assert not has_fallen(epochs([10, 8, 1], maps=[0.1, 0.5, 0.6]), recipe, PAIRWISE)
    assert has_fallen(epochs([10, 8, 9], maps=[0.1, 0.5, 0.7]), recipe, PAIRWISE)


def test_run_that_has_not_learnt_by_its_epoch_stops_with_what_it_reached() -> None:
    with pytest.raises(InputError, match=r"has not learnt: .* requires that 5.0% .* by epoch 3, got 4.0% at most"):
        stop_if_hopeless(epochs([9, 9, 9], [0.01, 0.04, 0.03]), RECIPE, PAIRWISE)


@pytest.mark.parametrize("accuracies", [[0.01, 0.06, 0.03], [0.01, 0.02]])
def test_run_that_has_learnt_once_or_still_has_time_goes_on(accuracies: list[float]) -> None:
    stop_if_hopeless(epochs([9] * len(accuracies), accuracies), RECIPE, PAIRWISE)


def test_hard_triplet_stops_at_its_margin_only_after_the_warm_up() -> None:
    stop_if_hopeless(epochs([16.0]), RECIPE, triplet(pairwise_epochs=1))
    stop_if_hopeless(epochs([9, 16.0]), RECIPE, PAIRWISE)
    with pytest.raises(InputError, match="stayed at its margin of 16.*pairwise_epochs"):
        stop_if_hopeless(epochs([9, 16.0]), RECIPE, triplet(pairwise_epochs=1))


def test_cosine_falls_along_half_a_wave_to_a_hundredth_after_the_warm_up() -> None:
    recipe = COSINE.model_copy(update={"lr_warm_up_epochs": 2})
    rates = [lr_at(epoch, recipe, 0.2, dropped=False) for epoch in (0.5, 2, 4, 6, 8, 10)]
    wave = [0.01 + 0.99 * (1 + np.cos(np.pi * share)) / 2 for share in (0, 0.25, 0.5, 0.75, 1)]
    assert rates == pytest.approx([0.05, *(0.2 * factor for factor in wave)])


def test_cosine_without_a_warm_up_begins_near_the_highest_rate_and_falls_in_every_step() -> None:
    rates = [lr_at(epoch, COSINE, 0.2, dropped=False) for epoch in np.linspace(0.1, 10, 100)]
    assert 0.199 < rates[0] < 0.2
    assert all(later < earlier for earlier, later in pairwise(rates))


@pytest.mark.parametrize("epoch", [1 / 3, 0.7, 1.9, 2.0, 2.3])
def test_step_schedule_gives_the_bits_of_the_warm_up_and_of_a_tenth(epoch: float) -> None:
    recipe = RECIPE.model_copy(update={"lr_warm_up_epochs": 2})
    assert lr_at(epoch, recipe, 0.007, dropped=False) == min(1.0, epoch / 2) * 0.007
    assert lr_at(epoch, recipe, 0.007, dropped=True) == min(1.0, epoch / 2) * 0.007 / 10
