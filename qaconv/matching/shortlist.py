"""Search a large gallery in two stages: cheap scores choose the images that are matched exactly.

Q queries, G gallery images, S locations, C channels. Estimates from a few landmarks (landmarks.py) rank
the whole gallery. The best by them are matched in 8 bits, and the best of those exactly.
"""

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from qaconv.matching.landmarks import TEACHERS, Landmarks
from qaconv.matching.search import Neighbours, best_first
from qaconv.matching.store import MapStore, as_array
from qaconv.matching.tiles import (
    FoldableHead,
    blocks,
    check_finite,
    check_shape,
    choose_matcher,
    load_block,
    load_floats,
)
from qaconv.progress import track
from qaconv.runtime.locations import as_locations
from qaconv.runtime.quantise import Block, Codes, quantise

if TYPE_CHECKING:
    import torch

    from qaconv.matching.tiles import Maps

log = logging.getLogger(__name__)

TABLE_ENTRIES = 1 << 24  # logits at a time: 64 MB
READ_AT_ONCE = 1024  # images
EXACT_COST = 10  # of fetching a map and matching it exactly, against one match in 8 bits
CONFIDENCE = 0.95  # that other queries like the samples reach the recall


class Calibration(NamedTuple):
    """The sizes, and how sample queries, or images of the gallery among its others, ended; no label is used."""

    sizes: list[int]  # [2] numbers of images that estimates, then matches in 8 bits pass on
    recall: float  # share of the exact top_k that both passed on, in [0, 1]
    ranks: NDArray[np.int64]  # [2, samples x top_k]: ranks that each gives the images of the exact top_k, from 1

    def curve(self, sizes: Sequence[int]) -> NDArray[np.float64]:
        """Return the recall of each score alone at each size, [2, len(sizes)]."""
        recall: NDArray[np.float64] = (self.ranks[:, :, None] <= np.asarray(sizes)).mean(axis=1)
        return recall


class Shortlist:
    """A gallery in 8 bits with its landmarks, held in memory: an image takes C*H*W bytes, 4*H*W for scales, and 1 KB.

    It may miss an image that matches the query by something that no landmark shows. `calibration.recall` says how
    rarely, for queries like the samples. Images of the gallery find closer matches in it than images of another day or
    camera do, so pass some of those as `queries` if you have any.

    Args:
        gallery: maps [G, C, H, W] of at least two images, or a store; the exact matches read it.
        head: the head, as in `score_matrix`.
        top_k: number of neighbours that a search returns, 1..G-1. Default: 10.
        recall: share of the exact top_k to find, in (0, 1], with a confidence of 95 per cent, for queries like the
            samples. Default: 0.998.
        queries: maps [*, C, H, W] to choose the sizes by, of images that are not in the gallery. Default: images of the
            gallery.
        samples: number of queries that are searched exactly for that; at most half of the gallery. Default: 400.
        seed: seed of the choice of samples and of landmarks.
        device: torch device to match on. Default: None, the CPU without torch.
        progress: show a bar.

    Raises:
        ValueError: `top_k` or `recall` is out of range, `queries` is empty, or maps have another shape than the head
            was made for or are not finite.

    Example:
        >>> import numpy as np
        >>> from qaconv.matching import Shortlist
        >>> from qaconv.runtime.head import Head
        >>> gallery = np.random.default_rng(0).normal(size=(40, 8, 3, 1)).astype(np.float32)
        >>> gallery /= np.linalg.norm(gallery, axis=1, keepdims=True)
        >>> head = Head(query=np.ones(3, np.float32), gallery=np.ones(3, np.float32), bias=0.0)
        >>> Shortlist(gallery, head, top_k=1).search(gallery[5:8]).indices.tolist()
        [[5], [6], [7]]
    """

    def __init__(
        self,
        gallery: "Maps",
        head: FoldableHead,
        *,
        top_k: int = 10,
        recall: float = 0.998,
        queries: "Maps | None" = None,
        samples: int = 400,
        seed: int = 0,
        device: "torch.device | None" = None,
        progress: bool = False,
    ) -> None:
        if not 1 <= top_k < len(gallery):
            raise ValueError(f"top_k must be in 1..{len(gallery) - 1} (the gallery's size less one), got {top_k}")
        if not 0 < recall <= 1:
            raise ValueError(f"recall must be above 0 and at most 1, got {recall}")
        if queries is not None and not len(queries):
            raise ValueError("queries must hold at least one map, or be None for images of the gallery")
        self._head = head.folded()
        self._map_shape = check_shape("gallery", gallery, self._head)
        if queries is not None:
            check_shape("queries", queries, self._head, self._map_shape)
        self.top_k = top_k
        self._maps = gallery
        self._matcher = choose_matcher(self._head, device)
        self._codes = _in_8_bits(gallery, progress)
        random = np.random.default_rng(seed)
        order = random.permutation(len(gallery))
        if queries is None:
            sampled, order = np.split(order, [min(samples, len(order) // 2)])  # a teacher would be known too well
            chosen = np.sort(sampled)
        else:
            chosen = np.sort(random.choice(len(queries), min(samples, len(queries)), replace=False))
        self._landmarks = Landmarks(self._matcher, self._codes.take(order[:TEACHERS]))
        self._weights = self._weigh(progress)
        self.calibration = self._calibrate(queries, chosen, recall, progress)
        log.info(
            "shortlist of %d: %d by estimates, then %d in 8 bits; %.2f per cent of the exact top %d were among them",
            len(gallery),
            *self.calibration.sizes,
            100 * self.calibration.recall,
            top_k,
        )

    def search(self, query_maps: "Maps") -> Neighbours:
        """Find the best `top_k` gallery images for each query [Q, C, H, W], with their exact logits.

        Except for the result, memory does not grow with Q.

        Raises:
            ValueError: the maps have another shape than the gallery's, or are not finite.
        """
        check_shape("query_maps", query_maps, self._head, self._map_shape)
        scores = np.empty((len(query_maps), self.top_k), dtype=np.float32)
        indices = np.empty((len(query_maps), self.top_k), dtype=np.int64)
        for rows in self._chunks(len(query_maps)):
            scores[rows], indices[rows] = self._search(load_floats("query_maps", query_maps, rows))
        return Neighbours(scores, indices)

    def _search(self, queries: NDArray[np.float32]) -> Neighbours:
        by_estimate, in_8_bits = self.calibration.sizes
        prepared = self._matcher.prepare(quantise(queries))
        kept = _best_columns(self._landmarks.estimate(prepared, self._weights), by_estimate)
        best = _best_columns(self._match_each(prepared, self._codes.take, kept), in_8_bits)
        kept = np.take_along_axis(kept, best, axis=1)
        logits = self._match_each(self._matcher.prepare(queries), partial(_take, self._maps), kept)
        return best_first(logits, kept, self.top_k)

    def _match_each(
        self, prepared: Any, take: Callable[[NDArray[np.int64]], Block], candidates: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Return logits [Q, n] of each query with its candidates, each of which is read once.

        Args:
            prepared: Q queries.
            take: returns chosen images of the gallery.
            candidates: indices into the gallery, [Q, n].
        """
        images, positions = np.unique(candidates, return_inverse=True)
        order = np.argsort(positions, axis=None, kind="stable")
        positions = positions.ravel()[order]
        logits = np.empty(candidates.size, dtype=np.float32)
        for block in blocks(len(images), READ_AT_ONCE):
            first, last = np.searchsorted(positions, (block.start, block.stop))
            pairs = order[first:last]
            gallery_index = positions[first:last] - block.start
            logits[pairs] = self._matcher.pairs(
                prepared, take(images[block]), pairs // candidates.shape[1], gallery_index
            )
        return logits.reshape(candidates.shape)

    def _weigh(self, progress: bool) -> NDArray[np.float32]:
        """Match the whole gallery with the teachers, and return each image's weights [G, M]."""
        weights = np.empty((len(self._maps), len(self._landmarks)), dtype=np.float32)
        parts = list(blocks(len(self._maps), READ_AT_ONCE))
        for images in track(parts, "match the teachers", disable=not progress):
            weights[images] = self._landmarks.weights(self._codes.take(images))
        return weights

    def _calibrate(
        self, queries: "Maps | None", chosen: NDArray[np.int64], recall: float, progress: bool
    ) -> Calibration:
        """Search the chosen ones of the queries, or of the gallery among its others, in all three ways."""
        source = self._maps if queries is None else queries
        ranks = []
        for rows in track(list(self._chunks(len(chosen))), "choose the shortlist", disable=not progress):
            images = chosen[rows]
            maps = _take(source, images)
            check_finite("queries", maps, images.tolist())
            excluded = images[:, None][:, : int(queries is None)]  # the image itself [n, 1], or none [n, 0]
            exact = self._table(self._matcher.prepare(maps), partial(load_floats, "gallery", self._maps))
            np.put_along_axis(exact, excluded, -np.inf, axis=1)
            top = _best_columns(exact, self.top_k)
            prepared = self._matcher.prepare(quantise(maps))
            tables = self._landmarks.estimate(prepared, self._weights), self._table(prepared, self._codes.take)
            ranks.append(np.stack([_ranks(table, excluded, top) for table in tables]))
        ranked = np.concatenate(ranks, axis=1)
        sizes = _cheapest_sizes(ranked, [1, EXACT_COST], _allowed_misses(ranked.shape[1], recall))[1]
        sizes = np.minimum.accumulate(np.maximum(sizes, self.top_k)).tolist()
        passed_on = (ranked <= np.array(sizes)[:, None]).all(axis=0).mean()
        return Calibration(sizes, float(passed_on), ranked)

    def _table(self, prepared: Any, load: Callable[[slice], Block]) -> NDArray[np.float32]:
        """Return logits [Q, G] of prepared queries with all of the gallery, of which `load` returns blocks."""
        parts = [self._matcher.table(prepared, load(columns)) for columns in blocks(len(self._maps), READ_AT_ONCE)]
        return np.concatenate(parts, axis=1)

    def _chunks(self, queries: int) -> list[slice]:
        return list(blocks(queries, max(1, TABLE_ENTRIES // len(self._maps))))


def _in_8_bits(gallery: "Maps", progress: bool) -> Codes:
    """Return all of the gallery's codes [G, S, C], the scales as float32, which the matcher reads."""
    _, channels, height, width = gallery.shape
    codes = np.empty((len(gallery), height * width, channels), dtype=np.int8)
    scales = np.empty((len(gallery), height * width), dtype=np.float32)
    for rows in track(list(blocks(len(gallery), READ_AT_ONCE)), "read the gallery", disable=not progress):
        block = load_block("gallery", gallery, rows, "int8")
        assert isinstance(block, Codes)
        codes[rows] = block.codes
        scales[rows] = block.scales
    return Codes(codes, scales)


def _take(maps: "Maps", images: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return chosen maps as float32 [n, S, C]."""
    return as_locations(maps.take(images) if isinstance(maps, MapStore) else as_array(maps[images]))


def _best_columns(scores: NDArray[np.float32], size: int) -> NDArray[np.int64]:
    """Return the columns [Q, size] of each row's largest scores [Q, G], in no order."""
    return np.argpartition(scores, -size, axis=1)[:, -size:]


def _ranks(logits: NDArray[np.float32], excluded: NDArray[np.int64], wanted: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the ranks, from 1, of the wanted columns [Q, k] in each row of logits [Q, G] without the excluded."""
    np.put_along_axis(logits, excluded, -np.inf, axis=1)
    ordered = np.sort(logits, axis=1)
    scores = np.take_along_axis(logits, wanted, axis=1)
    below = [np.searchsorted(row, values) for row, values in zip(ordered, scores, strict=True)]
    ranks: NDArray[np.int64] = logits.shape[1] - np.concatenate(below)
    return ranks


def _allowed_misses(wanted: int, recall: float) -> int:
    """Return how many of the samples' wanted images may be lost, so that the recall holds with CONFIDENCE.

    The one-sided limit of Clopper and Pearson (Biometrika 1934), as if each image were lost or found by itself.
    """
    from scipy.stats import binom  # takes half a second, and every command imports this module

    return max(0, int(binom.ppf(1 - CONFIDENCE, wanted, 1 - recall)) - 1)


def _cheapest_sizes(ranks: NDArray[np.int64], costs: Sequence[float], misses: int) -> tuple[float, list[int]]:
    """Return the least cost, and how many images each score passes on, if at most `misses` wanted images are lost.

    Args:
        ranks: ranks of the n wanted images by each of L scores, the cheapest first, [L, n].
        costs: costs of one image that each passes on, [L].
        misses: number of images that may be lost.
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
