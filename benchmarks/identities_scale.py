"""Group a million simulated sightings in 100,000 tracks into identities, then let 1,000 new tracks join.

`python -m benchmarks.identities_scale` prints seconds and the peak of memory, in one process. Walks are those of the
synthetic network, with TRACK sightings in each pass on average. A sighting's neighbours are sightings of its person and
of anyone, NEIGHBOURS of each; their logits are drawn from the stored neighbours of TARGET, from those of one person and
those of two. The profile is fitted on the first people.
Neighbours are drawn at random, also those of a person, so time and memory are what is measured.
"""

import resource
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich.console import Console
from scipy.special import expit

from benchmarks.demo import require_outputs
from benchmarks.machine import describe
from qaconv.config import load_params
from qaconv.data.manifest import Manifest
from qaconv.identities import find_edges, identify
from qaconv.matching.results import Matches
from qaconv.metrics.clusters import measure_clusters, shows_known_person
from qaconv.paths import MATCHES, PREPARED, RERANKED
from qaconv.synthetic.network import NetworkSettings, simulate
from qaconv.tlift import TLiftProfile, fit_profile

TARGET = "mall"
TRACKS = 100_000
TRACK = 10.0  # sightings of a track, on average
NEW = 1_000  # tracks that join
PASSES = 3.6  # of a person that leave a track
CAMERAS = 50
NEIGHBOURS = 10
FITTED = 600  # people that the profile is fitted on

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Crowd:
    """Sightings with neighbours: person, camid, time_s and track of each [N], neighbours and logits [N, k]."""

    sightings: pd.DataFrame
    neighbours: Ints
    logits: Floats


def main() -> None:
    """Print the figures."""
    require_outputs(folder / TARGET for folder in (PREPARED, MATCHES, RERANKED))
    console = Console(soft_wrap=True, highlight=False)
    console.print(f"{describe()['processor']}, {describe()['threads']} threads")
    of_one, of_two = stored_logits()
    profile = fit(draw_crowd(FITTED, CAMERAS, of_one, of_two))
    people = round((TRACKS + NEW) / PASSES)
    crowd = draw_crowd(people, CAMERAS, of_one, of_two, TRACKS + NEW)
    measure(crowd, profile, NEW, console.print)


def stored_logits() -> tuple[Floats, Floats]:
    """Return the logits of the stored neighbours of TARGET on two cameras: of one person, and of two."""
    frame = Manifest.load(PREPARED / TARGET).sightings()
    params = load_params()
    matches = Matches.load(TARGET, params.registry.method)
    known, pids, camids = shows_known_person(frame), frame["pid"].to_numpy(), frame["camid"].to_numpy()
    neighbours, logits = matches.neighbours[:], matches.neighbour_logits[:]
    across = known[:, None] & known[neighbours] & (camids[:, None] != camids[neighbours])
    one_person = pids[:, None] == pids[neighbours]
    return logits[across & one_person], logits[across & ~one_person]


def draw_crowd(people: int, cameras: int, of_one: Floats, of_two: Floats, tracks: int | None = None) -> Crowd:
    """Draw the sightings of a day, in order of time, and their neighbours.

    Args:
        people: that walk through the network.
        cameras: of the network.
        of_one: logits of neighbours that show one person.
        of_two: of those that show two.
        tracks: number of tracks to keep, the first of the day. Default: all.
    """
    walks = simulate(NetworkSettings(seed=1, cameras=cameras, people=people, crops_per_pass=TRACK))
    track = walks.groupby(["person", "visit"])["time_s"].transform("min").rank(method="dense").to_numpy(np.int64)
    walks = walks.assign(track=track).sort_values("track", kind="stable")
    walks = walks[walks["track"] <= (tracks or track.max())].reset_index(drop=True)
    rng = np.random.default_rng(1)
    person = np.unique(walks["person"], return_inverse=True)[1]
    by_person = np.argsort(person, kind="stable")
    sizes = np.bincount(person)
    drawn = rng.integers(0, sizes[person][:, None], (len(walks), NEIGHBOURS))
    same = by_person[(np.cumsum(sizes) - sizes)[person][:, None] + drawn]
    neighbours = np.concatenate([same, rng.integers(0, len(walks), same.shape)], axis=1)
    one_person = person[neighbours] == person[:, None]
    logits = np.where(one_person, rng.choice(of_one, neighbours.shape), rng.choice(of_two, neighbours.shape))
    order = np.argsort(-logits, axis=1)
    sightings = pd.DataFrame(
        {
            "person": person,
            "camid": walks["camera"].to_numpy(),
            "time_s": walks["clock_s"].to_numpy(),
            "track": walks["track"].astype(str).to_numpy(),
        }
    )
    return Crowd(sightings, np.take_along_axis(neighbours, order, axis=1), np.take_along_axis(logits, order, axis=1))


def fit(crowd: Crowd) -> TLiftProfile:
    """Fit a profile to all sightings."""
    table = crowd.sightings
    return fit_profile(crowd.neighbours, expit(crowd.logits), table["camid"], table["time_s"])


def measure(crowd: Crowd, profile: TLiftProfile, new: int, show: Callable[[str], None]) -> None:
    """Group all tracks but the last, then all with the earlier identities known; show seconds, memory and figures."""
    numbers = crowd.sightings["track"].astype(np.int64).to_numpy()
    old = int(np.searchsorted(numbers, numbers[-1] - new, side="right"))
    began = time.perf_counter()
    edges = find_edges(crowd.neighbours, crowd.logits, crowd.sightings, profile)
    odds_s = time.perf_counter() - began
    earlier = crowd.sightings[:old]
    identities = identify(earlier, edges.keep(edges.second < old))
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    show(
        f"{old:,} sightings, {numbers[old - 1]:,} tracks, {len(edges):,} pairs: {seconds:.0f} s, {peak:.1f} GB at most"
    )
    show(f"of it {odds_s:.0f} s for the odds of pairs; {_figures(earlier, identities.identity)}")
    known = np.concatenate([identities.identity, np.zeros(len(numbers) - old, dtype=np.int64)])
    began = time.perf_counter()
    joined = identify(crowd.sightings, edges, known=known, last=int(known.max()))
    show(f"{len(numbers) - old:,} sightings of {new:,} new tracks join in {time.perf_counter() - began:.1f} s")
    show(_figures(crowd.sightings, joined.identity))


def _figures(sightings: pd.DataFrame, identity: Ints) -> str:
    metrics = measure_clusters(identity, sightings["person"])
    return f"B-cubed F1 {100 * metrics.b_cubed.f1:.1f}, {metrics.identities:,} identities of {metrics.people:,} people"


if __name__ == "__main__":
    main()
