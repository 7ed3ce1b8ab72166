"""Compute the identity loss, with a linear classifier of the training people."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from qaconv.models.head import QAConv
from qaconv.models.losses import Outcome
from qaconv.models.losses.pairs import hardest


class IdentityLoss(nn.Module):
    """Softmax over the training people and hard triplet, for pooled vectors (Luo et al., CVPRW 2019).

    The softmax, with label smoothing, classifies features after the BNNeck. The triplet (Hermans et al., arXiv
    1703.07737) compares Euclidean distances of features before it, which need not be spread over a sphere.

    Args:
        head: the network's head, which is not trained: `Holdout.fit_head` fits it to the trained vectors.
        people: number of people, whose indices are 0..people-1.
    """

    SMOOTHING = 0.1  # of labels
    MARGIN = 0.3  # of the triplet, in distance

    def __init__(self, head: QAConv, people: int) -> None:
        super().__init__()
        self.head = head
        self.classifier = nn.Linear(head.channels, people, bias=False)
        nn.init.normal_(self.classifier.weight, std=0.001)

    def forward(self, vectors: Tensor, pids: Tensor) -> Outcome:
        """Compute the loss of vectors [B, 2, C], before and after the BNNeck, with the person indices `pids`, [B]."""
        features, centred = vectors.unbind(dim=1)
        softmax = F.cross_entropy(self.classifier(centred), pids, label_smoothing=self.SMOOTHING)
        positive, negative = hardest(-torch.cdist(features, features), pids)
        triplet = F.relu(self.MARGIN - positive + negative).mean()
        matched = F.normalize(centred.detach(), dim=1)
        positive, negative = hardest(matched @ matched.T, pids)
        return Outcome(softmax + triplet, (positive > negative).float().mean())
