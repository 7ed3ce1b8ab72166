"""The identity loss equals its formula."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from qaconv.models import QAConv
from qaconv.models.losses.identity_module import IdentityLoss
from qaconv.models.losses.pairwise_matching import PairwiseMatching

PIDS = torch.tensor([0, 0, 1, 1, 2, 2])


def test_identity_loss_is_softmax_triplet_and_matching_of_the_vectors() -> None:
    head = QAConv(channels=4, height=1, width=1).eval()
    loss = IdentityLoss(head, people=3)
    maps = F.normalize(torch.randn(6, 4, 1, 1, generator=torch.Generator().manual_seed(3)), dim=1)
    vectors, prototypes = maps.flatten(1), F.normalize(loss.prototypes.weight, dim=1)
    expected = 0.0
    for i, pid in enumerate(PIDS.tolist()):
        scores = [math.exp(16 * (vectors[i] @ prototype).item()) for prototype in prototypes]
        cosines = [(vectors[i] @ vector).item() for vector in vectors]
        positive = min(c for j, c in enumerate(cosines) if PIDS[j] == pid and j != i)
        negative = max(c for j, c in enumerate(cosines) if PIDS[j] != pid)
        expected += (max(0.0, 0.3 - positive + negative) - math.log(scores[pid] / sum(scores))) / len(PIDS)
    expected += PairwiseMatching().build(head, people=3)(maps, PIDS).loss.item()
    assert loss(maps, PIDS).loss.item() == pytest.approx(expected, rel=1e-5)


def test_the_matching_term_of_the_identity_loss_moves_no_vector() -> None:
    maps = F.normalize(torch.randn(6, 4, 1, 1, generator=torch.Generator().manual_seed(3)), dim=1)
    head = QAConv(channels=4, height=1, width=1)
    loss = IdentityLoss(head, people=3)

    def gradient() -> Tensor:
        leaf = maps.clone().requires_grad_()
        return torch.autograd.grad(loss(leaf, PIDS).loss, leaf)[0]

    before = gradient()
    with torch.no_grad():
        head.logit_norm.weight.mul_(50)
    assert torch.equal(gradient(), before)
