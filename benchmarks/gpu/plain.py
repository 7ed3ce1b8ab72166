"""QAConv as plainly as it can be written, with every cosine of every pair in memory: what the rest is compared with."""

import torch
from torch import Tensor

from qaconv.models.head import QAConv
from qaconv.runtime.head import Head


class PlainHead(QAConv):
    """The head over a table of all cosines, [Q, S, G, S]; autograd does the rest."""

    def forward(self, query_maps: Tensor, gallery_maps: Tensor, blocks: int = 1) -> Tensor:
        """Maps [Q, C, H, W] and [G, C, H, W] to logits [Q, G]; a block of the gallery after the other."""
        return torch.cat([self._match(query_maps, part) for part in gallery_maps.chunk(blocks)], dim=1)

    def _match(self, query_maps: Tensor, gallery_maps: Tensor) -> Tensor:
        table = self.cosines(query_maps, gallery_maps)
        best = torch.stack([table.max(dim=1).values, table.max(dim=3).values.transpose(1, 2)], dim=2)
        queries, galleries, _, locations = best.shape
        local = self.local_norm(best.reshape(-1, 1, locations))
        logits = self.weight(local.reshape(-1, self.weight.in_features)).reshape(queries * galleries, -1)
        return self.logit_norm(logits.sum(dim=1, keepdim=True)).reshape(queries, galleries)


def plain_head(head: QAConv) -> PlainHead:
    """A plain head with copies of the weights of another, on its device and in its precision."""
    plain = PlainHead(head.channels, head.height, head.width, head.variant)
    plain.load_state_dict(head.state_dict())
    plain.train(head.training)
    return plain.to(head.weight.weight.device, head.weight.weight.dtype)


@torch.no_grad()
def plain_logits(head: Head, query_maps: Tensor, gallery_maps: Tensor, *, table_bytes: int = 1 << 30) -> Tensor:
    """Logits [Q, G] by einsum, as the authors' code computes them: a table of cosines, and its maxima both ways.

    In the precision of the maps; some gallery images and some queries at a time, so that a table has `table_bytes`.
    """
    queries, gallery = query_maps.flatten(2), gallery_maps.flatten(2)
    query_weights = torch.from_numpy(head.query).to(queries)
    gallery_weights = torch.from_numpy(head.gallery).to(queries)
    pair_bytes = queries.element_size() * queries.shape[2] ** 2
    side = max(1, int((table_bytes / pair_bytes) ** 0.5))
    rows = []
    for some in queries.split(side):
        parts = []
        for others in gallery.split(side):
            table = torch.einsum("qcs,gct->qgst", some, others)
            parts.append(table.amax(dim=3) @ query_weights + table.amax(dim=2) @ gallery_weights + head.bias)
        rows.append(torch.cat(parts, dim=1))
    return torch.cat(rows)
