"""Compute the identity loss, with a prototype of each person."""

from torch import Tensor, nn
from torch.nn import functional as F

from qaconv.models.head import QAConv
from qaconv.models.losses import Outcome
from qaconv.models.losses.pairs import hardest
from qaconv.models.losses.pairwise_matching import PairwiseMatching


class IdentityLoss(nn.Module):
    """Softmax over the training people and hard triplet on cosines, for pooled vectors.

    The softmax compares directions (Wang et al., NormFace, ACM MM 2017); the triplet is that of Hermans et al.
    (arXiv 1703.07737). Pairwise matching on detached vectors fits the head's scale and does not move the vectors.

    Args:
        head: compares vectors, which are maps of one location.
        people: number of people, whose indices are 0..people-1.
    """

    SCALE = 16.0  # of the cosines in the softmax
    MARGIN = 0.3  # of the triplet, in cosine (Luo et al., CVPRW 2019)

    def __init__(self, head: QAConv, people: int) -> None:
        super().__init__()
        self.matching = PairwiseMatching().build(head, people)
        self.prototypes = nn.Linear(head.channels, people, bias=False)

    def forward(self, maps: Tensor, pids: Tensor) -> Outcome:
        """Compute the loss of maps [B, C, 1, 1] of unit length with the person indices `pids`, [B]."""
        vectors = maps.flatten(1)
        softmax = F.cross_entropy(self.SCALE * vectors @ F.normalize(self.prototypes.weight, dim=1).T, pids)
        positive, negative = hardest(vectors @ vectors.T, pids)
        triplet = F.relu(self.MARGIN - positive + negative).mean()
        matching: Outcome = self.matching(maps.detach(), pids)
        return Outcome(softmax + triplet + matching.loss, matching.accuracy)
