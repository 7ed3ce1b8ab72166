"""Average the weights of a network over the steps of its training.

The exponential moving average of Polyak and Juditsky (SIAM J. Control Optim. 1992) and Tarvainen and Valpola (NIPS
2017), whose decay rises to its value as in TensorFlow's ExponentialMovingAverage(num_updates): the first weights, which
are random, are forgotten, and a short training averages about the last tenth of its steps.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from qaconv.models.checkpoint import Network
from qaconv.models.encoder import Encoder
from qaconv.models.head import QAConv


class WeightAverage:
    """The average of a network's weights, which is a network itself.

    The running statistics of batch norms are averaged as the weights are: each is that of the weights of its step.
    Counts are copied.

    Args:
        network: on its device. It is copied.
        decay: weight of the average in a step, in (0, 1). In step t, from 1, it is at most (1 + t) / (10 + t).
    """

    def __init__(self, network: Network, decay: float) -> None:
        self._model = AveragedModel(_modules(network), multi_avg_fn=partial(_average, decay), use_buffers=True)
        self._model.n_averaged.fill_(1)  # the weights before the first step count; else that step would replace them
        encoder, head = self._model.module.children()
        assert isinstance(encoder, Encoder) and isinstance(head, QAConv)
        self.network = Network(encoder, head, network.architecture)

    def update(self, network: Network) -> None:
        """Add the weights of a network after a step of its training."""
        self._model.update_parameters(_modules(network))

    def copy_to(self, network: Network) -> None:
        """Set the weights of a network to the average."""
        _modules(network).load_state_dict(self._model.module.state_dict())

    def state_dict(self) -> dict[str, Any]:
        """Return the average and its number of steps."""
        return self._model.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue an average."""
        self._model.load_state_dict(state)


def _modules(network: Network) -> nn.ModuleList:
    return nn.ModuleList([network.encoder, network.head])


@torch.no_grad()
def _average(highest: float, averages: list[Tensor], weights: list[Tensor], step: Tensor) -> None:
    """Move averages of one type towards the weights of a step, from 1."""
    if averages[0].is_floating_point():
        decay = min(highest, (1 + int(step)) / (10 + int(step)))
        torch._foreach_lerp_(averages, weights, 1 - decay)
    else:
        torch._foreach_copy_(averages, weights)
