"""Compute learning rates, and decide after each epoch whether they drop and whether a training must stop."""

import math
from collections.abc import Mapping, Sequence

from qaconv.config import TrainConfig
from qaconv.errors import InputError
from qaconv.training.methods.trained import TrainedMethod

History = Sequence[Mapping[str, float]]  # a row an epoch: epoch, loss, accuracy, lr and, if watched, holdout_map

COSINE_END = 0.01  # factor of a learning rate in the last step, Loshchilov and Hutter's eta_min


def lr_at(epoch: float, config: TrainConfig, highest: float, *, dropped: bool) -> float:
    """Return a learning rate in the step that ends at `epoch`.

    It rises linearly during the warm-up. Then it stays until it is divided by 10, or falls by half a cosine
    (Loshchilov and Hutter, ICLR 2017, without restarts).

    Args:
        epoch: such as 1.5 in the middle of the second epoch.
        config: the recipe.
        highest: learning rate after the warm-up, `lr` or `backbone_lr`.
        dropped: whether the schedule `step` has divided it by 10.

    Example:
        >>> from qaconv.config import TrainConfig
        >>> from qaconv.training.schedule import lr_at
        >>> config = TrainConfig.model_construct(epochs=10, lr_warm_up_epochs=2, lr_schedule="cosine")
        >>> [round(lr_at(epoch, config, 0.1, dropped=False), 4) for epoch in (1, 2, 6, 10)]
        [0.05, 0.1, 0.0505, 0.001]
    """
    warm_up = config.lr_warm_up_epochs
    factor = min(1.0, epoch / warm_up) if warm_up else 1.0
    if config.lr_schedule == "cosine" and epoch > warm_up:
        done = (epoch - warm_up) / (config.epochs - warm_up)
        return highest * (COSINE_END + (1 - COSINE_END) * (1 + math.cos(math.pi * done)) / 2)
    return factor * highest / (10 if dropped else 1)


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
