"""Fit transit times and calibrated scores to each other without labels, by expectation-maximisation.

Appearance and time are independent, given whether a pair shows one person or two. So times calibrate scores, and scores
choose the pairs that transit times are learnt from (Dempster et al., 1977):
P(same | score, gap) / P(other | score, gap) = odds(score) * transit(gap) / chance(gap).
The transit times that judge a pair are learnt from the other half of the day; otherwise each pair would confirm itself.
N sightings, M pairs of sightings, P pairs of cameras, B bins.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

from qaconv.tlift.calibration import FIRST_BIN, GROWTH
from qaconv.tlift.pairs import Pairs
from qaconv.tlift.transit import TransitAxis, build_axis, pair_numbers, transit_density

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

ROUNDS = 5  # on each axis
MAX_SIGHTINGS = 1000  # sample whose gaps show how many people walk together
UNEXPLAINED = 0.01  # share of one person's gaps that no statistic predicts: the minimum of every likelihood ratio
BLOCKS = 8  # of each camera's time, alternately of one half and of the other
BANDWIDTHS = (1.0, 2.0, 4.0)  # bins; the one that predicts the other half best is used


@dataclass(frozen=True)
class Mixture:
    """Fitted transit times and the probability of each pair.

    Attributes:
        axis: of the gaps.
        halves: likelihood ratios of transit to chance, each learnt from the other half of the day, [2, P, B].
        ratio: learnt from the whole day, [P, B].
        posterior: probability that each pair shows one person, [M].
        prior: the same from the score alone, [M].
        pair_ratio: likelihood ratio of each pair by the other half, [M].
        half: of the day, [M].
        pair: number of the pair of cameras, [M].
        bandwidth: in bins.
    """

    axis: TransitAxis
    halves: Floats
    ratio: Floats
    posterior: Floats
    prior: Floats
    pair_ratio: Floats
    half: Ints
    pair: Ints
    bandwidth: float

    def gain(self, chosen: Bools) -> float:
        """Return the mean log likelihood ratio of the gaps of some pairs to chance, in nats."""
        share = self.posterior[chosen].mean()
        return float(np.log1p(share * (self.pair_ratio[chosen] - 1)).mean())


def confident(pairs: Pairs) -> Bools:
    """Mask of the mutual best matches in the better half of their scores, [M]."""
    mask: Bools = pairs.mutual & (pairs.score >= np.median(pairs.score[pairs.mutual]))
    return mask


def start_weights(pairs: Pairs) -> Floats:
    """Probability that each pair shows one person, before times are known, [M]."""
    return np.where(pairs.mutual, np.where(confident(pairs), 0.8, 0.3), 0.0)


def fit_mixture(pairs: Pairs, camids: Ints, times: Floats) -> Mixture:
    """Fit transit times and odds of scores to each other.

    The fit is done twice: bins are finest around each pair's centre, which is known better after the first time.

    Args:
        pairs: at least one of them mutual.
        camids: [N].
        times: [N] seconds.
    """
    start = start_weights(pairs)
    first = _alternate(pairs, camids, times, start, np.clip(start, 0.001, 0.9))
    return _alternate(pairs, camids, times, first.posterior, first.prior)


def _alternate(pairs: Pairs, camids: Ints, times: Floats, posterior: Floats, prior: Floats) -> Mixture:
    """Alternate expectation and maximisation from the probability of each pair, and from that by its score alone."""
    gaps = times[pairs.second] - times[pairs.first]
    likely = pairs.mutual & (posterior > 0.5)
    pair = pair_numbers(np.unique(camids), camids[pairs.first], camids[pairs.second])
    axis = build_axis(camids, times, gaps[likely], pair[likely], posterior[likely])
    bins = axis.bins(gaps, pair)
    half = halves_of(pairs.first, camids, times)
    bins_of_scores = score_bins(pairs)

    def likelihood_ratios(bandwidth: float) -> Floats:
        """Ratios [2, P, B] that judge each half, learnt from the other half."""
        density = [
            transit_density(axis, bins[half != h], pair[half != h], posterior[half != h], bandwidth) for h in (0, 1)
        ]
        ratios: Floats = UNEXPLAINED + (1 - UNEXPLAINED) * np.stack(density) / axis.chance
        return ratios

    def log_likelihood(bandwidth: float) -> float:
        ratio = likelihood_ratios(bandwidth)[half, pair, bins][pairs.mutual]
        return float(np.log1p(posterior[pairs.mutual] * (ratio - 1)).sum())

    bandwidth = max(BANDWIDTHS, key=log_likelihood)
    for _ in range(ROUNDS):
        halves = likelihood_ratios(bandwidth)
        pair_ratio = halves[half, pair, bins]
        posterior = prior * pair_ratio / (prior * pair_ratio + 1 - prior)
        prior = _mean_posterior(posterior, bins_of_scores, pairs.mutual)
    density = transit_density(axis, bins, pair, posterior, bandwidth)
    ratio = UNEXPLAINED + (1 - UNEXPLAINED) * density / axis.chance
    return Mixture(axis, halves, ratio, posterior, prior, pair_ratio, half, pair, bandwidth)


def include_companions(
    mixture: Mixture, pairs: Pairs, camids: Ints, times: Floats, anchors: Bools
) -> tuple[Mixture, float]:
    """Make chance include companions; return the mixture, and the share of companions among pairs of two people.

    Two people who walk together have the gaps of one person. Among pairs of sightings of any appearance, the gaps show
    how many are of one person or of companions; those of one person are known from their scores.

    Args:
        mixture: fitted.
        pairs: that it was fitted on.
        camids: [N].
        times: [N] seconds.
        anchors: sightings whose pairs are all there, [N].
    """
    order = np.lexsort((times, camids))
    order = order[anchors[order]]
    sample = order[:: max(1, len(order) // MAX_SIGHTINGS)]
    one, other = np.nonzero(camids[sample][:, None] < camids[sample])
    first, second = sample[one], sample[other]
    pair = mixture.axis.pair_of(camids[first], camids[second])
    ratio = mixture.ratio[pair, mixture.axis.bins(times[second] - times[first], pair)]
    together = 0.01
    for _ in range(3 * ROUNDS):
        together = float((together * ratio / (1 - together + together * ratio)).mean())
    sampled = np.isin(pairs.first, sample) & np.isin(pairs.second, sample)
    same = float(mixture.posterior[sampled].sum()) / len(ratio)
    share = max(together - same, 0.0) / (1 - same)

    def against(ratios: Floats) -> Floats:
        with_companions: Floats = ratios / (1 - share + share * ratios)
        return with_companions

    pair_ratio = against(mixture.pair_ratio)
    halves = against(mixture.halves)
    return replace(mixture, halves=halves, ratio=against(mixture.ratio), pair_ratio=pair_ratio), share


def judge_again(mixture: Mixture, pairs: Pairs) -> Floats:
    """Return the probability that each pair shows one person, now that chance includes companions, [M].

    Args:
        mixture: of `include_companions`; its posterior is from before, when companions counted as one person.
        pairs: that it was fitted on.
    """
    bins_of_scores = score_bins(pairs)
    prior = mixture.prior
    for _ in range(3 * ROUNDS):
        posterior = prior * mixture.pair_ratio / (prior * mixture.pair_ratio + 1 - prior)
        prior = _mean_posterior(posterior, bins_of_scores, pairs.mutual)
    return posterior


def judge_by(mixture: Mixture, pairs: Pairs, camids: Ints, times: Floats) -> Floats:
    """Return the probability that each pair shows one person, for scores of another kind, [M].

    Args:
        mixture: fitted; its transit times are used.
        pairs: with their scores of the other kind; none of them mutual.
        camids: [N].
        times: [N] seconds.
    """
    pair = mixture.axis.pair_of(camids[pairs.first], camids[pairs.second])
    bins = mixture.axis.bins(times[pairs.second] - times[pairs.first], pair)
    pair_ratio = mixture.halves[halves_of(pairs.first, camids, times), pair, bins]
    bins_of_scores = score_bins(pairs)
    prior = np.full(len(pairs), 0.1)  # for every score
    for _ in range(3 * ROUNDS):
        posterior = prior * pair_ratio / (prior * pair_ratio + 1 - prior)
        prior = _mean_posterior(posterior, bins_of_scores, pairs.mutual)
    return np.asarray(posterior)


def halves_of(sightings: Ints, camids: Ints, times: Floats) -> Ints:
    """Return the half of the day, 0 or 1, of each sighting: alternate blocks of its camera's time."""
    start = np.full(int(camids.max()) + 1, np.inf)
    np.minimum.at(start, camids, times)
    longest = max(float(np.ptp(times[camids == camid])) for camid in np.unique(camids))
    elapsed = times[sightings] - start[camids[sightings]]
    half: Ints = (elapsed // (longest / BLOCKS + 1e-9)).astype(np.int64) % 2
    return half


def score_bins(pairs: Pairs) -> Ints:
    """Return the bin of each score, [M]: 0 for the best, each bin larger than the one before."""
    order = np.argsort(-pairs.score, kind="stable")
    sizes = FIRST_BIN * GROWTH ** np.arange(2 + np.log1p(len(pairs) / FIRST_BIN) / np.log(GROWTH))
    bins = np.empty(len(pairs), dtype=np.int64)
    bins[order] = np.searchsorted(np.cumsum(sizes), np.arange(len(pairs)), side="right")
    return bins


def _mean_posterior(posterior: Floats, score_bins: Ints, mutual: Bools) -> Floats:
    """Mean posterior of the pairs of a score bin, [M], mutual ones apart; it never rises as scores fall."""
    means = np.empty(len(posterior))
    for kind in (mutual, ~mutual):
        total = np.bincount(score_bins[kind], minlength=score_bins.max() + 1).astype(float)
        matches = np.bincount(score_bins[kind], posterior[kind], minlength=score_bins.max() + 1)
        falling = isotonic_regression((matches + 1e-3) / (total + 1), weights=total + 1, increasing=False).x
        means[kind] = np.clip(falling, 1e-5, 0.995)[score_bins[kind]]
    return means
