"""A gallery goes in; searches that match exactly only what cheaper scores leave over come out.

Q queries, G gallery images, S locations, C channels. Estimates from a few landmarks (landmarks.py) rank the whole
gallery; the best by them are matched in 8 bits, and the best of those exactly.
"""

import logging
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import binom
from torch import Tensor

from qaconv.matching.landmarks import TEACHERS, Landmarks
from qaconv.matching.quantise import Block, Codes, quantise
from qaconv.matching.search import Neighbours, best_first
from qaconv.matching.store import MapStore
from qaconv.matching.tiles import Maps, Matcher, blocks, choose_matcher, load_block, load_floats
from qaconv.models.head import QAConv
from qaconv.progress import track

log = logging.getLogger(__name__)

TABLE_ENTRIES = 1 << 24  # logits at a time: 64 MB
READ_AT_ONCE = 1024  # images
EXACT_COST = 10  # of fetching a map and matching it exactly, against one match in 8 bits
CONFIDENCE = 0.95  # that the recall asked for is reached on other queries of the samples' kind


class Calibration(NamedTuple):
    """What the sizes were chosen from: sample queries, or images of the gallery among its others; no label is used."""

    sizes: list[int]  # [2] images that estimates, then matches in 8 bits pass on
    recall: float  # share of the exact top_k that both passed on, in [0, 1]
    ranks: NDArray[np.int64]  # [2, samples x top_k]: where each ranks the images of the exact top_k, from 1

    def curve(self, sizes: Sequence[int]) -> NDArray[np.float64]:
        """Recall of each alone at each size, [2, len(sizes)]."""
        return (self.ranks[:, :, None] <= np.asarray(sizes)).mean(axis=1)


class Shortlist:
    """A gallery in 8 bits with its landmarks, held in memory: an image takes C*H*W bytes, 4*H*W for scales, and 1 KB.

    It may miss an image that matches the query by something that no landmark shows. How often is `calibration.recall`,
    for queries like those that the sizes were chosen by. The gallery's own images find closer matches in it than images
    of another day or camera do, so give some of those where there are any.

    Args:
        gallery: maps [G, C, H, W] of at least two images, or a store; the exact matches read it.
        head: its running statistics are used.
        top_k: how many neighbours a search returns, 1..G-1.
        recall: share of the exact top_k to be found, with a confidence of 95 per cent, for queries like the samples; of
            the samples' own more are found.
        queries: maps [*, C, H, W] to choose the sizes by, of images that are not in the gallery; its own unless given.
        samples: how many of them are searched exactly for that; at most half of the gallery's own.
        seed: of their choice, and of the landmarks'.
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
        self._matcher = choose_matcher(head, device)
        self._codes = _in_8_bits(gallery, progress)
        random = np.random.default_rng(seed)
        order = random.permutation(len(gallery))
        if queries is None:
            own, order = np.split(order, [min(samples, len(order) // 2)])  # a teacher would be known too well
            chosen = np.sort(own)
        else:
            chosen = np.sort(random.choice(len(queries), min(samples, len(queries)), replace=False))
        self._landmarks = Landmarks(self._matcher, self._codes, torch.from_numpy(order[:TEACHERS]), progress)
        self.calibration = self._calibrate(queries, chosen, recall, progress)
        log.info(
            "shortlist of %d: %d by estimates, then %d in 8 bits; %.2f per cent of the exact top %d were among them",
            len(gallery),
            *self.calibration.sizes,
            100 * self.calibration.recall,
            top_k,
        )

    @torch.no_grad()
    def search(self, query_maps: Maps) -> Neighbours:
        """The best `top_k` gallery images for each query [Q, C, H, W], by exact logits; memory does not grow with Q."""
        found = [self._search(load_floats(query_maps, rows)) for rows in self._chunks(len(query_maps))]
        return Neighbours(*(np.concatenate(parts) for parts in zip(*found, strict=True)))

    def _search(self, queries: Tensor) -> Neighbours:
        by_estimate, in_8_bits = self.calibration.sizes
        prepared = self._matcher.prepare(quantise(queries))
        kept = _best(self._landmarks.estimate(prepared), by_estimate)
        kept = kept.gather(1, _best(_match_each(self._matcher, prepared, self._codes, kept), in_8_bits))
        images, places = kept.unique(return_inverse=True)
        logits = _match_each(self._matcher, self._matcher.prepare(queries), _take(self._maps, images), places)
        return best_first(logits, kept, self.top_k)

    @torch.no_grad()
    def _calibrate(self, queries: Maps | None, chosen: NDArray[np.int64], recall: float, progress: bool) -> Calibration:
        """Searches the chosen ones of the queries, or of the gallery among its others, in all three ways."""
        source = self._maps if queries is None else queries
        ranks = []
        for rows in track(list(self._chunks(len(chosen))), "choose the shortlist", disable=not progress):
            images = torch.from_numpy(chosen[rows])
            maps, own = _take(source, images), images[:, None][:, : int(queries is None)]  # [n, 1], or [n, 0]
            top = self._exact_table(maps).scatter_(1, own, -torch.inf).topk(self.top_k, dim=1).indices
            prepared = self._matcher.prepare(quantise(maps))
            tables = self._landmarks.estimate(prepared), self._matcher.table(prepared, self._codes)
            ranks.append(torch.stack([_ranks(table, own, top) for table in tables]))
        ranked = torch.cat(ranks, dim=1).numpy()
        sizes = _cheapest_sizes(ranked, [1, EXACT_COST], _allowed_misses(ranked.shape[1], recall))[1]
        sizes = np.minimum.accumulate(np.maximum(sizes, self.top_k)).tolist()
        found = (ranked <= np.array(sizes)[:, None]).all(axis=0).mean()
        return Calibration(sizes, float(found), ranked)

    def _exact_table(self, queries: Tensor) -> Tensor:
        prepared, parts = self._matcher.prepare(queries), []
        for columns in blocks(len(self._maps), READ_AT_ONCE):
            parts.append(self._matcher.table(prepared, load_floats(self._maps, columns)))
        return torch.cat(parts, dim=1)

    def _chunks(self, queries: int) -> list[slice]:
        return list(blocks(queries, max(1, TABLE_ENTRIES // len(self._maps))))


def _in_8_bits(gallery: Maps, progress: bool) -> Codes:
    """All of the gallery's codes [G, S, C], the scales as float32: what the matcher reads."""
    _, channels, height, width = gallery.shape
    codes = torch.empty(len(gallery), height * width, channels, dtype=torch.int8)
    scales = torch.empty(len(gallery), height * width)
    for rows in track(list(blocks(len(gallery), READ_AT_ONCE)), "read the gallery", disable=not progress):
        codes[rows], scales[rows] = load_block(gallery, rows, "int8")
    return Codes(codes, scales)


def _best(logits: Tensor, size: int) -> Tensor:
    """The columns of each row's best, in no order; numpy parts them faster than torch does."""
    return torch.from_numpy(np.argpartition(logits.numpy(), -size, axis=1)[:, -size:])


def _match_each(matcher: Matcher, prepared: Any, gallery: Block, kept: Tensor) -> Tensor:
    """Logits [Q, n] of each query against its own gallery images, given as indices [Q, n]."""
    images, order = kept.flatten().sort()  # an image that several queries ask for is read once, and memory forwards
    logits = torch.empty(len(images))
    logits[order] = matcher.pairs(prepared, gallery, order // kept.shape[1], images)
    return logits.reshape(kept.shape)


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
    """How many each score passes on, so that at most `misses` of the wanted images are lost, at the least cost.

    Args:
        ranks: [L, n] of the n wanted images by each of L scores, the cheapest first.
        costs: [L] of one image that each passes on.
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
