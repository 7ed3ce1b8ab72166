"""Choose how to match feature maps on a device of torch."""

from importlib.util import find_spec

import torch

from qaconv.matching.engines.torch_tiles import TorchMatcher
from qaconv.runtime.head import Head
from qaconv.runtime.matcher import Matcher


def device_matcher(head: Head, device: torch.device) -> Matcher:
    """Return the Triton kernel on a CUDA device that the maps fit, torch's tiles elsewhere.

    Raises:
        ValueError: the head does not know the shape of its maps.
    """
    if head.map_shape is None:
        raise ValueError(f"head.map_shape must be (C, H, W) to match on {device}, got None")
    if len(head.query) > 1 and device.type == "cuda" and find_spec("triton"):
        from qaconv.matching.engines import cuda  # Triton comes with PyTorch for CUDA alone

        if cuda.fits(len(head.query), head.map_shape[0], device):
            return cuda.TritonMatcher(head, device)
    return TorchMatcher(head, device)


def free_bytes(device: torch.device) -> int:
    """Return the free memory of a CUDA device, 0 for another device."""
    return int(torch.cuda.mem_get_info(device)[0]) if device.type == "cuda" else 0
