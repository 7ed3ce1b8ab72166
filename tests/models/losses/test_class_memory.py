"""Class memory equals a plain calculation, and its memory holds the latest maps."""

import math
from collections.abc import Callable
from typing import Literal

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from qaconv.models import QAConv
from qaconv.models.losses import class_memory_module
from qaconv.models.losses.class_memory_module import ClassMemoryLoss

CLASSES = 40  # three blocks


def small_head(variant: Literal["v1", "v2"] = "v2") -> QAConv:
    with torch.random.fork_rng():
        torch.manual_seed(4)
        return QAConv(channels=3, height=2, width=2, variant=variant).double()


def some_maps(count: int, seed: int) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(count, 3, 2, 2, generator=rng, dtype=torch.float64), dim=1)


def filled_memory(head: QAConv, classes: int = CLASSES) -> ClassMemoryLoss:
    """Build a loss that has seen all classes except every fourth."""
    loss = ClassMemoryLoss(head, classes).double()
    for pid in range(classes):
        if pid % 4 != 3:
            loss._store(some_maps(1, 100 + pid), torch.tensor([pid]))
    return loss


def plain_class_memory(loss: ClassMemoryLoss, maps: Tensor, pids: Tensor) -> Tensor:
    """Compute the loss one logit at a time, block by block, with autograd alone."""
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
    monkeypatch.setattr(class_memory_module, "_blocks_at_once", lambda device: at_once)
    pids = torch.tensor([0, 3, 17, 39, 20])  # 3 and 39 have not been seen
    results = []
    for compute in (plain_class_memory, lambda loss, maps, pids: loss(maps, pids).loss):
        head = small_head(variant).train(training)
        loss, maps = filled_memory(head), some_maps(5, 1).requires_grad_()
        value = compute(loss, maps, pids)
        gradients = torch.autograd.grad(3 * value, [maps, *head.parameters()])
        results.append([value, *gradients, head.local_norm.running_mean, head.logit_norm.running_var])
    for plain, ours in zip(*results, strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-9, atol=1e-12)


def test_small_gradients_of_class_memory_do_not_vanish_in_half_precision() -> None:
    pids = torch.arange(30)
    gradients = []
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
        gradients.append((maps.grad, head.weight.weight.grad))
    for whole, halved in zip(*gradients, strict=True):
        assert (halved - whole).norm() < 0.02 * whole.norm()


def test_class_memory_accuracy_is_the_share_of_images_whose_own_class_scores_highest_of_all() -> None:
    head = small_head().eval()
    loss, maps, pids = filled_memory(head), some_maps(30, 2), torch.arange(30)
    known = loss.seen.nonzero().flatten()
    expected = (known[head(maps, loss.memory[known]).argmax(dim=1)] == pids).double().mean()
    assert loss(maps, pids).accuracy.item() == pytest.approx(expected.item())
    known_again = loss(maps, pids)  # now each image is in the memory itself
    assert known_again.accuracy.item() > expected.item()


def test_class_memory_holds_the_latest_map_of_each_class_detached_and_only_after_the_step() -> None:
    loss = ClassMemoryLoss(small_head(), CLASSES).double()
    maps = some_maps(3, 3).requires_grad_()
    assert loss(maps, torch.tensor([5, 8, 5])).loss.item() == 0  # nothing is known yet
    assert torch.equal(loss.memory[5], maps[2]) and torch.equal(loss.memory[8], maps[1])
    assert not loss.memory.requires_grad
    assert loss.seen.nonzero().flatten().tolist() == [5, 8]


def test_ten_thousand_classes_take_little_more_memory_than_their_maps(
    peak_bytes: Callable[[Callable[[], object]], int],
) -> None:
    head = QAConv(channels=4, height=8, width=4)
    loss = ClassMemoryLoss(head, 10_000)
    loss.memory.copy_(F.normalize(torch.randn(loss.memory.shape), dim=1))
    loss.seen.fill_(True)
    maps = F.normalize(torch.randn(4, 4, 8, 4), dim=1).requires_grad_()
    cosines = 4 * 10_000 * 32 * 32 * 4  # bytes of all pairs' tables, 164 MB

    def step() -> None:
        loss(maps, torch.arange(4)).loss.backward()

    assert peak_bytes(step) < cosines / 10
