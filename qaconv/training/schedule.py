"""Decide after each epoch whether the learning rate drops, and whether a training must stop."""

from collections.abc import Mapping, Sequence

from qaconv.config import TrainConfig
from qaconv.errors import InputError
from qaconv.training.methods.trained import TrainedMethod

History = Sequence[Mapping[str, float]]  # a row an epoch: epoch, loss, accuracy, lr and, if watched, holdout_map


def has_fallen(history: History, config: TrainConfig, method: TrainedMethod) -> bool:
    """Return whether the watched error has fallen below `lr_drop_when_loss_below` times that of the second epoch.

    The authors' v2.1 watches the training loss. The alternative is 1 - mAP of the people held out. Epochs of the loss's
    warm-up do not count.
    """
    second = method.loss.warm_up_epochs() + 1
    if len(history) <= second:
        return False
    errors = [row["loss"] if config.lr_drop_by == "training_loss" else 1 - row["holdout_map"] for row in history]
    return errors[-1] < config.lr_drop_when_loss_below * errors[second]


def stop_if_hopeless(history: History, config: TrainConfig, method: TrainedMethod) -> None:
    """Stop a run that learns nothing.

    Raises:
        InputError: the loss has collapsed, or `learnt_by_epoch` epochs have passed and none reached `learnt_accuracy`.
    """
    if len(history) > method.loss.warm_up_epochs() and (fault := method.loss.find_collapse(history[-1]["loss"])):
        raise InputError(f"training: {fault}")
    best = max(row["accuracy"] for row in history)
    if len(history) == config.learnt_by_epoch and best < config.learnt_accuracy:
        raise InputError(
            f"training: has not learnt: train.learnt_accuracy requires that {config.learnt_accuracy:.1%} of an epoch's "
            f"images are matched right by epoch {config.learnt_by_epoch}, got {best:.1%} at most; try another "
            "train.lr, pretrained backbone.weights, milder augment or loss pairwise_matching"
        )
