"""Score every pair of two sets of feature maps by QAConv (Liao and Shao, ECCV 2020).

Q queries, G gallery images, C channels, H x W map size, S = H*W locations. Maps have unit length over C, so the
product of two locations is their cosine.
"""

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from qaconv.models.local_max import best_partners
from qaconv.runtime.head import Head


class QAConv(nn.Module):
    """Score pairs by query-adaptive convolution (v1: Liao and Shao, ECCV 2020; v2: Liao and Shao, CVPR 2022).

    Every query location is a 1x1 kernel over the gallery map: it is compared with each gallery location. The best
    cosine of each location, from query to gallery and back, is normalised, weighted by its location, and summed. With
    s the normalised best cosines [2, S]:
    v1 is norm(w . s + b), w of 2 S weights, the gallery's first, as in the authors' files;
    v2 is norm(w . s_query + b + w . s_gallery + b), w of S weights, hence symmetric in query and gallery.

    Args:
        channels: C, of the maps.
        height: H, in locations.
        width: W, in locations.
        variant: "v1" or "v2", which cannot load each other's weights. Default: "v2".

    Raises:
        ValueError: the variant is unknown.

    Example:
        >>> import torch
        >>> from qaconv import QAConv
        >>> head = QAConv(channels=2, height=1, width=2).eval()
        >>> maps = torch.tensor([[[[1.0, 0.0]], [[0.0, 1.0]]], [[[1.0, 1.0]], [[0.0, 0.0]]]])
        >>> head(maps, maps).argmax(dim=1).tolist()
        [0, 1]
    """

    def __init__(self, channels: int, height: int, width: int, variant: Literal["v1", "v2"] = "v2") -> None:
        super().__init__()
        if variant not in ("v1", "v2"):
            raise ValueError(f"unknown variant {variant!r}, allowed: 'v1', 'v2'")
        self.channels, self.height, self.width, self.variant = channels, height, width, variant
        self.local_norm = nn.BatchNorm1d(1)
        self.weight = nn.Linear(height * width * (2 if variant == "v1" else 1), 1)
        self.logit_norm = nn.BatchNorm1d(1)
        if variant == "v2":  # as in the authors' code; v1 keeps PyTorch's initial weights
            nn.init.constant_(self.weight.weight, 1 / (height * width))

    def forward(self, query_maps: Tensor, gallery_maps: Tensor, blocks: int = 1) -> Tensor:
        """Compute the logits [Q, G] of all pairs. A higher logit is a better match.

        Args:
            query_maps: maps [Q, C, H, W] of unit length over C.
            gallery_maps: maps [G, C, H, W] of unit length over C.
            blocks: number of equal blocks of the gallery. In training the norms see a block at a time, as if each block
                had been a separate call. Default: 1.

        Raises:
            ValueError: the maps have another shape than the head was made for.
        """
        self._check(query_maps, gallery_maps)
        query_partners, gallery_partners = best_partners(query_maps, gallery_maps)
        query_scores = query_partners.transpose(1, 2)  # [Q, G, S]
        gallery_scores = gallery_partners.permute(2, 0, 1)  # [Q, G, S]
        queries, galleries, locations = query_scores.shape
        best = torch.stack([gallery_scores, query_scores], dim=2).reshape(queries, blocks, -1, locations)
        with torch.autocast(best.device.type, enabled=False):  # in half precision the small gradients would vanish
            local = _normalise(self.local_norm, best.to(self.weight.weight.dtype))
            logits = self.weight(local.reshape(-1, self.weight.in_features)).reshape(queries * galleries, -1).sum(dim=1)
            return _normalise(self.logit_norm, logits.reshape(queries, blocks, -1, 1)).reshape(queries, galleries)

    @torch.no_grad()
    def rescale(self, scale: float, offset: float) -> None:
        """Replace every logit of eval mode by scale * logit + offset."""
        self.logit_norm.weight.mul_(scale)
        self.logit_norm.bias.mul_(scale).add_(offset)

    def folded(self) -> Head:
        """Fold both norms, at their running statistics, and the weights into one affine map, which needs no torch."""
        affine = self._affine()
        shift = affine.local.shift * (affine.query + affine.gallery).sum()
        norm = self.local_norm
        assert norm.running_mean is not None and norm.running_var is not None
        deviation = torch.sqrt(norm.running_var + norm.eps)
        average = norm.running_mean - norm.bias.detach() * deviation / norm.weight.detach()
        return Head(
            (affine.query * affine.local.scale).cpu().numpy(),
            (affine.gallery * affine.local.scale).cpu().numpy(),
            float(affine.constant + shift),
            float(average),
            (self.channels, self.height, self.width),
        )

    def _affine(self) -> "_AffineHead":
        local, logit = _affine(self.local_norm), _affine(self.logit_norm)
        weight = self.weight.weight.detach().reshape(-1, self.height * self.width)  # [2, S] in v1, [1, S] in v2
        constant = logit(self.weight.bias.detach().squeeze() * (2 if self.variant == "v2" else 1))
        return _AffineHead(local, logit.scale * weight[-1], logit.scale * weight[0], constant)

    def cosines(self, query_maps: Tensor, gallery_maps: Tensor) -> Tensor:
        """Compute the cosines [Q, S, G, S] of every location of maps [Q, C, H, W] with every one of [G, C, H, W].

        Raises:
            ValueError: the maps have another shape than the head was made for.
        """
        self._check(query_maps, gallery_maps)
        rows = query_maps.flatten(2).transpose(1, 2).reshape(-1, self.channels)
        columns = gallery_maps.flatten(2).transpose(0, 1).reshape(self.channels, -1)
        locations = self.height * self.width
        queries, galleries = query_maps.shape[0], gallery_maps.shape[0]  # an exported graph would hold len() constant
        return (rows @ columns).reshape(queries, locations, galleries, locations)

    def _check(self, query_maps: Tensor, gallery_maps: Tensor) -> None:
        expected = (self.channels, self.height, self.width)
        for name, maps in (("query_maps", query_maps), ("gallery_maps", gallery_maps)):
            if tuple(maps.shape[1:]) != expected:
                raise ValueError(
                    f"{name} must have shape [N, {', '.join(map(str, expected))}], got {tuple(maps.shape)}"
                )


class _Affine(NamedTuple):
    """Apply scale * x + shift, which is a BatchNorm of one channel in eval mode."""

    scale: Tensor
    shift: Tensor

    def __call__(self, value: Tensor) -> Tensor:
        return self.scale * value + self.shift


class _AffineHead(NamedTuple):
    """The head in eval mode: logit = query . local(query_scores) + gallery . local(gallery_scores) + constant."""

    local: _Affine
    query: Tensor  # [S]
    gallery: Tensor  # [S]
    constant: Tensor  # scalar


def _normalise(norm: nn.BatchNorm1d, values: Tensor) -> Tensor:
    """Apply a norm of one channel to values [Q, blocks, n, S], in training to each block separately.

    cuDNN's norm has no blocks, and uses a single multiprocessor of a GPU for one channel.
    """
    blocks = values.shape[1]
    if not norm.training or (blocks == 1 and not values.is_cuda):
        normalised: Tensor = norm(values.reshape(-1, 1, values.shape[3]))
        return normalised.reshape(values.shape)
    assert norm.running_var is not None and norm.running_mean is not None and norm.momentum is not None
    assert norm.num_batches_tracked is not None
    variance, mean = torch.var_mean(values, dim=(0, 2, 3), correction=0, keepdim=True)
    with torch.no_grad():
        count = values.numel() // blocks
        norm.num_batches_tracked += blocks
        # Together these weights equal one update by the momentum for each block, in order.
        block_weights = (1 - norm.momentum) ** torch.arange(
            blocks - 1, -1, -1, dtype=values.dtype, device=values.device
        )
        for running, latest in ((norm.running_mean, mean), (norm.running_var, variance * (count / (count - 1)))):
            running.mul_((1 - norm.momentum) ** blocks).add_(norm.momentum * (block_weights * latest.flatten()).sum())
    return (values - mean) * ((variance + norm.eps).rsqrt() * norm.weight) + norm.bias


def _affine(norm: nn.BatchNorm1d) -> _Affine:
    assert norm.running_var is not None and norm.running_mean is not None
    scale = norm.weight.detach() / torch.sqrt(norm.running_var + norm.eps)
    return _Affine(scale.squeeze(), (norm.bias.detach() - norm.running_mean * scale).squeeze())
