"""What the epochs so far came to goes in; when the rate drops and training ends, or why it must stop, comes out."""

from collections.abc import Mapping, Sequence

from qaconv.config import MethodConfig, TrainConfig
from qaconv.errors import InputError

COLLAPSED = 1e-3  # an epoch's hard triplet loss this near its margin has learnt nothing

History = Sequence[Mapping[str, float]]  # a row an epoch: epoch, loss, accuracy, lr and, where watched, holdout_map


def warm_up(config: TrainConfig, method: MethodConfig) -> int:
    """Epochs that a method spends on pairwise matching before its own loss begins."""
    return config.pairwise_epochs if method.loss == "hard_triplet" else 0


def has_fallen(history: History, config: TrainConfig, method: MethodConfig) -> bool:
    """Whether what the schedule watches has fallen far enough below where it stood after its second epoch.

    The authors' v2.1 watches the training loss; the other choice is 1 - mAP of source people who are held out.
    """
    second = warm_up(config, method) + 1
    if len(history) <= second:
        return False
    watched = [row["loss"] if config.lr_drop_by == "training_loss" else 1 - row["holdout_map"] for row in history]
    return watched[-1] < config.lr_drop_when_loss_below * watched[second]


def refuse_hopeless(history: History, config: TrainConfig, method: MethodConfig) -> None:
    """Stops a run that would only cost time.

    Raises:
        InputError: the hard triplet loss rests at its margin, or `learnt_by_epoch` has come and no epoch has had
            `learnt_accuracy`.
    """
    row = history[-1]
    own = len(history) > warm_up(config, method)
    if own and method.loss == "hard_triplet" and abs(row["loss"] - config.margin) < COLLAPSED:
        raise InputError(
            f"training: the hard triplet loss rests at its margin of {config.margin:g}: all scores are equal, and "
            "nothing is learnt; legal is to begin with pairwise matching, by train.pairwise_epochs, or to lower "
            "train.margin"
        )
    best = max(row["accuracy"] for row in history)
    if len(history) == config.learnt_by_epoch and best < config.learnt_accuracy:
        raise InputError(
            f"training: has not learnt: in {len(history)} epochs at most {best:.1%} of an epoch's images were "
            f"matched right, and train.learnt_accuracy asks for {config.learnt_accuracy:.1%} by epoch "
            f"{config.learnt_by_epoch}; what may help is another train.lr, pretrained backbone.weights, milder augment "
            "or loss pairwise_matching"
        )
