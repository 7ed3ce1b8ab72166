"""State the probability that two sightings of a target show one person.

A pair's odds follow from its score, from the time between its sightings, and from the size of the gallery. All three
are learnt from the target's own sightings, without labels. N sightings, M pairs of them.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qaconv.tlift.calibration import Calibration, calibrate
from qaconv.tlift.companions import Companions, Likeness, split_companions
from qaconv.tlift.em import Mixture, judge_again
from qaconv.tlift.odds_map import OddsMap
from qaconv.tlift.pairs import Pairs

Floats = NDArray[np.float64]

BINS = 1024  # of probabilities, by which the highest are found
ROUNDING = 1e-6  # of a mean of probabilities, at most
MATCHES_RIGHT = 0.935  # expected share of right ones among the pairs above the threshold; docs/tlift.md says why


class GallerySize(NamedTuple):
    """The sightings among which a query is searched for, those that a filter leaves out included.

    Attributes:
        sightings: their number.
        span_s: last time minus first, in seconds; 0 without times.
    """

    sightings: int
    span_s: float

    @classmethod
    def measure(cls, times: ArrayLike) -> "GallerySize":
        """Measure a gallery by its times in seconds, NaN where unknown, [N]."""
        table = np.asarray(times, dtype=np.float64)
        known = table[np.isfinite(table)]
        return cls(len(table), float(np.ptp(known)) if len(known) else 0.0)


class DrawnPairs(NamedTuple):
    """Pairs of sightings that were drawn without regard to their scores.

    Attributes:
        one: number of a sighting, [S].
        other: of another, [S].
        score: of the pair in [0, 1], [S].
    """

    one: NDArray[np.int64]
    other: NDArray[np.int64]
    score: Floats

    def keep(self, kept: NDArray[np.bool_]) -> "DrawnPairs":
        """Return the pairs of a mask [S]."""
        return DrawnPairs(self.one[kept], self.other[kept], self.score[kept])


@dataclass(frozen=True)
class Strangers:
    """Drawn pairs that are no neighbours, next to a sample of the pairs that are.

    Attributes:
        score: of the pairs in [0, 1], [S].
        stand_for: number of pairs that each of them stands for.
        sampled: the pairs of neighbours that are as frequent among all as these, [M].
    """

    score: Floats
    stand_for: float
    sampled: NDArray[np.bool_]


@dataclass(frozen=True)
class MatchOdds:
    """Odds that a pair of one target shows one person, and the probability that makes it a match.

    Attributes:
        calibration: log odds by score, for pairs on two cameras whose times are unknown.
        threshold: lowest probability at which MATCHES_RIGHT of the pairs above it are expected to be right.
        sightings: number that it was fitted on.
        span_s: last of their times minus the first, in seconds.
        scale: people's answers correct log odds to scale * log odds + offset. Default: 1, without answers.
        offset: see `scale`. Default: 0.
        companions: share of companions among pairs of two people by score. Default: that of the transit times' chance.
        by_identities: from `log_odds` to stated log odds. Default: `log_odds` are stated.
    """

    calibration: Calibration
    threshold: float
    sightings: int
    span_s: float
    scale: float = 1.0
    offset: float = 0.0
    companions: Companions | None = None
    by_identities: OddsMap | None = None

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "MatchOdds":
        """Return the odds whose fields a profile's file has."""
        companions, by_identities = values.get("companions"), values.get("by_identities")
        return cls(
            **{
                **values,
                "calibration": Calibration(**values["calibration"]),
                "companions": None if companions is None else Companions(**companions),
                "by_identities": None if by_identities is None else OddsMap(**by_identities),
            }
        )

    def log_odds(
        self,
        scores: Floats,
        log_ratios: Floats,
        timed: NDArray[np.bool_],
        gallery: GallerySize,
        *,
        same_camera: NDArray[np.bool_] | None = None,
    ) -> Floats:
        """Return the log odds of pairs.

        A gallery that has grown since the fit holds more sightings of other people, but no more of the query's person.
        Of pairs with times, only sightings of the same hours compete, so a longer gallery changes nothing.

        Args:
            scores: sigmoid of the logits, of any shape.
            log_ratios: log likelihood ratios of their gaps; 0 where a time is unknown.
            timed: whether both times are known.
            gallery: in which the pairs were searched for.
            same_camera: whether a pair is of one camera, where a log ratio is not of transit times. Default: none is.
        """
        if self.companions is not None:
            of_transit = log_ratios if same_camera is None else np.where(same_camera, 0.0, log_ratios)
            log_ratios = log_ratios - of_transit + self.companions(scores, of_transit)
        growth = gallery.sightings / self.sightings
        denser = growth * self.span_s / max(gallery.span_s, self.span_s)
        more = np.where(timed, max(denser, 1.0), max(growth, 1.0))
        log_odds: Floats = self.scale * (self.calibration(scores) + log_ratios - np.log(more)) + self.offset
        return log_odds

    def stated(self, log_odds: Floats) -> Floats:
        """Return the log odds that are stated to people for those of `log_odds`, of any shape."""
        return log_odds if self.by_identities is None else self.by_identities(log_odds)

    def mapped(self, by_identities: OddsMap, probabilities: Callable[[], Iterable[Floats]]) -> "MatchOdds":
        """Return odds with a map, with the threshold that belongs to them.

        Args:
            by_identities: from `log_odds` to stated log odds.
            probabilities: function that returns the mapped ones of pairs on two cameras, in blocks; it is called twice.
        """
        return replace(self, by_identities=by_identities, threshold=_threshold(_highest(probabilities)))

    def corrected(
        self,
        line: tuple[float, float],
        stated_line: tuple[float, float],
        probabilities: Callable[[], Iterable[Floats]],
    ) -> "MatchOdds":
        """Return odds that are corrected by people's answers, with the threshold that belongs to them.

        Args:
            line: scale and offset that correct log odds.
            stated_line: scale and offset that correct stated log odds. Without a map they are those of `line`.
            probabilities: function that returns the corrected ones of pairs on two cameras, in blocks; it is called
                twice.
        """
        by_identities = self.by_identities and self.by_identities.moved(line, stated_line)
        corrected = replace(self, scale=line[0], offset=line[1], by_identities=by_identities)
        return replace(corrected, threshold=_threshold(_highest(probabilities)))


def fit_match_odds(
    mixture: Mixture, pairs: Pairs, times: Floats, sightings: int, drawn: DrawnPairs | Strangers | None = None
) -> MatchOdds:
    """Fit the odds of a target's pairs without labels.

    Most pairs with a low score are not neighbours. Odds of neighbours alone would be too high for the other pairs that
    a search meets.

    Args:
        mixture: of `include_companions`.
        pairs: that it was fitted on.
        times: [N] seconds, corrected.
        sightings: number of sightings whose times are used.
        drawn: pairs that stand for all pairs, or for all that are no neighbours. Default: the odds hold for neighbours.
    """
    calibration = _calibrate(pairs, judge_again(mixture, pairs), drawn)
    odds = MatchOdds(calibration, 1.0, sightings, float(np.ptp(times)))
    return _with_threshold(odds, mixture, pairs, times)


def exclude_companions(
    odds: MatchOdds,
    mixture: Mixture,
    pairs: Pairs,
    camids: NDArray[np.int64],
    times: Floats,
    usual: float,
    likeness: Likeness,
    drawn: DrawnPairs | Strangers | None = None,
) -> MatchOdds:
    """Fit odds again with a share of companions that depends on the score.

    Args:
        odds: of `fit_match_odds`.
        mixture: as there.
        pairs: as there.
        camids: [N].
        times: [N] seconds, corrected.
        usual: share of companions that the mixture's chance includes for every score.
        likeness: of sightings on one camera.
        drawn: as there.
    """
    one_person, companion = split_companions(mixture, pairs, judge_again(mixture, pairs), camids, times, likeness)
    companions = Companions.fit(pairs, one_person, companion, usual)
    odds = replace(odds, calibration=_calibrate(pairs, one_person, drawn), companions=companions)
    return _with_threshold(odds, mixture, pairs, times)


def _calibrate(pairs: Pairs, likely: Floats, drawn: DrawnPairs | Strangers | None) -> Calibration:
    if drawn is None:
        return calibrate(pairs.score, likely)
    if isinstance(drawn, Strangers):
        near, count = drawn.sampled, len(drawn.score)
        weights = np.append(np.ones(int(near.sum())), np.full(count, drawn.stand_for))
        return calibrate(np.append(pairs.score[near], drawn.score), np.append(likely[near], np.zeros(count)), weights)
    return calibrate(drawn.score, _likely_of(drawn, pairs, likely))


def _with_threshold(odds: MatchOdds, mixture: Mixture, pairs: Pairs, times: Floats) -> MatchOdds:
    """Return odds with the threshold that the pairs of the fit give."""
    bins = mixture.axis.bins(times[pairs.second] - times[pairs.first], mixture.pair)
    timed = np.ones(len(pairs), dtype=bool)
    fitted_on = GallerySize(odds.sightings, odds.span_s)
    log_odds = odds.log_odds(pairs.score, np.log(mixture.ratio[mixture.pair, bins]), timed, fitted_on)
    return replace(odds, threshold=_threshold(probability(log_odds)))


def _likely_of(drawn: DrawnPairs, pairs: Pairs, likely: Floats) -> Floats:
    """Return the probability of each drawn pair, [S]; 0 where neither sighting is a neighbour of the other.

    Args:
        drawn: pairs on two cameras.
        pairs: neighbours, in ascending order of both numbers.
        likely: probability of each neighbour, [M].
    """
    count = 1 + int(max(pairs.second.max(), drawn.one.max(initial=0), drawn.other.max(initial=0)))
    keys = pairs.first * count + pairs.second
    wanted = np.minimum(drawn.one, drawn.other) * count + np.maximum(drawn.one, drawn.other)
    position = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[position] == wanted, likely[position], 0.0)


def probability(log_odds: Floats) -> Floats:
    """Return the probability of log odds."""
    values: Floats = np.exp(-np.logaddexp(0, -log_odds))
    return values


def _highest(probabilities: Callable[[], Iterable[Floats]]) -> Floats:
    """Return the probabilities that may be above the threshold: all from the bin in which their mean gets too low."""
    counts, sums = np.zeros(BINS), np.zeros(BINS)
    for block in probabilities():
        bins = np.minimum((block * BINS).astype(np.intp), BINS - 1)
        counts += np.bincount(bins, minlength=BINS)
        sums += np.bincount(bins, block, minlength=BINS)
    expected = sums[::-1].cumsum() >= (MATCHES_RIGHT - ROUNDING) * counts[::-1].cumsum()  # of the highest bins
    least = BINS - 1 - min(int(expected.sum()), BINS - 1)
    return np.concatenate([block[block * BINS >= least] for block in probabilities()])


def _threshold(probabilities: Floats) -> float:
    """Lowest probability at which the mean of all above it is at least MATCHES_RIGHT; 1 where none is."""
    falling = np.sort(probabilities)[::-1]
    expected = np.cumsum(falling) / np.arange(1, len(falling) + 1)
    above = int((expected >= MATCHES_RIGHT).sum())
    return round(float(falling[above - 1]), 6) if above else 1.0
