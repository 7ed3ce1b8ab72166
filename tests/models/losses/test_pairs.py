"""The losses of pairs are their formulas, and their gradients are those of their values."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from qaconv.models import QAConv
from qaconv.models.losses import PairLoss
from qaconv.models.losses.hard_triplet import HardTriplet
from qaconv.models.losses.pairs import hardest
from qaconv.models.losses.pairwise_matching import PairwiseMatching

PIDS = torch.tensor([0, 0, 1, 1, 2, 2])


class TableHead(nn.Module):
    """A head whose maps are the rows of the logits, for tests that choose the logits."""

    def forward(self, query_maps: Tensor, gallery_maps: Tensor) -> Tensor:
        return query_maps


@pytest.fixture
def logits() -> Tensor:
    return 5 * torch.randn(6, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def plain_hardest(logits: Tensor) -> tuple[list[float], list[float]]:
    people, indices = PIDS.tolist(), range(len(PIDS))
    positive = [min(logits[i, j].item() for j in indices if people[i] == people[j] and i != j) for i in indices]
    negative = [max(logits[i, j].item() for j in indices if people[i] != people[j]) for i in indices]
    return positive, negative


def test_hardest_pairs_are_those_of_a_loop_and_never_an_image_with_itself(logits: Tensor) -> None:
    logits.fill_diagonal_(-100.0)
    positive, negative = hardest(logits, PIDS)
    assert (positive.tolist(), negative.tolist()) == plain_hardest(logits)


def test_pairwise_matching_is_the_cross_entropy_summed_over_partners_and_averaged_over_anchors(logits: Tensor) -> None:
    expected = 0.0
    for i, anchor in enumerate(PIDS.tolist()):
        for j, other in enumerate(PIDS.tolist()):
            probability = 1 / (1 + math.exp(-logits[i, j].item()))
            expected -= math.log(probability if anchor == other else 1 - probability) / len(PIDS)
    assert PairwiseMatching().build(TableHead(), people=3)(logits, PIDS).loss.item() == pytest.approx(expected)


@pytest.mark.parametrize("margin", [0.5, 16.0])
def test_hard_triplet_is_the_mean_hinge_of_the_hardest_pairs(logits: Tensor, margin: float) -> None:
    hinges = [max(0.0, margin - p + n) for p, n in zip(*plain_hardest(logits), strict=True)]
    value = HardTriplet(margin=margin).build(TableHead(), people=3)(logits, PIDS).loss.item()
    assert value == pytest.approx(sum(hinges) / len(hinges))


@pytest.mark.parametrize("settings", [PairwiseMatching(), HardTriplet()], ids=lambda settings: settings.kind)
def test_accuracy_is_the_share_of_anchors_whose_hardest_positive_beats_the_hardest_negative(
    logits: Tensor, settings: PairLoss
) -> None:
    right = [p > n for p, n in zip(*plain_hardest(logits), strict=True)]
    outcome = settings.build(TableHead(), people=3)(logits, PIDS)
    assert outcome.accuracy.item() == pytest.approx(sum(right) / len(right))


def test_hard_triplet_equals_its_margin_when_all_scores_are_equal() -> None:
    outcome = HardTriplet(margin=16.0).build(TableHead(), people=3)(torch.zeros(6, 6), PIDS)
    assert (outcome.loss.item(), outcome.accuracy.item()) == (16.0, 0.0)


@pytest.mark.parametrize("settings", [PairwiseMatching(), HardTriplet()], ids=lambda settings: settings.kind)
@pytest.mark.parametrize("training", [True, False])
def test_gradients_through_the_head_are_those_of_finite_differences(settings: PairLoss, training: bool) -> None:
    head = QAConv(channels=3, height=2, width=2).double().train(training)
    for norm in (head.local_norm, head.logit_norm):
        norm.momentum = 0.0  # a gradient check calls it often, and must find the same function each time
    loss = settings.build(head, people=3)
    maps = torch.randn(6, 3, 2, 2, generator=torch.Generator().manual_seed(2), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda maps: loss(F.normalize(maps, dim=1), PIDS).loss, maps)


@pytest.mark.parametrize(("loss", "collapsed"), [(15.99, False), (15.9995, True), (16.0005, True), (16.01, False)])
def test_hard_triplet_has_collapsed_when_an_epochs_loss_equals_the_margin(loss: float, collapsed: bool) -> None:
    assert bool(HardTriplet(margin=16).find_collapse(loss)) == collapsed
    assert not PairwiseMatching().find_collapse(loss)
