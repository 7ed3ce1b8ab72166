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

    def take(self, images: Tensor | slice) -> "Codes":
        """Those of some images."""
        return Codes(self.codes[images], self.scales[images])


Block = Tensor | Codes  # maps of some images: float32 [N, S, C], or codes


def quantise(locations: Tensor) -> Codes:
    """float32 [N, S, C] to codes, each location's largest channel at 127 and its length kept.

    What rounding adds along a location moves its cosines with everything that is like it; a scale that keeps the length
    takes that back, and with it more than half the error of a logit. Scales have float16's 11 bits, so that 127 times a
    scale is exact and `quantise(dequantise(codes))` gives the same codes and scales. They are no smaller than float16's
    normal numbers, which a location of unit length does not come near.
    """
    least = torch.finfo(torch.float16).tiny
    steps = (locations.abs().amax(dim=2, keepdim=True) / LEVELS).clamp_min_(least)
    codes = (locations / steps).round_()
    scales = locations.norm(dim=2) / codes.norm(dim=2).clamp_min_(1)  # a location of zeros has codes of length 0
    scales[steps.squeeze(2) == least] = least  # of which no code is at 127, so that another scale would move codes
    return Codes(codes.to(torch.int8), scales.half().clamp_min_(least))


def dequantise(codes: Codes) -> Tensor:
    """Codes to float32 [N, S, C]."""
    return codes.codes.float() * codes.scales.float().unsqueeze(2)
