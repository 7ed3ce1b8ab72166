"""Draw and load camera networks with the logits of all pairs of their sightings.

N sightings, queries first, Q queries, k neighbours.
"""

from contextlib import chdir
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image
from scipy.special import expit

from benchmarks.demo import labelled_targets
from qaconv.config import SiteConfig, load_params
from qaconv.data.manifest import JUNK, Manifest
from qaconv.identities import Edges, find_edges, identify, map_by_identities, may_map
from qaconv.matching import score_matrix
from qaconv.matching.results import NEIGHBOURS, open_maps
from qaconv.metrics.clusters import ClusterMetrics, measure_clusters, shows_known_person
from qaconv.models.checkpoint import load_network
from qaconv.paths import MODELS, PREPARED
from qaconv.progress import track
from qaconv.runtime.model import ServedModel
from qaconv.synthetic.render import choose_crops, draw_crops
from qaconv.synthetic.tracks import number_tracks
from qaconv.tlift import TLiftProfile, fit_profile
from qaconv.tlift.probability import GallerySize

MOST = 10_000  # sightings of a network, as plain rules read tables of all pairs; of more, some people are measured
BLOCK = 256  # rows of such a table that are worked on at a time

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Network:
    """Sightings of a camera network, matched with each other by one model; only `measure` and `known` read pids.

    Attributes:
        name: for the table.
        sightings: pid, split, camid, time_s and track, [N]; of a drawn network also person, known without a label too.
        logits: of all pairs, [N, N].
    """

    name: str
    sightings: pd.DataFrame
    logits: NDArray[np.float32]

    @cached_property
    def neighbours(self) -> Ints:
        """Each sighting's nearest others, best first, [N, k]."""
        count = min(NEIGHBOURS, len(self.logits) - 1)
        nearest = np.empty((len(self.logits), count), dtype=np.int64)
        for start in range(0, len(nearest), BLOCK):
            apart = -self.logits[start : start + BLOCK]
            apart[np.arange(len(apart)), np.arange(start, start + len(apart))] = np.inf
            best = np.argpartition(apart, count - 1, axis=1)[:, :count]
            order = np.argsort(np.take_along_axis(apart, best, axis=1), axis=1, kind="stable")
            nearest[start : start + BLOCK] = np.take_along_axis(best, order, axis=1)
        return nearest

    @cached_property
    def profile(self) -> TLiftProfile:
        """The profile of the sightings, as `fit_tlift` makes it."""
        return self.mapped if may_map(self.fitted, self.sightings) else self.fitted

    @cached_property
    def mapped(self) -> TLiftProfile:
        """`fitted`, with stated probabilities that are mapped by identities."""
        if self.fitted.match_odds is None:
            return self.fitted
        is_query = (self.sightings["split"] == "query").to_numpy()
        identity = identify(self.sightings, self.edges()).identity
        return map_by_identities(self.fitted, identity, self.sightings, self.logits[np.ix_(is_query, ~is_query)])

    @cached_property
    def fitted(self) -> TLiftProfile:
        """The profile that is fitted to the sightings without labels."""
        is_query = (self.sightings["split"] == "query").to_numpy()
        query, gallery = np.nonzero(is_query[:, None] & ~is_query)  # pairs that a search meets, of any score
        return fit_profile(
            self.neighbours,
            expit(np.take_along_axis(self.logits, self.neighbours, axis=1).astype(np.float64)),
            self.sightings["camid"],
            self.sightings["time_s"],
            drawn=(query, gallery, expit(self.logits[query, gallery].astype(np.float64))),
            tracks=self.sightings["track"],
            target=self.name,
        )

    @cached_property
    def known(self) -> Bools:
        """Whether a sighting is measured, [N]."""
        return shows_known_person(self.sightings)

    @property
    def without_times(self) -> pd.DataFrame:
        """The sightings with no time."""
        return self.sightings.assign(time_s=np.nan)

    def edges(self, *, times: bool = True) -> Edges:
        """Return pairs of neighbours with their log odds; without times those of their scores."""
        logits = np.take_along_axis(self.logits, self.neighbours, axis=1)
        return find_edges(self.neighbours, logits, self.sightings if times else self.without_times, self.fitted)

    def log_odds(self) -> NDArray[np.float32]:
        """Return the log odds of all pairs, [N, N]."""
        camids, times = self.sightings["camid"].to_numpy(), self.sightings["time_s"].to_numpy()
        size = GallerySize.measure(times)
        table = np.zeros(self.logits.shape, dtype=np.float32)
        for start in range(0, len(table), BLOCK):
            rest = len(table) - start
            first, second = (start + ends for ends in np.triu_indices(min(BLOCK, rest), 1, rest))
            one, other = ((camids[rows], times[rows]) for rows in (first, second))
            scores = expit(self.logits[first, second].astype(np.float64))
            table[first, second] = self.fitted.pair_log_odds(scores, one, other, size)
            table[second, first] = table[first, second]
        return table

    def measure(self, identity: Ints) -> ClusterMetrics:
        """Measure identities [N] on the sightings of known people."""
        return measure_clusters(identity[self.known], self.sightings["pid"].to_numpy()[self.known])


def draw_network(name: str, site: SiteConfig, model: ServedModel) -> Network:
    """Draw, encode and match the test crops of a site; its tracker has the errors of `site.tracks`."""
    crops = choose_crops(site)
    crops = crops[crops["split"] != "train"].sort_values("split", ascending=False, kind="stable")  # queries first
    height, width = model.crop_size
    starts = range(0, len(crops), 64)
    files = (file for start in track(starts, f"drawing {name}") for file in draw_crops(site, crops[start : start + 64]))
    images = (Image.open(BytesIO(file)).convert("RGB") for file in files)
    maps = model.encode_batches(np.asarray(image.resize((width, height), Image.Resampling.BICUBIC)) for image in images)
    crops = crops.reset_index(drop=True)
    tracks = np.full(len(crops), "", dtype=object)
    if site.tracks:
        passes = crops.groupby(["camera", "day", "person", "visit"]).ngroup()
        boxes = crops[["camera", "time_s"]].assign(**{"pass": passes})
        numbers = number_tracks(boxes, site.tracks, np.random.default_rng(site.seed))
        tracks = np.where(numbers > 0, numbers.astype(str), "")
    table = crops.rename(columns={"camera": "camid"}).assign(time_s=crops["clock_s"], track=tracks)
    return Network(name, table[["person", "pid", "split", "camid", "time_s", "track"]], model.score(maps, maps))


def load_target(name: str) -> Network:
    """Load a target of the project in this folder, whose features are there.

    Of a target above MOST sightings junk is left out, and if that is not enough, distractors and a share of the people.
    """
    sightings = Manifest.load(PREPARED / name).sightings()
    params = load_params()
    store = open_maps(name, params.registry.method, sightings["image"])
    rows, title = np.arange(len(sightings)), name
    if len(rows) > MOST:
        rows, title = np.flatnonzero(sightings["pid"] != JUNK), f"{name} without junk"
    if len(rows) > MOST:
        known = shows_known_person(sightings)
        parts = -(-int(known.sum()) // MOST)
        rows = np.flatnonzero(known & (sightings["pid"] % parts == 0))
        title = f"{name}, the people whose pid {parts} divides"
    sightings = sightings.iloc[rows].reset_index(drop=True)
    maps = np.ascontiguousarray(store.block(0, len(store))[rows])
    head = load_network(MODELS / params.registry.method)[0].head
    return Network(title, sightings, score_matrix(maps, maps, head, engine=params.evaluate.engine))


def load_folder(folder: Path) -> list[Network]:
    """Load the labelled targets of a project in another folder."""
    with chdir(folder):
        return [load_target(name) for name in labelled_targets()]
