"""Compare the estimates of targets without labels with the truth, on the demo's targets.

`python -m benchmarks.estimates` prints it. The estimates are made as if the demo's targets had no labels, with
their junk among the sightings. Labels are used for the true figures only. They are read from the names that the
simulation gave the images, as the pipeline has none for `street`.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy.special import expit

from benchmarks.demo import require_outputs
from qaconv.config import METHODS, load_params
from qaconv.data.manifest import UNLABELLED, Manifest
from qaconv.matching.results import Matches
from qaconv.metrics.marked import best_answers
from qaconv.metrics.rankings import method_label
from qaconv.metrics.target_estimates import estimate
from qaconv.metrics.target_sightings import EvaluatedSightings
from qaconv.paths import MATCHES, PREPARED, TLIFT
from qaconv.tlift import TLiftProfile

PERSON = r"/(-?\d+)_"  # in the images' names; 0 is a distractor and -1 junk
COLUMNS = (
    "target",
    "method",
    "searches with a match %",
    "with a right one %",
    "precision %",
    "true %",
    "matches",
    "true",
)


def main() -> None:
    """Print the table."""
    params = load_params()
    require_outputs([folder / name for name in params.targets for folder in (PREPARED, MATCHES, TLIFT)])
    table = Table(title="estimates, and what the labels say", title_justify="left")
    for column in COLUMNS:
        table.add_column(column, justify="left" if column in ("target", "method") else "right")
    for name in params.targets:
        for row in rows(name, params.evaluate.parts, params.seed):
            table.add_row(*row)
    Console(soft_wrap=True, highlight=False).print(table)


def rows(name: str, parts: tuple[int, ...], seed: int) -> Iterator[tuple[str, ...]]:
    """Yield a row for each method of a target that uses times."""
    frame = Manifest.load(PREPARED / name).frame
    frame = frame[frame["split"] != "train"]
    sightings = EvaluatedSightings(frame.assign(pid=UNLABELLED), PREPARED / name)
    pids = frame["image"].str.extract(PERSON)[0].astype("int64").to_numpy()
    query, gallery = pids[: len(sightings.query), None], pids[len(sightings.query) :]
    is_match = (query == gallery) & (query > 0)
    for method in METHODS:
        logits = Matches.load(name, method, parts).logits
        profile = TLiftProfile.load(TLIFT / name / f"{method}.json")
        expected = estimate(logits, sightings, profile, seed=seed).expected
        if expected is None or expected.expected_precision is None:
            continue
        right = _right_answers(logits, sightings, profile, is_match)
        yield (
            name,
            method_label(method),
            f"{100 * expected.share_with_match:.1f}",
            f"{100 * (right > 0).mean():.1f}",
            f"{100 * expected.expected_precision:.1f}",
            f"{100 * right.sum() / expected.marked_answers:.1f}",
            f"{expected.expected_matches:,.0f}",
            f"{right.sum():,}",
        )


def _right_answers(
    logits: NDArray[np.float32], sightings: EvaluatedSightings, profile: TLiftProfile, is_match: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """Count the right ones among the answers to each query that are marked as matches, [Q]."""
    query, gallery = sightings.query, sightings.gallery
    places = query["camid"], query["time_s"], gallery["camid"], gallery["time_s"]
    scores = expit(logits.astype(np.float64))
    stated = profile.probabilities(scores, *places)
    assert stated is not None and profile.match_odds is not None
    right = is_match & (stated > profile.match_odds.threshold)
    camids = query["camid"].to_numpy(), gallery["camid"].to_numpy()
    answers = best_answers(profile.lift(scores, *places), *camids, sightings.same_camera)
    return np.array([np.count_nonzero(right[row, best]) for row, best in enumerate(answers)])


if __name__ == "__main__":
    main()
