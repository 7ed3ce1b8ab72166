"""The identity loss equals its formula."""

import math

import pytest
import torch
from torch import Tensor

from qaconv.config import BackboneConfig
from qaconv.models import QAConv, build_encoder
from qaconv.models.losses.identity_module import IdentityLoss

PIDS = torch.tensor([0, 0, 1, 1, 2, 2])


def draw_vectors(images: int = 6, channels: int = 4) -> Tensor:
    return torch.randn(images, 2, channels, generator=torch.Generator().manual_seed(3))


def test_identity_loss_is_smoothed_softmax_after_the_neck_and_triplet_of_distances_before_it() -> None:
    loss = IdentityLoss(QAConv(channels=4, height=1, width=1), people=3)
    vectors, expected, right = draw_vectors(), 0.0, 0
    features, centred = vectors.unbind(dim=1)
    for i, pid in enumerate(PIDS.tolist()):
        logits = [(centred[i] @ row).item() for row in loss.classifier.weight]
        log_sum = math.log(sum(map(math.exp, logits)))
        targets = [0.9 + 0.1 / 3 if person == pid else 0.1 / 3 for person in range(3)]
        softmax = -sum(target * (logit - log_sum) for target, logit in zip(targets, logits, strict=True))
        distances = [math.dist(features[i].tolist(), feature.tolist()) for feature in features]
        same = [j != i and PIDS[j].item() == pid for j in range(6)]
        positive = max(distance for distance, is_same in zip(distances, same, strict=True) if is_same)
        negative = min(distance for distance, other in zip(distances, PIDS.tolist(), strict=True) if other != pid)
        expected += (softmax + max(0.0, 0.3 + positive - negative)) / len(PIDS)
        cosines = torch.cosine_similarity(centred[i], centred, dim=1)
        right += int(cosines[torch.tensor(same)].min() > cosines[pid != PIDS].max())
    outcome = loss(vectors, PIDS)
    assert outcome.loss.item() == pytest.approx(expected, rel=1e-5)
    assert outcome.accuracy.item() == pytest.approx(right / len(PIDS))


def test_identity_loss_trains_every_weight_of_encoder_and_loss_but_the_head_and_the_bias_of_the_neck() -> None:
    config = BackboneConfig(name="resnet18", last_layer="layer2", neck_channels="none", weights="none")
    encoder, head = build_encoder(config, pooled=True), QAConv(channels=128, height=1, width=1)
    loss = IdentityLoss(head, people=3)
    loss(encoder(torch.rand(6, 3, 32, 16), vectors=True), PIDS).loss.backward()
    still = {name for part in (encoder, loss) for name, weight in part.named_parameters() if weight.grad is None}
    assert still == {"pool.1.bias", *(f"head.{name}" for name, _ in head.named_parameters())}
