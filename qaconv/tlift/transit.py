"""Weighted time differences between cameras go in; how much likelier each makes it that one person was seen comes out.

For two cameras a < b, `gap` is the time on b minus the time on a, each by its own clock: its sign tells the direction,
and a constant offset of a clock moves all gaps of a pair alike. P pairs of cameras, B bins, M pairs of sightings.
"""

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

SCALE = 10.0  # seconds around a pair's centre within which bins are equally wide; beyond, they widen in proportion
BIN = 0.1  # width of a bin on the axis asinh((gap - centre) / SCALE): 1 s at the centre, a tenth of the gap far out
POOLED_COUNT = 20.0  # pairs of sightings that the pooled shape counts for where a pair of cameras has few of its own
CHANCE_SECONDS = 600.0  # chance gaps are smoothed over this: shorter than a rush hour, longer than a walk
CHANCE_TIMES = 200  # quantiles of each camera's times whose differences stand for all
CENTRE_MATCHES = 5  # fewer confident matches do not place a pair's centre


@dataclass(frozen=True)
class TransitAxis:
    """Where each pair of cameras keeps its gaps, and how often chance alone fills each bin.

    Attributes:
        camids: the cameras, ascending; pairs are in the order of `combinations`.
        centres: [P] seconds; NaN where no match, direct or over other cameras, places it.
        reach: bins span -reach..reach on the asinh axis.
        chance: [P, B], share of gaps of unrelated sightings in each bin.
    """

    camids: Ints
    centres: Floats
    reach: float
    chance: Floats

    def pair_of(self, lower: Ints, higher: Ints) -> Ints:
        """Number of the pair of two cameras, the lower one first."""
        a, b = np.searchsorted(self.camids, lower), np.searchsorted(self.camids, higher)
        return a * (2 * len(self.camids) - a - 1) // 2 + b - a - 1

    def place(self, gaps: Floats, centre: Floats | float) -> Floats:
        """Position of gaps in bins, 0 at the lower edge of the first."""
        return (np.arcsinh((gaps - centre) / SCALE) + self.reach) / BIN

    def bins(self, gaps: Floats, pair: Ints) -> Ints:
        """[M]: each gap's bin; those of a pair without a centre are in the first, where they say nothing."""
        centre = self.centres[pair]
        at = self.place(gaps, np.where(np.isnan(centre), 0.0, centre))
        return np.clip(at, 0, self.chance.shape[1] - 1).astype(np.int64)


def build_axis(camids: Ints, times: Floats, gaps: Floats, pair: Ints, weights: Floats) -> TransitAxis:
    """Centres each pair at the weighted median of its gaps and counts what chance gives.

    Args:
        camids: [N] of all sightings.
        times: [N] seconds.
        gaps: [M] of confident matches.
        pair: [M].
        weights: [M].
    """
    cameras = np.unique(camids)
    longest = float(np.ptp(times)) * 2 + 1
    reach = BIN * np.ceil(np.arcsinh(longest / SCALE) / BIN)
    edges = np.arange(-reach, reach + BIN / 2, BIN)
    centres = _centres(len(cameras), gaps, pair, weights)
    at = (np.arange(CHANCE_TIMES) + 0.5) / CHANCE_TIMES
    sample = [np.quantile(times[camids == camid], at) for camid in cameras]
    chance = np.ones((len(centres), len(edges) - 1))
    for number, (a, b) in enumerate(combinations(range(len(cameras)), 2)):
        if not np.isnan(centres[number]):
            chance[number] = _chance(sample[b][:, None] - sample[a], centres[number] + SCALE * np.sinh(edges))
    return TransitAxis(cameras, centres, reach, chance / chance.sum(axis=1, keepdims=True))


def transit_density(axis: TransitAxis, bins: Ints, pair: Ints, weights: Floats, bandwidth: float) -> Floats:
    """[P, B]: share of one person's gaps in each bin, smoothed, with the pooled shape where a pair has few.

    On the asinh axis a constant bandwidth is an adaptive one: narrow for short walks, wide for long ones.

    Args:
        axis: the bins.
        bins: [M].
        pair: [M].
        weights: [M], how likely each shows one person.
        bandwidth: standard deviation in bins.
    """
    shape = axis.chance.shape
    counts = np.bincount(pair * shape[1] + bins, weights=weights, minlength=shape[0] * shape[1]).reshape(shape)
    placed = ~np.isnan(axis.centres)
    counts[~placed] = 0
    pooled = counts.sum(axis=0) + 1e-9
    smooth = gaussian_filter1d(counts, bandwidth, axis=1, mode="constant")
    pooled = gaussian_filter1d(pooled / pooled.sum(), bandwidth, mode="constant")
    density = smooth + POOLED_COUNT * pooled / pooled.sum()
    density /= density.sum(axis=1, keepdims=True)
    density[~placed] = axis.chance[~placed]
    return density


def _centres(cameras: int, gaps: Floats, pair: Ints, weights: Floats) -> Floats:
    """[P]: a pair's own weighted median; without enough matches, what the offsets of the other pairs imply."""
    ends = list(combinations(range(cameras), 2))
    centres = np.full(len(ends), np.nan)
    order = np.lexsort((gaps, pair))
    gaps, weights = gaps[order], weights[order]
    first = np.searchsorted(pair[order], np.arange(len(ends) + 1))
    for number in np.flatnonzero(np.diff(first) >= CENTRE_MATCHES):
        block = slice(first[number], first[number + 1])
        heaped = np.cumsum(weights[block])
        centres[number] = gaps[block][np.searchsorted(heaped, heaped[-1] / 2)]
    known = np.flatnonzero(~np.isnan(centres))
    if len(known) == 0:
        return centres
    differences = np.zeros((len(known), cameras))
    for row, number in enumerate(known):
        differences[row, ends[number][0]], differences[row, ends[number][1]] = -1, 1
    offsets = np.linalg.lstsq(differences, centres[known], rcond=None)[0]
    group = _connected(cameras, [ends[number] for number in known])
    for number in np.flatnonzero(np.isnan(centres)):
        a, b = ends[number]
        if group[a] == group[b]:
            centres[number] = offsets[b] - offsets[a]
    return centres


def _connected(cameras: int, links: list[tuple[int, int]]) -> list[int]:
    """A number for each camera, equal for those that links join."""
    group = list(range(cameras))
    for a, b in links:
        old, new = group[b], group[a]
        group = [new if each == old else each for each in group]
    return group


def _chance(gaps: Floats, edges: Floats) -> Floats:
    """[B]: share of chance gaps between the edges, smoothed; a thin even share makes nothing impossible."""
    step = CHANCE_SECONDS / 4
    low, high = gaps.min() - 4 * CHANCE_SECONDS, gaps.max() + 4 * CHANCE_SECONDS
    grid = low + step * np.arange(int((high - low) / step) + 2)
    counts = np.histogram(gaps, grid)[0].astype(float)
    smooth = gaussian_filter1d(counts, CHANCE_SECONDS / step, mode="constant")
    below = np.interp(edges, grid, np.concatenate([[0], np.cumsum(smooth)]) / smooth.sum())
    return 0.99 * np.diff(below) + 0.01 * np.diff(edges) / (edges[-1] - edges[0])
