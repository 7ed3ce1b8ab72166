"""Pairs of sightings with scores and gaps go in; how likely each pair shows one person comes out, without a label.

Appearance and time are two views of one question, and independent of each other for one person as for two. So time
calibrates the score, and the score picks the pairs that transit times are learnt from (expectation and maximisation,
Dempster et al., 1977): P(same | score, gap) / P(other | score, gap) = odds(score) * transit(gap) / chance(gap).
The transit times that judge a pair come from the other half of the day only; else each pair would confirm itself.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

from qaconv.tlift.pairs import Pairs
from qaconv.tlift.transit import TransitAxis, build_axis, transit_density

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

ROUNDS = 5  # on each axis
MOST_SIGHTINGS = 1000  # whose gaps among each other show how many walk together
SURPRISE = 0.01  # share of one person's gaps that no statistic foresees: the floor of every likelihood ratio
BLOCKS = 8  # of each camera's time, by turns of one half and of the other
BANDWIDTHS = (1.0, 2.0, 4.0)  # bins; the one that foresees the other half best is taken
FIRST_BIN, GROWTH = 20.0, 1.25  # pairs in the bin of the best scores, and how the next ones grow


@dataclass(frozen=True)
class Mixture:
    """What two views agree on.

    Attributes:
        axis: of the gaps.
        halves: [2, P, B] likelihood ratios of transit against chance, each learnt from the other half of the day.
        ratio: [P, B], learnt from the whole day.
        posterior: [M], how likely each pair shows one person.
        prior: [M], the same from its score alone.
        seen_ratio: [M], each pair's likelihood ratio by the other half.
        half: [M].
        pair: [M] number of its pair of cameras.
        bandwidth: in bins.
    """

    axis: TransitAxis
    halves: Floats
    ratio: Floats
    posterior: Floats
    prior: Floats
    seen_ratio: Floats
    half: Ints
    pair: Ints
    bandwidth: float

    def gain(self, chosen: NDArray[np.bool_]) -> float:
        """Nats by which the gaps of some pairs are likelier than by chance, with the share of one person as it is."""
        share = self.posterior[chosen].mean()
        return float(np.log1p(share * (self.seen_ratio[chosen] - 1)).mean())


def confident(pairs: Pairs) -> NDArray[np.bool_]:
    """[M]: mutual best matches in the better half of their scores, where everything begins."""
    return pairs.mutual & (pairs.score >= np.median(pairs.score[pairs.mutual]))


def start_weights(pairs: Pairs) -> Floats:
    """[M]: how likely each pair shows one person, before anything is known of time."""
    return np.where(pairs.mutual, np.where(confident(pairs), 0.8, 0.3), 0.0)


def fit_mixture(pairs: Pairs, camids: Ints, times: Floats) -> Mixture:
    """Learns transit times and odds from each other.

    Twice, as the axis is finest around each pair's centre, and where that lies shows once matches have been judged.

    Args:
        pairs: at least one of them mutual.
        camids: [N].
        times: [N] seconds.
    """
    start = start_weights(pairs)
    begun = _by_turns(pairs, camids, times, start, np.clip(start, 0.001, 0.9))
    return _by_turns(pairs, camids, times, begun.posterior, begun.prior)


def _by_turns(pairs: Pairs, camids: Ints, times: Floats, posterior: Floats, prior: Floats) -> Mixture:
    """From how likely each pair shows one person, and how likely by its score alone."""
    gaps, likely = times[pairs.second] - times[pairs.first], pairs.mutual & (posterior > 0.5)
    pair = _numbers(np.unique(camids), camids[pairs.first], camids[pairs.second])
    axis = build_axis(camids, times, gaps[likely], pair[likely], posterior[likely])
    bins, half, rank = axis.bins(gaps, pair), halves_of(pairs.first, camids, times), _score_bins(pairs)

    def judge(bandwidth: float) -> Floats:
        """[2, P, B]: half h is judged by what the other half has shown."""
        learnt = [
            transit_density(axis, bins[half != h], pair[half != h], posterior[half != h], bandwidth) for h in (0, 1)
        ]
        return SURPRISE + (1 - SURPRISE) * np.stack(learnt) / axis.chance

    def foresight(bandwidth: float) -> float:
        seen = judge(bandwidth)[half, pair, bins][pairs.mutual]
        return float(np.log1p(posterior[pairs.mutual] * (seen - 1)).sum())

    bandwidth = max(BANDWIDTHS, key=foresight)
    for _ in range(ROUNDS):
        halves = judge(bandwidth)
        seen = halves[half, pair, bins]
        posterior = prior * seen / (prior * seen + 1 - prior)
        prior = _shares(posterior, rank, pairs.mutual)
    whole = transit_density(axis, bins, pair, posterior, bandwidth)
    ratio = SURPRISE + (1 - SURPRISE) * whole / axis.chance
    return Mixture(axis, halves, ratio, posterior, prior, seen, half, pair, bandwidth)


def beside_companions(mixture: Mixture, pairs: Pairs, camids: Ints, times: Floats) -> tuple[Mixture, float]:
    """Likelihood ratios against unrelated people and companions together, and the companions' share of the others.

    Whoever walks beside somebody has that person's gaps. Among pairs of sightings whatever their looks, the gaps show
    how many are of one person or of companions; those of one person are known from their looks.

    Args:
        mixture: fitted.
        pairs: that it was fitted on.
        camids: [N].
        times: [N] seconds.
    """
    order = np.lexsort((times, camids))
    some = order[:: max(1, len(order) // MOST_SIGHTINGS)]
    one, other = np.nonzero(camids[some][:, None] < camids[some])
    first, second = some[one], some[other]
    pair = _numbers(mixture.axis.camids, camids[first], camids[second])
    ratio = mixture.ratio[pair, mixture.axis.bins(times[second] - times[first], pair)]
    together = 0.01
    for _ in range(3 * ROUNDS):
        together = float((together * ratio / (1 - together + together * ratio)).mean())
    sampled = np.isin(pairs.first, some) & np.isin(pairs.second, some)
    same = float(mixture.posterior[sampled].sum()) / len(ratio)
    share = max(together - same, 0.0) / (1 - same)

    def against(ratios: Floats) -> Floats:
        return ratios / (1 - share + share * ratios)

    seen = against(mixture.seen_ratio)
    return replace(mixture, halves=against(mixture.halves), ratio=against(mixture.ratio), seen_ratio=seen), share


def judge_by(mixture: Mixture, pairs: Pairs, camids: Ints, times: Floats) -> Floats:
    """[M]: how likely each pair shows one person by scores of another kind; the transit times are the mixture's.

    Args:
        mixture: fitted.
        pairs: with their scores of the other kind; none of them mutual.
        camids: [N].
        times: [N] seconds.
    """
    pair = _numbers(mixture.axis.camids, camids[pairs.first], camids[pairs.second])
    bins = mixture.axis.bins(times[pairs.second] - times[pairs.first], pair)
    seen, rank = mixture.halves[halves_of(pairs.first, camids, times), pair, bins], _score_bins(pairs)
    prior = np.full(len(pairs), 0.1)
    for _ in range(3 * ROUNDS):  # from a start that no score has told
        posterior = prior * seen / (prior * seen + 1 - prior)
        prior = _shares(posterior, rank, pairs.mutual)
    return posterior


def halves_of(sightings: Ints, camids: Ints, times: Floats) -> Ints:
    """0 or 1 for each sighting: by turns of its camera's time."""
    start = np.full(int(camids.max()) + 1, np.inf)
    np.minimum.at(start, camids, times)
    longest = max(float(np.ptp(times[camids == camid])) for camid in np.unique(camids))
    into = times[sightings] - start[camids[sightings]]
    return (into // (longest / BLOCKS + 1e-9)).astype(np.int64) % 2


def _numbers(cameras: Ints, lower: Ints, higher: Ints) -> Ints:
    return TransitAxis(cameras, np.empty(0), 0.0, np.empty((0, 0))).pair_of(lower, higher)


def _score_bins(pairs: Pairs) -> Ints:
    """[M]: 0 for the best scores, each bin larger than the one before."""
    order = np.argsort(-pairs.score, kind="stable")
    sizes = FIRST_BIN * GROWTH ** np.arange(2 + np.log1p(len(pairs) / FIRST_BIN) / np.log(GROWTH))
    bins = np.empty(len(pairs), dtype=np.int64)
    bins[order] = np.searchsorted(np.cumsum(sizes), np.arange(len(pairs)), side="right")
    return bins


def _shares(posterior: Floats, rank: Ints, mutual: NDArray[np.bool_]) -> Floats:
    """[M]: mean posterior of the pairs of like score, mutual ones apart; never rising as scores fall."""
    shares = np.empty(len(posterior))
    for kind in (mutual, ~mutual):
        total = np.bincount(rank[kind], minlength=rank.max() + 1).astype(float)
        found = np.bincount(rank[kind], posterior[kind], minlength=rank.max() + 1)
        falling = isotonic_regression((found + 1e-3) / (total + 1), weights=total + 1, increasing=False).x
        shares[kind] = np.clip(falling, 1e-5, 0.995)[rank[kind]]
    return shares
