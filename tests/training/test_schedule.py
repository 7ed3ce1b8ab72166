import pytest

from qaconv.config import MethodConfig, load_params
from qaconv.errors import InputError
from qaconv.training.schedule import has_fallen, refuse_hopeless

RECIPE = load_params().train.model_copy(update={"margin": 16, "learnt_by_epoch": 3, "learnt_accuracy": 0.05})
PAIRWISE = MethodConfig(pooled=False, loss="pairwise_matching", sampler="pk")
TRIPLET = MethodConfig(pooled=False, loss="hard_triplet", sampler="pk")


def epochs(losses, accuracies=None, maps=None):
    return [
        {"epoch": n + 1, "loss": loss, "accuracy": (accuracies or [0.5] * 9)[n], "holdout_map": (maps or [0] * 9)[n]}
        for n, loss in enumerate(losses)
    ]


@pytest.mark.parametrize(
    ("losses", "fallen"), [([10, 8, 5.7], False), ([10, 8, 5.5], True), ([10, 5], False), ([10], False)]
)
def test_the_loss_has_fallen_when_it_is_below_its_share_of_the_second_epoch_s(losses, fallen):
    assert has_fallen(epochs(losses), RECIPE.model_copy(update={"lr_drop_when_loss_below": 0.7}), PAIRWISE) == fallen


def test_epochs_of_pairwise_matching_are_no_measure_for_the_triplets_that_follow():
    recipe = RECIPE.model_copy(update={"lr_drop_when_loss_below": 0.7, "pairwise_epochs": 2})
    assert not has_fallen(epochs([40, 30, 16, 15]), recipe, TRIPLET)
    assert has_fallen(epochs([40, 30, 16, 15, 10]), recipe, TRIPLET)
    assert has_fallen(epochs([40, 30, 16]), recipe, PAIRWISE)  # the setting is the hard triplet's


def test_the_held_out_are_watched_instead_of_the_loss_where_asked_for():
    recipe = RECIPE.model_copy(update={"lr_drop_when_loss_below": 0.7, "lr_drop_by": "holdout"})
    assert not has_fallen(epochs([10, 8, 1], maps=[0.1, 0.5, 0.6]), recipe, PAIRWISE)
    assert has_fallen(epochs([10, 8, 9], maps=[0.1, 0.5, 0.7]), recipe, PAIRWISE)


def test_a_run_that_has_not_learnt_by_its_epoch_stops_with_what_it_reached():
    with pytest.raises(InputError, match=r"has not learnt: in 3 epochs at most 4.0%.*asks for 5.0% by epoch 3"):
        refuse_hopeless(epochs([9, 9, 9], [0.01, 0.04, 0.03]), RECIPE, PAIRWISE)


@pytest.mark.parametrize("accuracies", [[0.01, 0.06, 0.03], [0.01, 0.02]])
def test_a_run_goes_on_that_has_learnt_once_or_still_has_time(accuracies):
    refuse_hopeless(epochs([9] * len(accuracies), accuracies), RECIPE, PAIRWISE)


def test_only_triplets_can_rest_at_the_margin():
    recipe = RECIPE.model_copy(update={"pairwise_epochs": 1})
    refuse_hopeless(epochs([16.0]), recipe, TRIPLET)
    refuse_hopeless(epochs([9, 16.0]), recipe, PAIRWISE)
    with pytest.raises(InputError, match="rests at its margin of 16.*train.pairwise_epochs"):
        refuse_hopeless(epochs([9, 16.0]), recipe, TRIPLET)
