"""Augment training images, one at a time.

Images are uint8 tensors [3, H, W], RGB; the network's are float32 in [0, 1].
"""

import math

import torch
from torch import Tensor, nn
from torchvision.transforms import v2

from qaconv.config import AugmentConfig, ImageConfig

ERASED_SHARES = (0.02, 0.4)  # of the image's area (Zhong et al., AAAI 2020)
ERASED_RATIOS = (0.3, 1 / 0.3)  # of height to width
ERASED_COLOUR = (124, 116, 104)  # ImageNet's mean


def build_augmentation(config: AugmentConfig, size: ImageConfig) -> v2.Compose:
    """Build the augmentation of uint8 images [3, H, W], in the order of its settings. Draws from torch's generator."""
    steps: list[nn.Module] = []
    if config.pad:
        steps.append(v2.RandomCrop((size.height, size.width), padding=config.pad))
    if config.flip:
        steps.append(v2.RandomHorizontalFlip(config.flip))
    if config.rotation_degrees:
        steps.append(v2.RandomRotation(config.rotation_degrees))
    if strength := config.colour_jitter:
        factors = (0.5**strength, 2**strength)
        steps.append(v2.ColorJitter(brightness=factors, contrast=factors, saturation=factors, hue=0.1 * strength))
    if config.occlusion:
        steps.append(WhiteOcclusion(config.occlusion))
    if config.erasing:
        steps.append(v2.RandomErasing(config.erasing, ERASED_SHARES, ERASED_RATIOS, ERASED_COLOUR))
    return v2.Compose(steps or [v2.Identity()])


class WhiteOcclusion(nn.Module):
    """Draw a white square at a random position.

    Args:
        largest: largest side of the square, as a fraction of the image's shorter side (0.8 in the papers). The side is
            drawn uniformly from 0.
    """

    def __init__(self, largest: float) -> None:
        super().__init__()
        self.largest = largest

    def draw(self, height: int, width: int) -> tuple[int, int, int]:
        """Draw the side of the square, and how far its corner lies from the top and the left, in pixels."""
        draw = torch.rand(3).tolist()
        side = math.floor(draw[0] * self.largest * min(height, width))
        return side, math.floor(draw[1] * (height - side + 1)), math.floor(draw[2] * (width - side + 1))

    def forward(self, image: Tensor) -> Tensor:
        side, top, left = self.draw(*image.shape[-2:])
        occluded = image.clone()
        occluded[:, top : top + side, left : left + side] = 255
        return occluded
