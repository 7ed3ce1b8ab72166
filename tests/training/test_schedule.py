"""The learning rate drops when the watched error has fallen, and hopeless trainings stop."""

from collections.abc import Sequence

import pytest

from qaconv.errors import InputError
from qaconv.models.losses.hard_triplet import HardTriplet
from qaconv.training.methods.trained import TrainedMethod
from qaconv.training.schedule import has_fallen, stop_if_hopeless
from tests.training import small_trainings
from tests.training.small_trainings import PAIRWISE, make_method

RECIPE = small_trainings.RECIPE.model_copy(update={"learnt_by_epoch": 3, "learnt_accuracy": 0.05})


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
