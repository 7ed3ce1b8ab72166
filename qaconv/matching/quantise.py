"""Feature maps go in; int8 codes with one scale a location come out, and go back.

N images, S locations, C channels.
"""

from typing import NamedTuple

import torch
from torch import Tensor

LEVELS = 127  # codes are -127..127, so that a code and its negative both exist


class Codes(NamedTuple):
    """Maps as integers: the value at a location's channel is its code times the location's scale."""

    codes: Tensor  # int8 [N, S, C]
    scales: Tensor  # float16 [N, S]


def quantise(locations: Tensor) -> Codes:
    """float32 [N, S, C] to codes, each location's largest channel at 127.

    The error of a channel is at most half a scale and a rounding of float16. Scales have float16's 11 bits, so that
    127 times a scale is exact and `quantise(dequantise(codes))` gives the same codes and scales.
    """
    scales = (locations.abs().amax(dim=2) / LEVELS).half()
    steps = scales.float().clamp_min(torch.finfo(torch.float32).tiny).unsqueeze(2)
    return Codes((locations / steps).round_().clamp_(-LEVELS, LEVELS).to(torch.int8), scales)


def dequantise(codes: Codes) -> Tensor:
    """Codes to float32 [N, S, C]."""
    return codes.codes.float() * codes.scales.float().unsqueeze(2)
