"""Feature maps go in; the logit of every query and gallery pair comes out.

Q queries, G gallery images, C channels, H x W map size, S = H*W locations.
"""

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track
from torch import Tensor

from qaconv.models.head import FoldedHead, QAConv

TABLE_BYTES = 2 << 20  # of one tile's cosines: what stays in cache between the product and the maxima


@torch.inference_mode()
def score_matrix(
    query_maps: Tensor | NDArray[np.float32],
    gallery_maps: Tensor | NDArray[np.float32],
    head: QAConv,
    *,
    engine: Literal["exact"] = "exact",
    device: torch.device | None = None,
    progress: bool = False,
) -> NDArray[np.float32]:
    """Logits [Q, G] of maps [Q, C, H, W] and [G, C, H, W]; higher is a better match.

    Args:
        query_maps: unit length over C.
        gallery_maps: the same.
        head: its running statistics are used, whatever its mode.
        engine: "exact", in tiles of pairs: memory does not grow with Q x G x S x S.
        device: where to match; the CPU unless given. Maps go there a tile at a time.
        progress: show a bar.

    Raises:
        ValueError: an unknown engine.
    """
    if engine != "exact":
        raise ValueError(f"engine is {engine!r}; legal is 'exact'")
    device = device or torch.device("cpu")
    queries = torch.as_tensor(query_maps).flatten(2).transpose(1, 2).contiguous().to(device)  # [Q, S, C]
    columns = torch.as_tensor(gallery_maps).flatten(2).permute(1, 0, 2).contiguous()  # [C, G, S]
    channels, galleries, locations = columns.shape
    folded = FoldedHead(*(part.to(device) for part in head.folded()))
    width = max(1, TABLE_BYTES // (4 * locations * locations))
    logits = torch.empty(len(queries), galleries, device=device)
    for start in track(range(0, galleries, width), f"match {len(queries)} x {galleries}", disable=not progress):
        tile = columns[:, start : start + width].to(device)
        flat = tile.reshape(channels, -1)
        for row, query in enumerate(queries):
            table = (query @ flat).reshape(locations, -1, locations)
            of_query, of_gallery = table.amax(dim=2), table.amax(dim=0)
            logits[row, start : start + tile.shape[1]] = folded.query @ of_query + of_gallery @ folded.gallery
    return (logits + folded.bias).cpu().numpy()
