"""Train a head with a loss of your own: run `python examples/custom_loss.py`."""

from typing import Literal

import torch
from pydantic import PositiveFloat
from torch import Tensor
from torch.nn import functional as F

from qaconv.config.kinds import LossSettings, read_kind
from qaconv.models import QAConv
from qaconv.models.losses import PairLoss
from qaconv.plugins import register


@register("loss", "hinge")
class Hinge(PairLoss):
    """Hinge of every pair: logits of one person above the margin, those of two people below its negative."""

    kind: Literal["hinge"] = "hinge"
    margin: PositiveFloat = 1.0  # in logits

    def loss(self, logits: Tensor, pids: Tensor) -> Tensor:
        signs = torch.where(pids[:, None] == pids[None, :], 1.0, -1.0)
        return F.relu(self.margin - signs * logits).mean()


def main() -> None:
    torch.manual_seed(0)
    # As in params.yaml: the `loss` of a method.
    settings = read_kind("loss", LossSettings, {"kind": "hinge", "margin": 2})  # type: ignore[type-abstract]
    pids = torch.tensor([0, 0, 1, 1, 2, 2])
    maps = F.normalize(torch.randn(3, 8, 4, 2)[pids] + 0.3 * torch.randn(6, 8, 4, 2), dim=1)
    loss = settings.build(QAConv(channels=8, height=4, width=2), people=3)
    optimiser = torch.optim.SGD(loss.parameters(), lr=0.1)
    for step in range(20):
        outcome = loss(maps, pids)
        optimiser.zero_grad()
        outcome.loss.backward()
        optimiser.step()
        if step in (0, 19):
            print(f"step {step + 1}: loss {outcome.loss.item():.2f}")


if __name__ == "__main__":
    main()
