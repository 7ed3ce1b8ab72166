"""Adapt the demo's network to Market-1501's training images without their labels, and measure on its query and gallery.

`python -m benchmarks.adapting_market FOLDER [SHARE [SEED]]` adapts to the training images of the first SHARE of the
time (default: 1), with times from their frame numbers, and prints direct rank-1 and mAP on all of query and gallery:
before, after each round, and after one round on the same images with their true labels instead. FOLDER holds
`bounding_box_train`, `query` and `bounding_box_test`. Nothing that is trained reads a label, except that last row. SEED
is that of the adaptation (default: the project's); the network to begin with stays.
"""

import logging
import sys
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.demo import require_outputs
from benchmarks.machine import describe
from qaconv.adaptation.outcome import describe_kept
from qaconv.adaptation.rounds import Adaptation
from qaconv.adaptation.view import view_target
from qaconv.config import Params, load_params
from qaconv.data.layouts import market1501
from qaconv.data.manifest import JUNK, UNLABELLED, Manifest
from qaconv.matching import score_matrix
from qaconv.metrics import evaluate_ranking
from qaconv.metrics.target_sightings import EvaluatedSightings
from qaconv.models.checkpoint import load_head
from qaconv.paths import MODELS
from qaconv.release.feature_maps import encode_sightings
from qaconv.training.device import find_device
from qaconv.training.methods.trained import TrainedMethod

QUERIES_EVERY = 10  # sightings, as a target's manifest has queries; they have no other part in an adaptation
TRUE_LABELS = 100  # number of the round that learns them
log = logging.getLogger(__name__)


def compare_with_labels(market: Manifest, share: float, seed: int | None = None) -> None:
    """Adapt to the training images of the first `share` of the time, train on their true labels, and print the table.

    Args:
        market: with training images, queries and gallery, and times.
        share: in (0, 1].
        seed: of the adaptation. Default: the project's.
    """
    require_outputs([MODELS])
    params = load_params()
    params = params.model_copy(update={"seed": params.seed if seed is None else seed})
    method = params.method(params.registry.method)
    assert isinstance(method, TrainedMethod)
    site, people = unlabelled_site(market, share)
    network = MODELS / params.registry.method
    device = find_device(params.machine.device)
    rows: list[list[str]] = []
    with TemporaryDirectory() as scratch:
        adaptation = Adaptation(
            params, method, market.frame["domain"].iloc[0], site, network, Path(scratch) / "unfinished", device
        )
        workers = params.machine.workers
        view = view_target(network, site, params.evaluate, Path(scratch) / "seen", device=device, workers=workers)
        rounds = adaptation.run(view)
        for each in (rounds.first, *rounds.later):
            name = describe_kept(each.number, by_camera=each.by_camera) if each.is_changed else "before"
            right = f"{100 * each.matches.share:.1f}" if each.matches else "times are off"
            figures = measure(each.network, market, params, Path(scratch))
            rows.append([name, f"{each.sightings:,}", f"{each.identities:,}", figures, right])
            log.info(" | ".join(rows[-1]))  # a killed run leaves what it has measured
        by_camera = rounds.best.by_camera
        bound = adaptation.train_round(TRUE_LABELS, people, by_camera=by_camera)
        figures = measure(bound, market, params, Path(scratch))
        rows.append(
            [
                "true labels" + (" with batch norms of each camera" if by_camera else ""),
                f"{(people >= 0).sum():,}",
                f"{people.max() + 1:,}",
                figures,
                "",
            ]
        )
    console = Console(soft_wrap=True, highlight=False)
    console.print(
        f"{describe()['processor']}, {describe()['threads']} threads; {len(people):,} sightings; {rounds.reason}"
    )
    table = Table("network", "sightings", "identities", "rank-1 / mAP", "right by times")
    for row in rows:
        table.add_row(*row)
    console.print(table)


def unlabelled_site(market: Manifest, share: float) -> tuple[Manifest, NDArray[np.int64]]:
    """Return the training images of the first `share` of the time without labels, and the true label of each sighting.

    A label is below 0 for people on one camera only, as no identity of theirs is trained on either.
    """
    rows = market.split("train")
    rows = rows[rows["time_s"] <= rows["time_s"].quantile(share)].reset_index(drop=True)
    split = np.where(np.arange(len(rows)) % QUERIES_EVERY, "gallery", "query")
    site = replace(market, frame=rows.assign(pid=UNLABELLED, split=split), images_digest="")
    known = pd.Series(rows["pid"].to_numpy(), index=rows["image"])[site.sightings()["image"]].to_numpy()
    cameras = rows.groupby("pid")["camid"].nunique()
    on_several = np.isin(known, cameras.index[cameras >= 2])
    labels = np.full(len(rows), -1, dtype=np.int64)
    labels[on_several] = np.unique(known[on_several], return_inverse=True)[1]
    return site, labels


def measure(network: Path, market: Manifest, params: Params, folder: Path) -> str:
    """Return direct rank-1 and mAP on query and gallery, in per cent."""
    frame = market.frame[(market.frame["split"] != "train") & (market.frame["pid"] != JUNK)]
    with TemporaryDirectory(dir=folder) as maps:
        store = encode_sightings(
            network,
            replace(market, frame=frame),
            Path(maps) / "maps",
            device=find_device(params.machine.device),
            batch_size=params.evaluate.batch_size,
            workers=params.machine.workers,
        )
        queries = int((frame["split"] == "query").sum())
        halves = store.block(0, queries), store.block(queries, len(store))
        logits = score_matrix(*halves, load_head(network, store.shape[1:]), engine="int8", progress=True)
    sightings = EvaluatedSightings(frame, market.root)
    ranking = evaluate_ranking(logits, *sightings.identities, same_camera=sightings.same_camera)
    return f"{100 * ranking.cmc[0]:.1f} / {100 * ranking.mean_average_precision:.1f}"


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    arguments = sys.argv[1:]
    if len(arguments) not in (1, 2, 3):
        sys.exit("usage: python -m benchmarks.adapting_market FOLDER [SHARE [SEED]]")
    share = float(arguments[1]) if len(arguments) > 1 else 1.0
    seed = int(arguments[2]) if len(arguments) > 2 else None
    compare_with_labels(market1501.read(Path(arguments[0]), "market"), share, seed)
