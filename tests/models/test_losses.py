"""The losses are their formulas, and their gradients are those of their values."""

import math
from collections.abc import Callable
from typing import Literal

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from qaconv.models import QAConv, losses
from qaconv.models.losses import (
    ClassMemoryLoss,
    HardTripletLoss,
    IdentityLoss,
    PairwiseMatchingLoss,
    build_loss,
    hardest,
)

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


CLASSES = 40  # three blocks


def small_head(variant: Literal["v1", "v2"] = "v2") -> QAConv:
    with torch.random.fork_rng():
        torch.manual_seed(4)
        return QAConv(channels=3, height=2, width=2, variant=variant).double()


def some_maps(count: int, seed: int) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(count, 3, 2, 2, generator=rng, dtype=torch.float64), dim=1)


def filled_memory(head: QAConv, classes: int = CLASSES) -> ClassMemoryLoss:
    """All classes but every fourth have been seen."""
    loss = ClassMemoryLoss(head, classes).double()
    for pid in range(classes):
        if pid % 4 != 3:
            loss._remember(some_maps(1, 100 + pid), torch.tensor([pid]))
    return loss


def plain_class_memory(loss: ClassMemoryLoss, maps: Tensor, pids: Tensor) -> Tensor:
    """One logit at a time, block by block, with nothing but autograd."""
    seen = [pid for pid in range(len(loss.seen)) if loss.seen[pid]]
    total, blocks = torch.zeros((), dtype=maps.dtype), math.ceil(len(seen) / 16)
    for block in torch.tensor(seen).tensor_split(blocks):
        logits = loss.head(maps, loss.memory[block])
        for i, pid in enumerate(pids.tolist()):
            for j, other in enumerate(block.tolist()):
                probability = torch.sigmoid(logits[i, j] if pid == other else -logits[i, j])
                total = total - (1 - probability) ** 2 * torch.log(probability) / len(pids)
    return total


@pytest.mark.parametrize("at_once", [1, 2, 64], ids="{} blocks at once".format)
@pytest.mark.parametrize("variant", ["v1", "v2"])
@pytest.mark.parametrize("training", [True, False])
def test_class_memory_and_its_gradients_are_those_of_a_plain_calculation(
    training: bool, variant: Literal["v1", "v2"], at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(losses, "_blocks_at_once", lambda device: at_once)
    pids = torch.tensor([0, 3, 17, 39, 20])  # 3 and 39 have not been seen
    found = []
    for compute in (plain_class_memory, lambda loss, maps, pids: loss(maps, pids).loss):
        head = small_head(variant).train(training)
        loss, maps = filled_memory(head), some_maps(5, 1).requires_grad_()
        value = compute(loss, maps, pids)
        gradients = torch.autograd.grad(3 * value, [maps, *head.parameters()])
        found.append([value, *gradients, head.local_norm.running_mean, head.logit_norm.running_var])
    for plain, ours in zip(*found, strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-9, atol=1e-12)


def test_small_gradients_of_class_memory_do_not_vanish_in_half_precision() -> None:
    pids, found = torch.arange(30), []
    for half in (False, True):
        head = QAConv(channels=3, height=2, width=2).train()
        loss = filled_memory(head.double()).float()
        with torch.no_grad():
            head.logit_norm.weight.fill_(1e-4)  # of logits, and so of their gradients
        maps = some_maps(30, 1).float().requires_grad_()
        with torch.autocast("cpu", torch.float16, enabled=half):
            value = loss(maps, pids).loss
        value.backward()
        assert maps.grad is not None and head.weight.weight.grad is not None
        found.append((maps.grad, head.weight.weight.grad))
    for whole, halved in zip(*found, strict=True):
        assert (halved - whole).norm() < 0.02 * whole.norm()


def test_class_memory_accuracy_is_the_share_of_images_whose_own_class_scores_highest_of_all() -> None:
    head = small_head().eval()
    loss, maps, pids = filled_memory(head), some_maps(30, 2), torch.arange(30)
    known = loss.seen.nonzero().flatten()
    expected = (known[head(maps, loss.memory[known]).argmax(dim=1)] == pids).double().mean()
    assert loss(maps, pids).accuracy.item() == pytest.approx(expected.item())
    known_again = loss(maps, pids)  # each image now stands in the memory itself
    assert known_again.accuracy.item() > expected.item()


def test_class_memory_holds_the_latest_map_of_each_class_detached_and_only_after_the_step() -> None:
    loss = ClassMemoryLoss(small_head(), CLASSES).double()
    maps = some_maps(3, 3).requires_grad_()
    assert loss(maps, torch.tensor([5, 8, 5])).loss.item() == 0  # nothing is known yet
    assert torch.equal(loss.memory[5], maps[2]) and torch.equal(loss.memory[8], maps[1])
    assert not loss.memory.requires_grad
    assert loss.seen.nonzero().flatten().tolist() == [5, 8]


def test_ten_thousand_classes_take_little_more_memory_than_their_maps(peak_bytes: Callable) -> None:
    head = QAConv(channels=4, height=8, width=4)
    loss = ClassMemoryLoss(head, 10_000)
    loss.memory.copy_(F.normalize(torch.randn(loss.memory.shape), dim=1))
    loss.seen.fill_(True)
    maps = F.normalize(torch.randn(4, 4, 8, 4), dim=1).requires_grad_()
    cosines = 4 * 10_000 * 32 * 32 * 4  # bytes of all pairs' tables, 164 MB

    def step() -> None:
        loss(maps, torch.arange(4)).loss.backward()

    assert peak_bytes(step) < cosines / 10
