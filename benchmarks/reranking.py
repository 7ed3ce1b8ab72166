"""Measure the choice of re-ranking on drawn camera networks whose people have one, two or more images on a camera.

`python -m benchmarks.reranking` draws networks, keeps some cameras and some images of each person there, and prints
mAP in points: direct, what re-ranking with the paper's parameters changes always, and what the choice without labels
changes. The rule was made on networks of the seeds 510 to 515; those of this table were only measured. The project's
folder must have `artifacts/onnx`, whose network encodes the images.
"""

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy.special import expit

from benchmarks.demo import require_outputs
from benchmarks.identities.networks import Network, draw_network
from benchmarks.machine import describe
from qaconv.config import SiteConfig
from qaconv.config.kinds import RerankSettings
from qaconv.matching.rerank import NeighbourhoodFinder
from qaconv.matching.rerankers import KReciprocal
from qaconv.matching.results import LOGIT_SCALE
from qaconv.metrics import evaluate_ranking
from qaconv.paths import ONNX
from qaconv.runtime.model import ServedModel

SITES = (
    SiteConfig(seed=516, cameras=5, people=120, distractors=30),
    SiteConfig(seed=517, cameras=3, people=150, distractors=60),
)
IMAGES = (1, 2, 3, 9)  # of a person on a camera, at most
COLUMNS = ("seed", "cameras", "images a camera", "sightings", "direct", "always", "chosen", "k1", "low, excess, second")


@dataclass(frozen=True)
class Case:
    """Sightings, Q queries first, with the distances of all pairs [N, N]; only `measure` reads pids."""

    pids: NDArray[np.int64]
    camids: NDArray[np.int64]
    distances: NDArray[np.float32]
    queries: int

    def rerank(self, reranker: RerankSettings | None) -> NDArray[np.float32]:
        """Return scores [Q, G]."""
        table, queries = self.distances.copy(), self.queries
        finder = NeighbourhoodFinder(len(table), min(len(table), 101), None, np.float32)
        finder.add(slice(0, len(table)), slice(0, len(table)), table)
        across = table[:queries, queries:]
        if reranker is None:
            return 1 - across
        scores: NDArray[np.float32] = reranker.rerank(across, finder.neighbourhoods(), self.pairs)[:]
        return scores

    def pairs(self, rows: NDArray[np.integer], columns: NDArray[np.integer]) -> NDArray[np.float32]:
        """Return the distances of pairs."""
        chosen: NDArray[np.float32] = self.distances[rows, columns]
        return chosen

    def measure(self, reranker: RerankSettings | None) -> float:
        """Return the mAP of a ranking in points."""
        sides = (slice(None, self.queries), slice(self.queries, None))
        identities = [ids[side] for ids in (self.pids, self.camids) for side in sides]
        return 100 * evaluate_ranking(self.rerank(reranker), *identities).mean_average_precision


def main() -> None:
    """Print the table."""
    require_outputs([ONNX])
    model = ServedModel(ONNX)
    table = Table(*COLUMNS, title="mAP in points; always and chosen are changes", title_justify="left")
    for site in SITES:
        network = draw_network(str(site.seed), site, model)
        cameras = sorted({2, 3, site.cameras})
        for count, images in product(cameras, IMAGES):
            table.add_row(str(site.seed), str(count), str(images), *_row(thin(network, count, images, site.seed)))
    console = Console(soft_wrap=True, highlight=False, width=160)
    console.print(describe()["processor"])
    console.print(table)


def thin(network: Network, cameras: int, images: int, seed: int) -> Case:
    """Keep some cameras and at most some images of a person on each; with one image a person has one query at most."""
    rng = np.random.default_rng(seed)
    frame = network.sightings.sample(frac=1, random_state=rng)
    kept = rng.permutation(frame["camid"].unique())[:cameras]
    frame = frame[frame["camid"].isin(kept)]
    frame = frame[frame.groupby(["person", "camid"]).cumcount() < images]
    is_known = (frame["pid"] > 0) & (frame.groupby("person")["camid"].transform("nunique") > 1)
    by_query = ["person"] if images == 1 else ["person", "camid"]
    is_query = is_known & ~frame[is_known].duplicated(by_query).reindex(frame.index, fill_value=True)
    rows = np.concatenate([frame.index[is_query], frame.index[~is_query]])
    sightings = network.sightings.loc[rows]
    distances = expit(network.logits[np.ix_(rows, rows)] / -LOGIT_SCALE)
    return Case(sightings["pid"].to_numpy(), sightings["camid"].to_numpy(), distances, int(is_query.sum()))


def _row(case: Case) -> list[str]:
    always = KReciprocal(apply="always")
    chosen, facts = KReciprocal().choose(case.camids, case.pairs)
    direct = case.measure(None)
    gains = [f"{case.measure(reranker) - direct:+.1f}" for reranker in (always, chosen)]
    k1 = "–" if chosen is None else str(chosen.k1)
    ends = [facts[name] for name in ("excess_low", "excess", "second_excess")]
    excess = "–" if None in ends else "{:+.2f} {:+.2f} {:+.2f}".format(*ends)
    return [f"{len(case.pids):,}", f"{direct:.1f}", *gains, k1, excess]


if __name__ == "__main__":
    main()
