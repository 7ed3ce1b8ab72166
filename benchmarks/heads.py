"""Compare heads after the papers on drawn sites that are no target: windows, a global branch, mutual best matches.

`python -m benchmarks.heads [SEED [HEAD ...]]` trains the demo's recipe with every head of HEADS, or those that are
named, on site 501, and prints a row of mAP for each. Windows of K x K are averages of maps with stride 1, to unit
length again, which are matched as maps are (after Chen et al., ICME 2023, who learn them); their weighted sums are
added. The global branch adds the cosine of mean vectors, and mutual best matches get a bonus (QA-ReID, arXiv
2601.19133), each with a learnt weight. None earned a place in the project (docs/recipes.md).

`python -m benchmarks.heads untrained` adds the same to scores of the demo's trained network, by a fixed weight.
"""

import sys
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.baseline import CPU, LARGE, NECK, SGD, SOURCE, draw, recipe, train_on
from benchmarks.demo import require_outputs
from benchmarks.machine import describe
from benchmarks.recipes import DRAWN
from qaconv.config import load_params
from qaconv.data.loading import encode_all, in_torch
from qaconv.data.manifest import Manifest
from qaconv.matching import score_matrix
from qaconv.metrics import evaluate_ranking
from qaconv.models.checkpoint import Network, load_network
from qaconv.models.head import QAConv
from qaconv.models.local_max import best_partners
from qaconv.models.losses.pairwise_matching import PairwiseMatching
from qaconv.paths import MODELS
from qaconv.runtime.head import Head

HEADS: dict[str, dict[str, object]] = {
    "demo": {},
    "windows 1, 3": {"windows": (1, 3)},
    "windows 1, 2, 3": {"windows": (1, 2, 3)},
    "global": {"pooled": True},
    "windows 1, 3, global": {"windows": (1, 3), "pooled": True},
    "mutual": {"mutual": True},
}
ROWS = 16  # query images that are compared at a time
BATCH = 64  # images that are encoded at a time
MAPS = "windows 1"
WEIGHTS = (0.1, 0.25, 0.5)


def main(seed: int, names: list[str]) -> None:
    """Train the heads and print a row for each."""
    if unknown := [name for name in names if name not in HEADS]:
        sys.exit(f"refused: unknown head {', '.join(unknown)}, allowed: {', '.join(HEADS)}")
    torch.set_num_threads(1)
    console = Console(soft_wrap=True, highlight=False)
    console.print(f"{describe()['processor']}, 1 thread; direct mAP in per cent with seed {seed}")
    console.print(" | ".join(["head", "minutes", *DRAWN]))
    with TemporaryDirectory() as folder:
        sites = {name: draw(name, Path(folder), DRAWN[name]) for name in DRAWN}
        for name in names or HEADS:
            method = recipe(PairwiseMatching(), LARGE, backbone=NECK, train=SGD)
            network = method.build(seed)
            network = replace(network, head=WindowHead(network.head, **HEADS[name]))  # type: ignore[arg-type]
            _, minutes = train_on(network, method, sites[SOURCE], Path(folder), seed=seed)
            figures = [f"{_measure(network, site):.1f}" for site in sites.values()]
            console.print(" | ".join([name, f"{minutes:.1f}", *figures]))


class WindowHead(nn.Module):
    """Sum the weighted best cosines of windows of several sizes, each with its norm, before one norm of logits.

    With one window of 1 x 1 it is the v2 head.

    Args:
        head: whose map size it has.
        windows: sizes K.
        pooled: whether the weighted cosine of mean vectors is added.
        mutual: whether locations that are each other's best get a learnt bonus.
    """

    def __init__(
        self, head: QAConv, *, windows: tuple[int, ...] = (1,), pooled: bool = False, mutual: bool = False
    ) -> None:
        super().__init__()
        self.channels, self.height, self.width, self.variant = head.channels, head.height, head.width, head.variant
        self.windows = windows
        sizes = [(head.height - size + 1) * (head.width - size + 1) for size in windows]
        self.norms = nn.ModuleList(nn.BatchNorm1d(1) for _ in windows)
        self.weights = nn.ModuleList(nn.Linear(size, 1) for size in sizes)
        for weight, size in zip(self.weights, sizes, strict=True):
            nn.init.constant_(weight.weight, 1 / size / len(windows))  # type: ignore[arg-type]
        self.pooled_norm = nn.BatchNorm1d(1) if pooled else None
        self.pooled_weight = nn.Parameter(torch.tensor(0.5))
        self.bonus = nn.Parameter(torch.tensor(0.2)) if mutual else None
        self.logit_norm = nn.BatchNorm1d(1)

    def forward(self, query_maps: Tensor, gallery_maps: Tensor) -> Tensor:
        """Compute the logits [Q, G] of maps [Q, C, H, W] and [G, C, H, W]."""
        shape = len(query_maps), len(gallery_maps)
        total = query_maps.new_zeros(shape)
        for size, norm, weight in zip(self.windows, self.norms, self.weights, strict=True):
            query = average_windows(query_maps, size)
            gallery = query if gallery_maps is query_maps else average_windows(gallery_maps, size)
            of_query, of_gallery = best_partners(query, gallery)
            best = torch.stack([of_gallery.permute(2, 0, 1), of_query.transpose(1, 2)])  # [2, Q, G, S]
            scores = norm(best.reshape(-1, 1, best.shape[-1])).reshape(best.shape)
            if self.bonus is not None:
                scores = scores + self.bonus * find_mutual(query, gallery)
            total = total + weight(scores).sum(dim=(0, 3))
        if self.pooled_norm is not None:
            query, gallery = (F.normalize(maps.mean((2, 3)), dim=1) for maps in (query_maps, gallery_maps))
            cosines = (query @ gallery.T).reshape(-1, 1, 1)
            total = total + self.pooled_weight * self.pooled_norm(cosines).reshape(shape)
        logits: Tensor = self.logit_norm(total.reshape(-1, 1, 1)).reshape(shape)
        return logits


def average_windows(maps: Tensor, size: int) -> Tensor:
    """Average windows of size x size locations of maps [N, C, H, W], with stride 1, to unit length over C."""
    return maps if size == 1 else F.normalize(F.avg_pool2d(maps, size, stride=1), dim=1)


@torch.no_grad()
def find_mutual(query_maps: Tensor, gallery_maps: Tensor) -> Tensor:
    """Return 1 where a location and its best partner are each other's best, else 0; [2, Q, G, S], the gallery first."""
    query, gallery = (maps.flatten(2).transpose(1, 2) for maps in (query_maps, gallery_maps))
    places = torch.arange(query.shape[1])
    mutual = torch.empty(2, len(query), len(gallery), len(places))
    for row, locations in enumerate(query):
        cosines = torch.einsum("sc,gtc->gst", locations, gallery)
        of_query, of_gallery = cosines.argmax(dim=2), cosines.argmax(dim=1)
        mutual[0, row] = of_query.gather(1, of_gallery) == places
        mutual[1, row] = of_gallery.gather(1, of_query) == places
    return mutual


def add_untrained() -> None:
    """Print a row for each site and addition to the demo's network: mAP of both alone, and of their weighted sums."""
    require_outputs([MODELS])
    network, _ = load_network(MODELS / load_params().registry.method)
    console = Console(soft_wrap=True, highlight=False)
    console.print(" | ".join(["site", "added", "without", "alone", *(f"{weight} of it" for weight in WEIGHTS)]))
    with TemporaryDirectory() as folder:
        for name in ("502", "503"):
            site = draw(name, Path(folder), DRAWN[name])
            query, gallery = _encode(network, site)
            tables = _score_untrained(network.head.eval(), query, gallery)
            scores = {key: (table - table.mean()) / table.std() for key, table in tables.items()}
            for added in list(scores)[1:]:
                ranked = [scores[MAPS], scores[added], *(scores[MAPS] + each * scores[added] for each in WEIGHTS)]
                console.print(" | ".join([name, added, *(f"{_rank(site, each):.1f}" for each in ranked)]))


@torch.inference_mode()
def _score_untrained(head: QAConv, query: Tensor, gallery: Tensor) -> dict[str, NDArray[np.float32]]:
    """Return the logits of the maps, [Q, G], and what may be added to them; windows have the mean weights of theirs."""
    folded = head.folded()
    weights = torch.from_numpy(folded.query).reshape(1, 1, head.height, head.width)
    tables: dict[str, NDArray[np.float32]] = {}
    for size in (1, 2, 3):
        of_windows = F.avg_pool2d(weights, size, stride=1)
        shape = (head.channels, *of_windows.shape[2:])
        of_locations = of_windows.flatten().numpy()
        windowed = Head(of_locations, of_locations, folded.bias, folded.average, shape)
        maps = [average_windows(each, size).contiguous() for each in (query, gallery)]
        tables[f"windows {size}"] = score_matrix(maps[0], maps[1], windowed, device=CPU)
    vectors = [F.normalize(maps.mean((2, 3)), dim=1) for maps in (query, gallery)]
    tables["global"] = (vectors[0] @ vectors[1].T).numpy()
    mutual = [find_mutual(query, part)[1] @ weights.flatten() for part in gallery.split(BATCH)]
    tables["mutual"] = torch.cat(mutual, dim=1).numpy()
    return tables


def _measure(network: Network, site: Manifest) -> float:
    """Return the direct mAP of a site in per cent."""
    query, gallery = _encode(network, site)
    head = network.head.eval()
    with torch.inference_mode():
        return _rank(site, torch.cat([head(rows, gallery) for rows in query.split(ROWS)]).numpy())


def _encode(network: Network, site: Manifest) -> tuple[Tensor, Tensor]:
    """Return the maps of queries and gallery."""
    encode, size = in_torch(network.encoder, CPU), network.architecture.image
    paths = ([site.root / image for image in site.split(split)["image"]] for split in ("query", "gallery"))
    query, gallery = (encode_all(encode, each, size, batch_size=BATCH) for each in paths)
    return query, gallery


def _rank(site: Manifest, scores: NDArray[np.float32]) -> float:
    """Return the mAP of scores [Q, G] in per cent."""
    query, gallery = site.split("query"), site.split("gallery")
    metrics = evaluate_ranking(scores, query["pid"], gallery["pid"], query["camid"], gallery["camid"])
    return 100 * metrics.mean_average_precision


if __name__ == "__main__":
    if sys.argv[1:] == ["untrained"]:
        torch.set_num_threads(1)
        add_untrained()
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 7, sys.argv[2:])
