"""Measure what fitting times takes, and what a fit to a sample of the neighbours costs.

`python -m benchmarks.fitting memory [SIGHTINGS ...]` fits simulated sightings with 100 neighbours each, ten of their
person and ninety of anyone, so that few pairs are found twice. Each fit is a process of its own.
`python -m benchmarks.fitting sample` compares fits to all neighbours of drawn networks with fits to a share of them:
mAP of queries of some hours, and the matches that are marked among the pairs on two cameras.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich.console import Console
from scipy.special import expit

from benchmarks.machine import describe
from benchmarks.scale import peak_memory
from qaconv.metrics import evaluate_ranking
from qaconv.synthetic.network import NetworkSettings, simulate
from qaconv.tables import open_table, row_blocks
from qaconv.tlift import TLiftProfile, fit_profile, sampling
from qaconv.tlift.probability import GallerySize

CAMERAS = 8
NEIGHBOURS = 100
OF_PERSON = 10
PER_PERSON = 15.1  # sightings of a simulated person, on average
SIGHTINGS = ("100000", "400000")
LOOKS = 64  # numbers of a person's appearance
NOISE = 1.2  # standard deviation of one sighting in all of them, relative to a person's length
PEOPLE = 1300
SEEDS = (500, 501, 502)
SHARES = (1.0, 0.4)
JUDGED = 6_000  # sightings in the middle of the day, every fifth a query
DRAWN = 1_000_000
BLOCK = 1000

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


def main(arguments: list[str]) -> None:
    """Print a part's table, or what one fit took."""
    part, *rest = arguments or ["memory"]
    if part == "fit":
        fit_drawn(Path(rest[0]))
        return
    rows = {"memory": lambda: memory(rest or SIGHTINGS), "sample": samples}[part]()
    console = Console(soft_wrap=True, highlight=False)
    console.print(f"{describe()['processor']}, {describe()['threads']} threads")
    for row in rows:
        console.print("| " + " | ".join(row) + " |")


def memory(sightings: tuple[str, ...] | list[str]) -> Iterator[tuple[str, ...]]:
    """Yield the sightings, the anchors, and time of the processor and peak of memory of each fit."""
    yield "sightings", "pairs of", "processor", "peak of memory", "before the fit"
    for count in map(int, sightings):
        with tempfile.TemporaryDirectory() as folder:
            draw_tables(Path(folder), count)
            command = [sys.executable, "-m", "benchmarks.fitting", "fit", folder]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        anchors, seconds, before, peak = map(float, done.stdout.split()[-4:])
        yield f"{count:,}", f"{anchors:,.0f}", f"{seconds:.0f} s", f"{peak / 1e9:.2f} GB", f"{before / 1e9:.2f} GB"


def draw_tables(folder: Path, count: int) -> None:
    """Write sightings, and tables of their neighbours and scores, into a folder."""
    walks = simulate(NetworkSettings(seed=1, cameras=CAMERAS, people=int(1.1 * count / PER_PERSON))).iloc[:count]
    walks[["camera", "clock_s"]].to_parquet(folder / "sightings.parquet")
    person = walks["person"].to_numpy()
    first, seen = np.searchsorted(person, person), np.bincount(person)[person]
    rng = np.random.default_rng(1)
    indices = np.lib.format.open_memmap(folder / "indices.npy", "w+", np.int32, (count, NEIGHBOURS))
    scores = np.lib.format.open_memmap(folder / "scores.npy", "w+", np.float32, (count, NEIGHBOURS))
    for rows in row_blocks(indices.shape):
        near = rng.integers(0, count, (rows.stop - rows.start, NEIGHBOURS))
        near[:, :OF_PERSON] = first[rows, None] + rng.integers(0, seen[rows, None], (len(near), OF_PERSON))
        same = person[near] == person[rows, None]
        score = expit(rng.normal(np.where(same, 1.0, -1.0), 1.0))
        order = np.argsort(-score, axis=1)
        indices[rows] = np.take_along_axis(near, order, axis=1)
        scores[rows] = np.take_along_axis(score, order, axis=1)


def fit_drawn(folder: Path) -> None:
    """Fit a folder of `draw_tables`; print anchors, seconds of the processor, and bytes before and at the peak."""
    walks = pd.read_parquet(folder / "sightings.parquet")
    before, started = peak_memory(), time.process_time()
    indices, scores = (open_table(folder / name) for name in ("indices.npy", "scores.npy"))
    profile = fit_profile(indices, scores, walks["camera"], walks["clock_s"])
    anchors = profile.evidence.get("sampled_sightings", len(walks))
    print(anchors, time.process_time() - started, before, peak_memory())


@dataclass(frozen=True)
class Network:
    """N sightings with made-up appearance, and their neighbours."""

    pids: Ints
    camids: Ints
    times: Floats
    seen: NDArray[np.float32]
    indices: NDArray[np.int32]
    scores: Floats

    @classmethod
    def draw(cls, seed: int) -> "Network":
        """Draw a day of a network."""
        walks = simulate(NetworkSettings(seed=seed, cameras=CAMERAS, people=PEOPLE))
        rng, count = np.random.default_rng(seed), len(walks)
        looks = rng.normal(size=(PEOPLE, LOOKS))
        looks /= np.linalg.norm(looks, axis=1, keepdims=True)
        seen = looks[walks["person"]] + NOISE / np.sqrt(LOOKS) * rng.normal(size=(count, LOOKS))
        seen = (seen / np.linalg.norm(seen, axis=1, keepdims=True)).astype(np.float32)
        indices = np.empty((count, NEIGHBOURS), np.int32)
        for start in range(0, count, BLOCK):
            cosines = seen[start : start + BLOCK] @ seen.T
            cosines[np.arange(len(cosines)), start + np.arange(len(cosines))] = -2
            near = np.argpartition(-cosines, NEIGHBOURS, axis=1)[:, :NEIGHBOURS]
            order = np.argsort(-np.take_along_axis(cosines, near, axis=1), axis=1)
            indices[start : start + BLOCK] = np.take_along_axis(near, order, axis=1)
        pids, camids, times = (walks[name].to_numpy() for name in ("person", "camera", "clock_s"))
        scores = np.concatenate([scores_of(seen, part[:, None], indices[part]) for part in _parts(count)])
        return cls(pids, camids, times, seen, indices, scores)

    def fit(self, share: float, seed: int) -> TLiftProfile:
        """Fit a profile to a share of the neighbours."""
        one, other = np.random.default_rng(seed).integers(0, len(self.pids), (2, DRAWN))
        scores = np.concatenate([scores_of(self.seen, one[part], other[part]) for part in _parts(DRAWN)])
        usual, sampling.MOST_NEIGHBOURS = sampling.MOST_NEIGHBOURS, round(share * self.indices.size)
        try:
            drawn = one, other, scores
            return fit_profile(self.indices, self.scores, self.camids, self.times, drawn=drawn, seed=seed)
        finally:
            sampling.MOST_NEIGHBOURS = usual

    def judge(self, profile: TLiftProfile) -> tuple[float, float, float, float, float]:
        """Return mAP direct and lifted, right ones and found ones of the marked pairs, and stated / true matches."""
        middle = np.argsort(self.times)[len(self.times) // 2 - JUDGED // 2 :][:JUDGED]
        query, gallery = np.sort(middle[::5]), np.sort(np.delete(middle, slice(None, None, 5)))
        table = scores_of(self.seen, query[:, None], gallery[None, :])
        places = self.camids[query], self.times[query], self.camids[gallery], self.times[gallery]
        truth = self.pids[query], self.pids[gallery], self.camids[query], self.camids[gallery]
        direct, lifted = (
            100 * evaluate_ranking(ranked, *truth).mean_average_precision
            for ranked in (table, profile.lift(table, *places))
        )
        stated = profile.probabilities(table, *places, gallery=GallerySize.measure(self.times))
        assert stated is not None and profile.match_odds is not None
        right, apart = truth[0][:, None] == truth[1], places[0][:, None] != places[2]
        marked = apart & (stated > profile.match_odds.threshold)
        matches = (right & apart).sum()
        return direct, lifted, right[marked].mean(), (right & marked).sum() / matches, stated[apart].sum() / matches


def samples() -> Iterator[tuple[str, ...]]:
    """Yield what fits to all neighbours and to shares of them are worth."""
    yield "seed", "neighbours", "pairs of", "seconds", "direct", "lifted", "marked are right", "found", "stated / true"
    for seed in SEEDS:
        network = Network.draw(seed)
        for share in SHARES:
            started = time.process_time()
            profile = network.fit(share, seed)
            seconds = time.process_time() - started
            anchors = profile.evidence.get("sampled_sightings", len(network.pids))
            direct, lifted, right, found, stated = network.judge(profile)
            figures = f"{direct:.1f}", f"{lifted:.1f}", f"{100 * right:.1f} %", f"{100 * found:.1f} %", f"{stated:.2f}"
            yield str(seed), f"{100 * share:.0f} %", f"{anchors:,}", f"{seconds:.0f}", *figures


def scores_of(seen: NDArray[np.float32], one: NDArray[np.integer], other: NDArray[np.integer]) -> Floats:
    """Return the scores of pairs, of the shape that both numbers have together."""
    if one.ndim == 2 and other.shape[0] == 1:
        cosines = seen[one[:, 0]] @ seen[other[0]].T
    else:
        cosines = (seen[one] * seen[other]).sum(axis=-1)
    scores: Floats = expit(12 * cosines.astype(np.float64) - 5)
    return scores


def _parts(count: int) -> Iterator[Ints]:
    for start in range(0, count, BLOCK):
        yield np.arange(start, min(start + BLOCK, count))


if __name__ == "__main__":
    main(sys.argv[1:])
