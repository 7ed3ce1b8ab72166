"""Estimate transit times between cameras against chance.

For two cameras a < b, a gap is the time on b minus the time on a, each by its own clock. Its sign is the direction,
and a constant offset of a clock moves all gaps of a pair of cameras alike. P pairs of cameras, B bins, M pairs of
sightings, N sightings.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

SCALE = 10.0  # seconds around a centre within which bins are equally wide; beyond, their width grows with the gap
BIN = 0.1  # width of a bin on the axis asinh((gap - centre) / SCALE): 1 s at the centre, a tenth of the gap far out
POOLED_COUNT = 20.0  # pairs of sightings that the pooled shape counts for
CHANCE_SECONDS = 600.0  # smoothing of chance gaps: shorter than a rush hour, longer than a walk
CHANCE_TIMES = 200  # quantiles of each camera's times; their differences stand for all
CENTRE_MATCHES = 5  # a pair of cameras with fewer confident matches has no centre of its own


@dataclass(frozen=True)
class TransitTable:
    """Log likelihood ratios of gaps for each two cameras a < b in the order of `combinations`.

    Attributes:
        centres: usual time on b's clock minus that on a's, in seconds; None for two cameras without matches, which
            stay neutral.
        reach: outer edges on the axis asinh((gap - centre) / SCALE).
        log_ratio: log of transit density / chance density by bin.
    """

    centres: Sequence[float | None] = ()
    reach: float = 0.0
    log_ratio: Sequence[Sequence[float]] = ()

    def __call__(self, pair: int, gaps: Floats) -> Floats:
        """Return the log likelihood ratio of gaps of one pair of cameras, in seconds."""
        centre = self.centres[pair]
        if centre is None:
            return np.zeros_like(gaps)
        values = np.asarray(self.log_ratio[pair])
        positions = (np.arcsinh((gaps - centre) / SCALE) + self.reach) / BIN - 0.5
        positions = np.clip(positions, 0, len(values) - 1.000001)
        below = positions.astype(np.intp)
        log_ratios: Floats = values[below] + (positions - below) * np.diff(values)[below]
        return log_ratios


@dataclass(frozen=True)
class TransitAxis:
    """The bins of gaps of each pair of cameras, and how often chance alone fills them.

    Attributes:
        camids: cameras, ascending; pairs are in the order of `combinations`.
        centres: [P] seconds; NaN where no match, direct or over other cameras, gives one.
        reach: bins span -reach..reach on the asinh axis.
        chance: share of the gaps of unrelated sightings in each bin, [P, B].
    """

    camids: Ints
    centres: Floats
    reach: float
    chance: Floats

    def pair_of(self, lower: Ints, higher: Ints) -> Ints:
        """Return the number of the pair of two cameras."""
        return pair_numbers(self.camids, lower, higher)

    def bins(self, gaps: Floats, pair: Ints) -> Ints:
        """Return the bin of each gap, [M]; 0 for a pair without a centre, whose bins have a ratio of 1."""
        centre = self.centres[pair]
        positions = _bin_positions(gaps, np.where(np.isnan(centre), 0.0, centre), self.reach)
        return np.clip(positions, 0, self.chance.shape[1] - 1).astype(np.int64)


def pair_numbers(cameras: Ints, lower: Ints, higher: Ints) -> Ints:
    """Return the number of each pair of cameras in the order of `combinations`.

    Args:
        cameras: all of them, ascending.
        lower: first camera of each pair.
        higher: second camera of each pair.
    """
    a, b = np.searchsorted(cameras, lower), np.searchsorted(cameras, higher)
    return a * (2 * len(cameras) - a - 1) // 2 + b - a - 1


def build_axis(camids: Ints, times: Floats, gaps: Floats, pair: Ints, weights: Floats) -> TransitAxis:
    """Centre each pair of cameras at the weighted median of its gaps, and estimate what chance gives.

    Args:
        camids: of all sightings, [N].
        times: [N] seconds.
        gaps: of confident matches, [M].
        pair: number of their cameras, [M].
        weights: [M].
    """
    cameras = np.unique(camids)
    longest = float(np.ptp(times)) * 2 + 1
    reach = BIN * np.ceil(np.arcsinh(longest / SCALE) / BIN)
    edges = np.arange(-reach, reach + BIN / 2, BIN)
    centres = _centres(len(cameras), gaps, pair, weights)
    quantiles = (np.arange(CHANCE_TIMES) + 0.5) / CHANCE_TIMES
    sample = [np.quantile(times[camids == camid], quantiles) for camid in cameras]
    chance = np.ones((len(centres), len(edges) - 1))
    for number, (a, b) in enumerate(combinations(range(len(cameras)), 2)):
        if not np.isnan(centres[number]):
            chance[number] = _chance(sample[b][:, None] - sample[a], centres[number] + SCALE * np.sinh(edges))
    return TransitAxis(cameras, centres, reach, chance / chance.sum(axis=1, keepdims=True))


def transit_density(axis: TransitAxis, bins: Ints, pair: Ints, weights: Floats, bandwidth: float) -> Floats:
    """Estimate the share of one person's gaps in each bin, [P, B]; pairs with few gaps take the pooled shape.

    On the asinh axis a constant bandwidth is an adaptive one: narrow for short walks, wide for long ones.

    Args:
        axis: the bins.
        bins: of the gaps, [M].
        pair: number of their cameras, [M].
        weights: probability that each shows one person, [M].
        bandwidth: standard deviation in bins.
    """
    shape = axis.chance.shape
    counts = np.bincount(pair * shape[1] + bins, weights=weights, minlength=shape[0] * shape[1]).reshape(shape)
    centred = ~np.isnan(axis.centres)
    counts[~centred] = 0
    pooled = counts.sum(axis=0) + 1e-9
    smooth = gaussian_filter1d(counts, bandwidth, axis=1, mode="constant")
    pooled = gaussian_filter1d(pooled / pooled.sum(), bandwidth, mode="constant")
    density: Floats = smooth + POOLED_COUNT * pooled / pooled.sum()
    density /= density.sum(axis=1, keepdims=True)
    density[~centred] = axis.chance[~centred]
    return density


def _bin_positions(gaps: Floats, centre: Floats, reach: float) -> Floats:
    """Position of gaps in bins, 0 at the lower edge of the first."""
    positions: Floats = (np.arcsinh((gaps - centre) / SCALE) + reach) / BIN
    return positions


def _centres(cameras: int, gaps: Floats, pair: Ints, weights: Floats) -> Floats:
    """Weighted median of each pair's gaps, [P]; without enough matches, the difference of the cameras' offsets."""
    ends = list(combinations(range(cameras), 2))
    centres = np.full(len(ends), np.nan)
    order = np.lexsort((gaps, pair))
    gaps, weights = gaps[order], weights[order]
    first = np.searchsorted(pair[order], np.arange(len(ends) + 1))
    for number in np.flatnonzero(np.diff(first) >= CENTRE_MATCHES):
        block = slice(first[number], first[number + 1])
        weight_up_to = np.cumsum(weights[block])
        centres[number] = gaps[block][np.searchsorted(weight_up_to, weight_up_to[-1] / 2)]
    known = np.flatnonzero(~np.isnan(centres))
    if len(known) == 0:
        return centres
    differences = np.zeros((len(known), cameras))
    for row, number in enumerate(known):
        differences[row, ends[number][0]] = -1
        differences[row, ends[number][1]] = 1
    offsets = np.linalg.lstsq(differences, centres[known], rcond=None)[0]
    group = _connected(cameras, [ends[number] for number in known])
    for number in np.flatnonzero(np.isnan(centres)):
        a, b = ends[number]
        if group[a] == group[b]:
            centres[number] = offsets[b] - offsets[a]
    return centres


def _connected(cameras: int, links: list[tuple[int, int]]) -> list[int]:
    """A number for each camera, equal for cameras that links connect."""
    group = list(range(cameras))
    for a, b in links:
        old, new = group[b], group[a]
        group = [new if number == old else number for number in group]
    return group


def _chance(gaps: Floats, edges: Floats) -> Floats:
    """Smoothed share of chance gaps between the edges, [B]; a small uniform share keeps every gap possible."""
    low, high = gaps.min() - 4 * CHANCE_SECONDS, gaps.max() + 4 * CHANCE_SECONDS
    step = max(CHANCE_SECONDS / 4, (high - low) / gaps.size)  # more cells than gaps would show nothing more
    grid = low + step * np.arange(int((high - low) / step) + 2)
    counts = np.histogram(gaps, grid)[0].astype(float)
    smooth = gaussian_filter1d(counts, CHANCE_SECONDS / step, mode="constant")
    below = np.interp(edges, grid, np.concatenate([[0], np.cumsum(smooth)]) / smooth.sum())
    share: Floats = 0.99 * np.diff(below) + 0.01 * np.diff(edges) / (edges[-1] - edges[0])
    return share
