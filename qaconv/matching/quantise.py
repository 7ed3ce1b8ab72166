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


Block = Tensor | Codes  # maps of some images: float32 [N, S, C], or codes


def quantise(locations: Tensor) -> Codes:
    """float32 [N, S, C] to codes, each location's largest channel at 127.

    The error of a channel is at most half a scale and a rounding of float16. Scales have float16's 11 bits, so that
    127 times a scale is exact and `quantise(dequantise(codes))` gives the same codes and scales. They are no smaller
    than float16's normal numbers, which a location of unit length does not come near.
    """
    scales = (locations.abs().amax(dim=2) / LEVELS).half().clamp_min_(torch.finfo(torch.float16).tiny)
    codes = (locations / scales.float().unsqueeze(2)).round_().clamp_(-LEVELS, LEVELS)
    return Codes(codes.to(torch.int8), scales)


def dequantise(codes: Codes) -> Tensor:
    """Codes to float32 [N, S, C]."""
    return codes.codes.float() * codes.scales.float().unsqueeze(2)
