"""Turn a torchvision ResNet into its IBN-a or IBN-b form, with the names of the authors' weights.

IBN-Net (Pan et al., ECCV 2018): instance normalisation removes the contrast and colour of each image, so a network
transfers better between camera networks. Forms and names are those of the authors' repository, XingangPan/IBN-Net.
"""

import torch
from torch import Tensor, nn
from torchvision.models import ResNet
from torchvision.models.resnet import BasicBlock, Bottleneck


def to_ibn_a(resnet: ResNet) -> None:
    """Replace, in place, the first norm of each block of layers 1 to 3: half instance norm, half batch norm."""
    for layer in (resnet.layer1, resnet.layer2, resnet.layer3):
        for block in layer:
            block.bn1 = HalfInstanceNorm(block.bn1.num_features)


def to_ibn_b(resnet: ResNet) -> None:
    """Put instance norm, in place, after the stem and at the end of layers 1 and 2."""
    resnet.bn1 = nn.InstanceNorm2d(resnet.bn1.num_features, affine=True)
    for layer in (resnet.layer1, resnet.layer2):
        layer[-1] = InstanceNormedBlock(layer[-1])


class HalfInstanceNorm(nn.Module):
    """Normalise the first half of the channels by instance norm and the others by batch norm."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.sizes = [channels // 2, channels - channels // 2]
        self.IN = nn.InstanceNorm2d(self.sizes[0], affine=True)
        self.BN = nn.BatchNorm2d(self.sizes[1])

    def forward(self, maps: Tensor) -> Tensor:
        first, second = maps.split(self.sizes, dim=1)
        return torch.cat([self.IN(first.contiguous()), self.BN(second.contiguous())], dim=1)


class InstanceNormedBlock(nn.Module):
    """Put instance norm between the sum and the last ReLU of a residual block, whose modules keep their names."""

    def __init__(self, block: BasicBlock | Bottleneck) -> None:
        super().__init__()
        for name, module in block.named_children():
            self.add_module(name, module)
        self.steps = 3 if isinstance(block, Bottleneck) else 2
        norm = block.bn3 if isinstance(block, Bottleneck) else block.bn2
        self.IN = nn.InstanceNorm2d(norm.num_features, affine=True)

    def forward(self, maps: Tensor) -> Tensor:
        parts = dict(self.named_children())
        out = maps
        for step in range(1, self.steps + 1):
            out = parts[f"bn{step}"](parts[f"conv{step}"](out))
            if step < self.steps:
                out = parts["relu"](out)
        skipped = parts["downsample"](maps) if "downsample" in parts else maps
        activated: Tensor = parts["relu"](self.IN(out + skipped))
        return activated
