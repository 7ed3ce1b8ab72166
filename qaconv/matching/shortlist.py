"""A gallery goes in; searches that match exactly only what coarser maps leave over come out.

Q queries, G gallery images, C channels, H x W map size, L levels. A level is the maps averaged over neighbouring
columns, in 8 bits, under a head whose weights are summed likewise: first one column, then half of them, then all. Each
level passes its best images to the next one, and the last passes its own to exact matching. Rows stay, as what tells
people apart changes from head to foot: averaged over rows too, maps of as many locations rank far worse.
"""

import logging
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track
from scipy.stats import binom
from torch import Tensor
from torch.nn import functional as F

from qaconv.matching.quantise import Block, Codes, quantise
from qaconv.matching.search import Neighbours, best_first
from qaconv.matching.store import MapStore
from qaconv.matching.tiles import Maps, Matcher, blocks, choose_matcher, load_floats
from qaconv.models.head import FoldedHead, QAConv

log = logging.getLogger(__name__)

TABLE_ENTRIES = 1 << 24  # logits at a time: 64 MB
POOLED_AT_ONCE = 1024  # images
FLOAT_COST = 2  # of a float product against one of 8 bits
CONFIDENCE = 0.95  # that the recall asked for is reached on other queries of the samples' kind


class Level(NamedTuple):
    """The gallery at one resolution, how to match it, and how many of it go on."""

    columns: int
    matcher: Matcher
    gallery: Codes
    size: int


class Calibration(NamedTuple):
    """What the sizes were chosen from: sample queries, or images of the gallery among its others; no label is used."""

    columns: list[int]  # [L] of each level's maps
    sizes: list[int]  # [L] images that each level passes on
    recall: float  # share of the exact top_k that all levels passed on, in [0, 1]
    ranks: NDArray[np.int64]  # [L, samples x top_k]: where each level ranks the images of the exact top_k, from 1

    def curve(self, sizes: Sequence[int]) -> NDArray[np.float64]:
        """Recall of each level alone at each size, [L, len(sizes)]."""
        return (self.ranks[:, :, None] <= np.asarray(sizes)).mean(axis=1)


class Shortlist:
    """A gallery with its coarser maps, held in memory: about 1.5 bytes for each of an image's C*H*W values.

    It may miss what coarse maps rank low although single locations match well: a small part in common, say. How often
    is `calibration.recall`, for queries like those that the sizes were chosen by. The gallery's own images find closer
    matches in it than images of another day or camera do, so give some of those where there are any.

    Args:
        gallery: maps [G, C, H, W] of at least two images, or a store; the exact matches read it.
        head: its running statistics are used.
        top_k: how many neighbours a search returns, 1..G-1.
        recall: share of the exact top_k that the levels pass on, with a confidence of 95 per cent, for queries like the
            samples; of the samples' own they pass on more.
        queries: maps [*, C, H, W] to choose the sizes by, of images that are not in the gallery; its own unless given.
        samples: how many of them are searched exactly for that.
        seed: of their choice.
        device: where to match; the CPU unless given.
        progress: show a bar.

    Raises:
        ValueError: an impossible top_k or recall, no image in queries, or maps of another shape than the head was made
            for.
    """

    def __init__(
        self,
        gallery: Maps,
        head: QAConv,
        *,
        top_k: int = 10,
        recall: float = 0.998,
        queries: Maps | None = None,
        samples: int = 400,
        seed: int = 0,
        device: torch.device | None = None,
        progress: bool = False,
    ) -> None:
        if not 1 <= top_k < len(gallery):
            raise ValueError(f"top_k is {top_k}; legal is 1..{len(gallery) - 1}, one less than the gallery's size")
        if not 0 < recall <= 1:
            raise ValueError(f"recall is {recall}; legal is above 0 and at most 1")
        if queries is not None and not len(queries):
            raise ValueError("queries holds no maps; legal is one or more, or None for the gallery's own")
        self.top_k = top_k
        self._maps = gallery
        self._shape = (head.height, head.width)
        self._exact = choose_matcher(head.folded(), device)
        self._levels = [
            Level(columns, choose_matcher(_coarse_head(head, columns), device), codes, len(gallery))
            for columns, codes in _pyramid(gallery, head, progress).items()
        ]
        self.calibration = self._calibrate(queries, recall, samples, seed, progress)
        sizes = self.calibration.sizes
        self._levels = [level._replace(size=size) for level, size in zip(self._levels, sizes, strict=True)]
        log.info(
            "shortlist of %d images: maps of %s columns pass on %s; %.2f per cent of the exact top %d were among them",
            len(gallery),
            self.calibration.columns,
            sizes,
            100 * self.calibration.recall,
            top_k,
        )

    @torch.no_grad()
    def search(self, query_maps: Maps) -> Neighbours:
        """The best `top_k` gallery images for each query [Q, C, H, W], by exact logits; memory does not grow with Q."""
        found = [self._search(load_floats(query_maps, rows)) for rows in self._chunks(len(query_maps))]
        return Neighbours(*(np.concatenate(parts) for parts in zip(*found, strict=True)))

    def _search(self, queries: Tensor) -> Neighbours:
        kept: Tensor | None = None  # [Q, size]
        for level in self._levels:
            prepared = level.matcher.prepare(self._coarse(queries, level.columns))
            if kept is None:
                logits = level.matcher.table(prepared, level.gallery)
                kept = _best(logits, level.size)
            elif level.size < kept.shape[1]:
                logits = _match_each(level.matcher, prepared, level.gallery, kept)
                kept = kept.gather(1, _best(logits, level.size))
        assert kept is not None  # there is at least one level
        images, places = kept.unique(return_inverse=True)
        gallery = _take(self._maps, images)
        logits = _match_each(self._exact, self._exact.prepare(queries), gallery, places)
        return best_first(logits, kept, self.top_k)

    @torch.no_grad()
    def _calibrate(self, queries: Maps | None, recall: float, samples: int, seed: int, progress: bool) -> Calibration:
        """Searches some of the queries, or some of the gallery among the rest, at every level and exactly."""
        source = self._maps if queries is None else queries
        count = len(source)
        chosen = np.sort(np.random.default_rng(seed).choice(count, min(samples, count), replace=False))
        ranks = []
        for rows in track(list(self._chunks(len(chosen))), "choose the shortlist", disable=not progress):
            images = torch.from_numpy(chosen[rows])
            maps, own = _take(source, images), images[:, None][:, : int(queries is None)]  # [n, 1], or [n, 0]
            top = self._exact_table(maps).scatter_(1, own, -torch.inf).topk(self.top_k, dim=1).indices
            ranks.append(torch.stack([_ranks(self._table(maps, level), own, top) for level in self._levels]))
        ranked = torch.cat(ranks, dim=1).numpy()
        costs = [level.columns**2 for level in self._levels[1:]] + [FLOAT_COST * self._shape[1] ** 2]
        sizes = _cheapest_sizes(ranked, costs, _allowed_misses(ranked.shape[1], recall))[1]
        sizes = np.minimum.accumulate(np.maximum(sizes, self.top_k)).tolist()
        found = (ranked <= np.array(sizes)[:, None]).all(axis=0).mean()
        return Calibration([level.columns for level in self._levels], sizes, float(found), ranked)

    def _table(self, queries: Tensor, level: Level) -> Tensor:
        prepared = level.matcher.prepare(self._coarse(queries, level.columns))
        return level.matcher.table(prepared, level.gallery)

    def _exact_table(self, queries: Tensor) -> Tensor:
        prepared, parts = self._exact.prepare(queries), []
        for columns in blocks(len(self._maps), POOLED_AT_ONCE):
            parts.append(self._exact.table(prepared, load_floats(self._maps, columns)))
        return torch.cat(parts, dim=1)

    def _coarse(self, locations: Tensor, columns: int) -> Codes:
        return quantise(_average_columns(locations, *self._shape, columns))

    def _chunks(self, queries: int) -> list[slice]:
        return list(blocks(queries, max(1, TABLE_ENTRIES // len(self._maps))))


def _pyramid(gallery: Maps, head: QAConv, progress: bool) -> dict[int, Codes]:
    """The gallery's codes by number of columns, the coarsest first."""
    height, width = head.height, head.width
    wanted = sorted({1, -(-width // 2), width})
    parts: dict[int, list[Codes]] = {columns: [] for columns in wanted}
    for rows in track(list(blocks(len(gallery), POOLED_AT_ONCE)), "average the gallery", disable=not progress):
        locations = load_floats(gallery, rows)
        for columns in wanted:
            parts[columns].append(quantise(_average_columns(locations, height, width, columns)))
    return {
        columns: Codes(torch.cat([part.codes for part in of]), torch.cat([part.scales.float() for part in of]))
        for columns, of in parts.items()
    }


def _average_columns(locations: Tensor, height: int, width: int, columns: int) -> Tensor:
    """[N, H*W, C] to [N, H*columns, C], of unit length again."""
    if columns == width:
        return locations
    maps = locations.transpose(1, 2).unflatten(2, (height, width))
    return F.normalize(F.adaptive_avg_pool2d(maps, (height, columns)), dim=1).flatten(2).transpose(1, 2)


def _coarse_head(head: QAConv, columns: int) -> FoldedHead:
    """The head for averaged maps: a location weighs what those weigh that it stands for."""
    folded, shape = head.folded(), (1, head.height, head.width)
    query, gallery = (
        F.adaptive_avg_pool2d(weights.reshape(shape), (head.height, columns)).flatten() * head.width / columns
        for weights in (folded.query, folded.gallery)
    )
    return FoldedHead(query, gallery, folded.bias)


def _best(logits: Tensor, size: int) -> Tensor:
    """The columns of each row's best, in their own order: memory is then read forwards."""
    return logits.topk(size, dim=1, sorted=False).indices.sort(dim=1).values


def _match_each(matcher: Matcher, prepared: object, gallery: Block, kept: Tensor) -> Tensor:
    """Logits [Q, n] of each query against its own gallery images, given as indices [Q, n]."""
    rows = torch.arange(len(kept)).repeat_interleave(kept.shape[1])
    return matcher.pairs(prepared, gallery, rows, kept.flatten()).reshape(kept.shape)


def _take(maps: Maps, images: Tensor) -> Tensor:
    """Chosen maps as float32 [n, S, C]."""
    if isinstance(maps, MapStore):
        return maps.take(images.numpy()).flatten(2).transpose(1, 2)
    chosen = torch.as_tensor(maps[images] if isinstance(maps, Tensor) else maps[images.numpy()])
    return chosen.flatten(2).transpose(1, 2).float().contiguous()


def _ranks(logits: Tensor, own: Tensor, wanted: Tensor) -> Tensor:
    """Where the wanted columns [Q, k] stand in each row of logits [Q, G] without its own [Q, 0 or 1], from 1; flat."""
    logits.scatter_(1, own, -torch.inf)
    ordered = logits.sort(dim=1).values
    places = torch.searchsorted(ordered, logits.gather(1, wanted))
    return (logits.shape[1] - places).flatten()


def _allowed_misses(wanted: int, recall: float) -> int:
    """How many of the samples' wanted images may be lost, so that CONFIDENCE is left that the recall is as asked.

    The one-sided limit of Clopper and Pearson (Biometrika 1934), as if each image were lost or found by itself.
    """
    return max(0, int(binom.ppf(1 - CONFIDENCE, wanted, 1 - recall)) - 1)


def _cheapest_sizes(ranks: NDArray[np.int64], costs: Sequence[float], misses: int) -> tuple[float, list[int]]:
    """What to pass on from each level, so that at most `misses` of the wanted images are lost, at the least cost.

    Args:
        ranks: [L, n] of the n wanted images at each level.
        costs: [L] of one image that a level passes on.
        misses: images that may be lost.
    """
    if not len(ranks):
        return 0.0, []
    descending = np.sort(ranks[0])[::-1]
    best: tuple[float, list[int]] = (np.inf, [])
    for size in dict.fromkeys(descending[: misses + 1].tolist()):
        kept = ranks[0] <= size
        lost = int((~kept).sum())
        cost, sizes = _cheapest_sizes(ranks[1:, kept], costs[1:], misses - lost)
        best = min(best, (costs[0] * size + cost, [size, *sizes]))
    return best
