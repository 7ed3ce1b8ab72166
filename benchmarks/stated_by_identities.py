"""Measure what identities would add to stated probabilities: `python -m benchmarks.stated_by_identities`.

A monotone map takes each stated probability to the share of such pairs that are of one identity. It is fitted to the
100 most probable pairs of each sighting, without labels and tracks. As it keeps the order of pairs, the same answers
are marked, unless the threshold is chosen again. Labels are used for the figures only. The networks are those of
`benchmarks.reviews`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy.optimize import isotonic_regression
from scipy.special import expit, logit

from benchmarks.demo import require_outputs
from benchmarks.identities.networks import Network
from benchmarks.machine import describe
from benchmarks.people import draw
from benchmarks.probabilities import FEWEST
from benchmarks.reviews import SEEDS
from qaconv.identities import identify
from qaconv.metrics.marked import ANSWERS, best_answers
from qaconv.paths import ONNX
from qaconv.runtime.model import ServedModel
from qaconv.tables import as_scores
from qaconv.tlift.probability import MATCHES_RIGHT

CLIP = 1e-4  # stated probabilities are kept this far from 0 and 1
BINS = 40  # of their log odds
DOUBT = 2.0  # pairs of each bin that are as stated
COLUMNS = (
    "network",
    "worst tenth, stated",
    "mapped",
    "marked: stated %",
    "mapped %",
    "right %",
    "share of true matches %",
    "threshold again: mapped %",
    "right %",
    "share of true matches %",
)

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Map = Callable[[Floats], Floats]


@dataclass(frozen=True)
class Row:
    """Figures of a network's answers, in points and per cent.

    Attributes:
        name: of the network.
        worst: largest error of a tenth with FEWEST answers, as stated and as mapped.
        marked: mean probability of the marked answers as stated and as mapped, share of right ones, and of matches.
        again: the last three where the threshold is chosen again.
    """

    name: str
    worst: tuple[float, float]
    marked: tuple[float, float, float, float]
    again: tuple[float, float, float]


def main() -> None:
    """Print the table."""
    require_outputs([ONNX])
    model = ServedModel(ONNX)
    rows = [compare(draw(seed, model)) for seed in SEEDS]
    table = Table(*COLUMNS, title="stated probabilities, mapped by identities", title_justify="left")
    figures = [[*row.worst, *row.marked, *row.again] for row in rows]
    for name, values in zip([*(row.name for row in rows), "mean"], [*figures, np.mean(figures, axis=0)], strict=True):
        table.add_row(name, *(f"{value:.1f}" for value in values))
    console = Console(soft_wrap=True, highlight=False)
    console.print(f"{describe()['processor']}, {describe()['threads']} threads")
    console.print(table)


def compare(network: Network) -> Row:
    """Measure the answers of a network as stated and as mapped."""
    profile = network.profile
    if profile.match_odds is None:
        raise SystemExit(f"{network.name}: {profile.reason}")
    camid, time, pid = (network.sightings[name].to_numpy() for name in ("camid", "time_s", "pid"))
    stated = profile.probabilities(expit(network.logits.astype(np.float64)), camid, time, camid, time)
    assert stated is not None
    fitted_on, together = _best_pairs(network, stated, camid)
    mapped = fit_map(fitted_on, together)

    is_query = (network.sightings["split"] == "query").to_numpy()
    block = np.ix_(is_query, ~is_query)
    places = camid[is_query], time[is_query], camid[~is_query], time[~is_query]
    lifted = profile.lifted(as_scores(network.logits[block]), *places)
    answers = list(best_answers(lifted, stated[block], camid[is_query], camid[~is_query], "drop"))
    is_match = pid[is_query, None] == pid[~is_query]
    right = np.concatenate([is_match[row, best] for row, (best, _) in enumerate(answers)])
    probability = np.concatenate([probabilities for _, probabilities in answers])
    matches = int((is_match & (camid[is_query, None] != camid[~is_query])).sum())

    by_identities = mapped(probability)
    marked = probability > profile.match_odds.threshold
    again = by_identities > choose_threshold(mapped(fitted_on))
    return Row(
        network.name,
        (worst_tenth(probability, right), worst_tenth(by_identities, right)),
        (100 * float(probability[marked].mean()), *_shares(marked, by_identities, right, matches)),
        _shares(again, by_identities, right, matches),
    )


def _best_pairs(network: Network, stated: Floats, camid: NDArray[np.int64]) -> tuple[Floats, Bools]:
    """Return the probabilities of each sighting's most probable pairs on other cameras, and whether of one identity."""
    identity = identify(network.sightings.assign(track=""), network.edges()).identity
    across = np.where(camid[:, None] == camid, -1.0, stated)
    best = np.argsort(-across, axis=1)[:, :ANSWERS]
    probability = np.take_along_axis(across, best, axis=1)
    kept = probability >= 0
    return probability[kept], (identity[:, None] == identity[best])[kept]


def fit_map(stated: Floats, together: Bools) -> Map:
    """Fit the share of pairs of one identity by isotonic regression over bins of log odds; return the map.

    Args:
        stated: probability of each pair, [M].
        together: whether both sightings are of one identity, [M].
    """
    log_odds = logit(np.clip(stated, CLIP, 1 - CLIP))
    edges = np.linspace(log_odds.min(), log_odds.max(), BINS + 1)
    bins = np.searchsorted(edges[1:-1], log_odds, side="right")
    counts = np.bincount(bins, minlength=BINS)
    filled = counts > 0
    counts = counts[filled]
    knots = np.bincount(bins, log_odds, minlength=BINS)[filled] / counts
    share = (np.bincount(bins, together, minlength=BINS)[filled] + DOUBT * expit(knots)) / (counts + DOUBT)
    rising = isotonic_regression(share, weights=counts + DOUBT).x
    return lambda values: np.interp(logit(np.clip(values, CLIP, 1 - CLIP)), knots, rising)


def choose_threshold(probabilities: Floats) -> float:
    """Return the lowest probability at which the mean of all above it is at least MATCHES_RIGHT; 1 where none is."""
    falling = np.sort(probabilities)[::-1]
    above = int((falling.cumsum() >= MATCHES_RIGHT * np.arange(1, len(falling) + 1)).sum())
    return float(falling[above - 1]) if above else 1.0


def worst_tenth(probability: Floats, right: Bools) -> float:
    """Return the largest error of a tenth of probabilities with FEWEST answers, in points."""
    tenths = np.minimum((10 * probability).astype(np.int64), 9)
    counts = np.bincount(tenths, minlength=10)
    errors = np.bincount(tenths, probability - right, minlength=10) / np.maximum(counts, 1)
    return 100 * float(np.abs(errors[counts >= FEWEST]).max())


def _shares(marked: Bools, probability: Floats, right: Bools, matches: int) -> tuple[float, float, float]:
    """Return the mean probability of the marked answers, the share of right ones, and the share of the true matches."""
    shares = probability[marked].mean(), right[marked].mean(), right[marked].sum() / matches
    return 100 * float(shares[0]), 100 * float(shares[1]), 100 * float(shares[2])


if __name__ == "__main__":
    main()
