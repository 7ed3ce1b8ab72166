"""Average the weights of a network over the steps of its training.

The exponential moving average of Polyak and Juditsky (SIAM J. Control Optim. 1992) and Tarvainen and Valpola (NIPS
2017), whose decay rises to its value as in TensorFlow's ExponentialMovingAverage(num_updates): the first weights, which
are random, are forgotten, and a short training averages about the last tenth of its steps.
"""

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor

from qaconv.models.checkpoint import Network


class WeightAverage:
    """The average of a network's weights, which is a network itself.

    The running statistics of batch norms are averaged as the weights are: each is that of the weights of its step.
    Counts are copied.

    Args:
        network: on its device. It is copied.
        decay: weight of the average in a step, in (0, 1). In step t, from 1, it is at most (1 + t) / (10 + t).
    """

    def __init__(self, network: Network, decay: float) -> None:
        self.network = Network(deepcopy(network.encoder), deepcopy(network.head), network.architecture)
        self._decay = decay
        self._steps = 0
        self._averages = list(_tensors(self.network))

    @torch.no_grad()
    def update(self, network: Network) -> None:
        """Add the weights of a network after a step of its training."""
        self._steps += 1
        decay = min(self._decay, (1 + self._steps) / (10 + self._steps))
        pairs = list(zip(self._averages, _tensors(network), strict=True))
        averages, weights = zip(*(pair for pair in pairs if pair[0].is_floating_point()), strict=True)
        torch._foreach_lerp_(averages, weights, 1 - decay)
        for count, latest in pairs:
            if not count.is_floating_point():
                count.copy_(latest)

    @torch.no_grad()
    def copy_to(self, network: Network) -> None:
        """Set the weights of a network to the average."""
        for weight, average in zip(_tensors(network), self._averages, strict=True):
            weight.copy_(average)

    def state_dict(self) -> dict[str, Any]:
        """Return the average and its number of steps."""
        return {"steps": self._steps, "averages": self._averages}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue an average."""
        self._steps = state["steps"]
        for average, saved in zip(self._averages, state["averages"], strict=True):
            average.copy_(saved)


def _tensors(network: Network) -> Iterator[Tensor]:
    """Yield the weights and statistics of encoder and head."""
    for module in (network.encoder, network.head):
        for tensor in (*module.parameters(), *module.buffers()):
            yield tensor.detach()
