"""Move blocks of feature maps to a device of torch."""

import torch
from torch import Tensor

from qaconv.runtime.quantise import Block, Codes

DeviceBlock = Block | Tensor  # arrays on the CPU, or what a matcher has moved to its device


def move_block(block: DeviceBlock, device: torch.device, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return maps [N, S, C] on the device; codes move as integers and are multiplied by their scales there."""
    if isinstance(block, Codes):
        codes, scales = (torch.as_tensor(part).to(device) for part in block)
        return (codes.float() * scales.float().unsqueeze(2)).to(dtype)
    return torch.as_tensor(block).to(device, dtype)
