"""QAConv: two sets of feature maps go in; a matching score for every pair, and why, comes out.

Q queries, G gallery images, C channels, H x W map size, S = H*W locations. Maps have unit length over C, so the
product of two locations is their cosine.
"""

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn


class Correspondences(NamedTuple):
    """The best partner of each location, both ways; all [Q, G, S], cosines in [-1, 1] and indices in 0..S-1."""

    query_scores: Tensor  # of each query location, over the gallery's locations
    query_indices: Tensor
    gallery_scores: Tensor  # of each gallery location, over the query's locations
    gallery_indices: Tensor


class FoldedHead(NamedTuple):
    """The head in eval mode as one affine map: logit = query_scores . query + gallery_scores . gallery + bias."""

    query: Tensor  # [S]
    gallery: Tensor  # [S]
    bias: Tensor  # scalar


class QAConv(nn.Module):
    """Query-adaptive convolution (Liao and Shao, ECCV 2020), with the head of CVPR 2022.

    Every query location is a 1x1 kernel over the gallery map; the best answer of each location, in both directions,
    is normalised, weighted by where it is, and summed. Symmetric in query and gallery.

    Args:
        channels: C.
        height: H of the maps, in locations.
        width: W of the maps, in locations.
        variant: "v2", the head of CVPR 2022.

    Raises:
        ValueError: another variant.
    """

    def __init__(self, channels: int, height: int, width: int, variant: Literal["v2"] = "v2") -> None:
        super().__init__()
        if variant != "v2":
            raise ValueError(f"variant is {variant!r}; legal is 'v2'")
        self.channels, self.height, self.width, self.variant = channels, height, width, variant
        self.local_norm = nn.BatchNorm1d(1)
        self.weight = nn.Linear(height * width, 1)
        self.logit_norm = nn.BatchNorm1d(1)
        nn.init.constant_(self.weight.weight, 1 / (height * width))

    def forward(self, query_maps: Tensor, gallery_maps: Tensor) -> Tensor:
        """Maps [Q, C, H, W] and [G, C, H, W] to logits [Q, G]; higher is a better match."""
        table = self.cosines(query_maps, gallery_maps)
        best = torch.stack([table.max(dim=3).values.transpose(1, 2), table.max(dim=1).values], dim=2)
        queries, galleries, _, locations = best.shape
        local = self.local_norm(best.reshape(-1, 1, locations))
        logits = self.weight(local).reshape(-1, 2).sum(dim=1, keepdim=True)
        return self.logit_norm(logits).reshape(queries, galleries)

    def correspondences(self, query_maps: Tensor, gallery_maps: Tensor) -> Correspondences:
        """Maps [Q, C, H, W] and [G, C, H, W] to the best partner of each location, both ways."""
        table = self.cosines(query_maps, gallery_maps)
        of_query, of_gallery = table.max(dim=3), table.max(dim=1)
        return Correspondences(
            of_query.values.transpose(1, 2), of_query.indices.transpose(1, 2), of_gallery.values, of_gallery.indices
        )

    def folded(self) -> FoldedHead:
        """Both norms (at their running statistics) and the weights as one affine map: eval mode for the engines."""
        local, logit = _affine(self.local_norm), _affine(self.logit_norm)
        weight = self.weight.weight.detach().flatten()
        scaled = logit.scale * local.scale * weight
        constant = 2 * (local.shift * weight.sum() + self.weight.bias.detach().squeeze())
        return FoldedHead(scaled, scaled, logit.scale * constant + logit.shift)

    def cosines(self, query_maps: Tensor, gallery_maps: Tensor) -> Tensor:
        """Maps [Q, C, H, W] and [G, C, H, W] to [Q, S, G, S]: every query location against every gallery location.

        Raises:
            ValueError: maps of another shape than the head was made for.
        """
        expected = (self.channels, self.height, self.width)
        for name, maps in (("query_maps", query_maps), ("gallery_maps", gallery_maps)):
            if tuple(maps.shape[1:]) != expected:
                raise ValueError(
                    f"{name} have shape {tuple(maps.shape)}; expected [N, {', '.join(map(str, expected))}]"
                )
        rows = query_maps.flatten(2).transpose(1, 2).reshape(-1, self.channels)
        columns = gallery_maps.flatten(2).transpose(0, 1).reshape(self.channels, -1)
        locations = self.height * self.width
        queries, galleries = query_maps.shape[0], gallery_maps.shape[0]  # an exported graph would hold len() constant
        return (rows @ columns).reshape(queries, locations, galleries, locations)


class _Affine(NamedTuple):
    scale: Tensor
    shift: Tensor


def _affine(norm: nn.BatchNorm1d) -> _Affine:
    """What a BatchNorm of one channel does in eval mode: scale * x + shift."""
    assert norm.running_var is not None and norm.running_mean is not None
    scale = norm.weight.detach() / torch.sqrt(norm.running_var + norm.eps)
    return _Affine(scale.squeeze(), (norm.bias.detach() - norm.running_mean * scale).squeeze())
