"""The losses are their formulas, and their gradients are those of their values."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from qaconv.models import QAConv
from qaconv.models.losses import HardTripletLoss, IdentityLoss, PairwiseMatchingLoss, build_loss, hardest

PIDS = torch.tensor([0, 0, 1, 1, 2, 2])


class TableHead(nn.Module):
    """Stands in for the head where a test chooses the logits: the maps already are their rows."""

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
    assert PairwiseMatchingLoss(TableHead())(logits, PIDS).loss.item() == pytest.approx(expected)


@pytest.mark.parametrize("margin", [0.5, 16.0])
def test_hard_triplet_is_the_mean_hinge_of_the_hardest_pairs(logits: Tensor, margin: float) -> None:
    hinges = [max(0.0, margin - p + n) for p, n in zip(*plain_hardest(logits), strict=True)]
    found = HardTripletLoss(TableHead(), margin)(logits, PIDS).loss.item()
    assert found == pytest.approx(sum(hinges) / len(hinges))


@pytest.mark.parametrize("name", ["pairwise_matching", "hard_triplet"])
def test_accuracy_is_the_share_of_anchors_whose_hardest_positive_beats_the_hardest_negative(
    logits: Tensor, name: str
) -> None:
    right = [p > n for p, n in zip(*plain_hardest(logits), strict=True)]
    outcome = build_loss(name, TableHead(), margin=16.0, people=3)(logits, PIDS)
    assert outcome.accuracy.item() == pytest.approx(sum(right) / len(right))


def test_hard_triplet_rests_at_its_margin_when_all_scores_are_equal() -> None:
    outcome = HardTripletLoss(TableHead(), margin=16.0)(torch.zeros(6, 6), PIDS)
    assert (outcome.loss.item(), outcome.accuracy.item()) == (16.0, 0.0)


@pytest.mark.parametrize("name", ["pairwise_matching", "hard_triplet"])
@pytest.mark.parametrize("training", [True, False])
def test_gradients_through_the_head_are_those_of_finite_differences(name: str, training: bool) -> None:
    head = QAConv(channels=3, height=2, width=2).double().train(training)
    for norm in (head.local_norm, head.logit_norm):
        norm.momentum = 0.0  # a gradient check calls it often, and must find the same function each time
    loss = build_loss(name, head, margin=16.0, people=3)
    maps = torch.randn(6, 3, 2, 2, generator=torch.Generator().manual_seed(2), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda maps: loss(F.normalize(maps, dim=1), PIDS).loss, maps)


def test_identity_loss_is_softmax_triplet_and_matching_of_the_vectors() -> None:
    loss = IdentityLoss(QAConv(channels=4, height=1, width=1).eval(), people=3)
    maps = F.normalize(torch.randn(6, 4, 1, 1, generator=torch.Generator().manual_seed(3)), dim=1)
    vectors, prototypes = maps.flatten(1), F.normalize(loss.prototypes.weight, dim=1)
    expected = 0.0
    for i, pid in enumerate(PIDS.tolist()):
        scores = [math.exp(16 * (vectors[i] @ prototype).item()) for prototype in prototypes]
        cosines = [(vectors[i] @ vector).item() for vector in vectors]
        positive = min(c for j, c in enumerate(cosines) if PIDS[j] == pid and j != i)
        negative = max(c for j, c in enumerate(cosines) if PIDS[j] != pid)
        expected += (max(0.0, 0.3 - positive + negative) - math.log(scores[pid] / sum(scores))) / len(PIDS)
    expected += PairwiseMatchingLoss(loss.matching.head)(maps, PIDS).loss.item()
    assert loss(maps, PIDS).loss.item() == pytest.approx(expected, rel=1e-5)


def test_the_matching_term_of_the_identity_loss_moves_no_vector() -> None:
    maps = F.normalize(torch.randn(6, 4, 1, 1, generator=torch.Generator().manual_seed(3)), dim=1)
    loss = IdentityLoss(QAConv(channels=4, height=1, width=1), people=3)

    def gradient() -> Tensor:
        leaf = maps.clone().requires_grad_()
        return torch.autograd.grad(loss(leaf, PIDS).loss, leaf)[0]

    before = gradient()
    with torch.no_grad():
        loss.matching.head.logit_norm.weight.mul_(50)
    assert torch.equal(gradient(), before)
